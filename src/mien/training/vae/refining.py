"""A refiner for a finished generator: it moves what the flow drew to where decoded faces look like decoded photographs.

A flow learns where latents are, one by one well and together not quite: eyes that do not match are a small error of a
velocity and a large one of a face. A discriminator sees the faces. Both sides come from the same decoder, so that it
can only tell them apart by what was drawn, and not by how sharply.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from mien import zoo
from mien.errors import TrainingError, UsageError
from mien.networks.decoder import PublishedDecoder
from mien.networks.diffaugment import DiffAugment, diff_augment
from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
from mien.networks.refiner import LatentRefiner
from mien.training.adversarial import discriminator_loss, exact_penalty, generator_loss
from mien.training.ema import EMA
from mien.training.learned import keep_learned
from mien.training.precision import autocast, choose_device
from mien.training.reporter import Reporter
from mien.training.run import position_seed, seed_torch, write_result
from mien.training.schedule import decayed
from mien.training.storage import precision_of, stored
from mien.training.vae.encoding import EncodedConfig, encode_split
from mien.training.vae.finished import open_finished, read_faces, write_model
from mien.training.vae.flow import Posteriors
from mien.training.vae.grafting import DonorFlow, PublishedRefiner, with_refiner, without_refiner

__all__ = ["Refined", "RefinerConfig", "train_refiner"]

_JUDGED = 1024  # pairs that the discriminator is asked about at the end
_PART = 64  # of them at once, and latents that are drawn at once
_BETAS = (0.5, 0.99)
_LEAST_DEVIATION = 0.05  # a latent that is not used varies by rounding only


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(EncodedConfig):
    """Settings of a refiner, beside those of which faces are encoded.

    Attributes:
        images: Length of the training, in drawn faces.
        ahead: So many of them the discriminator sees before anything moves.
        draws: Latents that are drawn from the flow, to learn from again and again.
        batch_size: Drawn faces a step, beside as many encoded ones of the same labels.
        learning_rate: Of the refiner.
        learning_rate_discriminator: Of the discriminator.
        weight_decay: Of the refiner's matrices.
        distance: Weight of the way that latents go, in squared standard deviations: more of it moves them less.
        gamma: Weight of the gradient penalty.
        penalty_every: Steps between two of them.
        variation: How far the discriminator's pictures are varied.
        ema_half_life: Faces after which a weight's share in the published average has halved.
        width: Of the refiner's hidden layers.
        blocks: Of the refiner.
        discriminator: How it is built.
        report_every: Faces between two notes.
        precision: bf16 computes convolutions in bfloat16: faster where the processor has it.
    """

    images: int = 200_000
    ahead: int = 60_000
    draws: int = 50_000
    batch_size: int = 64
    learning_rate: float = 3e-4
    learning_rate_discriminator: float = 3e-4
    weight_decay: float = 1e-4
    distance: float = 0.5
    gamma: float = 0.02
    penalty_every: int = 4
    variation: DiffAugment = field(default_factory=lambda: DiffAugment(translation=0.05, contrast=0.1, saturation=0.2))
    ema_half_life: float = 15_000
    width: int = 512
    blocks: int = 3
    discriminator: DiscriminatorConfig = field(default_factory=lambda: DiscriminatorConfig(widths=(16, 32, 64, 128)))
    report_every: int = 6_400
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "draws", "batch_size", "penalty_every", "width", "blocks", "report_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting '{name}' is at least 1, got {getattr(self, name)}.")
        for name in ("ahead", "weight_decay", "distance", "gamma", "ema_half_life"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        for name in ("learning_rate", "learning_rate_discriminator"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"Setting '{name}' is above 0, got {getattr(self, name):g}.")
        if self.ahead >= self.images:
            raise UsageError(f"Setting 'ahead' is less than 'images', got {self.ahead} and {self.images}.")
        if self.discriminator.arch == "features":
            raise UsageError("Setting 'discriminator.arch' is residual, dcgan or patch here, got features.")


@dataclass(frozen=True, slots=True)
class Refined:
    """What came of it.

    Attributes:
        out: Folder of the model: `model.onnx`, `card.json`, and its encoder.
        refiner: The network.
        summary: Figures, as in the card.
    """

    out: Path
    refiner: LatentRefiner
    summary: Mapping[str, Any]


def train_refiner(config: RefinerConfig) -> Refined:
    """Train a refiner and write the generator with it; its decoder, its mixture and its mapper stay as they are.

    Everything random follows from the seed and the position.

    Raises:
        MienError: The model has no encoder or draws from no flow, the data lack what it is told, a loss is no number,
            or nothing can be written.
    """
    generator, out = open_finished(config)
    card, convention = generator.card, generator.convention
    if not convention.flow:
        raise UsageError(f"'{card.name}' draws from no flow, which is what is refined. Fit one: mien train prior.")
    device = choose_device(config.device)
    before = zoo.path(card).read_bytes()
    decoder = PublishedDecoder(before).to(device)
    pictures, labels = read_faces(config, generator)
    train, valid = (encode_split(generator, pictures, labels, split, config, device) for split in ("train", "valid"))
    if len(train) < 2 or not len(valid):
        raise TrainingError(
            f"A refiner needs faces to learn from and faces to check with, got {len(train)} and {len(valid)}. Add "
            f"pictures."
        )
    classes, attributes = len(generator.labels), len(generator.attributes)
    flow = DonorFlow(Path(config.model), classes, network=without_refiner(before))
    seed_torch(config.seed)
    learned, checked = (
        _Pairs.of(faces, flow, count, classes, device)
        for faces, count in ((train, config.draws), (valid, min(_JUDGED, config.draws)))
    )
    refiner = LatentRefiner(
        learned.drawn.mean(dim=0).cpu(),
        learned.drawn.std(dim=0).clamp_min(_LEAST_DEVIATION).cpu(),
        condition=classes + attributes,
        width=config.width,
        blocks=config.blocks,
    ).to(device)
    sizes = Sizes(convention.side, 1 if convention.grey else 3, classes)
    lesson = _Lesson(refiner, Discriminator(config.discriminator, sizes).to(device), decoder, classes, config, device)
    average = EMA(refiner, config.ema_half_life)
    rows: list[Mapping[str, float]] = []
    seen, noted = 0, _Sums()
    with Reporter(config.images) as reporter:
        while seen < config.images:
            # Learn from one batch: the discriminator first, then the refiner.
            seed_torch(position_seed(config.seed, seen))
            batch = learned.take(config.batch_size)
            moves = seen >= config.ahead
            noted.add(lesson.step(batch, penalise=(seen // config.batch_size) % config.penalty_every == 0, moves=moves))
            seen += config.batch_size
            if moves:
                average.update(refiner, config.batch_size)
            reporter.advance(seen)
            if seen % config.report_every < config.batch_size or seen >= config.images:
                rows.append({"images": seen, **noted.means()})
                if not all(map(math.isfinite, rows[-1].values())):
                    raise TrainingError("A loss of the refiner is no number. Lower the learning rates.")
                noted = _Sums()
    best = average.model
    told_before, told_after = (lesson.told_apart(checked, using) for using in (None, best))
    network, difference = with_refiner(before, PublishedRefiner(best.cpu(), classes, attributes))
    summary = {
        "images": seen,
        "moved": rows[-1]["moved"],
        "valid_told_apart": told_after,
        "valid_told_apart_before": told_before,
        "onnx_difference": difference,
        "pictures": len(train) // (1 + config.mirror + config.varied),
    }
    precision = precision_of(before)  # of its file: the refiner is stored like the rest
    write_model(
        generator,
        out,
        network if precision is None else stored(network, precision),
        card.convention,
        {"refiner": summary},
    )
    keep_learned(out, pictures.split("train"))
    write_result(out / "refiner.json", (json.dumps({**summary, "rows": rows}, indent=1) + "\n").encode())
    return Refined(out, best, summary)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Encoded faces, and latents that were drawn under the same labels."""

    encoded: Float[Tensor, "batch latents"]
    encoded_condition: Float[Tensor, "batch condition"] | None
    drawn: Float[Tensor, "batch latents"]
    condition: Float[Tensor, "batch condition"] | None
    label: Int[Tensor, " batch"] | None


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Encoded faces, sorted by label, and what the flow draws under their conditions."""

    mean: Float32[Tensor, "faces latents"]
    deviation: Float32[Tensor, "faces latents"]
    encoded_condition: Float32[Tensor, "faces condition"] | None
    drawn: Float32[Tensor, "draws latents"]
    condition: Float32[Tensor, "draws condition"] | None
    label: Int[Tensor, " draws"]
    start: Int[Tensor, " labels"]
    count: Int[Tensor, " labels"]
    classes: int

    @classmethod
    def of(cls, faces: Posteriors, flow: DonorFlow, draws: int, classes: int, device: torch.device) -> _Pairs:
        mean, deviation = torch.from_numpy(faces.mean), torch.from_numpy(faces.deviation)
        condition = None if faces.condition is None else torch.from_numpy(faces.condition)
        label = torch.zeros(len(mean), dtype=torch.int64)
        if classes:
            assert condition is not None
            label = condition[:, :classes].argmax(dim=1)
        order = label.argsort(stable=True)
        mean, deviation, label = mean[order], deviation[order], label[order]
        condition = None if condition is None else condition[order]
        count = label.bincount(minlength=max(classes, 1))
        # Under conditions of the faces that are learned from, as often as those show them.
        rows = torch.randint(len(mean), (draws,))
        under = None if condition is None else condition[rows]
        drawn = torch.cat(
            [
                flow(torch.randn(len(some), mean.shape[1]), None if under is None else under[some])
                for some in torch.split(torch.arange(draws), _PART)
            ]
        )
        placed = (None if told is None else told.to(device) for told in (condition, under))
        return cls(
            mean.to(device), deviation.to(device), next(placed), drawn.to(device), next(placed), label[rows].to(device),
            (count.cumsum(0) - count).to(device), count.to(device), classes,
        )  # fmt: skip

    def take(self, size: int) -> _Batch:
        device = self.mean.device
        return self.pairs(torch.randint(len(self.drawn), (size,)).to(device))

    def pairs(self, some: Int[Tensor, " batch"]) -> _Batch:
        """Return drawn latents by number, each beside a face of the same label."""
        device, label = self.mean.device, self.label[some]
        rows = self.start[label] + (torch.rand(len(some)).to(device) * self.count[label]).long()
        jitter = torch.randn(len(some), self.mean.shape[1]).to(device)
        return _Batch(
            self.mean[rows] + self.deviation[rows] * jitter,
            None if self.encoded_condition is None else self.encoded_condition[rows],
            self.drawn[some],
            None if self.condition is None else self.condition[some],
            label if self.classes else None,
        )


class _Sums:
    """Means of what was noted since the last row."""

    def __init__(self) -> None:
        self.steps, self.sums = 0, dict[str, float]()

    def add(self, told: Mapping[str, float]) -> None:
        self.steps += 1
        for name, value in told.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self.sums.items()}


class _Lesson:
    """The networks, and what each lowers in a step."""

    def __init__(
        self,
        refiner: LatentRefiner,
        discriminator: Discriminator,
        decoder: PublishedDecoder,
        classes: int,
        config: RefinerConfig,
        device: torch.device,
    ) -> None:
        self.refiner, self.discriminator, self.decoder = refiner, discriminator, decoder
        self.classes, self.config, self.device = classes, config, device
        self.moving = torch.optim.AdamW(decayed(refiner, config.weight_decay), config.learning_rate, betas=_BETAS)
        self.telling = torch.optim.AdamW(
            decayed(discriminator, config.weight_decay), config.learning_rate_discriminator, betas=_BETAS
        )

    def step(self, batch: _Batch, *, penalise: bool, moves: bool) -> dict[str, float]:
        """Take a step of the discriminator, and one of the refiner where it moves."""
        config = self.config
        way = self.refiner.way(batch.drawn, batch.condition)
        with torch.set_grad_enabled(moves):
            drawn = self._decoded(batch.drawn + self.refiner.deviation * way, batch.condition)
        with torch.no_grad():
            encoded = self._decoded(batch.encoded, batch.encoded_condition)
        drawn, encoded = (diff_augment(faces, config.variation, 1.0) for faces in (drawn, encoded))

        sides = [faces.detach().requires_grad_(penalise) for faces in (encoded, drawn)]
        of_both = [self._scores(faces, batch) for faces in sides]
        loss = discriminator_loss("relativistic", *of_both)
        if penalise and config.gamma:
            steep = sum(exact_penalty(scores, faces) for scores, faces in zip(of_both, sides, strict=True))
            loss = loss + config.penalty_every * config.gamma / 2 * steep
        self.telling.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.telling.step()
        noted = {
            "loss_discriminator": float(loss.detach()),
            "told_apart": float((of_both[0] > of_both[1]).float().mean()),
            "moved": float(way.detach().square().mean().sqrt()),
        }
        if moves:
            with torch.no_grad():
                of_encoded = self._scores(encoded, batch)
            self.discriminator.requires_grad_(False)
            pull = generator_loss("relativistic", of_encoded, self._scores(drawn, batch))
            self.discriminator.requires_grad_(True)
            self.moving.zero_grad(set_to_none=True)
            (pull + config.distance * way.square().mean()).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.refiner.parameters(), 1.0)
            self.moving.step()
        return noted

    @torch.no_grad()
    def told_apart(self, pairs: _Pairs, refiner: LatentRefiner | None) -> float:
        """Return the share of pairs held out of which the discriminator tells which face was drawn."""
        self.discriminator.eval()
        right = 0
        seed_torch(position_seed(self.config.seed, 0))  # the same pairs and variations for both
        for some in torch.split(torch.arange(len(pairs.drawn), device=self.device), _PART):
            batch = pairs.pairs(some)
            drawn = batch.drawn if refiner is None else refiner(batch.drawn, batch.condition)
            faces = (
                self._decoded(batch.encoded, batch.encoded_condition),
                self._decoded(drawn, batch.condition),
            )
            of_encoded, of_drawn = (self._scores(side, batch) for side in faces)
            right += int((of_encoded > of_drawn).sum())
        return right / len(pairs.drawn)

    def _decoded(
        self, latents: Float[Tensor, "batch latents"], condition: Float[Tensor, "batch condition"] | None
    ) -> Float[Tensor, "batch channels side side"]:
        told = {}
        if "label" in self.decoder.inputs and condition is not None:
            told["label"] = condition[:, : self.classes].argmax(dim=1)
        if "attributes" in self.decoder.inputs and condition is not None:
            told["attributes"] = condition[:, self.classes :]
        with autocast(self.device, self.config.precision):
            faces: Tensor = self.decoder(latents, **told).float()
        return faces

    def _scores(self, faces: Float[Tensor, "batch channels side side"], batch: _Batch) -> Float[Tensor, "batch scores"]:
        with autocast(self.device, self.config.precision):
            scores: Tensor = self.discriminator(faces, batch.label)
        return scores.float().mean(dim=1)
