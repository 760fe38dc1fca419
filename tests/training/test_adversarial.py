import math

import pytest
import torch

from mien.networks.gan import HALF_RANGE, Discriminator, DiscriminatorConfig, Sizes
from mien.training.adversarial import approximate_penalty, discriminator_loss, exact_penalty, generator_loss

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [-3.0]])


def softplus(x):
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize(
    ("game", "discriminator", "generator"),
    [
        ("relativistic", (softplus(-2) + softplus(-3)) / 2, (softplus(2) + softplus(3)) / 2),
        ("hinge", (0 + 1) / 2 + (1 + 0) / 2, 1.5),
        (
            "nonsaturating",
            (softplus(-2) + softplus(0) + softplus(0) + softplus(-3)) / 2,
            (softplus(0) + softplus(3)) / 2,
        ),
    ],
)
def test_losses_are_those_worked_out_by_hand(game, discriminator, generator):
    assert discriminator_loss(game, REAL, FAKE).item() == pytest.approx(discriminator)
    assert generator_loss(game, REAL, FAKE).item() == pytest.approx(generator)


@pytest.mark.parametrize("game", ["relativistic", "hinge", "nonsaturating"])
def test_the_players_pull_scores_in_opposite_directions(game):
    for loss, sign in ((discriminator_loss, 1), (generator_loss, -1)):
        fake = torch.zeros(2, 1, requires_grad=True)
        loss(game, torch.zeros(2, 1), fake).backward()
        assert (sign * fake.grad > 0).all()


def test_the_penalty_of_a_linear_score_is_its_squared_slope():
    weight = torch.randn(1, 3, 4, 4)
    pixels = (255 * torch.rand(5, 3, 4, 4)).requires_grad_()
    slope = (weight * HALF_RANGE).square().sum()

    def score(x):
        return (x * weight).sum((1, 2, 3))[:, None]

    torch.testing.assert_close(exact_penalty(score(pixels), pixels), slope)
    torch.manual_seed(0)
    many = pixels.detach()[:1].expand(4000, -1, -1, -1)
    torch.testing.assert_close(approximate_penalty(score, score(many), many), slope, rtol=0.1, atol=0)


def network():
    torch.manual_seed(0)
    net = Discriminator(DiscriminatorConfig(widths=(8, 16)), Sizes(8, 1))
    for weight in net.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return net


def test_both_penalties_agree_on_average():
    net, pixels = network(), (255 * torch.rand(16, 1, 8, 8)).requires_grad_()
    with torch.no_grad():
        estimates = [approximate_penalty(net, net(pixels), pixels) for _ in range(100)]
    assert torch.stack(estimates).mean().item() == pytest.approx(exact_penalty(net(pixels), pixels).item(), rel=0.1)


def test_the_exact_penalty_survives_bfloat16():
    net, pixels = network(), (255 * torch.rand(16, 1, 8, 8)).requires_grad_()
    wanted = exact_penalty(net(pixels), pixels).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = net(pixels)
    assert exact_penalty(scores, pixels).item() == pytest.approx(wanted, rel=0.05)
