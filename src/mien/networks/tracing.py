"""A network as an ONNX file."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["onnx_bytes"]

_OPSET = 17


def onnx_bytes(model: nn.Module, example: Tensor, *, outputs: Sequence[str]) -> bytes:
    """Return a network as ONNX, in float32, its batch size free, its input called `image`.

    Args:
        model: Answers a tensor, a tuple of tensors or a dict of them.
        example: An input, shape (batch, ...).
        outputs: Names of the answers, in order.
    """
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that PyTorch recommends needs one more package; this one does all that plain networks need.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example.cpu(),),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in ("image", *outputs)},
        )
    return file.getvalue()
