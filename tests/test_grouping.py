import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import UsageError
from mien.grouping import cluster, group_faces
from mien.types import as_unit


def brute_force(vectors, threshold):
    """Merge the most similar pair of clusters until none is similar enough; slow, and obviously right."""
    clusters = [[i] for i in range(len(vectors))]
    similarity = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    while len(clusters) > 1:
        best, pair = -np.inf, None
        for i in range(len(clusters)):
            for j in range(i + 1, len(clusters)):
                mean = similarity[np.ix_(clusters[i], clusters[j])].mean()
                if mean > best:
                    best, pair = mean, (i, j)
        if pair is None or best < threshold:
            break
        clusters[pair[0]] += clusters.pop(pair[1])
    return {frozenset(c) for c in clusters}


def as_sets(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def crowd(rng, *, people, shots, noise, dimension=16):
    centres = as_unit(rng.standard_normal((people, dimension)))
    who = np.repeat(np.arange(people), shots)
    return as_unit(centres[who] + noise * rng.standard_normal((len(who), dimension))), who


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([-0.5, 0.0, 0.3, 0.6, 0.9]))
def test_agrees_with_brute_force(seed, threshold):
    rng = np.random.default_rng(seed)
    vectors, _ = crowd(rng, people=6, shots=4, noise=rng.uniform(0.05, 0.4), dimension=6)

    assert as_sets(cluster(vectors, threshold=threshold)) == brute_force(vectors, threshold)


def test_agrees_with_scipy_where_rows_are_squeezed_out(rng):
    from scipy.cluster.hierarchy import fcluster, linkage

    vectors, _ = crowd(rng, people=40, shots=12, noise=0.22)
    tree = linkage(vectors.astype(np.float64), "average", metric="cosine")
    assert as_sets(cluster(vectors, threshold=0.5)) == as_sets(fcluster(tree, 0.5, "distance"))


def test_finds_well_separated_people_whole(rng):
    vectors, who = crowd(rng, people=30, shots=5, noise=0.05, dimension=64)
    order = rng.permutation(len(who))
    assert as_sets(cluster(vectors[order], threshold=0.7)) == as_sets(who[order])


def test_one_look_alike_does_not_chain_two_people():
    # Between two groups at right angles one face is similar to both.
    a, b, between = [1.0, 0.0], [0.0, 1.0], [0.7071, 0.7071]
    labels = cluster(as_unit(np.array([a, a, a, between, b, b])), threshold=0.7)
    assert labels[0] != labels[-1]


def test_equal_vectors_end_in_one_cluster():
    assert cluster(np.tile(as_unit(np.ones((1, 4))), (300, 1)), threshold=0.9).max() == 0


def test_labels_run_from_the_largest_cluster_down(rng):
    vectors = np.eye(3, dtype=np.float32)[[2, 0, 0, 1, 1, 1]]
    assert cluster(vectors, threshold=0.5).tolist() == [2, 1, 1, 0, 0, 0]


def test_no_faces_make_no_clusters():
    assert len(cluster(np.empty((0, 128), np.float32), threshold=0.5)) == 0
    assert group_faces(np.empty((0, 128), np.float32), [], threshold=0.5).people == ()


def test_a_person_may_stand_in_a_collage_twice():
    vectors = np.tile(as_unit(np.ones((1, 4))), (3, 1))
    (person,) = group_faces(vectors, [0, 0, 1], threshold=0.5).people
    assert len(person.faces) == 3 and person.pictures == (0, 1)


def test_says_who_is_seen_with_whom():
    #     picture:     0     0     1     1     2     3
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 0, 1, 0, 2]]
    grouping = group_faces(vectors, [0, 0, 1, 1, 2, 3], threshold=0.5)
    assert [(p.id, p.pictures) for p in grouping.people] == [(1, (0, 1, 2)), (2, (0, 1)), (3, (3,))]
    assert grouping.together == ((1, 2, 2),)
    assert grouping.companions(2) == [(1, 2)] and grouping.companions(3) == []
    assert grouping.person_of() == {0: 1, 2: 1, 4: 1, 1: 2, 3: 2, 5: 3}


def test_the_most_typical_face_comes_first():
    vectors = as_unit(np.array([[1.0, 0.5], [1.0, 0.0], [1.0, -0.4]]))
    (person,) = group_faces(vectors, [0, 1, 2], threshold=0.3).people
    assert person.faces[0] == 1
    assert person.agreement == pytest.approx(float((vectors @ person.centre).mean()), abs=1e-6)


def test_poor_faces_are_left_unassigned():
    vectors = np.tile(as_unit(np.ones((1, 4))), (3, 1))
    grouping = group_faces(vectors, [0, 1, 2], threshold=0.5, quality=[0.9, 0.1, 0.8], min_quality=0.3)
    assert grouping.unassigned == (1,)
    assert sorted(grouping.people[0].faces) == [0, 2]


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="one quality a face, got 1 for 2 faces"):
        group_faces(np.eye(2, dtype=np.float32), [0, 1], threshold=0.5, quality=[1.0])
    with pytest.raises(UsageError, match="one picture a face, got 1 for 2 faces"):
        group_faces(np.eye(2, dtype=np.float32), [0], threshold=0.5)


@pytest.mark.parametrize("spoil", ["raw", "nan", "flat"])
def test_vectors_that_are_no_unit_vectors_are_refused(rng, spoil):
    vectors = as_unit(rng.standard_normal((6, 16)))
    if spoil == "raw":
        vectors = vectors * 30
    elif spoil == "nan":
        vectors[0, 0] = np.nan
    given = vectors[0] if spoil == "flat" else vectors
    with pytest.raises(UsageError, match=r"unit length|finite|shape"):
        group_faces(given, range(len(given)), threshold=0.9)
    with pytest.raises(UsageError, match=r"unit length|finite|shape"):
        cluster(given, threshold=0.9)
