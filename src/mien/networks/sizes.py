"""How large a network is, and how much it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["count_macs", "count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """Return the number of learned values."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, *x: Tensor) -> int:
    """Return multiplications with addition of one pass over its inputs, in convolutions and linear layers.

    Normalisation, activations and pooling are left out: they are a few percent, and folded or fused at run time.
    """
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        # A weight is used once for each place of the output (and once a row of the batch).
        places = output.numel() // layer.weight.shape[0]
        total += layer.weight.numel() * places

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(*x)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total
