"""A client of the HTTP service: the same questions and the same records as of a gallery in a file.

`Client` waits for each answer; `AsyncClient` has the same methods as coroutines. Needs ``pip install 'mien[serve]'``.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import numpy as np

from mien.errors import DataError, GalleryError, ImageError, MienError, ServiceError, UsageError
from mien.gallery.naming import Named
from mien.gallery.records import Enrolment, Erasure, Finding, Sample, Subject
from mien.images import Source, encode_image, load_image
from mien.types import (
    Box,
    Candidate,
    Comparison,
    Embedding,
    Expression,
    Face,
    GroupRate,
    OperatingPoint,
    Picture,
    Quality,
    Reason,
    Records,
    Side,
)

try:
    import httpx
except ModuleNotFoundError:  # pragma: no cover - the tests have it
    raise UsageError("The client needs httpx. Install it with: pip install 'mien[serve]'") from None

__all__ = ["AsyncClient", "Client", "Job"]

T = TypeVar("T")

_AGAIN = (429, 503)  # statuses that pass
_LONGEST_WAIT_S = 10.0
_PICTURES = 20  # of a request, which a service takes at least
_OVER = ("done", "cancelled", "failed")
_MISTAKES: dict[int, type[MienError]] = {
    400: UsageError,
    404: GalleryError,
    409: GalleryError,
    413: ImageError,
    415: ImageError,
    422: ImageError,
}


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a service.

    Attributes:
        id: Of it.
        kind: enrol or group.
        state: queued, running, done, cancelled or failed.
        total: Pictures.
        done: Pictures that are done.
        counts: Pictures by what became of them.
        error: Why it failed, in a sentence; None.
    """

    id: str
    kind: str
    state: str
    total: int | None
    done: int
    counts: Mapping[str, int]
    error: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in _OVER


@dataclass(frozen=True)
class _Call(Generic[T]):
    """A request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    pictures: Sequence[tuple[str, tuple[str, bytes]]] = ()
    raw: tuple[str, Path] | None = None

    @property
    def changes(self) -> bool:
        return self.method in ("PATCH", "DELETE") or self.path.startswith(("/v1/subjects", "/v1/jobs", "/v1/group"))


# The calls ------------------------------------------------------------------------------------------------------------


def _analyze(picture: Source, embeddings: bool) -> _Call[Picture]:
    query = {"embeddings": embeddings}
    return _Call("POST", "/v1/analyze", _only_picture, query, pictures=[("picture", _encoded(picture))])


def _verify(a: Source, b: Source, query: Mapping[str, object]) -> _Call[Comparison]:
    pictures = [("a", _encoded(a)), ("b", _encoded(b))]
    return _Call("POST", "/v1/verify", _comparison, query, pictures=pictures)


def _name_faces(picture: Source, query: Mapping[str, object]) -> _Call[tuple[Named, ...]]:
    return _Call("POST", "/v1/identify", lambda told: _named(told)[1], query, pictures=[("picture", _encoded(picture))])


def _identify(picture: Source, face: str | int, query: Mapping[str, object]) -> _Call[Records[Candidate]]:
    def read(told: Any) -> Records[Candidate]:
        from mien.analyzer import choose_face  # with OpenCV, which other questions need not

        about, named = _named(told)
        if not named:
            raise ImageError("The picture shows no face. Try a sharper or larger one.")
        chosen = choose_face([one.face for one in named], about.width, about.height, face)
        found = next(one for one in named if one.face is chosen)
        return Records(candidate for candidate in found.candidates if candidate.score >= told["threshold"])

    return _Call("POST", "/v1/identify", read, query, pictures=[("picture", _encoded(picture))])


def _search(picture: Source, k: int, per_subject: bool, face: str | int) -> _Call[Records[Candidate]]:
    query = {"k": k, "subjects": per_subject, "face": face}
    return _Call(
        "POST",
        "/v1/search",
        lambda told: Records(map(_candidate, told["candidates"])),
        query,
        pictures=[("picture", _encoded(picture))],
    )


def _enrol(
    subject: str, pictures: Source | Iterable[Source], face: str | int, min_quality: float | None, consent: str | None
) -> _Call[list[Enrolment]]:
    listed = [pictures] if isinstance(pictures, _ONE) or hasattr(pictures, "read") else list(cast(Any, pictures))
    if not 0 < len(listed) <= _PICTURES:
        raise UsageError(f"1 to {_PICTURES} pictures are enrolled at a time, got {len(listed)}. More: enrol_zip.")
    query = {"name": subject, "face": face, "min_quality": min_quality, "consent": consent}
    return _Call(
        "POST",
        "/v1/subjects",
        lambda told: [_enrolment(picture) for picture in told["pictures"]],
        query,
        pictures=[("picture", _encoded(cast(Source, one))) for one in listed],
    )


def _change(subject_id: int, change: Mapping[str, object]) -> _Call[Subject]:
    return _Call("PATCH", f"/v1/subjects/{subject_id}", _subject, body=dict(change))


def _upload(path: str, archive: str | Path, query: Mapping[str, object]) -> _Call[Job]:
    return _Call("POST", path, _job, query, raw=("application/zip", Path(archive)))


class _Base:
    """What both clients share: where the service is, and how requests are made and answers read."""

    def __init__(self, url: str, key: str | None, collection: str | None, retries: int) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"A service is at an address such as http://127.0.0.1:8400, got '{url[:80]}'.")
        self._collection, self._retries = collection, retries
        self._headers = {"X-Mien": "1", "Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def _arguments(self, call: _Call[T], idempotency: str) -> dict[str, Any]:
        query = {name: _text(value) for name, value in call.query.items() if value is not None}
        if self._collection is not None and not call.path.startswith("/v1/session"):
            query["collection"] = self._collection
        headers = dict(self._headers)
        if call.changes and call.method != "GET":
            headers["Idempotency-Key"] = idempotency
        arguments: dict[str, Any] = {"params": query, "headers": headers}
        if call.pictures:
            arguments["files"] = [(part, (name, data, "image/*")) for part, (name, data) in call.pictures]
        elif call.body is not None:
            arguments["json"] = call.body
        return arguments

    def _answer(self, call: _Call[T], response: httpx.Response, tries: int) -> T | float:
        """Return what was asked for, or after how many seconds to ask again."""
        if response.status_code in _AGAIN and tries < self._retries:
            wait = response.headers.get("retry-after", "1")
            return min(float(wait) if wait.isdecimal() else 1.0, _LONGEST_WAIT_S)
        if response.is_error:
            raise _error(response)
        return call.read(response.json() if response.content else None)


def _error(response: httpx.Response) -> MienError:
    """Return the error that the service told, with its sentence."""
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"The service answered with status {response.status_code}. Is there a mien service at that address?"
    return _MISTAKES.get(response.status_code, ServiceError)(detail)


def _unreachable(error: httpx.HTTPError) -> ServiceError:
    name = "took too long" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
    return ServiceError(f"The service {name}: {error or type(error).__name__}. Is it running, and is that its address?")


class Client(_Base):
    """A service, asked one question after the other. Safe to share between threads.

    Args:
        url: Of the service, such as ``http://127.0.0.1:8400``.
        key: Its text, ``mien_...``, where the service asks for one.
        collection: Whose gallery is meant; default the key's only one, or ``default``.
        timeout_s: How long to wait for an answer.
        retries: How often to ask again where the service is busy.
        transport: Of httpx, for tests.

    Example:
        >>> with Client("http://127.0.0.1:8400") as service:  # doctest: +SKIP
        ...     service.enrol("ada", ["ada-1.jpg", "ada-2.jpg"])
        ...     service.identify("door.jpg")
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        collection: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, collection, retries)
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _send(self, call: _Call[T]) -> T:
        key = uuid.uuid4().hex
        for tries in range(self._retries + 1):
            try:
                if call.raw is not None:
                    kind, path = call.raw
                    arguments = self._arguments(call, key)
                    arguments["headers"]["Content-Type"] = kind
                    with _opened(path) as file:
                        response = self._http.request(call.method, call.path, content=file, **arguments)
                else:
                    response = self._http.request(call.method, call.path, **self._arguments(call, key))
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
            answer = self._answer(call, response, tries)
            if not isinstance(answer, float) or response.is_success:
                return cast(T, answer)
            time.sleep(answer)
        raise AssertionError("the last try answers or raises")

    def session(self) -> dict[str, Any]:
        """Return who asks, what they may do, and how much a request may bring."""
        return self._send(_SESSION)

    def analyze(self, picture: Source, *, embeddings: bool = False) -> Records[Face]:
        """Return the faces of a picture, largest first.

        Raises:
            ImageError: It cannot be read.
        """
        return Records(self._send(_analyze(picture, embeddings)).faces)

    def verify(
        self,
        a: Source,
        b: Source,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        face: str | int = "main",
    ) -> Comparison:
        """Compare a face of one picture with a face of another; as `mien.verify`."""
        return self._send(_verify(a, b, {"fmr": fmr, "threshold": threshold, "face": face}))

    def identify(
        self,
        picture: Source,
        k: int = 1,
        *,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        face: str | int = "main",
    ) -> Records[Candidate]:
        """Return up to k subjects that a face matches, best first; empty: nobody known. As `mien.Gallery.identify`.

        Raises:
            ImageError: The picture cannot be read, or shows no face, or none that is clearly meant.
        """
        return self._send(_identify(picture, face, _decision(k, fmr, fpir, threshold)))

    def name_faces(
        self,
        picture: Source,
        *,
        top: int = 1,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        once: bool = False,
        expressions: bool = False,
    ) -> tuple[Named, ...]:
        """Name all faces of a picture; as `mien.gallery.name_faces`."""
        query = _decision(top, fmr, fpir, threshold) | {"once": once, "expression": expressions}
        return self._send(_name_faces(picture, query))

    def search(
        self, picture: Source, k: int = 10, *, per_subject: bool = False, face: str | int = "main"
    ) -> Records[Candidate]:
        """Return the k samples that are most like a face, matching or not; as `mien.Gallery.search`."""
        return self._send(_search(picture, k, per_subject, face))

    def enrol(
        self,
        subject: str,
        pictures: Source | Iterable[Source],
        *,
        face: str | int = "main",
        min_quality: float | None = None,
        consent: str | None = None,
    ) -> list[Enrolment]:
        """Enrol pictures of a subject; on return they are on the service's disk.

        Raises:
            ImageError: None of them could be enrolled.
        """
        return self._send(_enrol(subject, pictures, face, min_quality, consent))

    def subjects(self, query: str = "") -> Iterator[Subject]:
        """Yield the subjects, by name; with a query, those whose name has it as a part."""
        cursor: str | None = ""
        while cursor is not None:
            found, cursor = self._send(_page(query, cursor))
            yield from found

    def subject(self, name: str) -> Subject:
        """Return the subject of a name.

        Raises:
            GalleryError: There is none.
        """
        for found in self.subjects(name):
            if found.name == name:
                return found
        raise GalleryError("There is no subject of that name.")

    def samples(self, subject_id: int) -> list[Sample]:
        """Return a subject's samples in the order of enrolment."""
        return self._send(_Call("GET", f"/v1/subjects/{subject_id}/samples", _samples))

    def rename(self, subject_id: int, name: str) -> Subject:
        """Give a subject another name."""
        return self._send(_change(subject_id, {"name": name}))

    def keep(self, subject_id: int, *, consent: str | None = None, retain_until: str | None = None) -> Subject:
        """Note on what ground a subject is enrolled, and the day after which it is erased, ISO 8601."""
        return self._send(_change(subject_id, {"consent": consent, "retain_until": retain_until}))

    def merge(self, into: int, other: int) -> int:
        """Move all samples of one subject to another, which alone remains; return how many moved."""
        return self._send(_Call("POST", f"/v1/subjects/{into}/merge", _moved, body={"other": other}))

    def split(self, samples: Sequence[int], name: str) -> list[int]:
        """Give samples to the subject of a name, new or known; return which moved."""
        body = {"samples": list(samples), "name": name}
        return self._send(_Call("POST", "/v1/subjects/split", lambda told: list(told["moved"]), body=body))

    def erase(self, subject_id: int) -> Erasure:
        """Erase a subject with all samples; return the proof."""
        return self._send(_Call("DELETE", f"/v1/subjects/{subject_id}", _erasure))

    def findings(self, *, fmr: float | None = None, threshold: float | None = None) -> list[Finding]:
        """Look for people under wrong names; as `mien.Gallery.audit`."""
        query = {"fmr": fmr, "threshold": threshold}
        return self._send(_Call("GET", "/v1/findings", lambda told: list(map(_finding, told["findings"])), query))

    def enrol_zip(self, archive: str | Path, *, subject: str | None = None, face: str | int = "main") -> Job:
        """Begin to enrol the pictures of a zip, whose folders name the subjects, or all of one subject."""
        return self._send(_upload("/v1/jobs", archive, {"subject": subject, "face": face}))

    def group_zip(self, archive: str | Path, *, fmr: float | None = None) -> Job:
        """Begin to sort the faces of a zip by person; `group_result` returns the outcome."""
        return self._send(_upload("/v1/group", archive, {"fmr": fmr}))

    def job(self, job_id: str) -> Job:
        """Return how far a job is."""
        return self._send(_Call("GET", f"/v1/jobs/{job_id}", _job))

    def cancel(self, job_id: str) -> None:
        """Cancel a job, or remove one that is over."""
        self._send(_Call("DELETE", f"/v1/jobs/{job_id}", lambda _: None))

    def wait(self, job: Job, *, every_s: float = 0.5) -> Job:
        """Return a job once it is over."""
        while not job.over:
            time.sleep(every_s)
            job = self.job(job.id)
        return job

    def group_result(self, job_id: str) -> dict[str, Any]:
        """Return the document `mien/groups/1` of a grouping that is done."""
        return self._send(_Call("GET", f"/v1/jobs/{job_id}/result", dict))


class AsyncClient(_Base):
    """A service, asked from coroutines; methods and arguments are those of `Client`.

    Example:
        >>> async with AsyncClient("http://127.0.0.1:8400") as service:  # doctest: +SKIP
        ...     await service.identify("door.jpg")
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        collection: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, collection, retries)
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def _send(self, call: _Call[T]) -> T:
        key = uuid.uuid4().hex
        for tries in range(self._retries + 1):
            arguments = self._arguments(call, key)
            if call.raw is not None:
                arguments["headers"]["Content-Type"] = call.raw[0]
                arguments["content"] = _parts(call.raw[1])
            try:
                response = await self._http.request(call.method, call.path, **arguments)
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
            answer = self._answer(call, response, tries)
            if not isinstance(answer, float) or response.is_success:
                return cast(T, answer)
            await asyncio.sleep(answer)
        raise AssertionError("the last try answers or raises")

    async def session(self) -> dict[str, Any]:
        """As of `Client`."""
        return await self._send(_SESSION)

    async def analyze(self, picture: Source, *, embeddings: bool = False) -> Records[Face]:
        """As of `Client`."""
        return Records((await self._send(_analyze(picture, embeddings))).faces)

    async def verify(
        self,
        a: Source,
        b: Source,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        face: str | int = "main",
    ) -> Comparison:
        """As of `Client`."""
        return await self._send(_verify(a, b, {"fmr": fmr, "threshold": threshold, "face": face}))

    async def identify(
        self,
        picture: Source,
        k: int = 1,
        *,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        face: str | int = "main",
    ) -> Records[Candidate]:
        """As of `Client`."""
        return await self._send(_identify(picture, face, _decision(k, fmr, fpir, threshold)))

    async def name_faces(
        self,
        picture: Source,
        *,
        top: int = 1,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        once: bool = False,
        expressions: bool = False,
    ) -> tuple[Named, ...]:
        """As of `Client`."""
        query = _decision(top, fmr, fpir, threshold) | {"once": once, "expression": expressions}
        return await self._send(_name_faces(picture, query))

    async def search(
        self, picture: Source, k: int = 10, *, per_subject: bool = False, face: str | int = "main"
    ) -> Records[Candidate]:
        """As of `Client`."""
        return await self._send(_search(picture, k, per_subject, face))

    async def enrol(
        self,
        subject: str,
        pictures: Source | Iterable[Source],
        *,
        face: str | int = "main",
        min_quality: float | None = None,
        consent: str | None = None,
    ) -> list[Enrolment]:
        """As of `Client`."""
        return await self._send(_enrol(subject, pictures, face, min_quality, consent))

    async def subjects(self, query: str = "") -> AsyncIterator[Subject]:
        """As of `Client`."""
        cursor: str | None = ""
        while cursor is not None:
            found, cursor = await self._send(_page(query, cursor))
            for subject in found:
                yield subject

    async def subject(self, name: str) -> Subject:
        """As of `Client`."""
        async for found in self.subjects(name):
            if found.name == name:
                return found
        raise GalleryError("There is no subject of that name.")

    async def samples(self, subject_id: int) -> list[Sample]:
        """As of `Client`."""
        return await self._send(_Call("GET", f"/v1/subjects/{subject_id}/samples", _samples))

    async def rename(self, subject_id: int, name: str) -> Subject:
        """As of `Client`."""
        return await self._send(_change(subject_id, {"name": name}))

    async def keep(self, subject_id: int, *, consent: str | None = None, retain_until: str | None = None) -> Subject:
        """As of `Client`."""
        return await self._send(_change(subject_id, {"consent": consent, "retain_until": retain_until}))

    async def merge(self, into: int, other: int) -> int:
        """As of `Client`."""
        return await self._send(_Call("POST", f"/v1/subjects/{into}/merge", _moved, body={"other": other}))

    async def split(self, samples: Sequence[int], name: str) -> list[int]:
        """As of `Client`."""
        body = {"samples": list(samples), "name": name}
        return await self._send(_Call("POST", "/v1/subjects/split", lambda told: list(told["moved"]), body=body))

    async def erase(self, subject_id: int) -> Erasure:
        """As of `Client`."""
        return await self._send(_Call("DELETE", f"/v1/subjects/{subject_id}", _erasure))

    async def findings(self, *, fmr: float | None = None, threshold: float | None = None) -> list[Finding]:
        """As of `Client`."""
        query = {"fmr": fmr, "threshold": threshold}
        return await self._send(_Call("GET", "/v1/findings", lambda told: list(map(_finding, told["findings"])), query))

    async def enrol_zip(self, archive: str | Path, *, subject: str | None = None, face: str | int = "main") -> Job:
        """As of `Client`."""
        return await self._send(_upload("/v1/jobs", archive, {"subject": subject, "face": face}))

    async def group_zip(self, archive: str | Path, *, fmr: float | None = None) -> Job:
        """As of `Client`."""
        return await self._send(_upload("/v1/group", archive, {"fmr": fmr}))

    async def job(self, job_id: str) -> Job:
        """As of `Client`."""
        return await self._send(_Call("GET", f"/v1/jobs/{job_id}", _job))

    async def cancel(self, job_id: str) -> None:
        """As of `Client`."""
        await self._send(_Call("DELETE", f"/v1/jobs/{job_id}", lambda _: None))

    async def wait(self, job: Job, *, every_s: float = 0.5) -> Job:
        """As of `Client`."""
        while not job.over:
            await asyncio.sleep(every_s)
            job = await self.job(job.id)
        return job

    async def group_result(self, job_id: str) -> dict[str, Any]:
        """As of `Client`."""
        return await self._send(_Call("GET", f"/v1/jobs/{job_id}/result", dict))


# Pictures out, records in ---------------------------------------------------------------------------------------------

_ONE = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)


def _encoded(picture: Source) -> tuple[str, bytes]:
    """Return a picture's name and its bytes: a file as it is, pixels as PNG."""
    if isinstance(picture, str | os.PathLike):
        with _opened(Path(picture)) as file:
            return Path(picture).name, file.read()
    if isinstance(picture, bytes | bytearray | memoryview):
        return "-", bytes(picture)
    return "-", encode_image(load_image(picture), suffix=".png")


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error


async def _parts(path: Path) -> AsyncIterator[bytes]:
    with _opened(path) as file:
        while part := await asyncio.to_thread(file.read, 1 << 20):
            yield part


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decision(top: int, fmr: float | None, fpir: float | None, threshold: float | None) -> dict[str, object]:
    return {"top": top, "fmr": fmr, "fpir": fpir, "threshold": threshold}


def _page(query: str, cursor: str) -> _Call[tuple[list[Subject], str | None]]:
    asked = {"q": query or None, "cursor": cursor or None, "limit": 200}
    return _Call("GET", "/v1/subjects", lambda told: (list(map(_subject, told["subjects"])), told["next"]), asked)


def _quality(told: Any) -> Quality | None:
    if told is None:
        return None
    return Quality(told["score"], tuple(map(Reason, told["reasons"])), told.get("measures", {}))


def _face(told: Any) -> Face:
    expression, embedding = told.get("expression"), told.get("embedding")
    if expression is not None:
        expression = Expression(expression["label"], expression["probabilities"], expression["uncertain"])
    if embedding is not None:
        embedding = Embedding(embedding["model"], np.array(embedding["vector"], dtype=np.float32))
    return Face(
        Box(*told["box"]),
        np.array(told["landmarks"], dtype=np.float32),
        told["score"],
        quality=_quality(told["quality"]),
        embedding=embedding,
        expression=expression,
        turn=told["turn"],
    )


def _picture(told: Any, faces: Sequence[Face]) -> Picture:
    return Picture(
        told["path"], width=told["width"], height=told["height"], faces=tuple(faces), notes=tuple(told.get("notes", ()))
    )


def _only_picture(told: Any) -> Picture:
    (picture,) = told["pictures"]
    return _picture(picture, [_face(face) for face in picture["faces"]])


def _named(told: Any) -> tuple[Picture, tuple[Named, ...]]:
    (picture,) = told["pictures"]
    named = []
    for face in picture["faces"]:
        candidates = tuple(map(_candidate, face["candidates"]))
        given = next((one for one in candidates if one.subject == face["subject"]), None)
        named.append(Named(_face(face), candidates, given))
    return _picture(picture, [one.face for one in named]), tuple(named)


def _candidate(told: Any) -> Candidate:
    return Candidate(told["subject"], told["subject_id"], told["sample_id"], told["score"])


def _comparison(told: Any) -> Comparison:
    sides = [
        Side(side["faces"], side["face"], Box(*side["box"]), side["turn"], _quality(side["quality"]))
        for side in (told["a"], told["b"])
    ]
    worst = told["worst_group"]
    if worst is not None:
        worst = GroupRate(**{**worst, "fmr_interval": tuple(worst["fmr_interval"])})
    return Comparison(
        told["score"],
        told["match"],
        math.nan if told["probability"] is None else told["probability"],
        _point(told["operating_point"]),
        sides=(sides[0], sides[1]),
        pairs=told["pairs"],
        worst_group=worst,
    )


def _point(told: Any) -> OperatingPoint:
    """Return an operating point; of one that the user chose the rates are not known."""
    unknown = (0.0, 1.0)
    return OperatingPoint(
        target_fmr=_or(told["target_fmr"], 1.0),
        threshold=told["threshold"],
        fmr=_or(told["fmr"], 1.0),
        fnmr=_or(told["fnmr"], math.nan),
        fmr_interval=tuple(told["fmr_interval"] or unknown),
        fnmr_interval=tuple(told["fnmr_interval"] or unknown),
        num_genuine=told["num_genuine"],
        num_impostor=told["num_impostor"],
        dataset=told["dataset"],
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _enrolment(told: Any) -> Enrolment:
    if "error" in told:
        return Enrolment("refused")
    return Enrolment(
        told["status"],
        told["subject_id"],
        told["sample_id"],
        tuple(map(Reason, told["reasons"])),
        tuple(map(_candidate, told["duplicates"])),
        tuple(told["same_face"]),
    )


def _known(kind: type[T], told: Mapping[str, Any], **changed: object) -> T:
    """Make a record of the fields that it has; what a newer service adds is left out."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in told.items() if name in names} | changed)


def _subject(told: Any) -> Subject:
    return _known(Subject, told)


def _samples(told: Any) -> list[Sample]:
    return [
        _known(
            Sample,
            sample,
            box=Box(**sample["box"]),
            reasons=tuple(map(Reason, sample["reasons"])),
            models=tuple(sample["models"]),
        )
        for sample in told["samples"]
    ]


def _erasure(told: Any) -> Erasure:
    return _known(Erasure, told, files=tuple(told["files"]), out_of_reach=tuple(told["out_of_reach"]))


def _finding(told: Any) -> Finding:
    return _known(Finding, told, subjects=tuple(told["subjects"]), samples=tuple(told["samples"]))


def _moved(told: Any) -> int:
    return int(told["moved"])


def _job(told: Any) -> Job:
    return _known(Job, told)


_SESSION: _Call[dict[str, Any]] = _Call("GET", "/v1/session", dict)
