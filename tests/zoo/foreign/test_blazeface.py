import numpy as np
import onnxruntime
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from mien.errors import ModelError
from mien.zoo.convert import convert
from zoo.flatbuffers import (
    ADD,
    CONCATENATION,
    CONV,
    DEPTHWISE,
    DEQUANTIZE,
    FLOAT16,
    FLOAT32,
    INT32,
    MAX_POOL,
    PAD,
    RELU,
    RESHAPE,
    Builder,
)  # fmt: skip


class Tiny:
    """A network with each operator of BlazeFace once, as a `.tflite` file and in plain NumPy."""

    def __init__(self, rng, **changes):
        self.changes = {"conv activation": 0, "last operator": CONCATENATION, "axis": 1, **changes}
        self.stem = rng.normal(0, 0.2, (4, 5, 5, 3)).astype(np.float16)  # out, h, w, in
        self.depth = rng.normal(0, 0.3, (1, 3, 3, 4)).astype(np.float32)
        self.head = rng.normal(0, 0.3, (6, 1, 1, 6)).astype(np.float32)
        self.bias = {name: rng.normal(0, 0.1, n).astype(np.float32) for name, n in (("s", 4), ("d", 4), ("h", 6))}

    def file(self) -> bytes:
        b = Builder()
        buffers, tensors, names = [b.table({})], [], {}

        def tensor(name, shape, values=None, kind=FLOAT32):
            if values is not None:
                buffers.append(b.table({0: b.vector("B", values.tobytes())}))
            facts = {0: b.vector("i", shape), 1: ("b", kind), 3: b.text(name)}
            facts[2] = ("I", len(buffers) - 1 if values is not None else 0)
            names[name] = len(tensors)
            tensors.append(b.table(facts))

        tensor("input", [1, 32, 32, 3])
        tensor("stem.half", self.stem.shape, self.stem, FLOAT16)
        tensor("stem.w", self.stem.shape)
        tensor("depth.w", self.depth.shape, self.depth)
        tensor("head.w", self.head.shape, self.head)
        for key, values in self.bias.items():
            tensor(f"bias.{key}", values.shape, values)
        tensor("amounts", [4, 2], np.array([[0, 0], [0, 0], [0, 0], [0, 2]], np.int32), INT32)
        for name, shape in (
            ("a", [1, 16, 16, 4]),
            ("ar", [1, 16, 16, 4]),
            ("d", [1, 8, 8, 4]),
            ("p", [1, 8, 8, 4]),
            ("s", [1, 8, 8, 4]),
            ("wide", [1, 8, 8, 6]),
            ("h", [1, 8, 8, 6]),
            ("cells", [1, 128, 3]),
            ("answer", [1, 256, 3]),
        ):
            tensor(name, shape)

        codes = [ADD, CONCATENATION, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL, RELU, RESHAPE, PAD, 99]
        operators = []

        def operator(code, inputs, output, options=None):
            facts = {0: ("I", codes.index(code)), 1: b.vector("i", [names[name] for name in inputs])}
            facts[2] = b.vector("i", [names[output]])
            if options is not None:
                facts[4] = b.table({number: (kind, value) for number, (kind, value) in options.items()})
            operators.append(b.table(facts))

        operator(DEQUANTIZE, ["stem.half"], "stem.w")
        activation = self.changes["conv activation"]
        operator(CONV, ["input", "stem.w", "bias.s"], "a", {1: ("i", 2), 2: ("i", 2), 3: ("b", activation)})
        operator(RELU, ["a"], "ar")
        operator(DEPTHWISE, ["ar", "depth.w", "bias.d"], "d", {1: ("i", 2), 2: ("i", 2), 3: ("i", 1)})
        pool = {0: ("b", 1), 1: ("i", 2), 2: ("i", 2), 3: ("i", 2), 4: ("i", 2)}
        operator(MAX_POOL, ["ar"], "p", pool)
        operator(ADD, ["d", "p"], "s", {})
        operator(PAD, ["s", "amounts"], "wide")
        operator(CONV, ["wide", "head.w", "bias.h"], "h", {0: ("b", 1), 1: ("i", 1), 2: ("i", 1)})
        operator(RESHAPE, ["h"], "cells")
        last = {0: ("i", self.changes["axis"])}
        operator(self.changes["last operator"], ["cells", "cells"], "answer", last)

        graph = {0: b.tables(tensors), 1: b.vector("i", [names["input"]]), 2: b.vector("i", [names["answer"]])}
        graph[3] = b.tables(operators)
        model = {1: b.tables([b.table({0: ("b", code), 3: ("i", code)}) for code in codes])}
        model |= {2: b.tables([b.table(graph)]), 4: b.tables(buffers)}
        return b.file(b.table(model))

    def run(self, image: np.ndarray) -> np.ndarray:
        """Run the network on (h, w, 3), whose sides four divides."""
        a = np.maximum(self.windows(image, 5, 2, (1, 2)) @ self.stem.astype(float).reshape(4, -1).T + self.bias["s"], 0)
        windows = self.windows(a, 3, 2, (0, 1)).reshape(a.shape[0] // 2, a.shape[1] // 2, 9, 4)
        d = (windows * self.depth.reshape(9, 4)).sum(axis=2) + self.bias["d"]
        p = a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, 4).max(axis=(1, 3))
        wide = np.pad(d + p, [(0, 0), (0, 0), (0, 2)])
        cells = (wide @ self.head.reshape(6, 6).T + self.bias["h"]).reshape(-1, 3)
        return np.concatenate([cells, cells])

    @staticmethod
    def windows(x, kernel, stride, pad):
        """Return (rows, columns, kernel * kernel * channels)."""
        x = np.pad(x, [pad, pad, (0, 0)])
        view = sliding_window_view(x, (kernel, kernel), axis=(0, 1))[::stride, ::stride]
        return view.transpose(0, 1, 3, 4, 2).reshape(*view.shape[:2], -1)


@pytest.mark.parametrize("size", [(32, 32), (32, 64)], ids=["own size", "wider"])
def test_the_onnx_file_answers_like_the_network(rng, size):
    network = Tiny(rng)
    images = rng.normal(size=(2, *size, 3)).astype(np.float32)

    session = onnxruntime.InferenceSession(convert("blazeface", network.file()), providers=["CPUExecutionProvider"])
    (got,) = session.run(["answer"], {"input": images.transpose(0, 3, 1, 2)})

    np.testing.assert_allclose(got, np.array([network.run(image) for image in images]), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv activation": 1}, "fused activation"),
        ({"last operator": 99}, "operator 99"),
        ({"axis": 2}, "concatenation other than"),
    ],
)
def test_what_blazeface_has_not_is_refused(rng, changes, message):
    with pytest.raises(ModelError, match=message):
        convert("blazeface", Tiny(rng, **changes).file())


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: b"text" * 9, lambda d: d[: len(d) // 2]])
def test_a_damaged_file_is_refused(rng, damage):
    with pytest.raises(ModelError, match=r"damaged"):
        convert("blazeface", damage(Tiny(rng).file()))
