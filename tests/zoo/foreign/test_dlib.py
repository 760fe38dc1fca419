import numpy as np
import onnx
import onnxruntime
import pytest

from mien.errors import ModelError
from mien.zoo.convert import convert
from mien.zoo.foreign.dlib import dlib_resnet, read_layers

from ..dlib import Network, integer, tensor, text


@pytest.fixture(scope="module")
def network():
    return Network(np.random.default_rng(0))


@pytest.fixture(scope="module")
def dat(network):
    return network.file()


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_dlibs_network_is_the_one_in_the_file(rng, network, dat):
    images = rng.uniform(0, 255, (2, 3, 150, 150)).astype(np.float32)
    model = convert("dlib-resnet", dat)
    onnx.checker.check_model(model)

    (got,) = session(model).run(["embedding"], {"image": images})

    wanted = np.array([network.run(image) for image in images])
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_half_precision_halves_the_file_and_hardly_moves_the_embedding(rng, dat):
    image = rng.uniform(0, 255, (1, 3, 150, 150)).astype(np.float32)
    full, half = (convert(kind, dat) for kind in ("dlib-resnet", "dlib-resnet-fp16"))

    a, b = (session(model).run(None, {"image": image})[0][0] for model in (full, half))

    assert len(half) < 0.51 * len(full)
    assert 0 < np.linalg.norm(a - b) < 2e-3 * np.linalg.norm(a)


def test_the_same_file_is_converted_to_the_same_bytes(dat):
    assert dlib_resnet(dat) == dlib_resnet(dat)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda dat: b"no layers here", "expected a con_ layer of 4736 numbers, got nothing of 0"),
        (lambda dat: dat[: len(dat) // 2], "breaks off in layer con_4"),
        (lambda dat: dat.replace(text("affine_"), text("affixe_"), 1), "expected a affine_ layer of 64"),
        (lambda dat: dat.replace(text("con_4") + b"\x01\x02", text("con_4") + b"\x01\x03", 1), "tensor format 3"),
        (lambda dat: dat + text("con_4") + tensor(np.ones(5)), "larger network"),
    ],
    ids=["empty", "truncated", "other layer", "other format", "more layers"],
)
def test_another_dat_file_is_refused(dat, damage, message):
    with pytest.raises(ModelError, match=message):
        dlib_resnet(damage(dat))


def test_integers_of_several_bytes_are_read():
    layers = read_layers(text("fc_2") + integer(70000) + integer(3) + tensor(np.arange(300.0)))

    ((name, values),) = layers

    assert name == "fc_2" and values.size == 300 and values[299] == 299
