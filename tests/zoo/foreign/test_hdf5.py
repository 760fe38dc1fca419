import contextlib

import numpy as np
import onnxruntime
import pytest

from mien.errors import ModelError
from mien.zoo.convert import convert
from mien.zoo.foreign.hdf5 import read_arrays

from ..keras import Writer, random_weights, run


@pytest.fixture
def arrays(rng):
    names = [f"layer_{number}/kernel:0" for number in range(11)] + ["layer_3/deep/bias:0", "top"]
    return {name: rng.normal(size=(2, 3, number + 1)).astype(np.float32) for number, name in enumerate(names)}


def test_arrays_are_read_by_path_out_of_nested_groups(arrays):
    writer = Writer()
    read = read_arrays(writer.file(writer.tree(arrays)))

    assert set(read) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)


def test_a_group_is_read_alone(arrays):
    writer = Writer()
    data = writer.file(writer.tree(arrays))

    assert set(read_arrays(data, below="layer_3")) == {"kernel:0", "deep/bias:0"}
    assert set(read_arrays(data, below="layer_3/deep")) == {"bias:0"}
    with pytest.raises(ModelError, match=r"another layout \('nothing'\)"):
        read_arrays(data, below="nothing")


def test_headers_that_go_on_elsewhere_and_doubles_are_read():
    writer = Writer()
    values = np.arange(6.0).reshape(2, 3)
    read = read_arrays(writer.file(writer.group({"x": writer.array(values, split=True)})))

    assert read["x"].dtype == np.float64
    np.testing.assert_array_equal(read["x"], values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "superblock 0"),
        (lambda data: data.replace(b"HDF\r\n\x1a\n\x00", b"HDF\r\n\x1a\n\x02", 1), "superblock 0"),
        (lambda data: data.replace(b"TREE", b"TRUE"), "tree is broken"),
        (lambda data: data.replace(b"HEAP", b"HEEP"), "heap is missing"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
    ],
    ids=["empty", "newer", "no tree", "no heap", "half"],
)
def test_a_damaged_file_is_one_clear_line(arrays, damage, message):
    writer = Writer()
    with pytest.raises(ModelError, match=message):
        read_arrays(damage(writer.file(writer.tree(arrays))))


def test_compressed_arrays_are_refused_and_other_kinds_left_empty():
    writer = Writer()
    chunked = writer.file(writer.group({"x": writer.array(np.ones(3, np.float32), layout=(3, 2))}))
    with pytest.raises(ModelError, match="not in one piece"):
        read_arrays(chunked)

    writer = Writer()
    whole = writer.file(writer.group({"x": writer.array(np.ones(3, np.int32), kind=0x10)}))
    assert read_arrays(whole)["x"].size == 0


def test_every_byte_turned_gives_arrays_or_one_clear_line(arrays):
    writer = Writer()
    data = writer.file(writer.tree(arrays))
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 400):
        turned = bytearray(data)
        turned[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(ModelError):
            read_arrays(bytes(turned))


@pytest.fixture(scope="module")
def weights():
    return random_weights(np.random.default_rng(0))


def test_mini_xception_is_the_network_in_the_file(rng, weights):
    writer = Writer()
    data = convert("mini-xception", writer.file(writer.tree(weights)))
    images = rng.uniform(-1, 1, (3, 1, 64, 64)).astype(np.float32)

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (got,) = session.run(["probabilities"], {"image": images})

    wanted = run(weights, images)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_another_network_is_refused(weights):
    writer = Writer()
    name = "model_weights/conv2d_4/conv2d_4_1/kernel:0"
    data = writer.file(writer.tree(weights | {name: weights[name][..., :5]}))

    with pytest.raises(ModelError, match=r"expected conv2d_4.kernel:0 of shape \(1, 1, 16, 32\), got \(1, 1, 16, 5\)"):
        convert("mini-xception", data)
