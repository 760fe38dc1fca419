"""The examples do on drawn people what they say."""

import importlib
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien import zoo
from mien.data.drawn import draw_samples
from mien.drawing import draw_face
from mien.images import load_image
from mien.types import EXPRESSIONS

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "drawn_people")


@pytest.fixture
def example(monkeypatch):
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def own_store(models, tmp_path, monkeypatch):
    """A store of models that a test may add to."""
    shutil.copytree(zoo.home() / "models", tmp_path / "store" / "models")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "store"))


def test_every_script_is_listed():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert SCRIPTS and all(f"({name}.py)" in page for name in SCRIPTS)


def test_importing_a_script_prints_nothing(example, capsys):
    for name in SCRIPTS:
        assert example(name).__doc__

    assert capsys.readouterr().out == ""


def test_people_are_drawn_as_the_drawing_says(example, tmp_path):
    folder = example("drawn_people").people(tmp_path, {"one": 5}, samples=2)

    assert sorted(path.name for path in folder.rglob("*.jpg")) == ["0.jpg", "1.jpg"]
    drawn = draw_face(5, side=240, seed=1).image
    assert abs(load_image(folder / "one/1.jpg").astype(float) - drawn).mean() < 3, "JPEG changes little"


@pytest.mark.integration
def test_one_drawn_person_is_told_from_two(models, example, tmp_path, capsys):
    people = example("drawn_people").people(tmp_path)
    compare = example("verify_two_pictures").main

    assert compare(people / "amber/0.jpg", people / "amber/2.jpg").match
    assert not compare(people / "amber/0.jpg", people / "basil/0.jpg").match
    assert "two people: score" in capsys.readouterr().out


@pytest.mark.integration
def test_the_enrolled_one_is_named_and_the_stranger_is_not(models, example, tmp_path):
    drawn = example("drawn_people")
    people, photos = drawn.people(tmp_path / "people"), drawn.photos(tmp_path / "photos")

    names = example("enrol_and_identify").main(people, photos / "3.jpg", tmp_path / "club.mien")

    assert sorted(names) == ["amber", "unknown"]


@pytest.mark.integration
def test_drawn_people_are_found_again_on_other_photographs(models, example, tmp_path):
    found = example("group_photos").main(example("drawn_people").photos(tmp_path))

    assert [len(person.pictures) for person in found.people] == [3, 3, 3, 3, 2, 1]


@pytest.mark.integration
def test_a_smaller_rate_takes_a_higher_threshold(models, example, tmp_path, capsys):
    people = example("drawn_people").people(tmp_path / "people", {f"drawn {i}": i for i in range(16)}, samples=2)

    thresholds = example("calibrate_gallery").main(people, tmp_path / "club.mien")

    assert list(thresholds) == [1e-1, 1e-2], "480 comparisons show no rate of 1e-3"
    assert thresholds[1e-1] < thresholds[1e-2]
    assert "FMR 0.001 needs at least 1000 impostor scores, got 480" in capsys.readouterr().out


@pytest.mark.integration
def test_an_own_embedder_is_added_calibrated_and_used(own_store, example, tmp_path):
    script = example("own_embedder")
    people = example("drawn_people").people(tmp_path / "people")

    point = script.main(script.toy(tmp_path / "toy.onnx"), "arcface-112", people, tmp_path / "own.mien")

    assert point.fmr <= 0.1 and not math.isnan(point.fnmr)
    assert zoo.card(script.NAME).role == "embedder"


@pytest.mark.integration
def test_a_network_is_trained_and_used(models, example, tmp_path):
    draw_samples(tmp_path / "faces", per_class=5, split=True)

    read = example("train_expression").main(tmp_path / "faces", tmp_path / "run", images=320)

    assert set(read.probabilities) == set(EXPRESSIONS)
    assert (tmp_path / "run/card.html").is_file()


@pytest.mark.integration
def test_scripts_run_without_arguments(models):
    done = subprocess.run(
        [sys.executable, FOLDER / "verify_two_pictures.py"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("probability of one person") == 2
