"""The noise that a flow carries to given latents, found by asking the flow alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

__all__ = ["inverted"]

Rows = Float32[np.ndarray, "n latents"]

# How far a round goes: whole steps would swing about where a flow stretches noise more than twofold.
_STEPS = (0.5,) * 5 + (0.25,) * 3


def inverted(carried: Callable[[Rows], Rows], latents: Rows) -> Rows:
    """Return noise that a flow carries to latents, nearly: what is left is small, and the caller's to make up for.

    Args:
        carried: The flow: from standard normal noise to latents, row by row, shape (n, latents).
        latents: Where it should arrive.

    Source: fixed-point iteration; as for diffusion in Z. Pan et al., "Effective real image editing with accelerated
    iterative diffusion inversion", ICCV 2023.
    """
    width = latents.shape[1]
    some = carried(np.random.default_rng(0).standard_normal((64, width)).astype(np.float32))
    centre, scale = some.mean(axis=0), np.maximum(some.std(axis=0), 1e-3)
    noise = np.asarray((latents - centre) / scale, dtype=np.float32)
    for step in _STEPS:
        noise = np.asarray(noise + step * (latents - carried(noise)) / scale, dtype=np.float32)
    return noise
