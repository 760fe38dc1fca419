"""The story of an expression recogniser: from labelled pictures to a run folder that `analyze` can use.

Everything random follows from the seed and the position in the training, so that a resumed run equals an unbroken one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor, nn

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.crops import Crops, cut_crops, join_crops
from mien.data.transforms import Augment, Order, Variation, mixup
from mien.errors import DataError, TrainingError, UsageError
from mien.images import printable
from mien.losses import distillation, focal, logit_adjusted, soft_cross_entropy
from mien.metrics.calibration import expected_calibration_error
from mien.metrics.expression import accuracy, confusion, macro_f1, per_class
from mien.networks import (
    AveragedNets,
    ExpressionNet,
    ExpressionNetConfig,
    FaceTrunk,
    TutorialCNN,
    count_macs,
    count_parameters,
    expression_net,
)
from mien.networks.tracing import onnx_bytes
from mien.training.calibration import confidence, fit_temperature, uncertainty_threshold
from mien.training.config import TrainingConfig, as_dict, load_config
from mien.training.course import Course
from mien.training.ema import EMA
from mien.training.guard import Guard
from mien.training.labelled import Labelled, load_labelled
from mien.training.material import Pinned
from mien.training.precision import autocast, choose_device
from mien.training.publishing import check_parity, publish_network
from mien.training.ranks import Ranks
from mien.training.reporter import PictureProgress
from mien.training.run import Run, write_result
from mien.training.schedule import decayed, scheduled_rate
from mien.training.stopping import EarlyStopping
from mien.training.weights import DESCRIPTION, EXPRESSION, UNREADABLE, fill, read_network

__all__ = [
    "DryRun",
    "ExpressionConfig",
    "LearnedFaces",
    "Net",
    "Trained",
    "calibrated",
    "dry_run",
    "learned_faces",
    "load_expression_net",
    "predict",
    "train",
]

Net = ExpressionNet | FaceTrunk | TutorialCNN
"""A network that is trained."""
Logits = Mapping[str, Float32[np.ndarray, "pictures classes"]]

_PARITY = 1e-3  # largest difference of a logit that passes as rounding
_SHOWN = 5  # names in a warning
_LOOKED_AT = 200  # pictures that say whether a data set is grey


@dataclass(frozen=True, kw_only=True)
class ExpressionConfig(TrainingConfig):
    """Settings of an expression training, beside those of every training.

    Attributes:
        data: Folders, zips or lists of labelled pictures, learned from together; see `mien data inspect`. Labels of the
            same name share a head, and have the same classes.
        names: What the labels of each data set are called, in the order of ``data``, such as ``["", "rafdb"]``; an
            empty name keeps what the data call them, an empty list all. Labels by other raters deserve their own.
        subset_classes: Let a data set share a head although it lacks some of its classes: they never show there.
        whole: Which data sets are ready-made crops that are shown as they came, in the order of ``data``, such as
            ``[true, false]``: no detector looks for the face. An empty list has none.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to, such as fer2013.
        heads: Which targets of the data to learn, the first is what `analyze` shows; empty for all.
        head_weights: How much each head's loss counts; empty for 1 each.
        valid_share: Share of the training pictures set aside where a data set names none for validation.
        drop_leaks: Leave out training pictures that stand in another split too.
        strict: Refuse such data instead.
        template: How faces are cut, here and at run time.
        frame: Px of the stored picture that a crop fills.
        canvas: Side of the stored picture, px: what is around the crop is for turning and shifting it.
        cache: Folder that keeps the crops; default is in the run folder. Runs on the same data may share one.
        net: The network.
        small_zoom: Enlargement of a face-trunk's pictures during the first part of the training, which makes it faster.
        small_share: Length of that part, of the whole training; 0 has none.
        pretrained: Start a face-trunk from the catalogue's face recogniser.
        init: A finished run to start from, weights exported from one, or the name of a shipped network.
        frozen: Blocks of a face-trunk, from its first convolution on, that stay as they begin, which makes it faster.
        augment: How pictures are varied.
        mixup: Parameter of the Beta distribution that pairs of pictures are mixed with; 0 mixes none.
        optimizer: sgd (Nesterov momentum 0.9) or adamw.
        learning_rate: The highest of the schedule.
        warmup: Images until it is reached, at most a tenth of the training.
        weight_decay: Of filters and matrices, not of biases and norms.
        clip: Longest gradient.
        ema_half_life: Images after which a weight's share in the published average has halved.
        smoothing: Part of each label that is spread over all classes.
        focal: Exponent of the focal loss; 0 is cross-entropy.
        balance_by: Against rare classes going under, and small data sets: none, sampling (more often), logits (adjusted
            while training).
        balance_strength: Of it, 0 to 1.
        teachers: Finished runs whose averaged answers are learned too.
        teacher_weight: Share of the loss that comes from them.
        teacher_temperature: Softens both sides.
        select: Metric by which the best checkpoint is kept, the mean of the heads.
        patience: So many reports without a better one end the training; 0 never does.
        average_mirrored: Average a face and its mirror image, in validation and at run time.
        sure_accuracy: An outcome is uncertain where those at least as sure are right less often than this.
    """

    data: tuple[Path, ...]
    names: tuple[str, ...] = ()
    subset_classes: bool = False
    whole: tuple[bool, ...] = ()
    kind: str = "auto"
    labels: str | None = None
    heads: tuple[str, ...] = ()
    head_weights: tuple[float, ...] = ()
    valid_share: float = 0.1
    drop_leaks: bool = True
    strict: bool = False
    template: str = "fer-48"
    frame: int = 64
    canvas: int = 96
    cache: Path | None = None
    net: ExpressionNetConfig = field(default_factory=ExpressionNetConfig)
    small_zoom: float = 1.5
    small_share: float = 0.0
    pretrained: bool = True
    init: Path | None = None
    frozen: int = 0
    augment: Variation = field(default_factory=Variation)
    mixup: float = 0.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    warmup: int = 20_000
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema_half_life: float = 100_000
    smoothing: float = 0.05
    focal: float = 0.0
    balance_by: Literal["none", "sampling", "logits"] = "none"
    balance_strength: float = 0.5
    teachers: tuple[Path, ...] = ()
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0
    select: Literal["accuracy", "macro_f1"] = "accuracy"
    patience: int = 0
    average_mirrored: bool = True
    sure_accuracy: float = 0.9

    RENAMED: ClassVar = {
        "flip": "average_mirrored",
        "balance": "balance_by",
        "data": ("data", lambda given: [given] if isinstance(given, str | Path) else given),  # once a single one
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.data, str | Path):
            object.__setattr__(self, "data", (Path(self.data),))
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list of labelled pictures.")
        if len(set(self.data)) < len(self.data):
            raise UsageError("Setting 'data' names a data set twice. Name each once.")
        for name in ("names", "whole"):
            given: tuple[object, ...] = getattr(self, name)
            if given and len(given) != len(self.data):
                raise UsageError(
                    f"Setting '{name}' has one value for each of 'data', got {len(given)} for {len(self.data)}."
                )
        if self.template not in TEMPLATES:
            raise UsageError(f"There is no template '{self.template}'. Choose from {', '.join(TEMPLATES)}.")
        if not 0 < self.frame <= self.canvas:
            raise UsageError(f"A canvas is at least as large as its frame, got {self.canvas} and {self.frame} px.")
        for name in (
            "valid_share",
            "smoothing",
            "balance_strength",
            "teacher_weight",
            "sure_accuracy",
            "small_share",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Setting '{name}' lies in [0, 1], got {getattr(self, name):g}.")
        for name in ("learning_rate", "clip", "teacher_temperature"):
            if not getattr(self, name) > 0:
                raise UsageError(f"Setting '{name}' is above 0, got {getattr(self, name):g}.")
        for name in ("mixup", "warmup", "weight_decay", "ema_half_life", "focal"):
            if getattr(self, name) < 0:
                raise UsageError(f"Setting '{name}' is 0 or more, got {getattr(self, name):g}.")
        if self.frozen and (self.net.arch != "face-trunk" or not 0 < self.frozen <= len(FaceTrunk.BLOCKS)):
            raise UsageError(
                f"Setting 'frozen' counts blocks of a face-trunk, 0 to {len(FaceTrunk.BLOCKS)}, got {self.frozen} for "
                f"{self.net.arch}."
            )
        if self.head_weights and len(self.head_weights) != len(self.heads):
            raise UsageError(
                f"Setting 'head_weights' has one number for each of 'heads', got {len(self.head_weights)} for "
                f"{len(self.heads)}."
            )


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives back.

    Attributes:
        model: The averaged network with the best validation.
        heads: Classes by head.
        summary: Figures of the validation and of the published file, as in `summary.json`.
    """

    model: Net
    heads: Mapping[str, tuple[str, ...]]
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        parameters: Learned values.
        macs: Multiplications with addition for one face, in convolutions and linear layers.
        images_per_second: Measured over a few steps, without reports.
        train: Pictures to learn from.
        valid: Pictures to check with.
        heads: Classes by head.
    """

    parameters: int
    macs: int
    images_per_second: float
    train: int
    valid: int
    heads: Mapping[str, tuple[str, ...]]


def train(config: ExpressionConfig) -> Trained:
    """Run the whole story, or go on with it where the run folder holds its beginning.

    Raises:
        MienError: The data, the settings or the run folder do not allow it, or the loss is no number.
        Interrupted: Ctrl-C; all is saved.
    """
    ranks = Ranks.join()
    device = choose_device(config.device, local_rank=ranks.local)
    labelled = load_labelled(config)
    with Run(config.out, config, may_change=("cache",), ranks=ranks) as run:
        ranks.say(*labelled.notes)
        material = _load_material(labelled, config, cache=config.cache or config.out / "crops", ranks=ranks)

        # Build. The published model is the average (EMA); the raw one only learns.
        torch.manual_seed(config.seed)
        model = _to(_build(config, material), device)
        ranks.broadcast(model)
        teachers = [_to(_load_teacher(folder, config, material.heads), device) for folder in config.teachers]
        ema = EMA(model, half_life_images=config.ema_half_life)
        optimizer = _optimizer(model, config)
        guard = Guard(clip=config.clip)
        stopping = EarlyStopping(config.patience)
        course = Course(
            run, config, guards={"train_loss": guard}, best=stopping, published={"model": ema.model},
            parts={
                "model": model, "ema": ema, "optimizer": optimizer, "guard": guard, "stopping": stopping,
                "material": material,
            },
        )  # fmt: skip
        if ranks.is_main:
            write_result(config.out / DESCRIPTION, _description(config, material).encode())
        course.begin()

        with course:
            for images in course.steps():
                # Learn from one batch.
                rate = course.scale * scheduled_rate(images, config)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batch = ranks.shard(torch.from_numpy(material.batch(images, config.batch_size))).numpy()
                if isinstance(model, FaceTrunk):
                    model.zoom = config.small_zoom if images < config.small_share * config.images else config.net.zoom
                optimizer.zero_grad(set_to_none=True)
                loss = _learn(model, teachers, material, batch, config, device)
                ranks.mean_gradients(model)
                guard.step(optimizer, model, loss)
                ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(lambda: _validate(ema.model, material, config), decides="valid_loss")
                ):
                    course.report(figures, score=figures[f"valid_{config.select}"], learning_rate=rate)

        course.restore_best()
        summary = course.publish(lambda: _publish(ema.model, material, config, run)) or {}
    ranks.close()
    return Trained(ema.model, material.heads, summary)


def dry_run(config: ExpressionConfig, *, steps: int = 3) -> DryRun:
    """Build everything, take a few steps on a few pictures, and write nothing.

    Raises:
        MienError: As `train` would.
    """
    device = choose_device(config.device)
    labelled = load_labelled(config)
    Ranks().say(*labelled.notes)
    counts = labelled.counts()
    material = _load_material(labelled.first(max(config.batch_size, 2)), config, cache=None, ranks=Ranks())
    torch.manual_seed(config.seed)
    model = _to(_build(config, material), device)
    teachers = [_to(_load_teacher(folder, config, material.heads), device) for folder in config.teachers]
    optimizer, guard, ema = _optimizer(model, config), Guard(clip=config.clip), EMA(model, config.ema_half_life)
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        batch = material.batch(step * config.batch_size, config.batch_size)
        optimizer.zero_grad(set_to_none=True)
        loss = _learn(model, teachers, material, batch, config, device)
        guard.step(optimizer, model, loss)
        ema.update(model, batch_size=config.batch_size)
    guard.mean_loss()  # waits for the device
    speed = steps * config.batch_size / (time.monotonic() - start)
    face = torch.zeros(1, config.net.channels, config.net.side, config.net.side, device=device)
    return DryRun(
        count_parameters(model), count_macs(model, face), speed, counts["train"], counts["valid"], material.heads
    )


def load_expression_net(source: Path) -> tuple[Net, dict[str, tuple[str, ...]]]:
    """Return the network that a run would publish, in evaluation mode, and its classes by head.

    Args:
        source: The run folder, a `.safetensors` file that `mien.training.export.save_weights` wrote, or the name of
            one that mien ships.

    Raises:
        TrainingError: There is no expression network, or its weights are missing or do not fit.
    """
    try:
        facts, state = read_network(source, EXPRESSION)
        heads = {str(name): tuple(str(label) for label in labels) for name, labels in facts["heads"].items()}
        config = load_config(ExpressionNetConfig, given=facts["net"])
    except UNREADABLE as error:
        raise TrainingError(
            f"'{printable(source)}' is no expression network ({error}). Expected a run folder, or weights written by "
            f"`mien export RUN -o NAME.safetensors`."
        ) from error
    model = expression_net(config, {name: len(labels) for name, labels in heads.items()}).eval()
    fill(model, source, state)
    return model, heads


@dataclass(frozen=True, slots=True, eq=False)
class LearnedFaces:
    """Faces of a run as its network is shown them.

    Attributes:
        train: Those it learned from, uint8 (train, side, side[, 3]).
        valid: Labelled ones that it was checked with, uint8 (valid, side, side[, 3]).
        by_head: Their labels by head, numbers of its classes, shape (valid,); -1 where there is none.
    """

    train: UInt8[np.ndarray, "train side side *colour"]
    valid: UInt8[np.ndarray, "valid side side *colour"]
    by_head: Mapping[str, Int[np.ndarray, " valid"]]

    @property
    def labels(self) -> Int[np.ndarray, " valid"]:
        """Labels of the first head; every picture has one."""
        return next(iter(self.by_head.values()))


def learned_faces(config: ExpressionConfig) -> LearnedFaces:
    """Return the faces that a run of this config learned from and was checked with.

    Raises:
        MienError: The data are no longer there, or are no such data.
    """
    material = _load_material(load_labelled(config), config, cache=config.cache or config.out / "crops", ranks=Ranks())
    faces, valid = material.crops.faces, material.valid
    valid = valid[material.labels(next(iter(material.heads)), valid) >= 0]
    by_head = {name: material.labels(name, valid) for name in material.heads}
    return LearnedFaces(faces[material.train], faces[valid], by_head)


# Pictures and labels --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Material(Pinned):
    """Everything that is learned from: crops, labels, splits. A part of the checkpoint, so that it cannot change."""

    heads: dict[str, tuple[str, ...]]
    crops: Crops
    shares: dict[str, Float[Tensor, "pictures classes"]]
    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    order: Order
    augment: Augment
    data_digest: str
    priors: dict[str, Float[Tensor, " classes"]] = field(init=False)  # as the network is shown them

    def __post_init__(self) -> None:
        self.priors = {name: _shown_shares(rows[self.train], self.order) for name, rows in self.shares.items()}

    def batch(self, images: int, size: int) -> Int[np.ndarray, " batch"]:
        """Return the pictures of the batch at a position, as indices into the crops."""
        return np.asarray(self.train[self.order.batch(images, size)])

    def labels(self, head: str, indices: Int[np.ndarray, " pictures"]) -> Int[np.ndarray, " pictures"]:
        """Return the majority of each picture, -1 where there is none."""
        shares = self.shares[head][indices].numpy()
        return np.asarray(np.where(np.isnan(shares).any(axis=1), -1, np.nan_to_num(shares).argmax(axis=1)))

    @property
    def digest(self) -> str:
        """Hash of names, labels and splits."""
        return self.data_digest

    @property
    def count(self) -> int:
        """Pictures to learn from and to check with."""
        return len(self.train) + len(self.valid)


def _check_colours(config: ExpressionConfig, parts: Sequence[Crops]) -> None:
    """Refuse grey and colour data sets together, which a colour network would tell apart before it looks at a face."""
    grey = [bool((np.ptp(part.faces[part.readable][:_LOOKED_AT], axis=3) == 0).all()) for part in parts]
    if len(set(grey)) > 1:
        first, other = config.data[grey.index(True)], config.data[grey.index(False)]
        raise DataError(
            f"'{printable(first)}' holds grey pictures and '{printable(other)}' colour ones. Set net.colour=false, or "
            f"augment.grey=0.5, which shows a half of the colour pictures in grey."
        )


def _shown_shares(rows: Float[Tensor, "train classes"], order: Order) -> Float[Tensor, " classes"]:
    """Return the share of each class in what the network is shown, rare classes more often than they occur or not."""
    known = ~rows.isnan().any(dim=1)
    weights = torch.from_numpy(order.weights).to(rows)[known]
    return (rows[known] * weights[:, None]).sum(0) / weights.sum()


def _load_material(labelled: Labelled, config: ExpressionConfig, *, cache: Path | None, ranks: Ranks) -> _Material:
    """Cut the faces, and drop what cannot be read."""
    heads, splits = dict(labelled.heads), labelled.splits
    done = itertools.count(1)
    with ranks.main_first(), PictureProgress(quiet=not ranks.is_main) as progress:  # the others read its cache
        parts = [
            cut_crops(
                samples,
                template=config.template,
                side=config.net.side,
                colour=config.net.colour,
                frame=config.frame,
                canvas=config.canvas,
                cache=cache,
                search=not whole,
                progress=lambda: progress(next(done), len(splits)),
            )
            for samples, whole in zip(labelled.parts, config.whole or [False] * len(config.data), strict=True)
        ]
    if config.net.colour and not config.augment.grey:
        _check_colours(config, parts)
    crops = join_crops(parts)
    notes = []
    if crops.unreadable:
        listed = "; ".join(reason for _, reason in crops.unreadable[:_SHOWN])
        notes.append(f"{len(crops.unreadable):,} pictures cannot be read and are left out: {listed}")
    usable, in_train = crops.readable, splits == "train"
    train, valid = np.flatnonzero(usable & in_train), np.flatnonzero(usable & ~in_train)
    if len(train) < 2 or not len(valid):
        raise DataError(
            f"Training needs at least 2 pictures to learn from and 1 to check with, got {len(train)} and {len(valid)}. "
            f"Add pictures."
        )
    searched = np.repeat(~np.array(config.whole or [False] * len(labelled.parts)), [len(p) for p in labelled.parts])
    lost = int((~crops.found & usable & searched).sum())
    if lost:
        notes.append(
            f"In {lost:,} of {len(train) + len(valid):,} pictures no face was found; they are taken as a whole."
        )
    ranks.say(*notes)
    order = Order(
        labelled.strata()[train],
        seed=config.seed,
        balance=config.balance_strength if config.balance_by == "sampling" else 0.0,
    )
    augment = Augment(frame=config.frame, side=config.net.side, variation=config.augment)
    digest = hashlib.sha256(json.dumps(heads).encode())
    for name in (*(name for samples in labelled.parts for name in samples.names), *splits.tolist()):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    targets = {name: labelled.targets(name).shares for name in heads}
    for rows in targets.values():
        digest.update(rows.tobytes())
    shares = {name: torch.from_numpy(rows) for name, rows in targets.items()}
    return _Material(heads, crops, shares, train, valid, order, augment, digest.hexdigest())


# One step -------------------------------------------------------------------------------------------------------------


def _build(config: ExpressionConfig, material: _Material) -> Net:
    """Return the network as training begins, or as the run of ``init`` ended."""
    model = expression_net(config.net, {name: len(labels) for name, labels in material.heads.items()})
    if config.init is not None:
        older, heads = load_expression_net(config.init)
        # A head of other classes starts afresh.
        kept = {name for name, labels in material.heads.items() if heads.get(name) == labels}
        theirs, ours = (
            {
                key: value
                for key, value in net.state_dict().items()
                if key.split(".")[0] != "heads" or key.split(".")[1] in kept
            }
            for net in (older, model)
        )
        if {key: value.shape for key, value in theirs.items()} != {key: value.shape for key, value in ours.items()}:
            raise TrainingError(
                f"'{printable(config.init)}' holds a network of another architecture: {as_dict(older.config)}; "
                f"this training has {as_dict(config.net)}. Set 'net' alike."
            )
        model.load_state_dict(theirs, strict=False)
    elif isinstance(model, FaceTrunk) and config.pretrained:
        some = material.train[:: max(len(material.train) // 512, 1)]
        model.load_recogniser(zoo.path("dlib-resnet29"), _channels_first(material.crops.faces[some]).float())
    if isinstance(model, FaceTrunk) and config.frozen:
        for part in (model.stem, model.norm, *list(model.blocks)[: config.frozen]):
            part.requires_grad_(False).eval()  # statistics of normalisation stay as well
    return model


def _optimizer(model: nn.Module, config: ExpressionConfig) -> torch.optim.Optimizer:
    groups = decayed(model, config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.learning_rate, fused=True)
    return torch.optim.SGD(groups, config.learning_rate, momentum=0.9, nesterov=True, fused=True)


def _learn(
    model: Net,
    teachers: Sequence[Net],
    material: _Material,
    batch: Int[np.ndarray, " batch"],
    config: ExpressionConfig,
    device: torch.device,
) -> Tensor:
    """Add the gradient of a batch's mean loss, part by part, and return the loss."""
    total = torch.zeros((), device=device)
    # A process's share of the batch need not divide evenly: parts weigh as many pictures as they have.
    for part in np.array_split(batch, min(config.accumulate, len(batch))):
        loss = batch_loss(model, teachers, material, part, config, device) * (len(part) / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def batch_loss(
    model: Net,
    teachers: Sequence[Net],
    material: _Material,
    indices: Int[np.ndarray, " batch"],
    config: ExpressionConfig,
    device: torch.device,
) -> Tensor:
    """Return the mean loss of some pictures, varied by PyTorch's own generator."""
    generator = torch.default_generator
    canvas = _channels_first(material.crops.canvas[indices]).to(device, non_blocking=True)
    x = material.augment(canvas, generator, torch.from_numpy(material.crops.whole[indices]))
    shares = {name: rows[indices].to(device) for name, rows in material.shares.items()}
    x, shares = mixup(x, shares, generator, config.mixup)
    x = x.contiguous(memory_format=torch.channels_last)
    with autocast(device, config.precision):
        features = model.features(x)
    logits = model.classify(features)
    teacher_answers = _teacher_answers(teachers, x, config, device)
    total = torch.zeros((), device=device)
    for place, (name, answers) in enumerate(logits.items()):
        if config.balance_by == "logits":
            answers = logit_adjusted(answers, material.priors[name].to(device), tau=config.balance_strength)
        if config.focal:
            rows = focal(answers, shares[name], gamma=config.focal, smoothing=config.smoothing)
        else:
            rows = soft_cross_entropy(answers, shares[name], smoothing=config.smoothing)
        if name in teacher_answers:
            learned = distillation(logits[name], teacher_answers[name], temperature=config.teacher_temperature)
            rows = torch.lerp(rows, learned, config.teacher_weight)
        total = total + rows.mean() * (config.head_weights[place] if config.head_weights else 1.0)
    return total


@torch.no_grad()
def _teacher_answers(
    teachers: Sequence[Net], x: Tensor, config: ExpressionConfig, device: torch.device
) -> dict[str, Float[Tensor, "batch classes"]]:
    """Return the mean of the teachers' log probabilities by head."""
    answers: dict[str, list[Tensor]] = {}
    for teacher in teachers:
        with autocast(device, config.precision):
            features = teacher.features(x)
        for name, logits in teacher.classify(features).items():
            answers.setdefault(name, []).append(logits.log_softmax(1))
    return {name: torch.stack(given).mean(0) for name, given in answers.items()}


def _load_teacher(folder: Path, config: ExpressionConfig, heads: Mapping[str, tuple[str, ...]]) -> Net:
    """Return a finished run's network, only with the heads that are learned here."""
    teacher, known = load_expression_net(folder)
    theirs, ours = (teacher.config.side, teacher.config.colour), (config.net.side, config.net.colour)
    shared = [name for name, labels in heads.items() if known.get(name) == labels]
    if theirs != ours or not shared:
        raise TrainingError(
            f"'{printable(folder)}' cannot teach this network: it reads {theirs[0]} px in {_colour(theirs[1])} and "
            f"answers {', '.join(known)}; this one reads {ours[0]} px in {_colour(ours[1])} and answers "
            f"{', '.join(heads)}. Side, colour and classes must be alike."
        )
    for name in set(known) - set(shared):
        del teacher.heads[name]
    return teacher.requires_grad_(False)


def _to(model: Net, device: torch.device) -> Net:
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


# Validation and publication -------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(
    model: Net | AveragedNets,
    faces: UInt8[np.ndarray, "pictures side side *colour"],
    *,
    flip: bool = True,
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_size: int = 256,
) -> dict[str, Float32[np.ndarray, "pictures classes"]]:
    """Return logits by head for faces as run time cuts them.

    Args:
        model: In evaluation mode.
        faces: Grey uint8 (pictures, side, side) or RGB (pictures, side, side, 3).
        flip: Average the logits of a face and of its mirror image.
        precision: Of the convolutions.
        batch_size: Faces at once.
    """
    device = next(model.parameters()).device
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(faces), batch_size):
        x = _channels_first(faces[start : start + batch_size]).to(device).float()
        x = x.contiguous(memory_format=torch.channels_last)
        answers = []
        for view in (x, x.flip(3)) if flip else (x,):
            with autocast(device, precision):
                features = model.features(view)
            answers.append(model.classify(features))
        parts.append({name: torch.stack([answer[name] for answer in answers]).mean(0).cpu() for name in answers[0]})
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _validate(model: Net, material: _Material, config: ExpressionConfig) -> dict[str, float]:
    """Return loss, accuracy and macro-F1 on the pictures for validation, by head and as their mean."""
    logits = predict(
        model, material.crops.faces[material.valid], flip=config.average_mirrored, precision=config.precision
    )
    scores: dict[str, float] = {}
    means: dict[str, list[float]] = {"valid_loss": [], "valid_accuracy": [], "valid_macro_f1": []}
    for name, answers in logits.items():
        labels = material.labels(name, material.valid)
        known = labels >= 0
        if not known.any():
            continue
        table = confusion(labels[known], answers[known].argmax(axis=1), classes=answers.shape[1])
        rows = soft_cross_entropy(torch.from_numpy(answers), material.shares[name][material.valid])
        found = (float(rows.sum()) / int(known.sum()), float(accuracy(table)), float(macro_f1(table)))
        for metric, value in zip(means, found, strict=True):
            means[metric].append(value)
            scores[f"{metric}_{name}"] = value
    mean = {metric: float(np.mean(values)) for metric, values in means.items()}
    return mean if len(logits) == 1 else mean | scores


def _publish(model: Net, material: _Material, config: ExpressionConfig, run: Run) -> dict[str, Any]:
    """Calibrate the network on the validation pictures and write it with its card: `model.onnx`, `card.json`.

    Returns:
        What is also written to `summary.json`.

    Raises:
        TrainingError: The written network answers otherwise than the trained one, or the disk is full.
    """
    model = model.to("cpu").eval()
    faces = material.crops.faces[material.valid]
    logits = predict(model, faces, flip=config.average_mirrored)
    figures = {
        name: calibrated(
            answers,
            material.labels(name, material.valid),
            material.heads[name],
            sure_accuracy=None if place else config.sure_accuracy,
        )
        for place, (name, answers) in enumerate(logits.items())
    }
    side, channels = config.net.side, config.net.channels
    network = onnx_bytes(model, torch.zeros(2, channels, side, side), outputs=list(logits))
    shown = {"image": _channels_first(faces[:64]).float()}
    summary: dict[str, Any] = {
        **figures,
        "parameters": count_parameters(model),
        "macs": count_macs(model, torch.zeros(1, channels, side, side)),
        "onnx_difference": check_parity(model, network, shown, tolerance=_PARITY, unit="logits"),
        "pictures": {"train": len(material.train), "valid": len(material.valid)},
    }
    publish_network(
        config.out / "model.onnx",
        network,
        role="expression",
        summary=f"Trained with mien on {len(material.train):,} pictures: {config.net.arch}, seed {config.seed}.",
        training_data=", ".join(source.name for source in config.data),
        convention={
            "heads": {name: list(labels) for name, labels in material.heads.items()},
            "side": side,
            "order": "RGB" if config.net.colour else "GRAY",
            "mean": 0.0,
            "scale": 1.0,
            "template": config.template,
            "flip": config.average_mirrored,
            "temperature": {name: scores["temperature"] for name, scores in figures.items()},
            "uncertain_below": next(iter(figures.values()))["uncertain_below"],
            "shares": {name: _learned_shares(prior, config) for name, prior in material.priors.items()},
        },
        metrics={"validation": figures},
    )
    run.finish(summary)
    return summary


def _learned_shares(prior: Float[Tensor, " classes"], config: ExpressionConfig) -> list[float]:
    """Return the class shares that the network answers for; adjusted logits leave only a part of those shown."""
    kept = prior ** (1 - config.balance_strength if config.balance_by == "logits" else 1.0) * (prior > 0)
    return [round(share, 5) for share in (kept / kept.sum()).tolist()]


def calibrated(
    answers: Float32[np.ndarray, "pictures classes"],
    labels: Int[np.ndarray, " pictures"],
    classes: Sequence[str],
    *,
    sure_accuracy: float | None = None,
) -> dict[str, Any]:
    """Return the figures of a head on validation pictures, its temperature among them.

    Args:
        answers: Its logits.
        labels: Numbers of classes; -1 where a picture has none.
        classes: Their names.
        sure_accuracy: The share of right answers that makes one sure; None where another head says what is uncertain.
    """
    known = labels >= 0
    logits, labels = answers[known].astype(np.float64), labels[known]
    temperature = fit_temperature(logits, labels)
    sure, right = confidence(logits / temperature, labels)
    table = confusion(labels, logits.argmax(axis=1), classes=logits.shape[1])
    figures: dict[str, Any] = {
        "pictures": len(labels),
        "accuracy": float(accuracy(table)),
        "macro_f1": float(macro_f1(table)),
        "ece": expected_calibration_error(sure, right),
        "ece_uncalibrated": expected_calibration_error(*confidence(logits, labels)),
        "temperature": temperature,
        **{f"f1 {label}": score.f1 for label, score in zip(classes, per_class(table), strict=True)},
    }
    if sure_accuracy is not None:
        uncertain_below = uncertainty_threshold(sure, right, sure_accuracy)
        answered = sure >= uncertain_below
        figures |= {
            "uncertain_below": uncertain_below,
            "sure": float(answered.mean()),
            "accuracy_where_sure": float(right[answered].mean()) if answered.any() else None,
        }
    return figures


def _description(config: ExpressionConfig, material: _Material) -> str:
    heads = {name: list(labels) for name, labels in material.heads.items()}
    return json.dumps({"net": as_dict(config.net), "heads": heads, "template": config.template}, indent=1) + "\n"


def _channels_first(pictures: UInt8[np.ndarray, "pictures side side *colour"]) -> UInt8[Tensor, "pictures c side side"]:
    """Return pictures as a tensor (pictures, channels, side, side)."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures))
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)


def _colour(colour: bool) -> str:
    return "colour" if colour else "grey"
