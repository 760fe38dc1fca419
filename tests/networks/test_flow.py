"""A flow in latents: the way from noise, and restarts on it. Fitting is tested with the training of VAEs."""

import pytest
import torch

from mien.errors import UsageError
from mien.networks.flow import LatentFlow, Restarts, VelocityNet, VelocityNetConfig

LATENTS = 3


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = VelocityNet(VelocityNetConfig(width=8, blocks=1, code=4), LATENTS)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return net.eval()


def flow_with(net, **restarts):
    return LatentFlow(net, torch.zeros(LATENTS), torch.ones(LATENTS), steps=4, restarts=Restarts(**restarts))


def test_points_of_the_late_moment_become_points_of_the_early_one():
    torch.manual_seed(0)
    latents = 3.0 + 0.1 * torch.randn(50_000, 1)
    restarts = Restarts(1, late=0.8, early=0.4)

    early = restarts.mixed(0.8 * latents + 0.2 * torch.randn_like(latents), torch.randn_like(latents))

    # As if noise had never been anything else: 0.4 of a latent and 0.6 of noise.
    assert early.mean() == pytest.approx(0.4 * 3, abs=0.02)
    assert early.var() == pytest.approx((0.4 * 0.1) ** 2 + 0.6**2, rel=0.03)


@torch.no_grad()
def test_new_noise_changes_a_sample_and_none_of_it_leaves_the_row_as_the_flow_alone_makes_it(net):
    noise, more = torch.randn(3, LATENTS), torch.randn(3, 2, LATENTS)
    more[1] = 0
    flow = flow_with(net, count=2)

    drawn, other = flow(noise, restarts=more), flow(noise, restarts=torch.roll(more, 1, dims=1))

    alone = flow._carried(flow._carried(noise, 0, 0.7, None, None), 0.7, 1, None, None)
    assert torch.allclose(drawn[1], alone[1], atol=1e-6)
    assert ((drawn - alone)[[0, 2]].abs().amax(dim=1) > 0.01).all()
    assert ((drawn - other)[[0, 2]].abs().amax(dim=1) > 0.01).all() and torch.equal(drawn[1], other[1])


@torch.no_grad()
def test_a_restart_goes_the_way_between_its_moments_once_more(net):
    noise, more = torch.randn(2, LATENTS), torch.randn(2, 1, LATENTS)
    flow = flow_with(net, count=1, late=0.75, early=0.5)

    late = flow._carried(noise, 0, 0.75, None, None)
    again = flow._carried(flow.restarts.mixed(late, more[:, 0]), 0.5, 0.75, None, None)

    assert torch.allclose(flow(noise, restarts=more), flow._carried(again, 0.75, 1, None, None), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 9}, "'restarts.count' is 0 to 8, got 9"),
        ({"late": 0.2}, "the first one below the second, got 0.3 and 0.2"),
        ({"early": 0.0}, "lie in"),
    ],
)
def test_restarts_that_make_no_sense_are_refused(given, words):
    with pytest.raises(UsageError, match=words):
        Restarts(**given)
