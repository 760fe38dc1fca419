"""Each decoder on outputs that were worked out by hand, as a function and behind a network that answers them."""

import numpy as np
import pytest

from mien import zoo
from mien.vision.detector import Detector, blazeface, centerface, retinaface, scrfd, yunet
from vision.planted import make, save_constant

SIZE = (64, 64)


def centerface_outputs():
    """One face: centre (15, 8), 8 wide and 12 high, so (11, 2, 19, 14); landmark k at k tenths of width and height."""
    heat, log_size, offset, marks = (np.zeros((1, c, 16, 16), np.float32) for c in (1, 2, 2, 10))
    heat[0, 0, 2, 3] = 0.9
    log_size[0, :, 2, 3] = np.log([3, 2])  # height and width in cells of 4 px
    offset[0, :, 2, 3] = -0.5, 0.25  # (2 - 0.5 + 0.5) * 4 = 8 and (3 + 0.25 + 0.5) * 4 = 15
    marks[0, :, 2, 3] = [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.6]
    return [heat, log_size, offset, marks]


CENTERFACE = [11, 2, 19, 14, 0.9, 11.8, 3.2, 12.6, 4.4, 13.4, 5.6, 14.2, 6.8, 15.8, 8.0]


def scrfd_outputs():
    """One face at stride 16, cell (row 1, column 2), second anchor: centre (32, 16)."""
    counts = {8: 128, 16: 32, 32: 8}
    scores, boxes, marks = ([np.zeros((n, c), np.float32) for n in counts.values()] for c in (1, 4, 10))
    row = (1 * 4 + 2) * 2 + 1
    scores[1][row] = 0.8
    boxes[1][row] = 1.0, 0.5, 1.5, 2.0  # to the left, top, right, bottom side
    marks[1][row] = [-0.5, -0.25, 0.5, -0.25, 0, 0.25, -0.25, 0.75, 0.25, 0.75]
    return [*scores, *boxes, *marks]


SCRFD = [16, 8, 56, 48, 0.8, 24, 12, 40, 12, 32, 20, 28, 28, 36, 28]


def yunet_outputs():
    """One face at stride 32, cell (row 1, column 0): centre (16, 40), 64 wide and 32 high."""
    counts = {8: 64, 16: 16, 32: 4}
    kinds, objects, boxes, marks = ([np.zeros((1, n, c), np.float32) for n in counts.values()] for c in (1, 1, 4, 10))
    row = 1 * 2 + 0
    kinds[2][0, row], objects[2][0, row] = 0.9, 0.4  # sqrt(0.36) = 0.6
    boxes[2][0, row] = 0.5, 0.25, np.log(2), 0
    marks[2][0, row] = np.arange(10) / 8
    return [*kinds, *objects, *boxes, *marks]


YUNET = [-16, 24, 48, 56, 0.6, 0, 36, 8, 44, 16, 52, 24, 60, 32, 68]


def blazeface_outputs():
    """One face at stride 32, cell (row 0, column 1), fourth of six anchors, after 16 cells of two: centre (48, 16)."""
    values, logits = np.zeros((1, 56, 16), np.float32), np.full((1, 56, 1), -20, np.float32)
    row = 32 + (0 * 2 + 1) * 6 + 3
    logits[0, row] = np.log(0.7 / 0.3)
    values[0, row] = [2, -1, 20, 10, -4, -2, 6, -2, 1, 0, 1, 3, 90, 90, 90, 90]  # centre, size, points; ears unused
    return [values, logits]


BLAZEFACE = [40, 10, 60, 20, 0.7, 44, 14, 54, 14, 49, 16, 49, 19, 49, 19]


def retinaface_outputs():
    """One face at stride 16, cell (row 1, column 2), second prior of 128 px, after 64 cells of two at stride 8."""
    boxes, scores, marks = (np.zeros((1, 168, columns), np.float32) for columns in (4, 2, 10))
    row = 128 + (1 * 4 + 2) * 2 + 1
    scores[0, row] = 0.2, 0.8
    boxes[0, row] = 0.625, -0.625, 5 * np.log(0.25), 5 * np.log(0.5)  # 8 px right and up of (40, 24); 32 by 64 px
    marks[0, row] = np.array([-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]) / 1.28
    return [boxes, scores, marks]


RETINAFACE = [32, -16, 64, 48, 0.8, 30, 14, 50, 14, 40, 24, 30, 34, 50, 34]

CASES = {
    "retinaface": (retinaface, retinaface_outputs, RETINAFACE),
    "centerface": (centerface, centerface_outputs, CENTERFACE),
    "scrfd": (scrfd, scrfd_outputs, SCRFD),
    "yunet": (yunet, yunet_outputs, YUNET),
    "blazeface": (blazeface, blazeface_outputs, BLAZEFACE),
}


@pytest.mark.parametrize("kind", CASES)
def test_the_one_face_is_where_hand_work_puts_it(kind):
    decode, outputs, expected = CASES[kind]

    (rows,) = decode(outputs(), SIZE, 0.5)

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", CASES)
def test_a_face_counts_above_the_threshold_and_not_below(kind):
    decode, outputs, expected = CASES[kind]
    score = expected[4]

    assert len(decode(outputs(), SIZE, score - 1e-3)[0]) == 1
    assert decode(outputs(), SIZE, score + 1e-3)[0].shape == (0, 15)


@pytest.mark.parametrize("kind", ["centerface", "blazeface"])
def test_pictures_of_a_batch_keep_their_own_faces(kind):
    decode, outputs, expected = CASES[kind]
    empty = [np.full_like(output, -20) for output in outputs()]

    batch = [np.concatenate([one, other, one]) for one, other in zip(empty, outputs(), strict=True)]
    found = decode(batch, SIZE, 0.5)

    assert [len(rows) for rows in found] == [0, 1, 0]
    np.testing.assert_allclose(found[1], [expected], rtol=1e-5)


@pytest.mark.parametrize("kind", CASES)
def test_of_two_heaped_boxes_the_surer_stays(kind):
    decode, outputs, expected = CASES[kind]
    made = outputs()
    # The neighbouring cell sees the same face, less sure.
    if kind == "centerface":
        heat, log_size, offset, marks = made
        heat[0, 0, 2, 4] = 0.6
        for output in (log_size, offset, marks):
            output[0, :, 2, 4] = output[0, :, 2, 3]
        offset[0, 1, 2, 4] -= 1
    elif kind == "blazeface":
        made[0][0, 32 + 6 + 4] = made[0][0, 32 + 6 + 3]
        made[1][0, 32 + 6 + 4] = 0.1
    else:
        level, row, other = (1, 13, 12) if kind == "scrfd" else (2, (0, 2), (0, 3))
        for output in made[level::3]:
            output[other] = output[row]
        made[level][other] = 0.52 if kind == "scrfd" else 0.8

    (rows,) = decode(made, SIZE, 0.5)

    np.testing.assert_allclose(rows[0], expected, rtol=1e-5, atol=1e-5)
    assert len(rows) == 1


@pytest.mark.parametrize("kind", CASES)
def test_behind_a_network_the_face_is_in_px_of_the_picture(kind, tmp_path, monkeypatch):
    _, outputs, expected = CASES[kind]
    path = save_constant(tmp_path / "m.onnx", outputs())
    monkeypatch.setattr(zoo, "path", lambda name: path)
    detector = Detector(make("detector", kind=kind, side=64), threshold=0.5, threads=1)

    (found,) = detector.detect(np.zeros((128, 128, 3), np.uint8))  # shown at half its size

    np.testing.assert_allclose(found.box.as_tuple(), np.clip(np.multiply(expected[:4], 2), 0, 128), rtol=1e-5)
    np.testing.assert_allclose(found.landmarks.ravel(), np.multiply(expected[5:], 2), rtol=1e-5, atol=1e-4)
    assert found.score == pytest.approx(expected[4])


@pytest.mark.parametrize("tall", [False, True])
def test_a_picture_whose_short_side_is_rounded_at_the_input_keeps_its_scale_both_ways(tmp_path, monkeypatch, tall):
    path = save_constant(tmp_path / "m.onnx", yunet_outputs() if tall else scrfd_outputs())
    monkeypatch.setattr(zoo, "path", lambda name: path)
    detector = Detector(make("detector", kind="yunet" if tall else "scrfd", side=64), threshold=0.5)
    # Shown with a short side of 9 px, since 9.28 is no number of pixels.
    width, height = (145, 1000) if tall else (1000, 145)

    (found,) = detector.detect(np.zeros((height, width, 3), np.uint8))

    scale = np.array([145 / 9, 1000 / 64] if tall else [1000 / 64, 145 / 9])
    np.testing.assert_allclose(found.landmarks, np.reshape((YUNET if tall else SCRFD)[5:], (5, 2)) * scale, rtol=1e-5)


def test_the_cards_threshold_holds_unless_another_is_given(tmp_path, monkeypatch):
    path = save_constant(tmp_path / "m.onnx", scrfd_outputs())  # a face of score 0.8
    monkeypatch.setattr(zoo, "path", lambda name: path)
    card = make("detector", kind="scrfd", side=64, threshold=0.85)
    image = np.zeros((64, 64, 3), np.uint8)

    assert Detector(card).detect(image) == []
    assert len(Detector(card, threshold=0.75).detect(image)) == 1
