"""`mien audit` and `mien publish` on tiny generators: one that draws anew, one that hands out what it learned."""

import json
import tomllib
from dataclasses import fields
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from evaluation.memory import SIDE, faces, save_embedder, save_generator
from mien import zoo
from mien.alignment import TEMPLATES
from mien.cli.audit import audit, publish
from mien.errors import EvaluationError, UsageError
from mien.evaluation.generation import SCHEMA as GENERATION
from mien.evaluation.generation import Distances
from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.generator import Generator

ZOOM = 4  # detectors like larger pictures


def invoke(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training and held-out pictures that are faces in the template already, and the arrays themselves."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(3)
    known, others = faces(rng, 260), faces(rng, 120)
    for name, some in (("train", known), ("others", others)):
        (root / name).mkdir()
        for i, face in enumerate(some):
            large = cv2.resize(face, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / name / f"{i:03}.png"), large[..., ::-1])
    save_embedder(root / "judge.onnx")
    return SimpleNamespace(train=root / "train", others=root / "others", judge=root / "judge.onnx", known=known)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """Every picture is a face as the template says."""

    def detect(image):
        # Pictures are shown with a border of 32 px and enlarged to 96 px.
        inner = image.shape[0] - 64
        marks = (np.array(TEMPLATES["face-64"][1], np.float32) + 0.5) * (inner / 64) - 0.5 + 32
        return [Detection(Box(32.0, 32.0, inner + 32.0, inner + 32.0), marks, 0.9)]

    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: SimpleNamespace(detect=detect), raising=False)


def audited(run, data, *options):
    return invoke(
        audit, run, "--train", data.train, "--holdout", data.others, "--embedder", data.judge, "-n", 150, *options
    )


def measured(path, model):
    """Write what `mien evaluate generation` would: every distance is 0.25, and 0.05 of real faces."""
    kinds = {"generated": 0.25, "real": 0.05}
    distances = {k: {f.name: {"mean": mean} for f in fields(Distances)} for k, mean in kinds.items()}
    found = {"share": 0.9, "interval": [0.8, 0.95]}
    record = {"schema": GENERATION, "model": model, "n": 100, "reference": "toy", "split": "test", "seeds": 3}
    record |= {"spaces": {"dlib-resnet29": {"judges": True, **distances}}, "asked_is_seen": None}
    record |= {"face_found": found, "real_face_found": found, "sharpness": {"mean": 0.8}}
    path.write_text(json.dumps(record))
    return path


def test_a_generator_that_draws_anew_passes_and_is_published(tmp_path, data):
    run = save_generator(tmp_path / "honest", encoder=True)

    result = audited(run, data)

    assert result.return_value == 0 and "passed" in result.stdout and "keep it to yourself" in result.stderr
    record = json.loads((run / "audit" / "audit.json").read_text())
    assert record["verdict"] == "passed" and set(record["spaces"]) == {"identity", "pixels"}
    assert record["weights"] == {
        "generator": zoo.named(run).source.sha256,
        "encoder": zoo.named(run / "encoder.onnx").source.sha256,
    }
    assert record["n"]["samples"] == 150 and record["n"]["train"] == 221  # mien train holds 15 % out
    for name in ("audit.png", "closest.png"):
        assert (run / "audit" / name).read_bytes().startswith(b"\x89PNG")
    assert (run / "audit" / ".gitignore").read_text() == "closest.png\n"

    figures = measured(tmp_path / "figures.json", zoo.named(run).id)

    told = invoke(publish, run, "-o", tmp_path / "out", "--name", "toy-vae", "--figures", figures)

    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        *("toy-vae.onnx", "toy-vae.json", "toy-vae.md", "toy-vae.png"),
        *("toy-vae-encoder.onnx", "toy-vae-encoder.json"),
    }
    card = (out / "toy-vae.md").read_text()
    assert "150 samples beside 221 training faces and 120 faces that were held out" in card
    assert f"{100 * record['spaces']['pixels']['authentic']:.1f} %" in card
    assert "| dlib-resnet29 | 0.25 (0.05) |" in card and "the detector finds a face: 90.0 % [80.0, 95.0], of" in card
    np.testing.assert_array_equal(Generator(out / "toy-vae.onnx").generate(3), Generator(run).generate(3))
    again = Generator(out / "toy-vae.onnx")
    assert again.encode(again.generate(2)).shape == (2, 40)
    entry = tomllib.loads(told.stdout)["models"]
    assert entry["toy-vae"]["source"]["sha256"] == record["weights"]["generator"]
    assert entry["toy-vae"]["convention"]["encoder"] == "toy-vae-encoder" and "toy-vae-encoder" in entry


def test_a_generator_that_hands_out_training_faces_fails_and_is_not_published(tmp_path, data):
    run = save_generator(tmp_path / "thief", learned=data.known)

    result = audited(run, data, "--json", "-")

    assert result.return_value == 1 and "FAILED" in result.stderr
    record = json.loads(result.stdout)
    assert record["verdict"] == "failed" and record["spaces"]["identity"]["near_share"] > 0.8
    with pytest.raises(EvaluationError, match=r"The audit of '.*thief' failed, so it is not published"):
        invoke(publish, run, "-o", tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_the_hold_out_is_the_data_sets_own_unless_one_is_named(tmp_path, data):
    run = save_generator(tmp_path / "honest")

    with pytest.raises(EvaluationError, match="at least 100 held-out faces, got 26"):
        invoke(audit, run, "--train", data.train, "--embedder", data.judge, "-n", 150)


def test_what_was_not_audited_is_not_published(tmp_path):
    run = save_generator(tmp_path / "new")

    with pytest.raises(EvaluationError, match=r"was not audited, and only what was is published. Run: mien audit"):
        invoke(publish, run, "-o", tmp_path / "out")


def passed(run):
    (run / "audit").mkdir()
    record = {"schema": "mien/audit/1", "verdict": "passed", "reasons": []}
    weights = {"generator": zoo.named(run).source.sha256}
    (run / "audit" / "audit.json").write_text(json.dumps({**record, "weights": weights}))


def test_an_audit_of_other_weights_does_not_count(tmp_path, data):
    run = save_generator(tmp_path / "run")
    passed(run)
    newer = save_generator(tmp_path / "newer", learned=data.known[:9])
    (run / "model.onnx").write_bytes((newer / "model.onnx").read_bytes())

    with pytest.raises(EvaluationError, match=r"is of other weights than it has now. Run again"):
        invoke(publish, run, "-o", tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 3}'])
def test_a_damaged_audit_does_not_count(tmp_path, text):
    run = save_generator(tmp_path / "run")
    passed(run)
    (run / "audit" / "audit.json").write_text(text)

    with pytest.raises(EvaluationError, match=r"is damaged. Run again"):
        invoke(publish, run, "-o", tmp_path / "out")


def test_figures_of_another_model_are_refused(tmp_path):
    run = save_generator(tmp_path / "run")
    passed(run)
    (tmp_path / "figures.json").write_text('{"model": "other-1-00000000"}')

    with pytest.raises(EvaluationError, match="measures 'other-1-00000000', expected 'run-1-"):
        invoke(publish, run, "-o", tmp_path / "out", "--figures", tmp_path / "figures.json")


def test_a_name_that_cannot_be_one_is_refused(tmp_path):
    run = save_generator(tmp_path / "run")
    passed(run)

    with pytest.raises(UsageError, match="got 'My Model'"):
        invoke(publish, run, "-o", tmp_path / "out", "--name", "My Model")


def test_a_model_of_the_catalogue_has_no_folder_for_its_audit(tmp_path, data):
    run = save_generator(tmp_path / "run")

    with pytest.raises(UsageError, match=r"is no run folder .* Name one with --out"):
        audited(run / "model.onnx", data)
    assert Generator(run).side == SIDE
