"""A network as an ONNX file."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["onnx_bytes"]

_OPSET = 17


def onnx_bytes(
    model: nn.Module,
    *examples: Tensor,
    outputs: Sequence[str],
    inputs: Sequence[str] = ("image",),
    any_side: bool = False,
    free: Mapping[str, Mapping[int, str]] | None = None,
) -> bytes:
    """Return a network as ONNX, in float32, its batch size free.

    Args:
        model: Answers a tensor, a tuple of tensors or a dict of them.
        examples: One of each input, shape (batch, ...).
        outputs: Names of the answers, in order.
        inputs: Names of the inputs, in order.
        any_side: Height and width of pictures are free, too: all inputs and outputs are pictures.
        free: Axes of each input and output that are free, by name, where that is not the batch alone.
    """
    assert len(examples) == len(inputs)
    usual = {0: "batch", 2: "height", 3: "width"} if any_side else {0: "batch"}
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that PyTorch recommends needs one more package; this one does all that plain networks need.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(example.cpu() for example in examples),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict((free or {}).get(name, usual)) for name in (*inputs, *outputs)},
        )
    return file.getvalue()
