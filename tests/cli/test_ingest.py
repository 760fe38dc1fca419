import json

import pytest
from click.testing import CliRunner

from gallery.fake_analyzer import FakeAnalyzer, write_picture
from mien.cli import ingest as command
from mien.errors import UsageError
from mien.gallery import Gallery


@pytest.fixture
def source(tmp_path):
    for person, name in enumerate(("ada", "bob"), start=1):
        for seed in (1, 2):
            write_picture(tmp_path / "people" / name / f"{seed}.png", person, seed=seed)
    return tmp_path / "people"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "make_analyzer", lambda *options: FakeAnalyzer())

    def call(*words):
        words = [*map(str, words), "--gallery", str(tmp_path / "people.mien")]
        result = CliRunner().invoke(command.ingest, words, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def test_a_folder_is_enrolled_once_however_often_it_is_started(run, source, tmp_path):
    first = run(source)
    assert first.return_value == 0 and first.stdout.count("added") == 4
    assert "4 pictures of the job done by all: 4 added." in first.stderr
    assert "0 pictures by this worker: none." in run(source).stderr
    with Gallery(tmp_path / "people.mien") as gallery:
        assert [(one.name, one.samples) for one in gallery.subjects()] == [("ada", 2), ("bob", 2)]


def test_a_folder_that_is_mounted_elsewhere_is_the_same_job_by_name(run, source, tmp_path):
    run(source, "--job", "people")
    source.rename(tmp_path / "elsewhere")
    assert "0 pictures by this worker" in run(tmp_path / "elsewhere", "--job", "people").stderr
    assert "4 already" in run(tmp_path / "elsewhere", "--job", "another").stderr


def test_a_table_names_pictures_and_subjects(run, source, tmp_path):
    (tmp_path / "list.csv").write_text("path,subject\npeople/ada/1.png,Ada L.\n", encoding="utf-8")
    (told,) = [json.loads(line) for line in run(tmp_path / "list.csv", "--jsonl").stdout.splitlines()]
    assert (told["subject"], told["status"]) == ("Ada L.", "added")


def test_what_failed_is_status_1_and_tried_anew_when_asked(run, source):
    (source / "ada" / "bad.png").write_bytes(b"no picture")
    assert run(source).return_value == 1
    assert run(source).return_value == 0
    write_picture(source / "ada" / "bad.png", 1, seed=9)
    assert "1 added" in run(source, "--again").stderr


def test_a_folder_that_is_not_there_is_one_line(run, tmp_path):
    with pytest.raises(UsageError, match="Whose picture is"):
        run(tmp_path / "nowhere")
