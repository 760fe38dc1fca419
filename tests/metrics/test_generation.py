import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.metrics.generation import (
    endless_frechet_distance,
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    sharpness,
    spread_ratio,
)


def with_moments(rng, mean, covariance, count=200):
    """Samples whose mean and covariance are exactly these."""
    x = rng.normal(size=(count, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)
    return x @ np.linalg.cholesky(covariance).T + mean


def frechet_by_the_book(m, n, c, d):
    """The formula as published, with SciPy's square root of a matrix."""
    from scipy.linalg import sqrtm

    return (m - n) @ (m - n) + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))


def test_frechet_distance_of_known_gaussians(rng):
    m, n = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.5, 1.0])
    c, d = (a @ a.T + np.eye(3) for a in rng.normal(size=(2, 3, 3)))

    got = frechet_distance(with_moments(rng, m, c), with_moments(rng, n, d, count=150))

    assert got == pytest.approx(frechet_by_the_book(m, n, c, d), rel=1e-9)


def test_frechet_distance_between_diagonal_gaussians_is_that_of_means_and_deviations(rng):
    real = with_moments(rng, np.zeros(2), np.diag([4.0, 9.0]))
    fake = with_moments(rng, np.array([1.0, -1.0]), np.diag([1.0, 25.0]))

    assert frechet_distance(real, fake) == pytest.approx(1 + 1 + (2 - 1) ** 2 + (3 - 5) ** 2)


@pytest.mark.parametrize("count", [20, 300], ids=["fewer samples than dimensions", "more"])
def test_frechet_distance_of_a_set_to_itself_is_nothing_and_to_a_shifted_one_the_shift(rng, count):
    features = rng.normal(size=(count, 64)) * np.geomspace(1, 1e-6, 64)

    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(features, features + 0.5) == pytest.approx(64 * 0.25)


def test_frechet_distance_does_not_care_which_set_is_real(rng):
    a, b = rng.normal(size=(30, 8)), rng.normal(2, 3, size=(50, 8))

    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_the_extrapolated_distance_takes_most_of_the_bias_off(rng):
    a, b = rng.normal(size=(2, 400, 20))

    biased, endless = frechet_distance(a, b), endless_frechet_distance(a, b)

    assert biased > 0.5
    assert abs(endless) < 0.25 * biased


def kernel_distance_by_pairs(a, b):
    """The unbiased estimate, one pair at a time."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    n = len(a)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    own = sum(kernel(s[i], s[j]) for s in (a, b) for i, j in pairs if i != j) / (n * (n - 1))
    return own - 2 * sum(kernel(a[i], b[j]) for i, j in pairs) / n**2


def test_kernel_distance_agrees_with_the_sum_over_pairs(rng):
    # The subsets are drawn, but with all samples alike in both halves it does not matter which.
    a, b = (np.repeat(rng.normal(size=(1, 3)), 8, axis=0) for _ in range(2))

    value, error = kernel_distance(a, b, size=4)

    assert value == pytest.approx(kernel_distance_by_pairs(a[:4], b[:4]))
    assert error == pytest.approx(0, abs=1e-12)


def test_kernel_distance_of_one_distribution_is_nothing_within_its_error(rng):
    values = [kernel_distance(*rng.normal(size=(2, 200, 6)), seed=seed) for seed in range(30)]
    estimates, errors = np.transpose(values)

    assert abs(estimates.mean()) < 3 * estimates.std() / np.sqrt(30)
    assert 0.7 < errors.mean() / estimates.std(ddof=1) < 1.4


def test_kernel_distance_sees_a_shift_of_the_mean(rng):
    value, error = kernel_distance(rng.normal(size=(300, 6)), rng.normal(1, 1, size=(300, 6)))

    assert value > 5 * error


def test_neighbourhoods_on_a_line_worked_by_hand():
    # With k = 1 the real neighbourhoods are [-1, 1], [0, 2], [1, 3], and [2, 18] around 10.
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    # Of these, 0.5 lies in two neighbourhoods, 2.5 in two, 20 and 21 in none.
    fake = np.array([[0.5], [2.5], [20.0], [21.0]])
    # The generated neighbourhoods are [-1.5, 2.5], [0.5, 4.5], [19, 21] and [20, 22]: 0, 1 and 2 are inside.

    got = neighbourhoods(real, fake, k=1)

    assert got.precision == 0.5
    assert got.density == (2 + 2) / 4
    assert got.coverage == 1.0
    assert got.recall == 0.75


def test_samples_of_one_distribution_are_dense_and_cover_each_other(rng):
    got = neighbourhoods(*rng.normal(size=(2, 500, 4)))

    assert got.precision > 0.9 and got.recall > 0.9
    assert got.density == pytest.approx(1, abs=0.1)
    assert got.coverage > 0.9


def test_a_collapsed_set_is_precise_and_covers_nothing(rng):
    real = rng.normal(size=(500, 4))
    fake = real[:1] + 1e-3 * rng.normal(size=(500, 4))

    got = neighbourhoods(real, fake)

    assert got.precision > 0.95
    assert got.recall < 0.01 and got.coverage < 0.05


def test_neighbourhoods_do_not_depend_on_how_distances_are_cut_into_blocks(rng, monkeypatch):
    real, fake = rng.normal(size=(90, 3)), rng.normal(0.5, 1, size=(70, 3))
    whole = neighbourhoods(real, fake)
    monkeypatch.setattr("mien.metrics.generation.BLOCK", 200)

    assert neighbourhoods(real, fake) == whole


def test_spread_is_measured_within_classes_not_between_them(rng):
    labels = np.repeat([0, 1], 100)
    centres = np.array([[0.0, 0.0], [50.0, 0.0]])[labels]
    real = centres + rng.normal(size=(200, 2))
    half = centres + rng.normal(0, 0.5, size=(200, 2))

    assert spread_ratio(real, half, labels, labels) == pytest.approx(0.5, abs=0.07)
    assert spread_ratio(real, centres, labels, labels) == 0
    assert spread_ratio(real, real, labels, labels) == 1


def test_spread_does_not_shrink_with_few_samples_of_a_class(rng):
    real, few = rng.normal(size=(2000, 16)), rng.normal(size=(2000, 16))
    one = np.zeros(2000, int)

    ratios = [spread_ratio(real, few[i : i + 4], one, one[:4]) for i in range(0, 800, 4)]

    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_blur_lowers_sharpness_and_noise_raises_it(rng):
    import cv2

    images = rng.integers(100, 150, (3, 24, 24, 3), dtype=np.uint8)
    blurred = np.stack([cv2.blur(image, (3, 3)) for image in images])

    assert sharpness(blurred) < 0.2 * sharpness(images)
    assert sharpness(images[..., 0]) > sharpness(images)  # averaging three channels takes noise off


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, neighbourhoods])
def test_features_that_cannot_be_compared_are_refused(measure, rng):
    good = rng.normal(size=(20, 3))

    with pytest.raises(EvaluationError, match="of one dimension"):
        measure(good, good[:, :2])
    with pytest.raises(EvaluationError, match=r"needs at least . samples a set, got 20 and 1"):
        measure(good, good[:1])
    with pytest.raises(EvaluationError, match="not finite"):
        measure(good, np.where(good > 1, np.nan, good))


def test_extrapolation_wants_equally_many(rng):
    with pytest.raises(EvaluationError, match="as many generated as real"):
        endless_frechet_distance(rng.normal(size=(40, 2)), rng.normal(size=(30, 2)))


def test_spread_of_classes_that_do_not_meet_is_refused(rng):
    x = rng.normal(size=(4, 2))
    with pytest.raises(EvaluationError, match="No class has two"):
        spread_ratio(x, x, np.zeros(4, int), np.ones(4, int))


def test_sharpness_of_no_picture_is_refused():
    with pytest.raises(EvaluationError, match="3 x 3"):
        sharpness(np.zeros((1, 2, 2), np.uint8))
