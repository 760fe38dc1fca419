"""Endpoints about what a service watches all the time."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from mien.errors import GalleryError
from mien.gallery.records import UnreachableError
from mien.service.collections import DEFAULT, Collection
from mien.service.problems import Problem
from mien.service.streams import Stream
from mien.service.wiring import Reader, StrictRoute, Tenant, answer, answers_with

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["streams"])

STREAMS = "mien/streams/1"
EVENTS = "mien/stream-events/1"
_LOOK_S = 0.1  # how often somebody who waits is looked for
_LONGEST_WAIT_S = 25.0


def _stream(tenant: Tenant, name: str) -> Stream:
    # Names in the events are of the people of that collection.
    stream = tenant.core.streams.streams.get(name) if tenant.collection.name == DEFAULT else None
    if stream is None:
        raise Problem(404, "There is no stream of that name in this collection.")
    return stream


@router.get(
    "/v1/streams",
    responses=answers_with(
        {"schema": STREAMS, "streams": [{"name": "door", "state": "running", "trouble": "", "events": 12}]}
    ),
)
async def streams(tenant: Reader) -> Response:
    """List the sources that the service watches, of the collection `default`."""
    known = tenant.core.streams.streams.values() if tenant.collection.name == DEFAULT else ()
    told = [
        {"name": one.name, "state": one.state, "trouble": one.trouble, "events": one.first + len(one.events)}
        for one in known
    ]
    return answer({"schema": STREAMS, "streams": told})


@router.get(
    "/v1/streams/{name}/events",
    responses=answers_with(
        {
            "schema": EVENTS,
            "cursor": "0a1b2c3d-12",
            "truncated": False,
            "stream_reset": False,
            "events": [{"event": "enter", "time_s": 1.2, "frame": 36, "track": 1, "at": 1_764_000_000.0}],
        }
    ),
)
async def events(
    tenant: Reader,
    name: Annotated[str, Path(max_length=40)],
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{8}-[0-9]{1,15}$", description="Where to go on, from the last answer.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    wait: Annotated[
        float, Query(ge=0, le=_LONGEST_WAIT_S, allow_inf_nan=False, description="Seconds to wait for an event.")
    ] = 0.0,
) -> Response:
    """Return what happened since a cursor: events as of `mien watch --jsonl`, with the time of day as `at`.

    `truncated`: older events than the first one here are gone; `stream_reset`: the service began anew.
    """
    stream = _stream(tenant, name)
    until = time.monotonic() + wait
    found, rest = stream.since(cursor, limit)
    while not found and time.monotonic() < until and not tenant.core.closing.is_set():
        await asyncio.sleep(_LOOK_S)
        found, rest = stream.since(cursor, limit)
    told = await tenant.core.read(lambda: _without_erased(found, tenant.collection))
    return answer({"schema": EVENTS, **rest, "events": told})


def _without_erased(found: list[dict[str, object]], collection: Collection) -> list[dict[str, object]]:
    """Return events without the names of subjects who have been erased since."""
    there: dict[object, bool] = {}

    def known(name: object) -> bool:
        if name not in there:
            try:
                collection.gallery.subject(str(name))
                there[name] = True
            except UnreachableError:
                raise
            except GalleryError:
                there[name] = False
        return there[name]

    def told(event: dict[str, Any]) -> dict[str, Any]:
        gone = event.get("subject") is not None and not known(event["subject"])
        return event | {"subject": None} if gone else event

    return [told(event) for event in found]
