"""The application: endpoints, the page, errors as problem details."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from mien.errors import MienError
from mien.service import admin, altering, faces, general, making, people, watching, work
from mien.service.core import Core
from mien.service.gate import Gate
from mien.service.problems import Problem, of_error, problem_response

__all__ = ["make_app"]

_ABOUT = """Face and expression recognition that says how sure it is.

Pictures come as uploads, never as paths or URLs. Every answer is a document of the command line's schemas
(docs/json.md); every error is a problem document (RFC 9457) with one sentence.
"""
_ROUTERS = tuple(part.router for part in (general, faces, people, making, altering, watching, work, admin))
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:mien:problem:not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "examples": ["There is no subject 7 in this collection."]},
        "instance": {"type": "string"},
    },
}


def make_app(core: Core, *, on_end: Callable[[], None] | None = None) -> Gate:
    """Return the ASGI application of a service.

    Args:
        core: What it consists of.
        on_end: Called when the server ends; default closes the core.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        (on_end or core.close)()

    app = FastAPI(
        title="mien",
        version=version("mien"),
        description=_ABOUT,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        # FastAPI 0.165 and later can send spans with bodies of requests to a collector that the environment names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.core = core
    for router in _ROUTERS:
        app.include_router(router)
    _serve_page(app)
    _answer_errors(app)
    _describe(app)
    return Gate(app, core)


def _serve_page(app: FastAPI) -> None:
    folder = Path(str(files("mien.service") / "static"))
    app.mount("/static", GZipMiddleware(_PageFiles(directory=folder, check_dir=False), minimum_size=700), name="page")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(folder / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(folder / "icon.svg", headers={"Cache-Control": "no-cache"})


class _PageFiles(StaticFiles):
    """The files of the page: revalidated at each load, so that an upgrade shows at once."""

    _KINDS = {".mjs": "text/javascript", ".js": "text/javascript", ".webp": "image/webp"}  # noqa: RUF012

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        kind = self._KINDS.get(Path(full_path).suffix)
        if kind is not None and "content-type" in response.headers:
            response.headers["Content-Type"] = kind
        return response


def _answer_errors(app: FastAPI) -> None:
    def told(request: Request, problem: HTTPException) -> Response:
        headers = dict(problem.headers or {})
        return problem_response(
            problem.status_code, str(problem.detail), request=request.state.request_id, headers=headers.items()
        )

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "it is registered for these"
        if isinstance(error, Problem):
            return told(request, error)
        if error.status_code == 404:
            return told(request, Problem(404, "There is nothing at this address. See /openapi.json."))
        if error.status_code == 405:
            allowed = _methods(app, request.scope)
            words = f"This address takes {', '.join(allowed)}, not {request.method[:20]}."
            return told(request, Problem(405, words, {"Allow": ", ".join(allowed)}))
        return told(request, Problem(error.status_code, f"{error.detail}".rstrip(".") + "."))

    async def mistake(request: Request, error: Exception) -> Response:
        assert isinstance(error, MienError), "it is registered for these"
        return told(request, of_error(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError), "it is registered for these"
        return told(request, Problem(400, _sentence(error)))

    async def ours(request: Request, _: Exception) -> Response:
        return told(request, Problem(500, "The service made a mistake. Its log says more."))

    app.add_exception_handler(Exception, ours)
    app.add_exception_handler(HTTPException, problem)
    app.add_exception_handler(MienError, mistake)
    app.add_exception_handler(RequestValidationError, invalid)


def _sentence(error: RequestValidationError) -> str:
    """Say in a sentence what the first parameter should be; never what came, which may be anything."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "The body is no JSON."
    place, *names = first["loc"]
    name = ".".join(str(part) for part in names)
    what = f"'{name[:80]}'" if name else "The body"
    where = {"query": "parameter ", "path": "part of the address ", "body": "field "}.get(str(place), "")
    where = "" if not name else where
    words = first["msg"][0].lower() + first["msg"][1:]
    return f"{(where + what)[0].upper()}{(where + what)[1:]}: {words}."


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that an address takes."""
    found: set[str] = set()
    for route in (*app.routes, *(route for router in _ROUTERS for route in router.routes)):
        methods = getattr(route, "methods", None)
        if methods and route.matches(scope)[0] is not Match.NONE:
            found |= methods
    return sorted(found or {"GET", "HEAD"})


def _describe(app: FastAPI) -> None:
    """Make the OpenAPI document say what problems look like, and that a key is sent as a bearer token."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            parts = document.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = _PROBLEM
            for name in ("HTTPValidationError", "ValidationError"):
                parts["schemas"].pop(name, None)
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "mien_..."}}
            document["security"] = [{"key": []}, {}]
            for path in document["paths"].values():
                for told in path.values():
                    unprocessable = told["responses"].get("422", {}).get("content", {})
                    if "HTTPValidationError" in str(unprocessable):
                        del told["responses"]["422"]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
