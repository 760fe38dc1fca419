import numpy as np
import pytest

from mien.alignment import TEMPLATES
from mien.errors import GalleryError
from mien.gallery import Gallery
from mien.gallery.migration import realigned
from mien.types import Embedding, as_unit
from mien.vision.cohort import Cohort

from .made_up import DIMENSION, MODEL, People, enrol

NEW = "net-2-11111111"


def embed(crops):
    """A net of 16 values: means of patches."""
    n = len(crops)
    patches = crops.reshape(n, 4, 6, 4, 6, 3).mean(axis=(2, 4, 5)).reshape(n, 16)
    return patches - patches.mean(axis=1, keepdims=True)


def test_afterwards_only_the_new_model_is_searched(gallery, people):
    samples = [enrol(gallery, people, name)[0] for name in "abcde"]
    probe = as_unit(embed(gallery.crop(samples[2])[None]))[0]

    assert gallery.migrate(NEW, embed, batch=2) == 5

    assert gallery.model == NEW
    (first, *_) = gallery.search(Embedding(NEW, probe))
    assert (first.subject, first.score) == ("c", pytest.approx(1.0, abs=1e-3))
    with pytest.raises(GalleryError, match=MODEL):
        gallery.search(people.embedding("a"))
    assert gallery.check().ok and gallery.samples("a")[0].models == (NEW,)


def test_an_interrupted_migration_goes_on_where_it_was(gallery, people):
    for name in "abcde":
        enrol(gallery, people, name)
    calls = []

    def dies(crops):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(crops))
        return embed(crops)

    with pytest.raises(KeyboardInterrupt):
        gallery.migrate(NEW, dies, batch=2)
    assert gallery.model == MODEL and gallery.search(people.embedding("a"))[0].subject == "a"
    assert any("migration is unfinished" in note for note in gallery.check().notes)

    seen = []
    assert gallery.migrate(NEW, embed, batch=2, progress=lambda done, total: seen.append((done, total))) == 1
    assert seen == [(5, 5)] and gallery.model == NEW


def test_who_is_enrolled_meanwhile_is_migrated_too(gallery, path, people):
    enrol(gallery, people, "a")
    late = []

    def embed_slowly(crops):
        if not late:
            with Gallery(path) as elsewhere:
                late.extend(enrol(elsewhere, people, "late"))
        return embed(crops)

    assert gallery.migrate(NEW, embed_slowly) == 2
    assert gallery.samples("late")[0].models == (NEW,)


def test_who_is_erased_meanwhile_does_not_come_back(gallery, path, people):
    enrol(gallery, people, "ada")
    enrol(gallery, people, "bob")

    def embed_slowly(crops):
        with Gallery(path) as elsewhere:
            elsewhere.erase("ada")
        return embed(crops)

    gallery.migrate(NEW, embed_slowly)
    assert [s.name for s in gallery.subjects()] == ["bob"]
    assert gallery.check().ok


def test_another_process_searches_with_the_new_model_at_once(gallery, path, people):
    (sample,) = enrol(gallery, people, "ada")
    with Gallery(path) as elsewhere:
        elsewhere.search(people.embedding("ada"))
        gallery.migrate(NEW, embed)
        probe = Embedding(NEW, as_unit(embed(gallery.crop(sample)[None]))[0])
        assert elsewhere.search(probe)[0].subject == "ada"


def test_samples_without_crop_are_counted_and_nothing_changes(gallery, people):
    enrol(gallery, people, "ada")
    enrol(gallery, people, "bob", count=2, crop=False)
    with pytest.raises(GalleryError, match="2 samples were enrolled without"):
        gallery.migrate(NEW, embed)
    assert gallery.model == MODEL


def test_a_net_that_returns_nonsense_is_refused(gallery, people):
    enrol(gallery, people, "ada")
    with pytest.raises(GalleryError, match="no usable embedding"):
        gallery.migrate(NEW, lambda crops: np.full((len(crops), 16), np.nan))
    assert gallery.model == MODEL


def test_to_the_model_in_use_there_is_nothing_to_do(gallery, people):
    enrol(gallery, people, "ada")
    assert gallery.migrate(MODEL, embed) == 0


def test_an_empty_gallery_stays_open_to_any_model(gallery):
    assert gallery.migrate(NEW, embed) == 0
    enrol(gallery, People(model="third"), "ada")


def test_crops_of_two_sizes_are_embedded_apart(gallery, people):
    enrol(gallery, people, "ada")
    from dataclasses import replace

    large = replace(
        people.face("bob"), crop=np.zeros((48, 48, 3), np.uint8) + np.arange(48, dtype=np.uint8)[:, None, None]
    )
    gallery.enrol("bob", large, source_hash="b")
    shapes = []

    def recording(crops):
        shapes.append(crops.shape)
        return embed(crops[:, :24, :24])

    gallery.migrate(NEW, recording)
    assert sorted(shapes) == [(1, 24, 24, 3), (1, 48, 48, 3)]


class TestRealigned:
    def test_a_template_onto_itself_changes_nothing(self, rng):
        crops = rng.integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
        assert np.array_equal(realigned(crops, template="arcface-112", to_template="arcface-112", to_side=112), crops)

    def test_a_landmark_moves_from_its_place_in_one_template_to_that_in_the_other(self):
        crop = np.zeros((150, 150, 3), np.uint8)
        x, y = TEMPLATES["dlib-150"][1][2]  # the nose tip
        crop[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255
        (moved,) = realigned(crop[None], template="dlib-150", to_template="arcface-112", to_side=224)
        rows, columns = np.nonzero(moved[:, :, 0] > 100)
        expected = np.array(TEMPLATES["arcface-112"][1][2]) * 2
        assert np.hypot(columns.mean() - expected[0], rows.mean() - expected[1]) < 12


def test_templates_are_normalised_anew_from_the_vectors_alone(gallery, people):
    """As for a gallery that was made before its embedder had a cohort: no crop is looked at."""
    for name in "abc":
        enrol(gallery, people, name, crop=False)
    before = gallery.search(people.embedding("a"))[0]
    cohort = Cohort(as_unit(np.random.default_rng(0).normal(size=(30, DIMENSION))), neighbours=5, floor=0.4)

    assert gallery.renormalise(NEW, cohort.normalise) == 3

    assert gallery.model == NEW and gallery.check().ok
    probe = cohort.normalise(people.embedding("a").vector[None])[0]
    found = gallery.search(Embedding(NEW, probe))
    assert found[0].sample_id == before.sample_id and len(probe) == DIMENSION + 1
    stored = cohort.normalise(people.embedding("a").vector[None])
    assert found[0].score > float((probe @ stored.T).item()) - 0.2
    assert gallery.renormalise(NEW, cohort.normalise) == 0
    with pytest.raises(GalleryError, match="holds templates of"):
        gallery.search(people.embedding("a"))
