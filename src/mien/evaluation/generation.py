"""Generated faces against real ones: how far apart, how varied, and do they show what they were asked to?

Every distance stands beside the same distance of other real faces (the floor) and of real faces made worse in two known
ways (the yardsticks), all with equally many pictures. A network that stood in a generator's loss is measured with, but
does not judge.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.pictures import Pictures, read_pictures
from mien.data.splits import SPLITS
from mien.errors import EvaluationError, UsageError
from mien.evaluation.expression import Reader
from mien.evaluation.records import plain
from mien.evaluation.spaces import INCEPTION, FeatureSpace, Images, feature_space, inception_space, recut, resized
from mien.images import find_images, load_image, printable
from mien.metrics.generation import (
    endless_frechet_distance,
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    sharpness,
    spread_ratio,
)
from mien.metrics.intervals import Interval, mean_interval, wilson
from mien.vision.expression import ExpressionReader
from mien.vision.finding import DetectorLike, find_face, patient_detector
from mien.vision.generator import Generator, Request

__all__ = [
    "JUDGES",
    "READERS",
    "YARDSTICKS",
    "Agreement",
    "Distances",
    "Draw",
    "Faces",
    "GenerationReport",
    "SpaceReport",
    "Taught",
    "drawn_by",
    "evaluate_generation",
    "evaluate_model",
    "picked_from",
]

SCHEMA = "mien/evaluation-generation/1"
JUDGES = ("dlib-resnet29", "expression-resnet27", "mini-xception", "mobilenetv2-imagenet")
"""Networks of the zoo whose features are compared unless others are named."""

READERS = ("expression-resnet27", "mini-xception")
"""Networks of the zoo that may read what was asked for; the first that did not stand in a generator's loss does."""

YARDSTICKS = {
    "blur": "real faces at half the resolution, enlarged again",
    "noise": "real faces with normal noise of a tenth of the grey scale",
}
_LEAST = 50  # faces of each kind below which no distance is worth its name
_SEARCHED = 1000  # faces that the detector is shown


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces cut by one template.

    Attributes:
        images: RGB uint8, shape (faces, side, side, 3).
        labels: Numbers of the classes that they show, or were asked to; -1 where that is not known.
    """

    images: Images
    labels: Int[np.ndarray, " faces"]

    def __post_init__(self) -> None:
        assert self.images.ndim == 4 and self.images.shape[3] == 3 and len(self.images) == len(self.labels)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Int[np.ndarray, " taken"] | Bool[np.ndarray, " faces"]) -> Faces:
        """Return some of them."""
        return Faces(self.images[which], self.labels[which])


Draw = Callable[[Int[np.ndarray, " faces"], int], Faces]
"""Draws as many generated faces as it is given labels (-1: any), by a seed."""


@dataclass(frozen=True, slots=True)
class Distances:
    """One set of faces against equally many real ones, in one space; what each means is in `mien.metrics.generation`.

    Attributes:
        frechet: Squared Frechet distance, biased upwards: compare with figures of as many faces.
        frechet_endless: Extrapolated to infinitely many faces; NaN where there are fewer than dimensions.
        kernel: Squared kernel distance, unbiased.
        kernel_error: Its standard error.
        precision: Share of the faces that lie among real ones.
        recall: Share of real faces that lie among them.
        density: How thickly real neighbourhoods are filled; 1 for real faces.
        coverage: Share of real neighbourhoods with one of them inside.
        spread: Within-class spread over that of real faces.
    """

    frechet: float
    frechet_endless: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    spread: float


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """All that one space says; one entry of each tuple a seed.

    Attributes:
        name: Of the network.
        model: Its id.
        dimension: Of its features.
        judges: Whether its word counts; it does not where the network stood in the generator's loss.
        generated: The generated faces.
        floor: Other real faces.
        yardsticks: Real faces made worse, by name as in `YARDSTICKS`.
    """

    name: str
    model: str
    dimension: int
    judges: bool
    generated: tuple[Distances, ...]
    floor: tuple[Distances, ...]
    yardsticks: Mapping[str, tuple[Distances, ...]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a classifier sees in faces what they are labelled with, by class.

    Attributes:
        right: Faces seen as labelled.
        of: Faces.
    """

    right: Mapping[str, int]
    of: Mapping[str, int]

    @property
    def share(self) -> float:
        """Of all faces."""
        return sum(self.right.values()) / sum(self.of.values())

    @property
    def interval(self) -> Interval:
        """Of ``share``, 95 %."""
        return wilson(sum(self.right.values()), sum(self.of.values()))

    @property
    def balanced(self) -> float:
        """Mean share of the classes: each counts alike."""
        return float(np.mean([self.right[name] / count for name, count in self.of.items()]))


@dataclass(frozen=True, slots=True)
class Taught:
    """What a classifier learned from generated faces, tested on real ones, beside one that learned from real ones.

    Attributes:
        n: Faces that each learned from.
        images: Faces that each saw, repeats included.
        accuracy: After learning from generated faces, one a seed.
        macro_f1: Likewise.
        real_accuracy: After learning from real faces.
        real_macro_f1: Likewise.
    """

    n: int
    images: int
    accuracy: tuple[float, ...]
    macro_f1: tuple[float, ...]
    real_accuracy: tuple[float, ...]
    real_macro_f1: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Mean accuracy from generated faces over that from real ones; 1 and more is as good."""
        return float(np.mean(self.accuracy) / np.mean(self.real_accuracy))


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What encoder and decoder keep of faces.

    Attributes:
        psnr: Of each face, dB.
        sharpness: Of all, over that of the faces themselves.
    """

    psnr: tuple[float, ...]
    sharpness: float


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """How good generated faces are.

    Attributes:
        model: Id of the generator, or name of the folder of pictures.
        reference: Name of the real pictures.
        split: Which part of them was compared with.
        template: How faces are cut.
        side: Of the faces, px.
        n: Faces of each kind.
        seeds: Draws.
        classes: What labels mean; empty where the faces have none.
        spaces: A report a network.
        classifier: Id of the network that reads expressions; None where nothing is labelled.
        classifier_judges: Whether its word counts.
        asked_is_seen: How often it sees in generated faces what they were asked to show; None without labels.
        real_is_seen: How often it sees in as many real faces what raters saw.
        found: Generated faces in which the detector finds a face, and how many it was shown.
        real_found: The same of real faces.
        sharpness: Sharpness over that of real faces, one a seed.
        samples_per_s: Faces drawn a second; None for pictures from a folder.
        notes: What should be known, a line each.
        taught: What a classifier learns from generated faces; None where nobody tried.
        reconstruction: Of real faces, where the generator has an encoder.
    """

    model: str
    reference: str
    split: str
    template: str
    side: int
    n: int
    seeds: int
    classes: tuple[str, ...]
    spaces: tuple[SpaceReport, ...]
    classifier: str | None
    classifier_judges: bool
    asked_is_seen: Agreement | None
    real_is_seen: Agreement | None
    found: tuple[int, int]
    real_found: tuple[int, int]
    sharpness: tuple[float, ...]
    samples_per_s: float | None
    notes: tuple[str, ...] = ()
    taught: Taught | None = None
    reconstruction: Reconstruction | None = None

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON can hold it; docs/json.md describes it."""
        record = {
            "schema": SCHEMA,
            "model": self.model,
            "reference": self.reference,
            "split": self.split,
            "template": self.template,
            "side": self.side,
            "n": self.n,
            "seeds": self.seeds,
            "classes": list(self.classes),
            "spaces": {
                space.name: {
                    "model": space.model,
                    "dimension": space.dimension,
                    "judges": space.judges,
                    "generated": _by_figure(space.generated),
                    "real": _by_figure(space.floor),
                    **{name: _by_figure(space.yardsticks[name]) for name in space.yardsticks},
                }
                for space in self.spaces
            },
            "fid": next((_by_figure(s.generated)["frechet"] for s in self.spaces if s.name == INCEPTION), None),
            "yardsticks": dict(YARDSTICKS),
            "classifier": self.classifier,
            "classifier_judges": self.classifier_judges,
            "asked_is_seen": _agreement(self.asked_is_seen),
            "real_is_seen": _agreement(self.real_is_seen),
            "face_found": _share(*self.found),
            "real_face_found": _share(*self.real_found),
            "sharpness": _over_seeds(self.sharpness),
            "reconstruction": _rebuilt(self.reconstruction),
            "samples_per_s": self.samples_per_s,
            "train_on_synthetic": None if self.taught is None else asdict(self.taught) | {"ratio": self.taught.ratio},
            "notes": list(self.notes),
            "intervals": "95 %; of distances by Student's t over seeds, of shares Wilson's",
        }
        return cast(dict[str, object], plain(record))


def evaluate_generation(
    draw: Draw,
    real: Faces,
    spaces: Sequence[FeatureSpace],
    *,
    template: str,
    detector: DetectorLike,
    model: str = "",
    reference: str = "",
    split: str = "test",
    classes: Sequence[str] = (),
    losses: Sequence[str] = (),
    reader: Reader | None = None,
    reconstruct: Callable[[Faces], Images] | None = None,
    n: int | None = None,
    seeds: int = 3,
    timed: bool = True,
    notes: Sequence[str] = (),
    progress: Callable[[], None] | None = None,
) -> GenerationReport:
    """Compare generated faces with real ones.

    A seed takes one half of the real faces to compare with, and the other as the floor; generated ones are asked to
    show what the first half shows.

    Args:
        draw: The generator.
        real: Faces that the generator did not learn from, cut as it draws them.
        spaces: Where distances are measured.
        template: How all faces are cut, a name of `mien.alignment.TEMPLATES`.
        detector: Looks for faces.
        model: What the report calls the generator.
        reference: What it calls the real faces.
        split: Their part.
        classes: What labels mean; empty where nobody looks at labels.
        losses: Names of the networks that stood in the generator's loss.
        reader: Reads expressions; it should not be one of these.
        reconstruct: Encodes and decodes faces, where the generator can.
        n: Faces of each kind; default, and at most, half of the real ones.
        seeds: Draws.
        timed: Whether drawing is generating, so that its speed is worth telling.
        notes: Lines for the report.
        progress: Called after each step; there are (4 * spaces + 2) * seeds and some.

    Raises:
        EvaluationError: There are too few real faces, or the generator's differ in size.
    """
    n = _count(n, real, seeds)
    advance = progress or _nothing
    asked, shown = _Counter(reader, classes, template), _Counter(reader, classes, template)
    measured = _measure(draw, real, spaces, asked, shown, n, seeds, advance)
    rebuilt = None if reconstruct is None else _reconstruction(real, reconstruct)
    found, real_found = (_found(faces.images[:_SEARCHED], detector, advance) for faces in measured.first)
    return GenerationReport(
        model=model,
        reference=reference,
        split=split,
        template=template,
        side=int(real.images.shape[1]),
        n=n,
        seeds=seeds,
        classes=tuple(classes),
        spaces=tuple(_space_report(space, measured, judges=space.name not in losses) for space in spaces),
        classifier=reader.card.id if reader is not None and asked.of else None,
        classifier_judges=reader is None or reader.card.name not in losses,
        asked_is_seen=asked.agreement(),
        real_is_seen=shown.agreement(),
        found=found,
        real_found=real_found,
        sharpness=tuple(measured.sharpness),
        samples_per_s=n * seeds / measured.seconds if timed and measured.seconds > 0 else None,
        notes=tuple(notes),
        reconstruction=rebuilt,
    )


def _count(n: int | None, real: Faces, seeds: int) -> int:
    """Return how many faces of each kind are compared."""
    n = min(n or len(real), len(real) // 2)
    if n < _LEAST:
        raise EvaluationError(
            f"Distances need {_LEAST} generated faces and twice as many real ones, got {n} and {len(real)} real ones. "
            "Ask for more, or add pictures to compare with."
        )
    if seeds < 1:
        raise EvaluationError(f"The number of seeds should be 1 or more, got {seeds}.")
    return n


@dataclass(eq=False)
class _Measured:
    """What all seeds gave.

    Attributes:
        first: Generated and real faces of the first seed.
        spaces: By space, what each seed measured: distances by kind of face.
        dimensions: By space, of its features.
        sharpness: Over that of real faces, one a seed.
        seconds: Spent on drawing.
    """

    first: tuple[Faces, Faces]
    spaces: dict[str, list[dict[str, Distances]]]
    dimensions: dict[str, int]
    sharpness: list[float]
    seconds: float


def _measure(
    draw: Draw,
    real: Faces,
    spaces: Sequence[FeatureSpace],
    asked: _Counter,
    shown: _Counter,
    n: int,
    seeds: int,
    advance: Callable[[], None],
) -> _Measured:
    first: tuple[Faces, Faces] | None = None
    sharp, seconds = [], 0.0
    dimensions: dict[str, int] = {}
    rounds: dict[str, list[dict[str, Distances]]] = {space.name: [] for space in spaces}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(real))
        ours, others = real.take(order[:n]), real.take(order[n : 2 * n])
        began = time.perf_counter()
        fake = draw(ours.labels, seed)
        seconds += time.perf_counter() - began
        if fake.images.shape != ours.images.shape:
            raise EvaluationError(
                f"Expected faces of shape {ours.images.shape}, the generator drew {fake.images.shape}."
            )
        advance()
        first = first or (fake, ours)
        sharp.append(sharpness(fake.images) / max(sharpness(ours.images), 1e-12))
        asked.count(fake)
        shown.count(ours)
        advance()
        for space in spaces:
            base = space.features(ours.images)
            dimensions[space.name] = base.shape[1]
            measured = {}
            for name, faces in (("generated", fake), ("real", others), *_worse(others, seed)):
                measured[name] = _distances(base, space.features(faces.images), ours.labels, faces.labels, seed)
                advance()
            rounds[space.name].append(measured)
    assert first is not None, "there is a seed"
    return _Measured(first, rounds, dimensions, sharp, seconds)


def _space_report(space: FeatureSpace, measured: _Measured, *, judges: bool) -> SpaceReport:
    rounds = measured.spaces[space.name]
    return SpaceReport(
        name=space.name,
        model=space.model,
        dimension=measured.dimensions[space.name],
        judges=judges,
        generated=tuple(kinds["generated"] for kinds in rounds),
        floor=tuple(kinds["real"] for kinds in rounds),
        yardsticks={name: tuple(kinds[name] for kinds in rounds) for name in YARDSTICKS},
    )


def _reconstruction(real: Faces, reconstruct: Callable[[Faces], Images]) -> Reconstruction:
    whole = real.take(np.random.default_rng(0).permutation(len(real))[:_SEARCHED])
    back = reconstruct(whole)
    errors = ((back.astype(np.float32) - whole.images) ** 2).mean(axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(errors, 1e-6))
    return Reconstruction(tuple(psnr.tolist()), sharpness(back) / max(sharpness(whole.images), 1e-12))


# From a model's name to a report --------------------------------------------------------------------------------------

Teach = Callable[[Faces, Faces, Faces, int, bool], Taught]
"""Trains on generated and on real faces, tests on other real ones; told the number of classes and whether in grey."""

Measuring = Callable[[int], AbstractContextManager[Callable[[], None]]]
"""Is told how many steps there are; gives what is called after each one."""


@contextmanager
def _unobserved(steps: int) -> Iterator[Callable[[], None]]:
    yield _nothing


def evaluate_model(
    model: str | Path,
    reference: Path,
    *,
    split: str = "test",
    n: int | None = None,
    seeds: int = 3,
    spaces: Sequence[str] = (),
    inception: Path | None = None,
    template: str | None = None,
    side: int | None = None,
    grey: bool = False,
    aligned: bool = False,
    teach: Teach | None = None,
    cache: Path | None = None,
    reading: Callable[[int, int], None] | None = None,
    measuring: Measuring = _unobserved,
) -> GenerationReport:
    """Compare the faces of a generator, or of a folder, with real ones, cut alike: from names to a report.

    Args:
        model: A generator's name or run folder; or a folder of pictures.
        reference: Data set of real faces that the generator has not seen.
        split: Part of them; all is every one.
        n: Faces of each kind; default, and at most, half of the real ones.
        seeds: Draws.
        spaces: Networks whose features are compared; default `JUDGES`.
        inception: FID's network, to compute FID too.
        template: How faces of a folder are cut; default face-64.
        side: Their side, px; default the template's.
        grey: Compare a folder in grey.
        aligned: The folder's pictures are cut by the template already.
        teach: Trains a classifier on generated and one on real faces, for ``taught`` of the report.
        cache: Folder where faces cut out of the reference are kept.
        reading: Progress of reading pictures, as for `mien.data.pictures.read_pictures`.
        measuring: Progress of measuring.

    Raises:
        UsageError: Settings do not go together.
        DataError: The reference is no data set.
        ModelError: There is no such model.
        EvaluationError: There are too few faces.
    """
    generator = None if _is_folder(model) else Generator(model)
    cutting = _cutting(generator, template, side, grey, aligned)

    def read(splits: Sequence[str]) -> Pictures:
        return cutting.read(reference, splits=splits, cache=cache, progress=reading)

    pictures = read(tuple(SPLITS) if split == "all" else (split,))
    notes = list(pictures.notes)
    classes = tuple(name for name in pictures.classes if generator is None or name in generator.labels)
    real, left_out = _labelled(_faces(pictures, classes), classes)
    if left_out:
        notes.append(f"{left_out:,} real pictures show nothing that the generator can be asked for; they are left out.")
    if generator is not None:
        draw, called = drawn_by(generator, classes), generator.card.id
    else:
        folder = Path(model)
        ready = _aligned(folder, classes, cutting.side) if aligned else cutting.faces_of(folder, classes, reading)
        draw, called, n = picked_from(ready), folder.resolve().name, min(n or len(ready), len(ready))
    losses = generator.convention.losses if generator is not None else ()
    compared = _opened_spaces(spaces or JUDGES, inception, cutting.template)
    searched = min(n or len(real), len(real) // 2, _SEARCHED)
    with measuring((2 + 4 * len(compared)) * seeds + 2 * searched) as advance:
        report = evaluate_generation(
            draw,
            real,
            compared,
            template=cutting.template,
            detector=patient_detector(),
            model=called,
            reference=reference.resolve().name,
            split=split,
            classes=classes,
            losses=losses,
            reader=_unlearned_reader(losses) if classes else None,
            reconstruct=rebuilt_by(generator, classes) if generator is not None and generator.has_encoder else None,
            n=n,
            seeds=seeds,
            timed=generator is not None,
            notes=notes,
            progress=advance,
        )
    if teach is None:
        return report
    lesson = _faces(read(("train",)), classes)
    lesson = lesson.take(lesson.labels >= 0)
    fake = draw(lesson.labels, seeds)  # a seed that no distance was measured with
    return replace(report, taught=teach(fake, lesson, real, len(classes), cutting.grey))


@dataclass(frozen=True, slots=True)
class _Cutting:
    """How faces are cut: a template, their side in px, and whether in grey."""

    template: str
    side: int
    grey: bool

    def read(self, source: Path, **options: Any) -> Pictures:
        return read_pictures(source, template=self.template, side=self.side, colour=not self.grey, **options)

    def faces_of(self, folder: Path, classes: Sequence[str], reading: Callable[[int, int], None] | None) -> Faces:
        """Return all faces of a folder; a picture in which none is found counts as a whole."""
        return _faces(self.read(folder, splits=SPLITS, keep_without_face=True, progress=reading), classes)


# Where faces come from ------------------------------------------------------------------------------------------------


def drawn_by(generator: Generator, classes: Sequence[str]) -> Draw:
    """Return what draws faces of a generator, asked for the labels where it knows them all."""
    place = {name: number for number, name in enumerate(classes)}

    def draw(labels: Int[np.ndarray, " faces"], seed: int) -> Faces:
        wanted = [classes[label] if label >= 0 else None for label in labels]
        known = bool(generator.labels) and set(wanted) <= set(generator.labels)
        request = Request(expression=cast(list[str], wanted) if known else None, seed=seed)
        batches = list(generator.batches(len(labels), request))
        shown = [name for batch in batches for name in batch.labels]
        numbers = np.array([-1 if name is None else place.get(name, -1) for name in shown], np.int64)
        return Faces(np.concatenate([batch.images for batch in batches]), numbers)

    return draw


def rebuilt_by(generator: Generator, classes: Sequence[str]) -> Callable[[Faces], Images]:
    """Return what encodes and decodes faces, told their labels where the generator knows any."""

    def rebuild(faces: Faces) -> Images:
        shown = [classes[label] for label in faces.labels] if classes and generator.labels else None
        return generator.decode(generator.encode(faces.images), expression=shown)

    return rebuild


def picked_from(faces: Faces) -> Draw:
    """Return what draws from ready faces without replacement; of each class as many as asked for, where there are.

    Raises:
        EvaluationError: More faces are asked for than there are.
    """

    def draw(labels: Int[np.ndarray, " faces"], seed: int) -> Faces:
        if len(labels) > len(faces):
            raise EvaluationError(
                f"{len(labels)} generated faces are needed, there are {len(faces)}. Generate more, or ask for fewer."
            )
        order = np.random.default_rng(seed).permutation(len(faces))
        ranks = {label: np.flatnonzero(faces.labels[order] == label) for label in np.unique(labels)}
        counts = {label: int((labels == label).sum()) for label in ranks}
        if all(len(ranks[label]) >= count for label, count in counts.items()):
            order = order[np.concatenate([ranks[label][:count] for label, count in counts.items()])]
        return faces.take(order[: len(labels)])

    return draw


def _is_folder(model: str | Path) -> bool:
    """Whether these are pictures; a run folder is a model."""
    return Path(model).is_dir() and not (Path(model) / "model.onnx").is_file()


def _opened_spaces(names: Sequence[str], inception: Path | None, template: str) -> list[FeatureSpace]:
    spaces = [feature_space(zoo.named(name), template) for name in names]
    return [*spaces, inception_space(inception)] if inception is not None else spaces


def _unlearned_reader(losses: Sequence[str]) -> ExpressionReader:
    """Open a reader of expressions that did not stand in the generator's loss, where there is one."""
    free = [name for name in READERS if name not in losses]
    return ExpressionReader(zoo.card((free or READERS)[0]))


def _cutting(
    generator: Generator | None, template: str | None, side: int | None, grey: bool, aligned: bool
) -> _Cutting:
    if generator is not None:
        if template or side or grey or aligned:
            raise UsageError("--template, --side, --grey and --aligned are for a folder of pictures; a model knows.")
        return _Cutting(generator.convention.template, generator.side, generator.convention.grey)
    template = template or "face-64"
    if template not in TEMPLATES:
        raise UsageError(f"--template should be one of {', '.join(TEMPLATES)}, got '{template}'.")
    return _Cutting(template, side or TEMPLATES[template].side, grey)


def _faces(pictures: Pictures, classes: Sequence[str]) -> Faces:
    """Return pictures as an evaluation wants them, labels numbered anew."""
    numbers = [classes.index(name) if name in classes else -1 for name in pictures.classes]
    return Faces(pictures.rgb(), np.array([*numbers, -1])[pictures.labels])  # -1 is the last of them


def _labelled(faces: Faces, classes: Sequence[str]) -> tuple[Faces, int]:
    """Leave out faces of no class where there are classes; return how many, too."""
    left_out = int((faces.labels < 0).sum()) if classes else 0
    return (faces.take(faces.labels >= 0), left_out) if left_out else (faces, 0)


def _aligned(folder: Path, classes: Sequence[str], side: int) -> Faces:
    """Read ready faces; the folder right above a picture may be its label."""
    paths = find_images([folder])
    images = [load_image(path) for path in paths]
    if odd := [path for path, image in zip(paths, images, strict=True) if image.shape[0] != image.shape[1]]:
        raise UsageError(f"'{printable(odd[0])}' is not square, as aligned faces are. Leave --aligned out.")
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
    labels = [classes.index(path.parent.name) if path.parent.name in classes else -1 for path in paths]
    return Faces(np.stack(small).astype(np.uint8), np.array(labels, np.int64))


# Figures --------------------------------------------------------------------------------------------------------------


def _distances(
    real: Float[np.ndarray, "faces dimension"],
    fake: Float[np.ndarray, "faces dimension"],
    real_labels: Int[np.ndarray, " faces"],
    fake_labels: Int[np.ndarray, " faces"],
    seed: int,
) -> Distances:
    if not np.intersect1d(real_labels[real_labels >= 0], fake_labels).size:  # one class is as good as none
        real_labels, fake_labels = np.zeros_like(real_labels), np.zeros_like(fake_labels)
    kernel, error = kernel_distance(real, fake, seed=seed)
    return Distances(
        frechet=frechet_distance(real, fake),
        # With fewer faces than dimensions its bias does not fall as the line supposes.
        frechet_endless=endless_frechet_distance(real, fake, seed=seed) if len(real) > real.shape[1] else math.nan,
        kernel=kernel,
        kernel_error=error,
        spread=spread_ratio(real, fake, real_labels, fake_labels),
        **asdict(neighbourhoods(real, fake)),
    )


def _worse(faces: Faces, seed: int) -> list[tuple[str, Faces]]:
    side = faces.images.shape[1]
    half = [cv2.resize(image, (side // 2, side // 2), interpolation=cv2.INTER_AREA) for image in faces.images]
    blurred = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) for image in half])
    rng = np.random.default_rng(seed)
    noisy = faces.images + rng.normal(0, 25.5, faces.images.shape).astype(np.float32)
    return [
        ("blur", replace(faces, images=blurred.astype(np.uint8))),
        ("noise", replace(faces, images=np.rint(noisy).clip(0, 255).astype(np.uint8))),
    ]


class _Counter:
    """Counts labelled faces in which a reader sees their label."""

    def __init__(self, reader: Reader | None, classes: Sequence[str], template: str) -> None:
        self.reader, self.classes, self.template = reader, classes, template
        self.labels = next(iter(reader.heads.values())) if reader is not None else ()
        self.right: dict[str, int] = {}
        self.of: dict[str, int] = {}

    def count(self, faces: Faces) -> None:
        known = [label for label in self.labels if label in self.classes]
        if self.reader is None or len(known) < 2:
            return
        chosen = np.flatnonzero([label >= 0 and self.classes[label] in known for label in faces.labels])
        if not len(chosen):
            return
        images, side, wanted = faces.images[chosen], self.reader.side, self.reader.template
        crops = resized(images, side) if wanted is None else recut(images, self.template, wanted, side)
        columns = [self.labels.index(label) for label in known]
        seen = self.reader.probabilities(crops)[:, columns].argmax(axis=1)
        for place, label in zip(seen, faces.labels[chosen], strict=True):
            name = self.classes[label]
            self.of[name] = self.of.get(name, 0) + 1
            self.right[name] = self.right.get(name, 0) + (known[place] == name)

    def agreement(self) -> Agreement | None:
        return Agreement(self.right, self.of) if self.of else None


def _found(images: Images, detector: DetectorLike, advance: Callable[[], None]) -> tuple[int, int]:
    found = 0
    for image in images:
        found += find_face(image, detector) is not None
        advance()
    return found, len(images)


def _by_figure(rounds: Sequence[Distances]) -> dict[str, object]:
    return {item.name: _over_seeds([getattr(each, item.name) for each in rounds]) for item in fields(Distances)}


def _over_seeds(values: Sequence[float]) -> dict[str, object]:
    return {"mean": float(np.mean(values)), "interval": mean_interval(values), "seeds": list(values)}


def _agreement(agreement: Agreement | None) -> dict[str, object] | None:
    if agreement is None:
        return None
    by_class = {name: {"n": n, "share": agreement.right[name] / n} for name, n in sorted(agreement.of.items())}
    whole = {"share": agreement.share, "interval": agreement.interval, "balanced": agreement.balanced}
    return {**whole, "n": sum(agreement.of.values()), "per_class": by_class}


def _rebuilt(reconstruction: Reconstruction | None) -> dict[str, object] | None:
    if reconstruction is None:
        return None
    psnr = reconstruction.psnr
    return {
        "psnr": float(np.mean(psnr)),
        "psnr_interval": mean_interval(psnr),
        "sharpness": reconstruction.sharpness,
        "n": len(psnr),
    }


def _share(found: int, of: int) -> dict[str, object]:
    return {"share": found / of, "interval": wilson(found, of), "n": of}


def _nothing() -> None:
    """Take no notice of progress."""
