"""Generated faces against real ones, where a face is a flat colour: its hue says who, its brightness what it shows."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.evaluation.generation import (
    Agreement,
    Faces,
    drawn_by,
    evaluate_generation,
    picked_from,
)
from mien.evaluation.plots import plot_distances
from mien.evaluation.spaces import FeatureSpace
from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.generator import Batch

CLASSES = ("anger", "happiness")
BRIGHT = np.array([80, 170])  # of a face of each class
SIDE = 16


def colours(rng, labels, *, spread=20.0, shift=0.0):
    """Faces of these labels with some texture."""
    flat = BRIGHT[labels][:, None] + shift + rng.normal(0, spread, (len(labels), 3))
    texture = rng.normal(0, 8, (len(labels), SIDE, SIDE, 3))
    return Faces(np.clip(flat[:, None, None] + texture, 0, 255).astype(np.uint8), np.asarray(labels))


def generator(*, spread=20.0, shift=0.0, swap=False):
    def draw(labels, seed):
        faces = colours(np.random.default_rng(1000 + seed), labels, spread=spread, shift=shift)
        return Faces(faces.images, 1 - faces.labels) if swap else faces

    return draw


def mean_colour(images):
    return images.mean(axis=(1, 2)).astype(np.float64)


MEANS = FeatureSpace("means", "means-1-00000000", mean_colour)


class Reader:
    """Sees anger in dark faces, and happiness in bright ones."""

    card = SimpleNamespace(id="bright-1-00000000", name="bright")
    side, template, grey, uncertain_below = 8, "fer-48", False, 0.0

    def __init__(self):
        self.heads = {"": ("happiness", "anger")}  # not in the order of the data

    def probabilities(self, crops, *, head=None):
        bright = crops.mean(axis=(1, 2, 3)) > BRIGHT.mean()
        return np.stack([bright, ~bright], axis=1).astype(float)


class Finder:
    """Finds a face in bright pictures."""

    def detect(self, image):
        if image.mean() < BRIGHT.mean():
            return []
        side = image.shape[0]
        points = side * np.array([[0.39, 0.4], [0.61, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]], np.float32)
        return [Detection(Box(0.3 * side, 0.3 * side, 0.7 * side, 0.7 * side), points, 0.9)]


@pytest.fixture
def real(rng):
    return colours(rng, np.arange(400) % 2)


def evaluate(draw, real, **options):
    settings = {"template": "face-64", "detector": Finder(), "classes": CLASSES, "reader": Reader(), "seeds": 2}
    return evaluate_generation(draw, real, [MEANS], **settings | options)


def mean(rounds, figure):
    return np.mean([getattr(each, figure) for each in rounds])


def test_a_perfect_generator_is_as_far_from_real_faces_as_they_are_from_each_other(real):
    (space,) = evaluate(generator(), real).spaces

    assert mean(space.generated, "frechet") < 4 * mean(space.floor, "frechet")
    assert abs(mean(space.generated, "kernel")) < 3 * mean(space.generated, "kernel_error") + 0.1
    assert mean(space.generated, "spread") == pytest.approx(1, abs=0.15)
    assert mean(space.generated, "coverage") > 0.9
    assert space.judges and space.dimension == 3


def test_faults_show_where_they_should(real):
    (good,) = evaluate(generator(), real).spaces
    (shifted,) = evaluate(generator(shift=40), real).spaces
    (collapsed,) = evaluate(generator(spread=1), real).spaces

    assert mean(shifted.generated, "frechet") > 20 * mean(good.generated, "frechet")
    assert mean(shifted.generated, "frechet") == pytest.approx(3 * 40**2, rel=0.2)
    assert mean(collapsed.generated, "spread") < 0.2
    assert mean(collapsed.generated, "recall") < 0.2 < mean(good.generated, "recall")


def test_reconstructions_are_as_near_as_their_error_says(real):
    def five_levels_off(faces):
        return np.where(faces.images < 128, faces.images + 5, faces.images - 5).astype(np.uint8)

    rebuilt = evaluate(generator(), real, reconstruct=five_levels_off).to_json()["reconstruction"]

    assert rebuilt["psnr"] == pytest.approx(20 * np.log10(255 / 5))
    assert rebuilt["n"] == 400
    assert evaluate(generator(), real).to_json()["reconstruction"] is None


def test_all_sets_are_of_one_size_and_the_reference_is_halved(real):
    report = evaluate(generator(), real)
    few = evaluate(generator(), real, n=60)

    assert (report.n, few.n) == (200, 60)
    # The bias of fewer faces raises the floor as well.
    assert mean(few.spaces[0].floor, "frechet") > mean(report.spaces[0].floor, "frechet")


def test_yardsticks_are_measured_on_other_real_faces_than_the_reference(real):
    seen = []

    def textures(images):
        seen.append(images)
        return images.astype(np.float64).std(axis=(1, 2))

    report = evaluate_generation(
        generator(), real, [FeatureSpace("textures", "", textures)], template="face-64", detector=Finder(), seeds=1
    )
    base, _, other, blurred, noisy = seen
    assert not {image.tobytes() for image in base} & {image.tobytes() for image in other}
    assert blurred.std(axis=(1, 2)).mean() < 0.8 * other.std(axis=(1, 2)).mean() < noisy.std(axis=(1, 2)).mean()
    (space,) = report.spaces
    assert set(space.yardsticks) == {"blur", "noise"}
    assert report.asked_is_seen is None and report.classifier is None


def test_what_was_asked_for_is_counted_by_class_beside_real_faces(real):
    report = evaluate(generator(), real)
    swapped = evaluate(generator(swap=True), real)

    assert report.asked_is_seen.share > 0.95 and report.real_is_seen.share > 0.95
    assert sum(report.asked_is_seen.of.values()) == 2 * report.n
    assert swapped.asked_is_seen.share < 0.05
    assert report.classifier == "bright-1-00000000"


def test_the_balanced_share_counts_each_class_alike():
    agreement = Agreement({"anger": 1, "happiness": 90}, {"anger": 10, "happiness": 90})

    assert agreement.share == 0.91
    assert agreement.balanced == pytest.approx(0.55)


def test_a_network_of_the_loss_is_measured_with_but_does_not_judge(real):
    report = evaluate(generator(), real, losses=("means", "bright"))

    assert not report.spaces[0].judges and not report.classifier_judges
    assert report.to_json()["spaces"]["means"]["judges"] is False


def test_faces_are_looked_for_in_generated_and_real_pictures(real):
    report = evaluate(generator(shift=200), real)

    assert report.found == (200, 200)
    assert 80 < report.real_found[0] < 120 and report.real_found[1] == 200


def test_the_record_is_json_with_an_interval_over_seeds(real, tmp_path):
    steps = []
    report = evaluate(generator(), real, seeds=3, progress=lambda: steps.append(1))
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))

    frechet = record["spaces"]["means"]["generated"]["frechet"]
    assert record["schema"] == "mien/evaluation-generation/1"
    assert len(frechet["seeds"]) == 3 and frechet["interval"][0] < frechet["mean"] < frechet["interval"][1]
    assert record["spaces"]["means"]["blur"]["frechet"]["mean"] >= 0
    assert len(steps) == (2 + 4) * 3 + 2 * report.n
    assert report.samples_per_s > 0
    plot_distances(report, tmp_path / "distances.png")
    assert (tmp_path / "distances.png").stat().st_size > 5000


def test_the_same_seeds_give_the_same_report(real):
    first, second = (evaluate(generator(), real).to_json() for _ in range(2))

    assert {**first, "samples_per_s": 0} == {**second, "samples_per_s": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 20}, "50 generated faces and twice as many real ones, got 20"), ({"seeds": 0}, "seeds should be 1")],
)
def test_too_little_is_refused(real, options, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(generator(), real, **options)


def test_a_generator_of_another_size_is_refused(real):
    def small(labels, seed):
        return Faces(np.zeros((len(labels), 8, 8, 3), np.uint8), labels)

    with pytest.raises(EvaluationError, match=r"Expected faces of shape \(200, 16, 16, 3\)"):
        evaluate(small, real)


def test_ready_faces_are_picked_without_replacement_and_by_class_where_there_are_enough(rng):
    ready = colours(rng, np.array([0] * 30 + [1] * 70))
    draw = picked_from(ready)

    few = draw(np.array([0] * 20 + [1] * 10), 0)
    assert np.bincount(few.labels).tolist() == [20, 10]
    assert len(np.unique(few.images.reshape(30, -1), axis=0)) == 30
    assert not np.array_equal(few.images, draw(np.array([0] * 20 + [1] * 10), 1).images)
    assert len(draw(np.array([0] * 50), 0)) == 50  # not enough of class 0: of any
    with pytest.raises(EvaluationError, match="101 generated faces are needed, there are 100"):
        draw(np.zeros(101, int), 0)


class Drawing:
    """Draws what it is asked for, its number as the grey."""

    labels = ("happiness", "anger")

    def __init__(self):
        self.asked = []

    def batches(self, n, request):
        self.asked.append(request)
        shown = request.expression or ["anger"] * n
        for first in range(0, n, 8):
            images = np.zeros((min(8, n - first), SIDE, SIDE, 3), np.uint8)
            yield Batch(first, images, tuple(shown[first : first + 8]))


def test_a_generator_is_asked_for_the_labels_of_the_reference_if_it_knows_them_all():
    model = Drawing()
    draw = drawn_by(model, CLASSES)

    asked = draw(np.array([0, 1, 1] * 4), 7)
    unknown = draw(np.array([0, -1, 1]), 8)

    assert asked.labels.tolist() == [0, 1, 1] * 4
    assert model.asked[0].expression == ["anger", "happiness", "happiness"] * 4
    assert (model.asked[0].seed, model.asked[1].seed) == (7, 8)
    assert model.asked[1].expression is None and unknown.labels.tolist() == [0, 0, 0]
