import torch

from mien.networks.refiner import LatentRefiner


def test_at_first_nothing_moves():
    torch.manual_seed(0)
    latents, condition = 5 + 3 * torch.randn(4, 6), torch.eye(4)

    refiner = LatentRefiner(torch.full((6,), 5.0), torch.full((6,), 3.0), condition=4, width=8, blocks=2)

    assert torch.equal(refiner(latents, condition), latents)


def test_the_way_is_counted_in_standard_deviations_and_depends_on_the_condition():
    torch.manual_seed(0)
    deviation = torch.tensor([2.0, 0.5, 1.0])
    refiner = LatentRefiner(torch.zeros(3), deviation, condition=2, width=8, blocks=1)
    torch.nn.init.normal_(refiner.last.weight)
    latents, one, other = torch.randn(4, 3), torch.eye(2)[[0] * 4], torch.eye(2)[[1] * 4]

    moved = refiner(latents, one) - latents

    torch.testing.assert_close(moved, deviation * refiner.way(latents, one))
    assert not torch.allclose(refiner.way(latents, one), refiner.way(latents, other))
