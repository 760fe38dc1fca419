"""Restorers around a tiny network that lightens faces: see `restorers`."""

import cv2
import numpy as np
import pytest

from mien.drawing import draw_face, draw_scene
from mien.errors import ModelError, UsageError
from mien.vision.restorer import Restorer, cover_from_landmarks
from vision.generators import save_generator
from vision.restorers import ADDED, COVERED, SIDE, save_restorer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_restorer(tmp_path_factory.mktemp("restorer") / "run")


@pytest.fixture
def grey():
    return np.full((SIDE, SIDE, 3), 100, np.uint8)


def test_the_weight_says_how_far_the_change_goes(model, grey):
    half, whole = (Restorer(model, weight=weight).restore(grey) for weight in (0.5, 1.0))
    assert (half.after == 100 + ADDED / 2).all() and (whole.after == 100 + ADDED).all()
    assert (Restorer(model, weight=0.0).restore(grey).after == grey).all()


def test_a_clean_face_is_left_alone_and_that_is_said(model, grey):
    alone, restored = Restorer(model, gate=ADDED + 1).restore(grey), Restorer(model, gate=ADDED - 1).restore(grey)
    assert alone.left_alone and (alone.after == grey).all() and alone.damage == pytest.approx(ADDED)
    assert not restored.left_alone and (restored.after != grey).all()


def test_what_the_network_finds_before_a_face_is_filled_in_whole_whatever_the_weight_and_the_gate(model, grey):
    grey[10:30, 10:30] = (255, 0, 0)
    face = Restorer(model, weight=0.5, gate=200).restore(grey)
    assert face.covered == pytest.approx(400 / SIDE**2) and not face.left_alone
    assert (face.after[12:28, 12:28, 1] == ADDED + COVERED).all()
    assert (face.after[40:, 40:] == 100 + ADDED / 2).all()
    assert Restorer(model).restore(grey, cover="none").covered == 0


def test_a_mask_of_another_size_or_over_all_of_the_face_is_refused(model, grey):
    restorer = Restorer(model)
    with pytest.raises(UsageError, match="64 x 64 px"):
        restorer.restore(grey, covered=np.zeros((8, 8), dtype=bool))
    with pytest.raises(UsageError, match="nothing is left"):
        restorer.restore(grey, covered=np.ones((SIDE, SIDE), dtype=bool))
    with pytest.raises(UsageError, match="of the size of its picture"):
        restorer.restore_picture(grey, [], covered=np.zeros((8, 8), dtype=bool))
    with pytest.raises(UsageError, match="multiple of 16"):
        restorer.restore(grey[:40, :40])


def test_the_picture_outside_of_the_faces_stays_as_it_is(model):
    scene = draw_scene([1, 2], width=400, height=240)
    restorer = Restorer(model)
    done = restorer.restore_picture(scene.image, [face.landmarks for face in scene.faces])
    changed = (done.image != scene.image).any(axis=2)
    assert len(done.faces) == 2 and 0.02 < changed.mean() < 0.7
    for face in scene.faces:
        x, y = face.landmarks[2].astype(int)
        assert np.abs(done.image[y, x].astype(int) - scene.image[y, x] - ADDED).max() <= 1
    assert not changed[:20].any()


def test_a_face_at_the_border_and_two_that_overlap_are_restored(model):
    drawn = draw_face(1, side=120)
    image, marks = drawn.image[:, 40:].copy(), drawn.landmarks - [40, 0]
    done = Restorer(model).restore_picture(image, [marks, marks + 2])
    change = done.image.astype(int) - image
    assert change.max() <= ADDED + 1, "two changes are shared, not added"
    assert change.max() >= ADDED - 1


def test_a_recogniser_is_given_the_picture_itself_where_the_face_is_clean(model):
    drawn = draw_face(1, side=160)
    same, marks, face = Restorer(model, gate=50).prepared(drawn.image, drawn.landmarks)
    assert same is drawn.image and face.left_alone and np.allclose(marks, drawn.landmarks)


def test_a_recogniser_is_given_a_small_face_at_the_side_that_the_network_sees(model):
    drawn = draw_face(1, side=50)
    restorer = Restorer(model)
    image, marks, face = restorer.prepared(drawn.image, drawn.landmarks)
    assert not face.left_alone and np.ptp(marks[:2, 0]) == pytest.approx(np.ptp(restorer.points[:2, 0]), abs=0.1)
    assert len(image) > SIDE and marks.min() > 0 and marks.max() < len(image)


@pytest.mark.parametrize("method", ["unsharp", "clahe", "denoise"])
def test_classical_methods_need_no_model(method):
    noisy = np.random.default_rng(0).normal(100, 12, (112, 112, 3)).astype(np.uint8)
    face = Restorer(method=method).restore(noisy)
    assert face.after.shape == (112, 112, 3) and face.damage > 0.1


def test_telea_fills_what_landmarks_say_is_covered():
    drawn = draw_face(1, side=200)
    restorer = Restorer(method="telea")
    crop = restorer.crop(drawn.image, drawn.landmarks)
    face = restorer.restore(crop, cover="mouth")
    covered = cover_from_landmarks(restorer.points, restorer.side, "mouth")
    assert 0.1 < face.covered < 0.4 and (face.after[~covered] == crop[~covered]).all()
    assert (face.after[covered] != crop[covered]).any()


def test_a_generator_draws_what_is_covered_and_nothing_else(tmp_path):
    restorer = Restorer(save_generator(tmp_path / "vae", kind="vae", encoder=True, side=16), method="vae")
    drawn = draw_face(1, side=200)
    crop = restorer.crop(drawn.image, drawn.landmarks)
    covered = cover_from_landmarks(restorer.points, restorer.side, "mouth")
    face = restorer.restore(crop, cover="mouth")
    near = cv2.dilate(covered.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert (face.after[covered] != crop[covered]).mean() > 0.8 and (face.after[~near] == crop[~near]).all()
    assert (restorer.restore(crop, cover="none").after == crop).all()
    with pytest.raises(UsageError, match="takes an encoder"):
        Restorer(save_generator(tmp_path / "gan"), method="vae")


def test_wrong_arguments_are_refused_in_one_line(model, tmp_path):
    with pytest.raises(UsageError, match="method is one of"):
        Restorer(model, method="magic")
    with pytest.raises(UsageError, match="0 to 2"):
        Restorer(model, weight=3)
    with pytest.raises(UsageError, match="gate"):
        Restorer(model, gate=-1)
    with pytest.raises(UsageError, match="covers a face"):
        Restorer(model).restore(np.zeros((SIDE, SIDE, 3), np.uint8), cover="hat")
    with pytest.raises(ModelError, match="expected a restorer"):
        Restorer(save_generator(tmp_path / "gan"))
    with pytest.raises(ModelError, match="template"):
        Restorer(save_restorer(tmp_path / "other", template="none-such"))
