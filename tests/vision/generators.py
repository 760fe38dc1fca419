"""Run folders of tiny generators: pictures are linear in the latents, so that everything can be worked out by hand."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIDE, LATENTS = 16, 6
CONTRAST = 200.0  # of a picture, for one unit of a latent
LABELS = ("neutral", "happiness", "surprise")


def basis(channels=3, side=SIDE, rows=LATENTS + 8):
    """Orthonormal pictures: the first make latents visible, then labels, attributes and identities."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(channels * side * side, rows)))
    return q.T.astype(np.float32)


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.inputs = [], [], []

    def weight(self, values, kind=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def node(self, kind, *inputs, name=None, **attributes):
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def take(self, name, kind, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["n", *shape]))
        return name

    def save(self, path, outputs):
        answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, answers, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path.write_bytes(model.SerializeToString())


def save_generator(
    folder,
    *,
    kind="gan",
    labels=(),
    components=(),
    means=None,
    attributes=(),
    identity=None,
    dimension=64,
    encoder=False,
    encoder_side=None,
    channels=3,
    side=SIDE,
    told=True,
    edits=(),
    shifts=None,
):
    """Write a run folder.

    ``components`` are (label or -1, share), their spread is 1/10, their means ``means``. A network that is not ``told``
    the label has it from the components alone. A mapper to the expressions ``edits`` moves latents by ``shifts``.
    """
    folder.mkdir(parents=True)
    rows = basis(channels, side)
    net = Graph()
    z = net.take("noise", TensorProto.FLOAT, LATENTS)
    if components:
        means = np.zeros((len(components), LATENTS)) if means is None else np.asarray(means)
        factors = np.stack([np.eye(LATENTS), *[np.eye(LATENTS) / 10] * len(components)])
        component = net.take("component", TensorProto.INT64)
        factor = net.node("Gather", net.weight(factors), component)
        mean = net.node("Gather", net.weight(np.vstack([np.zeros(LATENTS), means])), component)
        axes = net.weight([2], np.int64)
        turned = net.node("Squeeze", net.node("MatMul", factor, net.node("Unsqueeze", z, axes)), axes)
        z = net.node("Add", mean, turned, name="latents")
    elif kind == "vae":
        z = net.node("Identity", z, name="latents")
    x = net.node("MatMul", z, net.weight(rows[:LATENTS] * CONTRAST))
    label = net.take("label", TensorProto.INT64) if (labels and told) or edits else None
    if labels and told:
        shown = CONTRAST * np.arange(len(labels))[:, None] * rows[LATENTS]
        x = net.node("Add", x, net.node("Gather", net.weight(shown), label))
    if edits:
        net.node("Add", z, net.node("Gather", net.weight(shifts), label), name="edited")
    if attributes:
        given = net.take("attributes", TensorProto.FLOAT, len(attributes))
        shown = CONTRAST * rows[LATENTS + 1 : LATENTS + 1 + len(attributes)]
        x = net.node("Add", x, net.node("MatMul", given, net.weight(shown)))
    if identity:
        given = net.take("identity", TensorProto.FLOAT, dimension)
        drawn = np.random.default_rng(1).normal(size=(dimension, channels * side * side))
        x = net.node("Add", x, net.node("MatMul", given, net.weight(20 * drawn)))
    x = net.node("Add", x, net.weight(128.0))
    x = net.node("Clip", x, net.weight(0.0), net.weight(255.0))
    net.node("Reshape", x, net.weight([-1, channels, side, side], np.int64), name="images")
    answers = ["images", *(["latents"] if kind == "vae" else []), *(["edited"] if edits else [])]
    net.save(folder / "model.onnx", answers)

    feed = {"template": "face-64", "side": side, "order": "RGB" if channels == 3 else "GRAY"}
    convention = {"kind": kind, **feed, "latents": LATENTS}
    convention |= {"labels": list(labels)} if labels else {}
    convention |= {"components": [list(item) for item in components]} if components else {}
    convention |= {"attributes": list(attributes)} if attributes else {}
    convention |= {"identity": identity} if identity else {}
    convention |= {"encoder": "encoder.onnx"} if encoder else {}
    convention |= {"edits": list(edits)} if edits else {}
    (folder / "card.json").write_text(json.dumps({"role": "generator", "convention": convention}))
    if encoder:
        seen = encoder_side or side
        save_encoder(folder, feed | {"side": seen}, channels, seen)
    return folder


def save_encoder(folder, feed, channels=3, side=SIDE):
    """Write the encoder that gives back the latents; what it calls features are twice as long."""
    net = Graph()
    image = net.take("image", TensorProto.FLOAT, channels, side, side)
    flat = net.node("Reshape", image, net.weight([0, -1], np.int64))
    centred = net.node("Sub", flat, net.weight(128.0))
    net.node("MatMul", centred, net.weight(basis(channels, side)[:LATENTS].T / CONTRAST), name="mean")
    net.node("Mul", "mean", net.weight(2.0), name="features")
    net.node("Mul", "mean", net.weight(0.0), name="log_variance")
    net.save(folder / "encoder.onnx", ["features", "mean", "log_variance"])
    facts = {"kind": "vae-encoder", **feed, "layout": "NCHW", "mean": 0.0, "scale": 1.0}
    (folder / "encoder.json").write_text(json.dumps({"role": "embedder", "convention": facts}))
