"""A mapper for a generator that is finished."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from mien.cli.train import train
from mien.errors import ModelError, TrainingError, UsageError
from mien.networks.expression import ExpressionNetConfig, expression_net
from mien.training.config import as_dict
from mien.training.storage import store_generator
from mien.training.vae.grafting import graft, inherit, transplant, with_mapper
from mien.training.vae.mapping import MapperConfig, laid, train_mapper
from mien.training.vae.refit import PriorConfig, refit
from mien.training.weights import EXPRESSION, write_network
from mien.vision.generator import Generator
from mien.vision.laying import lay_change
from training.vae.test_refit import COMPONENTS, FLOW
from vision.generators import LABELS, save_generator

pytestmark = pytest.mark.usefixtures("blind_and_single")


class Pixels(torch.nn.Module):
    """A recogniser that knows a face by its px."""

    def forward(self, faces):
        return torch.nn.functional.normalize((faces - 128).flatten(1), dim=1)


@pytest.fixture(autouse=True)
def recogniser(monkeypatch):
    monkeypatch.setattr("mien.training.vae.mapping.FaceRecogniser", lambda template, side: Pixels())


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A network of chance that has opinions."""
    file = tmp_path_factory.mktemp("reader") / "reader.safetensors"
    net = ExpressionNetConfig(arch="tutorial-cnn", side=16)  # one that sees where something is
    torch.manual_seed(0)
    model = expression_net(net, {"expression": len(LABELS)})
    with torch.no_grad():
        model.heads["expression"].weight *= 30
    facts = {"net": as_dict(net), "heads": {"expression": LABELS}, "template": "fer-48"}
    write_network(model, json.dumps(facts), file, kind=EXPRESSION)
    return file


@pytest.fixture
def run(tmp_path):
    return save_generator(tmp_path / "run", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)


@pytest.fixture
def plain(tmp_path):
    """Of no labels: what changes is the mapper's work."""
    return save_generator(tmp_path / "plain", kind="vae", components=((-1, 1.0),), encoder=True)


@pytest.fixture
def settings(data, reader):
    given = {
        "data": (data,),
        "cache": data.parent / "crops",  # cut once
        "keep_without_face": True,
        "device": "cpu",
        "images": 640,
        "batch_size": 16,
        "report_every": 320,
        "readers": (str(reader),),
        "identity": 1e-3,
        "width": 16,
    }
    return lambda run, **more: MapperConfig(model=str(run), **{**given, **more})


def test_a_mapper_learns_to_please_its_readers(plain, settings, tmp_path, reader):
    free = {"images": 1600, "distance": 0.0, "shading": 0.0}
    still = train_mapper(settings(plain, learning_rate=1e-9, out=tmp_path / "still", **free)).summary
    done = train_mapper(settings(plain, learning_rate=3e-2, **free)).summary

    assert done["valid_read"] > still["valid_read"] and done["loss"] < still["loss"]
    assert len(json.loads((plain / "mapper.json").read_text())["rows"]) == 5
    assert Generator(plain).convention.edit_losses == (str(reader), "dlib-resnet29")


def test_the_file_moves_latents_as_the_mapper_does_and_what_is_drawn_stays(run, settings):
    before = Generator(run)
    drawn, latents = before.generate(6), np.random.default_rng(0).standard_normal((4, before.latents)) * 0.3

    done = train_mapper(settings(run))

    after = Generator(run)
    assert after.convention.edits == after.edits == LABELS
    assert np.array_equal(after.generate(6), drawn)
    moved = after.moved(latents.astype(np.float32), shown="neutral", wanted="surprise")
    with torch.no_grad():
        wanted = done.mapper(torch.from_numpy(latents).float(), torch.full((4,), LABELS.index("surprise")))
    np.testing.assert_allclose(moved, wanted.numpy(), atol=1e-4)
    assert np.array_equal(after.moved(moved, shown="surprise", wanted="surprise"), moved)


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_are_laid_into_faces_as_an_edit_does_it(channels):
    rng = np.random.default_rng(0)
    face, noise = rng.uniform(0, 255, (32, 32, channels)), rng.normal(0, 20, (32, 32, channels))
    change = np.zeros_like(face)
    change[8:20, 8:20] = 40
    batch = [np.float32(part) for part in (face, face + noise, change)]
    # An edit sees three channels of a grey face, too.
    parts = [np.repeat(part, 3 // channels, axis=2) for part in batch]
    expected = lay_change(*parts)
    assert np.abs(expected - parts[0] - parts[2]).max() > 10
    there = laid(*(torch.from_numpy(part).permute(2, 0, 1)[None] for part in batch))[0].permute(1, 2, 0)
    assert np.allclose(there.numpy(), expected[..., :channels], atol=1e-3)


def test_who_weighs_identity_more_changes_less(plain, settings, tmp_path):
    changes = [
        train_mapper(settings(plain, out=tmp_path / f"of-{weight}", identity=weight, learning_rate=1e-2)).summary[
            "valid_change"
        ]
        for weight in (1e-3, 500.0)
    ]

    assert changes[1] < changes[0] / 2


def test_how_far_it_has_come_is_told_where_there_is_no_terminal(plain, settings, capsys):
    train_mapper(settings(plain, images=32, report_every=16))

    lines = [line for line in capsys.readouterr().err.splitlines() if "of 32 images" in line]
    assert [line.split()[0] for line in lines] == ["16", "32"] and "valid read" in lines[0]


def test_a_model_that_could_not_be_written_whole_names_no_encoder_that_is_missing(
    plain, settings, tmp_path, monkeypatch
):
    def refuse(file, data):
        if file.name == "card.json":
            raise TrainingError("No space.")
        file.write_bytes(data)

    monkeypatch.setattr("mien.training.vae.finished.write_result", refuse)
    with pytest.raises(TrainingError, match="No space"):
        train_mapper(settings(plain, images=16, out=tmp_path / "new"))

    assert {file.name for file in (tmp_path / "new").iterdir()} == {"encoder.onnx", "encoder.json", "model.onnx"}


def test_without_a_weight_of_identity_no_recogniser_is_asked(plain, settings, reader, monkeypatch):
    monkeypatch.delattr("mien.training.vae.mapping.FaceRecogniser")

    done = train_mapper(settings(plain, images=32, identity=0.0)).summary

    assert "valid_cosine" not in done and Generator(plain).convention.edit_losses == (str(reader),)


def test_the_same_seed_gives_the_same_mapper(run, settings, tmp_path):
    one, same, other = (
        train_mapper(settings(run, out=tmp_path / name, seed=seed, images=64)).mapper.last.weight
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )

    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_model_that_knows_no_labels_learns_the_expressions_of_its_reader(plain, settings):
    drawn = Generator(plain).generate(3)

    train_mapper(settings(plain, images=64))

    generator = Generator(plain)
    assert generator.labels == () and generator.edits == LABELS
    assert np.array_equal(generator.generate(3), drawn)
    latents = np.ones((2, generator.latents), np.float32)
    assert not np.array_equal(generator.moved(latents, shown="neutral", wanted="happiness"), latents)
    assert generator.clip("happiness", 5).shape == (5, 16, 16, 3)
    with pytest.raises(UsageError, match="makes neutral, happiness, surprise; got 'mood'"):
        generator.moved(latents, shown="neutral", wanted="mood")


def test_mapper_and_flow_do_not_disturb_each_other(run, settings, data, tmp_path):
    latents = np.ones((2, Generator(run).latents), np.float32)

    mapped = train_mapper(settings(run, images=64))
    moved = Generator(run).moved(latents, shown="neutral", wanted="happiness")
    refit(
        PriorConfig(
            model=str(run), data=(data,), cache=data.parent / "crops", keep_without_face=True, device="cpu", flow=FLOW
        )
    )
    both = Generator(run)
    assert both.convention.flow and np.array_equal(both.moved(latents, shown="neutral", wanted="happiness"), moved)
    drawn = both.generate(3)
    again = train_mapper(settings(run, images=64, seed=1))
    assert np.array_equal(Generator(run).generate(3), drawn)
    network = (run / "model.onnx").read_bytes()
    assert sum("edited" in node.output for node in onnx.load_from_string(network).graph.node) == 1
    assert again.summary["onnx_difference"] < 1e-3 and mapped.out == run


def test_a_generator_of_the_same_latents_gets_flow_and_mapper_of_another(run, plain, settings):
    train_mapper(settings(run, images=64))
    latents = np.ones((2, Generator(run).latents), np.float32)
    moved = Generator(run).moved(latents, shown="neutral", wanted="happiness")

    heir = transplant((run / "model.onnx").read_bytes(), (plain / "model.onnx").read_bytes())

    (plain / "model.onnx").write_bytes(heir)
    card = json.loads((plain / "card.json").read_text())
    card["convention"]["edits"] = list(LABELS)
    (plain / "card.json").write_text(json.dumps(card))
    assert np.allclose(Generator(plain).moved(latents, shown="neutral", wanted="happiness"), moved)
    others, said = inherit(plain, (run / "model.onnx").read_bytes(), ("surprise", "neutral"))
    assert said == {} and others == (run / "model.onnx").read_bytes()  # its expressions are others
    network, told = inherit(plain, (run / "model.onnx").read_bytes(), LABELS)
    assert told == {"edits": list(LABELS)}  # whose losses the card does not say
    assert sum("edited" in node.output for node in onnx.load_from_string(network).graph.node) == 1


def test_eight_bits_store_the_mapper_too(run, settings, tmp_path):
    train_mapper(settings(run, images=64, width=64))
    store_generator(run, tmp_path / "small", "int8")
    latents = np.ones((2, Generator(run).latents), np.float32)

    full, small = (
        Generator(model).moved(latents, shown="neutral", wanted="happiness") for model in (run, tmp_path / "small")
    )
    again = train_mapper(settings(tmp_path / "small", images=64, width=64, out=tmp_path / "again"))

    np.testing.assert_allclose(small, full, atol=0.02)
    assert any(item.name.endswith(".byte") for item in onnx.load(again.out / "model.onnx").graph.initializer)


def test_what_has_no_place_for_a_mapper_is_refused_in_one_line(run, settings, tmp_path):
    blind = save_generator(tmp_path / "blind", kind="vae", labels=LABELS, components=COMPONENTS)
    with pytest.raises(UsageError, match="has no encoder, so that nothing can be fitted"):
        train_mapper(settings(blind))
    with pytest.raises(TrainingError, match="is no expression network"):
        train_mapper(settings(run, readers=(str(tmp_path / "nobody"),)))
    with pytest.raises(TrainingError, match=r"loss of the mapper is no number\. Lower learning_rate"):
        train_mapper(settings(run, learning_rate=1e30, images=320, out=tmp_path / "lost"))
    strange = save_generator(
        tmp_path / "strange", kind="vae", labels=("cat", "dog"), components=COMPONENTS, encoder=True
    )
    with pytest.raises(UsageError, match="that its readers know, got cat, dog; known are happiness, neutral, surprise"):
        train_mapper(settings(strange))
    with pytest.raises(TrainingError, match="Cannot make '/proc/nope'"):
        train_mapper(settings(run, out=Path("/proc/nope")))
    for setting, words in (
        ({"images": 0}, "'images' is at least 1, got 0"),
        ({"identity": -1.0}, "'identity' is 0 or more, got -1"),
        ({"learning_rate": 0.0}, "'learning_rate' is above 0, got 0"),
        ({"learning_rate": float("inf")}, "'learning_rate' is above 0, got inf"),
        ({"readers": ()}, "'readers' names at least one"),
    ):
        with pytest.raises(UsageError, match=words):
            settings(run, **setting)
    mapper = train_mapper(settings(run, images=16)).mapper
    gan = save_generator(tmp_path / "gan")
    with pytest.raises(ModelError, match="answers no latents"):
        with_mapper((gan / "model.onnx").read_bytes(), mapper)
    with pytest.raises(ModelError, match="draws from no fitted prior"):
        graft((gan / "model.onnx").read_bytes(), (run / "model.onnx").read_bytes())


def test_the_command_says_how_well_it_went_and_what_to_do_next(run, data, reader):
    done = CliRunner().invoke(
        train,
        ["mapper", "--model", str(run), "--data", str(data), "--cache", str(data.parent / "crops"), "--device", "cpu",
         "--set", "images=64", "--set", "batch_size=16", "--set", "keep_without_face=true",
         "--set", f"readers={reader}", "--set", "width=8"],
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert (
        "read as asked, cosine" in done.output
        and "to the face before, by the networks" in done.output
        and f"mien edit somebody.jpg --model {run}" in done.output
    )
