"""A service on a fake analyzer, and a real browser that looks at its page. Without Chromium these tests are skipped."""

import contextlib
import io
import itertools
import os
import shutil
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import uvicorn
from PIL import Image

from gallery.fake_analyzer import FakeAnalyzer
from mien.errors import ImageError
from mien.images import digest, load_image
from mien.service.app import make_app
from mien.service.core import Core
from mien.service.settings import Limits, Settings
from mien.types import Box, Expression, Picture

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # fmt: skip
CROWD = 200  # px; a wider picture is the camera's
STAND_IN = 99  # whom the camera sees


def chromium():
    """Return where a Chromium is: MIEN_CHROMIUM, or the first that is on the path."""
    named = os.environ.get("MIEN_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def picture(*people, quality=0.9, seed=0):
    """Return the PNG of a picture of people, as `gallery.fake_analyzer.write_picture` writes it."""
    pixels = np.full((60, 80, 3), 200, np.uint8)
    pixels[0] = 0
    pixels[0, : len(people), 0] = [person + 1 for person in people]
    pixels[0, : len(people), 1] = round(quality * 100)
    pixels[1, 0] = seed
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


class PageAnalyzer(FakeAnalyzer):
    """Sees who a picture says is there, and one face in what a camera sends."""

    def __init__(self, expressive=False, **options):
        super().__init__(**options)
        self.expressive = expressive

    def for_gallery(self, gallery):
        return self

    def analyze(self, image, *, embed=True, crops=False):
        height, width = image.shape[:2]
        if width <= CROWD:
            faces = super().analyze(image, embed=embed, crops=crops)
        else:
            seen = np.zeros((60, 80, 3), np.uint8)
            seen[0, 0] = STAND_IN + 1, 90, 0
            box = Box(0.3 * width, 0.2 * height, 0.6 * width, 0.8 * height)
            faces = tuple(replace(face, box=box) for face in super().analyze(seen, embed=embed, crops=crops))
        if not self.expressive:
            return faces
        told = Expression("happiness", {"neutral": 0.25, "happiness": 0.7, "fear": 0.03, "anger": 0.02})
        return tuple(replace(face, expression=told) for face in faces)

    def pictures(self, paths, *, embed=True, crops=False, digests=False):
        for path in paths:
            try:
                image = load_image(path)
            except ImageError as error:
                yield Picture(str(path), error=str(error))
                continue
            faces, height, width = self.analyze(image, crops=crops), *image.shape[:2]
            yield Picture(str(path), width, height, faces, digest=digest(image) if digests else None)


@pytest.fixture(scope="package")
def browser():
    """One Chromium for all tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="SKIPPED: the page is tested with Playwright")
    found = chromium()
    if found is None:
        pytest.skip("SKIPPED: no Chromium here. Install one, or name it in MIEN_CHROMIUM.")
    playwright.expect.set_options(timeout=20_000)  # the first page waits for the browser to start beside other tests
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def serving(folder):
    """Serve on a free port of this machine; gives the core and the address of the page."""
    core = Core(Settings(data=folder, limits=Limits()), make_analyzer=PageAnalyzer)
    core.ready.set()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(core), log_config=None, ws="none", loop="asyncio"))
    server.capture_signals = contextlib.nullcontext
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    yield core, f"http://127.0.0.1:{listening.getsockname()[1]}/"
    core.closing.set()
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    """One service for all tests; the address of its page."""
    with serving(tmp_path_factory.mktemp("service")) as (_, address):
        yield address


class Visit:
    """A page that is being looked at, in a collection of its own.

    Attributes:
        page: Of Playwright.
        wrong: What a browser's console would show in red, addresses outside, and broken promises of the page.
    """

    def __init__(self, browser, base, collection, **options):
        self.base, self.collection, self.wrong = base, collection, []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.add_init_script(f"localStorage.setItem('mien.collection', '{collection}')")
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)
        if collection != "default":
            self.call("POST", "v1/collections", data={"name": collection})

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _asked(self, request):
        if not request.url.startswith((self.base, "blob:", "data:")):
            self.wrong.append(f"asked for {request.url}")

    def call(self, method, path, **options):
        """Ask the service itself; returns the document."""
        answer = self.context.request.fetch(
            self.base + path, method=method, headers={"X-Mien": "1"}, params=options.pop("params", None), **options
        )
        assert answer.ok, answer.text()
        return answer.json()

    def enrol(self, name, *pictures):
        """Enrol through the service, and return the subject."""
        for number, data in enumerate(pictures):
            sent = {"picture": {"name": f"{number}.png", "mimeType": "image/png", "buffer": data}}
            params = {"name": name, "collection": self.collection}
            told = self.call("POST", "v1/subjects", params=params, multipart=sent)
        return told["subject"]

    def names(self):
        """Return who is enrolled."""
        said = self.call("GET", "v1/subjects", params={"collection": self.collection})
        return sorted(one["name"] for one in said["subjects"])

    def open(self, screen="try"):
        """Open a screen."""
        self.page.goto(f"{self.base}#/{screen}")
        self.page.locator("h1").first.wait_for()
        return self.page

    def drop(self, *people, **options):
        """Give the Try screen a picture of people."""
        chosen = self.page.locator("main input[type=file]").first
        chosen.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": picture(*people, **options)})
        self.page.locator("#face-0").wait_for()


@pytest.fixture
def visit(browser, base):
    """``visit(**options)`` opens a new collection in a new context of the browser, where nothing may go wrong."""
    opened = []

    def make(at=None, **options):
        made = Visit(browser, at or base, "default" if at else f"room{next(ROOMS)}", **options)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.context.close()
    wrong = [line for made in opened for line in made.wrong]
    assert not wrong, wrong


ROOMS = itertools.count(1)
