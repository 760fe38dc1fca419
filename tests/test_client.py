"""The client answers with a gallery's records: asked of a service and of the gallery itself, they are equal."""

import asyncio
import io
import zipfile

import httpx
import pytest

from gallery.fake_analyzer import FakeAnalyzer
from mien.client import AsyncClient, Client
from mien.errors import DataError, GalleryError, ImageError, ServiceError, UsageError
from mien.gallery import Gallery, name_faces, sqlite
from mien.gallery.records import Enrolment
from mien.images import load_image
from mien.matching import verify
from mien.service.app import make_app
from mien.service.core import Core
from mien.service.settings import Settings
from mien.types import OperatingPoint, Records
from service.conftest import picture

THRESHOLD = 0.6  # of the fake embedder at FMR 1e-3


class Sync(httpx.BaseTransport):
    """Asks an ASGI application from a thread's own loop."""

    def __init__(self, app):
        self._inner = httpx.ASGITransport(app)

    def handle_request(self, request):
        async def ask():
            body = b"".join([part async for part in request.stream]) if hasattr(request.stream, "__aiter__") else b""
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=body or request.read())
            answer = await self._inner.handle_async_request(asked)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run(ask())


@pytest.fixture
def core(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", "OFF")
    made = Core(Settings(data=tmp_path / "service"), make_analyzer=lambda _: FakeAnalyzer())
    yield made
    made.close()


@pytest.fixture
def app(core):
    return make_app(core)


@pytest.fixture
def client(app):
    with Client("http://localhost:8400", transport=Sync(app)) as opened:
        yield opened


@pytest.fixture
def enrolled(client):
    for number, name in enumerate(("ada", "bob"), start=1):
        client.enrol(name, [picture(number, seed=50), picture(number, seed=51)])
    return client


def face_of(data):
    return FakeAnalyzer().analyze(load_image(data))[0]


def test_answers_are_those_of_the_gallery_itself(enrolled, core):
    gallery: Gallery = core.collections.get("default").gallery
    probe, stranger = picture(2, seed=7), picture(9)
    embedding = face_of(probe).embedding

    def near(one, other):
        assert [candidate.subject for candidate in one] == [candidate.subject for candidate in other]
        assert [candidate.score for candidate in one] == pytest.approx([c.score for c in other], abs=1e-6)

    assert isinstance(enrolled.identify(probe), Records)
    near(enrolled.identify(probe), gallery.identify(embedding, THRESHOLD))
    near(enrolled.search(probe, 3), gallery.search(embedding, 3))
    near(enrolled.search(probe, 2, per_subject=True), gallery.search(embedding, 2, per_subject=True))
    assert enrolled.identify(stranger) == ()
    assert list(enrolled.subjects()) == gallery.subjects()
    assert enrolled.samples(1) == gallery.samples("ada")
    assert enrolled.findings() == gallery.audit(THRESHOLD)


def test_all_faces_of_a_picture_are_named(enrolled, core):
    group = picture(9, 2, seed=7)
    named = enrolled.name_faces(group, top=2)
    (seen,) = FakeAnalyzer().pictures([io.BytesIO(group)])
    own = name_faces(core.collections.get("default").gallery, seen, threshold=THRESHOLD, top=2)

    assert [one.subject for one in named] == [one.subject for one in own] == [None, "bob"]
    assert enrolled.identify(group, face=2)[0].subject == "bob"


def test_a_comparison_is_that_of_verify(client):
    one, other = picture(1), picture(1, seed=1)
    point = OperatingPoint(1e-3, THRESHOLD, 1e-3, 0.02, (5e-4, 2e-3), (0.01, 0.03), 100, 100_000, "made up")
    own = verify(one, other, point=point, analyzer=FakeAnalyzer())
    told = client.verify(one, other)

    assert (told.match, told.point, told.sides) == (own.match, own.point, own.sides)
    assert told.score == pytest.approx(own.score, abs=1e-6)
    assert client.verify(one, other, threshold=0.99).point.num_impostor == 0


def test_faces_come_with_embeddings_that_are_exact(client):
    (face,) = client.analyze(picture(3), embeddings=True)

    assert (face.embedding.vector == face_of(picture(3)).embedding.vector).all()


def test_subjects_are_changed_as_in_a_gallery(enrolled):
    assert enrolled.enrol("ada", picture(1, seed=50)) == [
        Enrolment("already", 1, 1, duplicates=enrolled.enrol("ada", picture(1, seed=50))[0].duplicates)
    ]
    assert enrolled.rename(1, "Ada L.").name == "Ada L."
    assert enrolled.keep(1, retain_until="2999-01-01").name == "Ada L."
    samples = [sample.id for sample in enrolled.samples(2)]
    assert enrolled.merge(1, 2) == 2 and enrolled.split(samples, "bob") == samples
    assert enrolled.erase(enrolled.subject("bob").id).samples == 2
    with pytest.raises(GalleryError, match="no subject of that name"):
        enrolled.subject("bob")


def test_a_zip_is_enrolled_as_a_job(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("ada/1.png", picture(1))
    job = client.wait(client.enrol_zip(tmp_path / "in.zip"), every_s=0.02)

    assert (job.state, job.counts["added"]) == ("done", 1)
    client.cancel(job.id)
    with pytest.raises(GalleryError, match="no job"):
        client.job(job.id)


def test_errors_are_mien_s_with_the_sentence_of_the_service(client, tmp_path):
    with pytest.raises(ImageError, match="shows no face"):
        client.identify(picture())
    with pytest.raises(UsageError, match="'fmr'"):
        client.identify(picture(1), fmr=2)
    with pytest.raises(GalleryError, match="no subject 9"):
        client.erase(9)
    with pytest.raises(DataError, match="cannot be read"):
        client.identify(tmp_path / "none.jpg")
    with pytest.raises(UsageError, match="1 to 20 pictures"):
        client.enrol("ada", [])
    with pytest.raises(UsageError, match="an address such as"):
        Client("localhost")


def test_a_key_and_a_collection_travel_with_each_question(core, app):
    core.collections.create("other")
    key = core.keys.create({"other": "admin"})[1]
    with Client("http://localhost:8400", key, transport=Sync(app)) as client:
        assert client.enrol("ada", picture(1))[0].status == "added"
        assert client.session()["key"]["id"] == key.split("_")[1]
    with (
        Client("http://localhost:8400", key, collection="default", transport=Sync(app)) as client,
        pytest.raises(GalleryError, match="no collection"),
    ):
        client.identify(picture(1))
    with (
        Client("http://localhost:8400", "mien_none", transport=Sync(app)) as client,
        pytest.raises(ServiceError, match="not known here"),
    ):
        client.identify(picture(1))


def test_a_busy_service_is_asked_again(monkeypatch):
    waits = []
    monkeypatch.setattr("mien.client.time.sleep", waits.append)
    answers = iter([httpx.Response(429, headers={"Retry-After": "2"}), httpx.Response(200, json={"version": "1"})])
    transport = httpx.MockTransport(lambda _: next(answers))

    assert Client("http://x", transport=transport).session() == {"version": "1"} and waits == [2.0]
    busy = httpx.MockTransport(lambda _: httpx.Response(503, text="<html>"))
    with pytest.raises(ServiceError, match="status 503"):
        Client("http://x", transport=busy, retries=1).session()


def test_a_service_that_is_not_there_is_said_in_a_line():
    def refuse(_):
        raise httpx.ConnectError("refused")

    with pytest.raises(ServiceError, match="cannot be reached: refused"):
        Client("http://x", transport=httpx.MockTransport(refuse)).session()


def test_coroutines_ask_the_same(enrolled, app, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("cyd/1.png", picture(3))

    async def ask():
        async with AsyncClient("http://localhost:8400", transport=httpx.ASGITransport(app)) as client:
            found = await client.identify(picture(2, seed=7))
            job = await client.wait(await client.enrol_zip(tmp_path / "in.zip"), every_s=0.02)
            names = [subject.name async for subject in client.subjects()]
            proof = await client.erase((await client.subject("cyd")).id)
            return found, job.state, names, proof.samples

    found, *rest = asyncio.run(ask())
    assert found == enrolled.identify(picture(2, seed=7)) and rest == ["done", ["ada", "bob", "cyd"], 1]


def test_both_clients_have_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
