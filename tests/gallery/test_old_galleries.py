"""Galleries, and an export, made by an older mien (see fixtures/make.py) still open and keep what they hold."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery
from mien.types import Embedding, as_unit

from .made_up import MODEL, People

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = {"Ada Lovelace", "Zo\u00eb \u5b89", "Ada  L.", "Bob\u200b", "Bob", "\uff23yd"}


@pytest.fixture(params=["plain", "sealed"])
def old(request, tmp_path):
    """Path and key of a gallery of version 1."""
    path = tmp_path / "old.mien"
    path.write_bytes(gzip.decompress((FIXTURES / f"{request.param}.mien.gz").read_bytes()))
    return path, FIXTURES / "sealed.key" if request.param == "sealed" else None


@pytest.fixture(params=["writing", "reading"])
def opened(request, old):
    path, key = old
    with Gallery(path, key_file=key, read_only=request.param == "reading") as gallery:
        yield gallery


def probe(name):
    """The subject's own vector: its samples were made at a cosine of 0.9 to it."""
    people = People(seed=7)
    for made in ("Ada Lovelace", "Zo\u00eb \u5b89", "Ada  L.", "Bob\u200b", "Bob", "\uff23yd"):
        for _ in range(3):
            people.face(made, crop=False)
    return people.embedding(name)


def test_everybody_is_there_under_the_name_they_were_enrolled_by(opened):
    assert {subject.name for subject in opened.subjects()} == NAMES
    for name in NAMES:
        assert len(opened.samples(name)) == 3 and opened.vectors(name).shape == (3, 32)
        assert opened.subject(name).samples == 3


def test_everybody_is_found(opened):
    for name in NAMES:
        found = opened.search(probe(name), 3)
        assert {candidate.subject for candidate in found} == {name}
        assert found[0].score == pytest.approx(0.9, abs=2e-3)


def test_it_is_sound(opened):
    report = opened.check()
    assert report.ok, report.problems
    assert (report.subjects, report.samples, report.templates) == (6, 18, 18)


def test_its_calibration_and_its_erasures_are_remembered(opened):
    assert opened.operating_point(0.1).subjects == 6
    assert opened.stats().erasures == 1


def test_it_exports_what_the_older_mien_exported(opened, tmp_path):
    opened.export(tmp_path / "again")
    then, now = (
        (folder / "gallery.jsonl").read_text("utf-8") for folder in (FIXTURES / "exported", tmp_path / "again")
    )
    if not opened.encrypted:
        assert now == then
    assert now.count("\n") == then.count("\n")


def test_it_moves_to_another_embedder(old):
    path, key = old
    with Gallery(path, key_file=key) as gallery:

        def embed(crops):
            return as_unit(crops[:, ::3, ::3].reshape(len(crops), -1).astype(np.float32) - 127.0)

        assert gallery.migrate("net-2-11111111", embed) == 18
        own = embed(gallery.crop(gallery.samples("Bob")[0].id)[None])[0]
        assert gallery.search(Embedding("net-2-11111111", own))[0].subject == "Bob"
        assert gallery.check().ok


def test_it_takes_more_faces_and_gives_up_what_it_has(old):
    path, key = old
    with Gallery(path, key_file=key) as gallery:
        people = People(seed=8)
        gallery.enrol("Newcomer", people.face("new"), source_hash="f" * 64)
        assert gallery.erase("Ada Lovelace").samples == 3
        assert gallery.check().ok
        assert {subject.name for subject in gallery.subjects()} == NAMES - {"Ada Lovelace"} | {"Newcomer"}


def test_the_export_of_an_older_mien_is_read_but_for_names_that_look_alike(tmp_path):
    folder = tmp_path / "exported"
    shutil.copytree(FIXTURES / "exported", folder)
    with Gallery(tmp_path / "new.mien") as gallery:
        with pytest.raises(GalleryError, match=r"Line 14 .*looks like that of line 10.*Nothing was imported"):
            gallery.import_(folder)
        assert len(gallery) == 0
        text = (folder / "gallery.jsonl").read_text("utf-8")
        (folder / "gallery.jsonl").write_text(text.replace("Bob\u200b", "Bob the second"), "utf-8")
        assert gallery.import_(folder).samples == 18 and gallery.model == MODEL
        assert gallery.subject("Ada L.").samples == 3 and gallery.check().ok
