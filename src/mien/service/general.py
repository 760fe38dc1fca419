"""Endpoints about the service itself: is it well, who am I, which models and collections are there."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import Response

from mien import zoo
from mien.reporting import schemas
from mien.service.collections import DEFAULT
from mien.service.keys import EVERY
from mien.service.problems import Problem
from mien.service.store import now
from mien.service.wiring import CallerOf, CoreOf, StrictRoute, answer, answers_with

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["service"])

SESSION = "mien/session/1"
MODELS = "mien/models/1"


@router.get("/healthz", responses=answers_with({"status": "ok", "version": "0.1.0"}))
async def healthz() -> Response:
    """Say that the process answers."""
    return answer({"status": "ok", "version": version("mien")})


@router.get("/readyz", responses=answers_with({"ready": True, "models": "ready", "storage": "ready"}))
async def readyz(core: CoreOf) -> Response:
    """Say whether it can work: the networks are open, and the default gallery answers."""
    if core.closing.is_set():
        raise Problem(503, "The service is about to end.")
    if core.trouble is not None:
        raise Problem(503, core.trouble)
    if not core.ready.is_set():
        raise Problem(503, "The networks are being opened.", {"Retry-After": "1"})

    def storage() -> None:
        core.store.ask("SELECT 1")
        len(core.collections.get(DEFAULT).gallery)

    try:
        await core.read(storage)
    except Exception as error:
        raise Problem(503, f"The storage does not answer: {type(error).__name__}.") from error
    return answer({"ready": True, "models": "ready", "storage": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Figures for Prometheus."}},
)
async def metrics(core: CoreOf, caller: CallerOf) -> Response:
    """Return figures for Prometheus; with a key it must be one for all collections."""
    if EVERY not in caller.grants:
        raise Problem(403, "This needs a key for all collections ('*').")
    return Response(core.metrics.text(), media_type="text/plain; version=0.0.4")


@router.get(
    "/v1/session",
    responses=answers_with(
        {
            "schema": SESSION,
            "version": "0.1.0",
            "keys_required": False,
            "key": None,
            "time": now(),
            "collections": [{"name": "default", "scope": "admin", "retention_days": None}],
            "limits": {},
            "embedder": "sface-resnet27-1-8ed90a76",
            "expression": None,
            "generators": [],
        }
    ),
)
async def session(core: CoreOf, caller: CallerOf) -> Response:
    """Say who asks, what they may do, and how much a request may bring."""
    limits, key = core.settings.limits, caller.key
    open_to = []
    if caller.grants:
        for name, days in core.collections.names().items():
            if (scope := caller.scope(name)) is not None:
                open_to.append({"name": name, "scope": scope, "retention_days": days})
    expression = zoo.defaults().get("expression")
    return answer(
        {
            "schema": SESSION,
            "version": version("mien"),
            "time": now(),
            "keys_required": core.doorman.keys_required,
            "key": None if key is None else {"id": key.id, "label": key.label, "expires": key.expires},
            "operator": caller.grants.get(EVERY) == "admin",
            "collections": open_to,
            "limits": {
                "request_bytes": limits.request_bytes,
                "archive_bytes": limits.archive_bytes,
                "pixels": limits.pixels,
                "pictures": limits.pictures,
                "faces": limits.faces,
            },
            "embedder": core.collections.analyzer.card.id,
            "expression": None if expression is None else zoo.card(expression).id,
            "generators": [card.name for card in zoo.cards("generator")],
        }
    )


@router.get("/v1/models", responses=answers_with({"schema": MODELS, "models": []}))
async def models(core: CoreOf) -> Response:
    """List the models that this machine knows, as `mien models list` does."""
    return answer({"schema": MODELS, "models": await core.read(schemas.models)})
