"""Picture to faces: the one pipeline that everybody calls."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import chain, count, islice
from typing import Protocol, TypedDict

import numpy as np
from jaxtyping import Float32, UInt8

from mien import zoo
from mien.errors import ImageError, UsageError
from mien.images import Source, decode, load_image, printable
from mien.images import digest as digest_of
from mien.types import Attributes, Box, Embedding, Expression, Face, Picture, Records
from mien.vision.attributes import AttributeReader
from mien.vision.cohort import Cohort, with_cohort
from mien.vision.detector import Detection, Detector
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.finding import DetectorLike
from mien.vision.quality import assess, measure
from mien.vision.restorer import Restorer
from mien.vision.shares import Shares, check_shares
from mien.vision.views import TURNS, View, WholePicture, look
from mien.zoo.session import thread_count

__all__ = ["DETECTORS", "FACES", "Analyzer", "central_face", "choose_face", "main_face"]

DETECTORS = {
    "auto": "BlazeFace first, CenterFace for the landmarks and where BlazeFace finds nothing: the default.",
    "fast": "The same at a third of the size: for faces that fill a good part of the picture.",
    "accurate": "CenterFace at full size: for crowds and small faces, several times as slow.",
    "whole": "No search: each picture is one face that fills it, as other tools cut faces out.",
}

FACES = ("main", "largest", "only")
"""Which face of a picture is meant: large and central, the largest, or the only one. Or a number, largest first."""

_CLEARLY = 0.05  # of its side: by less than this before the next one a main face is an arbitrary choice


_SINGLES, _CHUNK = 4, 4  # pictures of a worker's first tasks, and of its later ones
_STACK = 16  # crops that are copied together for the embedder


class GalleryLike(Protocol):
    """What is asked of a gallery here."""

    @property
    def cohort(self) -> Cohort | None:
        """What normalises its templates; None where it is the embedder's own."""
        ...


class Models:
    """The networks of one pipeline, opened once."""

    def __init__(
        self,
        *,
        detector: str,
        embedder: zoo.Card,
        expression: zoo.Card | None,
        min_face: float | None,
        threshold: float | None,
        turn: int | None,
        cohort: Cohort | None,
        threads: int,
        shares: Shares | None = None,
        attributes: bool = False,
        restorer: zoo.Card | None = None,
    ) -> None:
        self.turn = turn
        self._reads_attributes = attributes
        self._restorer_card = restorer
        self._shares = shares
        self._cohort = cohort
        self._embedder_card = embedder
        self._expression_card = expression
        self._threads = threads
        self.detector = _detector(detector, min_face=min_face, threshold=threshold, threads=threads)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, opened when a face is first embedded or cut out."""
        return Embedder(self._embedder_card, threads=self._threads, cohort=self._cohort)

    @cached_property
    def expression(self) -> ExpressionReader | None:
        """The expression reader; None where no expression model is in use."""
        if self._expression_card is None:
            return None
        return ExpressionReader(self._expression_card, threads=self._threads, shares=self._shares)

    @cached_property
    def attributes(self) -> AttributeReader | None:
        """What reads attributes; None where they were not asked for."""
        return AttributeReader(threads=self._threads) if self._reads_attributes else None

    @cached_property
    def restorer(self) -> Restorer | None:
        """The restorer; None where faces are read as they are."""
        return None if self._restorer_card is None else Restorer(self._restorer_card, threads=self._threads)


class Analyzer:
    """Find, judge and embed the faces of pictures.

    Opening an analyzer is cheap; networks are opened, and pulled if they are missing, when they are first needed.

    Args:
        detector: One of `DETECTORS`, or the name of a detector of the catalogue.
        embedder: An embedder, by name, run folder or file as `mien.zoo.named` takes it; default the catalogue's.
        expression: An expression model, by name, run folder or file as `mien.zoo.named` takes it; `default` is the
            catalogue's, None reads no expressions and saves their time.
        min_face: Least face side in px that should be found; smaller faces take more time. Default: about 18 px in
            pictures up to 1,280 px, growing with the picture.
        threshold: Least detection score; default the detector's own.
        threads: ONNX Runtime threads for one picture; default the CPU quota.
        turn: Turn each picture by so many degrees clockwise first (0, 90, 180, 270), and look at it in no other way.
            None: where no face is upright, the picture is looked at with room around it and turned, see `Face.turn`.
        cohort: What normalises the embeddings, in place of the embedder's own; see `for_gallery`.
        shares: How common expressions are among the faces: `learned` as in the training pictures of the model, `equal`,
            or a share for each expression that occurs; default the model's own, see `mien models card`.
        attributes: Also read head pose, 468 points, eyes and mouth, age and apparent gender: `Face.attributes`. Their
            networks are pulled when they are first needed.
        restorer: A restorer, by name, run folder or file as `mien.zoo.named` takes it, which spoilt faces go through
            before they are embedded and read; None: none, see docs/restoration.md for what it does to recognition.

    An analyzer can be pickled and copied: the other one opens its networks anew.

    Example:
        >>> faces = Analyzer().analyze(load_image("group.jpg"))  # doctest: +SKIP
        >>> faces[0].embedding.vector.shape  # doctest: +SKIP
        (128,)
    """

    def __init__(
        self,
        *,
        detector: str = "auto",
        embedder: str | None = None,
        expression: str | None = "default",
        min_face: float | None = None,
        threshold: float | None = None,
        threads: int | None = None,
        turn: int | None = None,
        cohort: Cohort | None = None,
        shares: Shares | None = None,
        attributes: bool = False,
        restorer: str | None = None,
    ) -> None:
        if turn is not None and turn not in TURNS:
            raise UsageError(f"A picture is turned by 0, 90, 180 or 270 degrees, got {turn}.")
        if threads is not None and threads < 1:
            raise UsageError(f"threads should be a whole number from 1, got {threads}.")
        if min_face is not None and not 2 <= min_face <= 10_000:
            raise UsageError(f"min_face should be 2 to 10000 px, got {min_face:g}.")
        if threshold is not None and not 0 < threshold < 1:
            raise UsageError(f"The detection threshold should lie between 0 and 1, got {threshold:g}.")
        if shares is not None:
            check_shares(shares)
        if detector not in DETECTORS:
            _expect_role(detector, "detector")
        self._arguments: _Arguments = {
            "detector": detector,
            "embedder": embedder,
            "expression": expression,
            "min_face": min_face,
            "threshold": threshold,
            "threads": threads,
            "turn": turn,
            "cohort": cohort,
            "shares": shares,
            "attributes": attributes,
            "restorer": restorer,
        }
        self.detector = detector
        card = _expect_role(embedder or zoo.default("embedder"), "embedder")
        self.card = card if cohort is None else with_cohort(card, cohort)
        self.threads = threads or thread_count()
        self._options = {
            "detector": detector,
            "embedder": self.card,
            "expression": _expression_card(expression),
            "min_face": min_face,
            "threshold": threshold,
            "turn": turn,
            "cohort": cohort,
            "shares": shares,
            "attributes": attributes,
            "restorer": None if restorer is None else _expect_role(restorer, "restorer"),
        }

    def __reduce__(self) -> tuple[Callable[..., Analyzer], tuple[_Arguments]]:
        return (_open, (self._arguments,))

    def for_gallery(self, gallery: GalleryLike) -> Analyzer:
        """Return the analyzer whose embeddings a gallery compares: with the gallery's own cohort, where it has one.

        Without one that is this analyzer. See `mien.Gallery.calibrate` and ``mien calibrate --cohort``.
        """
        cohort = gallery.cohort
        return self if cohort is None else _open({**self._arguments, "cohort": cohort})

    @cached_property
    def _models(self) -> Models:
        """Networks that put all threads on one picture: least time to an answer."""
        return Models(**self._options, threads=self.threads)  # type: ignore[arg-type]

    @cached_property
    def _single(self) -> Models:
        """Networks of one thread each, shared by workers that take a picture each: most pictures a second."""
        return self._models if self.threads == 1 else Models(**self._options, threads=1)  # type: ignore[arg-type]

    @property
    def expression_id(self) -> str | None:
        """Id of the expression model; None where no expressions are read."""
        card = self._options["expression"]
        return card.id if isinstance(card, zoo.Card) else None

    @property
    def networks(self) -> Models:
        """The networks, of one thread each, for those who bring threads of their own."""
        return self._single

    @property
    def embedder(self) -> Embedder:
        """The embedder in use."""
        return self._models.embedder

    @property
    def expression_reader(self) -> ExpressionReader | None:
        """The expression reader in use; None where no expressions are read."""
        return self._models.expression

    def analyze(self, image: Source, *, embed: bool = True, crops: bool = False) -> Records[Face]:
        """Return the faces of a picture, largest first.

        Args:
            image: RGB uint8, shape (height, width, 3), as `mien.load_image` returns it, or what that function reads.
            embed: Compute embeddings.
            crops: Keep the aligned crops in the faces.

        Raises:
            ImageError: ``image`` is no picture.
        """
        faces = _faces(self._models, load_image(image))
        (picture,) = _finished(self._models, [Picture(None, faces=faces)], embed, crops)
        return Records(picture.faces)

    def pictures(
        self, paths: Iterable[Source], *, embed: bool = True, crops: bool = False, digests: bool = False
    ) -> Iterator[Picture]:
        """Read and analyse pictures, several at once, in order, with flat memory.

        A picture that cannot be read is reported in `Picture.error` and the batch goes on.

        Args:
            paths: Files, or whatever else `mien.load_image` reads.
            embed: Compute embeddings.
            crops: Keep the aligned crops in the faces.
            digests: Compute `Picture.digest`.
        """
        if isinstance(paths, str | os.PathLike | bytes | np.ndarray):
            raise UsageError("pictures takes a list of pictures; give one alone as [picture].")
        chunks = _chunks(paths)
        first = next(chunks, None)
        if first is None:
            return
        second = next(chunks, None)
        if second is None:
            yield from self._pictures(self._models, first, embed, crops, digests)
            return
        models = self._single
        # Open every network before the workers race for it.
        _ = models.embedder.session if embed else models.embedder, models.expression, models.attributes
        # One worker more than threads: while one waits for the interpreter, another has a network to run.
        pool = ThreadPoolExecutor(self.threads + 1, thread_name_prefix="mien")
        running: deque[Future[list[Picture]]] = deque()
        try:
            for chunk in chain([first, second], chunks):
                running.append(pool.submit(self._pictures, models, chunk, embed, crops, digests))
                if len(running) > self.threads + 2:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            # Ctrl-C, or a caller that stops early: don't begin what nobody waits for.
            pool.shutdown(wait=True, cancel_futures=True)

    def embed_crops(self, crops: UInt8[np.ndarray, "faces side side 3"]) -> Float32[np.ndarray, "faces dimension"]:
        """Return the unit vectors of crops that this embedder's template aligned."""
        return self.embedder.embed(crops)

    def _pictures(
        self, models: Models, paths: Sequence[Source], embed: bool, crops: bool, digests: bool
    ) -> list[Picture]:
        return _finished(models, [_read(models, path, digests) for path in paths], embed, crops)


def _chunks(paths: Iterable[Source]) -> Iterator[list[Source]]:
    """Hand out work: single pictures first, so that answers come at once, then a few, to embed their faces together."""
    waiting = iter(paths)
    for number in count():
        chunk = list(islice(waiting, 1 if number < _SINGLES else _CHUNK))
        if not chunk:
            return
        yield chunk


def _read(models: Models, source: Source, digests: bool) -> Picture:
    """Read one picture and find its faces, or say what is wrong with it."""
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    try:
        decoded = decode(source)
        image = decoded.image
        faces = _faces(models, image)
    except ImageError as error:
        return Picture(name, error=str(error))
    except MemoryError:
        shown = "The picture" if name is None else f"'{printable(name)}'"
        return Picture(name, error=f"{shown} needs more memory than there is; reduce it first.")
    digest = digest_of(image) if digests else None
    notes = decoded.notes
    if faces and faces[0].turn:
        notes = (*notes, f"it is stored turned; upright after {faces[0].turn} degrees clockwise")
    return Picture(name, width=image.shape[1], height=image.shape[0], faces=faces, digest=digest, notes=notes)


def _finished(models: Models, pictures: list[Picture], embed: bool, crops: bool) -> list[Picture]:
    """Embed the faces of several pictures together, and drop the crops where nobody asked for them."""
    faces = [face for picture in pictures for face in picture.faces]
    if not faces:
        return pictures
    if embed:
        faces = [
            replace(face, crop=face.crop if crops else None, embedding=Embedding(models.embedder.model, vector.copy()))
            for start in range(0, len(faces), _STACK)
            for face, vector in _with_vectors(models.embedder, faces[start : start + _STACK])
        ]
    elif not crops:
        faces = [replace(face, crop=None) for face in faces]
    done = iter(faces)
    return [replace(picture, faces=tuple(islice(done, len(picture.faces)))) for picture in pictures]


def _with_vectors(
    embedder: Embedder, faces: Sequence[Face]
) -> Iterator[tuple[Face, Float32[np.ndarray, " dimension"]]]:
    return zip(faces, embedder.embed(np.stack([face.crop for face in faces if face.crop is not None])), strict=True)


def central_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """Return the face nearest to the middle of the picture; arguments as of `main_face`."""

    def off_centre(face: Face) -> float:
        box = face.box
        return float(np.hypot((box.left + box.right - width) / 2, (box.top + box.bottom - height) / 2))

    return min(faces, key=off_centre, default=None)


def main_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """Return the face that a portrait is of: large and near the middle; None where there is none.

    Args:
        faces: Of one picture.
        width: Of the picture, px.
        height: Of the picture, px.
    """
    return max(faces, key=lambda face: _prominence(face, width, height), default=None)


def choose_face(faces: Sequence[Face], width: int, height: int, which: str | int = "main") -> Face:
    """Return the face that is meant where a picture shows several, and refuse an arbitrary choice.

    Args:
        faces: Of one picture, largest first, at least one.
        width: Of the picture, px.
        height: Of the picture, px.
        which: One of `FACES`, or the number of the face, from 1, largest first. A single face is always meant.

    Raises:
        ImageError: It shows other faces beside the only one, fewer than that number, or two that are as prominent.
        UsageError: ``which`` is none of these.
    """
    said = f"it shows {len(faces)} faces"
    number = which if isinstance(which, int) else int(which) if which.isdecimal() else None
    if number is None and which not in FACES:
        raise UsageError(f"A face is {', '.join(FACES)}, or its number, from 1, largest first; got '{which}'.")
    if len(faces) == 1:
        return faces[0]
    if number is not None:
        if not 1 <= number <= len(faces):
            raise ImageError(f"{said}, there is no face {number}.")
        return faces[number - 1]
    if which == "only":
        raise ImageError(f"{said}, expected one.")
    if which == "largest":
        return faces[0]
    best, second = sorted(faces, key=lambda face: -_prominence(face, width, height))[:2]
    if _prominence(best, width, height) - _prominence(second, width, height) < _CLEARLY * best.box.side:
        raise ImageError(f"{said}, and no single one is the largest and most central. Say which one with --face.")
    return best


def _prominence(face: Face, width: int, height: int) -> float:
    box = face.box
    off = np.hypot((box.left + box.right - width) / 2, (box.top + box.bottom - height) / 2)
    return box.side - 0.5 * float(off)


def _faces(models: Models, image: UInt8[np.ndarray, "height width 3"]) -> tuple[Face, ...]:
    """Find, cut out and judge the faces of a picture; they carry their crops and no embeddings yet."""
    view, found = look(image, models.detector, turn=models.turn)
    read: Sequence[Expression | None] = [None] * len(found)
    seen = [(view.image, detection) for detection in found]
    if models.restorer is not None:
        seen = [_restored(models.restorer, view.image, detection) for detection in found]
        if models.expression is not None:
            read = [models.expression.read(source, [shown])[0] for source, shown in seen]
    elif models.expression is not None:
        read = models.expression.read(view.image, found)
    told: Sequence[Attributes | None] = [None] * len(found)
    if models.attributes is not None:
        told = models.attributes.read(view.image, found)
    faces = []
    for detection, (source, shown), expression, attributes in zip(found, seen, read, told, strict=True):
        crop = models.embedder.crop(source, shown.landmarks)
        # Quality is that of what was seen.
        plain = crop if source is view.image else models.embedder.crop(view.image, detection.landmarks)
        quality = assess(measure(plain, detection.landmarks, detection.box, detection.score))
        box, landmarks = detection.box, detection.landmarks
        if not view.is_picture:
            box, landmarks = view.to_picture(box, landmarks)
            attributes = None if attributes is None else _in_picture(attributes, view)
        faces.append(
            Face(
                box,
                landmarks,
                detection.score,
                quality=quality,
                expression=expression,
                crop=crop,
                turn=view.turn,
                attributes=attributes,
            )
        )
    return tuple(faces)


def _in_picture(attributes: Attributes, view: View) -> Attributes:
    """Carry a mesh from a view to the picture; pose stays that of the face as it was looked at."""
    flat = view.points_to_picture(attributes.mesh[:, :2])
    depth = attributes.mesh[:, 2:] / view.scale
    return replace(attributes, mesh=np.concatenate([flat, depth], axis=1).astype(np.float32))


def _restored(
    restorer: Restorer, image: UInt8[np.ndarray, "height width 3"], detection: Detection
) -> tuple[UInt8[np.ndarray, "height width 3"], Detection]:
    """Return where a face is to be cut from, restored where it is spoilt, and where it is there."""
    source, marks, face = restorer.prepared(image, detection.landmarks)
    if face.left_alone:
        return image, detection
    (left, top), (right, bottom) = marks.min(axis=0), marks.max(axis=0)
    return source, Detection(Box(float(left), float(top), float(right), float(bottom)), marks, detection.score)


class _Arguments(TypedDict):
    """What makes an analyzer anew, in another process."""

    detector: str
    embedder: str | None
    expression: str | None
    min_face: float | None
    threshold: float | None
    threads: int | None
    turn: int | None
    cohort: Cohort | None
    shares: Shares | None
    attributes: bool
    restorer: str | None


def _open(arguments: _Arguments) -> Analyzer:
    return Analyzer(**arguments)


def _detector(name: str, *, min_face: float | None, threshold: float | None, threads: int) -> DetectorLike:
    accurate = zoo.default("detector")
    if name in ("auto", "fast"):
        # One thread each: at these sizes waking a second one costs more than it brings.
        second = Detector(zoo.card(accurate), min_face=min_face, threshold=threshold, threads=1)
        return Detector(
            zoo.card("blazeface-back"),
            min_face=min_face,
            scale=0.5 if name == "auto" else 0.3,
            threads=1,
            second=second,
        )
    if name == "whole":
        # It is known that there is a face: the search for its landmarks is kinder than among photographs.
        return WholePicture(Detector(zoo.card(accurate), threshold=threshold or 0.3, threads=threads).detect)
    if name == "accurate":
        return Detector(
            zoo.card(accurate), min_face=min_face, threshold=threshold, threads=threads, scale=1.0, max_side=2560
        )
    return Detector(zoo.card(name), min_face=min_face, threshold=threshold, threads=threads)


def _expect_role(name: str, role: str) -> zoo.Card:
    card = zoo.card(name) if role == "detector" else zoo.named(zoo.choice(name, role))
    if card.role != role:
        raise UsageError(f"'{name}' is of role {card.role}, expected a model of role {role}: see mien models list.")
    return card


def _expression_card(name: str | None) -> zoo.Card | None:
    if name == "default":
        name = zoo.defaults().get("expression")
    return None if name is None else _expect_role(name, "expression")
