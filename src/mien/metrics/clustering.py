"""Agreement of two ways to sort the same samples into clusters: pairwise and BCubed precision and recall.

A label below zero means "in no cluster": each such sample is a cluster of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from mien.errors import EvaluationError

__all__ = ["Agreement", "bcubed", "pairwise"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Precision and recall of a clustering.

    Attributes:
        precision: How pure the found clusters are; 1 where no one was put with a stranger.
        recall: How whole they are; 1 where no one was split.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def pairwise(truth: Shaped[np.ndarray, " samples"], found: Shaped[np.ndarray, " samples"]) -> Agreement:
    """Score the decision "same cluster" over all pairs of samples; large clusters count most.

    Without any pair to be right or wrong about, the rate is 1.

    Example:
        >>> pairwise(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
        Agreement(precision=0.5, recall=0.3333333333333333)
    """
    true_sizes, found_sizes, both = _tables(truth, found)
    shared, in_truth, in_found = (_pairs(both[2]), _pairs(true_sizes), _pairs(found_sizes))
    return Agreement(shared / in_found if in_found else 1.0, shared / in_truth if in_truth else 1.0)


def bcubed(truth: Shaped[np.ndarray, " samples"], found: Shaped[np.ndarray, " samples"]) -> Agreement:
    """Average over samples how pure and how whole each one's own cluster is; every sample counts the same.

    Source: A. Bagga and B. Baldwin, COLING-ACL 1998; E. Amigó et al., Information Retrieval 12(4), 2009.
    """
    true_sizes, found_sizes, (true_ids, found_ids, counts) = _tables(truth, found)
    total = counts.sum()
    # Each of the n samples in a cell shares its cluster with n of its own subject.
    squares = counts.astype(np.float64) ** 2
    precision = float((squares / found_sizes[found_ids]).sum() / total)
    recall = float((squares / true_sizes[true_ids]).sum() / total)
    return Agreement(precision, recall)


def _pairs(sizes: Int[np.ndarray, " clusters"]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _tables(
    truth: Shaped[np.ndarray, " samples"], found: Shaped[np.ndarray, " samples"]
) -> tuple[
    Int[np.ndarray, " subjects"],
    Int[np.ndarray, " clusters"],
    tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"], Int[np.ndarray, " cells"]],
]:
    """Return cluster sizes of both labelings, and the non-empty cells of their contingency table."""
    first, second = _numbered(truth), _numbered(found)
    if len(first) != len(second) or not len(first):
        raise EvaluationError(f"Expected two labels a sample, got {len(first)} and {len(second)}.")
    width = int(second.max()) + 1
    cells, counts = np.unique(first * width + second, return_counts=True)
    return np.bincount(first), np.bincount(second), (cells // width, cells % width, counts)


def _numbered(labels: Shaped[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
    labels = np.asarray(labels)
    numbers = np.unique(labels, return_inverse=True)[1].ravel()
    if np.issubdtype(labels.dtype, np.number):
        alone = labels < 0
        numbers[alone] = len(labels) + np.arange(np.count_nonzero(alone))
        numbers = np.unique(numbers, return_inverse=True)[1].ravel()
    return np.asarray(numbers)
