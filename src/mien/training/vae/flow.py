"""A flow fitted to the latents that an encoder gives: what samples are drawn from, unless the mixture is asked for.

A mixture of Gaussians also draws latents where no face was, and a decoder makes smears of them; a flow learns where
faces are. It can learn latents by heart, too: the loss on faces held out ends the fitting, and an audit has the last
word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mien.errors import TrainingError, UsageError
from mien.networks.flow import LatentFlow, Restarts, Velocity, VelocityNetConfig, build_velocity_net
from mien.training.ema import EMA
from mien.training.precision import autocast
from mien.training.reporter import Reporter
from mien.training.run import position_seed, seed_torch
from mien.training.schedule import decayed, warmup_cosine

__all__ = ["FittedFlow", "FlowConfig", "Posteriors", "fit_flow", "show_looks", "velocity_loss"]

_JUDGED = 4096  # moments at which a loss is measured: the same ones in every report
_PART = 1024  # of them at once
_LEAST_LOOKS = 10  # at the faces held out, however short the fitting is
_LEAST_SCALE = 1e-3  # standard deviations: a latent that is not used varies by rounding only
_TOLD = 10  # looks of which one is told
_LEAST_GAIN = 1e-4  # of the held-out loss: less of it is no progress

Rows = Float32[np.ndarray, "faces latents"]


@dataclass(frozen=True)
class FlowConfig:
    """Settings of a flow in latents.

    Attributes:
        images: Length of the fitting at most, in latents seen.
        passes: Times at most that each latent is seen: of few faces more is learned by heart.
        batch_size: Latents a step.
        learning_rate: The highest of the schedule; it falls to a fiftieth.
        weight_decay: Of matrices.
        ema_half_life: Latents after which a weight's share in the published average has halved.
        forget: Share of latents whose condition is left out, so that it can be followed more or less (guidance).
        report_every: Latents between two looks at the faces held out.
        patience: So many looks without a smaller loss end the fitting; of a flow that is learned on, those of the first
            third do not count.
        time_mean: Moments are learned at as a normal variable with this mean, squashed to 0 to 1: below 0 more of them
            lie near the noise, where it is settled what a face will be.
        steps: Of the way from noise to a latent, in the published network; each costs two passes.
        restarts: Of the way, with new noise: sharper and more varied samples, and more broken ones, for more passes.
        guidance: How far the condition is followed unless a call says so.
        autoguidance: How far samples go on from a smaller flow past this one: 1 fits no smaller one, more draws
            more typical faces.
        grading: How far samples of a flow that is told grades go on from those of the worst past those of the best.
        weak: The network of the smaller one.
        weak_images: Length of its fitting.
        precision: bf16 computes products in bfloat16: faster for a transformer, where the processor has it.
        net: The network.
    """

    images: int = 1_500_000
    passes: int = 100
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_half_life: float = 50_000
    forget: float = 0.15
    report_every: int = 25_600
    patience: int = 8
    time_mean: float = 0.0
    steps: int = 8
    restarts: Restarts = field(default_factory=Restarts)
    guidance: float = 2.5
    autoguidance: float = 1.0
    grading: float = 0.0
    weak: VelocityNetConfig = field(default_factory=lambda: VelocityNetConfig(width=128, blocks=3, code=64))
    weak_images: int = 80_000
    precision: Literal["fp32", "bf16"] = "fp32"
    net: VelocityNetConfig = field(default_factory=VelocityNetConfig)

    def __post_init__(self) -> None:
        for name in ("images", "passes", "batch_size", "report_every", "patience", "weak_images"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting 'flow.{name}' is at least 1, got {getattr(self, name)}.")
        if not 1 <= self.steps <= 64:
            raise UsageError(f"Setting 'flow.steps' is 1 to 64, got {self.steps}.")
        if not self.learning_rate > 0:
            raise UsageError(f"Setting 'flow.learning_rate' is above 0, got {self.learning_rate:g}.")
        for name in ("weight_decay", "ema_half_life"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting 'flow.{name}' is 0 or more, got {getattr(self, name):g}.")
        if not 0 <= self.forget < 1:
            raise UsageError(f"Setting 'flow.forget' lies in [0, 1), got {self.forget:g}.")
        if not 1 <= self.autoguidance <= 4:
            raise UsageError(f"Setting 'flow.autoguidance' is 1 to 4, got {self.autoguidance:g}.")
        if not 0 <= self.grading <= 4:
            raise UsageError(f"Setting 'flow.grading' is 0 to 4, got {self.grading:g}.")
        if not 0 <= self.guidance <= 10:
            raise UsageError(f"Setting 'flow.guidance' is 0 to 10, got {self.guidance:g}.")


@dataclass(frozen=True, eq=False)
class Posteriors:
    """What an encoder says of faces.

    Attributes:
        mean: Of each latent, shape (faces, latents).
        deviation: Standard deviation of each.
        condition: What is known of each face, shape (faces, condition); None where nothing is.
        places: Of the latents' map; 1 where they are a vector.
        grade: How good an example each face is, 0 to 1; None where that does not count.
    """

    mean: Rows
    deviation: Rows
    condition: Float32[np.ndarray, "faces condition"] | None = None
    places: int = 1
    grade: Float32[np.ndarray, " faces"] | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, count: int) -> Posteriors:
        """Return at most so many of them, spread evenly."""
        some = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        condition = None if self.condition is None else self.condition[some]
        grade = None if self.grade is None else self.grade[some]
        return Posteriors(self.mean[some], self.deviation[some], condition, self.places, grade)


@dataclass(frozen=True, eq=False)
class FittedFlow:
    """A flow, and how well it was fitted.

    Attributes:
        flow: For drawing.
        valid_loss: Mean squared error of velocities on faces held out, of the flow that is kept.
        train_loss: The same on faces learned from: much lower where latents were learned by heart.
        images: Latents that it had seen.
        rows: Losses at each look.
    """

    flow: LatentFlow
    valid_loss: float
    train_loss: float
    images: int
    rows: tuple[Mapping[str, float], ...]

    @property
    def figures(self) -> dict[str, float]:
        """What a summary says of it."""
        losses = {"flow_valid_loss": self.valid_loss, "flow_train_loss": self.train_loss}
        guided = {} if self.flow.weak is None else {"flow_autoguidance": self.flow.autoguidance}
        graded = {} if self.flow.grading is None else {"flow_grading": self.flow.grading}
        return {**losses, "flow_images": self.images, **guided, **graded}


def fit_flow(
    train: Posteriors,
    valid: Posteriors,
    config: FlowConfig,
    *,
    seed: int = 0,
    init: Mapping[str, Tensor] | None = None,
    device: torch.device | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> FittedFlow:
    """Fit a flow, and keep it as it was where the loss on faces held out was smallest.

    Everything random follows from the seed and the position.

    Args:
        train: Of faces to learn from.
        valid: Of faces held out.
        config: How.
        seed: Of the start and of all draws.
        init: Weights to begin with, of a network built alike.
        device: Where to compute; default the CPU.
        report: Called at each look.

    Raises:
        TrainingError: There is nothing to learn from or to check with, or the loss is no number.
    """
    if len(train) < 2 or not len(valid):
        raise TrainingError(
            f"A flow needs faces to learn from and faces to check with, got {len(train)} and {len(valid)}. Add "
            f"pictures, or take the mixture: --prior mixture."
        )
    device = device or torch.device("cpu")
    weak = None
    if config.autoguidance > 1:  # first, so that settings that do not fit are refused before the long fitting
        smaller = replace(config, net=config.weak, images=config.weak_images, autoguidance=1.0)
        weak = fit_flow(train, valid, smaller, seed=seed, device=device).flow.net
    centre = train.mean.mean(axis=0)
    spread = np.sqrt(train.mean.var(axis=0) + np.square(train.deviation).mean(axis=0))
    scale = np.maximum(spread, _LEAST_SCALE)
    mean, deviation, condition = _placed(train, centre, scale, device)
    size = 0 if condition is None else condition.shape[1]

    torch.manual_seed(seed)
    net = build_velocity_net(config.net, mean.shape[1], places=train.places, condition=size).to(device)
    if init is not None:
        try:
            net.load_state_dict(init)
        except RuntimeError as error:
            raise TrainingError(
                "The flow to begin with is built otherwise than flow.net says, or for other latents. Give it the same "
                "settings, or leave it out."
            ) from error
    ema = EMA(net, half_life_images=config.ema_half_life)
    groups = decayed(net, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, 0.99))
    judged = {"valid": valid.take(_JUDGED), "train": train.take(min(_JUDGED, max(len(valid), 1)))}
    rows: list[Mapping[str, float]] = []
    best, kept, waited, seen = math.inf, {}, 0, 0
    length = min(config.images, config.passes * len(train))
    every = min(config.report_every, max(length // _LEAST_LOOKS, 1))
    while seen < length and waited < config.patience:
        # Learn from one batch.
        seed_torch(position_seed(seed, seen))
        some = torch.randint(len(mean), (config.batch_size,)).to(device)
        told = (torch.rand(config.batch_size) >= config.forget).float().to(device)
        latents = mean[some] + deviation[some] * torch.randn(config.batch_size, mean.shape[1]).to(device)
        time = torch.sigmoid(config.time_mean + torch.randn(config.batch_size)).to(device)
        noise = torch.randn(config.batch_size, mean.shape[1]).to(device)
        net.train()
        with autocast(device, config.precision):
            loss = _errors(net, latents, noise, time, None if condition is None else condition[some], told).mean()
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = warmup_cosine(
            seen + config.batch_size, length, length // 50, config.learning_rate,
            final=config.learning_rate / 50,
        )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        ema.update(net, batch_size=config.batch_size)
        seen += config.batch_size

        # Now and then, look at faces held out.
        if seen % every < config.batch_size or seen >= length:
            with autocast(device, config.precision):
                losses = {
                    f"{name}_loss": velocity_loss(ema.model, faces, centre, scale) for name, faces in judged.items()
                }
            row = {"images": seen, **losses}
            if not math.isfinite(losses["valid_loss"]):
                raise TrainingError("The loss of the flow is no number. Lower flow.learning_rate.")
            rows.append(row)
            if report is not None:
                report(row)
            # One that is learned on forgets a little while the rate is high.
            waited += init is None or seen >= length // 3
            if losses["valid_loss"] < best - _LEAST_GAIN:
                best, waited = losses["valid_loss"], 0
                kept = {key: value.clone() for key, value in ema.model.state_dict().items()}
                found = row
    ema.model.load_state_dict(kept)
    flow = LatentFlow(
        ema.model.cpu().eval(),
        torch.from_numpy(centre).float(),
        torch.from_numpy(scale).float(),
        steps=config.steps,
        weak=weak,
        autoguidance=config.autoguidance,
        restarts=config.restarts,
        grading=None if train.grade is None else config.grading,
    )
    return FittedFlow(flow, found["valid_loss"], found["train_loss"], int(found["images"]), tuple(rows))


def show_looks(reporter: Reporter) -> Callable[[Mapping[str, float]], None]:
    """Return what shows each look of `fit_flow`, and tells the losses of one in ten, for there are hundreds."""
    looks = 0

    def tell(row: Mapping[str, float]) -> None:
        nonlocal looks
        seen = int(row["images"])
        reporter.advance(seen)
        if looks % _TOLD == 0:
            reporter.report(seen, **{name: value for name, value in row.items() if name != "images"})
        looks += 1

    return tell


@torch.no_grad()
def velocity_loss(
    net: Velocity,
    faces: Posteriors,
    centre: Float[np.ndarray, " latents"],
    scale: Float[np.ndarray, " latents"],
) -> float:
    """Return the mean squared error of velocities towards some faces, at moments that are always the same ones."""
    device = next(net.parameters()).device
    net.eval()
    mean, deviation, condition = _placed(faces, centre, scale, device)
    # Few faces are looked at more than once: the loss of one moment and one noise says little.
    which = torch.arange(max(_JUDGED // len(mean), 1) * len(mean)) % len(mean)
    chance = torch.Generator().manual_seed(0)
    noise, jitter = (torch.randn((len(which), mean.shape[1]), generator=chance).to(device) for _ in range(2))
    # Moments evenly over the quantiles that are learned: fewer draws tell as much.
    share = (torch.randperm(len(which), generator=chance) + 0.5) / len(which)
    time = torch.sigmoid(math.sqrt(2) * torch.erfinv(2 * share - 1)).to(device)
    errors = []
    for start in range(0, len(which), _PART):
        rows = slice(start, start + _PART)
        some = which[rows].to(device)
        told = torch.ones(len(some), device=device)
        latents = mean[some] + deviation[some] * jitter[rows]
        errors.append(
            _errors(net, latents, noise[rows], time[rows], None if condition is None else condition[some], told)
        )
    return float(torch.cat(errors).mean())


def _errors(
    net: Velocity,
    latents: Float[Tensor, "batch latents"],
    noise: Float[Tensor, "batch latents"],
    time: Float[Tensor, " batch"],
    condition: Float[Tensor, "batch condition"] | None,
    told: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Return squared errors of velocities on the straight way from noise to latents.

    Source: X. Liu et al., "Flow straight and fast", ICLR 2023, equation 1; times near the middle more often: P. Esser
    et al., "Scaling rectified flow transformers", ICML 2024, section 3.1.
    """
    between = torch.lerp(noise, latents, time[:, None])
    velocity: Tensor = net(between, time, condition, told)
    return (velocity.float() - (latents - noise)).square().mean(dim=1)


def _placed(
    faces: Posteriors,
    centre: Float[np.ndarray, " latents"],
    scale: Float[np.ndarray, " latents"],
    device: torch.device,
) -> tuple[Float[Tensor, "faces latents"], Float[Tensor, "faces latents"], Float[Tensor, "faces condition"] | None]:
    """Return posteriors standardised, on the device."""
    mean = torch.from_numpy(((faces.mean - centre) / scale).astype(np.float32)).to(device)
    deviation = torch.from_numpy((faces.deviation / scale).astype(np.float32)).to(device)
    told = [] if faces.condition is None else [faces.condition]
    if faces.grade is not None:
        told.append(faces.grade[:, None])
    condition = torch.from_numpy(np.concatenate(told, axis=1)).float().to(device) if told else None
    return mean, deviation, condition
