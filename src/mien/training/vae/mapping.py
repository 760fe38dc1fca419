"""A mapper for a finished generator: it moves a face's latents so that the face shows another expression.

Where two expressions lie in the latents says how faces of the one differ from faces of the other, not how a face
changes. The mapper learns that from networks which look at the edited photograph: readers want to see the expression,
a recogniser wants to see the same person. What stood in its loss may not judge its edits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mien import zoo
from mien.data.pictures import Pictures
from mien.errors import TrainingError, UsageError
from mien.metrics.fidelity import GREY
from mien.networks.decoder import PublishedDecoder
from mien.networks.mapper import LatentMapper
from mien.networks.recogniser import RECOGNISER, FaceRecogniser, crop_grid
from mien.training.expression import load_expression_net
from mien.training.learned import keep_learned
from mien.training.precision import autocast, choose_device
from mien.training.reporter import Reporter
from mien.training.run import position_seed, seed_torch, write_result
from mien.training.schedule import decayed, scheduled_rate
from mien.training.storage import precision_of, stored
from mien.training.vae.finished import FinishedConfig, open_finished, read_faces, write_model
from mien.training.vae.grafting import with_mapper
from mien.training.weights import EXPRESSION, read_network
from mien.vision.generator import Generator
from mien.vision.laying import EDIT_COLOUR, HARDLY, MUCH, blur_kernel, spreads

__all__ = ["Mapped", "MapperConfig", "laid", "train_mapper"]

_JUDGED = 256  # faces held out that a report looks at
_PART = 64  # of them at once
_CERTAIN = 0.1  # nats: a reader that is as sure as that asks for no more, or only readers would see the difference
_LEAST_DEVIATION = 0.05  # a latent that is not used varies by rounding only
_COARSE = 6  # places a side at which shading is looked at


@dataclass(frozen=True, kw_only=True)
class MapperConfig(FinishedConfig):
    """Settings of a mapper, beside those of whatever is added to a finished generator.

    Attributes:
        images: Length of the training, in faces.
        batch_size: Faces a step.
        learning_rate: The highest of the schedule; it falls to nothing.
        warmup: Faces until it is reached, at most a tenth of the training.
        weight_decay: Of matrices.
        readers: Networks that want to see the expression: names of expression networks that mien ships with weights to
            train on, run folders, or files of such weights. They may not judge the edits.
        identity: Weight of the recogniser's cosine; more of it changes less, 0 asks no recogniser.
        distance: Weight of the way that the latents go, in standard deviations.
        shading: Weight of what becomes lighter or darker as a whole: expressions were photographed in different light.
        width: Of the mapper's hidden layers.
        report_every: Faces between two looks at faces held out.
        precision: bf16 computes convolutions in bfloat16: faster where the processor has it.
    """

    images: int = 25_600
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 2_000
    weight_decay: float = 1e-2
    readers: tuple[str, ...] = ("expression-resnet27-union", "expression-resnet27")
    identity: float = 10.0
    distance: float = 0.02
    shading: float = 2.0
    width: int = 512
    report_every: int = 3_200
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "batch_size", "report_every", "width"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting '{name}' is at least 1, got {getattr(self, name)}.")
        for name in ("identity", "distance", "shading", "warmup", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"Setting 'learning_rate' is above 0, got {self.learning_rate:g}.")
        if not self.readers:
            raise UsageError("Setting 'readers' names at least one expression network.")


@dataclass(frozen=True, slots=True)
class Mapped:
    """What came of it.

    Attributes:
        out: Folder of the model: `model.onnx`, `card.json`, and its encoder.
        mapper: The network.
        summary: Figures, as in the card.
    """

    out: Path
    mapper: LatentMapper
    summary: Mapping[str, Any]


def train_mapper(config: MapperConfig) -> Mapped:
    """Train a mapper and write the generator with it; what it draws stays as it is.

    Everything random follows from the seed and the position.

    Raises:
        MienError: The model has no encoder, the data lack what it is told, a reader cannot be had, the loss is no
            number, or nothing can be written.
    """
    generator, out = open_finished(config)
    device, before = choose_device(config.device), zoo.path(generator.card).read_bytes()
    readers = [Reader(Path(name), generator).to(device) for name in config.readers]
    expressions = generator.labels or readers[0].expressions
    words = {word for reader in readers for head in reader.heads.values() for word in head}
    if len(expressions) < 2 or not words.issuperset(expressions):
        raise UsageError(
            f"A mapper is for two expressions or more that its readers know, got {', '.join(expressions) or 'none'}; "
            f"known are {', '.join(sorted(words))}. Name other 'readers', or a model of other labels."
        )
    decoder = PublishedDecoder(before).to(device)
    who = None
    if config.identity:
        who = FaceRecogniser(generator.convention.template, generator.side).to(device).eval()
    pictures, labels = read_faces(config, generator)
    train, valid = (_Faces.of(generator, pictures, labels, split, config, device) for split in ("train", "valid"))
    if len(train) < 2 or not len(valid):
        raise TrainingError(
            f"A mapper needs faces to learn from and faces to check with, got {len(train)} and {len(valid)}. Add "
            f"pictures."
        )
    seed_torch(config.seed)
    mapper = LatentMapper(
        train.latents.mean(dim=0),
        train.latents.std(dim=0).clamp_min(_LEAST_DEVIATION),
        expressions=len(expressions),
        width=config.width,
    ).to(device)
    lesson = _Lesson(mapper, decoder, readers, who, expressions, len(generator.attributes), config, device)
    optimizer = torch.optim.AdamW(decayed(mapper, config.weight_decay), config.learning_rate, betas=(0.9, 0.99))
    rows: list[Mapping[str, float]] = []
    seen = 0
    with Reporter(config.images) as reporter:
        while seen < config.images:
            # Learn from one batch.
            seed_torch(position_seed(config.seed, seen))
            batch = train.take(torch.randint(len(train), (config.batch_size,)))
            loss = lesson.loss(batch, _choose_wanted(batch, len(expressions)))
            for group in optimizer.param_groups:
                group["lr"] = scheduled_rate(seen + config.batch_size, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(mapper.parameters(), 1.0)
            if not torch.isfinite(loss):
                raise TrainingError("The loss of the mapper is no number. Lower learning_rate.")
            optimizer.step()
            seen += config.batch_size
            reporter.advance(seen)

            # Now and then, look at faces held out.
            if seen % config.report_every < config.batch_size or seen >= config.images:
                judged = {"loss": float(loss.detach()), **lesson.judge(valid)}
                rows.append({"images": seen, **judged})
                reporter.report(seen, **judged)
    mapper = mapper.cpu().eval()
    network, difference = with_mapper(before, mapper)
    precision = precision_of(before)  # of its file: the mapper is stored like the rest
    summary = {
        **rows[-1],
        "onnx_difference": difference,
        "pictures": len(train) // (2 if config.mirror else 1),
    }
    losses = [*config.readers, *([] if who is None else [RECOGNISER])]
    write_model(
        generator,
        out,
        network if precision is None else stored(network, precision),
        {**generator.card.convention, "edits": list(expressions), "edit_losses": losses},
        {"mapper": summary},
    )
    keep_learned(out, pictures.split("train"))
    write_result(out / "mapper.json", (json.dumps({**summary, "rows": rows}, indent=1) + "\n").encode())
    return Mapped(out, mapper, summary)


class Reader(nn.Module):
    """An expression network that looks at faces of a generator; gradients flow to them.

    Args:
        source: As for `load_expression_net`.
        generator: Whose faces.

    Attributes:
        expressions: What it tells apart, by its first head.
    """

    grid: Tensor

    def __init__(self, source: Path, generator: Generator) -> None:
        super().__init__()
        net, self.heads = load_expression_net(source)
        facts, _ = read_network(source, EXPRESSION)
        self.net, self.colour = net.requires_grad_(False), net.config.colour
        self.expressions = next(iter(self.heads.values()))
        convention = generator.convention
        grid = crop_grid(convention.template, convention.side, facts["template"], net.config.side)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, faces: Float[Tensor, "batch channels side side"]) -> Mapping[str, Float[Tensor, "batch classes"]]:
        """Return logits by head of faces, 0 to 255, in colour or grey (one channel)."""
        if self.colour:
            faces = faces.expand(-1, 3, -1, -1)
        elif faces.shape[1] == 3:
            faces = _lightness(faces)
        grid = self.grid.expand(len(faces), -1, -1, -1)
        crops = functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)
        answers: Mapping[str, Tensor] = self.net(crops)
        return answers

    def doubt(
        self, faces: Float[Tensor, "batch channels side side"], wanted: Int[Tensor, " batch"], names: tuple[str, ...]
    ) -> Tensor:
        """Return how little is seen of what is wanted, the mean over heads and faces that they have a word for."""
        losses = []
        for head, logits in self(faces).items():
            known = [place for place, name in enumerate(names) if name in self.heads[head]]
            told = logits.float()[:, [self.heads[head].index(names[place]) for place in known]]
            among = (wanted[:, None] == torch.tensor(known, device=wanted.device)).float()
            asked = among.sum(dim=1) > 0
            if asked.any():
                surprise = functional.cross_entropy(told[asked], among[asked].argmax(dim=1), reduction="none")
                losses.append(functional.relu(surprise - _CERTAIN).mean())
        return torch.stack(losses).mean() if losses else faces.sum() * 0  # nothing that it has a word for


@dataclass(frozen=True, eq=False)
class _Faces:
    """Faces and their latents; mirror images come after the others, as latents alone."""

    images: UInt8[Tensor, "faces channels side side"]
    latents: Float32[Tensor, "rows latents"]
    labels: Int[Tensor, " faces"] | None

    @classmethod
    def of(
        cls,
        generator: Generator,
        pictures: Pictures,
        labels: Int[np.ndarray, " pictures"] | None,
        split: str,
        config: MapperConfig,
        device: torch.device,
    ) -> _Faces:
        chosen = np.flatnonzero(pictures.splits == split)
        mirror = config.mirror and split == "train"
        most = math.ceil(config.images / (1 + mirror))  # more would be encoded and never shown
        chosen = np.sort(np.random.default_rng(config.seed).permutation(chosen)[:most])
        some = pictures.take(chosen)
        faces = some.rgb()
        views = [faces, faces[:, :, ::-1]] if mirror else [faces]
        return cls(
            torch.from_numpy(some.images),
            torch.from_numpy(np.concatenate([generator.encode(np.ascontiguousarray(view)) for view in views])).to(
                device
            ),
            None if labels is None else torch.from_numpy(labels[chosen]),
        )

    def __len__(self) -> int:
        return len(self.latents)

    def take(self, rows: Int[Tensor, " some"]) -> _Batch:
        device = self.latents.device
        of = rows % max(len(self.images), 1)
        faces = self.images[of].to(device).float()
        mirrored = (rows >= len(self.images)).to(device)[:, None, None, None]
        return _Batch(
            torch.where(mirrored, faces.flip(3), faces),
            self.latents[rows.to(device)],
            None if self.labels is None else self.labels[of].to(device),
        )


@dataclass(frozen=True, eq=False)
class _Batch:
    faces: Float[Tensor, "batch channels side side"]
    latents: Float[Tensor, "batch latents"]
    labels: Int[Tensor, " batch"] | None


def _choose_wanted(batch: _Batch, count: int) -> Int[Tensor, " batch"]:
    """Return what each face shall show: anything but what it shows, where that is known."""
    device = batch.latents.device
    if batch.labels is None:
        return torch.randint(count, (len(batch.latents),)).to(device)
    return (batch.labels + torch.randint(1, count, (len(batch.latents),)).to(device)) % count


@dataclass(frozen=True, eq=False)
class _Lesson:
    """The networks, and what the mapper is asked for."""

    mapper: LatentMapper
    decoder: PublishedDecoder
    readers: list[Reader]
    recogniser: nn.Module | None
    expressions: tuple[str, ...]
    attributes: int
    config: MapperConfig
    device: torch.device

    def edited(self, batch: _Batch, wanted: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return edited faces, as `Generator.edit` makes them, the change before it is cut off, and the new latents."""
        there = self.mapper(batch.latents, wanted)
        attributes = None
        if "attributes" in self.decoder.inputs:
            attributes = there.new_zeros(len(there), self.attributes)
        with autocast(self.device, self.config.precision):
            with torch.no_grad():
                plain = self.decoder(batch.latents, batch.labels, attributes).float()
            changed = self.decoder(there, None if batch.labels is None else wanted, attributes).float()
        change = changed - plain
        change = change - change.mean(dim=(1, 2, 3), keepdim=True)
        if change.shape[1] == 3:
            lightness = _lightness(change)
            change = lightness + EDIT_COLOUR * (change - lightness)
        return laid(batch.faces, plain, change).clamp(0, 255), change, there

    def loss(self, batch: _Batch, wanted: Int[Tensor, " batch"]) -> Tensor:
        after, change, there = self.edited(batch, wanted)
        with autocast(self.device, self.config.precision):
            doubts = [reader.doubt(_vary(after), wanted, self.expressions) for reader in self.readers]
            apart = 1 - self._alike(batch.faces, after)
        way = (there - batch.latents) / self.mapper.deviation
        coarse = functional.adaptive_avg_pool2d(change, _COARSE) / 64
        loss: Tensor = (
            torch.stack(doubts).mean()
            + self.config.identity * apart.mean()
            + self.config.distance * way.square().mean()
            + self.config.shading * coarse.square().mean()
        )
        return loss

    @torch.no_grad()
    def judge(self, valid: _Faces) -> dict[str, float]:
        """Return what the networks that it learns from say of edits of faces held out: they flatter."""
        rows = np.linspace(0, len(valid) - 1, min(len(valid), _JUDGED)).round().astype(np.int64)
        names, known = self.expressions, self.readers[0].expressions
        # Of each column of the first reader, its number among what can be asked for; -1 where it cannot.
        numbers = torch.tensor([names.index(name) if name in names else -1 for name in known], device=self.device)
        read, cosine, change = 0.0, 0.0, 0.0
        for start in range(0, len(rows), _PART):
            batch = valid.take(torch.from_numpy(rows[start : start + _PART]))
            shift = 1 + torch.arange(len(batch.latents), device=self.device) % (len(names) - 1)
            wanted = shift if batch.labels is None else (batch.labels + shift) % len(names)
            after, changed, _ = self.edited(batch, wanted)
            answers = next(iter(self.readers[0](after).values())).masked_fill(numbers < 0, -torch.inf)
            read += float((numbers[answers.argmax(dim=1)] == wanted).float().sum())
            cosine += float(self._alike(batch.faces, after).sum())
            change += float(changed.abs().mean(dim=(1, 2, 3)).sum())
        count = len(rows)
        seen = {"valid_read": read / count, "valid_change": change / count}
        return seen if self.recogniser is None else {**seen, "valid_cosine": cosine / count}

    def _alike(self, before: Tensor, after: Tensor) -> Float[Tensor, " batch"]:
        """Return cosines of embeddings; 1 where nobody was asked."""
        if self.recogniser is None:
            return after.new_ones(len(after))
        with torch.no_grad():
            somebody = self.recogniser(before)
        cosines: Tensor = (somebody * self.recogniser(after)).sum(dim=1)
        return cosines


def _lightness(images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1 side side"]:
    """Return pictures in grey."""
    weights = torch.from_numpy(GREY).to(images)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True)


def laid(
    faces: Float[Tensor, "batch channels side side"],
    plain: Float[Tensor, "batch channels side side"],
    change: Float[Tensor, "batch channels side side"],
) -> Float[Tensor, "batch channels side side"]:
    """Return faces with a change laid into them, as `mien.vision.laying` does it."""
    details, near = spreads(change.shape[-1])
    much = _blurred(change.abs().mean(dim=1, keepdim=True), near)
    room = ((much - HARDLY) / (MUCH - HARDLY)).clamp(0, 1)
    rest = faces - plain
    return faces + change - room * (rest - _blurred(rest, details))


def _blurred(images: Float[Tensor, "batch channels side side"], sigma: float) -> Tensor:
    """Return pictures blurred by a Gaussian of so many px; beyond their borders they are mirrored."""
    kernel = torch.from_numpy(blur_kernel(sigma)).to(images)
    reach, channels = len(kernel) // 2, images.shape[1]
    padded = functional.pad(images, (reach, reach, reach, reach), mode="reflect")
    down = functional.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return functional.conv2d(down, kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)


def _vary(faces: Float[Tensor, "batch channels side side"]) -> Float[Tensor, "batch channels side side"]:
    """Return faces turned, moved, lit and grained a little: what is seen then, not only one network sees."""
    count, device = len(faces), faces.device
    turn, size = 0.3 * (torch.rand(count) - 0.5), 1 + 0.2 * (torch.rand(count) - 0.5)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size * turn.cos()
    theta[:, 1, 0] = size * turn.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = 0.15 * (torch.rand(count, 2) - 0.5)
    grid = functional.affine_grid(theta, list(faces.shape), align_corners=False).to(device)
    moved = functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    contrast, light, grain = (torch.rand(count, 1, 1, 1).to(device) for _ in range(3))
    lit = (moved - 128) * (0.8 + 0.4 * contrast) + 128 + 30 * (light - 0.5)
    return lit + 4 * grain * torch.randn(lit.shape).to(device)
