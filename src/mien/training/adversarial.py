"""What a generator and a discriminator learn from each other: losses of scores, and penalties on steep scores.

Scores have shape (batch, 1), or a column a scale; higher is more like a photograph. Every function returns a scalar in
float32 to be lowered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mien.networks.gan import HALF_RANGE

__all__ = ["Game", "approximate_penalty", "discriminator_loss", "exact_penalty", "generator_loss"]

Game = Literal["relativistic", "hinge", "nonsaturating"]
Scores = Float[Tensor, "batch scales"]
Images = Float[Tensor, "batch channels side side"]


def discriminator_loss(game: Game, real: Scores, fake: Scores) -> Float[Tensor, ""]:
    """Return what the discriminator lowers.

    Args:
        game: Of these, relativistic compares each photograph with the drawn picture in the same row, which should be
            of the same class; the others judge each on its own.
        real: Scores of photographs.
        fake: Scores of drawn pictures.

    Source: relativistic: A. Jolicoeur-Martineau, ICLR 2019, equation 5; hinge: J. Lim and J. Ye, "Geometric GAN",
    2017; nonsaturating: I. Goodfellow et al., NeurIPS 2014, equation 1.
    """
    if game == "relativistic":
        return functional.softplus(fake - real).mean()
    if game == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(game: Game, real: Scores | None, fake: Scores) -> Float[Tensor, ""]:
    """Return what the generator lowers; see `discriminator_loss`. Only the relativistic game looks at photographs."""
    if game == "relativistic":
        assert real is not None, "a relativistic generator is compared with photographs"
        return functional.softplus(real - fake).mean()
    if game == "hinge":
        return -fake.mean()
    return functional.softplus(-fake).mean()


def exact_penalty(scores: Scores, pixels: Images) -> Float[Tensor, ""]:
    """Return the mean squared length of the scores' gradient, per unit of half the range of grey levels.

    Args:
        scores: Of ``pixels``, computed with gradients.
        pixels: 0 to 255, a leaf that requires gradients.

    Source: L. Mescheder et al., "Which training methods for GANs do actually converge?", ICML 2018, equation 9.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), pixels, create_graph=True)
    return (gradient.float() * HALF_RANGE).square().sum((1, 2, 3)).mean()


def approximate_penalty(
    score: Callable[[Images], Scores], scores: Scores, pixels: Images, *, sigma: float = 0.01
) -> Float[Tensor, ""]:
    """Return the same, estimated by one random step from each picture; its gradient needs a single backward pass.

    The squared difference of scores over the squared step has the squared slope as its mean. What it teaches is right
    on average only: on one batch of 32 the gradient of fresh weights points elsewhere than the exact one (cosine 0.1 at
    sigma 0.01) and is several times as long, because the steps cross kinks. Compute the scores in float32.

    Args:
        score: The discriminator.
        scores: What it gives for ``pixels``.
        pixels: 0 to 255.
        sigma: Standard deviation of the step, in half ranges of grey levels.

    Source: S. Lin et al., "Diffusion adversarial post-training for one-step video generation", ICML 2025, equation 4.
    """
    moved = score(pixels + torch.randn_like(pixels) * (sigma * HALF_RANGE))
    return ((moved - scores) / sigma).square().sum(1).mean()
