import torch

from mien.networks.mapper import LatentMapper


def test_at_first_hardly_anything_moves_and_each_expression_has_its_own_way():
    torch.manual_seed(0)
    mean, deviation = torch.tensor([5.0, -3.0, 0.0]), torch.tensor([2.0, 0.5, 1.0])
    mapper = LatentMapper(mean, deviation, expressions=3, width=8)
    latents = mean + deviation * torch.randn(4, 3)

    here, there = mapper(latents, torch.zeros(4, dtype=torch.long)), mapper(latents, torch.full((4,), 2))

    assert ((here - latents) / deviation).abs().max() < 0.05
    assert not torch.equal(here, there)


def test_latents_are_seen_in_their_own_standard_deviations():
    torch.manual_seed(0)
    one = LatentMapper(torch.zeros(3), torch.ones(3), expressions=2, width=8)
    other = LatentMapper(torch.full((3,), 7.0), torch.full((3,), 4.0), expressions=2, width=8)
    other.load_state_dict(one.state_dict() | {"mean": other.mean, "deviation": other.deviation})
    latents, wanted = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])

    moved = other(latents * 4 + 7, wanted)

    torch.testing.assert_close((moved - 7) / 4, one(latents, wanted))
