import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.evaluation.spaces import feature_space
from mien.zoo import Card, Source
from zoo import nets


@pytest.fixture
def faces(rng):
    return rng.integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)


def card(role, file, **convention):
    return Card("tiny", role, "1", "", "", "", Source("run", "0" * 64, member=str(file)), convention)


def test_features_of_an_embedder_are_its_vectors_of_the_face_cut_anew(faces, tmp_path):
    file = nets.embedder(150).save(tmp_path / "e.onnx")
    space = feature_space(card("embedder", file, template="dlib-150", side=150, order="RGB"), "face-64")

    features = space.features(faces[:3])
    assert features.shape == (3, 64) and np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert space.name == "tiny" and space.model.startswith("tiny-1-")


def test_features_of_an_expression_network_are_what_its_last_layer_is_fed(tmp_path):
    file = nets.expression(48, 8, softmax=True).save(tmp_path / "x.onnx")
    space = feature_space(
        card("expression", file, template="fer-48", side=48, order="RGB", labels=["neutral"]), "fer-48"
    )

    # The tiny network averages over quarters, then projects.
    flat = np.full((2, 48, 48, 3), 90, np.uint8)
    np.testing.assert_allclose(space.features(flat), np.full((2, 12), 90))


def test_a_feature_network_is_shown_faces_as_they_are(faces, tmp_path):
    file = nets.embedder(128).save(tmp_path / "f.onnx")
    space = feature_space(card("features", file, order="RGB"), "face-64")

    assert space.features(faces[:70]).shape == (70, 64)


def test_a_network_that_sees_no_faces_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="role detector; features come from"):
        feature_space(card("detector", tmp_path / "d.onnx"), "face-64")
