"""Scores that mean the same for everybody: each face is judged by how crowded its surroundings are.

A network that saw few faces of some look puts all of them close together, and one threshold for all then takes
strangers of that look for one another. A cohort, embeddings of people who are nobody in particular, shows how crowded
the place of a face is, and distances are measured in units of that: with ``d`` the distance of a face to its nearest
neighbours of the cohort, two faces ``a`` and ``b`` of similarity ``s`` are about ``(1 - s) / sqrt(d_a * d_b)`` apart.

That is a cosine again: a unit vector ``x`` becomes ``(x, t) / sqrt(1 + t^2)`` with ``t^2 = d / floor - 1``, and for
faces in equally crowded places the new cosine is ``1 - (1 - s) * floor / d``. So templates stay unit vectors, one
value longer, and whatever compares, searches or groups them needs to know nothing of this.

Source: L. Zelnik-Manor, P. Perona, "Self-tuning spectral clustering", NIPS 17, 2004 (distances in local units);
D. Schnitzer et al., "Local and global scaling reduce hubs in space", JMLR 13, 2012.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import Float, Float32, Int

from mien.errors import ModelError, UsageError
from mien.types import as_unit

if TYPE_CHECKING:
    from mien.vision.conventions import EmbedderConvention
    from mien.zoo import Card

__all__ = ["FEWEST", "OWN", "Cohort", "cohort_of", "make_cohort", "pooled", "too_few", "with_cohort"]

NEIGHBOURS = 20
OWN = "gallery"
"""What a card names where the cohort is a gallery's own, and not one of those that come with mien."""

FEWEST = 100
"""People that a cohort of one's own needs: the nearest of fewer are nobody's neighbours."""
_MOST = 500  # centres: more were no better (benchmarks/results/score_normalisation.json)
_PEOPLE, _LEAST = 10, 3  # of whom a centre is the mean: usually, at least
_ROUNDS = 12
_FLOOR = 0.4  # of the usual distance: places that are more crowded still are rare, and treated alike


class Cohort:
    """Embeddings of nobody, and what they make of a face's embedding.

    Args:
        vectors: Unit embeddings, shape (centres, dimension).
        neighbours: How many of them, the nearest, say how crowded the place of a face is.
        floor: Distance (1 - cosine) below which places count as equally crowded; above 0.

    Raises:
        ModelError: The vectors are no finite unit vectors, all the same, or fewer than the neighbours.
    """

    def __init__(self, vectors: Float[np.ndarray, "centres dimension"], *, neighbours: int, floor: float) -> None:
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise ModelError("A cohort is a table of finite numbers, a row an embedding.")
        if len(vectors) < neighbours:
            raise ModelError(f"A cohort needs at least {neighbours} embeddings, got {len(vectors)}.")
        self.stored = np.ascontiguousarray(vectors, "<f2")
        self.vectors = as_unit(self.stored)
        if float((self.vectors @ self.vectors[0]).min()) > 1 - 1e-6:
            raise ModelError("All embeddings of the cohort are the same. Name pictures of different people.")
        if not (floor > 0 and neighbours > 0):
            raise ModelError(f"A cohort's floor and neighbours are above 0, got {floor:g} and {neighbours}.")
        self.neighbours, self.floor = neighbours, floor

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the scores depend on, in hex."""
        facts = f"{self.neighbours} {self.floor!r} {self.stored.shape}".encode()
        return hashlib.sha256(facts + self.stored.tobytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the vectors as a `.npy` file in half precision."""
        file = io.BytesIO()
        np.save(file, self.stored, allow_pickle=False)
        return file.getvalue()

    def to_text(self) -> str:
        """Return everything as JSON, for `of_text`."""
        vectors = base64.b64encode(self.to_bytes()).decode()
        facts = {"neighbours": self.neighbours, "floor": self.floor, "sha256": self.digest}
        return json.dumps({**facts, "vectors": vectors})

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read what `to_text` returned.

        Raises:
            ModelError: It is none.
        """
        try:
            stored = json.loads(text)
            data = io.BytesIO(base64.b64decode(stored["vectors"], validate=True))
            vectors = np.load(data, allow_pickle=False)
            cohort = cls(vectors, neighbours=int(stored["neighbours"]), floor=float(stored["floor"]))
            digest = stored["sha256"]
        except (ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
            raise ModelError("A cohort is JSON with vectors, neighbours, floor and digest; this is none.") from error
        if cohort.digest != digest:
            raise ModelError("The cohort differs from its digest: it is damaged.")
        return cohort

    def distance(self, vectors: Float32[np.ndarray, "faces dimension"]) -> Float32[np.ndarray, " faces"]:
        """Return the mean distance (1 - cosine) of unit embeddings to their nearest neighbours of the cohort."""
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ModelError(
                f"The cohort's embeddings have {self.vectors.shape[1]} values, these {vectors.shape[1]}: it was made "
                "with another embedder."
            )
        scores = vectors @ self.vectors.T
        nearest = np.partition(scores, -self.neighbours, axis=1)[:, -self.neighbours :]
        return np.asarray(1 - nearest.mean(axis=1), np.float32)

    def normalise(self, vectors: Float32[np.ndarray, "faces dimension"]) -> Float32[np.ndarray, "faces longer"]:
        """Return unit embeddings of one value more, whose cosine is the normalised score."""
        crowding = np.sqrt(np.maximum(self.distance(vectors) / np.float32(self.floor) - 1, 0))
        return as_unit(np.concatenate([vectors, crowding[:, None]], axis=1))

    @staticmethod
    def undo(vectors: Float[np.ndarray, "faces longer"]) -> Float32[np.ndarray, "faces dimension"]:
        """Return the unit embeddings that `normalise` was given, by whatever cohort."""
        return as_unit(vectors[:, :-1])


def pooled(
    vectors: Float[np.ndarray, "samples dimension"], weights: Float[np.ndarray, " samples"] | None = None
) -> Float32[np.ndarray, " dimension"]:
    """Return one unit embedding for several of one person, as they are stored: with the value of a cohort, or without.

    The last value of a normalised embedding says how crowded the place of a face is, in units of the length of the
    others. It is averaged by itself: the mean of directions is shorter than each of them, so that a mean of all values
    would take every person for one in a crowded place, and strangers for that person. For embeddings without a cohort
    it is one value among a hundred, and nothing changes.

    Args:
        vectors: Unit embeddings of one model.
        weights: How much each counts; default all alike.
    """
    counts = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    wide = np.asarray(vectors, np.float64)
    length = np.maximum(np.linalg.norm(wide[:, :-1], axis=1), 1e-12)
    direction = counts @ (wide[:, :-1] / length[:, None])
    crowding = counts @ (wide[:, -1] / length) / counts.sum()
    return as_unit(np.append(direction / max(float(np.linalg.norm(direction)), 1e-12), crowding))


def subject_scorer(
    references: Float32[np.ndarray, "samples dimension"], starts: Int[np.ndarray, " subjects"]
) -> Callable[[Float32[np.ndarray, "probes dimension"]], Float32[np.ndarray, "probes subjects"]]:
    """Return what scores subjects as a gallery does: the mean of the nearest sample's score and that of all together.

    A gallery pools the samples of the few subjects that may come first; this scores all of them that way.

    Args:
        references: Unit embeddings, each subject's after one another.
        starts: Where each subject's begin, rising; at least one.
    """
    together = np.array([pooled(samples) for samples in np.split(references, starts[1:])], dtype=np.float32)
    alone = np.diff(starts, append=len(references)) == 1

    def scores(probes: Float32[np.ndarray, "probes dimension"]) -> Float32[np.ndarray, "probes subjects"]:
        nearest = np.maximum.reduceat(probes @ references.T, starts, axis=1)
        return np.asarray((nearest + np.where(alone, nearest, probes @ together.T)) / 2)

    return scores


def make_cohort(vectors: Float32[np.ndarray, "people dimension"], *, seed: int = 0) -> Cohort:
    """Make a cohort of people: each of its embeddings is the mean of about ten who look alike, and is nobody's.

    Args:
        vectors: Unit embeddings, one a person.
        seed: Of the clustering.

    Raises:
        UsageError: There are fewer than `FEWEST` people.
    """
    if len(vectors) < FEWEST:
        raise UsageError(too_few(len(vectors)))
    if not np.isfinite(vectors).all():
        raise UsageError("A cohort is made of finite embeddings, and some of these are not.")
    centres = _cluster(as_unit(vectors), min(_MOST, max(len(vectors) // _PEOPLE, NEIGHBOURS + 5)), seed)
    if len(centres) < FEWEST // _PEOPLE:
        raise UsageError(f"Of {len(vectors)} people hardly two look different. Name pictures of different people.")
    loose = Cohort(centres, neighbours=min(NEIGHBOURS, len(centres) - 1), floor=1.0)
    floor = round(float(np.median(loose.distance(as_unit(vectors)))) * _FLOOR, 4)
    return Cohort(centres, neighbours=loose.neighbours, floor=max(floor, 1e-4))


def too_few(people: int) -> str:
    """Say that so many people make no cohort."""
    return f"A cohort needs at least {FEWEST} different people, got {people}. Name a folder with more of them."


def cohort_of(convention: EmbedderConvention) -> Cohort | None:
    """Return the cohort that a card names; None where it names none.

    Raises:
        ModelError: The file is not the one that the card was made with.
    """
    if convention.cohort is None:
        return None
    if convention.cohort == OWN:
        raise ModelError("This card is of a gallery's own cohort. Take the analyzer that goes with it: for_gallery.")
    cohort = shipped_cohort(convention.cohort, convention.neighbours, convention.floor)
    if cohort.digest != convention.cohort_sha256:
        raise ModelError(f"The cohort '{convention.cohort}' is damaged or of another version. Install mien anew.")
    return cohort


def with_cohort(card: Card, cohort: Cohort) -> Card:
    """Return the card of an embedder with a cohort of one's own, for which nothing was measured yet."""
    own = {"cohort": OWN, "cohort_sha256": cohort.digest, "neighbours": cohort.neighbours, "floor": cohort.floor}
    return replace(card, convention={**card.convention, **own}, operating_points=(), probability=None, groups=())


@cache
def shipped_cohort(name: str, neighbours: int, floor: float) -> Cohort:
    """Return a cohort that comes with mien, read once."""
    data = resources.files("mien").joinpath("weights", f"{name}.npy").read_bytes()
    return Cohort(np.load(io.BytesIO(data), allow_pickle=False), neighbours=neighbours, floor=floor)


def _cluster(
    vectors: Float32[np.ndarray, "people dimension"], count: int, seed: int
) -> Float32[np.ndarray, "centres dimension"]:
    """Return the means of like faces: k-means on the sphere, without clusters of hardly anybody."""
    rng = np.random.default_rng(seed)
    centres = vectors[rng.choice(len(vectors), count, replace=False)]
    for round_number in range(_ROUNDS):
        owner: Int[np.ndarray, " people"] = np.argmax(vectors @ centres.T, axis=1)
        sums = np.zeros((len(centres), vectors.shape[1]), np.float64)
        np.add.at(sums, owner, vectors)
        least = _LEAST if round_number == _ROUNDS - 1 else 1
        centres = as_unit(sums[np.bincount(owner, minlength=len(centres)) >= least])
    return centres
