"""dlib's face recogniser as a frozen PyTorch module, so that a generator can learn whose face to draw.

A network that stands in a loss learns to be pleased: whatever is trained with it must be judged by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.errors import ModelError
from mien.zoo.foreign.dlib import BLOCKS

__all__ = ["RECOGNISER", "FaceRecogniser", "crop_grid"]

RECOGNISER = "dlib-resnet29"
"""The catalogue's name of the network."""

_TEMPLATE = "dlib-150"


class FaceRecogniser(nn.Module):
    """Aligned faces to unit embeddings, the same numbers as the zoo's ONNX file gives; gradients flow to the pictures.

    The weights are buffers, not parameters, and never enter a checkpoint.

    Args:
        template: How the faces are cut, a name of `mien.alignment.TEMPLATES`; they are warped to the network's own.
        side: Of the faces, px.
        file: The ONNX file of dlib's recogniser; default the zoo's.

    Attributes:
        dimension: Of the embeddings.

    Raises:
        ModelError: The network cannot be had, or the file is another one.
    """

    grid: Tensor
    projection: Tensor

    def __init__(self, template: str, side: int, *, file: Path | None = None) -> None:
        super().__init__()
        for name, value in _weights(zoo.path(RECOGNISER) if file is None else file).items():
            self.register_buffer(name.replace(".", "_"), value, persistent=False)
        self.dimension = int(self.projection.shape[1])
        self.register_buffer("grid", crop_grid(template, side, _TEMPLATE, TEMPLATES[_TEMPLATE].side), persistent=False)

    def forward(self, images: Float[Tensor, "batch channels side side"]) -> Float[Tensor, "batch dimension"]:
        """Return unit embeddings of faces, 0 to 255, RGB or grey (one channel)."""
        grid = self.grid.expand(len(images), -1, -1, -1)
        x = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return self.embed(x.expand(-1, 3, -1, -1))

    def embed(self, x: Float[Tensor, "batch 3 150 150"]) -> Float[Tensor, "batch dimension"]:
        """Return unit embeddings of RGB faces that are cut as the network wants them."""
        return self.look(x, ())[0]

    def look(
        self, x: Float[Tensor, "batch 3 150 150"], blocks: Sequence[int]
    ) -> tuple[Float[Tensor, "batch dimension"], list[Float[Tensor, "batch c h w"]]]:
        """Return unit embeddings, and the maps after some of the network's blocks, numbered from 0."""
        maps = []
        x = functional.max_pool2d(functional.relu(self._convolved("stem", x, 2, 0)), 3, 2)
        for index, (out, halves) in enumerate(BLOCKS):
            name, channels = f"block{index}", x.shape[1]
            y = functional.relu(self._convolved(f"{name}.conv1", x, 2 if halves else 1, 0 if halves else 1))
            y = self._convolved(f"{name}.conv2", y, 1, 1)
            if halves:
                # The shortcut is averaged down; of the two branches the smaller one is filled with zeros.
                x = functional.avg_pool2d(x, 2)
                x = functional.pad(x, (0, 0, 0, 0, 0, out - channels))
                rest = x.shape[-1] - y.shape[-1]
                y = functional.pad(y, (0, rest, 0, rest))
            x = functional.relu(y + x)
            if index in blocks:
                maps.append(x)
        with torch.autocast(x.device.type, enabled=False):
            return functional.normalize(x.float().mean((2, 3)) @ self.projection), maps

    def _part(self, name: str) -> Tensor:
        value: Tensor = getattr(self, name.replace(".", "_"))
        return value

    def _convolved(self, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return functional.conv2d(x, self._part(f"{name}.weight"), self._part(f"{name}.bias"), stride, padding)


def _weights(file: Path) -> dict[str, Tensor]:
    """Return the initialisers of the ONNX file by name, in float32."""
    values = {
        item.name.removesuffix(".half"): torch.from_numpy(np.array(numpy_helper.to_array(item))).float()
        for item in onnx.load_model(file).graph.initializer
        if not item.name.endswith(".by")
    }
    layers = ["stem", *(f"block{index}.conv{k}" for index in range(len(BLOCKS)) for k in (1, 2))]
    expected = {"projection", *(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))}
    if set(values) != expected:
        raise ModelError(f"'{file.name}' is not dlib's face recogniser: its layers are others.")
    return values


def crop_grid(template: str, side: int, wanted: str, wanted_side: int) -> Float[Tensor, "1 wanted_side wanted_side 2"]:
    """Return where px of a crop of one template lie in a face cut by another one, for `grid_sample` (corners apart).

    Args:
        template: How the faces are cut, a name of `mien.alignment.TEMPLATES`.
        side: Of the faces, px.
        wanted: How they shall be cut.
        wanted_side: Px of that.
    """
    # Px of the crop to px of the face, templates scaled as crops are cut.
    matrix = similarity_transform(TEMPLATES[wanted].points_at(wanted_side), TEMPLATES[template].points_at(side))
    row = np.arange(wanted_side)
    places = np.stack(np.meshgrid(row, row), axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    return torch.from_numpy(((2 * places + 1) / side - 1)[None].astype(np.float32))
