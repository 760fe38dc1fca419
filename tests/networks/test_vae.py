from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mien.errors import UsageError
from mien.networks import VAE, VAENetConfig
from mien.networks.vae import condition_vector

SMALL = VAENetConfig(side=16, latents=6, widths=(8, 16), last_width=8)


@pytest.mark.parametrize("colour", [True, False])
def test_pictures_go_there_and_back_in_their_own_shape(colour):
    torch.manual_seed(0)
    model = VAE(VAENetConfig(side=16, colour=colour, latents=6, widths=(8, 16)), condition=0)
    images = torch.rand(3, 3 if colour else 1, 16, 16) * 255
    mean, log_variance = model(images)
    assert mean.shape == log_variance.shape == (3, 6)
    assert model.decode(mean).shape == images.shape


def test_a_fresh_posterior_is_near_the_prior():
    torch.manual_seed(0)
    mean, log_variance = VAE(SMALL).encode(torch.rand(20, 3, 16, 16) * 255)
    assert mean.abs().max() < 1 and log_variance.abs().max() < 1


def test_posterior_and_pixels_are_float32_under_autocast():
    model = VAE(SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, log_variance = model.encode(torch.rand(2, 3, 16, 16) * 255)
        images = model.decode(mean)
    assert mean.dtype == log_variance.dtype == images.dtype == torch.float32


def test_the_decoder_heeds_what_it_is_told_and_the_encoder_is_told_nothing():
    torch.manual_seed(0)
    model = VAE(SMALL, condition=3)
    z = torch.randn(1, 6).expand(3, -1)
    images = model.decode(z, condition_vector(torch.arange(3), 3, None))
    assert (images[0] - images[1]).abs().max() > 0.1
    assert all("film" not in name for name, _ in model.encoder.named_parameters())


def test_labels_and_attributes_are_told_side_by_side():
    attributes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert condition_vector(torch.tensor([2, 0]), 3, attributes).tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    assert condition_vector(None, 0, attributes).tolist() == attributes.tolist()
    assert condition_vector(None, 0, None) is None


def test_a_side_that_cannot_be_halved_so_often_is_refused():
    with pytest.raises(UsageError, match="multiple of 16 px, got 40"):
        VAENetConfig(side=40, widths=(8, 8, 8, 8))


def test_an_encoder_of_another_side_sees_pictures_of_that_side():
    torch.manual_seed(0)
    small, large = VAE(SMALL), VAE(replace(SMALL, side=32, encoder_side=16))
    large.load_state_dict(small.state_dict())  # every weight has the same shape
    images = torch.rand(2, 3, 16, 16) * 255
    doubled = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    for ours, theirs in zip(large.encode(doubled), small.encode(images), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert (large.encode(255 - doubled)[0] - small.encode(images)[0]).abs().max() > 1e-3


def test_a_decoder_begun_as_that_of_a_smaller_side_draws_its_pictures_enlarged():
    torch.manual_seed(0)
    config = replace(SMALL, widths=(16, 16, 16), side=32)
    small, large = VAE(config), VAE(replace(config, side=64, encoder_side=32))
    large.load_state_dict(small.state_dict())
    latents = torch.randn(4, 6)
    with torch.no_grad():
        expected = functional.interpolate(small.decode(latents), size=(64, 64), mode="bilinear")
        drawn = large.decode(latents)

    assert drawn.shape == (4, 3, 64, 64)
    # Of what differs between pictures and places, nearly all is the same.
    error = (drawn - expected).square().mean() / (expected - expected.mean()).square().mean()
    assert error < 0.3


def test_a_side_of_the_encoder_that_cannot_be_halved_so_often_is_refused():
    with pytest.raises(UsageError, match=r"multiple of 4 px, got 18\. Set net\.encoder_side"):
        replace(SMALL, encoder_side=18)


SPATIAL = VAENetConfig(side=32, latents=64, widths=(8, 16, 16), last_width=8, spatial=True)


def test_spatial_latents_keep_their_place():
    torch.manual_seed(0)
    model = VAE(SPATIAL, condition=2)
    images = torch.rand(1, 3, 32, 32) * 255
    told = torch.tensor([[1.0, 0.0]])
    mean, log_variance = model.encode(images)
    assert SPATIAL.places == 16 and mean.shape == log_variance.shape == (1, 64)

    corner = images.clone()
    corner[..., :6, :6] = 0
    moved = (model.encode(corner)[0] - mean).view(4, 4, 4).abs().amax(dim=0)
    assert moved[0, 0] > 3 * moved[3, 3]

    changed = mean.clone().view(1, 4, 4, 4)
    changed[..., 0, 0] += 3
    apart = (model.decode(changed.flatten(1), told) - model.decode(mean, told)).abs()[0].amax(dim=0)
    assert apart[:4, :4].max() > 3 * apart[-4:, -4:].max()


def test_latents_that_fill_no_map_are_refused():
    with pytest.raises(UsageError, match=r"map of 4 x 4 places.* is a multiple of 16, got 60"):
        VAENetConfig(side=32, latents=60, widths=(8, 16, 16), spatial=True)
