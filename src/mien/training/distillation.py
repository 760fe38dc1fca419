"""Train a fast embedder to see in bad pictures what a slower one sees in good ones.

The student is shown faces that were spoilt, covered, turned and lit by chance, and learns the teacher's vector of the
same face as it was (mirror image included). So it needs faces rather than identities; where pictures say who they are
of, it also learns to tell these people apart, each by the mean of the teacher's vectors. Subjects fall into three
parts as in `mien.training.embedder`: from train it learns, valid chooses the state, test says what may be claimed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.acquisition import read_subjects
from mien.data.crops import Crops, cut_crops
from mien.data.degradation import Damage, degrade, spoil
from mien.data.occlusion import occlude
from mien.data.transforms import Augment, Order, Variation
from mien.errors import DataError, TrainingError, UsageError
from mien.images import write_whole
from mien.metrics.verification import tar_at_fmr
from mien.networks.heads import MarginHead
from mien.networks.identity import TrunkEmbedder
from mien.networks.tracing import onnx_bytes
from mien.training.config import TrainingConfig
from mien.training.course import Course
from mien.training.ema import EMA
from mien.training.embedder import DryRun, measured_rates, split_subjects
from mien.training.guard import Guard
from mien.training.material import Pinned
from mien.training.precision import autocast, choose_device
from mien.training.publishing import check_parity, publish_network
from mien.training.reporter import PictureProgress
from mien.training.run import Run
from mien.training.schedule import decayed, warmup_cosine
from mien.training.stopping import EarlyStopping
from mien.training.verification import Verdict, calibrated_cost, comparisons, judge
from mien.types import as_unit
from mien.vision.embedder import Embedder
from mien.zoo import Card
from mien.zoo.conventions import convention

__all__ = ["DistillationConfig", "Judgement", "Material", "dry_run", "load_material", "subject_head", "train"]

TEMPLATE, SIDE, CANVAS = "arcface-112", 112, 144
"""How faces are cut; px of a crop, and of the picture around it that crops are varied in."""

_CONVENTION = "arcface-112-raw"
_PARITY = 1e-3  # largest difference of a component that passes as rounding
_BATCH = 128  # faces at once where nothing is learned

Vectors = Float32[np.ndarray, "faces dimension"]


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(TrainingConfig):
    """A student of another embedder.

    Attributes:
        data: A folder a subject, with train, valid and test above them or not; a zip of that; or a list (CSV) with
            ``path``, ``subject`` and perhaps ``split``. A picture of somebody unknown is a subject of its own.
        teacher: The embedder to learn from, as `mien.zoo.named` takes it.
        zoom: How much crops are enlarged inside the network: more is slower.
        pretrained: Start from dlib's face recogniser; otherwise from nothing.
        drop: Share of the last features dropped while learning.
        clean: Share of the pictures that are not spoilt.
        covered: Share of all pictures with something drawn before the face.
        damage: How far the others are spoilt: half of them so, half as `mien.data.degradation.degrade` does.
        variation: How far all are varied.
        identity_weight: Of telling subjects apart, beside 1 for the teacher's vector; 0 learns that alone.
        margin: By which the right subject's cosine is lowered there.
        scale: What cosines are multiplied by there.
        learning_rate: Highest learning rate.
        warmup: Images until it is reached.
        weight_decay: AdamW's.
        ema_half_life: Of the averaged weights, in images.
        patience: Reports without fewer misses on valid before it ends; 0 goes to the end.
        fmr: Misses at this false match rate choose the state, on valid, and decide what may be claimed, on test.
        cache: Folder for crops and the teacher's vectors, to share between runs; None keeps them in the run folder.
    """

    data: Path
    teacher: str = "sface"
    zoom: float = 1.25
    pretrained: bool = True
    drop: float = 0.0
    clean: float = 0.4
    covered: float = 0.15
    damage: Damage = field(default_factory=lambda: Damage(clean=0.0, shrink=(0.7, 6.0)))
    variation: Variation = field(
        default_factory=lambda: Variation(
            rotate=7.0, scale=0.08, shift=0.03, unaligned=0.0, contrast=0.25, brightness=20.0, colour=0.1, grey=0.1,
            gamma=0.2, shade=0.4, noise=0.0, blur=0.0, jpeg=0.0, erase=0.1,
        )
    )  # fmt: skip
    identity_weight: float = 0.1
    margin: float = 0.2
    scale: float = 32.0
    learning_rate: float = 1e-3
    warmup: int = 10_000
    weight_decay: float = 0.05
    ema_half_life: float = 20_000.0
    patience: int = 0
    fmr: float = 1e-2
    cache: Path | None = None
    images: int = 600_000
    batch_size: int = 128
    report_every: int = 50_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("clean", 0, 1),
            ("covered", 0, 1),
            ("drop", 0, 0.9),
            ("margin", 0, 1),
            ("zoom", 1, 4),
            ("fmr", 1e-6, 0.5),
            ("learning_rate", 1e-9, 10),
            ("scale", 1, 1000),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"Setting '{name}' lies between {low:g} and {high:g}, got {getattr(self, name):g}.")
        if min(self.identity_weight, self.weight_decay, self.warmup, self.ema_half_life) < 0:
            raise UsageError("Settings 'identity_weight', 'weight_decay', 'warmup' and 'ema_half_life' are 0 or more.")


@dataclass(frozen=True, slots=True)
class Judgement:
    """Student and teacher on the same held-out subjects.

    Attributes:
        clean: Pictures as they are.
        spoilt: Every other picture spoilt, as a good gallery is searched with bad pictures.
    """

    clean: Verdict
    spoilt: Verdict

    def sentence(self) -> str:
        """Say in words what may be claimed."""
        return f"{self.clean.sentence()} Where every other picture is spoilt: {self.spoilt.sentence()}"


def train(config: DistillationConfig) -> Judgement:
    """Run the whole story: learn, choose, judge on held-out subjects, export; return the judgement.

    The run folder then holds ``model.onnx`` and ``card.json``, and serves as an embedder wherever one is named.

    Raises:
        DataError: Too few subjects, subjects in two splits, or no faces.
        ModelError: There is no such teacher.
        TrainingError: The run cannot be saved or gone on with.
        Interrupted: Ctrl-C; all is saved.
    """
    teacher = zoo.named(config.teacher, role="embedder")
    with Run(config.out, config, may_change={"cache", "patience", "report_every", "images", "identity_weight"}) as run:
        material = load_material(config, teacher)

        # Build. The published model is the average (EMA); the raw one only learns.
        device = choose_device(config.device)
        torch.manual_seed(config.seed)
        model = _to(build_network(config, material), device)
        head = subject_head(config, material).to(device)
        ema = EMA(model, half_life_images=config.ema_half_life)
        optimizer = torch.optim.AdamW(decayed(model, config.weight_decay), config.learning_rate, fused=True)
        guard, stopping = Guard(clip=5.0), EarlyStopping(config.patience, higher_is_better=False)
        course = Course(
            run, config, guards={"train_loss": guard}, best=stopping, published={"model": ema.model},
            parts={
                "model": model, "ema": ema, "optimizer": optimizer, "guard": guard, "stopping": stopping,
                "material": material,
            },
        )  # fmt: skip
        course.begin()
        with course:
            for images in course.steps():
                # Learn from one batch.
                for group in optimizer.param_groups:
                    group["lr"] = course.scale * warmup_cosine(
                        images, config.images, min(config.warmup, config.images // 10), config.learning_rate
                    )
                optimizer.zero_grad(set_to_none=True)
                places = material.order.batch(images, config.batch_size)
                loss = torch.zeros((), device=device)
                for part in np.array_split(np.arange(config.batch_size), config.accumulate):
                    x = material.varied(images, part, places[part]).to(device)
                    share = batch_loss(model, head, material, x, places[part], config) * len(part) / config.batch_size
                    share.backward()  # type: ignore[no-untyped-call]
                    loss += share.detach()
                guard.step(optimizer, model, loss)
                ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (
                    figures := course.measure(lambda: material.scores(ema.model, "valid"), decides="valid_miss")
                ):
                    course.report(figures, score=figures["valid_miss"])

        # Publish the best state, and judge it on subjects that had no say so far.
        course.restore_best()
        judgement = course.publish(lambda: _publish(run, config, ema.model, material, teacher, stopping))
        assert judgement is not None, "one process trains an embedder"
        return judgement


def dry_run(config: DistillationConfig, *, steps: int = 3) -> DryRun:
    """Read the data, build the network and take a few steps on noise; write nothing and look for no face."""
    samples = read_subjects(config.data)
    assert samples.subjects is not None, "read_subjects insists on them"
    device = choose_device(config.device)
    dimension = int(zoo.named(config.teacher, role="embedder").convention["dimension"])
    model = _to(TrunkEmbedder(side=SIDE, zoom=config.zoom, dimension=dimension), device)
    noise = torch.rand(config.batch_size, 3, SIDE, SIDE, device=device) * 255
    noise = noise.contiguous(memory_format=torch.channels_last)
    start = time.monotonic()
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        with autocast(device, config.precision):
            vectors = model(noise)
        vectors.square().mean().backward()
    speed = steps * config.batch_size / max(time.monotonic() - start, 1e-9)
    parameters = sum(weight.numel() for weight in model.parameters())
    return DryRun(len(np.unique(samples.subjects)), len(samples), parameters, speed)


# What is learned from -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Material(Pinned):
    """Everything that is learned from. A part of the checkpoint, so that it cannot change.

    Attributes:
        crops: Of all samples; where a cache holds them, they stay in its files.
        found: Which of them show a face: numbers of faces below count these.
        targets: The teacher's unit vector of each, mirror image included.
        plain: The teacher's unit vector of each as run time takes it.
        subjects: Who each is of.
        splits: train, valid or test.
        train: Numbers of those to learn from.
        who: Number of each one's subject among those that are learned; -1 elsewhere.
        order: Which of ``train`` each batch holds.
        config: The settings.
    """

    crops: Crops
    found: Int[np.ndarray, " faces"]
    targets: Vectors
    plain: Vectors
    subjects: Shaped[np.ndarray, " faces"]
    splits: Shaped[np.ndarray, " faces"]
    train: Int[np.ndarray, " learned"]
    who: Int[np.ndarray, " faces"]
    order: Order
    config: DistillationConfig

    def varied(
        self, position: int, places: Int[np.ndarray, " batch"], numbers: Int[np.ndarray, " batch"]
    ) -> Float32[Tensor, "batch 3 side side"]:
        """Return training faces, spoilt and varied by chance that follows from the position in the training.

        Args:
            position: Images seen before this batch.
            places: Of each face in the batch.
            numbers: Of the faces among ``train``.
        """
        rngs = [np.random.default_rng([self.config.seed, 1, position + int(place)]) for place in places]
        canvases = self.crops.canvas[self.found[self.train[numbers]]]
        spoilt = [self._spoilt(canvas, rng) for canvas, rng in zip(canvases, rngs, strict=True)]
        augment = Augment(frame=SIDE, side=SIDE, variation=self.config.variation)
        x = augment(_channels_first(np.stack(spoilt)), torch.default_generator)
        return x.contiguous(memory_format=torch.channels_last)

    def scores(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return how often mates are missed at the FMR that decides, and what believing scores costs in bits.

        Each on clean faces and with every other one spoilt; ``valid_miss`` is the mean of both.
        """
        inside = np.flatnonzero(self.splits == split)
        clean, mixed = self.vectors(model, inside, self.config.precision)
        pairs = comparisons(self.subjects[inside])
        figures = {"valid_miss": 0.0}
        for name, vectors in (("clean", clean), ("spoilt", mixed)):
            figures[f"valid_miss_{name}"] = 1 - tar_at_fmr(*pairs.scores(vectors), fmr=self.config.fmr)
            figures[f"valid_cost_{name}"] = calibrated_cost(vectors, pairs)
        figures["valid_miss"] = (figures["valid_miss_clean"] + figures["valid_miss_spoilt"]) / 2
        return figures | {"valid_cosine": float((as_unit(clean) * self.targets[inside]).sum(1).mean())}

    def vectors(self, model: nn.Module, faces: Int[np.ndarray, " some"], precision: Any) -> tuple[Vectors, Vectors]:
        """Return a network's vectors of some faces: as they are, and with every other one spoilt."""
        clean = embed_all(model, self.crops.faces[self.found[faces]], precision)
        mixed = clean.copy()
        mixed[1::2] = embed_all(model, self.spoilt_faces(faces[1::2]), precision)
        return clean, mixed

    def spoilt_faces(self, faces: Int[np.ndarray, " some"]) -> UInt8[np.ndarray, "some side side 3"]:
        """Return some faces spoilt, always in the same way."""
        rngs = (np.random.default_rng([self.config.seed, 2, int(face)]) for face in faces)
        room = (CANVAS - SIDE) // 2
        spoilt = [
            self._spoilt(self.crops.canvas[self.found[face]], rng, always=True)[room:-room, room:-room]
            for face, rng in zip(faces, rngs, strict=True)
        ]
        return np.stack(spoilt) if spoilt else np.empty((0, SIDE, SIDE, 3), np.uint8)

    def _spoilt(
        self, canvas: UInt8[np.ndarray, "canvas canvas 3"], rng: np.random.Generator, *, always: bool = False
    ) -> UInt8[np.ndarray, "canvas canvas 3"]:
        """Return a face as a bad camera shows it, or, by chance, as it is."""
        if rng.random() < self.config.covered:
            points = TEMPLATES[TEMPLATE].points_at(SIDE) + (CANVAS - SIDE) / 2 + rng.normal(0, 1, (5, 2))
            canvas = occlude(canvas, points, rng)[0]
        if not always and rng.random() < self.config.clean:
            return canvas
        if rng.random() < 0.5:
            return spoil(canvas, rng, self.config.damage)
        return np.asarray(_resized(degrade(canvas, rng), CANVAS), np.uint8)

    @property
    def digest(self) -> str:
        """Hash of the teacher's vectors, subjects and splits."""
        digest = hashlib.sha256(self.targets.tobytes())
        for name in (*self.subjects.tolist(), *self.splits.tolist()):
            digest.update(str(name).encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    @property
    def count(self) -> int:
        """Pictures to learn from and to check with."""
        return len(self.targets)


def load_material(config: DistillationConfig, teacher: Card) -> Material:
    """Cut the faces out and ask the teacher about them.

    Raises:
        DataError: Too few subjects, subjects in two splits, or no faces.
    """
    samples = read_subjects(config.data)
    assert samples.subjects is not None, "read_subjects insists on them"
    cache = config.cache or config.out / "cache"
    done = itertools.count(1)
    with PictureProgress(least=1) as progress:
        crops = cut_crops(
            samples, template=TEMPLATE, side=SIDE, colour=True, frame=SIDE, canvas=CANVAS, cache=cache,
            progress=lambda: progress(next(done), len(samples)),
        )  # fmt: skip
    found = np.flatnonzero(crops.found)
    if not len(found):
        raise DataError(f"No face was found in any of {len(samples)} pictures. Check that they show faces.")
    subjects = samples.subjects[found]
    splits = split_subjects(subjects, samples.splits[found], seed=config.seed)
    key = hashlib.sha256(f"{samples.fingerprint()} {teacher.id} {TEMPLATE} {SIDE}".encode()).hexdigest()[:16]
    plain, mirrored = _taught(crops, found, teacher, cache / f"teacher-{key}.npz")
    train = np.flatnonzero(splits == "train")
    for split in ("valid", "test"):
        comparisons(subjects[splits == split])  # too few subjects to judge by show now, not after the training
    if len(train) < config.batch_size:
        raise DataError(
            f"Training needs at least a batch of {config.batch_size} faces to learn from, got {len(train)}. Add "
            "pictures, or lower batch_size."
        )
    who = np.full(len(found), -1)
    _, who[train] = np.unique(subjects[train], return_inverse=True)
    # Somebody of twelve pictures is not to be seen twelve times as often as somebody of one.
    order = Order(who[train], seed=config.seed, balance=0.5)
    return Material(crops, found, as_unit(plain + mirrored), plain, subjects, splits, train, who, order, config)


def _taught(crops: Crops, found: Int[np.ndarray, " faces"], teacher: Card, file: Path) -> tuple[Vectors, Vectors]:
    """Return the teacher's unit vectors of all faces and of their mirror images; what is kept is read."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if len(archive["plain"]) == len(found):
                return archive["plain"], archive["mirrored"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # nothing is kept, or nothing whole
    embedder = Embedder(teacher)
    if (embedder.convention.template, embedder.side) != (TEMPLATE, SIDE):
        raise UsageError(
            f"'{teacher.name}' sees faces cut as {embedder.convention.template}, {embedder.side} px; a teacher here "
            f"sees them as {TEMPLATE}, {SIDE} px, as sface does."
        )
    rows: tuple[list[Vectors], list[Vectors]] = ([], [])
    with PictureProgress(least=1) as progress:
        for start in range(0, len(found), _BATCH):
            faces = crops.faces[found[start : start + _BATCH]]
            rows[0].append(embedder.describe(faces))
            rows[1].append(embedder.describe(np.ascontiguousarray(faces[:, :, ::-1])))
            progress(start + len(faces), len(found))
    plain, mirrored = (np.concatenate(part) for part in rows)
    packed = io.BytesIO()
    np.savez(packed, plain=plain, mirrored=mirrored)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, packed.getvalue())
    except OSError as error:
        raise TrainingError(f"Vectors cannot be kept in '{file.parent}': {error.strerror or error}.") from error
    return plain, mirrored


# One step -------------------------------------------------------------------------------------------------------------


def build_network(config: DistillationConfig, material: Material) -> TrunkEmbedder:
    """Return the student as training begins."""
    model = TrunkEmbedder(side=SIDE, zoom=config.zoom, dimension=material.targets.shape[1], drop=config.drop)
    if config.pretrained:
        some = material.train[:: max(len(material.train) // 512, 1)]
        model.trunk.load_recogniser(
            zoo.path("dlib-resnet29"), _channels_first(material.crops.faces[material.found[some]]).float()
        )
    return model


def subject_head(config: DistillationConfig, material: Material) -> MarginHead:
    """Return a head whose directions are the means of what the teacher sees in each subject; they stay."""
    who = torch.from_numpy(material.who[material.train])
    subjects, dimension = int(who.max()) + 1, material.targets.shape[1]
    head = MarginHead(dimension, subjects, margin="cosface", size=config.margin, scale=config.scale)
    sums = torch.zeros(subjects, dimension).index_add_(0, who, torch.from_numpy(material.targets[material.train]))
    with torch.no_grad():
        head.directions.copy_(functional.normalize(sums))
    return head.requires_grad_(False)


def batch_loss(
    model: nn.Module,
    head: MarginHead,
    material: Material,
    x: Float32[Tensor, "batch 3 side side"],
    numbers: Int[np.ndarray, " batch"],
    config: DistillationConfig,
) -> Float[Tensor, ""]:
    """Return how far vectors are from the teacher's, as one minus the cosine, and how badly people are told apart."""
    faces = material.train[numbers]
    with autocast(x.device, config.precision):
        vectors = model(x)
    targets = torch.from_numpy(material.targets[faces]).to(x.device)
    loss = (1 - functional.cosine_similarity(vectors, targets)).mean()
    if config.identity_weight:
        right = torch.from_numpy(material.who[faces]).to(x.device)
        loss = loss + config.identity_weight * functional.cross_entropy(head(vectors, right), right)
    return loss


@torch.no_grad()
def embed_all(model: nn.Module, faces: UInt8[np.ndarray, "faces side side 3"], precision: Any = "fp32") -> Vectors:
    """Return a network's vectors of crops, of any length."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    rows = []
    for start in range(0, len(faces), _BATCH):
        x = _channels_first(faces[start : start + _BATCH]).to(device).float()
        with autocast(device, precision):
            rows.append(model(x.contiguous(memory_format=torch.channels_last)).float().cpu())
    model.train(training)
    return torch.cat(rows).numpy()


# Publication ----------------------------------------------------------------------------------------------------------


def _publish(
    run: Run, config: DistillationConfig, model: nn.Module, material: Material, teacher: Card, stopping: EarlyStopping
) -> Judgement:
    """Judge the student beside its teacher on the held-out subjects, and write it with its card."""
    model = model.to("cpu").eval()
    held_out = np.flatnonzero(material.splits == "test")
    subjects = material.subjects[held_out]
    clean, mixed = material.vectors(model, held_out, "fp32")
    theirs = material.plain[held_out].copy()
    theirs_mixed = theirs.copy()
    theirs_mixed[1::2] = Embedder(teacher).describe(material.spoilt_faces(held_out[1::2]))
    judgement = Judgement(
        judge(theirs, clean, subjects, built_on=teacher.name, fmr=config.fmr),
        judge(theirs_mixed, mixed, subjects, built_on=teacher.name, fmr=config.fmr),
    )
    network = onnx_bytes(model, torch.zeros(2, 3, SIDE, SIDE), outputs=["embedding"])
    how = f"mien models add {run.out / 'model.onnx'} --name NAME --role embedder --convention {_CONVENTION}"
    shown = {"image": _channels_first(material.crops.faces[material.found[held_out[:8]]]).float()}
    publish_network(
        run.out / "model.onnx",
        network,
        name=run.out.resolve().name,
        role="embedder",
        summary=f"Learned by `mien train embedder` from {teacher.name}. {judgement.sentence()}",
        licence=f"that of {teacher.name} ({teacher.licence}) and of the data",
        training_data=f"the user's own: '{config.data.name}', as {teacher.name} sees it",
        convention={**convention(_CONVENTION, "embedder").facts, "dimension": material.targets.shape[1]},
        metrics={
            "teacher": teacher.id,
            "test": {"clean": judgement.clean.as_dict(), "spoilt": judgement.spoilt.as_dict()},
        },
        **measured_rates(clean, subjects, config.data.name),
    )
    run.finish(
        {
            "outcome": judgement.sentence(),
            "faces": {split: int((material.splits == split).sum()) for split in ("train", "valid", "test")},
            "best share of mates missed": stopping.best,
            "best at (images)": stopping.best_images,
            "on the test subjects": {
                "clean": _in_words(judgement.clean), "every other picture spoilt": _in_words(judgement.spoilt),
            },
            "onnx_difference": check_parity(model, network, shown, tolerance=_PARITY, unit="in a component"),
            "how to add it": how,
        }
    )  # fmt: skip
    return judgement


def _in_words(verdict: Verdict) -> Mapping[str, Mapping[str, str]]:
    """Return a verdict's figures in words, by measure."""
    return {
        name: {"student": str(new), "teacher": str(verdict.base[name]), "difference": str(verdict.difference[name])}
        for name, new in verdict.new.items()
    }


def _to(model: TrunkEmbedder, device: torch.device) -> TrunkEmbedder:
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _channels_first(pictures: UInt8[np.ndarray, "pictures side side 3"]) -> UInt8[Tensor, "pictures 3 side side"]:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)


def _resized(image: UInt8[np.ndarray, "height width 3"], side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) if image.shape[0] != side else image
