"""A generator that begins as a VAE: its decoder, and the fitted prior as its noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import Float, Int
from onnx import numpy_helper
from torch import Tensor

from mien import zoo
from mien.errors import ModelError, TrainingError
from mien.images import printable
from mien.networks.gan import (
    PriorGenerator,
)
from mien.networks.vae import VAE
from mien.training.gan.config import GANConfig
from mien.training.gan.material import Material
from mien.training.publishing import publish_network
from mien.training.vae.grafting import DonorFlow, has_flow
from mien.training.vae.loading import load_vae

__all__ = ["Beginning", "copy_encoder", "load_beginning"]


@dataclass(frozen=True, eq=False)
class Beginning:
    """A finished VAE run that a generator begins as.

    Attributes:
        vae: The network.
        classes: Number of labels that its decoder knows.
        means: Of the fitted prior's components.
        factors: Of them.
        of: Label of each component, -1 for any.
        weights: Of each.
        flow: What its samples are drawn from, where it has one and latents are a vector: that of a map takes too long.
    """

    vae: VAE
    classes: int
    means: Float[Tensor, "components latents"]
    factors: Float[Tensor, "components latents latents"]
    of: Int[np.ndarray, " components"]
    weights: Float[np.ndarray, " components"]
    flow: DonorFlow | None

    def generator(self) -> PriorGenerator:
        """Return the generator, as it begins."""
        return PriorGenerator(self.vae, self.classes, self.means, self.factors)

    def components(self, labels: Int[np.ndarray, " batch"], chance: torch.Generator) -> Int[Tensor, " batch"]:
        """Draw a component of the prior for each label, numbered from 1."""
        shares = np.ones((len(labels), 1)) * self.weights
        if self.classes:
            shares = shares * ((self.of == labels[:, None]) | (self.of == -1))
        return torch.multinomial(torch.from_numpy(shares), 1, generator=chance)[:, 0] + 1


def load_beginning(folder: Path, config: GANConfig, material: Material) -> Beginning:
    """Read the VAE that a generator begins as, of a run or shipped.

    Raises:
        TrainingError: It is no finished run of a VAE, or draws other pictures or classes.
    """
    vae, facts = load_vae(folder)
    ours: tuple[object, ...] = (config.side, config.colour, config.template, list(material.classes), [])
    theirs = (vae.config.side, vae.config.colour, facts["template"], facts["labels"], facts["attributes"])
    for what, mine, other in zip(("side", "colour", "template", "labels", "attributes"), ours, theirs, strict=True):
        if mine != other:
            raise TrainingError(
                f"The VAE of '{printable(folder)}' has {what} {other}, this training has {mine}. They must be alike: "
                f"change the settings, or train another VAE."
            )
    try:
        card = zoo.named(folder)
        graph = onnx.load_model(zoo.path(card)).graph
        parts = np.array(card.convention["components"], dtype=np.float64)
        # Half-precision weights carry the suffix.
        values = {item.name.removesuffix(".half").split(".")[-1]: item for item in graph.initializer}
        # The first one is what takes noise for latents.
        means, factors = (
            torch.from_numpy(np.array(numpy_helper.to_array(values[name]))).float()[1:] for name in ("means", "factors")
        )
    except (ModelError, OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"'{printable(folder)}' holds no fitted prior ({error}). Finish that training first: same command."
        ) from error
    classes, of = len(material.classes), parts[:, 0].astype(np.int64)
    flow = DonorFlow(folder, classes) if has_flow(folder) and not vae.config.spatial else None
    return Beginning(vae, classes, means, factors, of, parts[:, 1], flow)


def copy_encoder(config: GANConfig) -> bool:
    """Copy the encoder of the VAE that a generator began as and whose latents it draws; return whether it has one."""
    assert config.init is not None, "an anchored generator has one"
    try:
        encoder = zoo.companion(zoo.named(config.init), "encoder")
        weights = zoo.path(encoder).read_bytes()
    except (ModelError, OSError, KeyError):
        return False
    publish_network(
        config.out / "encoder.onnx",
        weights,
        name=f"{config.out.resolve().name}-encoder",
        role=encoder.role,
        version=encoder.version,
        summary=encoder.summary,
        licence=encoder.licence,
        training_data=encoder.training_data,
        convention=encoder.convention,
        metrics=encoder.metrics,
    )
    return True
