"""Run folders that an older version wrote: they open, and their trainings go on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien import zoo
from mien.networks import ExpressionNetConfig, expression_net
from mien.networks.flow import VelocityNetConfig
from mien.training import embedder, expression, gan, vae
from mien.training.config import load_config
from mien.training.run import read_log
from mien.training.vae.flow import FlowConfig
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Generator
from training.people import BlocksAnalyzer, base_card, write_people

FIXTURES = Path(__file__).parent / "fixtures"
CLASSES = ("neutral", "happiness", "surprise")


class Blind:
    def detect(self, image):
        return []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The old runs and what they learned from, in the working directory: the paths of their configs are relative."""
    shutil.copytree(FIXTURES, tmp_path / "old")
    (tmp_path / "old" / "drawn").rename(tmp_path / "old" / "data")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path / "old"
    torch.set_num_threads(threads)


def rest(cls, out):
    """The settings of an old run without the limit that stopped it."""
    return load_config(cls, out / "config.json", sets=["seconds=none"])


def ended(out):
    positions = [row["images"] for row in read_log(out)]
    return positions[0] < positions[-1] == json.loads((out / "config.json").read_text())["images"]


def test_an_old_expression_run_opens_and_goes_on(folder):
    _, heads = expression.load_expression_net(folder / "expression")
    reader = ExpressionReader(zoo.named(folder / "expression"))
    assert heads == {"expression": CLASSES} and reader.labels == CLASSES

    assert rest(expression.ExpressionConfig, Path("expression")).average_mirrored
    expression.train(rest(expression.ExpressionConfig, Path("expression")))
    assert ended(folder / "expression")


def test_an_old_vae_run_opens_and_goes_on(folder):
    model, facts = vae.load_vae(folder / "vae")
    assert model.config.latents == 4 and tuple(facts["labels"]) == CLASSES
    assert Generator(folder / "vae").generate(2, expression="surprise").shape == (2, 16, 16, 3)

    config = rest(vae.VAEConfig, Path("vae"))
    assert (config.kl_warm_up, config.mirror, config.discriminator_gamma) == (0.1, 0.5, (1.0, 0.1))  # renamed since
    small = FlowConfig(images=128, batch_size=16, steps=2, net=VelocityNetConfig(width=16, blocks=1))
    vae.train(replace(config, flow=small))
    assert ended(folder / "vae")


def test_an_old_gan_run_opens_and_goes_on(folder, monkeypatch):
    judge = expression_net(ExpressionNetConfig(stem=4, widths=(4, 8), blocks=(1, 1)), {"expression": 3}).eval()
    monkeypatch.setattr("mien.training.gan.players.load_expression_net", lambda _: (judge, {"expression": CLASSES}))
    assert Generator(folder / "gan").generate(2, expression="surprise").shape == (2, 16, 16, 3)

    config = rest(gan.GANConfig, Path("gan"))
    assert (config.mirror, config.learning_rate_generator, config.health.act_from) == (0.5, 1e-3, 0.1)  # renamed since
    gan.train(config)
    assert ended(folder / "gan")


def test_an_old_embedder_run_opens_and_goes_on(folder):
    write_people(folder / "people", 16, 3)
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    assert Embedder(zoo.named(folder / "embedder")).embed(crops).shape == (1, 64)

    analyzer = BlocksAnalyzer(base_card(folder / "base.onnx"))
    embedder.train(rest(embedder.EmbedderConfig, Path("embedder")), analyzer=analyzer)
    assert ended(folder / "embedder")
