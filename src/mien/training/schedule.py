"""Learning rates by position in the training, in images: a resumed run needs no memory of its schedule."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(images: int, total: int, warmup: int, base: float, *, final: float = 0.0) -> float:
    """Return the learning rate for the batch that starts at ``images``: a linear rise, then half a cosine down.

    Args:
        images: Images seen before this batch.
        total: Length of the training in images; beyond it the rate stays at ``final``.
        warmup: Length of the rise in images; 0 starts at ``base``.
        base: The highest rate.
        final: The rate at the end.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5, one period; the rise as in Goyal et al. (2017).
    """
    if images < warmup:
        return base * images / warmup
    done = min(1.0, (images - warmup) / max(1, total - warmup))
    return final + (base - final) * 0.5 * (1.0 + math.cos(math.pi * done))
