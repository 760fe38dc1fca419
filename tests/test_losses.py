import math

import pytest
import torch
from torch.nn import functional

from mien.losses import (
    distillation,
    focal,
    free_bits,
    gaussian_kl,
    gaussian_log_likelihood,
    logit_adjusted,
    optimal_sigma,
    perceptual_distance,
    soft_cross_entropy,
)


@pytest.fixture
def logits():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.fixture
def labels():
    return torch.tensor([0, 3, 1, 1, 2, 0])


def test_one_hot_shares_give_the_usual_cross_entropy(logits, labels):
    shares = functional.one_hot(labels, 4).float()
    expected = functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, shares), expected)


def test_smoothing_is_that_of_pytorch(logits, labels):
    shares = functional.one_hot(labels, 4).float()
    expected = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(logits, shares, smoothing=0.1), expected)


def test_cross_entropy_is_least_where_the_network_answers_the_shares():
    shares = torch.tensor([[0.7, 0.2, 0.1]])
    exact, other = soft_cross_entropy(shares.log(), shares), soft_cross_entropy(torch.zeros(1, 3), shares)
    assert exact.item() == pytest.approx(-(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)), rel=1e-5)
    assert exact < other


@pytest.mark.parametrize("loss", [soft_cross_entropy, focal])
def test_an_unlabelled_row_weighs_nothing(loss, logits, labels):
    shares = functional.one_hot(labels, 4).float()
    shares[2] = torch.nan
    rows = loss(logits, shares)
    rows.sum().backward()
    assert rows[2] == 0 and (logits.grad[2] == 0).all()
    assert torch.isfinite(logits.grad).all() and (logits.grad[[0, 1, 3, 4, 5]] != 0).all()


def test_focal_loss_with_gamma_zero_is_cross_entropy(logits, labels):
    shares = functional.one_hot(labels, 4).float()
    torch.testing.assert_close(focal(logits, shares, gamma=0.0), soft_cross_entropy(logits, shares))


def test_focal_loss_agrees_with_an_example_worked_by_hand():
    p = 0.8
    logits = torch.tensor([[math.log(p), math.log(1 - p)]])
    assert focal(logits, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)


def test_focal_loss_of_a_sure_answer_has_a_finite_gradient():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    focal(logits, torch.tensor([[1.0, 0.0]]), gamma=0.5).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_undoes_a_prior():
    prior = torch.tensor([0.9, 0.1])
    balanced = torch.tensor([[0.3, -0.2]])
    adjusted = logit_adjusted(balanced, prior)
    odds = (adjusted[0, 0] - adjusted[0, 1]) - (balanced[0, 0] - balanced[0, 1])
    assert odds.item() == pytest.approx(math.log(9), rel=1e-5)
    assert torch.equal(logit_adjusted(balanced, prior, tau=0.0), balanced)
    assert torch.isfinite(logit_adjusted(balanced, torch.tensor([1.0, 0.0]))).all()


def test_distillation_is_zero_for_equal_answers_and_ignores_a_common_shift(logits):
    assert distillation(logits, logits.detach() + 5, temperature=3.0).abs().max() < 1e-5
    assert (distillation(logits, logits.detach().flip(0), temperature=3.0) > 0).any()


def test_distillation_agrees_with_pytorch(logits):
    teacher = logits.detach().roll(1, 0)
    expected = functional.kl_div((logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="none").sum(1) * 4
    torch.testing.assert_close(distillation(logits, teacher, temperature=2.0), expected)


# Variational autoencoders ---------------------------------------------------------------------------------------------


def test_gaussian_kl_is_that_of_pytorch():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)


def test_free_bits_take_the_gradient_from_latents_that_say_little():
    divergence = torch.tensor([[0.02, 3.0], [0.04, 1.0]], requires_grad=True)
    free = free_bits(divergence, 0.1)
    free.backward()
    assert free.item() == pytest.approx(0.1 + 2.0)
    assert divergence.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]
    assert free_bits(divergence, 0.0).item() == pytest.approx(0.03 + 2.0)


def test_no_other_sigma_makes_the_errors_likelier():
    squares = torch.tensor([3.0, 5.0, 10.0])
    best = optimal_sigma(squares, 50)
    highest = gaussian_log_likelihood(squares, 50, best).mean()
    for factor in (0.9, 1.1):
        assert gaussian_log_likelihood(squares, 50, factor * best).mean() < highest
    assert float(optimal_sigma(torch.zeros(2), 50)) == pytest.approx(math.exp(-6))


def test_gaussian_log_likelihood_is_that_of_pytorch():
    errors = torch.randn(4, 7)
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(errors).sum(1)
    torch.testing.assert_close(gaussian_log_likelihood(errors.square().sum(1), 7, 0.5), expected)


def test_a_perceptual_distance_looks_at_directions_not_at_lengths():
    maps = torch.rand(2, 3, 4, 4) + 0.1
    assert float(perceptual_distance([maps], [7 * maps]).abs().max()) < 1e-5
    across = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    across[0][0, 0], across[1][0, 1] = 2.0, 5.0
    assert float(perceptual_distance([across[0]], [across[1]])) == pytest.approx(2.0)
