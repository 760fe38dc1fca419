"""Endpoints for whoever runs the service: collections, keys, the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from mien.errors import UsageError
from mien.reporting import schemas
from mien.service.collections import DEFAULT
from mien.service.people import Strict
from mien.service.problems import Problem
from mien.service.wiring import CallerOf, CoreOf, Operator, StrictRoute, answer, answers_with, no_collection

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["administration"])

COLLECTIONS = "mien/collections/1"
KEYS = "mien/keys/1"
LOG = "mien/audit-log/1"

_COLLECTION = {"name": "staff", "scope": "admin", "retention_days": 365}
_KEY = {
    "id": "4be1c0de9a77", "label": "door", "grants": {"default": "read"}, "created": "2026-11-29T12:00:00+00:00",
    "expires": None, "revoked": None, "last_used": None,
}  # fmt: skip

Days = Annotated[int, Field(ge=1, le=36_500)]


class NewCollection(Strict):
    """A collection to be made."""

    name: Annotated[str, Field(max_length=63)]
    retention_days: Days | None = None


class Retention(Strict):
    """After how many days subjects are erased."""

    retention_days: Days | None


class NewKey(Strict):
    """A key to be made."""

    grants: Annotated[dict[str, str], Field(max_length=1000)]
    label: Annotated[str, Field(max_length=100)] = ""
    expires_days: Days | None = None


@router.get("/v1/collections", responses=answers_with({"schema": COLLECTIONS, "collections": [_COLLECTION]}))
async def collections(core: CoreOf, caller: CallerOf) -> Response:
    """List the collections that the key opens."""
    names = await core.read(core.collections.names)
    found = [
        {"name": name, "scope": scope, "retention_days": days}
        for name, days in names.items()
        if (scope := caller.scope(name)) is not None
    ]
    return answer({"schema": COLLECTIONS, "collections": found})


@router.post("/v1/collections", status_code=201, responses=answers_with(_COLLECTION, status=201, problems=(409, 413)))
async def create_collection(core: Operator, body: NewCollection) -> Response:
    """Make a collection: a gallery of its own."""
    await core.read(lambda: core.collections.create(body.name, body.retention_days))
    return answer({"name": body.name, "scope": "admin", "retention_days": body.retention_days}, 201)


@router.patch("/v1/collections/{name}", responses=answers_with(_COLLECTION, problems=(413,)))
async def keep_for(core: CoreOf, caller: CallerOf, name: str, body: Retention) -> Response:
    """Set after how many days subjects without a date of their own are erased."""
    held = caller.scope(name)
    if held is None or name not in await core.read(core.collections.names):
        raise no_collection()
    if held != "admin":
        raise Problem(403, f"This needs a key with the scope 'admin', and yours has '{held}'.")
    await core.read(lambda: core.collections.keep_for(name, body.retention_days))
    return answer({"name": name, "scope": "admin", "retention_days": body.retention_days})


@router.delete(
    "/v1/collections/{name}",
    responses=answers_with({"schema": "mien/collection-erasure/1", "name": "staff", "subjects": 12}),
)
async def erase_collection(core: Operator, name: str) -> Response:
    """Erase a collection with all that is in it."""

    def work() -> int:
        if name != DEFAULT:  # which is not erased
            core.jobs.remove_all(name)
        return core.collections.erase(name)

    try:
        erased = await core.read(work)
    except KeyError:
        raise no_collection() from None
    return answer({"schema": "mien/collection-erasure/1", "name": name, "subjects": erased})


@router.get("/v1/keys", responses=answers_with({"schema": KEYS, "keys": [_KEY]}))
async def keys(core: Operator) -> Response:
    """List keys, without their secrets."""
    found = await core.read(core.keys.every)
    return answer({"schema": KEYS, "keys": [schemas.record(key) for key in found]})


@router.post(
    "/v1/keys",
    status_code=201,
    responses=answers_with({**_KEY, "key": "mien_4be1c0de9a77_..."}, status=201, problems=(413,)),
)
async def create_key(core: Operator, body: NewKey) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    expires = None if body.expires_days is None else timedelta(days=body.expires_days)
    key, text = await core.read(lambda: core.keys.create(body.grants, label=body.label, expires=expires))
    return answer({**schemas.record(key), "key": text}, 201)


@router.delete("/v1/keys/{key_id}", responses=answers_with(_KEY))
async def revoke_key(core: Operator, key_id: str) -> Response:
    """Refuse a key from now on."""
    try:
        return answer(schemas.record(await core.read(lambda: core.keys.revoke(key_id))))
    except UsageError as error:
        raise Problem(404, str(error)) from error


@router.get("/v1/audit", responses=answers_with({"schema": LOG, "entries": [], "next": None}))
async def audit(
    core: Operator,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, lt=1 << 63, description="`next` of the page before.")] = None,
) -> Response:
    """Show who asked for what and when, newest first."""

    def work() -> list[tuple[object, ...]]:
        core.audit.flush()
        return core.store.ask(
            "SELECT number, time, key, action, collection, status, subject_id FROM audit WHERE number < ? "
            "ORDER BY number DESC LIMIT ?",
            (before or (1 << 63) - 1, limit),
        )

    rows = await core.read(work)
    names = ("number", "time", "key", "action", "collection", "status", "subject_id")
    entries = [dict(zip(names, row, strict=True)) for row in rows]
    return answer({"schema": LOG, "entries": entries, "next": entries[-1]["number"] if len(rows) == limit else None})
