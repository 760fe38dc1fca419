"""What a training learns from: classes with enough pictures, and data that may not change under a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mien.errors import TrainingError

__all__ = ["FEW", "Pinned", "few_pictures", "keep_large_classes"]

FEW = 2000
"""Pictures below which a generator may draw those that it learned from, rather than new ones."""


class Pinned:
    """Data that is a part of the checkpoint, so that a resumed run cannot learn from other data.

    A subclass says what tells its data from others.
    """

    @property
    def digest(self) -> str:
        """Hash of pictures, labels and splits."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many pictures there are, for the message."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return what tells these data from others."""
        return {"digest": self.digest, "pictures": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a checkpoint is of the same data.

        Raises:
            TrainingError: Pictures, labels or splits differ.
        """
        if state["digest"] != self.digest:
            raise TrainingError(
                f"The run learned from other data: {state['pictures']:,} pictures then, {self.count:,} now, or other "
                f"labels or splits. Name another run folder."
            )


def few_pictures(count: int, instead: str = "") -> list[str]:
    """Return a warning where a generator learns from few pictures, with what would help; else nothing."""
    if count >= FEW:
        return []
    words = f"{count:,} pictures are few: what is drawn may be one of them. Run mien audit before you give it away."
    return [f"{words} {instead}".rstrip()]


def keep_large_classes(
    labels: Int[np.ndarray, " pictures"],
    classes: Sequence[str],
    *,
    learned: Int[np.ndarray, " learned"],
    fewest: int,
) -> tuple[Int[np.ndarray, " pictures"], tuple[str, ...], list[str]]:
    """Leave out classes of too few pictures to learn from.

    Args:
        labels: Numbers of ``classes``, -1 where there is none.
        classes: What labels mean.
        learned: Which pictures are learned from.
        fewest: Pictures that a class needs among them.

    Returns:
        Labels among the classes that are kept (-1 for the others), those classes, and what was left out, a line each.
    """
    mine = labels[learned]
    counts = np.bincount(mine[mine >= 0], minlength=len(classes))
    kept = np.flatnonzero(counts >= fewest)
    notes = [
        f"Only {count} training {'picture shows' if count == 1 else 'pictures show'} '{name}', fewer than {fewest}: "
        f"left out."
        for name, count in zip(classes, counts, strict=True)
        if count < fewest
    ]
    if unlabelled := int((mine < 0).sum()):
        what = "training picture has no label and is" if unlabelled == 1 else "training pictures have no label and are"
        notes.append(f"{unlabelled:,} {what} left out.")
    number = np.full(len(classes) + 1, -1)  # the last one is that of -1
    number[kept] = np.arange(len(kept))
    return number[labels], tuple(classes[k] for k in kept.tolist()), notes
