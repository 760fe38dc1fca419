"""Endpoints about whom a gallery knows: subjects, samples, what is wrong with them, the threshold."""

from __future__ import annotations

import base64
import binascii
import io
import json
import zipfile
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from mien.errors import GalleryError
from mien.gallery.deciding import decide
from mien.gallery.ingest import MIN_QUALITY, Outcome, duplicate_threshold, enrol_picture
from mien.gallery.names import clean_name, folded_name
from mien.gallery.records import Subject
from mien.images import encode_image
from mien.reporting import schemas
from mien.service.collections import Collection, Facts
from mien.service.faces import Fmr, Threshold, Which, check_face
from mien.service.problems import Problem
from mien.service.uploads import Upload, analyse, read_uploads
from mien.service.wiring import (
    Administrator,
    Enroller,
    Reader,
    StrictRoute,
    Tenant,
    answer,
    answers_as,
    answers_with,
    upload_of,
)
from mien.types import OperatingPoint

__all__ = ["MinQuality", "Strict", "check_name", "router", "subject_as_json"]

router = APIRouter(route_class=StrictRoute, tags=["people"])

SUBJECT = "mien/subject/1"
SUBJECTS = "mien/subjects/1"
MERGE = "mien/merge/1"
SPLIT = "mien/split/1"
FINDINGS = "mien/findings/1"
POINTS = "mien/operating-points/1"
_MOST_SHOWN = 200  # subjects of a page, points of a curve
_ERASURES = "mien-erased-sample"

_SUBJECT = {
    "id": 3,
    "name": "ada",
    "samples": 2,
    "created": "2026-11-29T12:00:00+00:00",
    "simulated": 0,
    "cover": 17,
    "consent": None,
    "retain_until": None,
}
_ENROLMENT = {
    "schema": schemas.ENROLMENT,
    "subject": _SUBJECT,
    "pictures": [{"path": "a.jpg", "status": "added", "subject": "ada", "subject_id": 3, "sample_id": 17}],
}
_ERASURE = {
    "schema": schemas.GALLERY_ERASURE,
    "subject_id": 3,
    "samples": 2,
    "templates": 2,
    "crops": 2,
    "bytes_erased": 48211,
    "files": ["default.mien", "default.mien-wal"],
    "bytes_searched": 1228800,
    "name_searched": True,
    "shared": 0,
    "out_of_reach": [],
}

MinQuality = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False, description="Refuse faces below it.")]
Name = Annotated[str, Field(max_length=1000)]


class Strict(BaseModel):
    """A body in JSON; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Change(Strict):
    """What shall be different about a subject; what is left out stays."""

    name: Name | None = None
    consent: Annotated[str, Field(max_length=2000)] | None = None
    retain_until: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = None


class Merge(Strict):
    """The subject that goes."""

    other: int


class Split(Strict):
    """Samples, and whose they are."""

    samples: Annotated[list[int], Field(min_length=1, max_length=10_000)]
    name: Name | None = None
    subject: int | None = None
    drop_empty: bool = False


class Rate(Strict):
    """A rate to calibrate for."""

    fmr: Annotated[float, Field(gt=0, lt=1)]


# Subjects -------------------------------------------------------------------------------------------------------------


@router.get(
    "/v1/subjects", responses=answers_with({"schema": SUBJECTS, "subjects": [_SUBJECT], "total": 1, "next": None})
)
async def subjects(
    tenant: Reader,
    q: Annotated[str, Query(max_length=200, description="Part of the name.")] = "",
    sort: Annotated[Literal["name", "created", "samples"], Query()] = "name",
    order: Annotated[Literal["asc", "desc"], Query()] = "asc",
    limit: Annotated[int, Query(ge=1, le=_MOST_SHOWN)] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
) -> Response:
    """List subjects, a page at a time."""
    collection = tenant.collection

    def work() -> dict[str, object]:
        found = collection.subjects()
        if q.strip():
            wanted = _folded(q)
            found = [subject for subject in found if wanted in _folded(subject.name)]
        found = sorted(found, key=lambda subject: (getattr(subject, sort), subject.id), reverse=order == "desc")
        start = _place(cursor, sort, order, q)
        page = found[start : start + limit]
        facts = collection.facts()
        more = start + limit < len(found)
        return {
            "schema": SUBJECTS,
            "subjects": [_as_json(collection, subject, facts.get(subject.id, Facts())) for subject in page],
            "total": len(found),
            "next": _cursor(start + limit, sort, order, q) if more else None,
        }

    return answer(await tenant.core.read(work))


@router.post(
    "/v1/subjects",
    status_code=201,
    openapi_extra=upload_of(several=True, fields={"name": "Whose pictures these are.", "consent": "On what ground."}),
    responses=answers_with(_ENROLMENT, status=201, problems=(408, 409, 413, 415, 422)),
)
async def enrol(
    request: Request,
    tenant: Enroller,
    name: Annotated[str | None, Query(max_length=1000, description="Whose pictures these are.")] = None,
    consent: Annotated[str | None, Query(max_length=2000, description="On what ground they are kept.")] = None,
    face: Which = "main",
    min_quality: MinQuality = MIN_QUALITY,
) -> Response:
    """Enrol a subject from pictures; with a name that is there, add to it."""
    check_face(face)
    uploads = await read_uploads(request, tenant.core.settings.limits, fields=("name", "consent"))
    whose = name if name is not None else uploads.fields.get("name")
    ground = consent if consent is not None else uploads.fields.get("consent")
    if whose is None:
        raise Problem(422, "Whose pictures are these? Add name=NAME, as a parameter or a field of the form.")
    check_name(whose)
    return await _enrol(tenant, uploads.pictures, whose, face, min_quality, ground)


@router.get("/v1/subjects/{subject_id}", responses=answers_with({"schema": SUBJECT, **_SUBJECT}))
async def subject(tenant: Reader, subject_id: int) -> Response:
    """Show one subject."""
    found = await tenant.core.read(lambda: subject_as_json(tenant.collection, tenant.collection.subject(subject_id)))
    return answer({"schema": SUBJECT, **found})


@router.patch("/v1/subjects/{subject_id}", responses=answers_with({"schema": SUBJECT, **_SUBJECT}, problems=(409, 413)))
async def change(tenant: Enroller, subject_id: int, body: Change) -> Response:
    """Rename a subject, or note consent and until when it may be kept."""
    collection, given = tenant.collection, body.model_dump(exclude_unset=True)

    def work() -> dict[str, object]:
        found = collection.subject(subject_id)
        if given.get("retain_until") is not None:
            _check_date(given["retain_until"])
        if given.get("name") is not None:
            check_name(given["name"])
            collection.gallery.rename(found.name, given["name"])
        if given.keys() & {"consent", "retain_until"}:
            known = collection.facts_of(subject_id)
            consent, until = known.consent, known.retain_until
            collection.note(subject_id, Facts(given.get("consent", consent), given.get("retain_until", until)))
        return subject_as_json(collection, collection.subject(subject_id))

    return answer({"schema": SUBJECT, **await tenant.core.read(work)})


@router.delete("/v1/subjects/{subject_id}", responses=answers_with(_ERASURE, problems=(409,)))
async def erase(tenant: Administrator, subject_id: int) -> Response:
    """Erase a subject with all samples, and prove that nothing of them is left."""
    erasure = await tenant.core.read(lambda: tenant.collection.erase(subject_id))
    return answer(schemas.record(erasure, schemas.GALLERY_ERASURE))


@router.post(
    "/v1/subjects/{subject_id}/merge",
    responses=answers_with(
        {"schema": MERGE, "moved": 2, "samples": [21, 22], "name": "Ada L.", "subject": _SUBJECT}, problems=(409,)
    ),
)
async def merge(tenant: Enroller, subject_id: int, body: Merge) -> Response:
    """Give a subject all samples of another one, which goes; `split` with the answer undoes it."""
    collection = tenant.collection

    def work() -> dict[str, object]:
        kept, gone = collection.subject(subject_id), collection.subject(body.other)
        gallery = collection.gallery
        before = {sample.id for sample in gallery.samples(gone.name)} if kept.id != gone.id else set()
        moved = gallery.merge(kept.name, gone.name)
        here = [sample.id for sample in gallery.samples(kept.name) if sample.id in before]
        tenant.core.store.forget(collection.name, gone.id)
        told = subject_as_json(collection, collection.subject(subject_id))
        return {"schema": MERGE, "moved": moved, "samples": here, "name": gone.name, "subject": told}

    return answer(await tenant.core.read(work))


@router.post(
    "/v1/subjects/split",
    responses=answers_with(
        {"schema": SPLIT, "moved": [17], "subject": _SUBJECT, "from": [{"id": 4, "name": "bob", "left": 1}]},
        problems=(409,),
    ),
)
async def split(tenant: Enroller, body: Split) -> Response:
    """Give samples to another subject, new or known: they are not of whom they were enrolled as."""
    collection, gallery = tenant.collection, tenant.collection.gallery
    if (body.name is None) == (body.subject is None):
        raise Problem(400, "Whose samples are these? Give either name or subject.")

    def work() -> dict[str, object]:
        name = collection.subject(body.subject).name if body.subject is not None else str(body.name)
        holders: dict[int, Subject] = {}
        for sample in body.samples:
            holder = gallery.holder(sample) if 0 < sample < 1 << 63 else None
            if holder is None:
                raise Problem(404, f"There is no sample {sample} in this collection.")
            holders[holder.id] = holder
        check_name(name)
        moved = gallery.split(body.samples, name)
        into = gallery.subject(name)
        left = [gallery.subject_by_id(holder) for holder in holders if holder != into.id]
        told = [{"id": one.id, "name": one.name, "left": one.samples} for one in left if one is not None]
        if body.drop_empty:
            for one in left:
                if one is not None and not one.samples:
                    collection.erase(one.id)
        return {"schema": SPLIT, "moved": list(moved), "subject": subject_as_json(collection, into), "from": told}

    return answer(await tenant.core.read(work))


@router.get(
    "/v1/subjects/{subject_id}/export",
    response_class=Response,
    responses=answers_as("application/zip", "All that is kept of the subject."),
)
async def export(tenant: Administrator, subject_id: int) -> Response:
    """Return all that is kept of a subject, as a zip: what a person may ask for (GDPR, Art. 15 and 20)."""
    data = await tenant.core.read(lambda: _export(tenant.collection, subject_id))
    headers = {"Content-Disposition": f'attachment; filename="subject-{subject_id}.zip"'}
    return Response(data, media_type="application/zip", headers=headers)


# Samples --------------------------------------------------------------------------------------------------------------


@router.get(
    "/v1/subjects/{subject_id}/samples",
    responses=answers_with({"schema": schemas.GALLERY_SUBJECT, "subject": _SUBJECT, "samples": []}),
)
async def samples(tenant: Reader, subject_id: int) -> Response:
    """List a subject's samples; one with `crop_bytes` 0 has no picture kept."""
    collection = tenant.collection

    def work() -> dict[str, object]:
        found = collection.subject(subject_id)
        told = schemas.gallery_subject(found, collection.gallery.samples(found.name))
        return {**told, "subject": subject_as_json(collection, found)}

    return answer(await tenant.core.read(work))


@router.post(
    "/v1/subjects/{subject_id}/samples",
    status_code=201,
    openapi_extra=upload_of(several=True),
    responses=answers_with(_ENROLMENT, status=201, problems=(408, 409, 413, 415, 422)),
)
async def add_samples(
    request: Request, tenant: Enroller, subject_id: int, face: Which = "main", min_quality: MinQuality = MIN_QUALITY
) -> Response:
    """Add pictures to a subject."""
    check_face(face)
    found = await tenant.core.read(lambda: tenant.collection.subject(subject_id))
    uploads = await read_uploads(request, tenant.core.settings.limits)
    return await _enrol(tenant, uploads.pictures, found.name, face, min_quality, None)


@router.get(
    "/v1/samples/{sample_id}/crop",
    response_class=Response,
    responses=answers_as("image/jpeg", "The aligned crop."),
)
async def crop(tenant: Reader, sample_id: int) -> Response:
    """Return the aligned crop of a sample."""
    image = await tenant.core.read(lambda: tenant.collection.gallery.crop(_in_range(sample_id)))
    if image is None:
        raise Problem(404, f"There is no picture of a sample {sample_id} in this collection.")
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(encode_image(image, quality=90), media_type="image/jpeg", headers=headers)


@router.delete("/v1/samples/{sample_id}", responses=answers_with(_ERASURE, problems=(409,)))
async def erase_sample(tenant: Administrator, sample_id: int) -> Response:
    """Erase one sample, and prove that nothing of it is left."""
    gallery = tenant.collection.gallery

    def work() -> dict[str, object]:
        if gallery.holder(_in_range(sample_id)) is None:
            raise Problem(404, f"There is no sample {sample_id} in this collection.")
        # A subject of its own, which is erased with the usual proof.
        name = f"{_ERASURES}-{sample_id}"
        gallery.split([sample_id], name)
        erasure = tenant.collection.erase(gallery.subject(name).id)
        return schemas.record(erasure, schemas.GALLERY_ERASURE)

    return answer(await tenant.core.read(work))


# What is wrong, and the threshold -------------------------------------------------------------------------------------


@router.get(
    "/v1/findings",
    responses=answers_with(
        {
            "schema": FINDINGS,
            "threshold": 0.7773,
            "findings": [
                {
                    "kind": "two_names",
                    "subjects": [3, 8],
                    "samples": [17, 40],
                    "score": 0.91,
                    "count": 1,
                    "names": ["ada", "Ada L."],
                }
            ],
        },
        problems=(409,),
    ),
)
async def findings(tenant: Reader, fmr: Fmr = None, threshold: Threshold = None) -> Response:
    """Look for people under wrong names, as `mien gallery audit` does."""
    collection = tenant.collection

    def work() -> dict[str, object]:
        if collection.gallery.model is None:
            return {"schema": FINDINGS, "threshold": None, "findings": []}
        card = collection.analyzer.card
        at = decide(card, fmr=fmr, threshold=threshold, gallery=collection.gallery).point.threshold
        found = collection.gallery.audit(at)
        names = {one.id: one.name for one in collection.subjects()}
        told = [schemas.finding(one, names) for one in found if all(number in names for number in one.subjects)]
        return {"schema": FINDINGS, "threshold": at, "findings": told}

    return answer(await tenant.core.work(work))


@router.get(
    "/v1/operating-points",
    responses=answers_with(
        {
            "schema": POINTS,
            "source": "gallery",
            "points": [],
            "genuine": 120,
            "impostor": 9000,
            "note": None,
            "curve": [{"threshold": 0.5, "fmr": 0.01, "fnmr": 0.02}],
        }
    ),
)
async def operating_points(tenant: Reader) -> Response:
    """Show thresholds with their rates: the gallery's own where it was calibrated, else the model's; and its curve."""
    return answer(await tenant.core.work(lambda: _points(tenant.collection)))


@router.post(
    "/v1/operating-points",
    status_code=201,
    responses=answers_with({"target_fmr": 0.001, "threshold": 0.7773}, status=201, problems=(409,)),
)
async def calibrate(tenant: Administrator, body: Rate) -> Response:
    """Derive the threshold for a rate from this gallery, and keep it."""
    stored = await tenant.core.work(lambda: tenant.collection.gallery.calibrate(body.fmr))
    return answer(schemas.point_as_json(stored.point), 201)


@router.get("/v1/stats", responses=answers_with({"schema": schemas.GALLERY_STATS, "subjects": 3, "samples": 7}))
async def stats(tenant: Reader) -> Response:
    """Count what is there."""
    told = schemas.record(await tenant.core.read(tenant.collection.gallery.stats), schemas.GALLERY_STATS)
    return answer({key: value for key, value in told.items() if key != "path"})


# Private --------------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Refuse what is no name of a subject.

    Raises:
        Problem: 422, with the reason.
    """
    try:
        clean_name(name)
    except GalleryError as error:
        raise Problem(422, str(error)) from None


def subject_as_json(collection: Collection, found: Subject) -> dict[str, object]:
    """Return a subject with what is noted of it."""
    return _as_json(collection, found, collection.facts_of(found.id))


def _as_json(collection: Collection, found: Subject, facts: Facts) -> dict[str, object]:
    try:
        samples = collection.gallery.samples(found.name) if found.samples else []
    except GalleryError:  # erased meanwhile
        samples = []
    best = max((one for one in samples if one.crop_bytes), key=lambda one: one.quality or 0.0, default=None)
    return {
        **schemas.record(found),
        "cover": None if best is None else best.id,
        "consent": facts.consent,
        "retain_until": facts.retain_until,
    }


async def _enrol(
    tenant: Tenant, uploads: Sequence[Upload], name: str, face: str, min_quality: float, consent: str | None
) -> Response:
    core, collection = tenant.core, tenant.collection

    def work() -> list[Outcome]:
        analyzer, gallery = collection.analyzer, collection.gallery
        duplicates = duplicate_threshold(gallery, analyzer.card)
        done = []
        for upload in uploads:
            picture = analyse(analyzer, upload, core.settings.limits, crops=True, digest=True)
            done.append(enrol_picture(gallery, picture, name, face, min_quality=min_quality, duplicates=duplicates))
        return done

    outcomes = await core.work(work)
    if all(outcome.status in ("refused", "failed") for outcome in outcomes):
        raise Problem(422, _why_refused(outcomes[0]))
    return answer(await core.read(lambda: _enrolment(collection, name, outcomes, consent)), 201)


def _enrolment(
    collection: Collection, name: str, outcomes: Sequence[Outcome], consent: str | None
) -> dict[str, object]:
    found = collection.gallery.subject(name)
    if consent is not None:
        collection.note(found.id, Facts(consent, collection.facts_of(found.id).retain_until))
    pictures = [schemas.enrolment(outcome) for outcome in outcomes]
    return {"schema": schemas.ENROLMENT, "subject": subject_as_json(collection, found), "pictures": pictures}


def _why_refused(outcome: Outcome) -> str:
    """Say in a sentence why nothing was enrolled."""
    if outcome.error is not None:
        return outcome.error
    if outcome.note is not None:
        words = outcome.note.replace("with --face", "with face=")
        return f"{words[0].upper()}{words[1:]}"
    assert outcome.enrolment is not None, "a refusal is an enrolment"
    reasons = ", ".join(reason.replace("_", " ") for reason in outcome.enrolment.reasons)
    if "no face" in reasons:
        return "The picture shows no face. Try a sharper or larger one."
    return f"The face is too poor to be enrolled ({reasons}). Send a better picture, or a smaller min_quality."


def _points(collection: Collection) -> dict[str, object]:
    gallery, card = collection.gallery, collection.analyzer.card
    own = [stored.point for stored in gallery.points()]
    points: Sequence[OperatingPoint] = own or card.operating_points
    told: dict[str, object] = {
        "schema": POINTS,
        "source": "gallery" if own else "model",
        "points": [schemas.point_as_json(point) for point in points],
        "curve": [],
        "genuine": 0,
        "impostor": 0,
        "note": None,
    }
    try:
        scores = gallery.scores()
    except GalleryError as error:
        return told | {"note": str(error)}
    every = np.concatenate([scores.genuine, scores.impostor])
    grid = np.linspace(float(every.min()), float(np.nextafter(every.max(), np.float32(2))), _MOST_SHOWN)
    impostor, genuine = np.sort(scores.impostor), np.sort(scores.genuine)
    fmr = 1 - np.searchsorted(impostor, grid, side="left") / len(impostor)
    fnmr = np.searchsorted(genuine, grid, side="left") / len(genuine) if len(genuine) else [None] * len(grid)
    curve = [
        {
            "threshold": round(float(at), 5),
            "fmr": round(float(wrong), 8),
            "fnmr": None if missed is None else round(float(missed), 6),
        }
        for at, wrong, missed in zip(grid, fmr, fnmr, strict=True)
    ]
    note = None if len(genuine) else "Nobody has two samples, so nothing is known about misses."
    return told | {"curve": curve, "genuine": len(genuine), "impostor": len(impostor), "note": note}


def _export(collection: Collection, subject_id: int) -> bytes:
    gallery, found = collection.gallery, collection.subject(subject_id)
    samples, vectors = gallery.samples(found.name), gallery.vectors(found.name)
    facts = collection.facts_of(subject_id)
    document = {
        "schema": "mien/subject-export/1",
        "subject": schemas.record(found) | {"consent": facts.consent, "retain_until": facts.retain_until},
        "embedder": gallery.model,
        "samples": [schemas.record(sample) for sample in samples],
        "templates": vectors.astype(float).round(6).tolist(),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("subject.json", json.dumps(schemas.plain(document), indent=1, ensure_ascii=False))
        for sample in samples:
            image = gallery.crop(sample.id)
            if image is not None:
                archive.writestr(f"crops/{sample.id}.png", encode_image(image, suffix=".png"))
    return file.getvalue()


def _folded(text: str) -> str:
    try:
        return folded_name(text).casefold()
    except GalleryError:
        return text.casefold()


def _check_date(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise Problem(400, f"retain_until is a day, for instance 2027-01-31, got '{text}'.") from None


def _in_range(number: int) -> int:
    """Return an id, or one that no row has where SQLite could not hold it."""
    return number if 0 < number < 1 << 63 else 0


def _cursor(start: int, *what: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, *what]).encode()).decode()


def _place(cursor: str | None, *what: str) -> int:
    if cursor is None:
        return 0
    try:
        start, *same = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, binascii.Error):
        start, same = -1, []
    if not isinstance(start, int) or isinstance(start, bool) or start < 0 or tuple(same) != what:
        raise Problem(400, "The cursor is not of this list. Begin again without it.")
    return start
