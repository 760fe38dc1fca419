"""Synthetic training sets: how many faces each class lacks, and which generated ones are fit to be learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from mien.errors import EvaluationError, UsageError
from mien.evaluation.audit import nearest, pixel_vectors

__all__ = [
    "KEPT",
    "MOST_TRIES",
    "VERDICTS",
    "Candidate",
    "FaceFilter",
    "Limits",
    "draw_candidates",
    "lacking",
    "lookup_target",
]

Images = UInt8[np.ndarray, "faces side side 3"]
KEPT = "kept"
VERDICTS = (KEPT, "other expression", "too plain", "near a training face", "near a kept face")
"""What becomes of a generated face."""

MOST_TRIES = 20
"""Faces drawn for each one wanted, before a class is given up."""

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """When a generated face is kept.

    Attributes:
        least: Probability of the class asked for, as the classifier sees it, from which a face is kept.
        most: And up to which: of what is surer a classifier learns nothing new; 1 keeps all.
        radius: Percentile of the distances between training faces and their nearest neighbours: a generated face
            that is nearer to a training face, or to one kept before, is left out. 0 looks at no distances.
    """

    least: float = 0.4
    most: float = 1.0
    radius: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= 1 or not 0 <= self.radius <= 50:
            raise UsageError(
                f"A face is kept between two probabilities, 0 <= least <= most <= 1, and a percentile of 0 to 50; got "
                f"{self.least:g}, {self.most:g} and {self.radius:g}."
            )


class FaceFilter:
    """Decides which generated faces are kept, one batch after the other.

    Faces are compared as 16x16 px of even brightness and contrast, mirror images too: what a network would see in
    them may be what it learned from, pixels are nobody's.

    Args:
        train: Faces of the training set, as the generator cuts them, RGB.
        limits: When a face is kept.

    Attributes:
        radius: Distance below which two faces are one.
    """

    def __init__(self, train: Images, limits: Limits | None = None) -> None:
        if len(train) < 2:
            raise EvaluationError(f"A filter compares with 2 training faces or more, got {len(train)}.")
        self.limits = limits or Limits()
        self._train = pixel_vectors(train)
        self._kept: list[Float32[np.ndarray, " dimension"]] = []
        self.radius = 0.0
        if self.limits.radius:
            own = nearest(self._train[None], self._train, 2)[0][:, 1]
            self.radius = float(np.percentile(own, self.limits.radius))

    def judge(self, faces: Images, probabilities: Float[np.ndarray, " faces"] | None) -> list[str]:
        """Return one of `VERDICTS` for each face; what is kept counts as seen from then on.

        Args:
            faces: Generated, RGB.
            probabilities: Of the class that each was asked for; None: nothing is known of it.
        """
        views = np.stack([pixel_vectors(faces), pixel_vectors(faces[:, :, ::-1])])
        distances = nearest(views, self._train, 1)[0][:, 0] if self.radius else np.full(len(faces), np.inf)
        return [
            self._verdict(views[:, i], distances[i], None if probabilities is None else float(probabilities[i]))
            for i in range(len(faces))
        ]

    def _verdict(self, views: Float32[np.ndarray, "2 dimension"], distance: float, probability: float | None) -> str:
        if probability is not None and probability < self.limits.least:
            return VERDICTS[1]
        if probability is not None and probability > self.limits.most:
            return VERDICTS[2]
        if distance < self.radius:
            return VERDICTS[3]
        if self.radius and self._kept and nearest(views[:, None], np.stack(self._kept), 1)[0][0, 0] < self.radius:
            return VERDICTS[4]
        self._kept.append(views[0])
        return KEPT


def lookup_target(counts: Mapping[str, int], target: str) -> int:
    """Return up to how many faces classes are filled: ``median`` or ``largest`` of their counts, or a number.

    Raises:
        UsageError: It is none of these.
    """
    if target == "median":
        return int(np.median(list(counts.values())))
    if target == "largest":
        return max(counts.values())
    if target.isdecimal() and int(target) > 0:
        return int(target)
    raise UsageError(f"Classes are filled up to 'median', 'largest' or a number of faces, got '{target}'.")


def lacking(labels: Sequence[str], known: Sequence[str], target: str) -> dict[str, int]:
    """Return how many faces each class of a training set lacks; those that lack none are left out.

    Args:
        labels: Class of each training face.
        known: Classes that the generator can be asked for.
        target: As for `lookup_target`.

    Raises:
        EvaluationError: The generator knows none of the classes.
    """
    counts = Counter(labels)
    if not set(counts) & set(known):
        raise EvaluationError(
            f"The generator draws {', '.join(known) or 'no classes'}; the data show {', '.join(sorted(counts))}. Train "
            f"one on these data, or name data of its classes."
        )
    goal = lookup_target(counts, target)
    return {name: goal - counts[name] for name in known if 0 < counts[name] < goal}


Draw = Callable[[int, int], Images]
"""Draws the generated faces of numbers start to end - 1 of a class, RGB."""

Judge = Callable[[Images], Float[np.ndarray, " faces"] | None]
"""From faces to the probabilities of the class they were asked for, as a classifier sees it; None: it knows none."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A face that was drawn for a training set.

    Attributes:
        number: Of the face, counted from 0 in its class.
        verdict: One of `VERDICTS`.
        probability: Of the class asked for, as the classifier sees it; None: it was not asked.
        image: RGB.
    """

    number: int
    verdict: str
    probability: float | None
    image: UInt8[np.ndarray, "side side 3"]


def draw_candidates(
    draw: Draw, wanted: int, *, judge: Judge | None = None, face_filter: FaceFilter | None = None
) -> Iterator[Candidate]:
    """Draw faces of one class until as many are kept as are wanted; give up at `MOST_TRIES` times as many.

    Args:
        draw: Draws them.
        wanted: How many to keep.
        judge: Sees whether they show what was asked.
        face_filter: Decides; None keeps all.
    """
    kept, most = 0, wanted if face_filter is None else MOST_TRIES * wanted
    for start in range(0, most, _AT_ONCE):
        faces = draw(start, min(start + _AT_ONCE, most))
        seen = judge(faces) if judge is not None else None
        verdicts = face_filter.judge(faces, seen) if face_filter is not None else [KEPT] * len(faces)
        for i, (face, verdict) in enumerate(zip(faces, verdicts, strict=True)):
            yield Candidate(start + i, verdict, None if seen is None else float(seen[i]), face)
            kept += verdict == KEPT
            if kept == wanted:
                return
