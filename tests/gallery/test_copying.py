import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery, copying
from mien.gallery.copying import copy_gallery
from mien.gallery.crypto import write_key
from mien.types import as_unit
from mien.vision.cohort import Cohort

from .made_up import People, enrol


@pytest.fixture
def target(request, database, tmp_path):
    """A gallery of the other kind."""
    place = tmp_path / "copy.mien" if database == "postgres" else request.getfixturevalue("address")
    with Gallery(place) as opened:
        yield opened


@pytest.fixture
def filled(gallery, people):
    for name in ("ada", "gone", "Zo\u00eb \u5b89"):
        enrol(gallery, people, name, count=3)
    enrol(gallery, people, "bare", crop=False, quality=None)
    gallery.erase("gone")
    gallery.calibrate(0.5)
    return gallery


def test_a_copy_has_all_of_it_under_the_same_ids(filled, target, people):
    copied = copy_gallery(filled, target)
    assert (copied.subjects, copied.samples, copied.added, copied.differing, copied.others) == (3, 7, 7, 0, 0)
    assert copied.same_ids and target.subjects() == filled.subjects()
    for subject in filled.subjects():
        assert target.samples(subject.name) == filled.samples(subject.name)
        assert np.array_equal(target.vectors(subject.name), filled.vectors(subject.name))
    assert target.points() == filled.points() and target.check().ok
    assert target.search(people.embedding("ada"))[0].subject == "ada"


def test_an_id_that_was_erased_before_is_not_used_again_after(filled, target, people):
    enrol(filled, people, "last")
    last = filled.subject("last").id
    filled.erase("last")
    copy_gallery(filled, target)
    enrol(target, people, "new")
    assert target.subject("new").id > last


def test_a_copy_that_was_broken_off_goes_on_where_it_was(filled, target, monkeypatch):
    monkeypatch.setattr(copying, "BLOCK_SAMPLES", 2)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_gallery(filled, target, progress=stop)
    copied = copy_gallery(filled, target)
    assert (copied.added, copied.already, copied.differing, copied.same_ids) == (4, 3, 0, True)
    assert copy_gallery(filled, target).added == 0


def test_there_and_back_again_changes_nothing(filled, target, tmp_path):
    there = copy_gallery(filled, target)
    with Gallery(tmp_path / "back.mien") as back:
        again = copy_gallery(target, back)
    assert again.digest == there.digest and again.differing == 0


def test_into_a_gallery_in_use_ids_are_new_and_what_is_there_stays(filled, target, people):
    enrol(target, people, "ada")
    enrol(target, people, "mine")
    copied = copy_gallery(filled, target)
    assert (copied.same_ids, copied.added, copied.differing, copied.others) == (False, 7, 0, 2)
    assert {s.name: s.samples for s in target.subjects()} == {"ada": 4, "bare": 1, "mine": 1, "Zo\u00eb \u5b89": 3}
    assert target.check().ok


def test_an_encrypted_gallery_is_copied_into_one_of_another_key(filled, tmp_path):
    for name in ("one", "two"):
        write_key(tmp_path / name)
    with (
        Gallery(tmp_path / "a.mien", key_file=tmp_path / "one") as first,
        Gallery(tmp_path / "b.mien", key_file=tmp_path / "two") as second,
    ):
        one = copy_gallery(filled, first)
        two = copy_gallery(first, second)
        assert one.digest == two.digest and two.differing == 0 and second.check().ok


def test_a_sample_that_differs_is_counted(filled, target):
    copy_gallery(filled, target)
    with target.rows.write():
        target.rows.connection.execute("UPDATE sample SET quality = 0.1 WHERE id = 1")
    copied = copy_gallery(filled, target)
    assert (copied.differing, copied.others) == (1, 1)


def test_the_cohort_goes_with_its_templates(filled, target):
    cohort = Cohort(as_unit(np.random.default_rng(0).normal(size=(120, 32))), neighbours=5, floor=0.4)
    filled.change_cohort("net-1-11111111", cohort.normalise, cohort)
    copied = copy_gallery(filled, target)
    assert copied.differing == 0 and target.cohort is not None and target.model == "net-1-11111111"


def test_templates_of_another_embedder_are_refused(filled, target):
    enrol(target, People(model="other-1-00000000"), "bob")
    with pytest.raises(GalleryError, match=r"other-1-00000000.*net-1-00000000.*migrate"):
        copy_gallery(filled, target)


def test_a_gallery_is_not_copied_into_itself(filled, path):
    with Gallery(path) as again, pytest.raises(GalleryError, match="same gallery"):
        copy_gallery(filled, again)


def test_who_enrols_in_between_is_told_to_wait(filled, target, people, monkeypatch):
    monkeypatch.setattr(copying, "BLOCK_SAMPLES", 2)
    with pytest.raises(KeyboardInterrupt):
        copy_gallery(filled, target, progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    enrol(target, people, "hasty", count=2)
    enrol(target, people, "hastier", count=2)
    with pytest.raises(GalleryError, match="while it was being copied to"):
        copy_gallery(filled, target)
