"""A trained network as ONNX: written, checked against PyTorch, stored in half precision or quantised to 8 bits."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from mien.errors import TrainingError
from mien.images import write_whole
from mien.networks.tracing import onnx_bytes

if TYPE_CHECKING:
    import onnx

__all__ = ["half_weights", "quantised", "write_onnx"]

INPUT = "image"
PARITY = 1e-3
"""Largest difference of a logit from PyTorch's that passes as rounding."""
_SMALL = 1024  # values: a weight below this stays as it is, for it is no size and may matter

Faces = Float32[np.ndarray, "faces channel side side"]


def write_onnx(network: nn.Module, file: Path, *, side: int, channels: int) -> float:
    """Write a network as ONNX, one output a head, for batches of any size; return how far it is from PyTorch.

    Normalisation is folded into the convolutions. The network is left as it was.

    Args:
        network: Takes pixels 0 to 255, shape (faces, channels, side, side); answers logits by head.
        file: Where to, all of it or nothing.
        side: Of its faces, px.
        channels: Of its faces.

    Returns:
        The largest difference of a logit on random faces.

    Raises:
        TrainingError: The two differ by more than rounding, or the file cannot be written.
    """
    faces = torch.rand((4, channels, side, side), generator=torch.Generator().manual_seed(0)) * 255
    still = copy.deepcopy(network).to("cpu", torch.float32).eval()
    with torch.no_grad():
        expected = {name: logits.numpy() for name, logits in still(faces).items()}
    data = onnx_bytes(still, faces, outputs=list(expected))
    answers = _run(data, faces.numpy(), list(expected))
    difference = max(float(np.abs(answers[name] - logits).max()) for name, logits in expected.items())
    if not difference <= PARITY:
        raise TrainingError(
            f"The ONNX file answers otherwise than PyTorch: a logit differs by {difference:.2g}, more than {PARITY:g}. "
            "Nothing was written. Check with another version of PyTorch or ONNX Runtime."
        )
    save(file, data)
    return difference


def half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights are stored as float16 and cast up on loading: half the file, the same sums."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _SMALL or np.abs(values).max() > 6e4:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.up", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(half)
    return half


def quantised(model: onnx.ModelProto, faces: Faces, *, keep_float: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Return a model with weights and activations in 8 bits, scales fixed beforehand (static, a scale a channel).

    Args:
        model: In float32.
        faces: What the network is fed, to see how far activations reach: a few hundred training faces, never any that
            it is measured on.
        keep_float: Names of nodes that stay as they are.

    Source: ONNX Runtime's guide to quantisation; unsigned activations with signed weights are what its CPU kernels
    multiply fastest.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(np.array_split(faces, max(len(faces) // 32, 1)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, done = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "done.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            done,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=list(keep_float),
        )
        return onnx.load(done)


def save(file: Path, data: bytes) -> None:
    """Write a file, all of it or nothing.

    Raises:
        TrainingError: The folder does not exist or cannot be written, or the disk is full.
    """
    try:
        write_whole(file, data)
    except OSError as error:
        raise TrainingError(f"Cannot write '{file}': {error.strerror or error}.") from error


def _run(data: bytes, faces: Faces, heads: list[str]) -> dict[str, np.ndarray]:
    import onnxruntime

    from mien.vision.session import session_options

    session = onnxruntime.InferenceSession(data, session_options(threads=1), providers=["CPUExecutionProvider"])
    return dict(zip(heads, session.run(heads, {INPUT: faces}), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's advice to developers off the user's terminal."""
    root = logging.getLogger()
    level: Any = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
