import pytest
import torch

from mien.errors import UsageError
from mien.networks.gan import (
    Discriminator,
    DiscriminatorConfig,
    FeatureDiscriminator,
    Generator,
    GeneratorConfig,
    PriorGenerator,
    Sizes,
)
from mien.networks.perceptual import ImageFeatures
from mien.networks.vae import VAE, VAENetConfig
from mien.zoo.convert import convert
from zoo.mobilenet import legacy_file, random_network

SIZES = Sizes(16, 1, classes=3, identity=5)
GENERATORS = {
    "linear": GeneratorConfig(widths=(8, 6, 4)),
    "basis": GeneratorConfig(widths=(8, 6, 4), base="basis"),
    "modulated": GeneratorConfig(widths=(8, 6, 4), modulate=True, blocks=2),
    "conditional batch norm": GeneratorConfig(widths=(8, 6, 4), modulate=True, norm="batch", output="tanh"),
    "dcgan": GeneratorConfig(arch="dcgan", widths=(8, 6), output="tanh"),
}
DISCRIMINATORS = {
    "plain": DiscriminatorConfig(widths=(4, 6, 8)),
    "spectral": DiscriminatorConfig(widths=(4, 6, 8), spectral=True),
    "spread": DiscriminatorConfig(widths=(4, 6, 8), minibatch_std=True),
    "dcgan": DiscriminatorConfig(arch="dcgan", widths=(4, 8)),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def asked(count, sizes=SIZES):
    label = torch.arange(count) % sizes.classes
    return {"label": label, "identity": torch.nn.functional.normalize(torch.randn(count, sizes.identity))}


@pytest.mark.parametrize("config", GENERATORS.values(), ids=list(GENERATORS))
def test_noise_label_and_identity_all_change_the_picture(config):
    generator = Generator(config, SIZES).eval()
    # The last convolutions of blocks begin as zero: as if something had been learned.
    for weight in generator.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    noise, told = torch.randn(2, config.latents), asked(2)

    drawn = generator(noise, **told)
    others = [
        generator(noise.flip(0), **told),
        generator(noise, **(told | {"label": told["label"].flip(0)})),
        generator(noise, **(told | {"identity": told["identity"].flip(0)})),
    ]

    assert drawn.shape == (2, 1, 16, 16) and drawn.dtype == torch.float32
    assert all((drawn - other).abs().amax((1, 2, 3)).min() > 1e-3 for other in others)
    assert config.output == "linear" or (drawn.min() >= 0 and drawn.max() <= 255)


@pytest.mark.parametrize("config", GENERATORS.values(), ids=list(GENERATORS))
def test_a_fresh_generator_draws_varied_grey_pictures_neither_flat_nor_wild(config):
    drawn = Generator(config, SIZES)(torch.randn(32, config.latents), **asked(32))
    assert 1 < drawn.std(0).mean() < 400


@pytest.mark.parametrize("arch", ["residual", "dcgan"])
def test_an_identity_weighs_as_much_as_the_noise_at_first(arch):
    sizes = Sizes(16, 1, identity=128)
    generator = Generator(GeneratorConfig(arch=arch, widths=(8, 6), latents=64), sizes)
    discriminator = Discriminator(DiscriminatorConfig(arch=arch, widths=(6, 64)), sizes)
    unit = torch.nn.functional.normalize(torch.randn(64, 128))
    for layer in (generator.identity, discriminator.wanted.identity):
        assert layer(unit).std().item() == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("config", DISCRIMINATORS.values(), ids=list(DISCRIMINATORS))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_scores_are_in_float32_and_every_weight_learns(config, precision):
    discriminator = Discriminator(config, SIZES)
    pixels = 255 * torch.rand(4, 1, 16, 16)
    with torch.autocast("cpu", dtype=precision, enabled=precision is torch.bfloat16):
        scores = discriminator(pixels, **asked(4))

    scores.square().sum().backward()

    assert scores.shape == (4, 1) and scores.dtype == torch.float32
    assert all(weight.grad is not None for weight in discriminator.parameters())


def test_what_was_asked_for_counts_as_much_as_conditioning_says():
    discriminator = Discriminator(DISCRIMINATORS["plain"], SIZES)
    pixels, told = 255 * torch.rand(4, 1, 16, 16), asked(4)
    other = told | {"label": (told["label"] + 1) % 3}

    none, half, full = (discriminator(pixels, **told, conditioning=weight) for weight in (0.0, 0.5, 1.0))

    assert torch.equal(none, discriminator(pixels, **other, conditioning=0.0))
    assert not torch.allclose(full, discriminator(pixels, **other))
    torch.testing.assert_close(half, (none + full) / 2)


def test_the_discriminator_is_told_how_much_pictures_differ():
    discriminator = Discriminator(DISCRIMINATORS["spread"], SIZES)
    maps, told = [], []
    discriminator.trunk.register_forward_hook(lambda layer, given, answer: maps.append(answer))
    discriminator.features.register_forward_pre_hook(lambda layer, given: told.append(given[0]))
    varied = 255 * torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        for pixels in (varied[:1].expand(4, -1, -1, -1), varied):
            discriminator(pixels, **asked(4))

    size = maps[0].shape[1:]
    alike, spread = (given.unflatten(1, (size[0] + 1, *size[1:]))[:, -1] for given in told)
    assert alike.max() < 1e-3
    expected = maps[1].var(0, unbiased=False).sqrt().mean()
    assert expected > 1e-3
    torch.testing.assert_close(spread, expected.expand(spread.shape), rtol=1e-3, atol=1e-5)


def test_a_score_of_a_patch_sees_its_patch_and_nothing_else():
    torch.manual_seed(0)
    sizes = Sizes(side=32, channels=3, classes=2)
    critic = Discriminator(DiscriminatorConfig(arch="patch", widths=(8, 8)), sizes).eval()
    pictures = torch.rand(2, 3, 32, 32) * 255
    other = pictures.clone()
    other[:, :, 16:] = 0
    label = torch.tensor([0, 1])

    scores, changed = critic(pictures, label, conditioning=0.0), critic(other, label, conditioning=0.0)

    assert scores.shape == (2, 64)
    same = (scores == changed).view(2, 8, 8)
    assert same[:, :3].all() and not same[:, 5:].any()
    assert not torch.equal(critic(pictures, label), critic(pictures, 1 - label))


def test_spectral_layers_stretch_no_input():
    discriminator = Discriminator(DISCRIMINATORS["spectral"], SIZES)
    for layer in discriminator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.parametrizations.weight.original.data *= 5  # as if learned
    for _ in range(40):  # one step of the power iteration each
        discriminator(255 * torch.rand(4, 1, 16, 16), **asked(4))

    discriminator.eval()
    layers = [layer for layer in discriminator.modules() if isinstance(layer, torch.nn.Conv2d)]
    largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in layers]
    torch.testing.assert_close(torch.stack(largest), torch.ones(len(largest)), rtol=0.05, atol=0)


def test_heads_on_a_frozen_network_learn_and_it_does_not(tmp_path):
    file = tmp_path / "mobilenet.onnx"
    file.write_bytes(convert("mobilenet", legacy_file(random_network().state_dict())))
    config = DiscriminatorConfig(arch="features", widths=(4,), enlarge=32)
    discriminator = FeatureDiscriminator(config, SIZES, ImageFeatures((1, 3), file=file))
    frozen = [value.clone() for value in discriminator.frozen.buffers()]
    pixels = (255 * torch.rand(3, 1, 16, 16)).requires_grad_()

    scores = discriminator.train()(pixels, **asked(3))
    scores.sum().backward()

    assert scores.shape == (3, 2)
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(frozen, discriminator.frozen.buffers(), strict=True))
    assert not any(key.startswith("frozen") for key in discriminator.state_dict())


def test_a_generator_begun_as_a_vae_decodes_as_it_does_and_draws_from_its_prior():
    vae = VAE(VAENetConfig(side=16, colour=False, latents=4, widths=(8, 8)), condition=2).eval()
    means = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    factors = torch.stack([torch.zeros(4, 4), 2 * torch.eye(4)])
    generator = PriorGenerator(vae, 2, means, factors).eval()
    noise, label = torch.randn(3, 4), torch.tensor([0, 1, 1])
    told = torch.eye(2)[label]

    with torch.no_grad():
        torch.testing.assert_close(generator(noise, label), vae.decode(noise, told))
        drawn = generator(noise, label, component=torch.tensor([0, 1, 2]))
        latents = torch.stack([noise[0], means[0], means[1] + 2 * noise[2]])
        torch.testing.assert_close(drawn, vae.decode(latents, told))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GeneratorConfig(widths=()), "at least one stage"),
        (lambda: GeneratorConfig(latents=0), "at least 1 latent"),
        (lambda: Generator(GeneratorConfig(widths=(8, 8, 8)), Sizes(18, 1)), "18 px cannot be halved 2 times"),
        (lambda: Discriminator(DiscriminatorConfig(widths=(4,) * 5), Sizes(16, 1)), "16 px cannot be halved 4 times"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()
