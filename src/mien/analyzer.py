"""Picture to faces: the one pipeline that everybody calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from mien import zoo
from mien.errors import ImageError, UsageError
from mien.images import digest as digest_of
from mien.images import load_image, printable
from mien.types import Embedding, Expression, Face, Picture, Records
from mien.vision.detector import Detector
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.quality import assess, measure
from mien.zoo.session import thread_count

__all__ = ["DETECTORS", "Analyzer", "central_face", "main_face"]

DETECTORS = {
    "auto": "BlazeFace first, CenterFace for the landmarks and where BlazeFace finds nothing: the default.",
    "fast": "The same at a third of the size: for faces that fill a good part of the picture.",
    "accurate": "CenterFace at full size: for crowds and small faces, several times as slow.",
}


_SINGLES, _CHUNK = 4, 4  # pictures of a worker's first tasks, and of its later ones
_STACK = 16  # crops that are copied together for the embedder


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
        threads: int,
    ) -> None:
        self._embedder_card = embedder
        self._expression_card = expression
        self._threads = threads
        self.detector = _detector(detector, min_face=min_face, threshold=threshold, threads=threads)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, opened when a face is first embedded or cut out."""
        return Embedder(self._embedder_card, threads=self._threads)

    @cached_property
    def expression(self) -> ExpressionReader | None:
        """The expression reader; None where no expression model is in use."""
        if self._expression_card is None:
            return None
        return ExpressionReader(self._expression_card, threads=self._threads)


class Analyzer:
    """Find, judge and embed the faces of pictures.

    Opening an analyzer is cheap; networks are opened, and pulled if they are missing, when they are first needed.

    Args:
        detector: `auto`, `fast`, `accurate`, or the name of a detector of the catalogue.
        embedder: An embedder, by name, run folder or file as `mien.zoo.named` takes it; default the catalogue's.
        expression: An expression model, by name, run folder or file as `mien.zoo.named` takes it; `default` is the
            catalogue's, None reads no expressions and saves their time.
        min_face: Least face side in px that should be found; smaller faces take more time. Default: about 18 px in
            pictures up to 1,280 px, growing with the picture.
        threshold: Least detection score; default the detector's own.
        threads: ONNX Runtime threads for one picture; default the CPU quota.

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
    ) -> None:
        if min_face is not None and not 2 <= min_face <= 10_000:
            raise UsageError(f"min_face should be 2 to 10000 px, got {min_face:g}.")
        if threshold is not None and not 0 < threshold < 1:
            raise UsageError(f"The detection threshold should lie between 0 and 1, got {threshold:g}.")
        if detector not in DETECTORS:
            _expect_role(detector, "detector")
        self.detector = detector
        self.card = _expect_role(embedder or zoo.default("embedder"), "embedder")
        self.threads = threads or thread_count()
        self._options = {
            "detector": detector,
            "embedder": self.card,
            "expression": _expression_card(expression),
            "min_face": min_face,
            "threshold": threshold,
        }

    @cached_property
    def _models(self) -> Models:
        """Networks that put all threads on one picture: least time to an answer."""
        return Models(**self._options, threads=self.threads)  # type: ignore[arg-type]

    @cached_property
    def _single(self) -> Models:
        """Networks of one thread each, shared by workers that take a picture each: most pictures a second."""
        return self._models if self.threads == 1 else Models(**self._options, threads=1)  # type: ignore[arg-type]

    @property
    def embedder(self) -> Embedder:
        """The embedder in use."""
        return self._models.embedder

    def analyze(
        self, image: UInt8[np.ndarray, "height width 3"], *, embed: bool = True, crops: bool = False
    ) -> Records[Face]:
        """Return the faces of a picture, largest first.

        Args:
            image: RGB uint8, shape (height, width, 3), as `mien.load_image` returns it.
            embed: Compute embeddings.
            crops: Keep the aligned crops in the faces.

        Raises:
            ImageError: ``image`` is not such an array.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError("analyze takes an RGB uint8 array (height, width, 3); read files with mien.load_image.")
        (picture,) = _finished(self._models, [Picture(None, faces=_faces(self._models, image))], embed, crops)
        return Records(picture.faces)

    def pictures(
        self, paths: Iterable[str | Path], *, embed: bool = True, crops: bool = False, digests: bool = False
    ) -> Iterator[Picture]:
        """Read and analyse picture files, several at once, in order, with flat memory.

        A picture that cannot be read is reported in `Picture.error` and the batch goes on.

        Args:
            paths: Files.
            embed: Compute embeddings.
            crops: Keep the aligned crops in the faces.
            digests: Compute `Picture.digest`.
        """
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
        _ = models.embedder.session if embed else models.embedder, models.expression
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
        self, models: Models, paths: Sequence[str | Path], embed: bool, crops: bool, digests: bool
    ) -> list[Picture]:
        return _finished(models, [_read(models, path, digests) for path in paths], embed, crops)


def _chunks(paths: Iterable[str | Path]) -> Iterator[list[str | Path]]:
    """Hand out work: single pictures first, so that answers come at once, then a few, to embed their faces together."""
    waiting = iter(paths)
    for number in count():
        chunk = list(islice(waiting, 1 if number < _SINGLES else _CHUNK))
        if not chunk:
            return
        yield chunk


def _read(models: Models, path: str | Path, digests: bool) -> Picture:
    """Read one file and find its faces, or say what is wrong with it."""
    name = str(path)
    try:
        image = load_image(path)
        faces = _faces(models, image)
    except ImageError as error:
        return Picture(name, error=str(error))
    except MemoryError:
        return Picture(name, error=f"'{printable(path)}' needs more memory than there is; reduce it first.")
    digest = digest_of(image) if digests else None
    return Picture(name, width=image.shape[1], height=image.shape[0], faces=faces, digest=digest)


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

    def prominence(face: Face) -> float:
        box = face.box
        off = np.hypot((box.left + box.right - width) / 2, (box.top + box.bottom - height) / 2)
        return box.side - 0.5 * float(off)

    return max(faces, key=prominence, default=None)


def _faces(models: Models, image: UInt8[np.ndarray, "height width 3"]) -> tuple[Face, ...]:
    """Find, cut out and judge the faces of a picture; they carry their crops and no embeddings yet."""
    found = models.detector.detect(image)
    read: Sequence[Expression | None] = [None] * len(found)
    if models.expression is not None:
        read = models.expression.read(image, found)
    faces = []
    for detection, expression in zip(found, read, strict=True):
        crop = models.embedder.crop(image, detection.landmarks)
        quality = assess(measure(crop, detection.landmarks, detection.box, detection.score))
        faces.append(
            Face(
                detection.box,
                detection.landmarks,
                detection.score,
                quality=quality,
                expression=expression,
                crop=crop,
            )
        )
    return tuple(faces)


def _detector(name: str, *, min_face: float | None, threshold: float | None, threads: int) -> Detector:
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
    if name == "accurate":
        return Detector(
            zoo.card(accurate), min_face=min_face, threshold=threshold, threads=threads, scale=1.0, max_side=2560
        )
    return Detector(zoo.card(name), min_face=min_face, threshold=threshold, threads=threads)


def _expect_role(name: str, role: str) -> zoo.Card:
    card = zoo.card(name) if role == "detector" else zoo.named(name)
    if card.role != role:
        raise UsageError(f"'{name}' is of role {card.role}, expected a model of role {role}: see mien models list.")
    return card


def _expression_card(name: str | None) -> zoo.Card | None:
    if name == "default":
        name = zoo.defaults().get("expression")
    return None if name is None else _expect_role(name, "expression")
