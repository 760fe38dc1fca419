"""Cohorts on points of a few dimensions, where crowded places are known."""

import io
from dataclasses import replace

import numpy as np
import pytest

from mien.errors import ModelError, UsageError
from mien.types import as_unit
from mien.vision import cohort as module
from mien.vision.cohort import Cohort, cohort_of, make_cohort, pooled
from mien.vision.conventions import EmbedderConvention


def around(rng, centre, spread, count):
    """Unit vectors about a centre; the smaller the spread, the more crowded the place."""
    return as_unit(as_unit(np.asarray(centre, float)) + rng.normal(0, spread, (count, len(centre))))


@pytest.fixture
def crowded_and_sparse(rng):
    """People of two looks: those of the first are close together, those of the second far apart."""
    return around(rng, [1, 0, 0, 0, 0, 0, 0, 0], 0.1, 2000), around(rng, [0, 0, 0, 0, 0, 0, 0, 1], 0.2, 2000)


def strangers(vectors):
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


def test_strangers_of_a_crowded_look_match_no_more_often_than_others(crowded_and_sparse):
    crowded, sparse = crowded_and_sparse
    cohort = make_cohort(np.concatenate([crowded[:1500], sparse[:1500]]))

    def rate_among(look, *, normalise):
        shown = [cohort.normalise(part[1500:]) if normalise else part[1500:] for part in (crowded, sparse)]
        threshold = np.quantile(np.concatenate([strangers(part) for part in shown]), 0.99)
        return float((strangers(shown[look]) >= threshold).mean())

    assert rate_among(0, normalise=False) > 20 * max(rate_among(1, normalise=False), 1e-4)
    assert rate_among(0, normalise=True) < 3 * rate_among(1, normalise=True)


def test_in_equally_crowded_places_distances_are_measured_in_units_of_the_crowding():
    cohort = Cohort(np.eye(4), neighbours=4, floor=0.1)
    one, other = np.array([[0.6, 0.8, 0, 0]], np.float32), np.array([[0.8, 0.6, 0, 0]], np.float32)

    assert cohort.distance(one).item() == pytest.approx(1 - 1.4 / 4)
    score = (cohort.normalise(one) @ cohort.normalise(other).T).item()
    assert 1 - score == pytest.approx((1 - 0.96) * 0.1 / 0.65, rel=1e-5)


def test_normalised_embeddings_are_unit_vectors_one_value_longer_and_can_be_undone(rng):
    people = around(rng, [1, 1, 1, 1], 0.5, 50)
    longer = Cohort(people, neighbours=5, floor=0.01).normalise(people)

    assert longer.shape == (50, 5) and longer.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(longer, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(Cohort.undo(longer), people, atol=1e-6)


def test_every_embedding_of_a_made_cohort_is_the_mean_of_several_people(rng):
    people = around(rng, np.eye(16)[0], 0.3, 400)

    cohort = make_cohort(people)

    assert 15 < len(cohort.vectors) <= 40
    assert float((people @ cohort.vectors.T).max()) < 0.9999, "a centre is a person"


def test_the_same_people_make_the_same_cohort(rng):
    people = around(rng, np.eye(8)[0], 0.3, 200)

    assert make_cohort(people).digest == make_cohort(people).digest != make_cohort(people[:150]).digest


def test_a_cohort_read_from_its_bytes_is_the_same(rng):
    cohort = make_cohort(around(rng, np.eye(8)[0], 0.3, 200))
    again = Cohort(np.load(io.BytesIO(cohort.to_bytes())), neighbours=cohort.neighbours, floor=cohort.floor)

    assert again.digest == cohort.digest


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        (np.ones((30, 4)), "All embeddings of the cohort are the same"),
        (np.full((30, 4), np.nan), "table of finite numbers"),
        (np.eye(4), "needs at least 20 embeddings, got 4"),
    ],
    ids=["equal", "not a number", "too few"],
)
def test_what_is_no_cohort_is_refused(vectors, sentence):
    with pytest.raises(ModelError, match=sentence):
        Cohort(vectors, neighbours=20, floor=0.1)


def test_too_few_people_make_no_cohort(rng):
    with pytest.raises(UsageError, match="at least 100 different people, got 99"):
        make_cohort(around(rng, np.eye(4)[0], 0.3, 99))


def test_embeddings_of_another_network_are_refused(rng):
    cohort = Cohort(around(rng, np.eye(4)[0], 0.3, 50), neighbours=5, floor=0.1)

    with pytest.raises(ModelError, match="have 4 values, these 8"):
        cohort.normalise(as_unit(rng.normal(size=(2, 8))))


def test_a_card_without_a_cohort_has_none():
    assert cohort_of(EmbedderConvention(template="arcface-112", side=112)) is None


def test_a_cohort_of_another_version_than_the_card_names_is_refused(rng, monkeypatch):
    cohort = make_cohort(around(rng, np.eye(4)[0], 0.3, 200))
    monkeypatch.setattr(module, "shipped_cohort", lambda name, neighbours, floor: cohort)
    facts = EmbedderConvention(
        template="arcface-112", side=112, cohort="x", cohort_sha256=cohort.digest, neighbours=20, floor=cohort.floor
    )

    assert cohort_of(facts) is cohort
    with pytest.raises(ModelError, match="damaged or of another version"):
        cohort_of(replace(facts, cohort_sha256="0" * 64))


def test_a_hundred_pictures_of_one_person_make_no_cohort():
    with pytest.raises(UsageError, match="hardly two look different"):
        make_cohort(np.tile(np.eye(4, dtype=np.float32)[:1], (150, 1)))


def test_a_pooled_template_is_a_unit_vector_in_the_mean_direction_and_one_sample_stays_as_it_is(rng):
    vectors = as_unit(rng.normal(size=(3, 16)))

    assert np.linalg.norm(pooled(vectors)) == pytest.approx(1)
    np.testing.assert_allclose(pooled(vectors[:1]), vectors[0], atol=1e-6)
    assert pooled(vectors, np.array([0.0, 5.0, 0.0])) == pytest.approx(vectors[1], abs=1e-6)
    assert float(pooled(vectors) @ as_unit(vectors.sum(axis=0))) > 0.97


def test_pooling_keeps_how_crowded_the_place_of_a_face_is():
    """Two directions apart, each with a last value of its own length: the mean of all values would double it."""
    first, second = np.array([1.0, 0.0, 1.0]), np.array([-0.5, np.sqrt(0.75), 1.0])

    template = pooled(as_unit(np.stack([first, second])))

    assert template[-1] / np.linalg.norm(template[:-1]) == pytest.approx(1)
