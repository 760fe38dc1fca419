"""What a running service consists of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from filelock import FileLock, Timeout
from starlette.concurrency import run_in_threadpool

from mien import zoo
from mien.analyzer import Analyzer
from mien.errors import UsageError
from mien.gallery.crypto import Cipher, Plain, Sealed, read_key
from mien.gallery.names import shown
from mien.service.access import Doorman
from mien.service.answers import Answers
from mien.service.audit import Audit
from mien.service.collections import DEFAULT, Collections
from mien.service.engine import Engine
from mien.service.jobs import Jobs
from mien.service.keys import Keys
from mien.service.metrics import Metrics
from mien.service.problems import Problem
from mien.service.settings import Settings
from mien.service.store import Store, make_folder
from mien.service.streams import Streams
from mien.service.uploads import Upload
from mien.vision.generator import Generator
from mien.zoo.session import thread_count

__all__ = ["Core"]

T = TypeVar("T")

_SWEEP_S = 3600.0  # between two looks for subjects whose time is over


class Core:
    """Everything that the endpoints of one service share.

    Args:
        settings: Of the service.
        make_analyzer: Makes an analyzer, with expressions or without; default those of the settings.

    Attributes:
        settings: As given.
        cipher: Seals what names a subject outside the galleries, where those are encrypted.
        engine: Works on requests.
        collections: The galleries.
        streams: Sources that are watched all the time.
        jobs: What takes longer than an answer may.
        keys: Who may come in.
        ready: Set once the networks are open.
        closing: Set once the service is told to end.
        trouble: Why the networks could not be opened; None.
    """

    def __init__(self, settings: Settings, make_analyzer: Callable[[bool], Analyzer] | None = None) -> None:
        self.settings = settings
        make_folder(settings.data)
        self._folder_lock = FileLock(settings.data / "service.lock", thread_local=False)
        try:
            self._folder_lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"Another service uses the folder {settings.data}. Stop it, or name another.") from None
        self.store = Store(settings.data)
        self.keys = Keys(self.store)
        self.doorman = Doorman(settings, self.keys)
        self.cipher: Cipher = Plain() if settings.gallery_key is None else Sealed(read_key(settings.gallery_key))
        self.answers = Answers(self.store, self.cipher)
        self.audit = Audit(self.store)
        self.workers = thread_count()
        self.engine = Engine(self.workers, wait_s=settings.limits.wait_s)
        self.metrics = Metrics(lambda: self.engine.waiting, lambda: self.engine.running)
        self.collections = Collections(settings, self.store, self.cipher, make_analyzer or self._analyzer)
        self._lock = threading.Lock()
        self._sharing: dict[str, Analyzer] = {}
        self._generators: dict[str, Generator] = {}
        self.ready, self.closing = threading.Event(), threading.Event()
        self.trouble: str | None = None
        self.streams = Streams(settings.streams)
        self.jobs = Jobs(self)
        self.jobs.start()

    def _analyzer(self, expressive: bool, shares: str | None = None) -> Analyzer:
        settings = self.settings
        # One thread each: as many workers as cores take a picture each.
        return Analyzer(
            detector=settings.detector,
            embedder=settings.embedder,
            expression="default" if expressive else None,
            threads=1,
            shares=shares,
        )

    def check(self) -> None:
        """Open the default collection, so that a wrong gallery is said at the start.

        Raises:
            MienError: It cannot be opened, or is another embedder's.
        """
        self.collections.get(DEFAULT)

    async def work(self, work: Callable[[], T]) -> T:
        """Do a piece of work on pictures in turn.

        Raises:
            Problem: 429: too many wait; 503: it took too long.
        """
        limit = self.settings.limits.answer_s
        try:
            async with asyncio.timeout(limit):
                return await self.engine.run(work)
        except TimeoutError:
            raise Problem(503, f"The work took longer than {limit:g} s. Send fewer or smaller pictures.") from None

    async def work_on(self, uploads: Sequence[Upload], work: Callable[[Upload], T]) -> list[T]:
        """Do a piece of work for each picture of a request, one after the other; as `work`."""
        return await self.work(lambda: [work(upload) for upload in uploads])

    def with_shares(self, shares: str) -> Analyzer:
        """Return an analyzer that reads expressions for other shares than the model's own."""
        with self._lock:
            if shares not in self._sharing:
                self._sharing[shares] = self._analyzer(True, shares)
            return self._sharing[shares]

    def generator_names(self) -> list[str]:
        """Return the names of the catalogue's generators."""
        return [card.name for card in zoo.cards("generator")]

    def generator(self, name: str | None) -> Generator:
        """Return a generator of the catalogue, opened once.

        Raises:
            UsageError: The catalogue has none of that name: paths are not read.
        """
        known = self.generator_names()
        name = name or zoo.defaults().get("generator", "")
        if name not in known:
            raise UsageError(f"There is no generator '{shown(name[:40])}'. There are: {', '.join(known) or 'none'}.")
        with self._lock:
            if name not in self._generators:
                self._generators[name] = Generator(zoo.card(name), threads=1)
            return self._generators[name]

    async def read(self, work: Callable[[], T]) -> T:
        """Ask a gallery or the store: in a thread, since others may hold its lock."""
        return await run_in_threadpool(work)

    def close(self) -> None:
        """Finish what was accepted, and let go of everything."""
        self.closing.set()
        self.streams.close()
        self.engine.close()
        self.jobs.close()
        self.audit.close()
        self.collections.close()
        self.store.close()
        self._folder_lock.release()
