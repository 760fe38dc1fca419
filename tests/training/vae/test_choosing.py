"""A discriminator for a generator that is finished: it chooses among the faces that a flow draws."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from mien.cli.train import train
from mien.errors import MienError, TrainingError, UsageError
from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
from mien.training.storage import store_generator
from mien.training.vae.choosing import ChoiceConfig, train_discriminator
from mien.training.vae.grafting import transplant, with_discriminator, without_discriminator
from mien.training.vae.refit import PriorConfig, refit
from mien.vision.generator import Generator, Request
from training.vae.test_refit import COMPONENTS, FLOW
from training.vae.test_refit import settings as of_a_flow
from vision.generators import LABELS, save_generator

pytestmark = pytest.mark.usefixtures("blind_and_single")


@pytest.fixture(params=[LABELS, ()], ids=["labels", "plain"])
def drawn_from_a_flow(request, tmp_path, data):
    """A generator with a flow that learned next to nothing, which is easily told."""
    components = COMPONENTS if request.param else ((-1, 1.0),)
    run = save_generator(tmp_path / "run", kind="vae", labels=request.param, components=components, encoder=True)
    refit(of_a_flow(run, data))
    return run


@pytest.fixture
def run(tmp_path, data):
    run = save_generator(tmp_path / "run", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)
    refit(of_a_flow(run, data))
    return run


def choice(run, data, **more):
    given = {
        "model": str(run), "data": (data,), "cache": data.parent / "crops", "keep_without_face": True, "device": "cpu",
        "images": 1920, "batch_size": 16, "widths": (8, 8), "report_every": 480, "candidates": 3,
    }  # fmt: skip
    return ChoiceConfig(**{**given, **more})


def test_it_tells_drawn_faces_from_photographs_and_the_model_gives_those_it_takes_for_one(drawn_from_a_flow, data):
    before = Generator(drawn_from_a_flow).generate(8, seed=3)
    done = train_discriminator(choice(drawn_from_a_flow, data))

    generator = Generator(done.out)
    assert done.summary["valid_area"] > 0.8
    assert generator.card.metrics["discriminator"]["valid_area"] == done.summary["valid_area"]
    assert json.loads((done.out / "discriminator.json").read_text())["rows"][-1]["images"] == 1920
    np.testing.assert_array_equal(generator.generate(8, seed=3, candidates=1), before)
    told = None if not generator.labels else torch.zeros(24, dtype=torch.long)
    expression = generator.labels[0] if generator.labels else None

    def realism(candidates):
        faces = np.concatenate([b.images for b in generator.batches(24, Request(expression, candidates=candidates))])
        with torch.no_grad():
            return done.discriminator(torch.from_numpy(faces).permute(0, 3, 1, 2).float(), told)[:, 0]

    assert generator.convention.candidates == 3
    assert (realism(3) - realism(1)).min() > -0.05  # what is judged is not yet rounded to whole grey levels
    assert (realism(3) > realism(1)).sum() > 8  # of 24, of which a third had the best face already
    np.testing.assert_allclose(realism(3), realism(None))


def test_everything_random_follows_from_the_seed(run, data, tmp_path):
    files = []
    for name in ("a", "b"):
        train_discriminator(choice(run, data, out=tmp_path / name, images=320))
        files.append((tmp_path / name / "model.onnx").read_bytes())

    assert files[0] == files[1]


def test_of_faces_redrawn_badly_it_may_be_told_nothing(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("mien.training.vae.choosing.grade_redrawn", lambda faces, *_: (np.arange(len(faces)) + 1) % 2)
    every, half = (
        train_discriminator(choice(run, data, out=tmp_path / f"{share}", images=16, redrawn=share)).summary["pictures"]
        for share in (1.0, 0.5)
    )

    assert half == (every + 1) // 2


def test_another_flow_ends_the_choice_and_a_discriminator_takes_the_place_of_another(run, data):
    train_discriminator(choice(run, data, images=320))
    once = (run / "model.onnx").read_bytes()
    train_discriminator(choice(run, data, images=320, candidates=2))
    twice = (run / "model.onnx").read_bytes()
    refit(PriorConfig(**{**vars(of_a_flow(run, data)), "flow": replace(FLOW, guidance=2.0)}))

    assert len(once) == len(twice) and Generator(run).convention.candidates == 0
    graph = onnx.load_from_string((run / "model.onnx").read_bytes()).graph
    assert not [item.name for item in (*graph.initializer, *graph.output) if "discriminator" in item.name]
    assert "realism" not in {item.name for item in graph.output}
    with pytest.raises(MienError, match="has no discriminator"):
        Generator(run).generate(1, candidates=2)


def test_a_generator_in_fewer_bits_stays_so_and_chooses_alike(run, data, tmp_path):
    store_generator(run, tmp_path / "small", "int8")
    done = train_discriminator(choice(tmp_path / "small", data, widths=(32, 32), images=320))

    names = {item.name for item in onnx.load_from_string((done.out / "model.onnx").read_bytes()).graph.initializer}
    assert any(name.startswith("discriminator/") and name.endswith(".byte") for name in names)
    assert len(Generator(done.out).generate(4)) == 4


def test_a_discriminator_can_be_put_into_a_network_and_taken_out_again(run):
    torch.manual_seed(0)
    net = Discriminator(DiscriminatorConfig(arch="dcgan", widths=(4, 4)), Sizes(16, 3, 3)).eval()
    network = (run / "model.onnx").read_bytes()
    judged, difference = with_discriminator(network, net)

    assert 0 <= difference < 1e-3
    assert without_discriminator(judged) == without_discriminator(network)
    assert {item.name for item in onnx.load_from_string(transplant(network, judged)).graph.output} >= {"realism"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"candidates": 1}, "'candidates' is 2 to 64, got 1"),
        ({"images": 0}, "'images' is at least 1, got 0"),
        ({"redrawn": 0.0}, "'redrawn' is above 0 and at most 1, got 0"),
        ({"learning_rate": 0.0}, "'learning_rate' is above 0, got 0"),
        ({"warmup": -1}, "'warmup' is 0 or more, got -1"),
        ({"widths": ()}, "'widths' names at least one stage"),
    ],
)
def test_settings_that_mean_nothing_are_refused(data, tmp_path, setting, words):
    with pytest.raises(UsageError, match=words):
        choice(tmp_path, data, **setting)


def test_what_cannot_be_taught_is_refused_before_anything_is_written(run, data, tmp_path):
    flowless = save_generator(tmp_path / "flowless", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)
    with pytest.raises(UsageError, match="no flow whose faces could be chosen among"):
        train_discriminator(choice(flowless, data))
    told = save_generator(
        tmp_path / "told", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True, attributes=("hat",),
        candidates=2,
    )  # fmt: skip
    with pytest.raises(UsageError, match="is told attributes"):
        train_discriminator(choice(told, data))
    with pytest.raises(UsageError, match="5 stages, and a side of 16 px cannot be halved so often"):
        train_discriminator(choice(run, data, widths=(2,) * 5))
    with pytest.raises(TrainingError, match="needs 4096 faces to learn from"):
        train_discriminator(choice(run, data, batch_size=4096))
    assert not (run / "discriminator.json").exists()


def test_the_command_says_how_well_it_tells_and_what_to_do_next(run, data):
    options = ["--model", str(run), "--data", str(data), "--cache", str(data.parent / "crops"), "--device", "cpu"]
    sets = ["images=64", "widths=[4, 4]", "keep_without_face=true", "batch_size=16"]
    result = CliRunner().invoke(train, ["discriminator", *options, *[w for s in sets for w in ("--set", s)]])

    assert result.exit_code == 0, result.output
    assert "an area under the curve of" in result.output and f"mien generate --model {run}" in result.output
