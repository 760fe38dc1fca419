from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from evaluation.memory import faces, save_generator
from mien.alignment import TEMPLATES
from mien.cli.features import features
from mien.errors import ModelError, UsageError
from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.generator import Generator


def invoke(*arguments):
    result = CliRunner().invoke(features, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def data(tmp_path, rng, monkeypatch):
    """Two classes of three pictures; in the black one there is no face."""

    def detect(image):
        inner = image.shape[0] - 64
        marks = (np.array(TEMPLATES["face-64"][1], np.float32) + 0.5) * (inner / 64) - 0.5 + 32
        return [Detection(Box(32.0, 32.0, inner + 32.0, inner + 32.0), marks, 0.9)] if image.any() else []

    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: SimpleNamespace(detect=detect))
    some = faces(rng, 6)
    some[4] = 0
    for i, face in enumerate(some):
        path = tmp_path / "data" / ("happy" if i % 2 else "sad") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(face, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[..., ::-1])
    return SimpleNamespace(folder=tmp_path / "data", faces=some)


def test_latent_means_are_written_with_what_is_known(tmp_path, data):
    run = save_generator(tmp_path / "run", encoder=True)

    result = invoke("vae", data.folder, "--model", run, "-o", tmp_path / "f.npz")

    assert "5 pictures, 40 latent means each; 1 without a face" in result.stdout
    with np.load(tmp_path / "f.npz") as table:
        assert table["path"].tolist() == ["happy/1.png", "happy/3.png", "happy/5.png", "sad/0.png", "sad/2.png"]
        assert table["label"].tolist() == ["happiness"] * 3 + ["sadness"] * 2
        wanted = Generator(run).encode(data.faces[[1, 3, 5, 0, 2]])
        # Cut out again, a picture differs a little.
        np.testing.assert_allclose(table["features"], wanted, atol=0.1)


def test_a_generator_without_an_encoder_is_refused_before_anything_is_read(tmp_path):
    run = save_generator(tmp_path / "run")

    with pytest.raises(ModelError, match=r"'run' has no encoder, so it has no features. Name a VAE"):
        invoke("vae", tmp_path / "nothing", "--model", run, "-o", tmp_path / "f.csv")


def test_pictures_without_any_face_are_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: SimpleNamespace(detect=lambda image: []))
    run = save_generator(tmp_path / "run", encoder=True)

    with pytest.raises(UsageError, match="No face was found in the 6 pictures"):
        invoke("vae", data.folder, "--model", run, "-o", tmp_path / "f.csv")
