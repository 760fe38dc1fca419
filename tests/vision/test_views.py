import numpy as np
import pytest

from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.views import WholePicture, is_upright, look

COLOURS = [(255, 1, k) for k in range(5)]
POINTS = np.array([[30, 40], [60, 40], [44, 55], [32, 70], [58, 70]])


class Dots:
    """Finds a face where five dots show one with its mouth below its eyes, at least ``room`` px from the border."""

    def __init__(self, room=0, any_way=False):
        self.room, self.any_way, self.looks = room, any_way, 0

    def detect(self, image):
        self.looks += 1
        marks = []
        for colour in COLOURS:
            y, x = np.nonzero((image == colour).all(axis=-1))
            if not len(x):
                return []
            marks.append([x.mean(), y.mean()])
        marks = np.array(marks, np.float32)
        (left, top), (right, bottom) = marks.min(axis=0) - 10, marks.max(axis=0) + 11
        inside = min(left, top, image.shape[1] - right, image.shape[0] - bottom) >= self.room
        if not inside or not (self.any_way or is_upright(marks)):
            return []
        return [Detection(Box(*map(float, (left, top, right, bottom))), marks, 0.8)]


@pytest.fixture
def picture():
    image = np.zeros((120, 90, 3), np.uint8)
    for (x, y), colour in zip(POINTS, COLOURS, strict=True):
        image[y, x] = colour
    return image


def mapped(view, face):
    box, landmarks = view.to_picture(face.box, face.landmarks)
    return box.as_tuple(), landmarks


def test_an_upright_face_takes_one_look(picture):
    detector = Dots()
    view, (face,) = look(picture, detector)
    assert view.is_picture and detector.looks == 1
    np.testing.assert_array_equal(mapped(view, face)[1], POINTS)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("any_way", [False, True], ids=["missed", "found with its mouth above its eyes"])
def test_a_turned_picture_is_looked_at_upright_and_told_in_its_own_px(picture, quarters, any_way):
    stored = np.ascontiguousarray(np.rot90(picture, quarters))
    view, (face,) = look(stored, Dots(any_way=any_way))
    box, landmarks = mapped(view, face)

    assert view.turn == 90 * quarters and is_upright(face.landmarks)
    for (x, y), colour in zip(landmarks, COLOURS, strict=True):
        assert stored[round(float(y)), round(float(x))].tolist() == list(colour)
    assert box[:2] == tuple(landmarks.min(axis=0) - 10) and box[2:] == tuple(landmarks.max(axis=0) + 11)


def test_a_turn_that_is_given_is_the_only_look(picture):
    detector = Dots()
    assert look(picture, detector, turn=180)[1] == [] and detector.looks == 1
    assert look(picture, detector, turn=0)[1] != []


def test_a_face_that_fills_its_picture_is_found_with_room_around_it(picture):
    tight = picture[30:80, 20:70]
    view, (face,) = look(tight, Dots(room=5))
    box, landmarks = mapped(view, face)

    assert view.border and not view.turn
    np.testing.assert_allclose(landmarks, POINTS - [20, 30], atol=1e-4)
    assert box == (0, 0, 50, 50)


def test_where_no_view_shows_a_face_there_is_none():
    detector = Dots()
    view, faces = look(np.zeros((50, 40, 3), np.uint8), detector)
    assert view.is_picture and faces == [] and detector.looks == 5


def test_a_whole_picture_is_one_face_with_found_or_usual_landmarks(picture):
    tight = picture[30:80, 20:70]
    (found,) = WholePicture(Dots(room=5).detect).detect(tight)
    (usual,) = WholePicture(lambda _: []).detect(tight)

    assert found.box.as_tuple() == usual.box.as_tuple() == (0, 0, 50, 50)
    np.testing.assert_allclose(found.landmarks, POINTS - [20, 30], atol=1e-4)
    assert is_upright(usual.landmarks) and 0 < usual.landmarks.min() < usual.landmarks.max() < 50
    assert look(tight, WholePicture(lambda _: []))[0].is_picture
