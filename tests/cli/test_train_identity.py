"""`mien train embedder`, `mien train classifier` and `mien classify` on people of noise."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.classify import classify
from mien.cli.root import cli
from mien.errors import DataError, UsageError
from mien.training import classifier, distillation, embedder
from mien.training.stopping import Interrupted
from mien.training.verification import judge
from mien.types import Picture
from training.people import BlocksAnalyzer, base_card, write_people


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), 24, 4, disturbance=8)


@pytest.fixture(autouse=True)
def analyzer(tmp_path, monkeypatch):
    """Stands in for the analyzer of both trainings."""
    blocks = BlocksAnalyzer(base_card(tmp_path / "base.onnx"))
    for story in (embedder, classifier):
        monkeypatch.setattr(story, "Analyzer", lambda **_: blocks)
    monkeypatch.setattr("mien.training.card.draw_curves", lambda rows: None)  # longer than the trainings
    return blocks


def run(*arguments):
    result = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_training_an_embedder_prints_both_and_says_what_may_be_claimed(data, tmp_path):
    short = ("--set", "fmr=0.05", "--set", "report_every=640")
    result = run("train", "embedder", "--data", data, "--out", tmp_path / "run", "--images", 1280, "--seed", 3, *short)

    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["eer", "tar_at_fmr_0.1"] and "built on" in lines[0]
    assert any(line.startswith("It ") and "held-out subjects" in line for line in lines)
    assert (tmp_path / "run" / "model.onnx").is_file() and (tmp_path / "run" / "card.html").is_file()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 3


def test_resume_never_refuses_a_run_that_is_there(data, tmp_path):
    arguments = ("train", "embedder", "--data", data, "--out", tmp_path / "run", "--images", 64, "--set", "fmr=0.05")
    run(*arguments)

    with pytest.raises(UsageError, match="There is a run in"):
        run(*arguments, "--resume", "never")


def test_ctrl_c_ends_with_how_to_go_on_and_status_130(data, tmp_path, monkeypatch):
    def interrupted(config):
        raise Interrupted(config.out, 640)

    monkeypatch.setattr(embedder, "train", interrupted)
    result = run("train", "embedder", "--data", data, "--out", tmp_path / "run")

    assert result.exit_code == 130 or result.return_value == 130
    assert "Go on with the same command" in result.stderr


def test_a_dry_run_of_the_small_network_writes_nothing(data, tmp_path):
    small = ("--set", "side=16", "--set", "widths=4,4,4,4", "--set", "batch_size=8")
    result = run(
        "train", "embedder", "--data", data, "--out", tmp_path / "run", "--arch", "small-resnet", "--dry-run", *small
    )

    assert "24 subjects, 96 pictures" in result.stdout and "Nothing was written." in result.stdout
    assert not (tmp_path / "run").exists()


def test_a_student_says_how_it_does_on_pictures_as_they_are_and_on_spoilt_ones(tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    verdict = judge(vectors, vectors, np.arange(40) // 2, built_on="blocks", fmr=0.05)
    given = []
    monkeypatch.setattr(
        distillation, "train", lambda config: given.append(config) or distillation.Judgement(verdict, verdict)
    )
    result = run(
        "train",
        "embedder",
        "--arch",
        "dlib-trunk",
        "--teacher",
        "blocks",
        "--data",
        tmp_path,
        "--out",
        tmp_path / "run",
    )

    assert given[0].teacher == "blocks"
    lines = result.stdout.splitlines()
    assert lines[0] == "as they are" and "every other spoilt" in lines and "teacher" in lines[1]


@pytest.mark.parametrize(
    "options",
    [("--arch", "dlib-trunk", "--on", "sface"), ("--arch", "dlib-trunk", "--head", "arcface"), ("--teacher", "sface")],
)
def test_options_of_another_architecture_are_refused(options, tmp_path):
    with pytest.raises(UsageError, match="cannot be given here"):
        run("train", "embedder", "--data", tmp_path, "--out", tmp_path / "run", *options)


def test_data_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DataError, match="missing"):
        run("train", "embedder", "--data", tmp_path / "missing", "--out", tmp_path / "run")


@pytest.fixture
def model(data, tmp_path):
    """A classifier of 24 subjects."""
    result = run("train", "classifier", "--data", data, "--out", tmp_path / "office")
    assert result.stdout.startswith("24 subjects: accuracy 100.00 %") and "calibration error" in result.stdout
    return tmp_path / "office"


@pytest.fixture
def call(model, analyzer, monkeypatch):
    """`mien classify` with the stand-in."""

    def pictures(paths, **_):
        for path in paths:
            image = cv2.imread(str(path))
            if image is None:
                yield Picture(str(path), error=f"'{path}' is no picture.")
                continue
            yield Picture(str(path), 8, 8, analyzer.analyze(image[..., ::-1]))

    analyzer.pictures = pictures
    monkeypatch.setattr("mien.cli.classify.make_analyzer", lambda *_: analyzer)

    def invoke(*arguments):
        return CliRunner().invoke(classify, [*map(str, arguments), "--model", str(model)], standalone_mode=False)

    return invoke


def test_faces_are_named_and_strangers_are_unknown(call, data, tmp_path):
    stranger = write_people(tmp_path / "other", 1, 1, first=700, disturbance=8) / "subject_700" / "0.png"

    result = call(data / "subject_003" / "1.png", stranger)

    lines = result.stdout.splitlines()
    assert "subject_003  probability 9" in lines[1] and "unknown  score" in lines[3]
    assert result.stderr.strip() == "2 pictures: 1 known, 1 unknown" and not result.return_value


def test_json_holds_every_probability(call, data):
    result = call(data / "subject_003" / "1.png", "--json")

    told = json.loads(result.stdout)
    (face,) = told["pictures"][0]["faces"]
    assert told["schema"] == "mien/classification/1" and told["embedder"].startswith("blocks-1-")
    assert face["subject"] == "subject_003" and len(face["probabilities"]) == 24
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=0.01)


def test_more_candidates_are_shown_when_asked_for(call, data):
    lines = call(data / "subject_003" / "1.png", "--top", 3).stdout.splitlines()

    assert len(lines) == 4 and "subject_003" in lines[1]


def test_a_broken_picture_is_named_and_makes_the_status_1(call, data, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")

    result = call(data / "subject_003" / "1.png", tmp_path / "broken.png")

    assert result.return_value == 1 and "1 failed" in result.stderr and "is no picture" in result.stderr


def test_an_empty_picture_has_no_face(call, tmp_path):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((8, 8, 3), np.uint8))

    assert "0 faces" in call(tmp_path / "black.png").stdout
