import numpy as np
import pytest

from mien.errors import DataError
from mien.training.verification import calibrated_cost, comparisons, judge
from mien.types import as_unit


def faces(rng, subjects=30, each=4, noise=0.3, dimension=16):
    who = np.repeat(np.arange(subjects), each)
    centres = rng.normal(size=(subjects, dimension))
    return as_unit(centres[who] + noise * rng.normal(size=(len(who), dimension)) * dimension**0.5), who


def test_all_genuine_and_all_impostor_pairs_of_a_small_set_are_compared():
    pairs = comparisons(np.array(["b", "a", "b", "a", "a"]))

    assert {tuple(pair) for pair in pairs.genuine.tolist()} == {(0, 2), (1, 3), (1, 4), (3, 4)}
    assert len(pairs.impostor) == 10 - 4
    assert (pairs.subjects[pairs.impostor[:, 0]] != pairs.subjects[pairs.impostor[:, 1]]).all()


def test_of_many_impostor_pairs_some_are_drawn(rng):
    _, who = faces(rng, subjects=50, each=2)
    pairs = comparisons(who, most=300)

    assert len(pairs.genuine) == 50 and len(pairs.impostor) == 300
    assert (who[pairs.impostor[:, 0]] != who[pairs.impostor[:, 1]]).all()


@pytest.mark.parametrize("who", [["a", "a", "a"], ["a", "b", "c"]], ids=["one subject", "one face each"])
def test_nothing_to_compare_is_refused(who):
    with pytest.raises(DataError, match="Verification needs at least 2 subjects and one with 2 faces"):
        comparisons(np.array(who))


def test_a_clear_gain_is_called_one(rng):
    clean, who = faces(rng, noise=0.2)
    noisy = as_unit(clean + 0.35 * rng.normal(size=clean.shape))

    verdict = judge(noisy, clean, who, built_on="before", fmr=1e-2)

    assert verdict.outcome == "better" and verdict.difference["tar_at_fmr_0.01"].interval[0] > 0
    assert verdict.sentence().startswith("It beats before: tar_at_fmr_0.01")
    assert judge(clean, noisy, who, built_on="before").outcome == "worse"


def test_no_change_is_no_gain(rng):
    vectors, who = faces(rng, noise=0.5)

    verdict = judge(vectors, 3 * vectors, who, built_on="before")

    assert verdict.outcome == "not shown" and "Use before" in verdict.sentence()
    assert all(figure.value == 0 and figure.interval == (0, 0) for figure in verdict.difference.values())


def test_noise_instead_of_noise_is_rarely_called_a_gain():
    outcomes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        centres, who = faces(rng, subjects=15, each=3, noise=0)
        first, second = (as_unit(centres + 0.3 * rng.normal(size=centres.shape)) for _ in range(2))
        outcomes.append(judge(first, second, who, built_on="before").outcome)

    assert outcomes.count("not shown") >= 10


def test_a_rate_that_cannot_be_seen_is_refused(rng):
    vectors, who = faces(rng, subjects=3)

    with pytest.raises(DataError, match=r"FMR 0.001 needs at least 1000 comparisons between subjects.* give 48"):
        judge(vectors, vectors, who, built_on="before", fmr=1e-3)


def test_the_cost_falls_as_subjects_move_apart(rng):
    near, who = faces(rng, noise=0.6)
    far, _ = faces(np.random.default_rng(0), noise=0.2)

    assert calibrated_cost(far, comparisons(who)) < calibrated_cost(near, comparisons(who)) < 1
