"""A flow in latents: what it learns, when it stops, and how it stands in a generator's file."""

import io
import json
import shutil
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from evaluation.memory import BASIS, CONTRAST, LATENTS, SIDE, faces
from mien.drawing import draw_face
from mien.errors import ModelError, TrainingError, UsageError
from mien.evaluation.audit import audit, pixel_space
from mien.networks.flow import (
    LatentFlow,
    Restarts,
    VelocityNet,
    VelocityNetConfig,
    VelocityTransformer,
    build_velocity_net,
)
from mien.training.reporter import Reporter
from mien.training.storage import half_weights
from mien.training.vae.flow import FlowConfig, Posteriors, fit_flow, show_looks, velocity_loss
from mien.training.vae.grafting import PublishedFlow, flow_network, graft, transplant, with_flow
from mien.vision.detector import Detection
from mien.vision.generator import PRIORS, Generator, Request
from squares import filled_store, store  # noqa: F401
from vision.generators import LABELS, save_generator

SMALL = VelocityNetConfig(width=48, blocks=2, code=16)


@pytest.fixture(autouse=True)
def single():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ring(rng, n, *, condition=False):
    """Latents on a circle of radius 2, where no single Gaussian lies; the condition says which half."""
    angle = rng.uniform(0, 2 * np.pi, n)
    points = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    half = np.eye(2)[(points[:, 1] > 0).astype(int)] if condition else None
    return Posteriors(points.astype(np.float32), np.full((n, 2), 0.05, np.float32), half)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    config = FlowConfig(
        images=128 * 200, batch_size=128, report_every=128 * 100, learning_rate=5e-3, ema_half_life=2000, net=SMALL
    )
    return fit_flow(ring(rng, 2000, condition=True), ring(rng, 300, condition=True), config)


def drawn(flow, n, condition=None, guidance=1.0):
    noise = torch.randn(n, flow.net.latents, generator=torch.Generator().manual_seed(1))
    told = None if condition is None else torch.eye(2)[torch.full((n,), condition)]
    with torch.no_grad():
        return flow(noise, told, None if told is None else torch.full((n,), guidance)).numpy()


def test_samples_lie_where_latents_lie_and_not_between_them(fitted):
    radius = np.linalg.norm(drawn(fitted.flow, 400, condition=1), axis=1)

    assert np.mean(np.abs(radius - 2) < 0.4) > 0.85 and np.mean(radius < 1) < 0.05


def test_a_condition_is_followed_and_without_guidance_it_is_not(fitted):
    for condition in (0, 1):
        upper = drawn(fitted.flow, 300, condition)[:, 1] > 0
        assert np.mean(upper == bool(condition)) > 0.9
    assert 0.3 < np.mean(drawn(fitted.flow, 300, 1, guidance=0.0)[:, 1] > 0) < 0.7


def stripes(rng, n):
    """Maps of 3 x 3 places in two channels: all places alike in one, alternating in the other; no place tells which."""
    sign = rng.choice([-1.0, 1.0], size=(n, 2))
    pattern = np.stack([np.ones(9), np.tile([1, -1], 5)[:9]])
    return Posteriors((sign[:, :, None] * pattern).reshape(n, 18).astype(np.float32), np.full((n, 18), 0.1), places=9)


def test_a_transformer_learns_how_places_hang_together():
    rng = np.random.default_rng(0)
    config = FlowConfig(
        images=64 * 300, batch_size=64, report_every=64 * 150, learning_rate=1e-2, ema_half_life=1500,
        net=VelocityNetConfig(width=32, blocks=1, code=16, heads=2), steps=4,
    )  # fmt: skip
    fitted = fit_flow(stripes(rng, 800), stripes(rng, 200), config)
    assert isinstance(fitted.flow.net, VelocityTransformer)

    maps = drawn(fitted.flow, 200).reshape(200, 2, 9)

    assert np.mean(np.abs(maps[:, 0].mean(axis=1)) > 0.7) > 0.8
    assert np.mean(np.abs(maps[:, 1] @ np.tile([1, -1], 5)[:9] / 9) > 0.7) > 0.8


def test_a_transformer_is_fitted_in_bfloat16_too_and_stands_in_a_file_as_it_is(rng):
    config = FlowConfig(images=320, batch_size=32, precision="bf16", net=VelocityNetConfig(width=16, blocks=1), steps=2)
    flow = fit_flow(stripes(rng, 100), stripes(rng, 30), config).flow
    published = PublishedFlow(flow, 0, 0).eval()

    session = onnxruntime.InferenceSession(flow_network(published))
    noise = torch.randn(5, 18)

    with torch.no_grad():
        assert np.allclose(session.run(None, {"noise": noise.numpy()})[0], published(noise).numpy(), atol=1e-4)


def test_autoguidance_goes_on_from_a_worse_flow_past_the_better_one(rng):
    net, weak = (VelocityNet(VelocityNetConfig(width=8, blocks=1, code=4), 3) for _ in range(2))
    for one in (net, weak):
        torch.nn.init.normal_(one.last.bias)
    points, settings = torch.randn(4, 3), {"time": 0.3, "condition": None, "guidance": None}

    def velocity(**more):
        with torch.no_grad():
            return LatentFlow(net, torch.zeros(3), torch.ones(3), steps=1, **more).velocity(points, **settings)

    good, bad = (velocity(), LatentFlow(weak, torch.zeros(3), torch.ones(3), steps=1).velocity(points, **settings))
    assert torch.allclose(velocity(weak=weak, autoguidance=2.0), 2 * good - bad.detach(), atol=1e-6)
    assert torch.allclose(velocity(weak=weak, autoguidance=1.0), good, atol=1e-6)

    config = FlowConfig(
        images=640, batch_size=32, autoguidance=1.5, weak=VelocityNetConfig(width=8, blocks=1, code=4),
        weak_images=64, net=SMALL, steps=2,
    )  # fmt: skip
    fitted = fit_flow(ring(rng, 100), ring(rng, 30), config)
    assert fitted.flow.weak.config.width == 8 and fitted.figures["flow_autoguidance"] == 1.5
    file = flow_network(PublishedFlow(fitted.flow, 0, 0).eval())
    noise = torch.randn(5, 2)
    with torch.no_grad():
        drawn = onnxruntime.InferenceSession(file).run(None, {"noise": noise.numpy()})[0]
        assert np.allclose(drawn, fitted.flow(noise).numpy(), atol=1e-4)
    with pytest.raises(UsageError, match="is 1 to 4, got 5"):
        FlowConfig(autoguidance=5)


def test_a_flow_is_learned_on_from_its_weights(rng):
    train, valid = ring(rng, 200), ring(rng, 50)
    config = FlowConfig(images=6400, batch_size=64, report_every=3200, learning_rate=5e-3, ema_half_life=500, net=SMALL)
    begun = fit_flow(train, valid, config)

    on = fit_flow(train, valid, replace(config, images=640, learning_rate=1e-4), init=begun.flow.net.state_dict())

    assert on.rows[0]["valid_loss"] < begun.rows[0]["valid_loss"]
    with pytest.raises(TrainingError, match="built otherwise"):
        fit_flow(train, valid, replace(config, net=replace(SMALL, width=32)), init=begun.flow.net.state_dict())


def test_a_flow_that_is_learned_on_may_forget_a_little_while_the_rate_is_high(rng):
    train, valid = ring(rng, 200), ring(rng, 50)
    config = FlowConfig(images=3200, batch_size=64, report_every=320, learning_rate=5e-3, ema_half_life=0, net=SMALL)
    begun = fit_flow(train, valid, config).flow.net.state_dict()

    on = fit_flow(train, valid, replace(config, images=6400, learning_rate=0.3, patience=1), init=begun)

    assert on.rows[-1]["images"] >= 2133  # a third


def test_moments_can_be_learned_nearer_to_the_noise(monkeypatch, rng):
    seen = []
    monkeypatch.setattr(
        "mien.training.vae.flow._errors",
        lambda net, latents, noise, time, condition, told: (
            seen.append(time) or (0 * net.last.bias.sum() + 1 + 0 * time)
        ),
    )
    for mean in (0.0, -2.0):
        fit_flow(ring(rng, 50), ring(rng, 20), FlowConfig(images=256, batch_size=256, time_mean=mean, net=SMALL))
    learned = [time for time in seen if len(time) == 256]
    assert learned[0].mean() > 0.4 and learned[-1].mean() < 0.25


def test_a_transformer_of_a_vector_is_refused():
    with pytest.raises(UsageError, match="a transformer needs a map"):
        build_velocity_net(VelocityNetConfig(arch="transformer"), 8)
    with pytest.raises(UsageError, match=r"multiple of 'net\.heads', got 30 and 4"):
        build_velocity_net(VelocityNetConfig(width=30), 18, places=9)


def test_the_same_seed_gives_the_same_flow_to_the_last_bit(rng):
    train, valid = ring(rng, 100), ring(rng, 30)
    config = FlowConfig(images=320, passes=1000, batch_size=32, report_every=160, net=SMALL)

    one, other = (fit_flow(train, valid, config, seed=4) for _ in range(2))

    assert one.rows == other.rows and np.array_equal(drawn(one.flow, 5), drawn(other.flow, 5))


def test_the_flow_of_the_smallest_loss_on_held_out_faces_is_kept_and_ends_the_fitting(rng):
    config = FlowConfig(
        images=64 * 2000, passes=10_000, batch_size=64, report_every=64 * 20, patience=3, learning_rate=5e-3,
        ema_half_life=500, net=VelocityNetConfig(width=96, blocks=1, code=16),
    )  # fmt: skip
    some = rng.normal(size=(2, 24, 16)).astype(np.float32)
    train, valid = (Posteriors(points, np.full_like(points, 0.01)) for points in some)

    fitted = fit_flow(train, valid, config)

    losses = [row["valid_loss"] for row in fitted.rows]
    assert len(losses) < 100 and fitted.valid_loss == min(losses) and losses[-1] > min(losses)
    assert fitted.images < fitted.rows[-1]["images"]


def test_where_there_is_no_terminal_one_look_in_ten_is_told():
    stream = io.StringIO()
    with Reporter(2500, stream=stream) as reporter:
        show = show_looks(reporter)
        for look in range(1, 26):
            show({"images": 100 * look, "valid_loss": look / 4})

    lines = stream.getvalue().splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["100", "1,100", "2,100"]
    assert lines[1].endswith("valid loss 2.75")


def test_a_flow_without_faces_to_check_with_is_refused(rng):
    with pytest.raises(TrainingError, match="faces to check with, got 10 and 0"):
        fit_flow(ring(rng, 10), ring(rng, 0), FlowConfig(net=SMALL))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "flow.steps' is 1 to 64, got 0"),
        ({"guidance": 11.0}, "flow.guidance' is 0 to 10, got 11"),
        ({"forget": 1.0}, r"flow.forget' lies in \[0, 1\), got 1"),
        ({"grading": 5.0}, "flow.grading' is 0 to 4, got 5"),
        ({"patience": 0}, "flow.patience' is at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, words):
    with pytest.raises(UsageError, match=words):
        FlowConfig(**given)


# Learned by heart


def test_the_audit_refuses_a_flow_that_learned_latents_by_heart(rng):
    known, others = faces(rng, 110), faces(rng, 200)

    def latents(some):
        flat = some.transpose(0, 3, 1, 2).reshape(len(some), -1).astype(np.float32) - 128
        return Posteriors(flat @ BASIS.T / CONTRAST, np.full((len(some), LATENTS), 0.01, np.float32))

    config = FlowConfig(
        images=64 * 300, passes=1000, batch_size=64, report_every=64 * 150, learning_rate=4e-3, ema_half_life=1000,
        net=VelocityNetConfig(width=192, blocks=1, code=32),
    )  # fmt: skip
    # What would have ended it is switched off: the faces to check with are those that are learned.
    fitted = fit_flow(latents(known), latents(known), config)
    flat = 128 + CONTRAST * drawn(fitted.flow, 300) @ BASIS
    samples = flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1).clip(0, 255).round().astype(np.uint8)

    report = audit(samples, known, others, spaces=[pixel_space])

    assert not report.passed and "nearer to a training face" in " ".join(report.reasons)
    # The loss on faces that are really held out would have said so, too.
    flow = fitted.flow
    held_out = velocity_loss(flow.net, latents(others), flow.centre.numpy(), flow.scale.numpy())
    assert held_out > 2 * fitted.train_loss


# In a generator's file


STEPS = 2


@cache  # writing one as ONNX takes half a second
def flow_of(classes=0, *, latents=6, seed=0, restarts=0, grading=None):
    torch.manual_seed(seed)
    net = VelocityNet(SMALL, latents, classes + (grading is not None))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    centre, scale = torch.linspace(-1, 1, latents), torch.linspace(0.5, 1, latents)
    flow = LatentFlow(net, centre, scale, steps=STEPS, restarts=Restarts(restarts), grading=grading)
    flow = PublishedFlow(flow, classes, 0).eval()
    return flow, flow_network(flow)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    run = save_generator(
        tmp_path_factory.mktemp("vae") / "vae", kind="vae", labels=LABELS, components=((0, 0.6), (1, 0.4)), encoder=True
    )
    return (run / "model.onnx").read_bytes()


def asked(network, flow, component):
    session = onnxruntime.InferenceSession(network)
    given = {name: value.numpy() for name, value in flow.examples().items()}
    given["component"] = np.array(component)
    names = {item.name for item in session.get_inputs()}
    given.setdefault("label", np.arange(4) % len(LABELS))
    return session.run(["latents"], {name: given[name] for name in names})[0]


@pytest.mark.parametrize("classes", [0, len(LABELS)], ids=["told nothing", "told the label"])
def test_below_0_a_component_is_the_flow_and_from_0_on_all_is_as_it_was(network, classes):
    flow, stem = flow_of(classes)
    grown = graft(network, stem)

    answers = asked(grown, flow, [-1, 0, 2, -1])

    with torch.no_grad():
        expected = flow(*flow.examples().values()).numpy()
    np.testing.assert_allclose(answers[[0, 3]], expected[[0, 3]], atol=1e-4)
    np.testing.assert_array_equal(answers[1:3], asked(network, flow, [0, 0, 2, 0])[1:3])


def test_the_file_answers_as_pytorch_does(network):
    flow, stem = flow_of(len(LABELS))

    grown, difference = with_flow(network, flow)

    assert difference < 1e-4 and grown == graft(network, stem)


def test_new_noise_comes_into_the_file_with_a_flow_that_takes_it_and_goes_with_it(network):
    flow, stem = flow_of(len(LABELS), restarts=2)
    grown = graft(network, stem)

    with torch.no_grad():
        expected = flow(*flow.examples().values()).numpy()
    np.testing.assert_allclose(asked(grown, flow, [-1] * 4), expected, atol=1e-4)
    plain = flow_of(len(LABELS))[1]
    assert graft(grown, plain) == graft(network, plain)
    carried = transplant(grown, network)
    np.testing.assert_array_equal(asked(carried, flow, [-1] * 4), asked(grown, flow, [-1] * 4))


@pytest.mark.parametrize("classes", [0, len(LABELS)], ids=["told nothing else", "told the label, too"])
@pytest.mark.parametrize("grading", [0.0, 1.5])
def test_a_flow_that_is_told_grades_is_told_the_best_one_in_its_file_and_goes_on_past_it(network, classes, grading):
    flow, stem = flow_of(classes, grading=grading)
    noise, guidance = (flow.examples()[name] for name in ("noise", "guidance"))
    label = torch.eye(len(LABELS))[flow.examples()["label"]] if classes else torch.empty(4, 0)
    net, told = flow.flow.net, torch.ones(4)

    def velocity(points, time):
        moment = torch.tensor([time])
        best, worst = (torch.cat([label, torch.full((4, 1), grade)], dim=1) for grade in (1.0, 0.0))
        follows, free = net(points, moment, best, told), net(points, moment, best, 0 * told)
        bad = net(points, moment, worst, told)
        return free + guidance[:, None] * (follows - free) + grading * (follows - bad)

    x, length = noise, 1 / STEPS
    with torch.no_grad():
        for step in range(STEPS):
            half = x + 0.5 * length * velocity(x, step * length)
            x = x + length * velocity(half, (step + 0.5) * length)
        expected = flow.flow.centre + flow.flow.scale * x

    answers = asked(graft(network, stem), flow, [-1] * 4)

    np.testing.assert_allclose(answers, expected.numpy(), atol=1e-3)


def test_a_new_flow_replaces_the_one_that_is_there_with_its_inputs(network):
    old, new = flow_of(len(LABELS))[1], flow_of()[1]

    assert graft(graft(network, old), new) == graft(network, new)


def test_a_flow_is_carried_over_also_in_half_precision(network):
    flow, stem = flow_of(len(LABELS))
    halved = half_weights(onnx.load_from_string(stem)).SerializeToString()
    donor = graft(network, halved)

    heir = transplant(donor, network)

    np.testing.assert_allclose(asked(heir, flow, [-1] * 4), asked(donor, flow, [-1] * 4), atol=1e-6)
    assert transplant(network, network) == network


def labelled(folder):
    """Save a VAE that knows expressions and has no flow."""
    return save_generator(folder, kind="vae", labels=LABELS, components=((0, 0.6), (1, 0.4)), encoder=True)


@pytest.fixture(scope="module")
def flowing(tmp_path_factory):
    """A run whose flow is told the label."""
    run = labelled(tmp_path_factory.mktemp("flowing") / "run")
    (run / "model.onnx").write_bytes(graft((run / "model.onnx").read_bytes(), flow_of(len(LABELS))[1]))
    card = json.loads((run / "card.json").read_text())
    card["convention"] |= {"flow": STEPS, "guidance": 1.5}
    (run / "card.json").write_text(json.dumps(card))
    return run


def test_a_generator_draws_from_its_flow_unless_another_prior_is_asked_for(flowing):
    generator = Generator(flowing)
    drawn_by = {prior: generator.generate(12, seed=3, prior=prior) for prior in (None, "fitted", *PRIORS)}

    assert np.array_equal(drawn_by[None], drawn_by["flow"]) and np.array_equal(drawn_by[None], drawn_by["fitted"])
    for one, other in (("flow", "mixture"), ("mixture", "normal"), ("flow", "normal")):
        assert not np.array_equal(drawn_by[one], drawn_by[other])
    assert np.array_equal(generator.generate(3, seed=3), drawn_by["flow"][:3])
    labels = [label for batch in generator.batches(40, Request()) for label in batch.labels]
    assert set(labels) == {"neutral", "happiness"}  # as frequent as in the data


def test_new_noise_on_the_way_is_of_the_seed_and_the_number_alone(flowing, tmp_path):
    shutil.copytree(flowing, tmp_path / "run")
    before, run = Generator(flowing), tmp_path / "run"
    (run / "model.onnx").write_bytes(graft((run / "model.onnx").read_bytes(), flow_of(len(LABELS), restarts=2)[1]))
    with pytest.raises(ModelError, match="Is the card of another file"):
        Generator(run).generate(1)
    card = json.loads((run / "card.json").read_text())
    card["convention"]["restarts"] = 2
    (run / "card.json").write_text(json.dumps(card))
    generator = Generator(run)

    faces = generator.generate(40, seed=3)

    (later,) = (batch.images for batch in generator.batches(36, Request(seed=3), start=35))
    assert np.array_equal(later[0], faces[35])
    assert not np.array_equal(faces[:12], before.generate(12, seed=3))
    assert np.array_equal(generator.generate(12, prior="mixture"), before.generate(12, prior="mixture"))
    assert not np.array_equal(generator.generate(4, truncation=0.5), generator.generate(4))
    way = generator.between(3, 4, 3)
    assert np.abs(way[0].astype(int) - faces[0]).max() <= 1


def test_guidance_changes_what_is_drawn_and_is_that_of_the_card_unless_given(flowing):
    generator = Generator(flowing)

    assert np.array_equal(generator.generate(4), generator.generate(4, guidance=1.5))
    assert not np.array_equal(generator.generate(4), generator.generate(4, guidance=0.0))


def test_guidance_that_makes_no_sense_is_refused(flowing, tmp_path):
    generator = Generator(flowing)
    with pytest.raises(UsageError, match="guidance should be 0 to 10, got 11"):
        generator.generate(1, guidance=11.0)
    with pytest.raises(UsageError, match="is not what these faces are drawn from"):
        generator.generate(1, guidance=2.0, prior="mixture")
    plain = Generator(save_generator(tmp_path / "plain", kind="vae"))
    with pytest.raises(UsageError, match="has no flow"):
        plain.generate(1, prior="flow")


def test_faces_between_two_seeds_begin_and_end_with_the_faces_of_the_flow(flowing):
    generator = Generator(flowing)
    first, last = (generator.generate(1, seed=seed, expression="happiness")[0].astype(int) for seed in (4, 5))

    way = generator.between(4, 5, 3, expression="happiness")

    assert np.abs(way[0] - first).max() <= 1 and np.abs(way[-1] - last).max() <= 1


@pytest.fixture
def portrait(monkeypatch):
    """A picture whose face shows happiness; what is read off an aligned face is set by `seen`."""
    drawn = draw_face(3, side=180)
    face = Detection(drawn.box, drawn.landmarks.astype(np.float32), 0.9)
    monkeypatch.setattr("mien.vision.generator.patient_detector", lambda: SimpleNamespace(detect=lambda image: [face]))
    monkeypatch.setattr("mien.zoo.default", lambda role: "tiny")
    return drawn.image


def reading(monkeypatch, surprise):
    """Faces of the whole picture show happiness, edited ones in turn as much surprise as told."""
    shares = iter(surprise)

    def read(image, faces):
        told = 0.0 if image.shape[0] == 180 else next(shares)
        return [SimpleNamespace(probabilities={"happiness": 1 - told, "surprise": told})]

    reader = SimpleNamespace(read=read)
    monkeypatch.setattr("mien.vision.generator.ExpressionReader", lambda card, *, threads: reader)


def test_an_edit_goes_where_the_flow_carries_the_same_noise(flowing, portrait, store, tmp_path, monkeypatch):  # noqa: F811
    reading(monkeypatch, [])
    generator = Generator(flowing)
    edit = generator.edit(portrait, expression="surprise", strength=1.0)

    assert edit.strength == 1.0 and not np.array_equal(edit.after, edit.before)
    same = generator.edit(portrait, expression="happiness")
    assert np.array_equal(same.after, same.before)
    by_means = Generator(labelled(tmp_path / "plain")).edit(portrait, expression="surprise", strength=1.0)
    assert np.array_equal(by_means.before, edit.before) and not np.array_equal(by_means.after, edit.after)


@pytest.mark.parametrize(
    ("surprise", "strength"), [([0.2, 0.6], 1.0), ([0.9], 0.75), ([0.1] * 4, 1.5)], ids=["second", "first", "never"]
)
def test_an_edit_stops_at_the_least_strength_that_is_read(flowing, portrait, store, monkeypatch, surprise, strength):  # noqa: F811
    reading(monkeypatch, surprise)

    assert Generator(flowing).edit(portrait, expression="surprise").strength == strength


def test_a_generator_without_a_prior_has_no_place_for_a_flow(tmp_path):
    run = save_generator(tmp_path / "gan", kind="gan")

    with pytest.raises(ModelError, match="no place in it"):
        graft((run / "model.onnx").read_bytes(), flow_of()[1])
