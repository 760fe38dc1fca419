"""What a finished training publishes: a network that answers in ONNX as in PyTorch, with a card beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from mien.errors import TrainingError
from mien.training.run import write_result
from mien.zoo.session import session_options

__all__ = ["YOURS", "check_difference", "check_parity", "publish_network"]

YOURS = "Yours; the terms of the training data apply."
"""Licence of what users train."""


def check_parity(
    model: nn.Module, network: bytes, inputs: Mapping[str, Tensor], *, tolerance: float, unit: str
) -> float:
    """Return the largest difference of an answer between PyTorch and an ONNX file.

    Args:
        model: On the CPU, in evaluation mode; answers with a tensor, a tuple of them, or tensors by name.
        network: The ONNX file's content, with the same outputs in the same order.
        inputs: By the name of the file's input, in the order that the model takes them.
        tolerance: Largest difference that passes as rounding.
        unit: Of the difference, in the plural.

    Raises:
        TrainingError: They differ by more.
    """
    session = onnxruntime.InferenceSession(network, session_options(threads=1), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        answers = model(*inputs.values())
    ours = (
        [answers] if isinstance(answers, Tensor) else [*(answers.values() if hasattr(answers, "values") else answers)]
    )
    theirs = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    difference = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs, strict=True))
    return check_difference(difference, tolerance=tolerance, unit=unit)


def check_difference(difference: float, *, tolerance: float, unit: str) -> float:
    """Return a difference between PyTorch and ONNX that passes as rounding.

    Raises:
        TrainingError: It does not.
    """
    if not difference <= tolerance:
        raise TrainingError(
            f"The ONNX file answers otherwise than PyTorch, by {difference:.2g} {unit}, more than {tolerance:g}. Don't "
            f"use it; the checkpoints are whole. Try other versions of PyTorch and ONNX Runtime."
        )
    return difference


def publish_network(
    file: Path,
    network: bytes,
    *,
    role: str,
    summary: str,
    training_data: str,
    convention: Mapping[str, Any],
    metrics: Mapping[str, Any],
    licence: str = YOURS,
    **facts: Any,
) -> None:
    """Write a network and its card: `card.json` beside `model.onnx`, otherwise of the network's own name.

    Args:
        file: The network, `.onnx`.
        network: Its content.
        role: As in `mien.zoo.ROLES`.
        summary: In a sentence, what it is.
        training_data: What it learned from.
        convention: What it is fed and what it answers.
        metrics: Measured figures by protocol.
        licence: Under which terms it may be used.
        facts: More of a card: name, operating points, ...

    Raises:
        TrainingError: The disk is full, or the folder cannot be written.
    """
    card = {
        "role": role,
        "version": "1",
        **facts,
        "summary": summary,
        "licence": licence,
        "training_data": training_data,
        "convention": dict(convention),
        "metrics": dict(metrics),
    }
    beside = file.with_name("card.json") if file.name == "model.onnx" else file.with_suffix(".json")
    write_result(file, network)
    # Names of people may hold what UTF-8 cannot.
    write_result(beside, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
