"""A network in one file that a training can begin with: safetensors, with what `network.json` says in its header."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mien.errors import TrainingError
from mien.images import printable
from mien.training.run import load_checkpoint, write_result
from mien.training.storage import Precision, channel_steps

__all__ = ["DESCRIPTION", "EXPRESSION", "RESTORER", "UNREADABLE", "VAE", "fill", "read_network", "write_network"]

DESCRIPTION = "network.json"
"""File of a run that says how its network is built."""

_STEP = ".step"  # the size of one, of a weight in 8 bits

EXPRESSION, VAE, RESTORER = "mien-expression", "mien-vae", "mien-restorer"
"""Kinds of networks: keys of the header of a file."""

UNREADABLE = (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError)
"""What `read_network`, and making sense of its answer, may raise."""


def read_network(source: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Return how a network is built, and its weights; None where they are a run's checkpoint.

    Args:
        source: A run folder, a file of `write_network`, or the name of one that mien ships.
        kind: Of network, as the header of the file has it: `EXPRESSION` or `VAE`.

    Raises:
        One of `UNREADABLE`: there is no such network.
    """
    shipped = Path(str(resources.files("mien"))) / "weights" / f"{source}.safetensors"
    file = shipped if not source.exists() and len(source.parts) == 1 and shipped.is_file() else source
    if file.suffix != ".safetensors":
        facts: dict[str, Any] = json.loads((file / DESCRIPTION).read_text(encoding="utf-8"))
        return facts, None
    with safe_open(file, framework="pt") as weights:
        facts = json.loads((weights.metadata() or {})[kind])
        # Stored in fewer bits or not, it is learned on in single precision.
        state = {key: weights.get_tensor(key).float() for key in weights.keys()}  # noqa: SIM118 (no mapping)
        sizes = {key: state.pop(key) for key in [*state] if key.endswith(_STEP)}
        return facts, state | {key.removesuffix(_STEP): state[key.removesuffix(_STEP)] * sizes[key] for key in sizes}


def fill(model: nn.Module, source: Path, state: dict[str, Tensor] | None) -> None:
    """Give a network the weights that `read_network` found.

    Raises:
        TrainingError: They are missing or do not fit.
    """
    if state is None:
        load_checkpoint(source / "best.safetensors", model=model)
        return
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(
            f"The weights of '{printable(source)}' do not fit the network that their header describes. "
            f"Write them anew: mien export RUN -o NAME.safetensors."
        ) from error


def write_network(model: nn.Module, facts: str, out: Path, *, kind: str, precision: Precision | None = None) -> int:
    """Write a network and return the size of the file in bytes.

    Args:
        model: The network.
        facts: What `network.json` says of it.
        out: The file, `.safetensors`.
        kind: As for `read_network`.
        precision: fp16 stores weights in half precision; int8 filters and matrices in 8 bits, with a step for each
            channel, and the rest in half precision.

    Raises:
        TrainingError: The file cannot be written.
    """
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        kept = value.contiguous()
        if precision == "int8" and value.is_floating_point() and value.ndim > 1:
            kept, state[f"{key}{_STEP}"] = map(torch.from_numpy, channel_steps(value.float().cpu().numpy()))
        elif precision is not None and value.is_floating_point():
            kept = kept.to(torch.float16)
        state[key] = kept
    data = save(state, {kind: facts})
    write_result(out, data)
    return len(data)
