"""What a person's pictures do to an embedding, learned from other people: drawn, whitened, and judged by quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional

from mien.types import as_unit

__all__ = ["ConditionalVAE", "Whitening", "pairs_of", "quality_slope", "train_vae"]

Vectors = Float32[np.ndarray, "faces dimension"]
Owners = Int[np.ndarray, " faces"]

_SHRINK = 0.6  # of the covariance within people towards a multiple of the identity
_POWER, _OFF = 0.5, 0.5  # of the inverse of that; share of the mean face taken off. Both chosen on half A
_LATENTS, _WIDTH = 16, 256
_BATCH, _RATE, _DECAY = 512, 1e-3, 1e-2
_WARM_UP = 0.25  # of the steps, in which the KL's weight rises to 1


@dataclass(frozen=True)
class Whitening:
    """A linear map that shortens the directions in which pictures of one person differ: within-class whitening.

    One side of it alone: references are mapped, probes are as they are, so that a gallery is searched as before.

    Source: A. Hatch et al., "Within-class covariance normalization for SVM-based speaker recognition", 2006; between
    nothing and all of it as of `_POWER`.
    """

    mean: Float[np.ndarray, " dimension"]
    matrix: Float[np.ndarray, "dimension dimension"]

    @classmethod
    def fit(cls, vectors: Vectors, owner: Owners) -> Whitening:
        """Fit it to unit embeddings of people with two pictures or more."""
        people, place, counts = np.unique(owner, return_inverse=True, return_counts=True)
        means = np.zeros((len(people), vectors.shape[1]))
        np.add.at(means, place, vectors)
        means /= counts[:, None]
        apart = vectors - means[place]
        within = apart.T @ apart / max(len(vectors) - len(people), 1)
        size = np.trace(within) / len(within)
        values, axes = np.linalg.eigh((1 - _SHRINK) * within + _SHRINK * size * np.eye(len(within)))
        return cls(_OFF * vectors.mean(axis=0), (axes * np.maximum(values, 1e-9) ** -_POWER) @ axes.T)

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the mapped embeddings, unit length."""
        return as_unit((vectors - self.mean) @ self.matrix)


def quality_slope(
    scores: Float[np.ndarray, " comparisons"],
    quality: Float[np.ndarray, " comparisons"],
    mated: Int[np.ndarray, " comparisons"],
) -> float:
    """Return how much score a unit of a reference's quality is worth, by logistic regression.

    Args:
        scores: Of comparisons, about as many mated as strangers' best.
        quality: Of the reference, log-odds.
        mated: 1 or 0.

    Returns:
        What is added to a score a unit of quality; below 0 where poor references get too low scores.
    """
    table = np.stack([np.ones(len(scores)), scores, quality], axis=1)
    weights = np.zeros(3)
    spread = table.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    scaled = table / scale
    for _ in range(50):  # Newton's method
        p = 1 / (1 + np.exp(-np.clip(scaled @ weights, -30, 30)))
        hessian = (scaled * (p * (1 - p))[:, None]).T @ scaled + 1e-6 * np.eye(3)
        weights += np.linalg.solve(hessian, scaled.T @ (mated - p))
    found = weights / scale
    return float(found[2] / found[1])


class ConditionalVAE(nn.Module):
    """Other embeddings of the person whose one embedding is given: a VAE of what differs between two of them.

    The decoder's variance is what is best for the batch, in closed form, as in this project's VAEs of faces.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2 * dimension, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, 2 * _LATENTS))
        last = nn.Linear(_WIDTH, dimension)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.decoder = nn.Sequential(nn.Linear(dimension + _LATENTS, _WIDTH), nn.GELU(), last)

    def loss(self, one: Tensor, other: Tensor, kl_weight: float) -> Tensor:
        """Return the negative ELBO of ``other`` given ``one``, nats a face, shapes (faces, dimension)."""
        mean, log_variance = self.encoder(torch.cat([one, other], 1)).chunk(2, 1)
        drawn = self.decoded(one, mean + torch.randn_like(mean) * (log_variance / 2).exp())
        squared = (drawn - other).square().mean().clamp_min(1e-8)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        lost: Tensor = other.shape[1] / 2 * squared.log() + kl_weight * kl
        return lost

    def decoded(self, one: Tensor, latents: Tensor) -> Tensor:
        """Return other embeddings of the person of ``one``."""
        moved: Tensor = self.decoder(torch.cat([one, latents], 1))
        return functional.normalize(one + moved, dim=1)

    @torch.no_grad()
    def draw(self, vectors: Vectors, count: int, seed: int) -> Float32[np.ndarray, "faces count dimension"]:
        """Draw embeddings of the people of these."""
        self.eval()
        generator = torch.Generator().manual_seed(seed)
        one = torch.from_numpy(np.repeat(vectors, count, axis=0))
        drawn = self.decoded(one, torch.randn(len(one), _LATENTS, generator=generator)).numpy()
        return drawn.reshape(len(vectors), count, vectors.shape[1])


def train_vae(vectors: Vectors, owner: Owners, seed: int, *, steps: int) -> ConditionalVAE:
    """Train it on pairs of pictures of people with two pictures or more."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = ConditionalVAE(vectors.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    table = torch.from_numpy(vectors)
    for step in range(steps):
        one, other = pairs_of(owner, _BATCH, rng)
        optimizer.param_groups[0]["lr"] = _RATE * (1 + np.cos(np.pi * step / steps)) / 2
        loss = model.loss(table[one], table[other], min(1.0, step / max(_WARM_UP * steps, 1)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def pairs_of(
    owner: Owners, count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " count"], Int[np.ndarray, " count"]]:
    """Draw pairs of different faces of one person each; people with one face have none."""
    order = np.argsort(owner, kind="stable")
    _, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
    several = np.nonzero(counts > 1)[0]
    person = several[rng.integers(len(several), size=count)]
    first = rng.integers(counts[person])
    second = (first + rng.integers(1, counts[person])) % counts[person]
    return order[starts[person] + first], order[starts[person] + second]
