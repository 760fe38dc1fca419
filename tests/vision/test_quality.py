import json
from importlib import resources
from itertools import pairwise

import cv2
import numpy as np
import pytest

from mien.alignment import TEMPLATES, align
from mien.drawing import draw_face
from mien.types import Box, Reason
from mien.vision.quality import MEASURES, assess, features, measure

SIDE, POINTS = TEMPLATES["dlib-150"][0], np.array(TEMPLATES["dlib-150"][1])
GOOD = {"side": 120, "sharpness": -0.3, "brightness": 0.5, "contrast": 0.22, "yaw": 0.02, "pitch": 0.55, "score": 0.95}


def judged(image, landmarks, box, score=0.95):
    crop = align(image, landmarks, points=POINTS, side=SIDE)
    return assess(measure(crop, landmarks.astype(np.float32), box, score))


def shrunk(face, factor):
    """Reduce a drawn face's picture."""
    size = round(face.image.shape[0] / factor)
    factor = face.image.shape[0] / size
    image = cv2.resize(face.image, (size, size), interpolation=cv2.INTER_AREA)
    return image, face.landmarks / factor, Box(*(edge / factor for edge in face.box.as_tuple()))


def never_rises(scores, tolerance=1e-9):
    return all(later <= earlier + tolerance for earlier, later in pairwise(scores))


# The model


def test_the_shipped_model_is_complete_and_no_cost_is_negative():
    model = json.loads(resources.files("mien").joinpath("weights", "quality.json").read_text())

    assert set(model["best"]) == set(MEASURES)
    assert np.shape(model["cost"]) == (len(MEASURES), 2)
    assert np.min(model["cost"]) >= 0 and np.max(model["cost"]) > 0
    assert np.isfinite([model["intercept"], *model["best"].values()]).all()


def test_the_score_is_the_logistic_of_what_the_measures_cost():
    model = json.loads(resources.files("mien").joinpath("weights", "quality.json").read_text())
    measures = GOOD | {"side": 20, "brightness": 0.8, "pitch": 0.3, "score": 0.6}

    log_odds = model["intercept"]
    for name, (below, above) in zip(MEASURES, model["cost"], strict=True):
        value, best = measures[name], model["best"][name]
        if name in ("side", "contrast"):
            value, best = np.log2(value), np.log2(best)
        log_odds -= below * max(best - value, 0) + above * max(value - best, 0)

    assert assess(measures).score == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_each_measure_is_off_on_one_side_at_most():
    rows = features(GOOD | {"side": 20, "brightness": 0.8})

    assert rows.shape == (len(MEASURES), 2) and (rows >= 0).all() and (rows.min(axis=1) == 0).all()
    assert rows[MEASURES.index("side"), 0] > 0 and rows[MEASURES.index("brightness"), 1] > 0


@pytest.mark.parametrize("name", MEASURES)
def test_going_away_from_the_best_value_never_raises_the_score(name):
    model = json.loads(resources.files("mien").joinpath("weights", "quality.json").read_text())
    best = model["best"][name]
    lowest = {"side": 1, "sharpness": -2.5, "contrast": 1e-3}.get(name, 0)
    highest = {"side": 4000, "sharpness": 1, "pitch": 3, "yaw": 3}.get(name, 1)

    for end in (lowest, highest):
        assert never_rises([assess(GOOD | {name: value}).score for value in np.linspace(best, end, 40)])


@pytest.mark.parametrize("extreme", [-1e9, 0.0, 1e9])
def test_absurd_measures_still_score_between_zero_and_one(extreme):
    for name in MEASURES:
        assert 0 <= assess(GOOD | {name: extreme}).score <= 1


# Reasons


def test_a_good_face_has_no_reasons_against_it():
    quality = assess(GOOD)

    assert quality.reasons == () and quality.score > 0.75
    assert dict(quality.measures) == GOOD


@pytest.mark.parametrize(
    ("measures", "reason"),
    [
        ({"side": 14}, Reason.TOO_SMALL),
        ({"sharpness": -1.4}, Reason.BLURRED),
        ({"brightness": 0.03}, Reason.TOO_DARK),
        ({"brightness": 0.97}, Reason.TOO_BRIGHT),
        ({"contrast": 0.01}, Reason.LOW_CONTRAST),
        ({"yaw": 2.0}, Reason.EXTREME_POSE),
        ({"score": 0.5}, Reason.UNSURE_DETECTION),
    ],
    ids=lambda value: str(value),
)
def test_what_is_wrong_is_named(measures, reason):
    assert assess(GOOD | measures).reasons == (reason,)


def test_reasons_come_worst_first_and_once_each():
    small_and_blurred = assess(GOOD | {"side": 4, "sharpness": -1.3, "pitch": 12, "yaw": 5}).reasons

    assert small_and_blurred[0] is Reason.EXTREME_POSE
    assert small_and_blurred.count(Reason.EXTREME_POSE) == 1
    assert small_and_blurred.index(Reason.TOO_SMALL) < small_and_blurred.index(Reason.BLURRED)


# Measures, on drawn faces


def test_a_drawn_face_from_the_front_measures_as_such():
    face = draw_face(3, side=300)

    measures = judged(face.image, face.landmarks, face.box).measures

    assert measures["side"] == pytest.approx(face.box.side)
    assert measures["yaw"] < 0.1 and 0.3 < measures["pitch"] < 0.8
    assert measures["score"] == 0.95


def test_measures_of_a_plain_grey_crop_are_known():
    crop = np.full((SIDE, SIDE, 3), 51, np.uint8)

    measures = measure(crop, POINTS.astype(np.float32), Box(0, 0, 50, 72), 0.5)

    assert measures["brightness"] == pytest.approx(0.2) and measures["contrast"] == pytest.approx(0, abs=1e-6)
    assert measures["side"] == pytest.approx(60) and measures["yaw"] == pytest.approx(0, abs=1e-6)
    # Nose at 78.4 between eyes at 44.6 and mouth at 102.6.
    assert measures["pitch"] == pytest.approx(33.8 / 58)


@pytest.mark.parametrize("subject", range(4))
def test_shrinking_a_face_never_raises_its_score(subject):
    face = draw_face(subject, side=640)

    scores = [judged(*shrunk(face, factor)).score for factor in (1, 2, 4, 8, 16, 32)]

    # Brightness and contrast of a reduced picture differ by a hair.
    assert never_rises(scores, tolerance=0.002) and scores[-1] < scores[0] - 0.2


@pytest.mark.parametrize("subject", range(6))
def test_blurring_a_face_never_raises_its_score(subject):
    face = draw_face(subject, side=320)

    qualities = [
        judged(cv2.GaussianBlur(face.image, (0, 0), sigma) if sigma else face.image, face.landmarks, face.box)
        for sigma in (0, 1, 2, 4, 8, 16)
    ]

    assert never_rises([quality.score for quality in qualities])
    sharpness = [quality.measures["sharpness"] for quality in qualities]
    assert never_rises(sharpness) and sharpness[-1] < sharpness[0] - 0.6


@pytest.mark.parametrize("subject", [1, 2, 3])
def test_a_face_blurred_beyond_recognition_is_called_blurred(subject):
    face = draw_face(subject, side=320)
    smooth = cv2.GaussianBlur(face.image, (0, 0), 16)

    assert Reason.BLURRED in judged(smooth, face.landmarks, face.box).reasons
    assert Reason.BLURRED not in judged(face.image, face.landmarks, face.box).reasons


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("subject", range(3))
def test_turning_a_face_away_raises_its_yaw_and_never_its_score(subject, turn):
    face = draw_face(subject, side=320)
    crop = align(face.image, face.landmarks, points=POINTS, side=SIDE)

    qualities = []
    for yaw in (0, 15, 30, 45):
        turned = draw_face(subject, side=320, yaw=turn * yaw).landmarks
        qualities.append(assess(measure(crop, turned, face.box, 0.95)))

    yaws = [quality.measures["yaw"] for quality in qualities]
    assert yaws == sorted(yaws) and yaws[-1] > yaws[0] + 0.2
    assert never_rises([quality.score for quality in qualities])


@pytest.mark.parametrize("subject", range(3))
def test_a_face_and_its_mirror_image_score_alike(subject):
    face = draw_face(subject, side=320, yaw=20)
    mirrored = np.ascontiguousarray(face.image[:, ::-1])
    landmarks = (face.landmarks * [-1, 1] + [319, 0])[[1, 0, 2, 4, 3]]

    assert judged(mirrored, landmarks, face.box).score == pytest.approx(
        judged(face.image, face.landmarks, face.box).score, abs=0.01
    )


def test_darkness_and_glare_are_named():
    face = draw_face(1, side=320)

    dark = judged((face.image * 0.08).astype(np.uint8), face.landmarks, face.box)
    glaring = judged((face.image * 0.05 + 242).astype(np.uint8), face.landmarks, face.box)

    assert Reason.TOO_DARK in dark.reasons and Reason.TOO_BRIGHT in glaring.reasons
    assert Reason.LOW_CONTRAST in glaring.reasons
