"""Faces drawn again from their own latents, and how well that worked."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from mien.losses import perceptual_distance
from mien.networks.decoder import PublishedDecoder
from mien.networks.perceptual import ImageFeatures

__all__ = ["grade_redrawn", "redraw"]

_PART = 128  # faces at once


@torch.no_grad()
def redraw(
    decoder: PublishedDecoder,
    latents: Float32[np.ndarray, "n latents"],
    labels: Int[np.ndarray, " n"] | None,
    *,
    attributes: int = 0,
    device: torch.device,
) -> UInt8[np.ndarray, "n channels side side"]:
    """Return what a decoder makes of latents.

    Args:
        decoder: Of the model.
        latents: Shape (n, latents).
        labels: Where the model is told some.
        attributes: How many it is told; it is told that the face has none of them.
        device: Where the decoder is.
    """
    parts = []
    for start in range(0, len(latents), _PART):
        rows = slice(start, start + _PART)
        told = None
        if labels is not None and "label" in decoder.inputs:
            told = torch.from_numpy(labels[rows]).to(device)
        some = torch.from_numpy(latents[rows]).to(device)
        lacks = some.new_zeros(len(some), attributes) if "attributes" in decoder.inputs else None
        drawn = decoder(some, told, lacks)
        parts.append(drawn.round().clamp(0, 255).to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def grade_redrawn(
    faces: UInt8[np.ndarray, "n side side 3"],
    again: UInt8[np.ndarray, "n channels side side"],
    labels: Int[np.ndarray, " n"] | None,
    device: torch.device,
) -> Float[np.ndarray, " n"]:
    """Return how well each face was redrawn, as the ImageNet network sees it: its rank among those of its label.

    From 0 for the worst to 1 for the best; a face that is alone has 1.
    """
    features, apart = ImageFeatures().to(device), np.empty(len(faces))
    for start in range(0, len(faces), _PART):
        rows = slice(start, start + _PART)
        seen = (
            features(torch.from_numpy(faces[rows]).to(device).permute(0, 3, 1, 2).float()),
            features(torch.from_numpy(again[rows]).to(device).float().expand(-1, 3, -1, -1)),
        )
        apart[rows] = perceptual_distance(*seen).cpu().numpy()
    grades = np.ones(len(apart))
    of = np.zeros(len(apart), int) if labels is None else labels
    for label in np.unique(of):
        own = np.flatnonzero(of == label)
        if len(own) > 1:
            grades[own[np.argsort(-apart[own], kind="stable")]] = np.linspace(0, 1, len(own))
    return grades
