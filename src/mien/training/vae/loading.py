"""A trained VAE, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from mien.errors import TrainingError
from mien.images import printable
from mien.networks import VAE, VAENetConfig
from mien.training import weights
from mien.training.config import load_config
from mien.training.precision import autocast
from mien.training.weights import UNREADABLE, fill, read_network

__all__ = ["PART", "SHIPPED", "Faces", "Images", "begin_as", "encode", "load_vae", "place"]

SHIPPED = ("face-vae-64", "expression-vae-48")
"""VAEs that mien ships with weights to train on from."""
PART = 256  # pictures that are encoded or decoded at once
Images = Float[Tensor, "batch channels side side"]
Faces = UInt8[np.ndarray, "pictures channels side side"]


def load_vae(source: Path) -> tuple[VAE, dict[str, Any]]:
    """Return the network that a run would publish, in evaluation mode, and what `network.json` says of it.

    Args:
        source: The run folder, a file of `mien.training.export.save_weights`, or the name of one that mien ships.

    Raises:
        TrainingError: It is no VAE, or its weights are missing or do not fit.
    """
    try:
        facts, state = read_network(source, weights.VAE)
        if facts.get("story") != "vae":
            raise TrainingError(f"'{printable(source)}' is a run of another kind. Expected one of `mien train vae`.")
        config, condition = load_config(VAENetConfig, given=facts["net"]), len(facts["labels"] + facts["attributes"])
    except UNREADABLE as error:
        raise TrainingError(
            f"'{printable(source)}' is no VAE ({error}). Expected a folder that `mien train vae` wrote, or the name of "
            f"a VAE that mien ships: {', '.join(SHIPPED)}."
        ) from error
    model = VAE(config, condition=condition).eval()
    fill(model, source, state)
    return model, facts


def begin_as(model: VAE, source: Path, *, whole_encoder: bool = False, whole: bool = False) -> None:
    """Give a VAE those weights of another one that have the same place and shape: its filters, whatever the side.

    Args:
        model: What is to begin.
        source: As for `load_vae`.
        whole_encoder: All of the encoder has to fit.
        whole: All of it has.

    Raises:
        TrainingError: There is no such VAE, or its weights do not fit.
    """
    theirs, own = load_vae(source)[0].state_dict(), model.state_dict()
    fits = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    if not any(value.ndim > 1 for value in fits.values()):
        raise TrainingError(
            f"Nothing of '{printable(source)}' fits this network. Give it the same widths, or leave 'init' out."
        )
    encoder = ("encoder.", "posterior.")
    for asked, parts, setting in ((whole_encoder, encoder, "keep_encoder"), (whole, ("",), "blend")):
        lacking = [name for name in own if name.startswith(parts) and name not in fits]
        if asked and lacking:
            raise TrainingError(
                f"'{printable(source)}' does not fit this network ({lacking[0]}). Give it the same side, widths and "
                f"latents, or leave '{setting}' out."
            )
    model.load_state_dict(own | fits)


@torch.no_grad()
def encode(
    model: VAE, images: Faces, *, precision: Literal["fp32", "bf16"] = "fp32", batch_size: int = PART
) -> tuple[Float32[np.ndarray, "pictures latents"], Float32[np.ndarray, "pictures latents"]]:
    """Return means and log variances of pictures, uint8 (pictures, channels, side, side)."""
    device = next(model.parameters()).device
    means, logs = [], []
    for start in range(0, len(images), batch_size):
        with autocast(device, precision):
            mean, log_variance = model.encode(place(torch.from_numpy(images[start : start + batch_size]), device))
        means.append(mean.cpu())
        logs.append(log_variance.cpu())
    return torch.cat(means).numpy(), torch.cat(logs).numpy()


def place(images: UInt8[Tensor, "batch channels side side"], device: torch.device) -> Images:
    """Return pictures as a network takes them."""
    return images.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
