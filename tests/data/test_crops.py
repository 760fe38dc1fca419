import numpy as np
import pytest

from data.layouts import picture, write
from mien.alignment import TEMPLATES, align
from mien.data.crops import cut_crops, locate
from mien.data.samples import read_samples
from mien.drawing import draw_face
from mien.errors import DataError
from mien.images import encode_image
from mien.types import Box
from mien.vision.detector import Detection


class Planted:
    """Finds a face where it was told, in px of the picture as it came, and remembers what it was shown."""

    def __init__(self, landmarks, size, *, only_framed=False):
        self.landmarks, self.size, self.only_framed = np.float32(landmarks), size, only_framed
        self.shown = []

    def detect(self, image):
        self.shown.append(image.shape[:2])
        factor = max(96 / self.size, 1) if self.size < 160 else 1
        border = (image.shape[0] - round(self.size * factor)) // 2
        if self.only_framed and not border:
            return []
        marks = (self.landmarks + 0.5) * factor - 0.5 + border
        low, high = marks.min(axis=0), marks.max(axis=0)
        return [Detection(Box(*map(float, (*low, *high))), marks.astype(np.float32), 0.9)]


class Blind:
    def detect(self, image):
        return []


def one_picture(tmp_path, image):
    return read_samples(write(tmp_path, {"happy/a.png": encode_image(image, suffix=".png")}))


def test_a_small_picture_is_enlarged_and_framed_before_it_is_searched():
    face = draw_face(3, side=48)
    detector = Planted(face.landmarks, 48)

    assert locate(face.image, detector) == pytest.approx(face.landmarks, abs=1e-3)
    assert detector.shown == [(160, 160)]


def test_a_photograph_is_framed_only_where_nothing_is_found_without():
    face = draw_face(3, side=180)
    detector = Planted(face.landmarks, 180, only_framed=True)

    assert locate(face.image, detector) == pytest.approx(face.landmarks, abs=1e-3)
    assert detector.shown == [(180, 180), (300, 300)]


def test_a_face_that_does_not_fill_a_ready_made_crop_is_not_believed():
    face = draw_face(3, side=48)
    small = face.landmarks.mean(axis=0) + (face.landmarks - face.landmarks.mean(axis=0)) * 0.3
    assert locate(face.image, Planted(small, 48)) is None
    assert locate(face.image, Blind()) is None


def test_a_crop_is_what_run_time_cuts(tmp_path):
    face = draw_face(1, side=200, roll=9)
    crops = cut_crops(one_picture(tmp_path, face.image), side=40, colour=True, detector=Planted(face.landmarks, 200))

    side, points = TEMPLATES["fer-48"]
    expected = align(face.image, face.landmarks, points=np.array(points) * 40 / side, side=40)
    assert crops.faces[0] == pytest.approx(expected, abs=1)
    assert crops.found[0] and crops.readable[0] and crops.side == 40 and len(crops) == 1


def test_the_middle_of_the_canvas_is_the_crop(tmp_path):
    face = draw_face(1, side=200)
    samples = one_picture(tmp_path, face.image)
    crops = cut_crops(samples, side=48, frame=48, canvas=80, detector=Planted(face.landmarks, 200))

    assert crops.canvas.shape == (1, 80, 80) and crops.faces.shape == (1, 48, 48)
    middle = crops.canvas[0, 16:64, 16:64].astype(int)
    # The two may average a large picture down in different ways.
    assert np.abs(middle - crops.faces[0]).mean() < 4


def test_a_crop_that_leaves_its_picture_repeats_the_border(tmp_path):
    image = np.full((180, 180, 3), 200, np.uint8)
    edge = draw_face(0, side=180).landmarks - np.float32([80, 60])

    crops = cut_crops(one_picture(tmp_path, image), detector=Planted(edge, 180))

    assert (crops.faces == 200).all() and (crops.canvas == 200).all()


def test_without_a_face_the_middle_of_the_picture_stands_in(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 8:56] = draw_face(2, side=48).image
    crops = cut_crops(one_picture(tmp_path, image), side=48, colour=True, detector=Blind())

    assert not crops.found[0] and (crops.faces[0] == image[:, 8:56]).all()


def test_what_cannot_be_read_is_black_and_said(tmp_path):
    samples = read_samples(write(tmp_path, {"happy/a.png": picture(0), "happy/b.png": b"x", "sad/c.png": picture(1)}))
    seen = []

    crops = cut_crops(samples, detector=Blind(), progress=lambda: seen.append(1))

    assert crops.readable.tolist() == [True, False, True] and not crops.faces[1].any() and len(seen) == 3
    assert [name for name, _ in crops.unreadable] == ["happy/b.png"] and "b.png" in crops.unreadable[0][1]


def test_pictures_none_of_which_can_be_read_are_refused(tmp_path):
    samples = read_samples(write(tmp_path, {"happy/a.png": b"x"}))
    with pytest.raises(DataError, match="None of the 1 pictures"):
        cut_crops(samples, detector=Blind())


def test_crops_are_kept_until_a_picture_or_a_size_changes(tmp_path):
    samples = read_samples(write(tmp_path / "set", {"happy/a.png": picture(0), "sad/b.png": b"x"}))
    detector = Planted(draw_face(0, side=40).landmarks, 40)

    def cut(**sizes):
        looks = len(detector.shown)
        return cut_crops(samples, cache=tmp_path / "kept", detector=detector, **sizes), len(detector.shown) - looks

    first, looks = cut()
    again, looks_again = cut()
    assert looks > 0 and looks_again == 0
    for name in ("faces", "canvas", "whole", "found", "readable", "unreadable", "frame"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert cut(side=40)[1] > 0
    write(tmp_path / "set", {"happy/a.png": picture(1)})
    assert cut()[1] > 0
    assert not [p for p in (tmp_path / "kept").iterdir() if p.name.startswith(".")]


def test_a_damaged_cache_and_a_place_that_cannot_be_written_are_said_in_one_line(tmp_path):
    samples = one_picture(tmp_path / "set", draw_face(0, side=48).image)
    cut_crops(samples, cache=tmp_path / "kept", detector=Blind())
    (place,) = (tmp_path / "kept").iterdir()
    (place / "faces.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="are damaged"):
        cut_crops(samples, cache=tmp_path / "kept", detector=Blind())
    with pytest.raises(DataError, match="Cannot keep crops"):
        cut_crops(samples, cache=tmp_path / "set" / "happy" / "a.png", detector=Blind())
