import numpy as np
import onnx
import pytest
import torch

from mien import zoo
from mien.errors import ModelError
from mien.networks.identity import Projection
from mien.training.composition import compose, corrected_convention
from mien.types import as_unit
from mien.vision.embedder import Embedder
from mien.zoo import Card, Source
from training.people import base_card

DLIB = {
    "flip": True,
    "mean_embedding": "dlib-resnet29-mean",
    "keep_along_mean": 0.4,
    "landmark_weights": [1.0, 1.0, 1.0, 0.5, 0.5],
}


def moved(dimension, hidden=0):
    torch.manual_seed(0)
    projection = Projection(dimension, hidden=hidden)
    with torch.no_grad():
        for weight in projection.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return projection.eval()


def composed_card(path, base, projection):
    path.write_bytes(compose(onnx.load(str(zoo.path(base))), base, projection).SerializeToString())
    source = Source(kind="run", sha256="1" * 64, member=str(path))
    return Card("made", "embedder", "1", "", "", "", source, corrected_convention(base))


@pytest.mark.parametrize("hidden", [0, 16], ids=["linear", "with a hidden layer"])
@pytest.mark.parametrize(
    "options",
    [{}, {"side": 150, "template": "dlib-150", "dimension": 128, **DLIB}],
    ids=["plain", "mirrored and damped"],
)
def test_the_composed_file_is_the_base_followed_by_its_correction(tmp_path, rng, options, hidden):
    base = base_card(tmp_path / "base.onnx", **options)
    projection = moved(base.convention["dimension"], hidden)
    crops = rng.integers(0, 256, (5, base.convention["side"], base.convention["side"], 3), dtype=np.uint8)

    made = composed_card(tmp_path / "made.onnx", base, projection)

    with torch.no_grad():
        expected = as_unit(projection(torch.from_numpy(Embedder(base).embed(crops))).numpy())
    assert np.abs(Embedder(made).embed(crops) - expected).max() < 1e-5


def test_what_was_composed_can_be_corrected_again(tmp_path, rng):
    base = base_card(tmp_path / "base.onnx", flip=True)
    once = composed_card(tmp_path / "once.onnx", base, moved(64))
    twice = composed_card(tmp_path / "twice.onnx", once, moved(64))
    crops = rng.integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)

    with torch.no_grad():
        expected = as_unit(moved(64)(torch.from_numpy(Embedder(once).embed(crops))).numpy())
    assert np.abs(Embedder(twice).embed(crops) - expected).max() < 1e-5


def test_the_convention_is_one_that_models_add_takes():
    assert corrected_convention(zoo.card("dlib-resnet29"))["kind"] == "dlib-150-corrected"


def test_a_convention_of_no_name_has_no_kind(tmp_path):
    odd = base_card(tmp_path / "base.onnx", side=96)

    assert corrected_convention(odd)["kind"] == ""


def test_an_embedder_of_one_picture_at_a_time_is_refused(tmp_path):
    base = base_card(tmp_path / "base.onnx", batch=1)

    with pytest.raises(ModelError, match="'blocks' takes one picture at a time"):
        compose(onnx.load(str(tmp_path / "base.onnx")), base, moved(64))


def test_an_old_graph_is_refused(tmp_path):
    base = base_card(tmp_path / "base.onnx")
    model = onnx.load(str(tmp_path / "base.onnx"))
    model.opset_import[0].version = 9

    with pytest.raises(ModelError, match="older than opset 10"):
        compose(model, base, moved(64))
