import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

from mien.errors import ModelError
from mien.zoo import convert
from mien.zoo.convert import BLOCKS


def integer(value: int) -> bytes:
    size = max((value.bit_length() + 7) // 8, 1)
    return bytes([size]) + value.to_bytes(size, "little")


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(values: np.ndarray) -> bytes:
    shape = values.shape if values.ndim == 4 else (values.size, 1, 1, 1)
    return integer(2) + b"".join(map(integer, shape)) + values.astype("<f4").tobytes()


class Network:
    """dlib's network with random weights: as a `.dat` file, and run the slow and obvious way."""

    def __init__(self, rng):
        self.rng = rng
        self.stem = self.layer(3, 32, 7)
        channels, self.blocks = 32, []
        for out, _ in BLOCKS:
            self.blocks.append((self.layer(channels, out, 3), self.layer(out, out, 3)))
            channels = out
        self.matrix = rng.normal(0, 0.1, (256, 128)).astype(np.float32)

    def layer(self, channels, out, kernel):
        """Return filters, bias, gamma and beta; scaled so that activations neither die nor blow up."""
        filters = self.rng.normal(0, (1.0 / (channels * kernel**2)) ** 0.5, (out, channels, kernel, kernel))
        vectors = [self.rng.normal(0, 0.1, out), self.rng.uniform(0.5, 1.0, out), self.rng.normal(0, 0.1, out)]
        return [part.astype(np.float32) for part in (filters, *vectors)]

    def file(self) -> bytes:
        parts = [b"some header"]
        for filters, bias, gamma, beta in [self.stem, *(layer for block in self.blocks for layer in block)]:
            parts += [text("con_4"), tensor(np.concatenate([filters.ravel(), bias])), b"more"]
            parts += [text("affine_"), tensor(np.concatenate([gamma, beta])), b"\x00"]
        parts += [text("fc_2"), integer(128), integer(256), tensor(self.matrix.reshape(256, 128, 1, 1)), b"end"]
        return b"".join(parts)

    def run(self, image: np.ndarray) -> np.ndarray:
        x = (image - np.array([122.782, 117.001, 104.298])[:, None, None]) / 256
        x = np.maximum(affine_convolution(x, self.stem, stride=2, pad=0), 0)
        x = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
        for (first, second), (out, down) in zip(self.blocks, BLOCKS, strict=True):
            y = np.maximum(affine_convolution(x, first, stride=2 if down else 1, pad=0 if down else 1), 0)
            y = affine_convolution(y, second, stride=1, pad=1)
            if down:
                x = sliding_window_view(x, (2, 2), axis=(1, 2))[:, ::2, ::2].mean(axis=(3, 4))
            side = max(x.shape[1], y.shape[1])
            total = np.zeros((out, side, side))
            total[: len(x), : x.shape[1], : x.shape[2]] += x
            total[:, : y.shape[1], : y.shape[2]] += y
            x = np.maximum(total, 0)
        return x.mean(axis=(1, 2)) @ self.matrix


def affine_convolution(x, layer, *, stride, pad):
    filters, bias, gamma, beta = layer
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad)])
    windows = sliding_window_view(x, filters.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    y = np.tensordot(filters.astype(np.float64), windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]
    return y * gamma[:, None, None] + beta[:, None, None]


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
    model = convert.convert("dlib-resnet", dat)
    onnx.checker.check_model(model)

    (got,) = session(model).run(["embedding"], {"image": images})

    wanted = np.array([network.run(image) for image in images])
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_half_precision_halves_the_file_and_hardly_moves_the_embedding(rng, dat):
    image = rng.uniform(0, 255, (1, 3, 150, 150)).astype(np.float32)
    full, half = (convert.convert(kind, dat) for kind in ("dlib-resnet", "dlib-resnet-fp16"))

    a, b = (session(model).run(None, {"image": image})[0][0] for model in (full, half))

    assert len(half) < 0.51 * len(full)
    assert 0 < np.linalg.norm(a - b) < 2e-3 * np.linalg.norm(a)


def test_the_same_file_is_converted_to_the_same_bytes(dat):
    assert convert.dlib_resnet(dat) == convert.dlib_resnet(dat)


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
        convert.dlib_resnet(damage(dat))


def fully_convolutional() -> bytes:
    """A network as old exporters wrote it: fixed size, weights among the inputs, a weight that nobody uses."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["h"], ["y"]),
        ],
        "old",
        [value("x", TensorProto.FLOAT, [10, 3, 32, 32]), value("w", TensorProto.FLOAT, [2, 3, 3, 3])],
        [value("y", TensorProto.FLOAT, [10, 2, 16, 16])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight, "unused")],
        value_info=[value("h", TensorProto.FLOAT, [10, 2, 16, 16])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6).SerializeToString()


def test_a_fully_convolutional_network_takes_any_size_after_conversion(rng):
    old, free = session(fully_convolutional()), session(convert.convert("dynamic-size", fully_convolutional()))
    picture = rng.normal(size=(10, 3, 32, 32)).astype(np.float32)

    np.testing.assert_allclose(free.run(None, {"x": picture})[0], old.run(None, {"x": picture})[0], atol=1e-5)
    assert free.run(None, {"x": picture[:1, :, :, :16]})[0].shape == (1, 2, 16, 8)
    assert [item.name for item in free.get_inputs()] == ["x"]
    model = onnx.load_model_from_string(convert.dynamic_size(fully_convolutional()))
    assert [item.name for item in model.graph.initializer] == ["w"]


def test_without_a_conversion_the_bytes_stay():
    assert convert.convert("", b"as it is") == b"as it is"


def test_integers_of_several_bytes_are_read():
    layers = convert._dlib_layers(text("fc_2") + integer(70000) + integer(3) + tensor(np.arange(300.0)))

    ((name, values),) = layers

    assert name == "fc_2" and values.size == 300 and values[299] == 299
