"""Heads that teach an embedder: a direction a subject, a margin that the right one has to win by.

An embedder is trained as a classifier of its training subjects; the head is thrown away afterwards. Logits are
``scale * cos(theta)``, theta the angle between an embedding and a subject's direction, and the margin is taken off
the right subject's cosine, or added to its angle, while learning.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MARGINS", "Margin", "MarginHead", "additive_angle", "additive_cosine"]

Margin = Literal["softmax", "cosface", "arcface"]
MARGINS: tuple[Margin, ...] = get_args(Margin)
"""softmax takes no margin; cosface lowers the right subject's cosine; arcface widens its angle."""

# Least squared sine: where an embedding lies on its subject's direction the angle has no derivative.
_LEAST_SINE2 = 1e-6


def additive_cosine(cosine: Float[Tensor, " batch"], margin: float) -> Float[Tensor, " batch"]:
    """Return cos(theta) - m.

    Source: H. Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018, equation (4).
    """
    return cosine - margin


def additive_angle(cosine: Float[Tensor, " batch"], margin: float) -> Float[Tensor, " batch"]:
    """Return cos(theta + m), continued where theta + m passes pi so that it always falls with the angle.

    Past pi the cosine would rise again and reward the worst embeddings; there it is cos(theta) - m sin(m), which is
    no higher than -1 where it takes over.

    Args:
        cosine: cos(theta), in [-1, 1], shape (batch,).
        margin: m in radians, in [0, pi / 2).

    Source: J. Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019, equation (3);
    the continuation is the one of the authors' own code.
    """
    # (1 - c)(1 + c) keeps the digits that 1 - c * c loses near +-1.
    sine = ((1 - cosine) * (1 + cosine)).clamp_min(_LEAST_SINE2).sqrt()
    wider = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), wider, cosine - margin * math.sin(margin))


class MarginHead(nn.Module):
    """One direction a training subject; answers logits whose right entry carries the margin.

    Args:
        dimension: Of the embeddings.
        subjects: How many subjects are told apart.
        margin: Which margin is taken.
        size: Of the margin: a cosine for cosface, radians for arcface; softmax ignores it.
        scale: What cosines are multiplied by: the largest logit.

    Attributes:
        directions: One row a subject, of any length, shape (subjects, dimension).
    """

    def __init__(
        self, dimension: int, subjects: int, *, margin: Margin = "cosface", size: float = 0.35, scale: float = 32.0
    ) -> None:
        super().__init__()
        assert margin in MARGINS and 0 <= size < math.pi / 2, "a margin is one of three, and smaller than a right angle"
        self.margin, self.size, self.scale = margin, size, scale
        self.directions = nn.Parameter(functional.normalize(torch.randn(subjects, dimension)))

    def forward(
        self, embeddings: Float[Tensor, "batch dimension"], subjects: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch subjects"]:
        """Return logits.

        Args:
            embeddings: Of any length, shape (batch, dimension).
            subjects: Number of the right subject, shape (batch,); without it no margin is taken.
        """
        # Cosines close to 1 decide here, and bfloat16 has three digits.
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = functional.normalize(embeddings.float())
            cosine = (unit @ functional.normalize(self.directions.float()).T).clamp(-1, 1)
            if subjects is None or self.margin == "softmax":
                return self.scale * cosine
            right = cosine.gather(1, subjects[:, None])
            lower = (additive_cosine if self.margin == "cosface" else additive_angle)(right, self.size)
            return self.scale * cosine.scatter(1, subjects[:, None], lower)
