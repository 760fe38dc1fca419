import cv2
import numpy as np
import pytest

from mien.drawing import draw_face, draw_scene
from mien.types import EXPRESSIONS


def test_the_same_arguments_draw_the_same_picture():
    a, b = draw_face(3, seed=5), draw_face(3, seed=5)
    assert np.array_equal(a.image, b.image) and np.array_equal(a.landmarks, b.landmarks)


def test_subject_and_seed_each_change_the_picture():
    base = draw_face(3).image.astype(int)
    assert np.abs(draw_face(4).image - base).mean() > 5
    assert np.abs(draw_face(3, seed=1).image - base).mean() > 5


@pytest.mark.parametrize("side", [24, 160, 500])
def test_landmarks_and_box_scale_with_the_picture(side):
    face, large = draw_face(1, side=side), draw_face(1, side=640)
    assert face.image.shape == (side, side, 3) and face.image.dtype == np.uint8
    # Pixel centres: x in one picture is (x + 0.5) * scale - 0.5 in the other.
    assert np.allclose((face.landmarks + 0.5) * (640 / side) - 0.5, large.landmarks, atol=0.01 * 640)
    assert face.box.width / side == pytest.approx(large.box.width / 640, abs=0.02)


@pytest.mark.parametrize("subject", range(6))
def test_eyes_are_dark_where_the_landmarks_say(subject):
    face = draw_face(subject, side=320, expression="surprise")
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY).astype(float)
    eyes = [grey[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4].mean() for x, y in face.landmarks[:2]]
    (left, y), (right, _) = face.landmarks[:2]
    bridge = grey[int(y) - 3 : int(y) + 4, int((left + right) / 2) - 3 : int((left + right) / 2) + 4].mean()
    assert max(eyes) < bridge


def test_landmarks_are_in_the_contract_order_and_inside_the_box():
    face = draw_face(7, side=200)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert face.box.left < face.landmarks[:, 0].min() and face.landmarks[:, 1].max() < face.box.bottom


def test_roll_turns_the_eyes_clockwise():
    for roll in (-20.0, 0.0, 15.0):
        across = np.subtract(*draw_face(2, side=300, roll=roll).landmarks[[1, 0]])
        assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(roll, abs=0.5)


def test_yaw_moves_the_nose_to_the_side_it_turns_to():
    def lean(yaw):
        left, right, nose = draw_face(2, side=300, yaw=yaw).landmarks[:3, 0]
        return (nose - (left + right) / 2) / (right - left)

    assert lean(-25) < lean(-10) < -0.05 < 0.05 < lean(10) < lean(25)


def test_light_brightens():
    means = [draw_face(5, light=light).image.mean() for light in (0.3, 0.6, 1.0)]
    assert means[0] < means[1] < means[2]


def test_every_expression_draws_another_face():
    faces = [draw_face(9, expression=expression).image.astype(int) for expression in EXPRESSIONS]
    for i in range(len(faces)):
        for j in range(i):
            changed = np.abs(faces[i] - faces[j]).max(axis=2) > 12
            assert changed.sum() > 50, (EXPRESSIONS[i], EXPRESSIONS[j])


def test_a_smile_raises_the_corners_of_the_mouth_and_sadness_lowers_them():
    happy, calm, sad = (
        draw_face(4, side=300, expression=e).landmarks[3:, 1].mean() for e in ("happiness", "neutral", "sadness")
    )
    assert happy < calm < sad


def test_contempt_is_lopsided():
    left, right = draw_face(4, side=300, expression="contempt").landmarks[3:, 1]
    assert left - right > 2


@pytest.mark.slow
def test_every_look_can_be_drawn():
    # Forty subjects hold every hair style, beards, freckles, glasses and wrinkles, at every turn.
    for subject in range(40):
        face = draw_face(subject, side=48, yaw=(subject % 7 - 3) * 12.0)
        assert face.image.std() > 10


@pytest.mark.parametrize("count", [1, 5, 17])
def test_a_scene_holds_every_subject_apart(count):
    scene = draw_scene(range(count), width=640, height=400, seed=2)
    assert scene.image.shape == (400, 640, 3) and len(scene.faces) == count
    for i, face in enumerate(scene.faces):
        assert 0 <= face.box.left < face.box.right <= 640 and 0 <= face.box.top < face.box.bottom <= 400
        for other in scene.faces[:i]:
            gap = np.abs(face.landmarks.mean(0) - other.landmarks.mean(0)).max()
            assert gap > 0.7 * min(face.box.width, other.box.width)


def test_a_scene_shows_its_faces_where_it_says():
    scene = draw_scene([3, 8], width=600, height=300, seed=1)
    empty = draw_scene([], width=600, height=300, seed=1)
    assert empty.faces == () and empty.image.shape == (300, 600, 3)
    for face in scene.faces:
        box = face.box
        part = scene.image[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
        assert part.std() > 15
        assert face.image.size > 0
