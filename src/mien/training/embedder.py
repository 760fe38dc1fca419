"""Train an embedder on pictures of known subjects: a correction of another embedder's vectors, or a small network.

The subjects fall into three parts: from train it learns, on valid the best state is chosen, and test, which had no
say in anything, decides whether the result may be said to beat the base.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mien import zoo
from mien.analyzer import Analyzer
from mien.data.acquisition import AnalyzerLike, Faces, acquire_faces, read_subjects
from mien.data.crops import cut_crops
from mien.data.samples import Samples
from mien.data.splits import SPLITS, by_subject
from mien.data.transforms import Augment, Variation
from mien.errors import DataError, UsageError
from mien.metrics.calibration import fit_logistic
from mien.metrics.verification import fnmr_at_fmr
from mien.networks.heads import Margin, MarginHead
from mien.networks.identity import Projection, SmallResNet
from mien.networks.tracing import onnx_bytes
from mien.training.composition import compose, corrected_convention
from mien.training.config import TrainingConfig
from mien.training.course import Course
from mien.training.ema import EMA
from mien.training.guard import Guard
from mien.training.precision import autocast, choose_device
from mien.training.publishing import check_difference, publish_network
from mien.training.reporter import PictureProgress
from mien.training.run import Run
from mien.training.schedule import warmup_cosine
from mien.training.stopping import EarlyStopping
from mien.training.verification import Verdict, calibrated_cost, comparisons, judge
from mien.types import as_unit
from mien.vision.cohort import Cohort
from mien.vision.embedder import Embedder
from mien.zoo import Card
from mien.zoo.conventions import convention

__all__ = [
    "ARCHITECTURES",
    "DryRun",
    "EmbedderConfig",
    "SmallResNetConfig",
    "dry_run",
    "measured_rates",
    "split_subjects",
    "train",
]

SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
_RATES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
_FEWEST_FALSE_MATCHES = 30  # the rule of 30: fewer do not measure a rate
_DRY_STEPS = 3
_PARITY = 1e-4  # largest difference of a component of a unit vector that passes as rounding
_FRAME, _CANVAS = 112, 144  # px of the room that crops for the small network are varied in


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig(TrainingConfig):
    """A correction of another embedder's vectors: seconds on a CPU.

    Attributes:
        data: A folder a subject, with train, valid and test above them or not; a zip of that; or a list (CSV) with
            ``path``, ``subject`` and perhaps ``split``.
        on: The embedder to correct, and to be compared with, as `mien.zoo.named` takes it; '' is the default one.
        hidden: Width of a hidden layer beside the linear map; 0 has none.
        head: Margin of the training head.
        margin: Its size: a cosine for cosface, radians for arcface.
        scale: What cosines are multiplied by.
        learning_rate: Highest learning rate.
        pull: How strongly the correction is drawn back to no change, a factor on the squared distance.
        ema_half_life: Of the averaged weights, in images.
        patience: Reports without a better valid cost before it ends; 0 goes to the end.
        fmr: The true accept rate at this false match rate, on the test subjects, decides whether the base is beaten.
        cache: Folder for embeddings and crops, to share between runs; None keeps them in the run folder.
    """

    data: Path
    on: str = ""
    hidden: int = 0
    head: Margin = "arcface"
    margin: float = 0.3
    scale: float = 16.0
    learning_rate: float = 1e-3
    pull: float = 0.01
    ema_half_life: float = 1_000.0
    patience: int = 10
    fmr: float = 1e-2
    cache: Path | None = None
    images: int = 100_000
    batch_size: int = 256
    report_every: int = 2_560

    RENAMED: ClassVar = {"lr": "learning_rate"}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("margin", 0, 1.5),
            ("fmr", 1e-6, 0.5),
            ("learning_rate", 1e-9, 10),
            ("scale", 1, 1000),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"Setting '{name}' lies between {low:g} and {high:g}, got {getattr(self, name):g}.")
        if self.hidden < 0 or self.pull < 0:
            raise UsageError("Settings 'hidden' and 'pull' are 0 or more.")


@dataclass(frozen=True, kw_only=True)
class SmallResNetConfig(EmbedderConfig):
    """A small residual network, from scratch, on crops: for thousands of subjects.

    Attributes:
        side: Of the crops, px, a multiple of 16.
        widths: Channels of its four stages.
        blocks: Residual blocks of its four stages.
        dimension: Of its embeddings.
        drop: Share of features dropped while learning.
        weight_decay: AdamW's.
        variation: How far the crops are varied.
    """

    side: int = 112
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 2, 2, 1)
    dimension: int = 128
    drop: float = 0.2
    weight_decay: float = 0.05
    variation: Variation = field(
        default_factory=lambda: Variation(rotate=8.0, shift=0.04, scale=0.08, unaligned=0.0, erase=0.1)
    )
    pull: float = 0.0
    scale: float = 32.0
    ema_half_life: float = 10_000.0
    images: int = 400_000
    batch_size: int = 128
    report_every: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % 16 or len(self.widths) != 4 or len(self.blocks) != 4:
            raise UsageError("Setting 'side' is a multiple of 16; 'widths' and 'blocks' have four values each.")


ARCHITECTURES: dict[str, type[EmbedderConfig]] = {"projection": EmbedderConfig, "small-resnet": SmallResNetConfig}
"""Config by name of the architecture."""


def train(config: EmbedderConfig, *, analyzer: AnalyzerLike | None = None, samples: Samples | None = None) -> Verdict:
    """Run the whole story: learn, choose, judge on held-out subjects, export; return the judgement.

    The run folder then holds ``model.onnx`` and ``card.json``, and serves as an embedder wherever one is named.

    Args:
        config: What to do.
        analyzer: Finds and embeds faces; default one with the embedder that ``config.on`` names.
        samples: Pictures with subjects, and with splits if these are chosen; default those of ``config.data``.

    Raises:
        DataError: Too few subjects, subjects in two splits, or no faces.
        TrainingError: The run cannot be saved or gone on with.
        Interrupted: Ctrl-C; all is saved.
    """
    with Run(config.out, config, may_change={"cache", "patience", "report_every"}) as run:
        analyzer = analyzer or Analyzer(embedder=config.on or None, expression=None)
        samples = samples or read_subjects(config.data)
        faces = acquire_faces(samples, analyzer, cache=_cache(config), progress=PictureProgress(least=1))
        faces = replace(faces, splits=split_subjects(faces.subjects, faces.splits, seed=config.seed))
        inside = {name: faces.splits == name for name in SPLITS}
        material = _material(config, samples, faces, analyzer.card)
        valid = comparisons(faces.subjects[inside["valid"]])
        comparisons(faces.subjects[inside["test"]])  # too few subjects to judge by show now, not after the training

        # Build. Subjects with one face give a direction nothing to agree on: they are left out.
        learn, labels = _to_learn(faces, inside["train"])
        device = choose_device(config.device)
        torch.manual_seed(config.seed)
        model = _network(config, material.plain.shape[1]).to(device)
        head = _head(config, model, material, learn, labels).to(device)
        ema = EMA(model, half_life_images=config.ema_half_life)
        learner = nn.ModuleDict({"model": model, "head": head})
        decay = config.weight_decay if isinstance(config, SmallResNetConfig) else 0.0
        optimizer = torch.optim.AdamW(learner.parameters(), lr=config.learning_rate, weight_decay=decay)
        guard, stopping = Guard(clip=5.0), EarlyStopping(config.patience, higher_is_better=False)
        course = Course(
            run, config, guards={"train_loss": guard}, best=stopping, published={"model": ema.model},
            parts={"learner": learner, "ema": ema, "optimizer": optimizer, "guard": guard, "stopping": stopping},
        )  # fmt: skip

        def valid_cost() -> dict[str, float]:
            vectors = _embedded(ema.model, material, np.flatnonzero(inside["valid"]), device)
            return {"valid_cost": calibrated_cost(vectors, valid)}

        if not course.begin():
            # A correction starts as no correction: one that never helps on valid ends as none.
            stopping.update(valid_cost()["valid_cost"] if isinstance(model, Projection) else float("inf"), 0)
            run.save_best(model=ema.model)
            course.save()
        with course:
            for images in course.steps():
                # Learn from one batch, drawn by its position.
                chance = torch.Generator().manual_seed(run.seed_position(images))
                drawn = torch.randint(len(learn), (config.batch_size,), generator=chance)
                optimizer.param_groups[0]["lr"] = course.scale * warmup_cosine(
                    images, config.images, 4 * config.batch_size, config.learning_rate
                )
                optimizer.zero_grad(set_to_none=True)
                loss = _learn(learner, material, learn, labels, drawn, chance, config)
                guard.step(optimizer, learner, loss)
                ema.update(model, batch_size=config.batch_size)

                # Now and then, say how it goes and make the run safe to stop.
                if course.advance() and (figures := course.measure(valid_cost, decides="valid_cost")):
                    course.report(figures, score=figures["valid_cost"])

        # Publish the best state, and judge it on subjects that had no say so far.
        course.restore_best()
        best: nn.Module = ema.model.to("cpu").eval()
        verdict = course.publish(lambda: _publish(run, config, best, analyzer, faces, material, stopping))
        assert verdict is not None, "one process trains an embedder"
        return verdict


def _learn(
    learner: nn.ModuleDict,
    material: _Material,
    learn: Int[np.ndarray, " learned"],
    labels: Int[Tensor, " learned"],
    drawn: Int[Tensor, " batch"],
    chance: torch.Generator,
    config: EmbedderConfig,
) -> Float[Tensor, ""]:
    """Add the gradient of a batch's mean loss, part by part, and return the loss."""
    model, head = learner["model"], learner["head"]
    device = next(model.parameters()).device
    loss = torch.zeros((), device=device)
    for part in drawn.chunk(config.accumulate):
        with autocast(device, config.precision):
            vectors = model(material.varied(learn[part.numpy()], chance).to(device))
        right = labels[part].to(device)
        share = functional.cross_entropy(head(vectors, right), right)
        if isinstance(model, Projection):
            share = share + config.pull * model.distance_from_identity()
        (share / config.accumulate).backward()  # type: ignore[no-untyped-call]
        loss += share.detach() / config.accumulate
    return loss


def _publish(
    run: Run,
    config: EmbedderConfig,
    model: nn.Module,
    analyzer: AnalyzerLike,
    faces: Faces,
    material: _Material,
    stopping: EarlyStopping,
) -> Verdict:
    """Judge a network beside its base on the held-out subjects, and write it with its card."""
    held_out = np.flatnonzero(faces.splits == "test")
    vectors, subjects = _embedded(model, material, held_out, torch.device("cpu")), faces.subjects[held_out]
    verdict = judge(faces.vectors[held_out], vectors, subjects, built_on=analyzer.card.name, fmr=config.fmr)
    how = _export(run.out, config, model, analyzer, vectors, subjects, verdict)
    tested = {
        name: {"new": str(new), "base": str(verdict.base[name]), "difference": str(verdict.difference[name])}
        for name, new in verdict.new.items()
    }
    run.finish(
        {
            "outcome": verdict.sentence(),
            "faces lost": faces.lost,
            "best valid cost (bits)": stopping.best,
            "best at (images)": stopping.best_images,
            "on the test subjects": tested,
            "how to add it": how,
        }
    )
    return verdict


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a training would be.

    Attributes:
        subjects: In the data.
        pictures: Of them.
        parameters: Of the network, and of its training head where that learns.
        images_per_second: Of steps on noise.
    """

    subjects: int
    pictures: int
    parameters: int
    images_per_second: float


def dry_run(config: EmbedderConfig) -> DryRun:
    """Read the data, build the networks and take a few steps on noise; write nothing and look for no face."""
    samples = read_subjects(config.data)
    assert samples.subjects is not None, "read_subjects insists on them"
    subjects = len(np.unique(samples.subjects))
    device = choose_device(config.device)
    shape: tuple[int, ...]
    if isinstance(config, SmallResNetConfig):
        dimension, shape = config.dimension, (config.batch_size, 3, config.side, config.side)
    else:
        dimension = int(zoo.named(zoo.choice(config.on or zoo.default("embedder"), "embedder")).convention["dimension"])
        shape = (config.batch_size, dimension)
    model = _network(config, dimension).to(device)
    head = MarginHead(dimension, subjects, margin=config.head, size=config.margin, scale=config.scale).to(device)
    learner = nn.ModuleDict({"model": model, "head": head})
    noise, right = torch.rand(shape, device=device), torch.arange(config.batch_size, device=device) % subjects
    for step in range(_DRY_STEPS + 1):
        if step == 1:  # the first one warms up
            start = time.monotonic()
        functional.cross_entropy(head(model(noise), right), right).backward()  # type: ignore[no-untyped-call]
    speed = _DRY_STEPS * config.batch_size / max(time.monotonic() - start, 1e-9)
    return DryRun(subjects, len(samples), sum(weight.numel() for weight in learner.parameters()), speed)


@dataclass(frozen=True, eq=False)
class _Material:
    """What the network is fed for each face.

    Attributes:
        plain: As run time feeds it, shape (faces, ...).
        varied: Gives a batch to learn from, of faces by number.
    """

    plain: Tensor
    varied: Callable[[Int[np.ndarray, " batch"], torch.Generator], Tensor]


def _material(config: EmbedderConfig, samples: Samples, faces: Faces, card: Card) -> _Material:
    if not isinstance(config, SmallResNetConfig):
        # What is corrected is what the network alone sees; the cohort is one of its embeddings, not of corrected ones.
        vectors = torch.from_numpy(Cohort.undo(faces.vectors) if "cohort" in card.convention else faces.vectors)
        return _Material(vectors, lambda numbers, _: vectors[numbers])
    crops = cut_crops(
        samples.take(faces.numbers),
        template="arcface-112",
        side=config.side,
        colour=True,
        frame=_FRAME,
        canvas=_CANVAS,
        cache=_cache(config),
    )
    augment = Augment(frame=_FRAME, side=config.side, variation=config.variation)
    plain = torch.from_numpy(np.ascontiguousarray(crops.faces)).permute(0, 3, 1, 2)

    def varied(numbers: Int[np.ndarray, " batch"], generator: torch.Generator) -> Tensor:
        canvas = torch.from_numpy(np.ascontiguousarray(crops.canvas[numbers])).permute(0, 3, 1, 2)
        return augment(canvas, generator)

    return _Material(plain, varied)


def _cache(config: EmbedderConfig) -> Path:
    return config.cache or config.out / "cache"


def split_subjects(
    subjects: Shaped[np.ndarray, " faces"], given: Shaped[np.ndarray, " faces"], *, seed: int
) -> Shaped[np.ndarray, " faces"]:
    """Give every subject to train, valid or test.

    Args:
        subjects: Of each face.
        given: The split that the data name for each face, '' where they name none.
        seed: Of what is drawn.

    Raises:
        DataError: The data's own splits share subjects, or some of them are missing.
    """
    named = given != ""
    pairs = {(str(who), str(split)) for who, split in zip(subjects[named], given[named], strict=True)}
    shared = len(pairs) - len({who for who, _ in pairs})
    if shared:
        raise DataError(
            f"{shared} subjects stand in more than one split, so that nothing would be held out. "
            "Give each subject to one split, or leave the splits to mien."
        )
    missing = [name for name in SPLITS if not (given == name).any()]
    if missing == list(SPLITS):
        return by_subject(subjects, SHARES, seed=seed)
    if missing == ["valid"]:
        inside = given == "train"
        splits = given.astype("<U16")
        splits[inside] = by_subject(subjects[inside], {"train": 0.8, "valid": 0.2}, seed=seed)
        return splits
    if missing or not named.all():
        raise DataError(
            "The data has some splits and lacks others. Expected train, valid and test; train and test; or none."
        )
    return given


def _to_learn(
    faces: Faces, inside: Shaped[np.ndarray, " faces"]
) -> tuple[Int[np.ndarray, " learned"], Int[Tensor, " learned"]]:
    """Return the training faces whose subject has two or more, by number, and the number of each one's subject."""
    numbers = np.flatnonzero(inside)
    _, who, counts = np.unique(faces.subjects[numbers], return_inverse=True, return_counts=True)
    numbers = numbers[counts[who] > 1]
    if np.count_nonzero(counts > 1) < 2:
        raise DataError(
            f"Training needs at least 2 subjects with 2 faces, got {np.count_nonzero(counts > 1)} of {len(counts)} to "
            "learn from. Add subjects, or pictures of those there are."
        )
    _, labels = np.unique(faces.subjects[numbers], return_inverse=True)
    return numbers, torch.from_numpy(labels)


def _network(config: EmbedderConfig, dimension: int) -> Projection | SmallResNet:
    if isinstance(config, SmallResNetConfig):
        return SmallResNet(
            side=config.side, widths=config.widths, blocks=config.blocks, dimension=config.dimension, drop=config.drop
        )
    return Projection(dimension, hidden=config.hidden)


def _head(
    config: EmbedderConfig,
    model: nn.Module,
    material: _Material,
    learn: Int[np.ndarray, " learned"],
    labels: Int[Tensor, " learned"],
) -> MarginHead:
    subjects = int(labels.max()) + 1
    dimension = config.dimension if isinstance(config, SmallResNetConfig) else material.plain.shape[1]
    head = MarginHead(dimension, subjects, margin=config.head, size=config.margin, scale=config.scale)
    if isinstance(model, Projection):
        # The base already knows the directions; random ones would first tear its space apart.
        sums = torch.zeros(subjects, dimension).index_add_(0, labels, material.plain[learn])
        with torch.no_grad():
            head.directions.copy_(functional.normalize(sums))
    return head


@torch.no_grad()
def _embedded(
    model: nn.Module, material: _Material, numbers: Int[np.ndarray, " faces"], device: torch.device
) -> Float32[np.ndarray, "faces dimension"]:
    parts = [
        model(material.plain[part].float().to(device)).cpu()
        for part in np.array_split(numbers, len(numbers) // 256 + 1)
    ]
    return torch.cat(parts).numpy()


def _export(
    out: Path,
    config: EmbedderConfig,
    model: nn.Module,
    analyzer: AnalyzerLike,
    vectors: Float32[np.ndarray, "faces dimension"],
    subjects: Shaped[np.ndarray, " faces"],
    verdict: Verdict,
) -> str:
    """Write model.onnx and card.json; return how to add the model to the zoo."""
    file, base = out / "model.onnx", analyzer.card
    if isinstance(model, Projection):
        facts = corrected_convention(base)
        data = compose(onnx.load(str(zoo.path(base))), base, model).SerializeToString()
    else:
        assert isinstance(config, SmallResNetConfig)
        data = onnx_bytes(model, torch.zeros(2, 3, config.side, config.side), outputs=["embedding"])
        facts = {**convention("arcface-112-raw", "embedder").facts, "side": config.side}
        facts["kind"] = facts["kind"] if config.side == 112 else ""
        facts["dimension"] = config.dimension
    corrects = isinstance(model, Projection)
    publish_network(
        file,
        data,
        name=out.resolve().name,
        role="embedder",
        summary=f"Trained by `mien train embedder` on the user's own data. {verdict.sentence()}",
        licence=f"that of {base.name} ({base.licence}) and of the data" if corrects else "that of the data",
        training_data=f"the user's own: '{config.data.name}'",
        convention=facts,
        metrics={"base": base.id, "test": verdict.as_dict()},
        **measured_rates(vectors, subjects, config.data.name),
    )
    _check_parity(zoo.named(out), base, model)
    if not facts["kind"]:
        return f"no convention of `mien models add` says what it is fed; name the folder itself: --embedder {out}"
    return f"mien models add {file} --name NAME --role embedder --convention {facts['kind']}"


def measured_rates(
    vectors: Float32[np.ndarray, "faces dimension"], subjects: Shaped[np.ndarray, " faces"], dataset: str
) -> dict[str, Any]:
    """Return operating points and calibration on the held-out subjects of a data set, for a card."""
    pairs = comparisons(subjects)
    genuine, impostor = pairs.scores(vectors)
    owners = pairs.subjects[pairs.genuine[:, 0]], pairs.subjects[pairs.impostor]
    line = fit_logistic(genuine, impostor)
    points = [
        fnmr_at_fmr(
            genuine,
            impostor,
            fmr=rate,
            genuine_subjects=owners[0],
            impostor_subjects=owners[1],
            dataset=f"held-out subjects of '{dataset}'",
        )
        for rate in _RATES
        if rate * len(impostor) >= _FEWEST_FALSE_MATCHES
    ]
    return {"operating_points": [asdict(point) for point in points], "probability": [line.slope, line.intercept]}


def _check_parity(made: Card, base: Card, model: nn.Module) -> None:
    """Compare the file, used as an embedder, with PyTorch on noise."""
    embedder = Embedder(made)
    crops = np.random.default_rng(0).integers(0, 256, (3, embedder.side, embedder.side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    given = torch.from_numpy(Embedder(base).describe(crops)) if isinstance(model, Projection) else pixels
    with torch.no_grad():
        expected = as_unit(model(given).numpy())
    difference = float(np.abs(embedder.embed(crops) - expected).max())
    check_difference(difference, tolerance=_PARITY, unit="in a component of a unit vector")
