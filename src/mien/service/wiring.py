"""What the endpoints share: who may call them, strict parameters, answers as JSON, documented errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, Response

from mien.errors import MienError
from mien.reporting.schemas import plain
from mien.service.access import Caller
from mien.service.collections import DEFAULT, Collection
from mien.service.core import Core
from mien.service.keys import EVERY, SCOPES
from mien.service.problems import MEDIA_TYPE, Problem

__all__ = [
    "Administrator",
    "CallerOf",
    "CoreOf",
    "Enroller",
    "Operator",
    "Reader",
    "StrictRoute",
    "Tenant",
    "answer",
    "answers_as",
    "answers_with",
    "upload_of",
]

_WHY = {
    400: "Parameters that make no sense.",
    401: "No key, or a wrong, expired or revoked one.",
    403: "The key may not do this, or a foreign page asked.",
    404: "There is no such thing in this collection.",
    408: "The upload was too slow.",
    409: "It does not go with what is there.",
    413: "Too large.",
    415: "Not a content type that is read here.",
    422: "The picture cannot be read, or shows no face.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "Not ready, or about to end.",
}


class StrictRoute(APIRoute):
    """A route that refuses query parameters it does not know: a misspelt threshold must not pass unseen."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)

        async def strict(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    told = f"Known are: {', '.join(sorted(known))}." if known else "It takes none."
                    raise Problem(400, f"There is no parameter '{_printable(name)}' here. {told}")
            response: Response = await handle(request)
            return response

        return strict


def _query_names(dependant: Dependant) -> set[str]:
    """Return the query parameters of a route and of what it depends on."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(_query_names, dependant.dependencies))


class Tenant(NamedTuple):
    """A caller in a collection."""

    core: Core
    collection: Collection
    caller: Caller


def _core(request: Request) -> Core:
    core: Core = request.app.state.core
    return core


CoreOf = Annotated[Core, Depends(_core)]


def _needs(scope: str) -> Callable[..., Any]:
    async def check(
        request: Request,
        collection: Annotated[
            str | None, Query(description="Collection; by default the key's only one, or `default`.", max_length=63)
        ] = None,
    ) -> Tenant:
        core, caller = _core(request), _caller(request)
        name = collection or caller.only_collection or DEFAULT
        held = caller.scope(name)
        if held is None:
            raise no_collection()
        if SCOPES.index(held) < SCOPES.index(scope):
            raise Problem(403, f"This needs a key with the scope '{scope}', and yours has '{held}'.")
        try:
            opened = core.collections.opened(name)
            if opened is None:
                opened = await core.read(lambda: core.collections.get(name))
            return Tenant(core, opened, caller)
        except KeyError:
            raise no_collection() from None
        except MienError as error:
            raise Problem(503, str(error)) from error

    return check


def no_collection() -> Problem:
    """Return the problem of a collection that is not there, or not for this caller: nobody can tell which."""
    return Problem(404, "There is no collection of that name for this key.")


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _operator(request: Request) -> Core:
    if _caller(request).grants.get(EVERY) != "admin":
        raise Problem(403, "This needs a key with the scope 'admin' on all collections ('*').")
    return _core(request)


Reader = Annotated[Tenant, Depends(_needs("read"))]
Enroller = Annotated[Tenant, Depends(_needs("enrol"))]
Administrator = Annotated[Tenant, Depends(_needs("admin"))]
Operator = Annotated[Core, Depends(_operator)]
CallerOf = Annotated[Caller, Depends(_caller)]


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a document as JSON; what is not finite becomes null."""
    return JSONResponse(plain(document), status, dict(headers or {}))


def answers_with(example: object, *, status: int = 200, problems: tuple[int, ...] = ()) -> dict[int | str, Any]:
    """Return what an endpoint answers, for its documentation.

    Args:
        example: A document.
        status: It comes with.
        problems: Statuses beside those that all endpoints have.
    """
    told: dict[int | str, Any] = {
        status: {
            "description": "Done.",
            "content": {"application/json": {"schema": {"type": "object"}, "example": plain(example)}},
        }
    }
    for code in sorted({400, 401, 403, 404, 429, 503, *problems}):
        schema = {"$ref": "#/components/schemas/Problem"}
        told[code] = {"description": _WHY[code], "content": {MEDIA_TYPE: {"schema": schema}}}
    return told


def answers_as(media_type: str, words: str, *, problems: tuple[int, ...] = ()) -> dict[int | str, Any]:
    """Return what an endpoint answers that returns no JSON, for its documentation.

    Args:
        media_type: Of the answer.
        words: What it is.
        problems: As of `answers_with`.
    """
    told = answers_with({}, problems=problems)
    told[200] = {"description": words, "content": {media_type: {}}}
    return told


def upload_of(*parts: str, several: bool = False, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the documentation of a body with pictures.

    Args:
        parts: Form fields that hold pictures.
        several: Whether `picture` may be there more than once.
        fields: Other form fields, and what they are.
    """
    binary = {"type": "string", "format": "binary"}
    names = parts or ("picture",)
    properties: dict[str, Any] = {name: {"type": "array", "items": binary} if several else binary for name in names}
    properties |= {name: {"type": "string", "description": words} for name, words in (fields or {}).items()}
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": {"type": "object", "properties": properties, "required": list(names)}}
    }
    if not parts:
        content |= {kind: {"schema": binary} for kind in ("image/jpeg", "image/png", "application/octet-stream")}
    return {"requestBody": {"required": True, "content": content}}


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:60])
