"""What stands before every request: whence, whose, how large; and after it: headers, log, figures."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
import traceback
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.service.access import NOBODY, WRITES, Caller, no_entry
from mien.service.answers import Answer
from mien.service.intake import Intake, size_limit, too_large
from mien.service.problems import Problem, problem_response

if TYPE_CHECKING:
    from mien.service.core import Core

__all__ = ["Gate"]

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "require-trusted-types-for 'script'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_OPEN = ("/healthz", "/readyz", "/v1/session", "/openapi.json", "/", "/favicon.ico")
"""Paths that need no key; beside them, the files of the page."""

_HEAVY = ("/v1/analyze", "/v1/expression", "/v1/verify", "/v1/identify", "/v1/search", "/v1/subjects")
"""Paths whose uploads go to the networks: where there is no room, they are refused before the framework sees them."""

_SMALL = 1 << 20  # bytes of a body that is read although it is refused: a client that still sends may miss the answer

_UNKNOWN = "(unknown)"


class Gate:
    """An ASGI application around another one.

    Args:
        app: The application.
        core: Of the service.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app, self._core = app, core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await _Visit(self._app, self._core, scope, receive, send).serve()
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)


class _Visit:
    """One request on its way in, and its answer on the way out."""

    def __init__(self, app: ASGIApp, core: Core, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._core, self._scope, self._send = app, core, scope, send
        self.path, self.method = scope["path"], scope["method"]
        self.headers = Headers(scope=scope)
        self.id = secrets.token_hex(8)
        self.caller: Caller = NOBODY
        self.status = 0
        self._start = time.monotonic()
        most = size_limit(core.settings.limits, self.path, self.headers.get("content-type", ""))
        self.intake = Intake(receive, core.settings.limits, most)
        self._most = most

    async def serve(self) -> None:
        try:
            self._enter()
            key = self.headers.get("idempotency-key")
            if key is not None and self.method in WRITES and self.path.startswith("/v1/"):
                await self._once(key)
            else:
                await self._app(self._scope, self.intake, self.send)
        except Problem as problem:
            await self._refuse(problem)
        except Exception:  # noqa: BLE001 - the edge: one line to the client, the rest to the log
            sys.stderr.write(f"mien: request {self.id} failed.\n{traceback.format_exc(limit=-8)}")
            await self._refuse(Problem(500, "The service made a mistake. Its log says more."))
        finally:
            self._note()

    async def send(self, message: Message) -> None:
        """Pass an answer on, with the headers that all have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers["X-Request-Id"] = self.id
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def _enter(self) -> None:
        core = self._core
        core.doorman.check_place(self.method, self.headers)
        client = self._scope.get("client")
        self.caller = core.doorman.admit(self.headers.get("authorization"), client[0] if client else "")
        is_open = self.path in _OPEN or self.path.startswith("/static/")
        if not is_open and not self.caller.grants:
            raise no_entry("This service asks for a key: send 'Authorization: Bearer mien_...'.")
        if self.method in WRITES and self.path.startswith("/v1/"):
            core.doorman.check_write(self.caller, self.headers)
        length = self.headers.get("content-length", "0")
        if not length.isdecimal():
            raise Problem(400, "Content-Length is a whole number of bytes.")
        if int(length) > self._most:
            raise too_large(self._most)
        if self.method == "POST" and self.path in _HEAVY and "idempotency-key" not in self.headers:
            self._core.engine.check_room()
        self._scope.setdefault("state", {})
        self._scope["state"].update(caller=self.caller, request_id=self.id)

    async def _once(self, key: str) -> None:
        """Answer a request with an idempotency key: do it, or repeat what was answered."""
        answers, owner = self._core.answers, self.caller.id
        request = f"{self.method} {self.path}?{self._scope['query_string'].decode('latin-1')}"
        known = await run_in_threadpool(answers.begin, owner, key, request, self.collection or "")
        if known is not None:
            await self.intake.drain()
            if known.digest != self.intake.digest:
                raise Problem(422, "That Idempotency-Key came with another body. Make a new one for each request.")
            headers = [(name.encode(), value.encode()) for name, value in known.headers.items()]
            headers.append((b"idempotency-replayed", b"true"))
            await self.send({"type": "http.response.start", "status": known.status, "headers": headers})
            await self.send({"type": "http.response.body", "body": known.body})
            return
        kept = _Recorder(self.send)
        try:
            await self._app(self._scope, self.intake, kept)
        finally:
            answer = kept.answer(self.intake) if self.intake.complete else None
            await run_in_threadpool(answers.end, owner, key, answer)
        await kept.release()

    @property
    def collection(self) -> str | None:
        """The collection that the request is about."""
        named = parse_qs(self._scope["query_string"].decode("latin-1")).get("collection")
        return named[0] if named else self.caller.only_collection or "default"

    async def _refuse(self, problem: Problem) -> None:
        if self.status:  # the answer had begun
            return
        headers = dict(problem.headers or {})
        length = self.headers.get("content-length", "")
        if problem.status_code == 429 and length.isdecimal() and int(length) <= _SMALL:
            with contextlib.suppress(Problem):
                await self.intake.drain()
        if not self.intake.complete:
            headers["Connection"] = "close"
        response = problem_response(problem.status_code, problem.detail, request=self.id, headers=headers.items())
        await response(self._scope, self.intake, self.send)

    def _note(self) -> None:
        route = self._scope.get("route")
        name = getattr(route, "path", _UNKNOWN)
        self._core.metrics.answered(self.method, name, self.status, time.monotonic() - self._start)
        if self.path.startswith("/v1/") and self.path != "/v1/session":
            subject = self._scope.get("path_params", {}).get("subject_id")
            self._core.audit.note(
                f"{self.method} {name}",
                key=self.caller.key.id if self.caller.key else None,
                collection=self.collection if self.caller.scope(self.collection or "") else None,
                status=self.status,
                subject_id=int(subject) if str(subject).isdecimal() and len(str(subject)) < 19 else None,
            )


class _Recorder:
    """Takes an answer and passes it on once it is kept: what was acknowledged can be repeated."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self._messages.append(message)

    def answer(self, intake: Intake) -> Answer | None:
        if not self._messages:
            return None
        start, *rest = self._messages
        headers = Headers(raw=start["headers"])
        kept = {name: headers[name] for name in ("content-type", "location", "content-length") if name in headers}
        return Answer(start["status"], kept, b"".join(part.get("body", b"") for part in rest), intake.digest)

    async def release(self) -> None:
        for message in self._messages:
            await self._send(message)
