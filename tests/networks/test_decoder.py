from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from mien.errors import ModelError
from mien.networks.decoder import PublishedDecoder
from mien.networks.tracing import onnx_bytes
from mien.networks.vae import VAE, VAENetConfig
from mien.training.storage import stored
from mien.training.vae.prior import fit_prior
from mien.training.vae.story import PublishedGenerator
from mien.vision.generator import Generator
from vision.generators import LABELS, save_generator

FIXTURE = Path(__file__).parents[1] / "training" / "fixtures" / "vae"


@pytest.mark.parametrize("precision", [None, "int8"])
def test_a_vaes_decoder_draws_as_its_file_does_however_the_weights_are_stored(precision):
    generator = Generator(FIXTURE)
    network = (FIXTURE / "model.onnx").read_bytes()
    latents = np.random.default_rng(0).standard_normal((3, generator.latents)).astype(np.float32)
    names = [generator.labels[k % len(generator.labels)] for k in range(3)]
    label = torch.tensor([generator.labels.index(name) for name in names])

    decoder = PublishedDecoder(network if precision is None else stored(network, precision))
    images = decoder(torch.from_numpy(latents), label)

    drawn = images.detach().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    # A stored weight of this size stays as it is, or is off by a few steps of 8 bits.
    assert np.abs(drawn - generator.decode(latents, expression=names)).max() < (0.51 if precision is None else 3)
    assert decoder.inputs == ("label",) and not list(decoder.parameters()) and not decoder.state_dict()


def test_what_a_decoder_is_told_beside_latents_counts(tmp_path):
    run = save_generator(tmp_path / "run", kind="vae", labels=LABELS, attributes=("hat",), components=((0, 1.0),))
    decoder, latents = PublishedDecoder((run / "model.onnx").read_bytes()), torch.zeros(2, 6)

    bare, hat = (decoder(latents, torch.tensor([0, 1]), torch.full((2, 1), on)) for on in (0.0, 1.0))

    assert set(decoder.inputs) == {"label", "attributes"}
    assert not torch.equal(bare[0], bare[1]) and not torch.equal(bare, hat)


def test_a_decoder_that_enlarges_its_features_draws_as_its_network_does():
    torch.manual_seed(0)
    net = VAENetConfig(side=32, encoder_side=24, colour=False, latents=4, widths=(8, 8, 8), last_width=8)
    model = VAE(net).eval()
    torch.nn.init.normal_(model.decoder.pixels.weight)
    prior = fit_prior(np.random.default_rng(0).standard_normal((50, 4)))
    inputs = {"noise": torch.randn(3, 4), "component": torch.zeros(3, dtype=torch.long)}
    names = {"inputs": list(inputs), "outputs": ["images", "latents"]}
    network = onnx_bytes(PublishedGenerator(model, prior, 0).eval(), *inputs.values(), **names)

    with torch.no_grad():
        drawn, wanted = PublishedDecoder(network)(inputs["noise"]), model.decode(inputs["noise"]).clamp(0, 255)

    assert wanted.std() > 1
    torch.testing.assert_close(drawn, wanted, atol=0.01, rtol=0)


def test_gradients_reach_the_latents():
    latents = torch.zeros(1, Generator(FIXTURE).latents, requires_grad=True)

    PublishedDecoder((FIXTURE / "model.onnx").read_bytes())(latents, torch.tensor([0])).square().mean().backward()

    assert latents.grad.abs().sum() > 0


def test_other_networks_are_refused_in_one_line(tmp_path):
    gan = save_generator(tmp_path / "gan")
    with pytest.raises(ModelError, match=r"decodes no latents\. Expected a VAE"):
        PublishedDecoder((gan / "model.onnx").read_bytes())
    model = onnx.load(FIXTURE / "model.onnx")
    last = model.graph.node[-1]
    last.output[:] = ["before"]
    model.graph.node.append(helper.make_node("Tan", ["before"], ["images"]))
    with pytest.raises(ModelError, match="layers of the kind Tan"):
        PublishedDecoder(model.SerializeToString())
