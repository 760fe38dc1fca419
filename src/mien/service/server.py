"""Running the application: one process, slow clients cut, what was accepted finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.drawing import draw_face
from mien.errors import MienError, UsageError
from mien.service.app import make_app
from mien.service.collections import DEFAULT
from mien.service.core import Core
from mien.service.settings import Settings, is_loopback

__all__ = ["make_server", "serve"]

_FINISH_S = 60  # for what was accepted, once the end was asked for
_SWEEP_S = 3600.0  # between two looks for subjects whose time is over


def serve(
    settings: Settings,
    *,
    certificate: Path | None = None,
    private_key: Path | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until told to end.

    Args:
        settings: Of the service.
        certificate: Of TLS, with the chain, PEM; None: plain HTTP.
        private_key: Of the certificate, PEM.
        said: Is told in a line where the service listens.

    Raises:
        MienError: It cannot start: no keys beyond loopback, a gallery that does not open, an address in use.
    """
    if (certificate is None) != (private_key is None):
        raise UsageError("TLS takes two files: --certificate and --private-key.")
    core = Core(settings)
    try:
        if not is_loopback(settings.host) and not core.keys.usable():
            raise UsageError(
                f"On {settings.host} others can reach the service, so it needs keys, and there are none. Make one "
                f"with: mien keys create --scope admin --collection '*' --data {settings.data}"
            )
        _check(core)
        server = make_server(core, certificate, private_key, said)
    except BaseException:
        core.close()
        raise
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        core.close()
        raise UsageError(
            f"The service cannot listen on {settings.host}:{settings.port}: {server.why}. Choose another --port."
        )


def _check(core: Core) -> None:
    """Refuse a gallery that does not open; a database that is down may come back, and `/readyz` says when."""
    try:
        core.check()
    except MienError as error:
        if "://" not in (core.settings.gallery or ""):
            raise
        sys.stderr.write(f"mien: {error}\n")


def make_server(core: Core, certificate: Path | None, private_key: Path | None, said: Callable[[str], None]) -> _Server:
    """Return the server of a service, ready to run; arguments as of `serve`."""
    settings = core.settings
    for name in ("uvicorn", "uvicorn.error", "python_multipart.multipart"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    kept = type("Protocol", (_Protocol,), {"head_s": settings.limits.head_s})
    config = uvicorn.Config(
        make_app(core),
        host=settings.host,
        port=settings.port,
        http=kept,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_FINISH_S,
        limit_concurrency=settings.limits.connections,
        backlog=256,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"The certificate or its key cannot be read: {error}.") from error
    return _Server(config, core, said)


class _Server(uvicorn.Server):
    """Says where it listens, opens the networks meanwhile, and lets streams know when it ends."""

    def __init__(self, config: uvicorn.Config, core: Core, said: Callable[[str], None]) -> None:
        super().__init__(config)
        self._core, self._said = core, said
        self.why = "it is in use"

    async def startup(self, sockets: list[Any] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # what uvicorn does where an address cannot be bound
            self.should_exit = True
            return
        if not self.started:
            return
        scheme = "https" if self.config.is_ssl else "http"
        port = next((socket.getsockname()[1] for server in self.servers for socket in server.sockets), 0)
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        self._said(f"{scheme}://{host}:{port}")
        threading.Thread(target=_warm_up, args=(self._core,), name="mien-warm-up", daemon=True).start()
        threading.Thread(target=_sweep, args=(self._core,), name="mien-sweep", daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._core.closing.set()
        # A second Ctrl-C ends at once; a second SIGTERM, as some supervisors send, does not lose what was accepted.
        if self.should_exit and sig == signal.SIGTERM:
            return
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Take signals while running, and do not raise them again afterwards: the end was asked for and has come."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """Closes a connection that does not send the head of its next request in time, however busily it trickles."""

    head_s = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cut_later()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._cut_later()

    def _cut_later(self) -> None:
        if (waiting := getattr(self, "_waiting", None)) is not None:
            waiting.cancel()
        self._waiting = self.loop.call_later(self.head_s, self._cut)

    def _cut(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def _warm_up(core: Core) -> None:
    """Open the networks, and pull them where they are missing."""
    try:
        image = draw_face(7, side=160).image
        core.collections.expressive.analyze(image)
        core.collections.analyzer.analyze(np.zeros((32, 32, 3), np.uint8))
    except MienError as error:
        core.trouble = str(error)
        sys.stderr.write(f"mien: {error}\n")
    core.ready.set()
    core.streams.start(lambda: core.collections.get(DEFAULT))


def _sweep(core: Core) -> None:
    """Erase subjects whose time is over, now and then."""
    while True:
        try:
            if count := core.collections.erase_expired():
                core.audit.note(f"retention erased {count}", key=None, collection=None, status=200, subject_id=None)
            core.jobs.remove_old()
        except MienError as error:
            sys.stderr.write(f"mien: {error}\n")
        if core.closing.wait(_SWEEP_S):
            return
