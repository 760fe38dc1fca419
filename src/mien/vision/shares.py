"""Class shares: how common each expression is taken to be among the faces that are looked at.

A classifier learns likelihoods together with the shares of its training pictures: where half of them smiled, it finds
a smile likely before it has looked. Dividing by the shares that it learned leaves the likelihoods, and multiplying by
others gives the answer for a place where those hold (Saerens et al., Neural Computation 2002, equation 4).
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from mien.errors import UsageError
from mien.images import printable
from mien.types import EXPRESSIONS

__all__ = ["KNOWN", "Shares", "check_shares", "log_prior", "read_shares"]

KNOWN = ("learned", "equal")
"""Shares that have a name: those of the training pictures, or the same for all classes."""

Shares = str | Mapping[str, float]
"""One of `KNOWN`, or a share for each expression; they need not sum to one, and one that is not named has none."""


def read_shares(text: str) -> Shares:
    """Return what ``--shares`` asks for: one of `KNOWN`, or what a file of JSON or TOML says.

    Raises:
        UsageError: It is neither, or the file holds no shares.
    """
    if text in KNOWN:
        return text
    file = Path(text)
    try:
        data = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(
            f"--shares is {' or '.join(KNOWN)}, or a file with a share for each expression; '{printable(text)}' is "
            f"none: {why}."
        ) from error
    try:
        given = json.loads(data) if file.suffix.lower() == ".json" else tomllib.loads(data)
    except ValueError as error:
        raise UsageError(f"'{printable(text)}' is no valid JSON or TOML: {error}.") from error
    if not isinstance(given, Mapping):
        raise UsageError(f"'{printable(text)}' holds no shares. Expected a number for each expression.")
    check_shares(given)
    return {str(name): float(value) for name, value in given.items()}


def check_shares(shares: Shares) -> None:
    """Refuse what are no shares.

    Raises:
        UsageError: A name is no expression, a share is no number from 0, or fewer than two classes have one.
    """
    if isinstance(shares, str):
        if shares not in KNOWN:
            raise UsageError(f"Shares are {', '.join(KNOWN)}, or a number for each expression; got '{shares}'.")
        return
    if not isinstance(shares, Mapping):
        raise UsageError(f"Shares are {', '.join(KNOWN)}, or a number for each expression; got {shares!r}.")
    if strange := [str(name) for name in shares if name not in EXPRESSIONS]:
        raise UsageError(f"Shares are of {', '.join(EXPRESSIONS)}; got one of {', '.join(map(repr, strange))}.")
    for name, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UsageError(f"The share of {name} is a number from 0, got {value!r}.")
    if sum(value > 0 for value in shares.values()) < 2:
        raise UsageError("Shares name at least two expressions that may occur: there is no choice otherwise.")


def log_prior(
    shares: Shares, labels: Sequence[str], learned: Float64[np.ndarray, " classes"] | None
) -> Float64[np.ndarray, " classes"]:
    """Return what to add to log probabilities so that they are for other shares than those that were learned.

    Args:
        shares: The shares to answer for.
        labels: Classes of the network.
        learned: Their shares where it learned; None where they are not known, which is enough for ``learned``.

    Raises:
        UsageError: No two of the classes have a share.
    """
    if shares == "learned":
        return np.zeros(len(labels))
    assert learned is not None, "checked where a reader is made"
    wanted = np.array([1.0 if isinstance(shares, str) else float(shares.get(label, 0.0)) for label in labels])
    if (wanted > 0).sum() < 2:
        raise UsageError(f"The network knows {', '.join(labels)}: give shares to at least two of them.")
    # A class that was never shown has no likelihood: it stays out.
    with np.errstate(divide="ignore"):
        return np.where(learned > 0, np.log(wanted) - np.log(np.maximum(learned, 1e-12)), -np.inf)
