import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mien.training.vae.prior import Prior, fit_prior, shrunk


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sampled(prior, n, rng):
    which = rng.choice(len(prior), n, p=prior.weights)
    noise = rng.normal(size=(n, prior.means.shape[1], 1))
    return prior.means[which] + (prior.factors[which] @ noise)[..., 0]


def test_log_density_agrees_with_scipy(rng):
    prior = fit_prior(rng.normal(size=(400, 3)) * [1, 2, 3], components=2)
    points = rng.normal(size=(5, 3))
    slow = sum(
        weight * multivariate_normal(mean, factor @ factor.T).pdf(points)
        for weight, mean, factor in zip(prior.weights, prior.means, prior.factors, strict=True)
    )
    assert np.allclose(np.exp(prior.log_density(points)), slow)


def test_two_clusters_are_found(rng):
    points = np.concatenate([rng.normal(-4, 0.5, size=(300, 2)), rng.normal(3, 1.0, size=(600, 2))])
    prior = fit_prior(points, components=2)
    order = prior.means[:, 0].argsort()
    assert np.allclose(prior.means[order], [[-4, -4], [3, 3]], atol=0.2)
    assert np.allclose(prior.weights[order], [1 / 3, 2 / 3], atol=0.02)
    drawn = sampled(prior, 4000, rng)
    assert np.allclose(np.cov(drawn.T), np.cov(points.T), rtol=0.1)


def test_each_class_has_its_own_components_and_its_share_of_the_weight(rng):
    points = rng.normal(size=(300, 2))
    labels = np.repeat([0, 2], [200, 100])
    points[labels == 2] += 5
    prior = fit_prior(points, labels, components=3)
    assert set(prior.labels.tolist()) == {0, 2}
    assert prior.weights.sum() == pytest.approx(1)
    assert prior.weights[prior.labels == 2].sum() == pytest.approx(1 / 3)
    there, elsewhere = (
        prior.log_density(points[-2:], np.array([2, 2])),
        prior.log_density(points[-2:], np.array([0, 0])),
    )
    assert (there > elsewhere + 5).all()


def test_a_class_of_two_points_borrows_the_spread_of_all(rng):
    points = np.concatenate([rng.normal(size=(500, 20)), rng.normal(size=(2, 20)) + 3])
    prior = fit_prior(points, np.repeat([0, 1], [500, 2]))
    factor = prior.factors[prior.labels == 1][0]
    assert (prior.labels == 1).sum() == 1
    assert np.allclose(np.diag(factor @ factor.T), 1, atol=0.3)


def test_a_point_far_from_all_others_makes_no_component_of_its_own(rng):
    lonely = np.array([[60.0, -60.0]])
    prior = fit_prior(np.concatenate([rng.normal(size=(600, 2)), lonely]), components=5)
    assert len(prior) > 1 and prior.weights.min() * 601 >= 8
    assert np.square(prior.means - lonely).sum(axis=1).min() > 40**2

    target = np.diag([1.0, 2.0])
    assert np.array_equal(shrunk(np.zeros((1, 2)), np.zeros((2, 2)), target), target)


def test_few_points_are_shrunk_much_and_many_hardly(rng):
    truth = np.diag([4.0, 1.0, 1.0, 1.0])
    errors = {}
    for n in (6, 5000):
        points = rng.multivariate_normal(np.zeros(4), truth, size=n)
        own = points.T @ points / n
        nearer = shrunk(points, own, np.eye(4))
        errors[n] = np.abs(nearer - own).max() / np.abs(np.eye(4) - own).max()
    assert errors[6] > 10 * errors[5000]


def test_the_same_seed_fits_the_same_prior(rng):
    points = rng.normal(size=(200, 4))
    first, second = fit_prior(points, seed=3), fit_prior(points, seed=3)
    assert isinstance(first, Prior) and np.array_equal(first.factors, second.factors)


def test_a_fit_describes_points_held_out_better_than_a_standard_normal(rng):
    mixing = rng.normal(size=(6, 6))
    points, held_out = rng.normal(size=(600, 6)) @ mixing, rng.normal(size=(200, 6)) @ mixing
    prior = fit_prior(points, components=3)
    normal = multivariate_normal(np.zeros(6)).logpdf(held_out)
    assert prior.log_density(held_out).mean() > normal.mean() + 1
