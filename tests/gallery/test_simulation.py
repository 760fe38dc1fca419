from dataclasses import replace

import numpy as np
import pytest

from mien.gallery import Gallery
from mien.gallery.copying import copy_gallery
from mien.gallery.simulation import KINDS, chosen, simulate, view, views
from mien.types import Embedding, as_unit
from mien.vision.cohort import Cohort

from .made_up import DIMENSION, enrol

NEW = "net-2-11111111"


@pytest.fixture
def crop(rng):
    return rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def simulated_face(people, name, count=3):
    face = people.face(name)
    return replace(face, embedding=Embedding(people.model, face.embedding.vector, count))


def enrol_simulated(gallery, people, name, count=3):
    face = simulated_face(people, name, count)
    return gallery.enrol(name, face, source_hash=people.rng.bytes(32).hex()).sample_id


def test_the_first_view_is_the_mirror_image_and_the_others_are_warps(crop):
    made = views(crop, 4)
    assert made.shape == (4, 32, 32, 3) and made.dtype == np.uint8
    assert np.array_equal(made[0], crop[:, ::-1])
    assert [KINDS[number % len(KINDS)] for number in chosen(4)] == ["mirror", "warp", "warp", "warp"]
    assert len({one.tobytes() for one in made}) == 4


def test_views_of_a_crop_are_always_the_same(crop):
    assert all(np.array_equal(view(crop, number), view(crop.copy(), number)) for number in range(8))
    assert np.array_equal(views(crop, 5)[:2], views(crop, 2))


def test_every_second_warp_is_mirrored():
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    bright_on_the_right = [one[:, 20:].mean() > one[:, :12].mean() for one in views(half, 5)]
    assert bright_on_the_right == [False, True, False, True, False]


def test_the_template_is_the_mean_over_the_picture_and_its_views(people):
    face = people.face("ada")
    others = np.stack([people.embedding("ada", 0.9).vector for _ in range(3)])
    made = simulate(face, lambda crops: others[: len(crops)], 3)
    assert made.embedding.simulated == 3 and made.crop is face.crop
    mean = as_unit(np.concatenate([face.embedding.vector[None], others]).mean(axis=0))
    assert made.embedding.vector @ mean == pytest.approx(1.0, abs=1e-3)
    assert made.embedding.vector @ people.vector("ada") > face.embedding.vector @ people.vector("ada")


def test_no_views_change_nothing(people):
    face = people.face("ada")
    assert simulate(face, lambda crops: crops, 0) is face


def test_a_gallery_tells_which_templates_are_simulated(gallery, people):
    enrol(gallery, people, "ada")
    enrol_simulated(gallery, people, "ada", 3)
    enrol(gallery, people, "bob")
    assert [sample.simulated for sample in gallery.samples("ada")] == [0, 3]
    assert {subject.name: subject.simulated for subject in gallery.subjects()} == {"ada": 1, "bob": 0}
    assert gallery.subject("ada").simulated == 1
    assert gallery.check().ok and gallery.search(people.embedding("ada"))[0].subject == "ada"


def test_the_crop_of_a_simulated_sample_is_the_picture(gallery, people):
    face = simulated_face(people, "ada")
    sample = gallery.enrol("ada", face, source_hash="00").sample_id
    assert np.array_equal(gallery.crop(sample), face.crop)


def test_erasing_takes_the_marks_along(gallery, people):
    enrol_simulated(gallery, people, "ada")
    enrol_simulated(gallery, people, "bob")
    gallery.erase("ada")
    model = gallery.rows.active_model()
    (kept,) = gallery.rows.simulated(model)
    assert kept == gallery.samples("bob")[0].id


def test_another_embedder_sees_the_pictures_alone(gallery, people):
    enrol_simulated(gallery, people, "ada")
    gallery.migrate(NEW, lambda crops: crops.reshape(len(crops), -1)[:, :DIMENSION].astype(np.float32) + 1)
    assert gallery.samples("ada")[0].simulated == 0 and gallery.subject("ada").simulated == 0


def test_another_cohort_keeps_the_mark(gallery, people):
    enrol(gallery, people, "bob")
    enrol_simulated(gallery, people, "ada", 5)
    cohort = Cohort(as_unit(people.rng.standard_normal((30, DIMENSION))), neighbours=3, floor=0.5)
    gallery.renormalise("net-1-00000000+cohort", cohort.normalise)
    assert [gallery.samples(name)[0].simulated for name in ("ada", "bob")] == [5, 0]


def test_an_export_carries_the_mark(gallery, people, tmp_path):
    enrol_simulated(gallery, people, "ada", 5)
    enrol(gallery, people, "bob")
    gallery.export(tmp_path / "out")
    with Gallery(tmp_path / "again.mien") as again:
        again.import_(tmp_path / "out")
        assert [again.samples(name)[0].simulated for name in ("ada", "bob")] == [5, 0]


def test_a_copy_carries_the_mark_and_notices_where_it_is_missing(gallery, people, tmp_path):
    enrol_simulated(gallery, people, "ada", 5)
    with Gallery(tmp_path / "copy.mien") as target:
        assert copy_gallery(gallery, target).differing == 0
        assert target.samples("ada")[0].simulated == 5
        with target.rows.write():
            target.rows.connection.execute("DELETE FROM simulated")
        assert copy_gallery(gallery, target).differing == 1


@pytest.mark.on("sqlite")
def test_a_gallery_without_simulated_templates_has_no_table_of_them(gallery, people):
    enrol(gallery, people, "ada")
    assert not gallery.rows.has_simulated()
    assert gallery.samples("ada")[0].simulated == 0
