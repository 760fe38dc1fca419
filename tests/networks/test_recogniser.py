import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mien.alignment import TEMPLATES
from mien.errors import ModelError
from mien.networks.recogniser import FaceRecogniser
from mien.zoo.convert import convert
from zoo.dlib import Network


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "dlib.onnx"
    path.write_bytes(convert("dlib-resnet", Network(np.random.default_rng(0)).file()))
    return path


def test_it_embeds_as_the_zoos_file_does(file, rng):
    faces = rng.uniform(0, 255, (2, 3, 150, 150)).astype(np.float32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": faces})

    got = FaceRecogniser("dlib-150", 150, file=file)(torch.from_numpy(faces))

    np.testing.assert_allclose(got.numpy(), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-4)


def test_landmarks_of_a_crop_fall_where_the_recogniser_wants_them(file):
    recogniser = FaceRecogniser("face-64", 128, file=file)
    eyes = np.array(TEMPLATES["face-64"][1][:2]) * 2  # of a crop of 128 px
    wanted = np.array(TEMPLATES["dlib-150"][1][:2])
    for eye, place in zip(eyes, wanted, strict=True):
        column, row = np.round(place).astype(int)
        x, y = (recogniser.grid[0, row, column].numpy() + 1) * 64 - 0.5
        # The five points do not fit to the last px: a face is not turned and scaled only.
        assert np.hypot(x - eye[0], y - eye[1]) < 6


def test_gradients_reach_the_picture_and_nothing_of_it_is_saved(file):
    recogniser = FaceRecogniser("fer-48", 24, file=file)
    pixels = (255 * torch.rand(1, 1, 24, 24)).requires_grad_()

    recogniser(pixels)[0, 0].backward()

    assert pixels.grad.abs().sum() > 0
    assert not recogniser.state_dict() and not list(recogniser.parameters())


def test_the_maps_of_its_blocks_can_be_looked_at(file):
    recogniser = FaceRecogniser("dlib-150", 150, file=file)
    faces = 255 * torch.rand(1, 3, 150, 150)

    embedding, maps = recogniser.look(faces, (2, 6))

    assert torch.equal(embedding, recogniser.embed(faces))
    assert [tuple(x.shape[1:]) for x in maps] == [(32, 35, 35), (64, 17, 17)]


def test_another_network_is_refused(file, tmp_path):
    model = onnx.load_model(file)
    del model.graph.initializer[0]
    other = tmp_path / "other.onnx"
    other.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"'other.onnx' is not dlib's face recogniser"):
        FaceRecogniser("fer-48", 24, file=other)
