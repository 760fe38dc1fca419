"""Settings of the training of a network that restores faces."""

from __future__ import annotations

from dataclasses import dataclass, field

from mien.alignment import TEMPLATES
from mien.data.degradation import Damage
from mien.errors import UsageError
from mien.networks import RestorationNetConfig
from mien.training.config import PictureConfig

__all__ = ["RestorationConfig"]


@dataclass(frozen=True, kw_only=True)
class RestorationConfig(PictureConfig):
    """Settings of the training of a restorer, beside those of every training on pictures.

    Attributes:
        aligned: The pictures are faces cut by the template already: nothing is looked for in them.
        canvas: Side of the faces that are kept in memory, px; crops are taken out of them at several sizes.
        net: The network.
        damage: How pictures are spoilt.
        occluded: Share with something before the face.
        told: Share of these in which the network is told where it stands.
        zoom: Least and largest side of the part of a canvas that a crop shows, as a share of the network's side.
        covered_weight: How much more an error counts where something stands before the face.
        finding: Weight of finding what stands before the face.
        identity: Weight of the recogniser's cosine; 0 leaves the recogniser out.
        perceptual: Weight of the recogniser's maps.
        judged: Share of a batch that the recogniser sees: it costs more than all the rest.
        learning_rate: The highest of the schedule; it ends at a twentieth.
        warmup: Images until it is reached, at most a tenth of the training.
        weight_decay: Of filters.
        ema_half_life: Images after which a weight's share in the published average has halved.
        checked: Pictures that a report looks at.
    """

    aligned: bool = False
    canvas: int = 120
    net: RestorationNetConfig = field(default_factory=RestorationNetConfig)
    damage: Damage = field(default_factory=Damage)
    occluded: float = 0.35
    told: float = 0.5
    zoom: tuple[float, float] = (0.95, 1.25)
    covered_weight: float = 2.0
    finding: float = 0.05
    identity: float = 2.0
    perceptual: float = 0.1
    judged: float = 0.125
    learning_rate: float = 1.5e-3
    warmup: int = 5_000
    weight_decay: float = 1e-4
    ema_half_life: float = 10_000
    checked: int = 256
    template: str = "loose-120"
    batch_size: int = 32
    report_every: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("occluded", "told", "judged"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("covered_weight", "finding", "identity", "perceptual", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise UsageError(f"Setting 'zoom' is two rising numbers above 0, got {self.zoom[0]:g}, {self.zoom[1]:g}.")
        if self.canvas < self.net.side:
            raise UsageError(f"Setting 'canvas' is at least net.side, {self.net.side} px, got {self.canvas}.")

    @property
    def sees_people(self) -> bool:
        """Whether a recogniser has a say."""
        return self.judged > 0 and (self.identity > 0 or self.perceptual > 0)

    @property
    def own_side(self) -> int:
        """Side of the template, px."""
        return TEMPLATES[self.template].side
