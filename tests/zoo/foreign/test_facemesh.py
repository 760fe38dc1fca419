"""The parts of FaceMesh that BlazeFace has not: PReLU, and answers that are a convolution down to one cell."""

import numpy as np
import onnxruntime
import pytest

from mien.errors import ModelError
from mien.zoo.convert import convert
from zoo.flatbuffers import CONV, FLOAT32, PRELU, Builder

SIDE = 192


class Tiny:
    """A strided convolution, PReLU, and a convolution over all that is left: (1, 1, 1, 40), no multiple of 16."""

    def __init__(self, rng, slope=(0.2, -0.5, 0.0, 1.0), cells=(1, 1)):
        self.stem = rng.normal(0, 0.2, (4, 1, 1, 3)).astype(np.float32)  # out, h, w, in
        self.slope = np.array(slope, np.float32)
        self.head = rng.normal(0, 0.1, (40, 3, 3, 4)).astype(np.float32)
        self.bias = {"s": rng.normal(0, 0.1, 4).astype(np.float32), "h": rng.normal(0, 0.1, 40).astype(np.float32)}
        self.cells = cells

    def file(self) -> bytes:
        b = Builder()
        buffers, tensors, names = [b.table({})], [], {}

        def tensor(name, shape, values=None):
            if values is not None:
                buffers.append(b.table({0: b.vector("B", values.tobytes())}))
            facts = {0: b.vector("i", shape), 1: ("b", FLOAT32), 3: b.text(name)}
            facts[2] = ("I", len(buffers) - 1 if values is not None else 0)
            names[name] = len(tensors)
            tensors.append(b.table(facts))

        tensor("input", [1, SIDE, SIDE, 3])
        tensor("stem.w", self.stem.shape, self.stem)
        tensor("bias.s", [4], self.bias["s"])
        tensor("slope", [1, 1, 4], self.slope)
        tensor("head.w", self.head.shape, self.head)
        tensor("bias.h", [40], self.bias["h"])
        tensor("a", [1, 3, 3, 4])
        tensor("ap", [1, 3, 3, 4])
        tensor("answer", [1, *self.cells, 40])
        codes, operators = [CONV, PRELU], []

        def operator(code, inputs, output, options=None):
            facts = {0: ("I", codes.index(code)), 1: b.vector("i", [names[name] for name in inputs])}
            facts[2] = b.vector("i", [names[output]])
            if options is not None:
                facts[4] = b.table(options)
            operators.append(b.table(facts))

        operator(CONV, ["input", "stem.w", "bias.s"], "a", {0: ("b", 1), 1: ("i", 64), 2: ("i", 64)})
        operator(PRELU, ["a", "slope"], "ap")
        operator(CONV, ["ap", "head.w", "bias.h"], "answer", {0: ("b", 1), 1: ("i", 1), 2: ("i", 1)})
        graph = {0: b.tables(tensors), 1: b.vector("i", [names["input"]]), 2: b.vector("i", [names["answer"]])}
        graph[3] = b.tables(operators)
        model = {1: b.tables([b.table({0: ("b", code), 3: ("i", code)}) for code in codes])}
        model |= {2: b.tables([b.table(graph)]), 4: b.tables(buffers)}
        return b.file(b.table(model))

    def run(self, image: np.ndarray) -> np.ndarray:
        a = image[::64, ::64] @ self.stem.reshape(4, 3).T + self.bias["s"]
        a = np.where(a > 0, a, self.slope * a)
        return np.einsum("hwc,ohwc->o", a, self.head) + self.bias["h"]


@pytest.mark.parametrize("slope", [(0.2, -0.5, 0.0, 1.0), (0.3, 1.5, 0.0, -2.0)], ids=["at most one", "above one"])
def test_prelu_and_the_answer_are_those_of_the_network(rng, slope):
    network = Tiny(rng, slope)
    images = rng.normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)

    session = onnxruntime.InferenceSession(convert("facemesh", network.file()), providers=["CPUExecutionProvider"])
    (got,) = session.run(["answer"], {"input": images.transpose(0, 3, 1, 2)})

    assert got.shape == (2, 40)
    np.testing.assert_allclose(got, np.array([network.run(image) for image in images]), atol=1e-5)


def test_an_answer_that_is_a_map_is_refused(rng):
    with pytest.raises(ModelError, match="not a FaceMesh"):
        convert("facemesh", Tiny(rng, cells=(3, 3)).file())
