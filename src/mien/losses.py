"""Losses, as functions of tensors. Each gives one number a row, so that the caller decides how rows are averaged.

A row of shares that holds NaN is unlabelled: its loss is zero, and so is its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "distillation",
    "focal",
    "free_bits",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "logit_adjusted",
    "optimal_sigma",
    "perceptual_distance",
    "soft_cross_entropy",
]

Logits = Float[Tensor, "batch classes"]
Rows = Float[Tensor, " batch"]


def soft_cross_entropy(logits: Logits, shares: Logits, *, smoothing: float = 0.0) -> Rows:
    """Return the cross-entropy to a distribution over classes, nats by row.

    Args:
        logits: Of the network, shape (batch, classes).
        shares: What raters chose; a row sums to one, or holds NaN where there is no label.
        smoothing: Part of each row that is spread evenly over all classes (Szegedy et al., CVPR 2016, section 7).
    """
    labelled, shares = _labelled(shares)
    shares = shares * (1 - smoothing) + smoothing / shares.shape[1]
    return -(logits.log_softmax(1) * shares).sum(1) * labelled


def focal(logits: Logits, shares: Logits, *, gamma: float = 2.0, smoothing: float = 0.0) -> Rows:
    """Return the cross-entropy with what is already sure weighing little, by row.

    Args:
        logits: Of the network, shape (batch, classes).
        shares: As for `soft_cross_entropy`.
        gamma: 0 is cross-entropy; larger turns attention to rows that are hard.
        smoothing: As for `soft_cross_entropy`.

    Source: Lin et al., ICCV 2017, equation 4, weighted by the share of each class.
    """
    labelled, shares = _labelled(shares)
    shares = shares * (1 - smoothing) + smoothing / shares.shape[1]
    logs = logits.log_softmax(1)
    # 1 - p from the logarithm: exact where p is next to 1, and never negative.
    doubt = -torch.expm1(logs.clamp(max=-1e-7))
    return -(doubt**gamma * logs * shares).sum(1) * labelled


def logit_adjusted(logits: Logits, prior: Float[Tensor, " classes"], *, tau: float = 1.0) -> Logits:
    """Add each class's log frequency, so that a network trained through it favours no class for being common.

    Args:
        logits: Of the network, shape (batch, classes).
        prior: Frequencies in the training data; they sum to one.
        tau: 0 changes nothing, 1 balances the classes.

    Source: Menon et al., ICLR 2021, equation 10.
    """
    return logits + tau * prior.clamp_min(1e-6).log()


def distillation(logits: Logits, teacher: Logits, *, temperature: float) -> Rows:
    """Return the divergence KL(teacher || network) of softened probabilities, by row.

    Args:
        logits: Of the network, shape (batch, classes).
        teacher: Logits of the teacher, or log probabilities, same shape.
        temperature: Both are divided by it; the result is multiplied by its square, so that gradients keep their size.

    Source: Hinton et al., arXiv 1503.02531, section 2.
    """
    target = (teacher / temperature).log_softmax(1)
    divergence = (target.exp() * (target - (logits / temperature).log_softmax(1))).sum(1)
    return divergence * math.pow(temperature, 2)


def gaussian_kl(
    mean: Float[Tensor, "batch latents"], log_variance: Float[Tensor, "batch latents"]
) -> Float[Tensor, "batch latents"]:
    """Return KL(N(mean, exp(log_variance)) || N(0, 1)) of every latent of every row, in nats.

    Source: Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def free_bits(divergence: Float[Tensor, "batch latents"], least: float) -> Float[Tensor, ""]:
    """Return the mean divergence of a batch, where no latent gains by falling below ``least`` nats.

    Args:
        divergence: Of every latent of every row, as `gaussian_kl` gives it.
        least: Nats a latent, on the mean of the batch; 0 changes nothing.

    Source: Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016, equation 15.
    """
    return divergence.mean(0).clamp_min(least).sum()


def optimal_sigma(squares: Float[Tensor, " batch"], values: int, *, least: float = math.exp(-6)) -> Float[Tensor, ""]:
    """Return the standard deviation under which reconstructions of a batch are likeliest: the root mean square error.

    Args:
        squares: Summed squared errors, by row.
        values: Behind each sum: pixels times channels.
        least: Never below this, in the unit of the errors.

    Source: Rybkin et al., "Simple and effective VAE training with calibrated decoders", ICML 2021, equation 8.
    """
    return (squares.mean() / values).sqrt().clamp_min(least)


def gaussian_log_likelihood(
    squares: Float[Tensor, " batch"], values: int, sigma: float | Float[Tensor, ""]
) -> Float[Tensor, " batch"]:
    """Return log N(x; reconstruction, sigma^2) by row, in nats.

    Args:
        squares: Summed squared errors, by row.
        values: Behind each sum.
        sigma: Standard deviation of every value, in the unit of the errors.
    """
    variance = torch.as_tensor(sigma, dtype=squares.dtype, device=squares.device).square()
    return -0.5 * (squares / variance + values * (variance.log() + math.log(2 * math.pi)))


def perceptual_distance(
    ours: Sequence[Float[Tensor, "batch _ _ _"]], theirs: Sequence[Float[Tensor, "batch _ _ _"]]
) -> Rows:
    """Return how far feature maps are apart, by row, summed over the maps.

    At each place the channels are scaled to unit length; squared differences are summed over channels and averaged
    over places.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018,
    equation 1, all weights one.
    """
    total = torch.zeros(len(ours[0]), device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        unit_a, unit_b = (x.float() / x.float().square().sum(1, keepdim=True).add(1e-10).sqrt() for x in (a, b))
        total = total + (unit_a - unit_b).square().sum(1).mean((1, 2))
    return total


def _labelled(shares: Logits) -> tuple[Rows, Logits]:
    """Return 1 or 0 by row, and the shares with zeros for NaN."""
    labelled = ~shares.isnan().any(1)
    return labelled.to(shares.dtype), torch.where(labelled[:, None], shares, 0.0)
