"""Two embedders of one space as one network."""

import numpy as np
import pytest
from onnxruntime import InferenceSession

from mien.errors import ModelError
from mien.zoo.foreign.fused import add_embedders
from mien.zoo.foreign.onnxfile import Graph


def embedder(seed, *, side=8, takes="image"):
    """A network that projects its pixels at random."""
    graph = Graph()
    matrix = np.random.default_rng(seed).normal(size=(3 * side * side, 5)).astype(np.float32)
    flat = graph.node("Flatten", "flat", takes)
    graph.node("MatMul", "embedding", flat, graph.weight("matrix", matrix, half=True))
    return graph.as_file("toy", takes=(takes, ["batch", 3, side, side]), gives=("embedding", ["batch", 5]))


def answers(data, pixels):
    return InferenceSession(data).run(None, {"image": pixels})[0]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_unit_vectors_are_added_whatever_the_length_of_either():
    first, second = embedder(1), embedder(2)
    pixels = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)

    both = add_embedders(first, second, share=0.25)

    np.testing.assert_allclose(
        answers(both, pixels), unit(answers(first, pixels)) + 0.25 * unit(answers(second, pixels)), atol=1e-5
    )
    assert both == add_embedders(first, second, share=0.25)


def test_a_sum_can_be_added_again():
    first, second = embedder(1), embedder(2)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)

    thrice = add_embedders(add_embedders(first, second, share=1.0), second, share=1.0)

    pair = unit(unit(answers(first, pixels)) + unit(answers(second, pixels)))
    np.testing.assert_allclose(answers(thrice, pixels), pair + unit(answers(second, pixels)), atol=1e-5)


def test_networks_that_take_something_else_are_refused():
    with pytest.raises(ModelError, match="take 'image' and give 'embedding'"):
        add_embedders(embedder(1), embedder(2, takes="pixels"), share=1.0)
