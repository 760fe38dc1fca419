import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.augment import augment
from mien.drawing import draw_face
from mien.errors import UsageError
from mien.images import load_image, save_image
from mien.vision.detector import Detection
from vision.generators import LABELS, SIDE, save_generator


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three neutral faces to learn from, one happy one; and one for each of the other parts."""
    places = ("train/neutral", "train/neutral", "train/neutral", "train/happiness", "valid/neutral", "test/neutral")
    for number, place in enumerate(places):
        drawn = draw_face(number, side=180)
        (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
        save_image(tmp_path / "data" / place / f"{number}.png", drawn.image)
    face = Detection(drawn.box, drawn.landmarks.astype(np.float32), 0.9)
    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: SimpleNamespace(detect=lambda image: [face]))
    return tmp_path / "data"


@pytest.fixture
def gan(tmp_path):
    return save_generator(tmp_path / "gan", labels=LABELS)


def run(*arguments):
    result = CliRunner().invoke(augment, [*map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def decisions(out):
    with (out / "decisions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_rare_class_is_filled_and_every_face_is_listed(data, gan, tmp_path):
    result = run(data, "--model", gan, "-o", tmp_path / "more", "--to", "largest", "--no-filter")

    rows = decisions(tmp_path / "more")
    assert result.return_value == 0 and "happiness: 2 faces kept" in result.stdout
    assert [(row["asked"], row["verdict"]) for row in rows] == [("happiness", "kept")] * 2
    assert all(load_image(tmp_path / "more" / row["file"]).shape == (SIDE, SIDE, 3) for row in rows)
    facts = json.loads((tmp_path / "more" / "augmentation.json").read_text())
    assert facts["classes"]["happiness"] == {"wanted": 2, "drawn": 2, "kept": 2, "verdicts": {"kept": 2}}
    with pytest.raises(UsageError, match="is not empty"):
        run(data, "--model", gan, "-o", tmp_path / "more", "--to", "largest", "--no-filter")


def test_a_face_that_does_not_show_what_was_asked_is_left_out_and_the_status_is_1(data, gan, tmp_path, monkeypatch):
    reader = SimpleNamespace(
        labels=("neutral", "happiness"), template=None, side=SIDE,
        probabilities=lambda crops: np.tile([0.9, 0.1], (len(crops), 1)),
    )  # fmt: skip
    monkeypatch.setattr("mien.cli.work.augment.ExpressionReader", lambda card: reader)

    result = run(data, "--model", gan, "-o", tmp_path / "more", "--to", "largest", "--radius", 0)

    rows = decisions(tmp_path / "more")
    assert result.return_value == 1 and "2 faces short" in result.stdout
    assert rows and {(row["probability"], row["file"]) for row in rows} == {("0.1000", "")}
    assert [path.name for path in (tmp_path / "more" / "happiness").iterdir()] == []


def test_classes_that_are_full_are_left_as_they_are(data, gan, tmp_path):
    result = run(data, "--model", gan, "-o", tmp_path / "more", "--to", "1")

    assert "nothing is drawn" in result.stdout and not (tmp_path / "more").exists()
