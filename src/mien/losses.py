"""Losses, as functions of tensors. Each gives one number a row, so that the caller decides how rows are averaged.

A row of shares that holds NaN is unlabelled: its loss is zero, and so is its gradient.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["distillation", "focal", "logit_adjusted", "soft_cross_entropy"]

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


def _labelled(shares: Logits) -> tuple[Rows, Logits]:
    """Return 1 or 0 by row, and the shares with zeros for NaN."""
    labelled = ~shares.isnan().any(1)
    return labelled.to(shares.dtype), torch.where(labelled[:, None], shares, 0.0)
