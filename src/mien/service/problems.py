"""Errors as problem details (RFC 9457): the sentence that the command line prints, with a status."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from mien.errors import DataError, EvaluationError, GalleryError, ImageError, MienError, ModelError, UsageError

__all__ = ["MEDIA_TYPE", "Problem", "of_error", "problem_response"]

MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[MienError], int], ...] = (
    (ImageError, 422),
    (UsageError, 400),
    (DataError, 422),
    (EvaluationError, 409),
    (ModelError, 422),
    (GalleryError, 409),
)
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


class Problem(HTTPException):
    """What went wrong with a request.

    Args:
        status: Of the answer.
        detail: One sentence: what was expected, what came, what to try.
        headers: Of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def of_error(error: MienError) -> Problem:
    """Return the problem of a user's mistake, with its sentence; options of the command line become parameters."""
    if isinstance(error.__cause__, sqlite3.Error):  # locked, full, damaged: not the caller's mistake
        return Problem(503, str(error), {"Retry-After": "5"})
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    return Problem(status, _OPTION.sub(lambda match: match[1].replace("-", "_"), str(error)))


def problem_response(
    status: int, detail: str, *, request: str = "", headers: Iterable[tuple[str, str]] = ()
) -> JSONResponse:
    """Return an answer that says what went wrong."""
    title = HTTPStatus(status).phrase
    name = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
    body = {"type": f"urn:mien:problem:{name}", "title": title, "status": status, "detail": detail}
    if request:
        body["instance"] = f"urn:mien:request:{request}"
    return JSONResponse(body, status, dict(headers), media_type=MEDIA_TYPE)
