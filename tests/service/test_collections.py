import numpy as np
import pytest

from gallery.fake_analyzer import DIMENSION
from mien.errors import GalleryError, UsageError
from mien.gallery import Gallery
from mien.gallery.crypto import write_key
from mien.service.problems import Problem
from mien.types import as_unit
from mien.vision.cohort import Cohort

from .conftest import picture, problem


def test_what_was_counted_and_decided_is_kept_until_somebody_writes(service, people, monkeypatch):
    collection = service.core.collections.get("default")
    counted = []
    monkeypatch.setattr(Gallery, "__len__", lambda gallery: counted.append(1) or gallery.rows.count("subject"))
    sizes = [collection.size(), collection.size()]
    service.enrol("eve", picture(5))

    assert [*sizes, collection.size()] == [3, 3, 4] and len(counted) == 2
    card = collection.analyzer.card
    first, again = (collection.decide(card, fmr=None, fpir=None, threshold=None) for _ in range(2))
    assert first is again
    assert collection.decide(card, fmr=1e-2, fpir=None, threshold=None).point.threshold == 0.5


def test_a_gallery_s_own_cohort_is_used_and_dropped_as_it_comes_and_goes(service, people):
    collection = service.core.collections.get("default")
    plain = collection.analyzer
    assert collection.analyzer is plain
    cohort = Cohort(as_unit(np.random.default_rng(0).standard_normal((64, DIMENSION))), neighbours=8, floor=0.1)
    collection.gallery.change_cohort(f"{plain.card.id}-own", lambda vectors: vectors, cohort)
    own = collection.analyzer

    assert own is not plain and own is collection.analyzer and own.cohort.digest == cohort.digest


def test_encrypted_collections_keep_nothing_in_the_clear_beside_them(start, tmp_path):
    write_key(tmp_path / "key")
    service = start(gallery_key=tmp_path / "key")
    headers = {"Idempotency-Key": "a", "Content-Type": "image/png"}
    ask = {"params": {"name": "a telling name", "consent": "a ground"}, "content": picture(1), "headers": headers}
    service.http.post("/v1/subjects", **ask)
    again = service.http.post("/v1/subjects", **ask)

    assert again.json()["subject"]["consent"] == "a ground" and again.headers["idempotency-replayed"]
    service.core.store.empty_log()
    for file in service.core.settings.data.rglob("*"):
        if file.is_file():
            assert b"a telling name" not in file.read_bytes() and b"a ground" not in file.read_bytes(), file


def test_a_gallery_elsewhere_is_the_default_collection(start, tmp_path):
    service = start(gallery=str(tmp_path / "club.mien"))
    service.enrol("ada", picture(1))

    with Gallery(tmp_path / "club.mien") as gallery:
        assert [subject.name for subject in gallery.subjects()] == ["ada"]


def test_names_of_collections_cannot_lead_anywhere(service):
    for name in ("../x", "a/b", "", "A", "x" * 64, "-x", "a.b"):
        with pytest.raises(UsageError):
            service.core.collections.create(name)
    service.core.collections.create("staff")
    with pytest.raises(Problem, match="already"):
        service.core.collections.create("staff")
    assert "cannot go" in problem(service.http.delete("/v1/collections/default"), 400)
    problem(service.http.delete("/v1/collections/none"), 404)


def test_a_gallery_of_another_embedder_is_refused_when_it_is_opened(start, tmp_path):
    from gallery.made_up import People, enrol

    with Gallery(tmp_path / "other.mien") as gallery:
        enrol(gallery, People(), "ada")
    service = start(gallery=str(tmp_path / "other.mien"))

    with pytest.raises(GalleryError, match="embedder in use"):
        service.core.check()
    assert "embedder in use" in problem(service.get("/v1/subjects"), 503)
