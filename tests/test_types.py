import dataclasses
import math

import numpy as np
import pytest

from mien.types import EXPRESSIONS, Box, Embedding, Expression, Face, OperatingPoint, Quality, Reason, as_unit


def test_a_box_knows_its_size():
    box = Box(10, 20, 40, 100)

    assert (box.width, box.height, box.area) == (30, 80, 2400)
    assert box.side == pytest.approx(math.sqrt(2400))
    assert box.as_tuple() == (10, 20, 40, 100)


@pytest.mark.parametrize("corners", [(5, 0, 4, 9), (0, 5, 9, 4)], ids=["left of left", "above top"])
def test_a_box_has_its_corners_in_order(corners):
    with pytest.raises(AssertionError, match="corners in order"):
        Box(*corners)


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan])
def test_quality_lies_between_zero_and_one(score):
    with pytest.raises(AssertionError):
        Quality(score)


def test_an_embedding_is_a_unit_vector_that_nobody_can_change():
    embedding = Embedding("model", as_unit(np.array([3.0, 4.0])))

    np.testing.assert_allclose(embedding.vector, [0.6, 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        embedding.vector[0] = 1
    with pytest.raises(AssertionError, match="unit length"):
        Embedding("model", np.array([3, 4], np.float32))
    with pytest.raises(AssertionError, match="float32 vector"):
        Embedding("model", np.array([1.0, 0.0]))
    with pytest.raises(AssertionError, match="float32 vector"):
        Embedding("model", np.eye(2, dtype=np.float32))


def test_a_face_has_five_landmarks():
    with pytest.raises(AssertionError, match="five landmarks"):
        Face(Box(0, 0, 1, 1), np.zeros((4, 2), np.float32), 0.5)


def test_probabilities_of_an_expression_sum_to_one_and_hold_its_label():
    Expression("anger", {"anger": 0.7, "fear": 0.3})

    with pytest.raises(AssertionError, match="sum to one"):
        Expression("anger", {"anger": 0.7, "fear": 0.7})
    with pytest.raises(AssertionError, match="one of the classes"):
        Expression("joy", {"anger": 0.7, "fear": 0.3})


def test_the_eight_classes_stand_in_the_order_of_fer_plus():
    assert EXPRESSIONS[0] == "neutral" and EXPRESSIONS[-1] == "contempt" and len(set(EXPRESSIONS)) == 8


def test_rates_of_an_operating_point_lie_between_zero_and_one_or_are_unknown():
    rest = {"fmr_interval": (0, 1), "fnmr_interval": (0, 1), "num_genuine": 0, "num_impostor": 0}
    OperatingPoint(0.1, 0.5, 0.1, math.nan, **rest)

    with pytest.raises(AssertionError):
        OperatingPoint(0.1, 0.5, 1.1, 0.2, **rest)
    with pytest.raises(AssertionError):
        OperatingPoint(0.1, 0.5, 0.1, -0.2, **rest)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Box(0, 0, 1, 1).left = 5


def test_a_reason_is_its_code():
    assert Reason("too_small") is Reason.TOO_SMALL and f"{Reason.TOO_SMALL}" == "too_small"


def test_as_unit_scales_along_the_last_axis_and_leaves_zero_alone(rng):
    vectors = rng.normal(size=(2, 3, 5))
    vectors[1, 1] = 0

    unit = as_unit(vectors)

    norms = np.linalg.norm(unit, axis=-1)
    assert unit.dtype == np.float32 and norms[1, 1] == 0
    np.testing.assert_allclose(np.delete(norms.ravel(), 4), 1, rtol=1e-6)
    np.testing.assert_allclose(unit[0, 0] * np.linalg.norm(vectors[0, 0]), vectors[0, 0], rtol=1e-5)
