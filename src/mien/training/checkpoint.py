"""A checkpoint: one safetensors file with tensors by dotted name, and everything else as JSON in its header.

Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mien.errors import TrainingError

__all__ = ["FORMAT", "Part", "load_checkpoint", "pack_checkpoint"]

FORMAT = 1
"""Of the file; another is not read."""


class Part(Protocol):
    """What a checkpoint can hold: a module, an optimizer, an EMA, a `Progress`, ..."""

    def state_dict(self) -> Any:
        """Return nested dicts and lists of tensors, numbers, texts and None."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take up what `state_dict` gave."""
        ...


def pack_checkpoint(parts: Mapping[str, Part], **facts: Any) -> bytes:
    """Return the content of a checkpoint: the state of every part, and facts for its header."""
    tensors: dict[str, Tensor] = {}
    states = {name: _flatten(part.state_dict(), name, tensors) for name, part in parts.items()}
    return save(tensors, {"mien": json.dumps({"format": FORMAT, **facts, "parts": states})})


def load_checkpoint(path: Path, **parts: Part) -> dict[str, Any]:
    """Give parts their state from a checkpoint; parts of the file that are not named are left alone.

    Nothing is changed unless every part fits.

    Args:
        path: `last.safetensors` or `best.safetensors` of a run.
        parts: By the names under which they were saved.

    Returns:
        The header: ``images`` and ``seconds`` at which it was saved, among others.

    Raises:
        TrainingError: The file is missing or damaged, or holds other parts, another architecture or a newer version.
    """
    where = f"The checkpoint '{path}'"
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("mien", "{}"))
            wanted = [key for key in file.keys() if key.split(".", 1)[0] in parts]  # noqa: SIM118 (no mapping)
            tensors = {key: file.get_tensor(key) for key in wanted}
    except FileNotFoundError:
        raise TrainingError(f"{where} is missing. Is '{path.parent}' the folder of a run?") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise TrainingError(f"{where} cannot be read: {error}. Start again in another folder.") from error
    if header.get("format") != FORMAT:
        raise TrainingError(
            f"{where} is of format {header.get('format', 'unknown')}; this version of mien reads format {FORMAT}."
        )
    missing = [name for name in parts if name not in header["parts"]]
    if missing:
        raise TrainingError(f"{where} lacks {', '.join(missing)}; it holds {', '.join(header['parts'])}.")
    states = {name: _restore(header["parts"][name], tensors) for name in parts}
    for name, part in parts.items():
        if misfit := _misfit(part.state_dict(), states[name], name):
            raise TrainingError(
                f"{where} does not fit: {misfit}. It is of another architecture; build the model as its config says."
            )
    for name, part in parts.items():
        part.load_state_dict(states[name])
        if isinstance(part, torch.optim.Optimizer):
            _match_layout(part)
    return header  # type: ignore[no-any-return]


def _flatten(state: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON; its tensors go to ``tensors`` under dotted names and leave a reference."""
    if isinstance(state, Tensor):
        # A file knows no strides, and refuses two names for one memory.
        tensors[name] = state.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(state, Mapping):
        # Keys may be numbers, as an optimizer's are; JSON would make them text.
        return {"dict": [[key, _flatten(value, f"{name}.{key}", tensors)] for key, value in state.items()]}
    if isinstance(state, tuple | list):
        items = [_flatten(value, f"{name}.{place}", tensors) for place, value in enumerate(state)]
        return {"tuple": items} if isinstance(state, tuple) else items
    assert state is None or isinstance(state, bool | int | float | str), f"{name} is of {type(state)}"
    return state


def _restore(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(state, list):
        return [_restore(value, tensors) for value in state]
    if not isinstance(state, dict):
        return state
    ((kind, value),) = state.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "tuple":
        return tuple(_restore(item, tensors) for item in value)
    return {key: _restore(item, tensors) for key, item in value}


def _misfit(ours: Any, theirs: Any, name: str) -> str | None:
    """Say where a module's state differs from the file's in names or shapes; None where it fits."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.shape != theirs.shape:
            return f"{name} is {tuple(theirs.shape)} in the file and {tuple(ours.shape)} here"
        return None
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        tensors = {key for key, value in (*ours.items(), *theirs.items()) if isinstance(value, Tensor)}
        for key in sorted(map(str, tensors)):
            if key not in theirs:
                return f"{name}.{key} is not in the file"
            if key not in ours:
                return f"{name}.{key} of the file is not in this model"
        for key in ours:
            if key in theirs and (found := _misfit(ours[key], theirs[key], f"{name}.{key}")):
                return found
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{name} has {len(theirs)} entries in the file and {len(ours)} here"
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            if found := _misfit(mine, other, f"{name}.{place}"):
                return found
    return None


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay out what belongs to a weight as the weight itself: fused steps read it in the order of memory."""
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
