"""How far generated pictures are from real ones, in the features of any network. Higher or lower: each function says.

None of these distances is "FID": that name belongs to one network, one way of resizing and 50,000 samples. A figure
here means something beside the same figure of two halves of the real pictures, measured with as many samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

from mien.errors import EvaluationError

__all__ = [
    "Neighbourhoods",
    "endless_frechet_distance",
    "frechet_distance",
    "kernel_distance",
    "neighbourhoods",
    "sharpness",
    "spread_ratio",
]

Features = Float[np.ndarray, "samples dimension"]
Labels = Int[np.ndarray, " samples"]

BLOCK = 2_000_000  # distances held at once: bounds memory at some tens of MB


def frechet_distance(real: Features, fake: Features) -> float:
    """Return the squared Frechet distance between the Gaussians fitted to two sets; 0 and more, lower is closer.

    It is biased upwards, the more the fewer samples: compare only figures of equally many.

    Args:
        real: Features, shape (samples, dimension), at least two samples.
        fake: Likewise; the count may differ.

    Raises:
        EvaluationError: There are fewer than two samples, the dimensions differ, or a feature is not finite.

    Example:
        >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [9.0]]))  # deviations 2^0.5 and 18^0.5
        33.0

    Source: D. Dowson, B. Landau, "The Frechet distance between multivariate normal distributions", 1982: |m - n|^2 +
    tr(C + D - 2 (C D)^1/2). With C = A'A and D = B'B the last trace is the sum of the singular values of A B': no
    square root of a matrix is taken, and neither rank nor conditioning matter.
    """
    a, b = _checked(real, fake, least=2)
    shift = a.mean(axis=0) - b.mean(axis=0)
    a, b = _root(a), _root(b)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    # Rounding must not push equal sets below zero.
    return max(float(shift @ shift + np.vdot(a, a) + np.vdot(b, b) - 2 * overlap), 0.0)


def endless_frechet_distance(real: Features, fake: Features, *, points: int = 5, seed: int = 0) -> float:
    """Return the Frechet distance that infinitely many samples would have: a line through it against 1 / samples.

    Args:
        real: Features, shape (samples, dimension), at least 20 samples.
        fake: As many.
        points: Sizes between a quarter of the samples and all of them.
        seed: Of the draws.

    Raises:
        EvaluationError: There are too few samples, or not equally many.

    Source: M. Chong, D. Forsyth, "Effectively unbiased FID and Inception Score and where to find them", CVPR 2020.
    """
    a, b = _checked(real, fake, least=20)
    if len(a) != len(b):
        raise EvaluationError(f"Expected as many generated as real samples, got {len(b)} and {len(a)}.")
    rng = np.random.default_rng(seed)
    inverse = np.linspace(4 / len(a), 1 / len(a), points)
    values = []
    for size in np.round(1 / inverse).astype(int):
        values.append(frechet_distance(rng.permutation(a)[:size], rng.permutation(b)[:size]))
    return float(np.polyfit(inverse, values, 1)[1])


def kernel_distance(real: Features, fake: Features, *, size: int | None = None, seed: int = 0) -> tuple[float, float]:
    """Return the squared kernel distance (maximum mean discrepancy) and its standard error; 0 for equal distributions.

    The kernel is (x.y / dimension + 1)^3. The estimate is unbiased, so that it may be below zero. It is the mean over
    subsets that share no sample: their scatter is the error.

    Args:
        real: Features, shape (samples, dimension).
        fake: Likewise.
        size: Of a subset; default a tenth of the smaller set, 10 to 1,000.
        seed: Of the split into subsets.

    Raises:
        EvaluationError: There are fewer than two subsets of two samples.

    Source: M. Binkowski et al., "Demystifying MMD GANs", ICLR 2018; subsets that overlap, as there, have an error that
    looks too small.
    """
    a, b = _checked(real, fake, least=4)
    count = min(len(a), len(b))
    size = min(max(count // 10, 10), 1000, count // 2) if size is None else size
    if not 2 <= size <= count // 2:
        raise EvaluationError(f"Two subsets of {size} need at least {2 * max(size, 2)} samples, got {count}.")
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(a), rng.permutation(b)
    parts = [slice(start, start + size) for start in range(0, count - size + 1, size)]
    values = np.array([_discrepancy(a[part], b[part]) for part in parts])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """What generated and real samples lie near each other; higher is better.

    Attributes:
        precision: Share of generated samples inside the neighbourhood of some real one: do they look real?
        recall: Share of real samples inside the neighbourhood of some generated one: is all of reality drawn?
        density: In how many real neighbourhoods a generated sample lies, over what is expected: 1 for real samples.
        coverage: Share of real samples with a generated one in their neighbourhood; unlike recall, generated outliers
            do not raise it.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(real: Features, fake: Features, *, k: int = 5) -> Neighbourhoods:
    """Measure precision, recall, density and coverage. A neighbourhood reaches to the k-th nearest of its own kind.

    Args:
        real: Features, shape (samples, dimension), more than k samples.
        fake: Likewise.
        k: Neighbours.

    Raises:
        EvaluationError: There are not more than k samples, the dimensions differ, or a feature is not finite.

    Source: T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS
    2019; M. Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020.
    """
    a, b = _checked(real, fake, least=k + 1)
    own_a, own_b = _reach(a, k), _reach(b, k)
    inside = np.zeros(len(b), np.int64)
    recalled, covered = np.zeros(len(a), dtype=bool), np.zeros(len(a), dtype=bool)
    for start, distances in distance_blocks(a, b):
        rows = slice(start, start + len(distances))
        near = distances <= own_a[rows, None]
        inside += near.sum(axis=0)
        covered[rows] = near.any(axis=1)
        recalled[rows] = (distances <= own_b).any(axis=1)
    return Neighbourhoods(
        precision=float((inside > 0).mean()),
        recall=float(recalled.mean()),
        density=float(inside.mean() / k),
        coverage=float(covered.mean()),
    )


def spread_ratio(real: Features, fake: Features, real_labels: Labels, fake_labels: Labels) -> float:
    """Return how widely the generated samples of a class spread, over the real ones; 1 is right, near 0 is collapse.

    Spread is the mean distance to the class's mean; ratios are averaged over the classes that both sets have two
    samples of. A set of one class is given equal labels.

    Raises:
        EvaluationError: No class has two samples in both sets, or real samples of a class do not differ.
    """
    a, b = _checked(real, fake, least=2)
    ratios = []
    for label in np.intersect1d(real_labels, fake_labels):
        one, other = a[real_labels == label], b[fake_labels == label]
        if min(len(one), len(other)) >= 2:
            ratios.append(_spread(other) / max(_spread(one), np.finfo(np.float64).tiny))
    if not ratios or not np.isfinite(ratios).all():
        raise EvaluationError("No class has two different real and two generated samples: spread cannot be compared.")
    return float(np.mean(ratios))


def sharpness(images: UInt8[np.ndarray, "images height width *colour"]) -> float:
    """Return the variance of the Laplacian, averaged over pictures; higher is sharper, and so is noise.

    Args:
        images: Grey (images, height, width) or RGB (images, height, width, 3), whose channels are averaged.

    Example:
        >>> stripes = np.tile(np.array([[0, 255]], np.uint8), (1, 4, 2))
        >>> sharpness(stripes), sharpness(stripes // 2 * 0)
        (260100.0, 0.0)
    """
    if images.ndim not in (3, 4) or min(images.shape[1:3], default=0) < 3 or not len(images):
        raise EvaluationError(f"Sharpness is of pictures of 3 x 3 px and more, got an array of shape {images.shape}.")
    values = []
    for image in images:  # one at a time: as float64 they take eight times the memory
        x = image.astype(np.float64)
        x = x.mean(axis=2) if x.ndim == 3 else x
        values.append((x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]).var())
    return float(np.mean(values))


def _checked(real: Features, fake: Features, *, least: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise EvaluationError(f"Expected two sets of features of one dimension, got shapes {a.shape} and {b.shape}.")
    if min(len(a), len(b)) < least:
        raise EvaluationError(f"This distance needs at least {least} samples a set, got {len(a)} and {len(b)}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise EvaluationError("A feature is not finite: is a picture, or the network that looks at it, broken?")
    return a, b


def _root(features: Float64[np.ndarray, "samples dimension"]) -> Float64[np.ndarray, "rank dimension"]:
    """Return A with A'A the covariance, as few rows as it needs."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def _discrepancy(a: Float64[np.ndarray, "size dimension"], b: Float64[np.ndarray, "size dimension"]) -> float:
    n, dimension = a.shape

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x @ y.T / dimension + 1) ** 3)

    within = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (kernel(a, a), kernel(b, b)))
    return float(within - 2 * kernel(a, b).mean())


def _reach(x: Float64[np.ndarray, "samples dimension"], k: int) -> Float64[np.ndarray, " samples"]:
    """Return the squared distance of each sample to its k-th nearest neighbour."""
    reach = np.empty(len(x))
    for start, distances in distance_blocks(x, x):
        # The nearest is the sample itself.
        reach[start : start + len(distances)] = np.partition(distances, k, axis=1)[:, k]
    return reach


def distance_blocks(
    a: Float64[np.ndarray, "rows d"], b: Float64[np.ndarray, "columns d"]
) -> Iterator[tuple[int, Float64[np.ndarray, "block columns"]]]:
    """Yield squared distances, some rows at a time: (first row, distances)."""
    squares = np.einsum("nd,nd->n", b, b)
    step = max(BLOCK // len(b), 1)
    for start in range(0, len(a), step):
        part = a[start : start + step]
        distances = np.einsum("nd,nd->n", part, part)[:, None] + squares - 2 * part @ b.T
        yield start, np.maximum(distances, 0.0)


def _spread(features: Float64[np.ndarray, "samples dimension"]) -> float:
    distances = np.linalg.norm(features - features.mean(axis=0), axis=1)
    # The mean is fitted to the same samples: with few of them distances come out too small.
    return float(distances.mean() * np.sqrt(len(features) / (len(features) - 1)))
