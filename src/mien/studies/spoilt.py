"""Mated pairs of pictures, their probes spoilt on purpose, and what a method of restoring makes of them. No PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mien.analyzer import Analyzer, central_face, main_face
from mien.data.degradation import add_noise, blur, compress, shrink
from mien.errors import DataError, ImageError, UsageError
from mien.evaluation import read_pairs
from mien.files import find_subjects, printable
from mien.gallery.ingest import wanted
from mien.images import load_image
from mien.vision.restorer import Restorer

__all__ = ["CONDITIONS", "COVERED", "Finder", "Listed", "Pair", "Shown", "find_pairs", "list_pairs", "restored"]

Image = UInt8[np.ndarray, "height width 3"]
Landmarks = Float[np.ndarray, "5 2"]
Finder = Callable[[Image], Landmarks | None]
"""Returns the landmarks of the face that a picture is of; None where there is none."""

_EYES = 64.0  # px between the eyes at most: larger faces are reduced, or no damage here would tell on them
_ROOM = 4.0  # kept on each side of a face, in distances between the eyes: more than any network looks at


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A face in a picture.

    Attributes:
        image: RGB uint8.
        landmarks: Of the face, px, shape (5, 2).
        covered: Where something stands before it, shape (height, width); None: nowhere.
    """

    image: Image
    landmarks: Landmarks
    covered: Bool[np.ndarray, "height width"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two pictures of one subject."""

    probe: Shown
    reference: Shown


# Damage ---------------------------------------------------------------------------------------------------------------


def _small(shown: Shown, factor: float, noise: float, rng: np.random.Generator) -> Shown:
    image = shrink(shown.image, 1 / factor)
    return Shown(add_noise(image, noise, rng), _moved(shown.landmarks, shown.image, image))


def _blocked(shown: Shown, share: float, rng: np.random.Generator) -> Shown:
    """Return a face with a block of one colour over a share of the square from brows to chin."""
    side = 2.2 * _between_eyes(shown.landmarks)
    size = np.sqrt(share) * side
    corner = shown.landmarks.mean(axis=0) - side / 2 + rng.uniform(0, side - size, 2)
    (left, top), (right, bottom) = (np.rint(x).astype(int).clip(0) for x in (corner, corner + size))
    image, covered = shown.image.copy(), np.zeros(shown.image.shape[:2], dtype=bool)
    covered[top:bottom, left:right] = True
    image[covered] = rng.integers(0, 256, 3)
    return Shown(image, shown.landmarks, covered)


COVERED = "30 % covered"
CONDITIONS: dict[str, Callable[[Shown, np.random.Generator], Shown]] = {
    "clean": lambda shown, rng: shown,
    "3 times smaller, noise 8": lambda shown, rng: _small(shown, 3, 8, rng),
    "4 times smaller, noise 8": lambda shown, rng: _small(shown, 4, 8, rng),
    "blurred": lambda shown, rng: Shown(blur(shown.image, 0.1 * _between_eyes(shown.landmarks)), shown.landmarks),
    "noise 40": lambda shown, rng: Shown(add_noise(shown.image, 40, rng), shown.landmarks),
    "JPEG of quality 5": lambda shown, rng: Shown(compress(shown.image, 5), shown.landmarks),
    COVERED: lambda shown, rng: _blocked(shown, 0.3, rng),
}
"""What is done to probes. Blur is a tenth of the distance between the eyes, noise in grey levels."""


def restored(restorer: Restorer | None, shown: Shown) -> tuple[Shown, bool]:
    """Return what a recogniser is to cut the face from, and whether that was left alone.

    Args:
        restorer: The method; None takes the picture as it is.
        shown: A face, spoilt or not. What covers it is told to methods that fill in.
    """
    if restorer is None:
        return shown, True
    if shown.covered is not None and restorer.method in ("network", "telea", "vae"):
        done = restorer.restore_picture(shown.image, [shown.landmarks], covered=shown.covered)
        return Shown(done.image, shown.landmarks), done.faces[0].left_alone
    image, landmarks, face = restorer.prepared(shown.image, shown.landmarks)
    return Shown(image, landmarks), face.left_alone


# Pairs ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """Mated pairs as a list or a folder names them.

    Attributes:
        pairs: Subject, probe and reference of each; a subject may have several.
        central: Whether the subject is the one in the middle of a picture; else the one that it is a portrait of.
        notes: What was left out, a line each.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    central: bool = False
    notes: tuple[str, ...] = ()


def list_pairs(data: Path | None, pairs: Path | None = None) -> Listed:
    """Return mated pairs of a list, or two pictures of everybody who has two.

    Args:
        data: Folder with a folder a subject, or a CSV with the columns path and subject; with ``pairs`` the folder
            that its paths start from.
        pairs: A list of comparisons, as `mien.evaluation.read_pairs` takes it; its mated ones count.

    Raises:
        DataError: The list names no pictures in files.
        EvaluationError: It is no list of comparisons, or its pictures are missing.
        UsageError: The folder or the CSV tells no subjects.
    """
    if pairs is not None:
        listed = read_pairs(pairs, images=data)
        if listed.aligned:
            raise DataError(
                f"{listed.name} holds faces that are cut out already, and whole pictures are to be spoilt. Name a list "
                "with paths, such as LFW's pairs.txt or a CSV with a,b,same."
            )
        both = zip(listed.first[listed.same].tolist(), listed.second[listed.same].tolist(), strict=True)
        sources, subjects = [Path(str(one)) for one in listed.sources], listed.subjects.tolist()
        named = tuple((str(subjects[a]), sources[a], sources[b]) for a, b in both)
        return Listed(named, listed.central)
    assert data is not None, "one of the two is named"
    wish = wanted([], table=data) if data.is_file() else find_subjects(data)
    if not wish.pictures and not wish.failures:
        raise UsageError(
            f"'{printable(data)}' has no folder a subject. Name one, a CSV with path and subject, or --pairs."
        )
    of_subject: dict[str, list[Path]] = {}
    for path, subject in sorted(wish.pictures, key=lambda one: (one[1], os.fspath(one[0]))):
        of_subject.setdefault(subject, []).append(path)
    alone = sum(len(paths) == 1 for paths in of_subject.values())
    notes = (f"{alone} of {len(of_subject)} subjects have one picture and so no pair: left out.",) if alone else ()
    two = tuple(
        (subject, paths[first], paths[second])
        for subject, paths in of_subject.items()
        if len(paths) > 1
        for first, second in [np.random.default_rng(0).permutation(len(paths))[:2]]
    )
    return Listed(two, notes=(*wish.notes, *wish.failures, *notes))


def find_pairs(listed: Listed, most: int, find: Finder | None = None) -> tuple[list[Pair], list[str]]:
    """Return pairs with a face in both pictures, no subject twice, in an order of chance; and what was left out.

    Args:
        listed: The pairs to choose from.
        most: Pairs at most.
        find: Finds the face of a picture; None: the default detector.
    """
    find = find or _default_finder(central=listed.central)
    found: dict[str, Pair] = {}
    troubles: dict[Path, str] = {}
    for place in np.random.default_rng(0).permutation(len(listed.pairs)).tolist():
        subject, *paths = listed.pairs[place]
        if len(found) == most:
            break
        if subject in found or any(path in troubles for path in paths):
            continue
        both = []
        for path in paths:
            shown = _face_of(path, find)
            if isinstance(shown, str):
                troubles[path] = shown
                break
            both.append(shown)
        else:
            found[subject] = Pair(*both)
    return list(found.values()), [*listed.notes, *_left_out(troubles.values())]


def _left_out(troubles: Iterable[str]) -> list[str]:
    """Return a line for each picture, and no more than ten of them."""
    lines = list(troubles)
    return lines if len(lines) <= 10 else [*lines[:9], f"{len(lines) - 9} more pictures were left out as well."]


def _default_finder(*, central: bool) -> Finder:
    analyzer, choose = Analyzer(expression=None, threads=1), central_face if central else main_face

    def find(image: Image) -> Landmarks | None:
        face = choose(analyzer.analyze(image, embed=False), image.shape[1], image.shape[0])
        return None if face is None else face.landmarks

    return find


def _face_of(path: Path, find: Finder) -> Shown | str:
    """Return the face of a picture with its surroundings, or why there is none, in a line."""
    try:
        image = load_image(path)
    except ImageError as error:
        return str(error)
    landmarks = find(image)
    if landmarks is None:
        return f"'{printable(path)}' shows no face: its pair is left out."
    return _window(image, np.asarray(landmarks, np.float64))


def _window(image: Image, landmarks: Landmarks) -> Shown:
    """Return a face and its surroundings, reduced where it is large: damage is then the same in every data set."""
    eyes = _between_eyes(landmarks)
    middle = landmarks.mean(axis=0)
    left, top = np.floor(middle - _ROOM * eyes).astype(int).clip(0)
    right, bottom = np.ceil(middle + _ROOM * eyes).astype(int)
    part, marks = np.ascontiguousarray(image[top:bottom, left:right]), landmarks - (left, top)
    if eyes <= _EYES:
        return Shown(part, marks)
    small = shrink(part, _EYES / eyes)
    return Shown(small, _moved(marks, part, small))


def _between_eyes(landmarks: Landmarks) -> float:
    return max(float(np.hypot(*(landmarks[1] - landmarks[0]))), 1.0)


def _moved(landmarks: Landmarks, before: Image, after: Image) -> Landmarks:
    """Return where points of a picture lie after it was resized; pixel centres lie at halves."""
    factor = np.array([after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]])
    return np.asarray((landmarks + 0.5) * factor - 0.5)


# In a file ------------------------------------------------------------------------------------------------------------


def packed(pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
    """Return pairs as arrays for a file: the pictures as PNG, one after the other."""
    shown = [one for pair in pairs for one in (pair.probe, pair.reference)]
    coded = [cv2.imencode(".png", one.image)[1] for one in shown]
    return {
        "pictures": np.concatenate(coded),
        "ends": np.cumsum([len(one) for one in coded]),
        "landmarks": np.stack([one.landmarks for one in shown]),
    }


def unpacked(arrays: dict[str, np.ndarray]) -> list[Pair]:
    """Return the pairs of `packed`."""
    parts = np.split(arrays["pictures"], arrays["ends"][:-1])
    images = [np.asarray(cv2.imdecode(part, cv2.IMREAD_UNCHANGED), np.uint8) for part in parts]
    shown = [Shown(image, marks) for image, marks in zip(images, arrays["landmarks"], strict=True)]
    return [Pair(*both) for both in zip(shown[::2], shown[1::2], strict=True)]
