"""People made of noise, an embedder that looks at them through ONNX, and an analyzer around it."""

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.types import Box, Embedding, Face
from mien.vision.embedder import Embedder
from mien.zoo import Card, Source

BLOCKS = 8
DISTURBANCES = 6


def write_people(root, subjects, pictures, *, first=0, disturbance=30.0):
    """Write pictures of 8 x 8 px, a folder a subject: its own pattern, plus what light and weather do to everybody."""
    weather = np.random.default_rng(999).normal(size=(DISTURBANCES, BLOCKS, BLOCKS, 3))
    for subject in range(first, first + subjects):
        pattern = np.random.default_rng(subject).normal(size=(BLOCKS, BLOCKS, 3))
        folder = root / f"subject_{subject:03d}"
        folder.mkdir(parents=True)
        for number in range(pictures):
            rng = np.random.default_rng([subject, number])
            image = 127 + 14 * pattern + 5 * rng.normal(size=pattern.shape)
            image += disturbance * np.tensordot(rng.normal(size=DISTURBANCES), weather, 1) / DISTURBANCES**0.5
            cv2.imwrite(str(folder / f"{number}.png"), image.clip(0, 255).astype(np.uint8))
    return root


def base_card(path, *, side=112, template="arcface-112", dimension=64, **convention):
    """Write a small embedder and return its card: means over 10 or so blocks a side, then a random projection."""
    step = side // BLOCKS
    blocks = (side - step) // step + 1
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3 * blocks * blocks, dimension)).astype(np.float32) / 100
    constants = {"grey": np.float32(127.0), "shape": np.array([0, -1]), "matrix": matrix}
    nodes = [
        helper.make_node("AveragePool", ["x"], ["means"], kernel_shape=[step, step], strides=[step, step]),
        helper.make_node("Sub", ["means", "grey"], ["centred"]),
        helper.make_node("Reshape", ["centred", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes,
        "base",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", dimension])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    feed = {"order": "RGB", "layout": "NCHW", "mean": [0.0, 0.0, 0.0], "scale": 1.0}
    facts = {"kind": "any", "template": template, "side": side, "dimension": dimension, **feed, **convention}
    return Card(
        name="blocks",
        role="embedder",
        version="1",
        summary="Sees blocks.",
        licence="CC0",
        training_data="none",
        source=Source(kind="run", sha256="0" * 64, member=str(path)),
        convention=facts,
    )


class BlocksAnalyzer:
    """Takes the whole picture for a face, and a black one for none."""

    detector = "whole"

    def __init__(self, card):
        self.card = card
        self.embedder = Embedder(card)
        self.seen = 0

    def analyze(self, image):
        self.seen += 1
        if not image.any():
            return ()
        side = self.embedder.side
        crop = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
        vector = self.embedder.embed(crop[None])[0]
        box = Box(0, 0, image.shape[1], image.shape[0])
        return (Face(box, np.zeros((5, 2), np.float32), 0.9, embedding=Embedding(self.card.id, vector)),)
