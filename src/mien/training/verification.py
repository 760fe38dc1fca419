"""Two embedders on the same faces of held-out subjects: which one is better, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from mien.errors import DataError
from mien.metrics.calibration import cllr, fit_logistic
from mien.metrics.intervals import Interval, percentile_interval, subject_weights
from mien.metrics.verification import eer, resampled_eer, resampled_fnmr, tar_at_fmr
from mien.types import as_unit

__all__ = ["Comparisons", "Figure", "Verdict", "calibrated_cost", "comparisons", "judge"]

RATES = (1e-1, 1e-2, 1e-3)
_MOST_IMPOSTORS = 200_000
_REPLICATES = 400

Vectors = Float32[np.ndarray, "faces dimension"]


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Which faces are compared.

    Attributes:
        genuine: Pairs of faces of one subject, shape (genuine, 2).
        impostor: Pairs of faces of two subjects, shape (impostor, 2).
        subjects: Number of each face's subject, shape (faces,).
    """

    genuine: Int[np.ndarray, "genuine 2"]
    impostor: Int[np.ndarray, "impostor 2"]
    subjects: Int[np.ndarray, " faces"]

    def scores(self, vectors: Vectors) -> tuple[Float[np.ndarray, " genuine"], Float[np.ndarray, " impostor"]]:
        """Return cosine similarities of vectors of any length."""
        unit = as_unit(vectors)
        first, second = (
            np.einsum("ij,ij->i", unit[pairs[:, 0]], unit[pairs[:, 1]]) for pairs in (self.genuine, self.impostor)
        )
        return first, second


def comparisons(subjects: Shaped[np.ndarray, " faces"], *, most: int = _MOST_IMPOSTORS, seed: int = 0) -> Comparisons:
    """Return all genuine pairs, and all impostor pairs or as many as ``most`` drawn of them.

    Raises:
        DataError: There are fewer than two subjects, or none of them has two faces.
    """
    names, numbers = np.unique(subjects, return_inverse=True)
    pairs = [_pairs(np.flatnonzero(numbers == number)) for number in range(len(names))]
    genuine = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    if len(names) < 2 or not len(genuine):
        raise DataError(
            f"Verification needs at least 2 subjects and one with 2 faces; a split has {len(names)} subjects and "
            f"{len(subjects)} faces. Add subjects, or pictures of those there are."
        )
    if len(subjects) ** 2 <= 4 * most:
        every = _pairs(np.arange(len(subjects)))
        impostor = every[numbers[every[:, 0]] != numbers[every[:, 1]]]
    else:
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(subjects), size=(2 * most, 2))
        impostor = drawn[numbers[drawn[:, 0]] != numbers[drawn[:, 1]]]
        rng.shuffle(impostor)
    return Comparisons(genuine, impostor[:most], numbers)


def calibrated_cost(vectors: Vectors, pairs: Comparisons) -> float:
    """Return the log-likelihood-ratio cost in bits after the best straight line: smooth, lower is better."""
    genuine, impostor = pairs.scores(vectors)
    line = fit_logistic(genuine, impostor)
    return cllr(line.llr(genuine), line.llr(impostor))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its 95 % interval, resampling subjects."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} % ({100 * self.interval[0]:.2f} to {100 * self.interval[1]:.2f})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A new embedder beside its base, on the same comparisons.

    Attributes:
        subjects: Held-out subjects.
        faces: Of them.
        num_genuine: Mated comparisons.
        num_impostor: Non-mated comparisons.
        base: The base's figures by name: ``eer``, ``tar_at_fmr_0.01``, ...
        new: The new one's.
        difference: New minus base, paired: the same resampled subjects for both.
        measure: The name that decides; chosen before anything was measured.
        built_on: Name of the base.
        outcome: `better` or `worse` where the interval of the difference excludes 0, otherwise `not shown`.
    """

    subjects: int
    faces: int
    num_genuine: int
    num_impostor: int
    base: Mapping[str, Figure]
    new: Mapping[str, Figure]
    difference: Mapping[str, Figure]
    measure: str
    outcome: str
    built_on: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def sentence(self) -> str:
        """Say in words what may be claimed."""
        base = self.built_on
        measured = (
            f"{self.measure} {self.new[self.measure]} against {self.base[self.measure]}, difference "
            f"{self.difference[self.measure]}, {self.subjects} held-out subjects"
        )
        if self.outcome == "better":
            return f"It beats {base}: {measured}."
        if self.outcome == "worse":
            return f"It is worse than {base}: {measured}. Use {base}."
        return f"It is not shown to beat {base}: {measured}. Use {base}, or train on more subjects."


def judge(
    base: Vectors, new: Vectors, subjects: Shaped[np.ndarray, " faces"], *, built_on: str, fmr: float = 1e-2
) -> Verdict:
    """Compare two embedders on held-out subjects by a paired bootstrap over subjects.

    Args:
        base: Vectors of the base, shape (faces, dimension).
        new: Vectors of the new one; any length, another dimension or not.
        subjects: Of each face, shape (faces,).
        built_on: Name of the base.
        fmr: The true accept rate at this false match rate decides.

    Raises:
        DataError: Too few subjects or comparisons to measure at this rate.
    """
    pairs = comparisons(subjects)
    if len(pairs.impostor) * fmr < 1:
        raise DataError(
            f"FMR {fmr:g} needs at least {round(1 / fmr)} comparisons between subjects, the held-out ones give "
            f"{len(pairs.impostor)}. Add subjects."
        )
    rates = tuple(sorted({*(rate for rate in RATES if len(pairs.impostor) * rate >= 1), fmr}, reverse=True))
    names = ["eer", *(_name(rate) for rate in rates)]
    scores = [pairs.scores(vectors) for vectors in (base, new)]
    points = np.array([[eer(*both), *(tar_at_fmr(*both, fmr=rate) for rate in rates)] for both in scores])
    owners = pairs.subjects[pairs.genuine[:, 0]], pairs.subjects[pairs.impostor]
    chunks = []
    for weights in subject_weights(*owners, replicates=_REPLICATES):
        errors = [resampled_eer(*both, *weights)[:, None] for both in scores]
        accepts = [1 - resampled_fnmr(*both, *weights, fmr=np.array(rates)) for both in scores]
        chunks.append(np.stack([np.hstack(parts) for parts in zip(errors, accepts, strict=True)]))
    draws = np.concatenate(chunks, axis=1)

    def figures(values: np.ndarray, replicates: np.ndarray) -> dict[str, Figure]:
        return {
            name: Figure(float(value), percentile_interval(column))
            for name, value, column in zip(names, values, replicates.T, strict=True)
        }

    difference = figures(points[1] - points[0], draws[1] - draws[0])
    low, high = difference[_name(fmr)].interval
    return Verdict(
        subjects=int(pairs.subjects.max()) + 1,
        faces=len(subjects),
        num_genuine=len(pairs.genuine),
        num_impostor=len(pairs.impostor),
        base=figures(points[0], draws[0]),
        new=figures(points[1], draws[1]),
        difference=difference,
        measure=_name(fmr),
        built_on=built_on,
        outcome="better" if low > 0 else "worse" if high < 0 else "not shown",
    )


def _name(rate: float) -> str:
    return f"tar_at_fmr_{rate:g}"


def _pairs(members: Int[np.ndarray, " members"]) -> Int[np.ndarray, "pairs 2"]:
    first, second = np.triu_indices(len(members), 1)
    return np.stack([members[first], members[second]], axis=1)
