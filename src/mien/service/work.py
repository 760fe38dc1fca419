"""Endpoints of jobs: enrol or group a zip, watch, cancel."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from mien.gallery.ingest import MIN_QUALITY
from mien.reporting import schemas
from mien.service.faces import Fmr, Threshold, Which, check_face
from mien.service.jobs import JOB, Job
from mien.service.people import MinQuality, Strict, check_name, subject_as_json
from mien.service.problems import Problem
from mien.service.uploads import read_uploads
from mien.service.wiring import Enroller, Reader, StrictRoute, Tenant, answer, answers_as, answers_with, upload_of

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["jobs"])

JOBS = "mien/jobs/1"
ITEMS = "mien/job-items/1"
_ZIP = ("application/zip", "application/x-zip-compressed")
_BUFFER = 1 << 20
_EVERY_S = 0.25
_ALIVE_S = 15.0
_OVER = ("done", "cancelled", "failed")

_JOB = {
    "schema": JOB, "id": "9f3a0c52d1e84b7793c8fb1b6f0d2e41", "kind": "enrol", "state": "running",
    "created": "2026-11-29T12:00:00+00:00", "started": "2026-11-29T12:00:01+00:00", "finished": None, "total": 120,
    "error": None, "done": 40, "counts": {"added": 38, "already": 0, "refused": 1, "failed": 1},
}  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}


class Named(Strict):
    """Who a person of a grouping is."""

    name: Annotated[str, Field(max_length=1000)]


@router.post(
    "/v1/jobs",
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": {"application/zip": _BINARY}}},
    responses=answers_with(_JOB, status=202, problems=(408, 409, 413, 415, 422)),
)
async def submit(
    request: Request,
    tenant: Enroller,
    kind: Annotated[Literal["enrol"], Query()] = "enrol",
    subject: Annotated[str | None, Query(max_length=1000, description="Whose all pictures are.")] = None,
    face: Which = "main",
    min_quality: MinQuality = MIN_QUALITY,
) -> Response:
    """Enrol the pictures of a zip: its folders name the subjects, or all are of one."""
    check_face(face)
    if subject is not None:
        check_name(subject)
    wish = {"subject": subject, "face": face, "min_quality": min_quality}
    return await _take_in(request, tenant, kind, wish)


@router.post(
    "/v1/group",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/zip": _BINARY, **upload_of(several=True)["requestBody"]["content"]},
        }
    },
    responses=answers_with({**_JOB, "kind": "group"}, status=202, problems=(408, 413, 415, 422)),
)
async def group(
    request: Request,
    tenant: Reader,
    fmr: Fmr = None,
    threshold: Threshold = None,
    min_quality: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.1,
) -> Response:
    """Sort the faces of many pictures by person: who, how often, with whom."""
    if fmr is not None and threshold is not None:
        raise Problem(400, "Give fmr or threshold, not both: a rate is turned into a threshold.")
    wish = {"fmr": fmr, "threshold": threshold, "min_quality": min_quality}
    return await _take_in(request, tenant, "group", wish)


@router.get("/v1/jobs", responses=answers_with({"schema": JOBS, "jobs": [_JOB]}))
async def jobs(tenant: Reader) -> Response:
    """List jobs, newest first."""
    core = tenant.core

    def work() -> list[dict[str, object]]:
        return [core.jobs.as_json(job) for job in core.jobs.of(tenant.collection.name)]

    return answer({"schema": JOBS, "jobs": await core.read(work)})


@router.get("/v1/jobs/{job_id}", responses=answers_with(_JOB))
async def show(tenant: Reader, job_id: str) -> Response:
    """Show one job."""
    return answer(await tenant.core.read(lambda: tenant.core.jobs.as_json(_job(tenant, job_id))))


@router.delete(
    "/v1/jobs/{job_id}",
    responses=answers_with({**_JOB, "state": "cancelled"}) | {204: {"description": "It was over, and is removed."}},
)
async def cancel(tenant: Enroller, job_id: str) -> Response:
    """Cancel a job, or remove one that is over. What was enrolled stays."""
    core = tenant.core

    def work() -> dict[str, object] | None:
        if core.jobs.cancel(tenant.collection, _job(tenant, job_id)):
            return None
        return core.jobs.as_json(_job(tenant, job_id))

    told = await core.read(work)
    return Response(status_code=204) if told is None else answer(told)


@router.get(
    "/v1/jobs/{job_id}/items",
    responses=answers_with({"schema": ITEMS, "items": [{"number": 1, "path": "ada/1.jpg"}], "next": None}),
)
async def items(
    tenant: Reader,
    job_id: str,
    after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Show what became of each picture."""
    core = tenant.core

    def work() -> list[dict[str, object]]:
        return core.jobs.items(tenant.collection, _job(tenant, job_id).id, after, limit)

    found = await core.read(work)
    following = found[-1]["number"] if len(found) == limit else None
    return answer({"schema": ITEMS, "items": found, "next": following})


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    responses=answers_as("text/event-stream", "Events: item, progress, end."),
)
async def events(request: Request, tenant: Reader, job_id: str) -> Response:
    """Watch a job: server-sent events `item`, `progress` and `end`; `Last-Event-ID` goes on after an item."""
    job = await tenant.core.read(lambda: _job(tenant, job_id))
    last = request.headers.get("last-event-id", "0")
    after = int(last) if last.isascii() and last.isdecimal() and len(last) < 19 else 0
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(tenant, job, after), media_type="text/event-stream", headers=headers)


@router.get("/v1/jobs/{job_id}/result", responses=answers_with({"schema": schemas.GROUPS}, problems=(409,)))
async def result(tenant: Reader, job_id: str) -> Response:
    """Return what a grouping found, with the names that the gallery has for its people."""
    core = tenant.core
    return answer(await core.work(lambda: core.jobs.result(tenant.collection, _job(tenant, job_id))))


@router.get(
    "/v1/jobs/{job_id}/faces/{face}",
    response_class=Response,
    responses=answers_as("image/jpeg", "The aligned crop.", problems=(409,)),
)
async def face_of(tenant: Reader, job_id: str, face: int) -> Response:
    """Return the aligned crop of a face of a grouping."""
    core = tenant.core
    data = await core.read(lambda: core.jobs.face(tenant.collection, _job(tenant, job_id), face))
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.post(
    "/v1/jobs/{job_id}/people/{person}",
    status_code=201,
    responses=answers_with({"schema": schemas.ENROLMENT, "pictures": []}, status=201, problems=(409, 413)),
)
async def name_person(tenant: Enroller, job_id: str, person: int, body: Named) -> Response:
    """Enrol the faces of a person of a grouping under a name."""
    core, collection = tenant.core, tenant.collection
    check_name(body.name)

    def work() -> dict[str, object]:
        outcomes = core.jobs.enrol_person(collection, _job(tenant, job_id), person, body.name)
        subject = subject_as_json(collection, collection.gallery.subject(body.name))
        pictures = [schemas.enrolment(outcome) for outcome in outcomes]
        return {"schema": schemas.ENROLMENT, "subject": subject, "pictures": pictures}

    return answer(await core.work(work), 201)


# Private --------------------------------------------------------------------------------------------------------------


def _job(tenant: Tenant, job_id: str) -> Job:
    return tenant.core.jobs.get(tenant.collection.name, job_id)


async def _take_in(request: Request, tenant: Tenant, kind: str, wish: Mapping[str, object]) -> Response:
    """Stream an upload to the disk and make a job of it."""
    core = tenant.core
    content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = content in _ZIP
    if not packed and kind != "group":
        raise Problem(415, f"A job takes a zip (Content-Type: application/zip), got '{content[:60]}'.")
    job_id, path = await core.read(core.jobs.place)
    try:
        if packed:
            await _stream_to(request, path)
        else:
            uploads = await read_uploads(request, core.settings.limits)
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for number, upload in enumerate(uploads.pictures, start=1):
                    name = Path(upload.name).name
                    archive.writestr(f"{number}-{name}" if Path(name).suffix else f"{number}-{name}.jpg", upload.data)
            await run_in_threadpool(path.write_bytes, file.getvalue())
        job = await core.read(lambda: core.jobs.submit(job_id, tenant.collection, kind, wish))
    except OSError as error:
        core.jobs.drop_place(job_id)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Problem(507 if full else 503, f"The upload cannot be kept: {error.strerror}.") from error
    except BaseException:
        core.jobs.drop_place(job_id)
        raise
    return answer(core.jobs.as_json(job), 202, {"Location": f"/v1/jobs/{job.id}"})


async def _stream_to(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        waiting = bytearray()
        async for part in request.stream():
            waiting += part
            if len(waiting) >= _BUFFER:
                await run_in_threadpool(file.write, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(file.write, bytes(waiting))


async def _stream(tenant: Tenant, job: Job, after: int) -> AsyncIterator[str]:
    """Yield events until a job is over, the service ends or nobody listens."""
    core, collection = tenant.core, tenant.collection
    before: dict[str, object] | None = None
    quiet = 0.0
    while True:
        # The state first: what is written between the two comes with the next look, and no item after the end.
        try:
            told = await core.read(lambda: core.jobs.as_json(_job(tenant, job.id)))
        except Problem:  # removed
            return
        found = await run_in_threadpool(core.jobs.items, collection, job.id, after, 500)
        for item in found:
            after = int(str(item["number"]))
            yield f"id: {after}\nevent: item\ndata: {json.dumps(item)}\n\n"
        if told != before:
            yield f"event: progress\ndata: {json.dumps(told)}\n\n"
            before, quiet = told, 0.0
        if told["state"] in _OVER and len(found) < 500:
            yield f"event: end\ndata: {json.dumps(told)}\n\n"
            return
        if core.closing.is_set():
            return
        if len(found) < 500:
            await asyncio.sleep(_EVERY_S)
            quiet += _EVERY_S
        if quiet >= _ALIVE_S:
            yield ": still here\n\n"
            quiet = 0.0
