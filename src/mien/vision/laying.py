"""How what a decoder says of a changed face is laid into its photograph.

The change alone is added, so that what the decoder cannot draw of a face stays. Where much changes that would leave two
brows, the photograph's and the changed one: there the photograph's details make room for what the decoder draws.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32

from mien.metrics.fidelity import GREY

__all__ = ["EDIT_COLOUR", "HARDLY", "MUCH", "blur_kernel", "damp_colours", "lay_change", "spreads"]

EDIT_COLOUR = 0.25
"""Share of a mapper's change of colours that an edit keeps; of lightness it keeps all. Expression networks see grey
pictures, so that a mapper does with colours what it likes: cheeks redden. Chosen by eye."""
HARDLY, MUCH = 4.0, 20.0
"""Grey levels of change: below the first all details of a photograph stay, above the second none do."""
_DETAIL, _NEAR = 24, 48  # parts of a face's side: what is smaller is a detail; how far a change reaches

Face = Float32[np.ndarray, "side side 3"]


def lay_change(face: Face, plain: Face, change: Face) -> Face:
    """Return a face with a change laid into it; not cut off at 0 and 255.

    Args:
        face: Aligned, 0 to 255.
        plain: What the decoder makes of it unchanged.
        change: What it makes of it changed, less that.
    """
    details, near = (blur_kernel(sigma) for sigma in spreads(len(face)))
    much = cv2.sepFilter2D(np.abs(change).mean(axis=2), -1, near, near)
    room = np.clip((much - HARDLY) / (MUCH - HARDLY), 0, 1)[..., None]
    rest = face - plain
    return np.asarray(face + change - room * (rest - cv2.sepFilter2D(rest, -1, details, details)))


def spreads(side: int) -> tuple[float, float]:
    """Return standard deviations in px: of what smooths details away, and of how far around it a change counts."""
    return side / _DETAIL, side / _NEAR


def blur_kernel(sigma: float) -> Float32[np.ndarray, " taps"]:
    """Return a Gaussian of so many px, three of them to either side."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def damp_colours(change: Float32[np.ndarray, "*pictures 3"]) -> Float32[np.ndarray, "*pictures 3"]:
    """Return a mapper's change of faces, its lightness whole and `EDIT_COLOUR` of its colours."""
    lightness = (change * GREY.astype(np.float32)).sum(axis=-1, keepdims=True)
    return np.asarray(lightness + EDIT_COLOUR * (change - lightness))
