import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from mien import zoo
from mien.drawing import draw_face
from mien.errors import DataError, TrainingError, UsageError
from mien.evaluation.audit import LEARNED
from mien.images import save_image
from mien.networks import ExpressionNetConfig, VAENetConfig, expression_net
from mien.networks.flow import VelocityNetConfig
from mien.networks.gan import DiscriminatorConfig, GeneratorConfig
from mien.training import vae as vae_story
from mien.training.gan import VARIANTS, GANConfig, Health, configured, dry_run, train
from mien.training.gan.material import load_material
from mien.training.gan.players import Players
from mien.training.gan.rules import Rules, ScoreMeter
from mien.training.guard import Guard
from mien.training.ranks import Ranks
from mien.training.run import read_log
from mien.training.stopping import Interrupted
from mien.training.storage import half_weights
from mien.training.vae.flow import FlowConfig
from mien.training.vae.grafting import DonorFlow
from mien.vision.generator import Generator

CLASSES = ("neutral", "happiness", "surprise")
BATCH = 8
SMALL = GeneratorConfig(latents=8, widths=(12, 8, 6))


class Blind:
    """Finds no face: every drawn picture is taken as a whole."""

    def detect(self, image):
        return []


def look_away(patch):
    """Judge samples by a small network of random weights, and find no faces."""
    patch.setattr("mien.data.crops.patient_detector", Blind)
    torch.manual_seed(5)
    judge = expression_net(ExpressionNetConfig(stem=4, widths=(4, 8), blocks=(1, 1)), {"expression": 3}).eval()
    patch.setattr("mien.training.gan.players.load_expression_net", lambda _: (judge, {"expression": CLASSES}))


@pytest.fixture(autouse=True)
def small_and_blind(monkeypatch):
    look_away(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are the same to the last bit only with as many threads
    yield
    torch.set_num_threads(threads)


def draw(folder, subjects, classes=CLASSES):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            image = draw_face(subject, side=96, expression=name).image
            save_image(folder / name / f"{subject}.png", cv2.resize(image[14:82, 14:82], (48, 48)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw(folder / "train", range(12))
    draw(folder / "valid", range(12, 16))
    return folder


@pytest.fixture
def config(data, tmp_path):
    return GANConfig(
        data=(data,), out=tmp_path / "run", cache=data.parent / "crops", template="fer-48", side=16,
        colour=False, keep_without_face=True,
        images=8 * BATCH, batch_size=BATCH, report_every=4 * BATCH, generator=SMALL, ema_half_life=40,
        health=Health(pictures=18), device="cpu",
    )  # fmt: skip


def figures(out):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(out)]


def same(left, right):
    mine, other = load_file(left), load_file(right)
    return mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that was given time to learn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        look_away(patch)
        config = GANConfig(
            data=(data,), out=tmp_path_factory.mktemp("finished") / "run", cache=data.parent / "crops",
            template="fer-48", side=16, colour=False, keep_without_face=True, images=200 * BATCH, batch_size=BATCH,
            report_every=50 * BATCH, generator=SMALL, ema_half_life=100, learning_rate_generator=2e-3,
            learning_rate_discriminator=2e-3, health=Health(pictures=36), device="cpu",
        )  # fmt: skip
        trained = train(config)
    torch.set_num_threads(threads)
    return trained, config


@pytest.mark.slow
def test_the_distance_to_photographs_falls(finished):
    trained, config = finished
    log = read_log(config.out)
    assert [row["images"] for row in log] == [50 * BATCH, 100 * BATCH, 150 * BATCH, 200 * BATCH]
    assert trained.summary["distance"] < 0.7 * log[0]["distance"]
    assert json.loads((config.out / "summary.json").read_text())["distance"] == trained.summary["distance"]
    assert trained.summary["images"] == min(log, key=lambda row: row["distance"])["images"]


@pytest.mark.slow
def test_every_report_has_a_sheet_of_samples_and_the_figures_to_judge_them_by(finished):
    _, config = finished
    assert len(list((config.out / "pictures").glob("samples-*.png"))) == 4
    wanted = {"gap", "accuracy", "penalty", "gradient_generator", "gradient_discriminator", "spread", "distance",
              "sharpness", "seen", "learned_by_heart", "probability", "gamma"}  # fmt: skip
    assert all(wanted <= row.keys() and None not in row.values() for row in read_log(config.out))


@pytest.mark.slow
def test_run_time_draws_what_the_trained_generator_draws(finished):
    trained, config = finished
    session = onnxruntime.InferenceSession(config.out / "model.onnx", providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    label = np.array([0, 2, 1])

    (images,) = session.run(["images"], {"noise": noise, "label": label})

    with torch.no_grad():
        wanted = trained.generator.cpu()(torch.from_numpy(noise), torch.from_numpy(label)).clamp(0, 255)
    np.testing.assert_allclose(images, wanted.numpy(), atol=0.05)
    card = zoo.named(config.out)
    assert card.role == "generator" and card.convention["labels"] == list(CLASSES) == list(trained.classes)
    assert card.convention["kind"] == "gan" and "components" not in card.convention
    faces = Generator(card).generate(5, expression="surprise")
    assert faces.shape == (5, 16, 16, 3)


@pytest.mark.slow
def test_a_finished_run_is_not_trained_further(finished):
    trained, config = finished
    again = train(config)
    assert again.summary == trained.summary and len(read_log(config.out)) == 4


SWITCHES = {
    **{name: configured(name, given={"data": ["x"], "out": "x"}) for name in VARIANTS},
    "approximate, now and then": {"penalty": "approximate", "penalty_every": 2},
    "exact, now and then": {"penalty": "exact", "penalty_every": 2, "accumulate": 2},
    "basis, modulated": {"generator": replace(SMALL, base="basis", modulate=True, blocks=2)},
    "relativistic": {"game": "relativistic", "discriminator": DiscriminatorConfig(minibatch_std=True)},
    "no classes": {"conditional": False},
    "colour": {"colour": True, "mirror": 0.0, "balance": 0.0},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_trains_to_a_generator_in_half_precision(switch, config):
    changed = SWITCHES[switch]
    if isinstance(changed, GANConfig):
        names = ("game", "penalty", "generator", "discriminator", "ramp", "betas", "probability", "adapt_images")
        changed = {name: getattr(changed, name) for name in names}
        widths = (8, 6) if changed["generator"].arch == "dcgan" else (12, 8, 6)
        changed["generator"] = replace(changed["generator"], widths=widths, latents=8)
        changed["discriminator"] = replace(changed["discriminator"], widths=widths[::-1])
    trained = train(replace(config, images=2 * BATCH, precision="bf16", **changed))
    assert math.isfinite(trained.summary["distance"])
    assert trained.classes == (() if switch == "no classes" else CLASSES)
    assert zoo.named(config.out).convention["order"] == ("RGB" if switch == "colour" else "GRAY")


def test_the_discriminator_heeds_the_label_only_from_the_ramp_on(config, monkeypatch):
    seen = []
    move = Players.discriminator_objective
    monkeypatch.setattr(
        Players, "discriminator_objective", lambda players, *a: seen.append(players.conditioning) or move(players, *a)
    )
    train(replace(config, ramp=(0.25, 0.75)))
    assert seen == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]


class Recogniser(torch.nn.Module):
    """Embeds a face by how light its quarters are."""

    dimension = 4

    def __init__(self, template, side):
        super().__init__()

    def forward(self, images):
        quarters = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2)[:, 0].flatten(1)
        return torch.nn.functional.normalize(quarters - 127.5)


@pytest.mark.slow
def test_a_face_can_be_asked_for_by_its_embedding(config, monkeypatch):
    for module in ("players", "material"):
        monkeypatch.setattr(f"mien.training.gan.{module}.FaceRecogniser", Recogniser)
    config = replace(config, identity=True, identity_weight=5.0, identity_share=1.0, ramp=(0.0, 0.0))
    config = replace(config, learning_rate_generator=5e-3, images=60 * BATCH, report_every=60 * BATCH)

    trained = train(config)

    card = zoo.named(config.out)
    assert card.convention["identity"] == "dlib-resnet29" and card.convention["losses"] == ["dlib-resnet29"]
    players = Players(config, load_material(config, cache=config.cache, ranks=Ranks(), device="cpu"), "cpu")
    who = players.material.reference
    drawn = players.samples(trained.generator, players.material.labels[who], who, seed=3)
    found = Recogniser("", 0)(torch.from_numpy(drawn)).numpy()
    same, other = (np.mean((found * players.material.embeddings[rows]).sum(1)) for rows in (who, np.roll(who, 1)))
    assert same > max(other, 0.9)


# Beginning as a VAE ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vae(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("vae") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.data.crops.patient_detector", Blind)
        net = VAENetConfig(side=16, colour=False, latents=4, widths=(8, 16), last_width=8)
        vae_story.train(
            vae_story.VAEConfig(
                data=(data,),
                out=out,
                cache=data.parent / "crops",
                template="fer-48",
                keep_without_face=True,
                net=net,
                images=30 * BATCH,
                batch_size=BATCH,
                report_every=30 * BATCH,
                device="cpu",
                components=1,
                flow=FlowConfig(images=32 * 20, batch_size=32, steps=2, net=VelocityNetConfig(width=16, blocks=1)),
            )
        )
    return out


def test_a_generator_that_begins_as_a_vae_draws_from_its_flow(config, vae):
    config = replace(config, images=2 * BATCH, report_every=2 * BATCH, init=vae, learning_rate_generator=1e-9)
    train(config)
    begun, learned = Generator(vae), Generator(config.out)

    assert learned.convention.flow == 2 and learned.convention.guidance == begun.convention.guidance
    for settings in ({"prior": "flow"}, {"expression": "surprise", "guidance": 4.0}, {"prior": "mixture"}):
        np.testing.assert_allclose(learned.generate(4, **settings), begun.generate(4, **settings), atol=2)
    assert not np.array_equal(learned.generate(4), learned.generate(4, prior="mixture"))
    # What it learned from is on record, for an audit.
    assert (config.out / LEARNED).read_text() == (vae / LEARNED).read_text()


def test_a_generator_that_begins_as_a_vae_learns_on_what_its_flow_draws(config, vae):
    config = replace(config, init=vae)
    material = load_material(config, cache=config.cache, ranks=Ranks(), device=torch.device("cpu"))
    players, labels = Players(config, material, torch.device("cpu")), np.arange(3)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))

    drawn = players.samples(players.generator, labels, material.reference[:3], seed=1)
    with torch.no_grad():
        latents = DonorFlow(vae, 3)(noise, torch.eye(3))
        expected = players.generator(latents, torch.from_numpy(labels)).clamp(0, 255)
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1)

    asked = []
    players._flow = lambda noise, told: (asked.append(told.argmax(1).tolist()), noise)[1]
    players.discriminator_objective(material.train[:2])
    players.generator_objective(material.train[:2])
    assert asked == 2 * [material.labels[material.train[:2]].tolist()]


def test_a_generator_goes_on_from_the_decoder_of_another_run_of_the_same_vae(config, vae):
    config = replace(config, images=4 * BATCH, report_every=4 * BATCH, init=vae)
    train(replace(config, blend=0.5))
    again = replace(config, out=config.out.with_name("again"), decoder=config.out, learning_rate_generator=1e-9)

    went_on = train(again).generator.state_dict()["decoder.first.weight"]

    learned = load_file(config.out / "best.safetensors")["generator.decoder.first.weight"]
    torch.testing.assert_close(went_on, learned)
    assert not torch.allclose(went_on, vae_story.load_vae(vae)[0].decoder.first.weight)
    with pytest.raises(TrainingError, match=r"nowhere.* is missing\. Is"):
        train(replace(again, out=again.out.with_name("other"), decoder=Path("nowhere")))
    with pytest.raises(UsageError, match="'decoder' needs 'init'"):
        replace(again, init=None)


@pytest.mark.slow
def test_a_generator_begins_as_a_vae_and_is_held_to_what_it_reconstructs(config, vae):
    config = replace(config, images=2 * BATCH, report_every=2 * BATCH, init=vae, learning_rate_generator=1e-9)
    trained = train(config)
    begun, _ = vae_story.load_vae(vae)
    noise, label = torch.randn(2, 4), torch.tensor([0, 1])
    with torch.no_grad():
        torch.testing.assert_close(
            trained.generator.cpu()(noise, label), begun.decode(noise, torch.eye(3)[label]), rtol=0, atol=0.1
        )
    card = zoo.named(config.out)
    assert card.convention["components"] == zoo.named(vae).convention["components"]
    assert Generator(card).generate(3).shape == (3, 16, 16, 3)

    halved = config.out.with_name("halved")
    shutil.copytree(vae, halved)
    network = onnx.load(vae / "model.onnx")
    onnx.save(half_weights(network), halved / "model.onnx")
    again = train(replace(config, out=config.out.with_name("from-halved"), init=halved))
    for name in ("means", "factors"):  # as good as what is published
        torch.testing.assert_close(
            getattr(again.generator, name), getattr(trained.generator, name), rtol=2e-3, atol=1e-3
        )

    far = []
    for anchor in (0.0, 20.0):
        moved = replace(
            config, out=config.out.with_name(f"anchor{anchor:g}"), images=25 * BATCH, report_every=25 * BATCH,
            learning_rate_generator=2e-3, anchor=anchor, anchor_perceptual=0.0,
        )  # fmt: skip
        generator = train(moved).generator.cpu()
        with torch.no_grad():
            drawn = generator(noise, label)
            far.append((drawn - begun.decode(noise, torch.eye(3)[label])).abs().mean())
    assert far[1] < far[0]

    free, held = Generator(config.out.with_name("anchor0")), Generator(config.out.with_name("anchor20"))
    assert held.has_encoder and not free.has_encoder
    faces = held.generate(2, expression="surprise")
    np.testing.assert_array_equal(held.encode(faces), Generator(vae).encode(faces))
    # Its own way begins and ends at what the seeds draw: the latents that it draws from are the VAE's.
    way = held.between(0, 1, steps=2, expression="happiness")
    np.testing.assert_allclose(way[0], held.generate(1, seed=0, expression="happiness")[0], atol=2)


@pytest.mark.slow
def test_a_generator_begins_as_a_vae_that_is_shipped(config):
    config = replace(
        config, images=BATCH, report_every=BATCH, init=Path("face-vae-64"), template="face-64", side=64, colour=True,
        conditional=False, anchor=1.0, anchor_perceptual=0.0, learning_rate_generator=1e-9,
        discriminator=DiscriminatorConfig(widths=(4, 4, 4, 4)),
    )  # fmt: skip
    train(config)
    begun, learned = Generator("face-vae-64"), Generator(config.out)

    latents = np.random.default_rng(0).normal(size=(2, begun.latents)).astype(np.float32)
    np.testing.assert_allclose(learned.decode(latents), begun.decode(latents), atol=2)
    np.testing.assert_allclose(learned.generate(2, seed=1), begun.generate(2, seed=1), atol=2)
    faces = begun.generate(2)
    np.testing.assert_array_equal(learned.encode(faces), begun.encode(faces))


@pytest.mark.slow
def test_what_is_published_lies_between_what_was_learned_and_the_vae(config, vae):
    config = replace(config, images=6 * BATCH, report_every=6 * BATCH, init=vae)
    drawn = []
    for blend in (1.0, 0.5, 0.0):  # the run is finished at the first of them
        weights = train(replace(config, blend=blend)).generator.cpu().state_dict()
        drawn.append(weights["decoder.first.weight"])
    begun, _ = vae_story.load_vae(vae)

    torch.testing.assert_close(drawn[2], begun.decoder.first.weight)
    assert not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(drawn[1], (drawn[0] + drawn[2]) / 2)
    with pytest.raises(UsageError, match="'blend' needs 'init'"):
        replace(config, init=None, blend=0.5)


@pytest.mark.slow
def test_a_vae_of_other_pictures_or_classes_is_no_beginning(config, vae):
    with pytest.raises(TrainingError, match=r"has colour False, this training has True"):
        train(replace(config, init=vae, colour=True))
    with pytest.raises(TrainingError, match=r"has labels \['neutral'.*this training has \[\]"):
        train(replace(config, init=vae, conditional=False, out=config.out.with_name("other")))
    with pytest.raises(UsageError, match="'anchor' needs 'init'"):
        replace(config, anchor=1.0)


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["killed between checkpoints", "Ctrl-C"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(kind, config, tmp_path, monkeypatch):
    discriminator = DiscriminatorConfig(spectral=True, minibatch_std=True)
    generator = replace(SMALL, norm="batch", modulate=True)
    config = replace(config, discriminator=discriminator, generator=generator, adapt_images=500, penalty_every=3)
    monkeypatch.setattr("mien.training.gan.rules.ADAPT_EVERY", 2 * BATCH)
    whole = replace(config, out=tmp_path / "unbroken")
    train(whole)
    step, steps = Guard.step, []

    def stumbling(self, *args):
        step(self, *args)
        steps.append(1)
        if len(steps) == 11 and kind == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        elif len(steps) == 11:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "step", stumbling)
        with pytest.raises(Interrupted if kind == "Ctrl-C" else KeyboardInterrupt):
            train(config)
    train(config)

    assert same(config.out / "last.safetensors", whole.out / "last.safetensors")
    assert same(config.out / "best.safetensors", whole.out / "best.safetensors")
    assert figures(config.out) == figures(whole.out) and len(figures(config.out)) == 2
    assert (config.out / "model.onnx").read_bytes() == (whole.out / "model.onnx").read_bytes()


def test_a_budget_ends_a_run_with_a_generator_and_it_can_go_on(config):
    train(replace(config, seconds=1e-3))
    assert [row["images"] for row in read_log(config.out)] == [BATCH]
    assert (config.out / "model.onnx").is_file()
    train(config)
    assert read_log(config.out)[-1]["images"] == config.images


@pytest.mark.slow
def test_other_data_or_settings_are_refused_by_name(config, data, tmp_path):
    config = replace(config, images=BATCH, report_every=BATCH)
    train(config)
    with pytest.raises(TrainingError, match=r"gamma \(1.0 -> 2.0\)"):
        train(replace(config, gamma=2.0))
    changed = replace(config, data=(draw(tmp_path / "moved", range(6)),), out=tmp_path / "other")
    train(changed)
    draw(tmp_path / "moved", [7])
    with pytest.raises(TrainingError, match="learned from other data"):
        train(changed)


@pytest.mark.slow
def test_two_processes_learn_one_pair_of_networks(config, data, forks):
    code = """
        import os, sys, torch, mien.data.crops, mien.training.card
        from pathlib import Path
        from mien.networks.gan import GeneratorConfig
        from mien.training import gan
        from mien.training.gan import GANConfig, Health, train
        from mien.training.ranks import Ranks

        class Blind:
            def detect(self, image): return []
        mien.data.crops.patient_detector = Blind
        mien.training.card.draw_curves = lambda rows: None
        torch.set_num_threads(1)
        close, Ranks.close = Ranks.close, lambda self: None
        trained = train(GANConfig(
            data=(Path(sys.argv[1]),), out=Path(sys.argv[2]), cache=Path(sys.argv[3]), side=16, template="fer-48",
            keep_without_face=True, images=32, batch_size=8, report_every=16, conditional=False,
            generator=GeneratorConfig(latents=8, widths=(6, 4, 4)), health=Health(pictures=16), device="cpu",
        ))
        total = float(sum(weight.double().abs().sum() for weight in trained.generator.parameters()))
        print(f"{total:.12f}")
        close(Ranks.join())
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [forks / "python", "-c", textwrap.dedent(code), data, config.out, config.cache]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(arguments, env=common | {"RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    totals = [process.communicate(timeout=240)[0].strip() for process in processes]
    assert totals[0] == totals[1] != ""
    assert (config.out / "model.onnx").is_file()


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_bad_numbers_are_gone_back_from_at_half_the_rate_three_times(config, monkeypatch, capfd):
    move, moves = Players.discriminator_objective, []

    def spoilt(players, indices):
        moves.append(1)
        loss = move(players, indices)
        return loss * torch.nan if len(moves) > 4 else loss

    monkeypatch.setattr(Players, "discriminator_objective", spoilt)
    config = replace(config, report_every=4 * BATCH)
    with pytest.raises(TrainingError, match="no number, even at 1/8 of the learning rate; 3 times"):
        train(config)
    assert capfd.readouterr().err.count("at half the learning rate") == 3
    assert [row["images"] for row in read_log(config.out)] == [4 * BATCH] and (config.out / "best.safetensors").exists()


def rules(penalty="exact", **health):
    return Rules(
        GANConfig(data=("x",), out="x", images=1000, health=Health(**health), probability=0.2, penalty=penalty)
    )


GOOD = {"spread": 0.9, "gap": 1.0, "distance": 5.0}


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"spread": 0.1}, "samples of a class are nearly alike"), ({"gap": 0.001}, "tells nothing apart")],
    ids=["collapse", "no gap"],
)
def test_a_collapse_that_lasts_eases_the_penalty_and_at_last_ends_the_run(bad, said):
    watch = rules(images=100, act_from=0.1)
    assert watch.act(50, GOOD | bad, 5.0) == []  # warming up
    lines = [line for images in range(100, 1000, 100) for line in watch.act(images, GOOD | bad, 5.0)]
    assert len(lines) == 4 and all(said in line for line in lines)
    assert watch.easing == 1 / 8 and watch.hopeless


@pytest.mark.parametrize(("penalty", "eased"), [("exact", "the penalty has"), ("none", "both learning rates have")])
def test_what_is_eased_is_the_penalty_or_without_one_the_rates(penalty, eased):
    watch = rules(penalty, images=100, act_from=0.0)
    lines = [line for images in range(0, 1000, 100) for line in watch.act(images, GOOD | {"gap": 0.0}, 5.0)]
    assert all(f"{eased} been halved" in line for line in lines)


@pytest.mark.slow
def test_without_a_penalty_a_collapse_halves_both_rates(config, monkeypatch):
    monkeypatch.setattr("mien.training.gan.players.spread_ratio", lambda *_: 0.05)
    rates = []
    monkeypatch.setattr("mien.training.gan.story._set_rate", lambda _, rate: rates.append(rate))
    health = Health(pictures=18, act_from=0, images=4 * BATCH)
    train(replace(config, images=16 * BATCH, rate_end=1.0, penalty="none", health=health))
    assert rates[::2] == rates[1::2] == [config.learning_rate_generator] * 8 + [config.learning_rate_generator / 2] * 8


def test_a_collapse_that_passes_is_forgotten():
    watch = rules(images=100, act_from=0.0)
    for images in range(0, 1000, 50):
        assert not watch.act(images, GOOD | {"spread": 0.1 if images % 100 else 0.8}, 5.0)
    assert watch.easing == 1


def test_memorised_photographs_raise_the_variation():
    watch = rules()
    (line,) = watch.act(900, GOOD | {"gap": 4.0, "distance": 9.0}, 5.0)
    assert "memorised" in line and watch.probability == pytest.approx(0.3)
    assert not watch.act(900, GOOD | {"gap": 4.0, "distance": 6.0}, 5.0)


@pytest.mark.slow
def test_a_collapsed_run_stops_and_keeps_its_best_snapshot(config, monkeypatch):
    monkeypatch.setattr("mien.training.gan.players.spread_ratio", lambda *_: 0.05)
    config = replace(config, report_every=BATCH, health=Health(pictures=18, act_from=0, images=1))
    with pytest.raises(
        TrainingError, match=r"has collapsed: spread 0.05 .*is kept in .*a lower learning_rate_generator"
    ):
        train(config)
    assert (config.out / "best.safetensors").is_file() and read_log(config.out)


@pytest.mark.parametrize(("score", "direction"), [(1.0, 1), (-1.0, -1)])
def test_variation_adapts_to_how_surely_photographs_are_told(score, direction):
    watch = Rules(GANConfig(data=("x",), out="x", probability=0.5, adapt_images=4096))
    meter = ScoreMeter(torch.device("cpu"))
    for _ in range(128):
        meter.note(torch.full((8, 1), score), torch.full((8, 1), -1.0), relativistic=False)
        watch.adapt(meter, Ranks())
    assert watch.probability == pytest.approx(0.5 + direction * 0.25)


def test_the_published_settings_of_a_variant_are_its_own():
    hinge = configured("hinge", sets=["generator.widths=8,4"], given={"data": ["x"], "out": "x"})
    assert hinge.game == "hinge" and hinge.discriminator.spectral and hinge.generator.norm == "batch"
    assert hinge.generator.widths == (8, 4)
    with pytest.raises(UsageError, match="no variant 'style'"):
        configured("style")


def test_a_generator_that_begins_as_a_vae_has_settings_of_its_own_by_default():
    given = {"data": ["x"], "out": "x"}
    begun = configured(sets=["init=vae"], given=given)
    assert begun == configured("r3", sets=["init=vae"], given=given)
    assert (begun.game, begun.penalty, begun.batch_size) == ("relativistic", "exact", 64)
    assert configured("dcgan", sets=["init=vae"], given=given).game == "nonsaturating"
    assert configured(given=given) == GANConfig(**given | {"data": (Path("x"),), "out": Path("x")})


@pytest.mark.parametrize("name", ["face-gan-64", "expression-gan-48"])
def test_the_recipes_of_shipped_gans_name_what_they_relied_on(name):
    recipe = Path(__file__).parents[2] / "benchmarks" / "recipes" / f"{name}.toml"
    given = {"data": ["x"], "out": "x", "init": "vae"}
    # A VAE's decoder is the generator, whatever is said of one.
    relied, other = (replace(configured(of, recipe, given=given), generator=SMALL) for of in ("r3", "dcgan"))
    assert relied == other == replace(configured(file=recipe, given=given), generator=SMALL)


def test_settings_of_an_older_version_have_no_momentum():
    assert configured(sets=["beta2=0.9"], given={"data": ["x"], "out": "x"}).betas == (0.0, 0.9)
    with pytest.raises(UsageError, match="'betas' is two numbers"):
        configured(sets=["betas=0.5,1"], given={"data": ["x"], "out": "x"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"template": "square"}, "no template 'square'"),
        ({"ramp": (0.5, 0.2)}, "'ramp' is two shares"),
        ({"penalty_every": 0}, "'penalty_every' is at least 1"),
        ({"gamma": -1.0}, "'gamma' is 0 or more"),
        ({"probability": 1.5}, r"'probability' lies in \[0, 1\]"),
        ({"sigma": 0.0}, "'sigma' is above 0"),
        ({"discriminator": DiscriminatorConfig(arch="patch")}, "residual, dcgan or features for a GAN, got 'patch'"),
        ({"data": ()}, "at least one folder"),
    ],
)
def test_settings_out_of_range_are_refused(config, changed, message):
    with pytest.raises(UsageError, match=message):
        replace(config, **changed)


def test_fewer_pictures_than_a_batch_are_too_few(config):
    with pytest.raises(DataError, match="A batch has 64 pictures, and there are only 36"):
        train(replace(config, batch_size=64))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "36 pictures are few.* Train a VAE first, and begin as it: --init RUN"),
        ({"template": "face-64", "side": 64, "colour": True, "conditional": False}, "--init face-vae-64"),
        ({"init": Path("run")}, "before you give it away.\n"),
    ],
    ids=["no fitting VAE", "one that is shipped", "begins as one"],
)
def test_few_pictures_point_at_a_vae_to_begin_as(config, capfd, changed, words):
    config = replace(config, **changed)
    load_material(config, cache=config.cache, ranks=Ranks(), device="cpu")

    assert re.search(words, capfd.readouterr().err)


@pytest.mark.slow
def test_a_class_of_one_picture_is_left_out_and_named(config, data, tmp_path, capfd):
    folder = draw(tmp_path / "few" / "train", range(8))
    draw(folder, [0], ["anger"])
    draw(tmp_path / "few" / "valid", range(12, 14))
    foreseen = dry_run(replace(config, data=(tmp_path / "few",), cache=None))
    assert foreseen.classes == CLASSES and foreseen.pictures == 24
    assert "Only 1 training picture shows 'anger', fewer than 4" in capfd.readouterr().err


def test_a_dry_run_writes_nothing(config):
    foreseen = dry_run(config, steps=1)
    assert foreseen.classes == CLASSES and foreseen.images_per_second > 0 and min(foreseen.parameters) > 0
    assert not config.out.exists()
