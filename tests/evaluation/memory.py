"""Faces that are linear in 40 latents, and tiny generators of them: one draws anew, one hands out what it learned."""

import json

import cv2
import numpy as np
from onnx import TensorProto

from training.people import base_card
from vision.generators import Graph

SIDE, LATENTS = 16, 40
# Smooth, so that cutting pictures out again does not lose them.
_COARSE = np.random.default_rng(7).normal(size=(LATENTS, 3, 6, 6)).astype(np.float32)
_SMOOTH = [[cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for part in face] for face in _COARSE]
BASIS = np.linalg.qr(np.array(_SMOOTH).reshape(LATENTS, -1).T)[0].T.astype(np.float32)
CONTRAST = 180.0


def faces(rng, n):
    """Faces of people drawn at random, uint8, shape (n, side, side, 3)."""
    flat = 128 + CONTRAST * rng.normal(size=(n, LATENTS)) @ BASIS
    return flat.reshape(n, 3, SIDE, SIDE).transpose(0, 2, 3, 1).clip(0, 255).round().astype(np.uint8)


def save_generator(folder, *, learned=None, encoder=False, **facts):
    """Write a run folder: of a generator that draws anew, or one that returns a picture out of ``learned``."""
    folder.mkdir(parents=True)
    net = Graph()
    z = net.take("noise", TensorProto.FLOAT, LATENTS)
    if learned is None:
        x = net.node("MatMul", z, net.weight(CONTRAST * BASIS))
        x = net.node("Clip", net.node("Add", x, net.weight(128.0)), net.weight(0.0), net.weight(255.0))
    else:
        chances = np.random.default_rng(1).normal(size=(LATENTS, len(learned)))
        chosen = net.node("ArgMax", net.node("MatMul", z, net.weight(chances)), axis=1, keepdims=0)
        x = net.node("Gather", net.weight(learned.transpose(0, 3, 1, 2).reshape(len(learned), -1)), chosen)
    net.node("Reshape", x, net.weight([-1, 3, SIDE, SIDE], np.int64), name="images")
    net.save(folder / "model.onnx", ["images"])
    feed = {"template": "face-64", "side": SIDE, "order": "RGB"}
    convention = {"kind": "vae" if encoder else "gan", **feed, "latents": LATENTS}
    convention |= {"encoder": "encoder.onnx"} if encoder else {}
    card = {"role": "generator", "summary": "Toy faces.", "licence": "CC0", "training_data": "none", **facts}
    (folder / "card.json").write_text(json.dumps({**card, "convention": convention}))
    if encoder:
        net = Graph()
        image = net.take("image", TensorProto.FLOAT, 3, SIDE, SIDE)
        flat = net.node("Sub", net.node("Reshape", image, net.weight([0, -1], np.int64)), net.weight(128.0))
        net.node("MatMul", flat, net.weight(BASIS.T / CONTRAST), name="mean")
        net.node("Mul", "mean", net.weight(2.0), name="features")
        net.node("Mul", "mean", net.weight(0.0), name="log_variance")
        net.save(folder / "encoder.onnx", ["features", "mean", "log_variance"])
        facts = {"kind": "vae-encoder", **feed, "layout": "NCHW", "mean": 0.0, "scale": 1.0}
        (folder / "encoder.json").write_text(json.dumps({"role": "embedder", "convention": facts}))
    return folder


def save_embedder(path):
    """Write an embedder with its card beside it."""
    card = base_card(path)
    path.with_suffix(".json").write_text(json.dumps({"role": "embedder", "convention": dict(card.convention)}))
    return path
