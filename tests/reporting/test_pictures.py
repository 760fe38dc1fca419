import numpy as np
import pytest

from mien.drawing import draw_scene
from mien.reporting import annotate, colour_of, contact_sheet, thumbnail
from mien.types import Box, Face


def face(left, top, right, bottom):
    w, h = right - left, bottom - top
    points = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
    return Face(Box(left, top, right, bottom), np.float32([[left + x * w, top + y * h] for x, y in points]), 0.9)


@pytest.fixture
def grey():
    return np.full((300, 400, 3), 128, np.uint8)


def changed(before, after):
    return np.abs(after.astype(int) - before).max(axis=2) > 20


def test_a_box_is_drawn_around_the_face_and_not_inside_it(grey):
    marked = changed(grey, annotate(grey, [face(100, 80, 200, 200)], landmarks=False))
    assert marked[78:83, 140].any() and marked[198:203, 140].any()
    assert marked[140, 98:103].any() and marked[140, 198:203].any()
    assert not marked[100:180, 115:185].any() and not marked[:70].any()


def test_landmarks_are_dotted(grey):
    seen = face(100, 80, 200, 200)
    marked = changed(grey, annotate(grey, [seen]))
    assert all(marked[round(float(y)), round(float(x))] for x, y in seen.landmarks)


def test_the_picture_itself_is_left_alone(grey):
    before = grey.copy()
    annotate(grey, [face(100, 80, 200, 200)], ["a label"])
    assert np.array_equal(grey, before)


def test_a_label_stays_inside_the_picture_wherever_the_face_is(grey):
    plain = [face(-20, -10, 60, 70), face(340, 240, 420, 330), face(0, 0, 400, 300)]
    for seen in plain:
        with_label = annotate(grey, [seen], ["somebody with a rather long name that has to be cut short somewhere"])
        without = annotate(grey, [seen])
        assert changed(without, with_label).sum() > 300


def test_an_empty_label_draws_nothing(grey):
    seen = [face(100, 80, 200, 200)]
    assert np.array_equal(annotate(grey, seen, [""]), annotate(grey, seen))


def test_labels_of_neighbours_do_not_cover_each_other(grey):
    seen = [face(100, 100, 180, 190), face(110, 102, 190, 192)]
    both = annotate(grey, seen, ["first", "second"])
    first = annotate(grey, seen, ["first", ""])
    second = annotate(grey, seen, ["", "second"])
    base = annotate(grey, seen)
    # Together they mark more than either alone: the second moved out of the way.
    assert changed(base, both).sum() > 1.5 * max(changed(base, first).sum(), changed(base, second).sum())


def test_colours_follow_the_number(grey):
    seen = face(100, 80, 200, 200)
    for number in (0, 3, 13):
        image = annotate(grey, [seen], colours=[number], landmarks=False)
        assert (np.abs(image.astype(int) - colour_of(number)).max(axis=2) < 12).any()
    assert colour_of(3) == colour_of(13) != colour_of(4)


def test_a_large_picture_is_annotated_too():
    image = np.zeros((1500, 2400, 3), np.uint8)
    assert changed(image, annotate(image, [face(900, 400, 1400, 1000)], ["big"])).any()


def test_an_annotated_crowd_keeps_its_size():
    scene = draw_scene(range(12), width=500, height=300)
    seen = [Face(f.box, f.landmarks, 1.0) for f in scene.faces]
    assert annotate(scene.image, seen, [f"Person {i}" for i in range(12)]).shape == (300, 500, 3)


def test_a_thumbnail_is_the_middle_square(rng):
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 200
    assert (thumbnail(image, 20) > 150).all()
    assert thumbnail(image, 80).shape == (80, 80, 3)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (8, 8, 1), (9, 8, 2), (0, 1, 1)])
def test_a_contact_sheet_has_as_many_rows_as_it_needs(count, columns, rows):
    sheet = contact_sheet([np.zeros((30, 30, 3), np.uint8)] * count, columns=8, side=60)
    gap = 5
    assert sheet.shape == (gap + rows * (60 + gap), gap + columns * (60 + gap), 3)
    # The middle of each cell is dark where there is a picture.
    dark = [(sheet[gap + 30 + (i // 8) * 65, gap + 30 + (i % 8) * 65] < 10).all() for i in range(count)]
    assert all(dark)


def test_captions_and_title_take_their_room():
    crops = [np.zeros((30, 30, 3), np.uint8)] * 2
    plain = contact_sheet(crops, side=60)
    both = contact_sheet(crops, side=60, captions=["one", "a caption much too long for its place"], title="Two")
    assert both.shape[0] > plain.shape[0] and both.shape[1] == plain.shape[1]


def test_a_caption_too_long_for_one_line_takes_two_and_a_single_long_word_does_not():
    crops = [np.zeros((30, 30, 3), np.uint8)] * 2
    words = ("two", "a caption too long for it", "x" * 40)
    short, long, word = (contact_sheet(crops, side=60, captions=["one", text]) for text in words)
    assert short.shape == word.shape
    assert long.shape[0] > short.shape[0] and long.shape[1] == short.shape[1]
    ink = (long[66:, 70:] < 128).all(axis=2).any(axis=1).astype(int)  # rows of pixels with text, under the second
    assert (np.diff(ink) == 1).sum() == 2
