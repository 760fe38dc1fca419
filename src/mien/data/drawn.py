"""Folders of drawn faces with labels: data to learn and to test with, of people who do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.data.splits import by_subject
from mien.drawing import draw_face
from mien.errors import DataError
from mien.images import printable, save_image
from mien.types import EXPRESSIONS

__all__ = ["LAYOUTS", "draw_samples"]

LAYOUTS = ("expression", "subject")

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
_LEAST_SPLIT = 5  # subjects of whom each split gets one
_APART = 100_000  # a seed's subjects begin so many after those of the seed before


def draw_samples(
    folder: Path,
    *,
    per_class: int = 20,
    subjects: int | None = None,
    layout: str = "expression",
    split: bool = False,
    side: int = 160,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> int:
    """Draw faces into a folder for each class: the same files for the same arguments.

    Heads turn and lean a little, and light, background and strength of the expression differ. Drawn faces try out a
    pipeline; figures on them say nothing about photographs.

    Args:
        folder: New, or empty.
        per_class: Pictures of each class.
        subjects: How many people; each class shows them in turn. Default: as many as there are pictures in a class of
            expressions, and eight classes of subjects.
        layout: What a class is: ``expression`` (all eight) or ``subject`` (with any expression).
        split: Put train, valid and test above the classes, three, one and one fifth, no subject in two of them.
        side: Of the pictures, px.
        seed: Who is drawn, and how.
        progress: Called after each picture.

    Returns:
        How many pictures were drawn.

    Raises:
        DataError: The folder holds something already, cannot be written, or there are too few subjects for a split.
    """
    assert layout in LAYOUTS and per_class > 0 and seed >= 0
    if subjects is None:
        subjects = per_class if layout == "expression" else 8
    if split and subjects < _LEAST_SPLIT:
        raise DataError(
            f"Train, valid and test without a subject in two of them need at least {_LEAST_SPLIT} subjects, "
            f"got {subjects}. Draw more, or leave the split out."
        )
    with _drawing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    if occupied:
        raise DataError(f"'{printable(folder)}' holds something already. Name a new folder.")
    people = [f"subject-{number:03}" for number in range(subjects)]
    splits = by_subject(np.array(people), SHARES, seed=seed) if split else np.full(subjects, "")
    classes = EXPRESSIONS if layout == "expression" else people
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        for i in range(per_class):
            subject = number if layout == "subject" else i % subjects
            shown = name if layout == "expression" else EXPRESSIONS[int(rng.integers(len(EXPRESSIONS)))]
            drawn = _varied_face(seed * _APART + subject, shown, side, rng)
            place = folder / str(splits[subject]) / name
            file = f"{people[subject]}-{i // subjects:03}.jpg" if layout == "expression" else f"{i:03}.jpg"
            with _drawing_into(folder):
                place.mkdir(parents=True, exist_ok=True)
            save_image(place / file, drawn)
            if progress is not None:
                progress()
    return len(classes) * per_class


def _varied_face(who: int, expression: str, side: int, rng: np.random.Generator) -> UInt8[np.ndarray, "side side 3"]:
    """Draw somebody with an expression, the head turned and leant a little, in some light."""
    return draw_face(
        who,
        side=side,
        expression=expression,
        yaw=rng.uniform(-15, 15),
        roll=rng.uniform(-6, 6),
        light=rng.uniform(0.8, 1.1),
        seed=int(rng.integers(1 << 31)),
    ).image


@contextmanager
def _drawing_into(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"Cannot draw into '{printable(folder)}': {error.strerror or error}.") from error
