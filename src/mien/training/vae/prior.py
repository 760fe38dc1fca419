"""A prior fitted to the latents that an encoder gives: Gaussian mixtures by class, shrunk where data are few.

N(0, I) is what a VAE was pulled towards, not where its latents came to lie; drawing from a fit of them gives better
pictures (Ghosh et al., "From variational to deterministic autoencoders", ICLR 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

__all__ = ["Prior", "fit_prior", "shrunk"]

Points = Float64[np.ndarray, "points latents"]
Matrix = Float64[np.ndarray, "latents latents"]

_PER_COMPONENT = 4  # latents times this: fewer points than that make no component of their own
_LEAST_POINTS = 8  # that a component stands for: one of a single point would draw just that picture again and again
_MOST_POINTS = 10_000  # of a class; more change little and take longer
_ROUNDS, _STILL = 30, 0.02  # of EM at most; it ends when the mean log density gains less (nats a point)
_FLOOR = 1e-4  # least variance in any direction


@dataclass(frozen=True, eq=False)
class Prior:
    """A mixture of Gaussians.

    Attributes:
        weights: Of the components; they sum to one over all classes.
        means: Shape (components, latents).
        factors: Lower triangular; a factor times its transpose is the covariance; (components, latents, latents).
        labels: Class of each component, -1 for any.
    """

    weights: Float64[np.ndarray, " components"]
    means: Float64[np.ndarray, "components latents"]
    factors: Float64[np.ndarray, "components latents latents"]
    labels: Int64[np.ndarray, " components"]

    def __len__(self) -> int:
        return len(self.weights)

    def log_density(
        self, points: Points, labels: Int[np.ndarray, " points"] | None = None
    ) -> Float64[np.ndarray, " p"]:
        """Return log p(z), or log p(z | label) where labels are given, nats by row."""
        parts = _log_parts(points, self.weights, self.means, self.factors)
        if labels is None:
            return np.asarray(logsumexp(parts, axis=1))
        fits = (self.labels[None] == labels[:, None]) | (self.labels[None] == -1)
        share = np.log(np.where(fits, self.weights, 0.0).sum(axis=1))
        return np.asarray(logsumexp(np.where(fits, parts, -np.inf), axis=1) - share)


def fit_prior(
    points: Points, labels: Int[np.ndarray, " points"] | None = None, *, components: int = 10, seed: int = 0
) -> Prior:
    """Fit a mixture of Gaussians with full covariances, one for each class, by expectation maximisation.

    Args:
        points: Latents, at least two.
        labels: Class of each; None fits one mixture for all. Classes without points have no component.
        components: Of a class; small classes have fewer.
        seed: Of the start (k-means++).
    """
    points = np.asarray(points, dtype=np.float64)
    labels = np.full(len(points), -1) if labels is None else np.asarray(labels)
    assert len(points) >= 2 and components >= 1 and points.shape[:1] == labels.shape
    classes = np.unique(labels)
    # What all classes share is estimated best from all points, each around its own class's mean.
    around = np.concatenate([points[labels == label] - points[labels == label].mean(axis=0) for label in classes])
    own = around.T @ around / len(around)
    target = shrunk(around, own, np.diag(np.diag(own)))
    weights, means, factors, of = [], [], [], []
    for label in classes:
        some = points[labels == label]
        rng = np.random.default_rng([seed, int(label) + 1])
        share = len(some) / len(points)
        if len(some) > _MOST_POINTS:
            some = some[rng.choice(len(some), _MOST_POINTS, replace=False)]
        count = min(components, max(len(some) // (_PER_COMPONENT * points.shape[1]), 1))
        found = _mixture(some, count, target, rng)
        weights.append(found[0] * share)
        means.append(found[1])
        factors.append(found[2])
        of.append(np.full(len(found[0]), label, dtype=np.int64))
    return Prior(np.concatenate(weights), np.concatenate(means), np.concatenate(factors), np.concatenate(of))


def shrunk(
    points: Points, covariance: Matrix, target: Matrix, weights: Float64[np.ndarray, " points"] | None = None
) -> Matrix:
    """Return a covariance moved towards a target, the further the less the points tell about it.

    Args:
        points: Centred, those behind the covariance.
        covariance: Their own.
        target: What to move towards.
        weights: How much each point counted; default all alike.

    Source: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004, theorem
    3.2 and lemma 3.3, with a given target in place of the scaled identity; for Gaussian points: Chen et al.,
    "Shrinkage algorithms for MMSE covariance estimation", 2010, equation 7.
    """
    weights = np.ones(len(points)) if weights is None else weights
    total = weights.sum()
    # Squared error of the covariance's entries, summed: the spread of x x^T over the points' effective number. Of a
    # handful of points that spread looks small by chance; Gaussian ones have as much as this.
    size = float(np.square(covariance).sum())
    spread = float(weights @ np.square(np.square(points).sum(axis=1)) / total) - size
    gaussian = float(np.trace(covariance)) ** 2 + size
    others = float(total**2 / np.square(weights).sum()) - 1
    noise = max(spread, gaussian) / max(others, 1e-9)
    distance = float(np.square(covariance - target).sum())
    # A single point tells nothing of a spread.
    share = min(noise / distance, 1.0) if distance > 0 and others > 1e-9 else 1.0
    return (1 - share) * covariance + share * target


def _mixture(
    points: Points, count: int, target: Matrix, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k latents"], Float64[np.ndarray, "k latents latents"]]:
    """Return weights, means and factors of one class."""
    means = _spread_out(points, count, rng)
    distances = np.square(points).sum(1)[:, None] - 2 * points @ means.T + np.square(means).sum(1)
    shares = np.eye(count)[distances.argmin(axis=1)]
    before = -np.inf
    for _ in range(_ROUNDS):
        crowded = shares.sum(axis=0) >= _LEAST_POINTS
        if not crowded.any():
            crowded[shares.sum(axis=0).argmax()] = True
        shares, count = shares[:, crowded], int(crowded.sum())
        weights = np.maximum(shares.sum(axis=0), 1e-9) / len(points)
        means = shares.T @ points / np.maximum(shares.sum(axis=0), 1e-9)[:, None]
        factors = np.stack([_factor(points - means[k], shares[:, k], target) for k in range(count)])
        parts = _log_parts(points, weights, means, factors)
        whole = logsumexp(parts, axis=1, keepdims=True)
        shares = np.exp(parts - whole)
        density = float(whole.mean())
        if density - before < _STILL:
            break
        before = density
    return weights / weights.sum(), means, factors


def _factor(around: Points, shares: Float64[np.ndarray, " points"], target: Matrix) -> Matrix:
    """Return the Cholesky factor of a component's shrunk covariance."""
    own = (around * shares[:, None]).T @ around / shares.sum()
    covariance = shrunk(around, own, target, shares)
    return np.asarray(np.linalg.cholesky(covariance + _FLOOR * np.eye(len(covariance))))


def _spread_out(points: Points, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "k latents"]:
    """Choose points far from each other (k-means++, Arthur and Vassilvitskii, SODA 2007)."""
    chosen = [points[rng.integers(len(points))]]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.square(points - chosen[-1]).sum(axis=1))
        total = nearest.sum()
        chosen.append(points[rng.choice(len(points), p=nearest / total if total > 0 else None)])
    return np.stack(chosen)


def _log_parts(
    points: Points,
    weights: Float64[np.ndarray, " k"],
    means: Float64[np.ndarray, "k latents"],
    factors: Float64[np.ndarray, "k latents latents"],
) -> Float64[np.ndarray, "points k"]:
    """Return log(weight) + log N(point; mean, covariance) of each point and component."""
    parts = np.empty((len(points), len(weights)))
    for k, (mean, factor) in enumerate(zip(means, factors, strict=True)):
        white = solve_triangular(factor, (points - mean).T, lower=True)
        constant = np.log(np.diag(factor)).sum() + 0.5 * points.shape[1] * np.log(2 * np.pi)
        parts[:, k] = np.log(weights[k]) - 0.5 * np.square(white).sum(axis=0) - constant
    return parts
