"""Networks in PyTorch. They take pixels 0 to 255: mean and scale are part of the network, not of its caller."""

from mien.networks.expression import (
    AveragedNets,
    ExpressionNet,
    ExpressionNetConfig,
    FaceTrunk,
    TutorialCNN,
    expression_net,
)
from mien.networks.restoration import RestorationNetConfig, Restorer
from mien.networks.sizes import count_macs, count_parameters
from mien.networks.vae import VAE, VAENetConfig

__all__ = [
    "VAE",
    "AveragedNets",
    "ExpressionNet",
    "ExpressionNetConfig",
    "FaceTrunk",
    "RestorationNetConfig",
    "Restorer",
    "TutorialCNN",
    "VAENetConfig",
    "count_macs",
    "count_parameters",
    "expression_net",
]
