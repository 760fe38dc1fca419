"""A refiner for a generator that is finished."""

import json

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from mien.cli.train import train
from mien.errors import ModelError, TrainingError, UsageError
from mien.networks.gan import DiscriminatorConfig
from mien.training.storage import store_generator
from mien.training.vae.grafting import DonorFlow, PublishedRefiner, with_refiner, without_refiner
from mien.training.vae.refining import RefinerConfig, train_refiner
from mien.training.vae.refit import PriorConfig, refit
from mien.vision.generator import Generator
from training.vae.test_refit import COMPONENTS, FLOW
from vision.generators import LABELS, save_generator

pytestmark = pytest.mark.usefixtures("blind_and_single")
COUNT = 64  # faces that are compared


@pytest.fixture
def told(data):
    """What every training on these faces is told."""
    return {"data": (data,), "cache": data.parent / "crops", "keep_without_face": True, "device": "cpu"}


@pytest.fixture
def run(tmp_path, told):
    """A generator that draws from a flow."""
    folder = save_generator(tmp_path / "run", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)
    refit(PriorConfig(model=str(folder), flow=FLOW, **told))
    return folder


@pytest.fixture
def settings(told):
    given = {
        **told,
        "images": 128,
        "ahead": 32,
        "draws": 48,
        "batch_size": 16,
        "report_every": 64,
        "width": 16,
        "blocks": 1,
        "discriminator": DiscriminatorConfig(widths=(4, 8)),
    }
    return lambda run, **more: RefinerConfig(model=str(run), **{**given, **more})


def drawn(run):
    """Latents of some noises, by label."""
    noise = torch.randn((COUNT, Generator(run).latents), generator=torch.Generator().manual_seed(1))
    return DonorFlow(run, len(LABELS))(noise, torch.eye(len(LABELS))[torch.arange(COUNT) % len(LABELS)])


class Astray(DonorFlow):
    """Draws what lies beside the faces."""

    def __call__(self, noise, condition):
        return super().__call__(noise, condition) + 1


def test_what_was_drawn_beside_the_faces_is_brought_back(run, settings, monkeypatch):
    monkeypatch.setattr("mien.training.vae.refining.DonorFlow", Astray)
    rough = drawn(run) + 1

    done = train_refiner(settings(run, images=4800, learning_rate=3e-3, distance=0.01))

    with torch.no_grad():
        way = done.refiner(rough, torch.eye(len(LABELS))[torch.arange(COUNT) % len(LABELS)]) - rough
    assert way.mean() < -0.3
    assert done.summary["valid_told_apart"] < done.summary["valid_told_apart_before"]


def test_the_file_refines_what_the_flow_draws_as_the_refiner_does_and_the_rest_stays(run, settings):
    before = Generator(run)
    rough, mixture = drawn(run), before.generate(6, prior="mixture")

    done = train_refiner(settings(run, learning_rate=1e-2))

    after = Generator(run)
    assert np.array_equal(after.generate(6, prior="mixture"), mixture)
    condition = torch.eye(len(LABELS))[torch.arange(COUNT) % len(LABELS)]
    with torch.no_grad():
        refined = done.refiner(rough, condition)
    assert not torch.allclose(refined, rough, atol=1e-3)
    torch.testing.assert_close(drawn(run), refined, atol=1e-4, rtol=1e-4)
    rows = json.loads((run / "refiner.json").read_text())["rows"]
    assert [row["images"] for row in rows] == [64, 128]


def test_who_weighs_the_distance_more_moves_less(run, settings, tmp_path):
    moved = [
        train_refiner(settings(run, out=tmp_path / f"of-{weight}", distance=weight, learning_rate=1e-2)).summary[
            "moved"
        ]
        for weight in (0.0, 100.0)
    ]

    assert moved[1] < moved[0] / 2


def test_the_same_seed_gives_the_same_refiner(run, settings, tmp_path):
    one, same, other = (
        train_refiner(settings(run, out=tmp_path / name, seed=seed)).refiner.last.weight
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )

    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_refiner_is_replaced_and_another_flow_loses_it(run, settings, told):
    before = (run / "model.onnx").read_bytes()
    rough = drawn(run)

    train_refiner(settings(run, learning_rate=1e-2))
    once = (run / "model.onnx").read_bytes()
    train_refiner(settings(run, learning_rate=1e-9, seed=1))  # of what the flow drew, and it moves nothing

    torch.testing.assert_close(drawn(run), rough, atol=1e-4, rtol=1e-4)
    assert len(onnx.load(run / "model.onnx").graph.node) == len(onnx.load_from_string(once).graph.node)
    assert without_refiner(before) == before
    assert len(onnx.load_from_string(without_refiner(once)).graph.node) == len(onnx.load_from_string(before).graph.node)
    refit(PriorConfig(model=str(run), flow=FLOW, **told))
    assert not any("refiner" in node.output[0] for node in onnx.load(run / "model.onnx").graph.node)


def test_a_model_that_knows_no_labels_is_refined_too(tmp_path, told, settings):
    plain = save_generator(tmp_path / "plain", kind="vae", components=((-1, 1.0),), encoder=True)
    refit(PriorConfig(model=str(plain), flow=FLOW, **told))
    faces = Generator(plain).generate(4)

    train_refiner(settings(plain, learning_rate=1e-2))

    assert not np.array_equal(Generator(plain).generate(4), faces)


def test_eight_bits_store_the_refiner_too(run, settings, tmp_path):
    train_refiner(settings(run, width=64, learning_rate=1e-2))
    store_generator(run, tmp_path / "small", "int8")

    torch.testing.assert_close(drawn(tmp_path / "small"), drawn(run), atol=0.1, rtol=0.1)
    again = train_refiner(settings(tmp_path / "small", width=64, out=tmp_path / "again"))
    assert any(item.name.endswith(".byte") for item in onnx.load(again.out / "model.onnx").graph.initializer)


def test_the_command_says_what_became_of_it(run, data):
    sets = ("images=32", "ahead=0", "draws=32", "batch_size=16", "width=8", "blocks=1", "discriminator.widths=[4,8]",
            "keep_without_face=true")  # fmt: skip
    command = ["refiner", "--model", str(run), "--data", str(data), "--cache", str(data.parent / "crops")]

    done = CliRunner().invoke(train, [*command, *(part for one in sets for part in ("--set", one))])

    assert done.exit_code == 0, done.output
    assert "drawn ones are told from encoded ones in" in done.output and f"--model {run}" in done.output


def test_what_cannot_be_refined_is_refused_in_one_line(run, settings, tmp_path):
    bare = save_generator(tmp_path / "bare", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)
    with pytest.raises(UsageError, match=r"draws from no flow, which is what is refined\. Fit one: mien train prior"):
        train_refiner(settings(bare))
    refiner = train_refiner(settings(run, images=48)).refiner
    with pytest.raises(ModelError, match="draws from no flow, so that there is nothing to refine"):
        with_refiner((bare / "model.onnx").read_bytes(), PublishedRefiner(refiner, len(LABELS), 0))
    with pytest.raises(TrainingError, match=r"A loss of the refiner is no number\. Lower the learning rates"):
        train_refiner(settings(run, learning_rate=1e30, out=tmp_path / "lost"))
    for setting, words in (
        ({"images": 0}, "'images' is at least 1, got 0"),
        ({"distance": -1.0}, "'distance' is 0 or more, got -1"),
        ({"learning_rate_discriminator": 0.0}, "'learning_rate_discriminator' is above 0, got 0"),
        ({"ahead": 128}, "'ahead' is less than 'images', got 128 and 128"),
        ({"discriminator": DiscriminatorConfig(arch="features")}, "is residual, dcgan or patch here, got features"),
        ({"redrawn": 0.0}, "'redrawn' is above 0 and at most 1, got 0"),
    ):
        with pytest.raises(UsageError, match=words):
            settings(run, **setting)
