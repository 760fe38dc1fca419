"""What is done about a run that goes wrong, and about variations that adapt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mien.training.gan.config import GANConfig
from mien.training.ranks import Ranks

__all__ = ["ADAPT_EVERY", "Rules", "ScoreMeter"]

ADAPT_EVERY = 1024  # images between two looks at the adaptive variation
_OVERFIT_GAP = 3.0
_EQUAL_GAP = 0.02
_EASINGS = 3  # of the penalty before a collapsed run is given up


class ScoreMeter:
    """Running sums of discriminator scores, kept on the device so that no step has to wait for it."""

    def __init__(self, device: torch.device) -> None:
        self.since_report = torch.zeros(3, device=device)  # pictures, right, distance between both kinds
        self.since_adapted = torch.zeros(2, device=device)  # pictures, signs
        self.images = 0  # since the last adaptation
        self.penalty = torch.zeros(2, device=device)  # how many, sum

    def note(self, real: Tensor, fake: Tensor, *, relativistic: bool) -> None:
        """Add a batch of scores."""
        real, fake = real.detach().mean(1), fake.detach().mean(1)
        # Relativistic scores have no zero of their own: the middle between both kinds stands in for it.
        zero = (real.mean() + fake.mean()) / 2 if relativistic else real.new_zeros(())
        count = real.new_full((), len(real))
        right = ((real > zero).float() + (fake < zero).float()).sum() / 2
        self.since_report += torch.stack([count, right, (real - fake).sum()])
        self.since_adapted += torch.stack([count, torch.sign(real - zero).sum()])
        self.images += len(real)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "since_report": self.since_report,
            "since_look": self.since_adapted,  # its older name, which checkpoints keep
            "images": self.images,
            "penalty": self.penalty,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.since_report.copy_(state["since_report"])
        self.since_adapted.copy_(state["since_look"])
        self.penalty.copy_(state["penalty"])
        self.images = int(state["images"])


class Rules:
    """What is done about a run that goes wrong, and the probability of variations, which adapts all the time.

    Attributes:
        probability: Of each variation, 0 to 1.
        easing: What the penalty's weight is multiplied by; without a penalty, both learning rates.
        hopeless: Whether nothing helped.

    Source: the probability: T. Karras et al., "Training GANs with limited data", NeurIPS 2020, section 3.
    """

    def __init__(self, config: GANConfig) -> None:
        self.config = config
        self.probability = config.probability
        self.easing = 1.0
        self.hopeless = False
        self._narrow_since: int | None = None
        self._equal_since: int | None = None
        self._easings = 0

    def adapt(self, meter: ScoreMeter, ranks: Ranks) -> None:
        """Move the probability towards where photographs are scored as such as often as the target says."""
        if not self.config.adapt_images or meter.images * ranks.world < ADAPT_EVERY:
            return
        count, signs = meter.since_adapted.tolist()
        sign = ranks.mean(signs / max(count, 1))
        step = meter.images * ranks.world / self.config.adapt_images
        moved = self.probability + (step if sign > self.config.target else -step)
        # It may start above the most that it adapts to.
        self.probability = min(max(moved, 0.0), max(self.config.probability_most, self.config.probability))
        meter.since_adapted.zero_()
        meter.images = 0

    def act(self, images: int, figures: Mapping[str, float], least: float | None) -> list[str]:
        """Return what was found wrong and what is done about it, a line each."""
        health, said = self.config.health, list[str]()
        eased = "both learning rates have" if self.config.penalty == "none" else "the penalty has"
        if not health.images:
            return said
        warm = images >= health.act_from * self.config.images
        self._narrow_since = _since(self._narrow_since, warm and figures["spread"] < health.spread, images)
        self._equal_since = _since(self._equal_since, warm and abs(figures["gap"]) < _EQUAL_GAP, images)
        for since, what in (
            (self._narrow_since, f"samples of a class are nearly alike (spread {figures['spread']:.2f})"),
            (self._equal_since, f"the discriminator tells nothing apart (gap {figures['gap']:.3f})"),
        ):
            if since is None or images - since < health.images:
                continue
            self._easings += 1
            self._narrow_since = self._equal_since = None
            if self._easings > _EASINGS:
                self.hopeless = True
                return [f"For {images - since:,} images {what}, though {eased} been halved {_EASINGS} times."]
            self.easing /= 2
            said.append(
                f"For {images - since:,} images {what}: {eased} been halved, to {self.easing:g} of the schedule."
            )
            break
        if warm and least is not None and figures["gap"] > _OVERFIT_GAP and figures["distance"] > 1.5 * least:
            self.probability = min(self.probability + 0.1, 0.9)
            said.append(
                f"Scores lie {figures['gap']:.1f} apart and samples get worse: photographs are memorised. "
                f"Variation rises to {self.probability:.2f}."
            )
        return said

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "probability": self.probability,
            "easing": self.easing,
            "narrow_since": self._narrow_since,
            "equal_since": self._equal_since,
            "easings": self._easings,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.probability, self.easing = state["probability"], state["easing"]
        self._narrow_since, self._equal_since = state["narrow_since"], state["equal_since"]
        self._easings = state["easings"]


def _since(since: int | None, holds: bool, images: int) -> int | None:
    if not holds:
        return None
    return images if since is None else since
