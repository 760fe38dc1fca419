"""Small networks taught by flat faces whose brightness says what they show."""

import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.evaluation.generation import Faces
from mien.training.synthetic import train_on_synthetic

SIDE = 16


def faces(seed, count=60, *, swap=False):
    """Faces of two classes: bright on the upper half, or on the lower one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(60, 120, (count, SIDE, SIDE, 3))
    for image, label in zip(images, labels, strict=True):
        image[:8] += 100 * (label == 0)
        image[8:] += 100 * (label == 1)
    return Faces(images.astype(np.uint8), 1 - labels if swap else labels)


@pytest.mark.parametrize(("grey", "images"), [(False, 1536), (True, 4096)], ids=["colour", "grey"])
def test_faces_that_show_what_they_are_labelled_with_teach_as_well_as_real_ones(grey, images):
    taught = train_on_synthetic(faces(0), faces(1), faces(2), classes=2, images=images, grey=grey)

    assert taught.n == 60 and taught.images == images
    assert taught.accuracy[0] > 0.8 and taught.real_accuracy[0] > 0.8
    assert taught.ratio == pytest.approx(1, abs=0.2)


def test_faces_that_do_not_show_what_they_were_asked_for_teach_nothing():
    taught = train_on_synthetic(faces(0, swap=True), faces(1), faces(2), classes=2, images=2048)

    assert taught.accuracy[0] < 0.2 and taught.macro_f1[0] < 0.2
    assert taught.ratio < 0.2


def test_the_same_seed_teaches_the_same():
    first, second = (train_on_synthetic(faces(0), faces(1), faces(2), classes=2, images=128) for _ in range(2))

    assert first == second


def test_faces_without_a_label_are_left_out():
    bare = Faces(np.zeros((20, SIDE, SIDE, 3), np.uint8), np.full(20, -1))
    mixed = Faces(
        *(np.concatenate(parts) for parts in ((faces(0).images, bare.images), (faces(0).labels, bare.labels)))
    )

    taught, without = (
        train_on_synthetic(some, faces(1), faces(2), classes=2, images=128) for some in (mixed, faces(0))
    )

    assert taught.accuracy == without.accuracy


def test_a_class_that_is_hardly_there_is_refused():
    with pytest.raises(EvaluationError, match=r"needs 2 generated faces of every class, got \[30, 30, 0\]"):
        train_on_synthetic(faces(0), faces(1), faces(2), classes=3)


def test_faces_without_labels_cannot_test():
    blank = Faces(faces(2).images, np.full(60, -1))
    with pytest.raises(EvaluationError, match="tested on real ones with labels"):
        train_on_synthetic(faces(0), faces(1), blank, classes=2)
