from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import EvaluationError
from mien.metrics.clustering import bcubed, pairwise

labelings = st.integers(2, 25).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-1, 5), min_size=n, max_size=n).map(np.array)] * 2)
)


def alike(labels, i, j):
    return i == j or (labels[i] == labels[j] and labels[i] >= 0)


@given(labelings)
def test_pairwise_agrees_with_looking_at_every_pair(case):
    truth, found = case
    pairs = list(combinations(range(len(truth)), 2))
    both = sum(alike(truth, *p) and alike(found, *p) for p in pairs)
    in_truth, in_found = (sum(alike(labels, *p) for p in pairs) for labels in case)

    result = pairwise(truth, found)

    assert result.precision == pytest.approx(both / in_found if in_found else 1.0)
    assert result.recall == pytest.approx(both / in_truth if in_truth else 1.0)


@given(labelings)
def test_bcubed_agrees_with_looking_at_every_sample(case):
    truth, found = case
    samples = range(len(truth))
    precision, recall = [], []
    for i in samples:
        mine, theirs = [j for j in samples if alike(found, i, j)], [j for j in samples if alike(truth, i, j)]
        shared = len(set(mine) & set(theirs))
        precision.append(shared / len(mine))
        recall.append(shared / len(theirs))

    result = bcubed(truth, found)

    assert (result.precision, result.recall) == (pytest.approx(np.mean(precision)), pytest.approx(np.mean(recall)))


@pytest.mark.parametrize("score", [pairwise, bcubed])
def test_names_of_clusters_do_not_matter(score):
    result = score(np.array([0, 0, 1, 2]), np.array(["x", "x", "z", "y"]))

    assert (result.precision, result.recall, result.f1) == (1.0, 1.0, 1.0)


def test_one_big_cluster_is_whole_but_impure():
    result = pairwise(np.array([0, 0, 1, 1]), np.zeros(4, int))

    assert (result.precision, result.recall, result.f1) == (pytest.approx(1 / 3), 1.0, pytest.approx(0.5))


def test_nothing_right_scores_zero():
    assert pairwise(np.array([0, 0, 1]), np.array([0, 1, 1])).f1 == 0.0


def test_refuses_labels_of_unequal_number():
    with pytest.raises(EvaluationError, match="got 2 and 3"):
        pairwise(np.zeros(2, int), np.zeros(3, int))
