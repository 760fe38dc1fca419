"""A service on a fake analyzer: who is in a picture stands in its pixels."""

import io
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gallery.fake_analyzer import FakeAnalyzer
from mien.gallery import sqlite
from mien.service.app import make_app
from mien.service.core import Core
from mien.service.settings import Limits, Settings
from mien.types import Expression

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette wants the successor of httpx, which is not out for all yet
    from starlette.testclient import TestClient

WRITE = {"X-Mien": "1"}


class ExpressiveAnalyzer(FakeAnalyzer):
    """Sees a happy face in everybody."""

    def pictures(self, paths, **options):
        for picture in super().pictures(paths, **options):
            told = Expression("happiness", {"neutral": 0.25, "happiness": 0.75})
            yield replace(picture, faces=tuple(replace(face, expression=told) for face in picture.faces))


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch):
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", "OFF")


def picture(*people, quality=0.9, seed=0):
    """Return the PNG of a picture of people, as `gallery.fake_analyzer.write_picture` writes it."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[0, : len(people), 0] = [person + 1 for person in people]
    pixels[0, : len(people), 1] = round(quality * 100)
    pixels[1, 0] = seed
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


class Service:
    """A service and a client of it."""

    def __init__(self, folder, **settings):
        limits, real = settings.pop("limits", Limits()), settings.pop("real", False)
        self.core = Core(
            Settings(data=folder, limits=limits, **settings),
            make_analyzer=None if real else lambda expressive: ExpressiveAnalyzer() if expressive else FakeAnalyzer(),
        )
        self.core.ready.set()
        self.http = TestClient(make_app(self.core), base_url="http://localhost:8400", headers=WRITE)

    def stop(self):
        if not self.core.closing.is_set():
            self.http.__exit__(None, None, None)

    def get(self, path, **options):
        return self.http.get(path, **options)

    def post(self, path, *pictures, **options):
        if pictures:
            options["files"] = [("picture", (f"{n}.png", data, "image/png")) for n, data in enumerate(pictures)]
        return self.http.post(path, **options)

    def enrol(self, name, *pictures, **options):
        answer = self.post("/v1/subjects", *pictures, params={"name": name}, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()["subject"]

    def key(self, **grants):
        return {"Authorization": f"Bearer {self.core.keys.create(grants)[1]}"}


@pytest.fixture
def start(tmp_path):
    running = []

    def make(folder=tmp_path / "service", **settings):
        service = Service(folder, **settings)
        service.http.__enter__()
        running.append(service)
        return service

    yield make
    for service in running:
        service.stop()


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def people(service):
    """A service that knows three subjects with two samples each; their ids by name."""
    return {
        name: service.enrol(name, picture(number, seed=50), picture(number, seed=51))["id"]
        for number, name in enumerate(("ada", "bob", "cyd"), start=1)
    }


def problem(answer, status):
    """Check that an answer is a problem document, and return its sentence."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    told = answer.json()
    assert told["status"] == status and told["type"].startswith("urn:mien:problem:")
    assert told["detail"] and "\n" not in told["detail"] and "Traceback" not in told["detail"]
    return told["detail"]
