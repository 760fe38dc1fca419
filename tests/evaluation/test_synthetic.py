import numpy as np
import pytest

from mien.errors import EvaluationError, UsageError
from mien.evaluation.synthetic import KEPT, FaceFilter, Limits, lacking, lookup_target


@pytest.fixture
def faces(rng):
    return rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)


def test_new_faces_that_show_what_was_asked_are_kept(faces):
    one = FaceFilter(faces[:40], Limits(radius=0.1))

    assert one.judge(faces[40:44], np.array([0.9, 0.39, 0.4, 1.0])) == [KEPT, "other expression", KEPT, KEPT]


def test_faces_that_are_too_plain_teach_nothing_and_are_left_out(faces):
    one = FaceFilter(faces[:40], Limits(most=0.98, radius=0.1))

    assert one.judge(faces[40:42], np.array([0.99, 0.9])) == ["too plain", KEPT]


def test_a_training_face_over_again_is_left_out_mirrored_too(faces):
    one = FaceFilter(faces[:40])

    copies = np.stack([faces[3], faces[5][:, ::-1], np.clip(faces[7].astype(int) // 2 + 30, 0, 255).astype(np.uint8)])

    assert one.judge(copies, None) == ["near a training face"] * 3


def test_a_face_kept_before_is_left_out(faces):
    one = FaceFilter(faces[:40], Limits(radius=0.1))
    slope = np.broadcast_to(np.arange(0, 256, 16, dtype=np.uint8)[:, None], (1, 16, 16, 3))

    assert one.judge(slope, None) == [KEPT]
    assert one.judge(slope, None) == ["near a kept face"]


def test_without_a_radius_no_face_is_too_near(faces):
    one = FaceFilter(faces[:40], Limits(radius=0))

    assert one.judge(faces[[3, 3]], None) == [KEPT, KEPT]


@pytest.mark.parametrize("limits", [{"least": 0.9, "most": 0.5}, {"radius": 60}, {"least": -0.1}])
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(UsageError, match="A face is kept between two probabilities"):
        Limits(**limits)


def test_a_filter_of_one_training_face_is_refused(faces):
    with pytest.raises(EvaluationError, match="2 training faces or more, got 1"):
        FaceFilter(faces[:1])


@pytest.mark.parametrize(("target", "count"), [("median", 20), ("largest", 90), ("35", 35)])
def test_classes_are_filled_up_to_what_is_asked_for(target, count):
    assert lookup_target({"a": 10, "b": 20, "c": 90}, target) == count


@pytest.mark.parametrize("target", ["mean", "0", "-3", "1.5"])
def test_another_target_is_refused(target):
    with pytest.raises(UsageError, match="'median', 'largest' or a number"):
        lookup_target({"a": 1}, target)


def test_only_classes_that_are_there_and_that_the_generator_draws_are_filled():
    labels = ["anger"] * 3 + ["fear"] * 10 + ["calm"]

    assert lacking(labels, ["anger", "fear", "disgust"], "10") == {"anger": 7}


def test_a_generator_of_other_classes_is_refused():
    with pytest.raises(EvaluationError, match="The generator draws anger; the data show calm"):
        lacking(["calm"], ["anger"], "median")
