"""The story of a network that reads expressions over time: from labelled clips to a run folder.

What is read from each frame (a VAE's latents, an expression network's answers, points of a mesh) is read once, kept,
and learned from; the network that reads it stays as it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from mien.data.clips import Clips, read_clips
from mien.data.splits import fill_valid
from mien.data.transforms import Order
from mien.errors import DataError, ImageError, UsageError, VideoError
from mien.images import printable
from mien.metrics.calibration import expected_calibration_error
from mien.metrics.expression import accuracy, confusion, macro_f1, per_class
from mien.networks.sequence import SequenceNet, SequenceNetConfig
from mien.networks.sizes import count_parameters
from mien.networks.tracing import onnx_bytes
from mien.training.calibration import confidence, fit_temperature, uncertainty_threshold
from mien.training.config import TrainingConfig, as_dict
from mien.training.course import Course
from mien.training.ema import EMA
from mien.training.guard import Guard
from mien.training.material import Pinned
from mien.training.publishing import check_parity, publish_network
from mien.training.reporter import PictureProgress
from mien.training.run import Run, write_result
from mien.training.schedule import scheduled_rate
from mien.training.stopping import EarlyStopping
from mien.training.weights import DESCRIPTION
from mien.video.clips import read_frames
from mien.vision.sequence import FEATURES_OF, FrameFeatures

__all__ = ["DryRun", "SequenceConfig", "Trained", "dry_run", "train"]

_PARITY = 1e-3  # largest difference of a logit that passes as rounding
_SHOWN = 5
_VERSION = 1  # of the features that are kept

Read = Float32[np.ndarray, "frames features"]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(TrainingConfig):
    """Settings of a sequence training, beside those of every training; its images are clips.

    Attributes:
        data: A folder of labelled clips; see `mien.data.clips.read_clips` for the layouts.
        features: What is read from each frame.
        on: Which model reads it, by name or run folder; '' is the default.
        frames: Most frames of a clip that are looked at, spread evenly, here and at run time.
        valid_share: Share of the clips set aside, by subject where subjects are known, if the data name none.
        skip: Share of a clip's frames that are left out at random while learning: speeds differ.
        net: The network.
        learning_rate: The highest of the schedule.
        warmup: Clips until it is reached, at most a tenth of the training.
        weight_decay: Of matrices and biases alike.
        clip: Longest gradient.
        ema_half_life: Clips after which a weight's share in the published average has halved.
        balance_strength: Against rare classes going under: 0 shows clips as often as they are, 1 all classes equally.
        smoothing: Part of each label that is spread over all classes.
        select: Metric by which the best checkpoint is kept.
        patience: So many reports without a better one end the training; 0 never does.
        sure_accuracy: An outcome is uncertain where those at least as sure are right less often than this.
        cache: Folder that keeps what was read from the frames; default is in the run folder.
    """

    data: Path
    features: Literal["vae", "expression", "landmarks"] = "vae"
    on: str = ""
    frames: int = 32
    valid_share: float = 0.2
    skip: float = 0.2
    net: SequenceNetConfig = field(default_factory=SequenceNetConfig)
    learning_rate: float = 3e-3
    warmup: int = 2_000
    weight_decay: float = 0.05
    clip: float = 5.0
    ema_half_life: float = 5_000
    balance_strength: float = 0.5
    smoothing: float = 0.05
    select: Literal["accuracy", "macro_f1"] = "macro_f1"
    patience: int = 0
    sure_accuracy: float = 0.9
    cache: Path | None = None
    images: int = 40_000
    batch_size: int = 64
    report_every: int = 4_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise UsageError(f"Setting 'frames' is 1 or more, got {self.frames}.")
        for name in ("valid_share", "skip", "balance_strength", "smoothing", "sure_accuracy"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        if self.learning_rate <= 0 or self.clip <= 0 or min(self.warmup, self.weight_decay, self.ema_half_life) < 0:
            raise UsageError(
                "'learning_rate' and 'clip' are above 0; 'warmup', 'weight_decay', 'ema_half_life' not below."
            )

    @property
    def model(self) -> str:
        """The model that reads the features."""
        return self.on or FEATURES_OF[self.features]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        model: The averaged network with the best validation.
        classes: What it tells apart.
        summary: As in `summary.json`.
    """

    model: SequenceNet
    classes: tuple[str, ...]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        parameters: Learned values.
        clips_per_second: Measured over a few steps; reading the frames comes before and is not part of it.
        clips: Labelled ones, those of a test split aside.
        subjects: Of whom they are known to be.
        classes: What they show.
    """

    parameters: int
    clips_per_second: float
    clips: int
    subjects: int
    classes: tuple[str, ...]


def train(config: SequenceConfig, *, reader: FrameFeatures | None = None) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Args:
        config: What to do.
        reader: Reads the features of frames; default what the config names.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the loss is no number.
        Interrupted: Ctrl-C; all is saved.
    """
    clips = read_clips(config.data)
    with Run(config.out, config, may_change=("cache",)) as run:
        material = _load_material(clips, config, reader or FrameFeatures(config.features, config.on))
        run.ranks.say(*material.notes)

        # Build. The published model is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        model = _build(config, material)
        ema = EMA(model, half_life_images=config.ema_half_life)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        guard = Guard(clip=config.clip)
        stopping = EarlyStopping(config.patience)
        course = Course(
            run, config, guards={"train_loss": guard}, best=stopping, published={"model": ema.model},
            parts={
                "model": model, "ema": ema, "optimizer": optimizer, "guard": guard, "stopping": stopping,
                "material": material,
            },
        )  # fmt: skip
        write_result(config.out / DESCRIPTION, _description(config, material).encode())
        course.begin()

        with course:
            for seen in course.steps():
                # Learn from one batch of clips.
                rate = course.scale * scheduled_rate(seen, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                features, there, labels = material.batch(seen, config)
                optimizer.zero_grad(set_to_none=True)
                logits, _ = model(features, there)
                loss = functional.cross_entropy(logits, labels, label_smoothing=config.smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                guard.step(optimizer, model, loss)
                ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(lambda: _validate(ema.model, material), decides="valid_loss")
                ):
                    course.report(figures, score=figures[f"valid_{config.select}"], learning_rate=rate)

        course.restore_best()
        summary = course.publish(lambda: _publish(ema.model, material, config, run)) or {}
    return Trained(ema.model, material.classes, summary)


def dry_run(config: SequenceConfig, *, reader: FrameFeatures | None = None, steps: int = 3) -> DryRun:
    """Read one clip, take a few steps on copies of it, and write nothing.

    Raises:
        MienError: The data do not allow a training, or the first clip cannot be read.
    """
    clips = read_clips(config.data)
    usable = [clip for clip in clips.clips if clip.split != "test"]
    reader = reader or FrameFeatures(config.features, config.on)
    read = _read_clip(read_frames(usable[0].frames, most=config.frames), reader)
    model = SequenceNet(config.net, features=read.shape[1], classes=max(len(clips.classes), 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    features, there = _padded([read] * config.batch_size)
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        model(features, there)[0].logsumexp(dim=1).mean().backward()
        optimizer.step()
    speed = steps * config.batch_size / max(time.monotonic() - start, 1e-9)
    subjects = {clip.subject for clip in usable} - {""}
    return DryRun(count_parameters(model), speed, len(usable), len(subjects), clips.classes)


# Clips ----------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Material(Pinned):
    """What is learned from: the features of each clip's frames. A part of the checkpoint, so that it cannot change."""

    classes: tuple[str, ...]
    features: list[Read]
    labels: Int[np.ndarray, " clips"]
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    subjects: int
    order: Order
    data_digest: str
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return self.data_digest

    @property
    def count(self) -> int:
        return len(self.features)

    def batch(self, seen: int, config: SequenceConfig) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, which frames are there, and labels; some frames are left out at random."""
        rng = np.random.default_rng([config.seed, seen])
        chosen = self.train[self.order.batch(seen, config.batch_size)]
        rows = []
        for index in chosen:
            read = self.features[index]
            kept = rng.random(len(read)) >= config.skip
            kept[rng.integers(len(read))] = True  # at least one
            rows.append(read[kept])
        return (*_padded(rows), torch.from_numpy(self.labels[chosen]))


def _padded(rows: list[Read]) -> tuple[Float[Tensor, "clips frames features"], Bool[Tensor, "clips frames"]]:
    longest = max(len(row) for row in rows)
    features = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    there = np.zeros((len(rows), longest), bool)
    for place, row in enumerate(rows):
        features[place, : len(row)], there[place, : len(row)] = row, True
    return torch.from_numpy(features), torch.from_numpy(there)


def _load_material(clips: Clips, config: SequenceConfig, reader: FrameFeatures) -> _Material:
    """Read every clip's frames, once, and split the clips."""
    labelled = [clip for clip in clips.clips if clip.split != "test"]
    features, failed = _read_all(clips, config, reader)
    kept = [clip for clip in labelled if clip.name in features]
    classes = tuple(label for label in clips.classes if any(clip.label == label for clip in kept))
    if len(classes) < 2:
        raise DataError(
            f"There is nothing to tell apart: the clips of '{printable(clips.source)}' that can be used show "
            f"{classes[0] if classes else 'nothing'} only. Add clips of another expression."
        )
    labels = np.array([classes.index(clip.label) for clip in kept], np.int64)
    subjects = np.array([clip.subject for clip in kept])
    splits = fill_valid(
        np.array([clip.split for clip in kept], dtype="<U16"),
        labels,
        share=config.valid_share,
        seed=config.seed,
        subjects=subjects,
    )
    learned = np.flatnonzero(splits == "train")
    notes = [*clips.notes]
    if failed:
        listed = ", ".join(failed[:_SHOWN]) + (", ..." if len(failed) > _SHOWN else "")
        notes.append(f"{len(failed)} clips cannot be read or show no face, and are left out: {printable(listed)}")
    if not any(subjects.tolist()):
        notes.append("Nothing says who is shown: one person may stand among the clips learned from and checked with.")
    read = [features[clip.name] for clip in kept]
    hasher = hashlib.sha256(repr((classes, splits.tolist(), labels.tolist())).encode())
    for row in read:
        hasher.update(np.ascontiguousarray(row).data)
    return _Material(
        classes, read, labels, learned, np.flatnonzero(splits == "valid"), len(set(subjects.tolist()) - {""}),
        Order(labels[learned], seed=config.seed, balance=config.balance_strength), hasher.hexdigest(), tuple(notes),
    )  # fmt: skip


def _read_all(clips: Clips, config: SequenceConfig, reader: FrameFeatures) -> tuple[dict[str, Read], list[str]]:
    """Return the features of each clip by its name, and the clips that failed; kept for the next time."""
    facts = (_VERSION, clips.fingerprint(), config.features, config.model, config.frames)
    folder = config.cache or config.out / "features"
    file = folder / f"{config.features}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.npz"
    wanted = [clip for clip in clips.clips if clip.split != "test"]
    # A damaged file is made again.
    with suppress(ValueError, OSError, EOFError, zipfile.BadZipFile), np.load(file, allow_pickle=False) as arrays:
        known = {clip.name: arrays[f"{n}"] for n, clip in enumerate(wanted) if f"{n}" in arrays.files}
        return known, [clip.name for clip in wanted if clip.name not in known]
    found: dict[int, Read] = {}
    with PictureProgress(least=1) as progress:
        for number, clip in enumerate(wanted):
            # Not a UsageError: without PyAV no clip can be read.
            with suppress(DataError, ImageError, VideoError):
                found[number] = _read_clip(read_frames(clip.frames, most=config.frames), reader)
            progress(number + 1, len(wanted))
    packed = io.BytesIO()
    kept: dict[str, Any] = {f"{number}": read for number, read in found.items()}
    np.savez_compressed(packed, **kept)
    folder.mkdir(parents=True, exist_ok=True)
    write_result(file, packed.getvalue())
    names = [clip.name for clip in wanted]
    return {names[n]: read for n, read in found.items()}, [name for n, name in enumerate(names) if n not in found]


def _read_clip(images: list[np.ndarray], reader: FrameFeatures) -> Read:
    faces = [reader.find(image) for image in images]
    seen = [(image, face) for image, face in zip(images, faces, strict=True) if face is not None]
    if not seen:
        raise DataError("No frame shows a face.")
    return reader.of([image for image, _ in seen], [face for _, face in seen])


# Network --------------------------------------------------------------------------------------------------------------


def _build(config: SequenceConfig, material: _Material) -> SequenceNet:
    model = SequenceNet(config.net, features=material.features[0].shape[1], classes=len(material.classes))
    model.standardise(torch.from_numpy(np.concatenate([material.features[i] for i in material.train])))
    return model


def _answers(model: SequenceNet, rows: list[Read]) -> Float32[np.ndarray, "clips classes"]:
    model.eval()
    with torch.no_grad():
        return np.asarray(model(*_padded(rows))[0].numpy())


def _validate(model: SequenceNet, material: _Material) -> dict[str, float]:
    logits = _answers(model, [material.features[i] for i in material.valid])
    labels = material.labels[material.valid]
    table = confusion(labels, logits.argmax(axis=1), classes=len(material.classes))
    loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    return {
        "valid_loss": float(loss),
        "valid_accuracy": float(accuracy(table)),
        "valid_macro_f1": float(macro_f1(table)),
    }


def _publish(model: SequenceNet, material: _Material, config: SequenceConfig, run: Run) -> dict[str, Any]:
    """Calibrate the network on the validation clips and write it with its card: `model.onnx`, `card.json`."""
    model = model.to("cpu").eval()
    rows = [material.features[i] for i in material.valid]
    logits = _answers(model, rows).astype(np.float64)
    labels = material.labels[material.valid]
    temperature = fit_temperature(logits, labels)
    sure, right = confidence(logits / temperature, labels)
    table = confusion(labels, logits.argmax(axis=1), classes=len(material.classes))
    figures = {
        "accuracy": float(accuracy(table)),
        "macro_f1": float(macro_f1(table)),
        "ece": expected_calibration_error(sure, right),
        "temperature": temperature,
        "uncertain_below": uncertainty_threshold(sure, right, config.sure_accuracy),
        **{f"f1 {label}": score.f1 for label, score in zip(material.classes, per_class(table), strict=True)},
    }
    # Traced on three frames; other lengths are part of the check.
    example = torch.from_numpy(np.resize(rows[0], (1, 3, rows[0].shape[1])))
    free = {"features": {0: "clips", 1: "frames"}, "logits": {0: "clips"}, "weights": {0: "clips", 1: "frames"}}
    network = onnx_bytes(model, example, inputs=["features"], outputs=["logits", "weights"], free=free)
    difference = max(
        check_parity(model, network, {"features": torch.from_numpy(row[None])}, tolerance=_PARITY, unit="logits")
        for row in rows[:8]
    )
    summary: dict[str, Any] = {
        "validation": figures,
        "parameters": count_parameters(model),
        "onnx_difference": difference,
        "clips": {"train": len(material.train), "valid": len(material.valid), "subjects": material.subjects},
    }
    publish_network(
        config.out / "model.onnx",
        network,
        role="sequence",
        summary=f"Reads clips. Trained with mien on {len(material.train):,} clips, seed {config.seed}.",
        training_data=config.data.name,
        convention={
            "labels": list(material.classes),
            "features": config.features,
            "on": config.model,
            "frames": config.frames,
            "temperature": temperature,
            "uncertain_below": figures["uncertain_below"],
        },
        metrics={"validation": figures},
    )
    run.finish(summary)
    return summary


def _description(config: SequenceConfig, material: _Material) -> str:
    facts = {
        "story": "sequence",
        "net": as_dict(config.net),
        "features": config.features,
        "on": config.model,
        "classes": list(material.classes),
    }
    return json.dumps(facts, indent=1) + "\n"
