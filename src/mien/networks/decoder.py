"""The decoder of a published generator as a frozen PyTorch module, so that gradients reach the latents.

An ONNX file is all that a finished model leaves. Of its nodes, those between the latents and the pictures are
calculated here, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float, Int
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import ModelError

__all__ = ["PublishedDecoder"]

_LATENTS, _IMAGES = "latents", "images"
_TYPES = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64}

Attributes = Mapping[str, Any]


class PublishedDecoder(nn.Module):
    """From latents to pictures, as the network of a generator does it; gradients flow to the latents.

    Args:
        network: The ONNX file's content, of a VAE or of a GAN that began as one.

    Attributes:
        inputs: What it is told beside latents: some of label, attributes.

    Raises:
        ModelError: The file names no latents, or holds a kind of layer that none of our decoders has.
    """

    def __init__(self, network: bytes) -> None:
        super().__init__()
        graph = onnx.load_from_string(network).graph
        wanted, nodes = {_IMAGES}, list[onnx.NodeProto]()
        for node in reversed(graph.node):
            if wanted & set(node.output) and _LATENTS not in node.output:
                nodes.append(node)
                wanted |= set(node.input)
        if _LATENTS not in wanted:
            raise ModelError("This generator decodes no latents. Expected a VAE, or a GAN that began as one (--init).")
        if strange := sorted({node.op_type for node in nodes} - {"Constant", *_LAYERS}):
            raise ModelError(f"This generator's decoder has layers of the kind {strange[0]}, which is none of ours.")
        self.inputs = tuple(item.name for item in graph.input if item.name in wanted)
        values = {
            item.name: torch.from_numpy(np.array(numpy_helper.to_array(item)))
            for item in graph.initializer
            if item.name in wanted
        }
        self._steps: list[tuple[str, list[str], str, Attributes]] = []
        for node in reversed(nodes):
            told = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type == "Constant":
                values[node.output[0]] = torch.from_numpy(np.array(numpy_helper.to_array(told["value"])))
            elif all(name in values for name in node.input if name):  # weights that were stored in fewer bits
                given = [values[name] if name else None for name in node.input]
                values[node.output[0]] = _LAYERS[node.op_type](told, *given)
            else:
                self._steps.append((node.op_type, list(node.input), node.output[0], told))
        used = {name for _, names, _, _ in self._steps for name in names}
        # Sizes and places are calculated on the CPU, wherever the pictures are.
        self._whole = {name: values[name] for name in values if name in used and not values[name].is_floating_point()}
        self._names = [name for name in values if name in used and name not in self._whole]
        for place, name in enumerate(self._names):
            self.register_buffer(f"value{place}", values[name], persistent=False)

    def forward(
        self,
        latents: Float[Tensor, "batch latents"],
        label: Int[Tensor, " batch"] | None = None,
        attributes: Float[Tensor, "batch attributes"] | None = None,
    ) -> Float[Tensor, "batch channels side side"]:
        """Return pictures, 0 to 255.

        Args:
            latents: z.
            label: Where ``inputs`` has it.
            attributes: Likewise.
        """
        known: dict[str, Any] = {name: getattr(self, f"value{place}") for place, name in enumerate(self._names)}
        known |= {**self._whole, _LATENTS: latents, "label": label, "attributes": attributes}
        for kind, names, answer, told in self._steps:
            known[answer] = _LAYERS[kind](told, *(known[name] if name else None for name in names))
        images: Tensor = known[_IMAGES]
        return images


def _reshaped(told: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape.tolist())])


def _sliced(told: Attributes, x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    rows = [slice(None)] * x.ndim
    rows[int(axis)] = slice(int(start), int(end))
    return x[tuple(rows)]


def _divided(told: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "floor")


def _convolved(told: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.conv2d(x, weight, bias, told["strides"], told["pads"][:2])


def _connected(told: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, weight if told.get("transB") else weight.T, bias)


def _enlarged(
    told: Attributes, x: Tensor, _: Tensor | None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    # ONNX gives one of the two.
    if scales is not None and scales.numel():
        size = [round(side * float(scale)) for side, scale in zip(x.shape[2:], scales[2:], strict=True)]
    else:
        assert sizes is not None
        size = [int(side) for side in sizes[2:]]
    if told["mode"] == b"linear":
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return functional.interpolate(x, size=size, mode="nearest")


_LAYERS: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda told, x, y: x + y,
    "Cast": lambda told, x: x.to(_TYPES[told["to"]]),
    "Clip": lambda told, x, low, high: x.clamp(float(low), float(high)),
    "Concat": lambda told, *parts: torch.cat(parts, dim=told["axis"]),
    "Conv": _convolved,
    "Div": _divided,
    "Gather": lambda told, x, rows: x[rows],  # along the first axis, the only one that ours have
    "Gemm": _connected,
    "Identity": lambda told, x: x,
    "InstanceNormalization": lambda told, x, weight, bias: functional.instance_norm(
        x, weight=weight, bias=bias, eps=told["epsilon"]
    ),
    "MatMul": lambda told, x, y: x @ y,
    "Mul": lambda told, x, y: x * y,
    "Reshape": _reshaped,
    "Resize": _enlarged,
    "Shape": lambda told, x: torch.tensor(x.shape),
    "Sigmoid": lambda told, x: torch.sigmoid(x),
    "Slice": _sliced,
    "Unsqueeze": lambda told, x, axes: x.unsqueeze(int(axes)),
}
