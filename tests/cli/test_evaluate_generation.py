"""`mien evaluate generation` on a tiny linear generator, and on folders of pictures."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mien import zoo
from mien.alignment import TEMPLATES
from mien.cli.evaluate import evaluate
from mien.errors import EvaluationError, ModelError, UsageError
from mien.types import Box
from mien.vision.detector import Detection
from vision.generators import LABELS, SIDE, basis, save_generator
from zoo import nets

CLASSES = LABELS[:2]


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Every picture is a face as the template says."""

    def detect(image):
        inner = image.shape[0] - 64  # a border of 32 px is laid around
        marks = (np.array(TEMPLATES["face-64"][1], np.float32) + 0.5) * (inner / 64) - 0.5 + 32
        return [Detection(Box(32.0, 32.0, inner + 32.0, inner + 32.0), marks, 0.9)]

    for place in ("mien.data.crops", "mien.evaluation.generation"):
        monkeypatch.setattr(f"{place}.patient_detector", lambda: SimpleNamespace(detect=detect))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A generator, an embedder to compare with, and as many real faces of the same kind, by class."""
    root, rng = tmp_path_factory.mktemp("generation"), np.random.default_rng(0)
    save_generator(root / "run", labels=CLASSES)
    (root / "judge").mkdir()
    nets.embedder(64, dimension=8).save(root / "judge" / "model.onnx")
    convention = {"template": "face-64", "side": 64, "order": "RGB"}
    card = {"role": "embedder", "name": "judge", "convention": convention}
    (root / "judge" / "card.json").write_text(json.dumps(card))
    for number, label in enumerate(CLASSES):
        for split in ("train", "test"):
            (root / "real" / split / label).mkdir(parents=True)
        for i in range(70):
            latents = np.append(rng.normal(size=6), number)
            face = 127.5 + (200 * latents @ basis()[:7]).reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            pixels = np.rint(face).clip(0, 255).astype(np.uint8)
            split = "test" if i < 60 else "train"
            cv2.imwrite(str(root / "real" / split / label / f"{i}.png"), pixels[..., ::-1])
    return root


def run(place, *arguments, model="run", seeds=1):
    named = {"--model": place / model, "--reference": place / "real", "--seeds": seeds, "--space": place / "judge"}
    words = [str(word) for pair in named.items() for word in pair] + [str(word) for word in arguments]
    result = CliRunner().invoke(evaluate, ["generation", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_fid_is_computed_with_the_network_that_the_user_brings(place, tmp_path):
    nets.embedder(299, dimension=2048).save(tmp_path / "pool.onnx")
    nets.embedder(299, dimension=8).save(tmp_path / "short.onnx")
    nets.embedder(64, dimension=2048).save(tmp_path / "small.onnx")

    result = run(place, "--inception", tmp_path / "pool.onnx", "--json", tmp_path / "g.json", seeds=2)

    record = json.loads((tmp_path / "g.json").read_text())
    assert record["spaces"]["inception"]["dimension"] == 2048
    assert record["fid"] == record["spaces"]["inception"]["generated"]["frechet"]
    assert len(record["fid"]["seeds"]) == 2
    assert any(line.startswith("inception: FID ") for line in result.stdout.splitlines())
    run(place, "--json", tmp_path / "without.json")
    assert json.loads((tmp_path / "without.json").read_text())["fid"] is None
    with pytest.raises(EvaluationError, match=r"2048 features a picture; 'short\.onnx' answers \(8,\)"):
        run(place, "--inception", tmp_path / "short.onnx")
    with pytest.raises(EvaluationError, match=r"'small\.onnx' takes no RGB pictures of 299 px"):
        run(place, "--inception", tmp_path / "small.onnx")


@pytest.mark.slow
def test_a_generator_is_measured_and_written_down(place, tmp_path):
    options = ("--json", tmp_path / "g.json", "--plots", tmp_path / "plots", "--train-on-synthetic", 128)
    result = run(place, *options, seeds=2)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("run-1-") and "against 60 faces of real, test, 2 seeds" in lines[0]
    for beginning in ("judge: Frechet distance", "judge: kernel distance", "judge: precision", "asked for is seen"):
        assert any(line.startswith(beginning) for line in lines), beginning
    assert any(line.startswith("a face is found") and "100.00 %" in line for line in lines)
    record = json.loads((tmp_path / "g.json").read_text())
    assert record["classes"] == list(CLASSES) and record["n"] == 60 and record["side"] == SIDE
    assert record["asked_is_seen"]["n"] == 120 and record["classifier"] == zoo.card("expression-resnet27").id
    assert record["samples_per_s"] > 0
    assert record["train_on_synthetic"]["n"] == 19  # one of the 20 for training is held out for validation
    assert any(line.startswith("learned from 19 generated faces") for line in lines)
    assert (tmp_path / "plots" / "distances.png").is_file()


def test_a_folder_of_real_faces_is_as_near_as_real_faces_are(place):
    result = run(place, "--side", SIDE, "--json", "-", model="real")

    record = json.loads(result.stdout)
    space = record["spaces"]["judge"]
    assert space["generated"]["frechet"]["mean"] < 2 * space["real"]["frechet"]["mean"]
    assert record["samples_per_s"] is None
    assert "Frechet distance" in result.stderr


def test_aligned_pictures_are_taken_as_they_are(place):
    record = json.loads(run(place, "--side", SIDE, "--aligned", "--json", "-", model="real").stdout)

    assert record["asked_is_seen"]["n"] == 60
    assert record["spaces"]["judge"]["generated"]["coverage"]["mean"] > 0.9


def test_a_network_of_the_loss_is_marked(place, tmp_path):
    save_generator(tmp_path / "run", labels=CLASSES)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    card["convention"]["losses"] = ["judge", "expression-resnet27", "mini-xception"]
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))

    lines = run(place, model=tmp_path / "run").stdout.splitlines()

    assert any(line.startswith("judge (in its loss: does not judge): Frechet") for line in lines)
    assert any(line.startswith("asked for is seen (in its loss: does not judge)") for line in lines)


def test_what_the_generator_cannot_be_asked_for_is_left_out(place, tmp_path):
    save_generator(tmp_path / "run", labels=("happiness", "fear"))

    with pytest.raises(EvaluationError, match="50 generated faces and twice as many real ones, got 30 and 60"):
        run(place, model=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--side", 32), UsageError, "are for a folder of pictures"),
        (("--space", "centerface"), EvaluationError, "role detector"),
        (("--space", "nobody"), ModelError, "no model 'nobody'"),
        (("-n", 10), EvaluationError, "got 10 and 120 real ones"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(place, arguments, kind, message):
    with pytest.raises(kind, match=message):
        run(place, *arguments)


def test_an_unknown_template_is_refused(place):
    with pytest.raises(UsageError, match="--template should be one of arcface-112"):
        run(place, "--template", "oval", model="real")


def test_aligned_pictures_are_square(place, tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(UsageError, match=r"wide.png' is not square"):
        run(place, "--aligned", "--side", SIDE, model=tmp_path)
