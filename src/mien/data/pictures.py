"""Pictures for generative models: aligned faces of one or several data sets, in memory, split once and for all."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from mien.alignment import TEMPLATES
from mien.data.crops import Crops, DetectorLike, cut_crops
from mien.data.samples import Samples, Target, read_samples
from mien.data.splits import SPLITS
from mien.data.tree import is_picture, open_tree
from mien.errors import DataError, ImageError
from mien.images import printable
from mien.types import EXPRESSIONS

__all__ = ["Pictures", "as_rgb", "read_pictures"]

_ATTRIBUTES = "attributes.csv"
_FILE = ("file", "path", "image", "filename", "image_path", "file_name", "image_id")  # its column of picture names
_HELD_OUT = {"test": 0.1, "valid": 0.05}  # of a data set, or a part of one, that says nothing of splits
_MUCH = 0.01  # share above which grey pictures among coloured ones are worth a note


@dataclass(frozen=True, eq=False)
class Pictures:
    """Aligned faces and what is known about them.

    Attributes:
        images: uint8, shape (pictures, channels, side, side), one channel (grey) or three (RGB).
        labels: Numbers of ``classes``, -1 where there is none, shape (pictures,).
        classes: What labels mean; empty where nothing is labelled. Expressions come first, in the order of EXPRESSIONS.
        attributes: 0 or 1, shape (pictures, number of ``attribute_names``).
        attribute_names: As the data set spells them.
        splits: train, valid or test, shape (pictures,).
        names: Data set and path of each.
        notes: What was left out and what was odd, a line each.
    """

    images: UInt8[np.ndarray, "pictures channels side side"]
    labels: Int64[np.ndarray, " pictures"]
    classes: tuple[str, ...]
    attributes: UInt8[np.ndarray, "pictures attributes"]
    attribute_names: tuple[str, ...]
    splits: Shaped[np.ndarray, " pictures"]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        assert count == len(self.labels) == len(self.attributes) == len(self.splits) == len(self.names)
        assert self.attributes.shape[1] == len(self.attribute_names) and self.labels.max(initial=-1) < len(self.classes)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, which: Int64[np.ndarray, " taken"] | Bool[np.ndarray, " pictures"]) -> Pictures:
        """Return some of the pictures, by number or by mask, in the order asked for."""
        chosen = np.arange(len(self))[which]
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            attributes=self.attributes[chosen],
            splits=self.splits[chosen],
            names=tuple(self.names[i] for i in chosen),
        )

    def relabelled(self, labels: Int64[np.ndarray, " pictures"], classes: tuple[str, ...]) -> Pictures:
        """Return the pictures that have a label, with other labels; those of -1 are left out."""
        return replace(self, labels=labels.astype(np.int64), classes=classes).take(labels >= 0)

    def rgb(self) -> UInt8[np.ndarray, "pictures side side 3"]:
        """Return the pictures as RGB, channels last."""
        return as_rgb(self.images)

    def split(self, name: str) -> Pictures:
        """Return the pictures of a split: train, valid or test."""
        return self.take(self.splits == name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over pixels, labels, attributes and splits."""
        hasher = hashlib.sha256(repr((self.images.shape, self.classes, self.attribute_names)).encode())
        for array in (self.images, self.labels, self.attributes):
            hasher.update(np.ascontiguousarray(array).data)
        hasher.update(" ".join(self.splits.tolist()).encode())
        return hasher.hexdigest()


def as_rgb(images: Shaped[np.ndarray, "pictures channels side side"]) -> UInt8[np.ndarray, "pictures side side 3"]:
    """Return pictures, channels first, grey or RGB, as RGB with channels last; values are rounded to 0 to 255."""
    if images.dtype != np.uint8:
        images = images.clip(0, 255).round().astype(np.uint8)
    last = images.transpose(0, 2, 3, 1)
    return np.repeat(last, 3, axis=3) if last.shape[3] == 1 else np.ascontiguousarray(last)


def read_pictures(
    sources: Path | Sequence[Path],
    *,
    template: str,
    side: int,
    colour: bool,
    kind: str = "auto",
    labels: str | None = None,
    attributes: Sequence[str] = (),
    splits: Sequence[str] = ("train",),
    keep_without_face: bool = False,
    cache: Path | None = None,
    detector: DetectorLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pictures:
    """Read, align and split the faces of one or several data sets.

    Splits that a data set has are kept. Of one that has none, a tenth of the subjects (of the pictures where those are
    not known) is test and a twentieth valid; where only valid is missing, it comes out of train. Who is held out
    follows from the names of subjects or pictures alone: the same in every training, whatever its seed and the size of
    its pictures, and whatever is learned beside.

    Left out are: pictures that cannot be read, those without a face, those that raters took for no face (FER+), and
    training pictures that stand in another split too.

    Args:
        sources: Folders, zips or lists as for `read_samples`; or a folder of loose pictures.
        template: Where landmarks go, a name of `mien.alignment.TEMPLATES`.
        side: Of the pictures, px.
        colour: RGB; otherwise grey.
        kind: Layout of all sources; auto finds out.
        labels: Label set that class numbers refer to.
        attributes: Names out of `attributes.csv`, which stands beside the pictures (1 has it, 0 or -1 has not).
        splits: Which to return.
        keep_without_face: Keep the middle of a picture in which no face is found.
        cache: Folder where crops are kept; a second call for the same pictures reads them there.
        detector: Finds the faces; default the one of run time.
        progress: Called after each picture with how many of a source are done, and how many it has.

    Raises:
        DataError: A source is no data set, lacks an attribute that is asked for, or no picture is left.
    """
    sources = [sources] if isinstance(sources, Path) else list(sources)
    if not sources:
        raise DataError("No pictures are named. Name a folder or a zip with --data.")
    assert set(splits) <= set(SPLITS)
    parts, notes = [], list[str]()
    for source in sources:
        samples = read_samples(source, kind=_layout(source, kind), labels=labels)
        notes += samples.notes
        values, known, spelt = _attributes(samples, attributes)
        crops = _cut(samples, template, side, colour, cache, detector, progress)
        if crops.unreadable:
            notes.append(
                f"{len(crops.unreadable):,} pictures cannot be read and are left out: {crops.unreadable[0][1]}"
            )
        target = _target(samples)
        keep = crops.readable & known
        if lost := int((crops.readable & ~known).sum()):
            notes.append(f"{lost:,} pictures have no row in {_ATTRIBUTES} and are left out.")
        if samples.kind == "ferplus" and target is not None:
            keep &= target.labels >= 0
        faceless = keep & ~crops.found
        if faceless.any():
            what = "kept as a whole" if keep_without_face else "left out"
            notes.append(f"In {int(faceless.sum()):,} pictures no face was found; they are {what}.")
            keep &= keep_without_face | crops.found
        chosen = np.flatnonzero(keep)
        images = _channels_first(crops.canvas, chosen, side)
        digests = _digests(images)
        kept = samples.take(chosen)
        own = _splits(kept)
        leaking = kept.leaks & (own == "train")
        if leaking.any():
            notes.append(f"{int(leaking.sum()):,} training pictures stand in another split too; they are left out.")
        stay = ~leaking
        parts.append(
            _Part(
                source,
                images[stay] if leaking.any() else images,
                None if target is None else target.take(chosen).take(stay),
                values[chosen][stay],
                spelt,
                own[stay],
                digests[stay],
                tuple(name for name, there in zip(kept.names, stay, strict=True) if there),
            )
        )
    return _joined(parts, splits, notes, colour=colour)


@dataclass(frozen=True, eq=False)
class _Part:
    """What is kept of one data set."""

    source: Path
    images: UInt8[np.ndarray, "pictures channels side side"]
    target: Target | None
    attributes: UInt8[np.ndarray, "pictures attributes"]
    attribute_names: tuple[str, ...]
    splits: Shaped[np.ndarray, " pictures"]
    digests: Shaped[np.ndarray, " pictures"]
    names: tuple[str, ...]


def _layout(source: Path, kind: str) -> str:
    """Return the layout to ask for: generators need no labels, so that a plain folder of pictures will do."""
    if kind != "auto" or source.suffix.lower() in (".csv", ".tsv", ".parquet"):
        return kind
    files = open_tree(source).files
    lists = [name for name in files if "/" not in name and name.endswith((".csv", ".parquet"))]
    loose = not lists and any("/" not in name and is_picture(name) for name in files)
    return "pictures" if loose else "auto"


def _cut(
    samples: Samples,
    template: str,
    side: int,
    colour: bool,
    cache: Path | None,
    detector: DetectorLike | None,
    progress: Callable[[int, int], None] | None,
) -> Crops:
    # Faces are found once for all smaller sides.
    size = max(side, TEMPLATES[template][0])
    done = itertools.count(1)
    return cut_crops(
        samples,
        template=template,
        side=size,
        colour=colour,
        frame=size,
        canvas=size,
        cache=cache,
        detector=detector,
        progress=None if progress is None else lambda: progress(next(done), len(samples)),
    )


def _channels_first(
    canvas: UInt8[np.ndarray, "pictures side side *colour"], chosen: Int64[np.ndarray, " chosen"], side: int
) -> UInt8[np.ndarray, "chosen channels side side"]:
    """Copy some pictures out of a cache, one after the other: together they may be large."""
    images = np.empty((len(chosen), canvas.shape[3] if canvas.ndim == 4 else 1, side, side), np.uint8)
    for place, index in enumerate(chosen):
        picture = np.asarray(canvas[index])
        if len(picture) != side:
            picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
        images[place] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return images


def _target(samples: Samples) -> Target | None:
    """Return the judgement of expressions, or any other that tells at least two classes apart."""
    expressions = [target for target in samples.targets.values() if set(target.classes) <= set(EXPRESSIONS)]
    others = [target for target in samples.targets.values() if len(target.classes) > 1]
    return next(iter(expressions + others), None)


def _attributes(
    samples: Samples, wanted: Sequence[str]
) -> tuple[UInt8[np.ndarray, "samples attributes"], Bool[np.ndarray, " samples"], tuple[str, ...]]:
    """Return 0 or 1 for each attribute of each sample, which samples are known, and how the data set spells them."""
    values = np.zeros((len(samples), len(wanted)), np.uint8)
    if not wanted:
        return values, np.ones(len(samples), dtype=bool), ()
    is_list = samples.source.suffix.lower() in (".csv", ".tsv", ".parquet")
    where = printable(samples.source)
    try:
        text = open_tree(samples.source.parent if is_list else samples.source).read(_ATTRIBUTES).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text), skipinitialspace=True))
    except ImageError:
        raise DataError(
            f"'{where}' has no {_ATTRIBUTES}, which attributes come from. Add it, or ask for none."
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{_ATTRIBUTES} of '{where}' is no CSV in UTF-8 that can be read: {error}.") from None
    header = [name.strip() for name in rows[0]] if rows else []
    file = next((place for place, name in enumerate(header) if name.lower() in _FILE), None)
    if file is None:
        raise DataError(f"{_ATTRIBUTES} of '{where}' has no column 'file' with the names of the pictures.")
    by_name = {name.lower(): place for place, name in enumerate(header) if place != file}
    columns = []
    for name in wanted:
        if name.lower() not in by_name:
            near = difflib.get_close_matches(name.lower(), list(by_name), n=1)
            hint = f" Did you mean '{header[by_name[near[0]]]}'?" if near else ""
            raise DataError(f"{_ATTRIBUTES} of '{where}' has no attribute '{printable(name)}'.{hint}")
        columns.append(by_name[name.lower()])
    told: dict[str, list[str]] = {}
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        cells = [row[place].strip() for place in columns if place < len(row)]
        if len(cells) < len(columns) or any(cell not in ("1", "0", "-1") for cell in cells):
            raise DataError(f"{_ATTRIBUTES} of '{where}', line {line}: attributes are 1, 0 or -1.")
        told[row[file].strip()] = cells
    known = np.zeros(len(samples), dtype=bool)
    for place, name in enumerate(samples.names):
        found = told.get(name) or told.get(PurePosixPath(name).name)
        if found is not None:
            known[place] = True
            values[place] = [cell == "1" for cell in found]
    if not known.any():
        raise DataError(f"None of the pictures of '{where}' has a row in {_ATTRIBUTES}. Check its column 'file'.")
    return values, known, tuple(header[place] for place in columns)


def _digests(images: UInt8[np.ndarray, "pictures channels side side"]) -> Shaped[np.ndarray, " pictures"]:
    return np.array([hashlib.blake2b(image.data, digest_size=16).hexdigest() for image in images], dtype="<U32")


def _splits(samples: Samples) -> Shaped[np.ndarray, " pictures"]:
    """Return the split of each picture; what the data set leaves open is held out by a hash of subject or name."""
    splits = samples.splits.astype("<U5")
    given = set(splits.tolist()) - {""}
    splits[splits == ""] = "train"
    wanted = {name: share for name, share in _HELD_OUT.items() if not given or (name == "valid" and name not in given)}
    if not wanted:
        return splits
    subjects = samples.subjects if samples.subjects is not None else np.full(len(samples), "")
    train = np.flatnonzero(splits == "train")
    keys = [str(subjects[i]) or samples.names[i] for i in train]
    # Hashed, for neighbours by name are alike.
    order = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())
    held: dict[str, str] = {}
    for name, share in wanted.items():
        count = min(max(round(share * len(order)), 1), max(len(order) - len(held) - 1, 0))
        held |= dict.fromkeys(order[len(held) : len(held) + count], name)
    splits[train] = [held.get(key, "train") for key in keys]
    return splits


def _joined(parts: Sequence[_Part], splits: Sequence[str], notes: list[str], *, colour: bool) -> Pictures:
    """Put the data sets together, and drop training pictures that are held out somewhere."""
    all_splits = np.concatenate([part.splits for part in parts])
    digests = np.concatenate([part.digests for part in parts])
    twice = (all_splits == "train") & np.isin(digests, digests[all_splits != "train"])
    if twice.any():
        notes.append(f"{int(twice.sum()):,} training pictures are held out too, to the last px; they are left out.")
    keep = np.isin(all_splits, list(splits)) & ~twice
    # What no training picture shows cannot be learned; data without any is there to compare with.
    counts = [(part.splits == "train") | ("train" not in all_splits) for part in parts]
    shown = {
        label
        for part, counted in zip(parts, counts, strict=True)
        if part.target is not None
        for label in {part.target.classes[i] for i in part.target.labels[counted] if i >= 0}
    }
    classes = (*(name for name in EXPRESSIONS if name in shown), *sorted(shown - set(EXPRESSIONS)))
    column = {name: number for number, name in enumerate(classes)}
    labels = []
    for part in parts:
        if part.target is None:
            labels.append(np.full(len(part.images), -1, np.int64))
            continue
        numbers = np.array([*(column.get(name, -1) for name in part.target.classes), -1], dtype=np.int64)
        labels.append(numbers[part.target.labels])  # -1 is the last of them
    images = parts[0].images if len(parts) == 1 else np.concatenate([part.images for part in parts])
    grey = np.array(
        [colour and bool((image[0] == image[1]).all() and (image[1] == image[2]).all()) for image in images]
    )
    if _MUCH * len(grey) < grey.sum():
        which = "All" if grey.all() else f"{int(grey.sum()):,} of {len(grey):,}"
        notes.append(f"{which} pictures are grey: what learns from them draws grey faces. Leave colour out, or them.")
    names = [f"{printable(part.source.name)}/{name}" for part in parts for name in part.names]
    whole = Pictures(
        images=images,
        labels=np.concatenate(labels),
        classes=classes,
        attributes=np.concatenate([part.attributes for part in parts]),
        attribute_names=parts[0].attribute_names,
        splits=all_splits,
        names=tuple(names),
        notes=tuple(notes),
    )
    if not keep.any():
        raise DataError(
            f"No picture is left of {', '.join(printable(part.source.name) for part in parts)}. "
            + (" ".join(notes) or "Check the data.")
        )
    return whole if keep.all() else whole.take(keep)
