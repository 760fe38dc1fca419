import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from mien import zoo
from mien.drawing import draw_face
from mien.errors import DataError, TrainingError, UsageError
from mien.images import save_image
from mien.networks import VAENetConfig
from mien.networks.flow import VelocityNetConfig
from mien.networks.gan import DiscriminatorConfig
from mien.training.export import save_weights
from mien.training.ranks import Ranks
from mien.training.run import read_log
from mien.training.vae import SHIPPED, VAEConfig, dry_run, encode, load_vae, train
from mien.training.vae.flow import FlowConfig
from mien.training.vae.judging import validate
from mien.training.vae.learning import Stability, build_networks, learn
from mien.training.vae.material import load_material
from mien.vision.embedder import Embedder
from mien.vision.generator import Generator

NET = VAENetConfig(side=16, latents=8, widths=(16, 32), last_width=8)
FLOW = FlowConfig(images=4 * 32, batch_size=32, report_every=64, net=VelocityNetConfig(width=16, blocks=1, code=8))
CRITIC = DiscriminatorConfig(widths=(8, 16, 16))
CLASSES = ("neutral", "happiness", "surprise")
STEP = 16  # images


class Blind:
    """Finds no face: every drawn picture is taken as a whole."""

    def detect(self, image):
        return []


@pytest.fixture(autouse=True)
def blind_and_single(monkeypatch):
    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are the same to the last bit only with as many threads
    yield
    torch.set_num_threads(threads)


@cache
def face(subject, expression):
    image = draw_face(subject, side=64, expression=expression).image
    return cv2.resize(image[10:54, 10:54], (24, 24), interpolation=cv2.INTER_AREA)


def draw(folder, subjects, classes=CLASSES):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            save_image(folder / name / f"{subject}.png", face(subject, name))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw(folder / "train", range(12))
    draw(folder / "valid", range(12, 16))
    return folder


def settings(data, out, **more):
    given = {
        "data": (data,), "out": out, "cache": data.parent / "crops", "keep_without_face": True, "images": 8 * STEP,
        "batch_size": STEP, "report_every": 4 * STEP, "net": NET, "components": 2, "learning_rate": 3e-3,
        "ema_half_life": 80, "device": "cpu", "flow": FLOW,
    }  # fmt: skip
    return VAEConfig(**{**given, **more})


@pytest.fixture
def config(data, tmp_path):
    return settings(data, tmp_path / "run", prior="mixture")  # a flow is fitted last: `finished` has one


def figures(out):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(out)]


def same(left, right):
    mine, other = load_file(left), load_file(right)
    return mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that was given time to learn."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.data.crops.patient_detector", Blind)
        config = settings(data, tmp_path_factory.mktemp("finished") / "run", images=100 * STEP, report_every=25 * STEP)
        return train(config), config


@pytest.mark.slow
def test_a_file_of_weights_is_the_network_of_its_run(finished, tmp_path):
    trained, config = finished
    file = tmp_path / "weights.safetensors"
    size = save_weights(config.out, file, precision="fp16")
    model, facts = load_vae(file)
    latents = torch.randn(4, NET.latents, generator=torch.Generator().manual_seed(0))
    told = torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        torch.testing.assert_close(model.decode(latents, told), trained.model.decode(latents, told), rtol=0, atol=1.0)
    assert size == file.stat().st_size < 0.6 * (config.out / "best.safetensors").stat().st_size
    assert tuple(facts["labels"]) == CLASSES


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_of_the_shipped_networks(name):
    model, facts = load_vae(Path(name))
    generator = Generator(name)
    latents = np.random.default_rng(0).normal(size=(2, generator.latents)).astype(np.float32)
    told = torch.eye(len(facts["labels"]))[:2] if facts["labels"] else None
    with torch.no_grad():
        ours = model.decode(torch.from_numpy(latents), told).clamp(0, 255).numpy().transpose(0, 2, 3, 1)
    drawn = generator.decode(latents, expression=facts["labels"][:2] or None)
    assert tuple(facts["labels"]) == generator.labels
    assert np.abs(ours - drawn).max() < 3


@pytest.mark.slow
def test_drawn_faces_are_learned(finished):
    trained, config = finished
    rows = read_log(config.out)
    assert trained.summary["elbo"] > rows[0]["valid_elbo"]
    assert trained.summary["psnr"] > 17  # the mean face has 13
    assert trained.summary["active_units"] >= 4
    assert trained.classes == CLASSES


@pytest.mark.slow
def test_the_fitted_prior_describes_held_out_latents_better_than_a_standard_normal(finished):
    assert finished[0].summary["prior_gain"] > 0


@pytest.mark.slow
def test_the_elbo_is_that_of_its_definition(finished):
    trained, config = finished
    material = load_material(config, cache=config.cache, ranks=Ranks())
    scores = validate(trained.model, material, config)
    valid, sigma = material.valid, scores["sigma"]
    mean, log_variance = encode(trained.model, valid.images)
    noise = np.random.default_rng(0).standard_normal(mean.shape, dtype=np.float32)
    with torch.no_grad():
        z = torch.from_numpy(mean + noise * np.exp(log_variance / 2))
        drawn = trained.model.decode(z, material.condition(valid, slice(None)))
    images = torch.from_numpy(valid.images).float()
    fit = torch.distributions.Normal(drawn, sigma).log_prob(images).flatten(1).sum(1)
    posterior = torch.distributions.Normal(torch.from_numpy(mean), torch.from_numpy(log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert scores["valid_elbo"] == pytest.approx(float((fit - kl).mean()), rel=1e-4)


# What is published ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_generator_draws_what_pytorch_draws(finished):
    trained, config = finished
    card = zoo.named(config.out)
    assert card.role == "generator" and card.convention["labels"] == list(CLASSES)
    components = card.convention["components"]
    assert sum(weight for _, weight in components) == pytest.approx(1)
    assert {label for label, _ in components} == {0, 1, 2}

    session = onnxruntime.InferenceSession(config.out / "model.onnx", providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).standard_normal((3, 8), dtype=np.float32)
    asked = {"noise": noise, "component": np.array([0, 1, 0]), "label": np.array([2, 0, 1])}
    asked["guidance"] = np.ones(3, np.float32)
    images, latents = session.run(None, asked)
    assert images.shape == (3, 3, 16, 16) and images.min() >= 0 and images.max() <= 255
    assert np.array_equal(latents[[0, 2]], noise[[0, 2]])
    assert np.allclose(latents[1], trained.prior.means[0] + trained.prior.factors[0] @ noise[1], atol=1e-4)
    with torch.no_grad():
        expected = trained.model.decode(torch.from_numpy(latents), torch.eye(3)[[2, 0, 1]]).clamp(0, 255)
    assert np.abs(images - expected.numpy()).max() < 0.05


@pytest.mark.slow
def test_the_encoder_is_an_embedder(finished):
    trained, config = finished
    card = zoo.named(config.out / "encoder.onnx")
    assert card.role == "embedder" and card.convention["kind"] == "vae-encoder"
    crops = np.stack([cv2.resize(face(subject, "neutral"), (16, 16)) for subject in range(12)])
    vectors = Embedder(card, threads=1).embed(crops)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    session = onnxruntime.InferenceSession(config.out / "encoder.onnx", providers=["CPUExecutionProvider"])
    pictures = np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
    features, mean, log_variance = session.run(None, {"image": pictures.astype(np.float32)})
    ours = encode(trained.model, pictures)
    assert np.allclose(mean, ours[0], atol=1e-3) and np.allclose(log_variance, ours[1], atol=1e-3)
    assert np.abs(features.mean(axis=0)).max() < 1 and 0.3 < features.std() < 3


@pytest.mark.slow
def test_a_run_can_be_loaded_again_and_one_of_another_kind_is_refused(finished, tmp_path):
    trained, config = finished
    model, facts = load_vae(config.out)
    assert facts["labels"] == list(CLASSES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.model.parameters(), strict=True))
    (tmp_path / "network.json").write_text(json.dumps({"net": {}, "heads": {}}))
    with pytest.raises(TrainingError, match="a run of another kind"):
        load_vae(tmp_path)


@pytest.mark.slow
def test_sheets_and_card_are_drawn(finished):
    out = finished[1].out
    assert {path.stem for path in (out / "pictures").glob("*.png")} == {
        "reconstructions", "samples", "samples-flow", "samples-normal",
    }  # fmt: skip
    assert "Samples of" not in (out / "card.html").read_text() and (out / "summary.json").is_file()


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [False, True], ids=["plain", "with a critic"])
def test_a_resumed_run_equals_an_unbroken_one_to_the_last_bit(config, tmp_path, monkeypatch, sharp):
    more = {"adversarial": 0.5, "adversarial_from": 0.2, "discriminator": CRITIC} if sharp else {"precision": "bf16"}
    whole, broken = (replace(config, out=tmp_path / name, **more) for name in ("whole", "broken"))
    train(whole)
    monkeypatch.setattr("mien.training.course.Budget", Once)
    train(broken)
    assert figures(broken.out)[-1]["images"] < whole.images
    monkeypatch.undo()
    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    train(broken)
    assert same(whole.out / "last.safetensors", broken.out / "last.safetensors")
    assert figures(broken.out)[-1] == figures(whole.out)[-1]
    assert (whole.out / "model.onnx").read_bytes() == (broken.out / "model.onnx").read_bytes()


class Once:
    """A budget for four steps, the first report."""

    def __init__(self, seconds):
        self.asked = 0

    @property
    def spent(self):
        self.asked += 1
        return self.asked == 4


def test_a_run_stops_early_where_nothing_gets_better(config, monkeypatch):
    monkeypatch.setattr("mien.training.vae.story.validate", lambda *_, **__: dict.fromkeys(SCORES, 1.0))
    train(replace(config, images=100 * STEP, report_every=2 * STEP, patience=2))
    assert figures(config.out)[-1]["images"] == 6 * STEP


SCORES = ("valid_elbo", "valid_kl", "valid_active_units", "valid_psnr", "valid_sharpness", "sigma")


def test_bits_become_free_when_latents_die(config, monkeypatch, capsys):
    monkeypatch.setattr(
        "mien.training.vae.story.validate", lambda *_, **__: dict.fromkeys(SCORES, 1.0)
    )  # one unit of eight
    train(config)
    assert "12% of the latents are used: 0.1 nats each cost nothing" in capsys.readouterr().err


def test_a_diverging_run_goes_back_and_at_last_says_so(config, monkeypatch):
    def spoilt(*args):
        loss = learn(*args)
        for weight in args[0].model.parameters():
            weight.grad.fill_(math.nan)
        return loss

    monkeypatch.setattr("mien.training.vae.story.learn", spoilt)
    with pytest.raises(TrainingError, match="no number, even at 1/8 of the learning rate"):
        train(config)
    assert (config.out / "last.safetensors").is_file()


def test_a_gradient_many_times_as_long_as_usual_is_left_out():
    health, model = Stability(), torch.nn.Linear(2, 1, bias=False)

    def met(length):
        model.weight.grad = torch.tensor([[length, 0.0]])
        return health.spike(model, 5.0)

    assert not any(met(1.0 + 0.01 * (i % 3)) for i in range(60))
    assert met(6.0) and not met(4.0) and not met(math.nan)
    assert health.skipped == 1


# Variants -------------------------------------------------------------------------------------------------------------


def test_the_classic_loss_is_half_the_summed_squares_plus_the_divergence(config, monkeypatch):
    classic = replace(config, variant="classic", mirror=0.0, kl_warm_up=0.0)
    material = load_material(classic, cache=classic.cache, ranks=Ranks())
    networks = build_networks(classic, material, torch.device("cpu"))
    batch = material.batch(0, STEP)
    torch.manual_seed(0)
    loss = learn(networks, material, batch, Stability(), 0, classic, torch.device("cpu"))
    torch.manual_seed(0)
    torch.rand(STEP)  # the flips
    with torch.no_grad():
        x = torch.from_numpy(material.train.images[batch]).float()
        mean, log_variance = networks.model.encode(x)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        drawn = networks.model.decode(z, material.condition(material.train, batch))
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    expected = 0.5 * ((x - drawn) / 255).square().flatten(1).sum(1) + kl
    # Warm-up over nothing: the first step has no KL yet.
    assert loss.item() * classic.net.pixels == pytest.approx((expected - kl).mean().item(), rel=1e-4)
    torch.manual_seed(0)
    loss = learn(networks, material, batch, Stability(), STEP, classic, torch.device("cpu"))
    assert loss.item() * classic.net.pixels == pytest.approx(expected.mean().item(), rel=1e-4)


def test_parts_of_a_batch_give_a_gradient_like_the_whole_one(config):
    classic = replace(config, variant="classic", mirror=0.0)
    material = load_material(classic, cache=classic.cache, ranks=Ranks())
    gradients = []
    for accumulate in (1, 2):
        torch.manual_seed(1)
        networks = build_networks(classic, material, torch.device("cpu"))
        batch = material.batch(0, STEP)
        torch.manual_seed(0)
        learn(networks, material, batch, Stability(), 0, replace(classic, accumulate=accumulate), torch.device("cpu"))
        gradients.append(networks.model.last_weight.grad)
    assert torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.9


def test_the_decoder_hears_the_critic_only_after_a_while(config):
    sharp = replace(config, adversarial=0.5, discriminator=CRITIC)
    material = load_material(sharp, cache=sharp.cache, ranks=Ranks())
    gradients = []
    for weight, images in ((0.0, 0), (0.5, 0), (0.5, sharp.images)):
        config = replace(sharp, adversarial=weight, kl_warm_up=0.0)
        torch.manual_seed(1)
        networks = build_networks(config, material, torch.device("cpu"))
        torch.manual_seed(0)
        batch = material.batch(0, STEP)
        learn(networks, material, batch, Stability(), images, config, torch.device("cpu"))
        gradients.append(networks.model.last_weight.grad)
        if weight:
            learned = [p.grad is not None and bool(p.grad.any()) for p in networks.discriminator.trunk.parameters()]
            assert any(learned) == bool(images)
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[1], gradients[2])


def test_a_critic_without_penalties_learns_too_and_half_of_none_is_refused(config):
    plain = DiscriminatorConfig(arch="dcgan", widths=(8, 16))
    free = replace(config, adversarial=0.5, adversarial_from=0.0, discriminator=plain, discriminator_gamma=(0.0, 0.0))
    material = load_material(free, cache=free.cache, ranks=Ranks())
    networks = build_networks(free, material, torch.device("cpu"))
    learn(networks, material, material.batch(0, STEP), Stability(), 0, free, torch.device("cpu"))
    assert all(weight.grad is not None for weight in networks.discriminator.trunk.parameters())
    with pytest.raises(UsageError, match="0 twice for no penalties, got 1 and 0"):
        replace(config, discriminator_gamma=(1.0, 0.0))


def test_spatial_latents_learn_with_a_critic_and_end_with_a_transformer(config):
    net = replace(NET, spatial=True, latents=32)
    trained = train(replace(config, net=net, adversarial=0.5, adversarial_from=0.5, discriminator=CRITIC, prior="flow"))
    assert trained.summary["flow_images"] and trained.summary["onnx_difference"] < 0.05

    generator = Generator(config.out)
    assert generator.convention.places == 16 and generator.convention.flow
    faces = generator.generate(3, expression="happiness")
    assert faces.shape == (3, 16, 16, 3) and faces.std(axis=0).mean() > 1


def test_a_vae_begins_as_another_one_as_far_as_shapes_agree(finished, config):
    other, begun = finished
    larger = replace(config, net=replace(NET, side=32, latents=6), init=begun.out)
    material = load_material(larger, cache=config.cache, ranks=Ranks())
    model = build_networks(larger, material, torch.device("cpu")).model
    assert torch.equal(model.decoder.pixels.weight, other.model.decoder.pixels.weight)
    assert torch.equal(model.encoder[0].weight, other.model.encoder[0].weight)
    assert model.posterior.weight.shape != other.model.posterior.weight.shape

    with pytest.raises(TrainingError, match=r"does not fit this network \(posterior"):
        build_networks(replace(larger, keep_encoder=True), material, torch.device("cpu"))
    with pytest.raises(TrainingError, match="Nothing of"):
        nothing = VAENetConfig(side=16, latents=5, widths=(24, 40), last_width=6)
        build_networks(replace(larger, net=nothing), material, torch.device("cpu"))
    with pytest.raises(UsageError, match="needs 'init'"):
        replace(config, keep_encoder=True)
    with pytest.raises(TrainingError, match="or leave 'blend' out"):
        build_networks(replace(larger, blend=0.5), material, torch.device("cpu"))
    with pytest.raises(UsageError, match="'blend' needs 'init'"):
        replace(config, blend=0.5)


def test_published_weights_lie_as_far_from_those_it_began_as_as_the_blend_says(finished, config, tmp_path):
    begun, run = finished
    half, whole = (
        train(replace(config, init=run.out, out=tmp_path / str(share), blend=share)).model.last_weight
        for share in (0.5, 1.0)
    )
    start = begun.model.last_weight
    assert torch.allclose(half - start, 0.5 * (whole - start), atol=1e-7) and not torch.allclose(half, start)


def test_the_discriminator_counts_within_the_ramp(finished, config):
    soft = replace(config, init=finished[1].out, adversarial=0.5, adversarial_from=0.0, discriminator=CRITIC)
    material = load_material(soft, cache=config.cache, ranks=Ranks())
    pulls = []
    for ramp in (0.0, 1.0, 0.5):
        slow = replace(soft, adversarial_ramp=ramp)
        torch.manual_seed(0)
        networks = build_networks(slow, material, torch.device("cpu"))
        learn(networks, material, material.batch(0, STEP), Stability(), slow.images // 4, slow, torch.device("cpu"))
        pulls.append(networks.model.last_weight.grad.clone())
    at_once, late, half = pulls
    # A quarter of the way: heard fully, a quarter, half.
    assert torch.allclose(at_once - half, 2 * (half - late), rtol=0.01, atol=1e-6) and not torch.allclose(half, late)


def test_where_the_kept_encoder_comes_without_a_flow_one_is_fitted(finished, config, tmp_path):
    weights = tmp_path / "vae.safetensors"
    save_weights(finished[1].out, weights)
    kept = train(replace(config, init=weights, keep_encoder=True, prior="flow"))
    assert kept.summary["flow_images"] and Generator(config.out).convention.flow == FLOW.steps


def test_the_discriminator_judges_samples_of_the_flow_that_comes_along(finished, config):
    kept = replace(config, init=finished[1].out, keep_encoder=True, adversarial=0.5, adversarial_from=0.0)
    kept = replace(kept, discriminator=CRITIC)
    material = load_material(kept, cache=config.cache, ranks=Ranks())
    networks = build_networks(kept, material, torch.device("cpu"))
    flow, drawn = networks.flow, []
    networks.flow = lambda noise, told: drawn.append((noise, told, flow(noise, told))) or drawn[-1][2]

    learn(networks, material, material.batch(0, STEP), Stability(), kept.images, kept, torch.device("cpu"))

    ((noise, told, latents),) = drawn
    session = Generator(kept.init)._session
    fed = {"noise": noise.numpy(), "component": np.full(len(noise), -1), "label": told.argmax(dim=1).numpy()}
    fed |= {"guidance": np.full(len(noise), FLOW.guidance, np.float32)}
    expected = session.run(["latents"], {item.name: fed[item.name] for item in session.get_inputs()})[0]
    assert len(noise) == STEP // 2 and np.allclose(latents, expected, atol=1e-4)
    assert build_networks(replace(kept, init=None, keep_encoder=False), material, torch.device("cpu")).flow is None


def test_a_decoder_learns_for_latents_that_stay_and_the_flow_comes_along(finished, config):
    other, begun = finished
    kept = train(replace(config, init=begun.out, keep_encoder=True, prior="flow"))
    assert all(
        torch.equal(a, b)
        for part in ("encoder", "posterior")
        for a, b in zip(getattr(kept.model, part).parameters(), getattr(other.model, part).parameters(), strict=True)
    )
    assert not torch.equal(kept.model.last_weight, other.model.last_weight)
    assert "flow_images" not in kept.summary, "no flow was fitted"
    one, two = Generator(begun.out), Generator(config.out)
    assert two.convention.flow == one.convention.flow and two.convention.guidance == one.convention.guidance
    faces = [generator.encode(generator.generate(4, seed=3)) for generator in (one, two)]
    assert np.corrcoef(faces[0].ravel(), faces[1].ravel())[0, 1] > 0.5, "the same latents in other pictures"


def test_a_decoder_of_larger_pictures_learns_for_latents_that_stay(finished, config):
    _, begun = finished
    net = replace(NET, side=32, encoder_side=16)
    train(replace(config, net=net, init=begun.out, keep_encoder=True, blend=0.5, prior="flow"))

    small, large = Generator(begun.out), Generator(config.out)
    drawn = large.generate(8, seed=3)
    assert drawn.shape == (8, 32, 32, 3) and large.convention.flow == small.convention.flow
    # The encoder that was written takes the larger pictures, and says of them what that of the smaller ones says.
    shrunk = np.stack([cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA) for face in drawn])
    assert np.allclose(large.encode(drawn), small.encode(shrunk), atol=0.05)


def test_a_perceptual_term_looks_through_the_given_network(config, monkeypatch):
    class Looks(torch.nn.Module):
        def forward(self, images):
            return [torch.cat([images, 255 - images], dim=1)]

    monkeypatch.setattr("mien.networks.perceptual.ImageFeatures", Looks)
    net = VAENetConfig(side=32, latents=4, widths=(8, 8), last_width=8)
    trained = train(replace(config, net=net, perceptual=0.25))
    card = json.loads((config.out / "card.json").read_text())
    assert card["convention"]["losses"] == ["mobilenetv2-imagenet"]
    assert trained.summary["psnr"] > 5


def test_faces_are_drawn_by_attribute(config, data, tmp_path):
    folder = tmp_path / "people"
    (folder / "img").mkdir(parents=True)
    for subject in range(12):
        save_image(folder / "img" / f"{subject}.png", face(subject, "neutral"))
        save_image(folder / "img" / f"{subject}s.png", face(subject, "happiness"))
    rows = [f"{subject}{end},{value}" for subject in range(12) for end, value in ((".png", -1), ("s.png", 1))]
    (folder / "attributes.csv").write_text("\n".join(["file,Smiling", *rows]))
    train(replace(config, data=(folder,), attributes=("Smiling",), images=4 * STEP, prior="flow"))
    card = zoo.named(config.out)
    assert card.convention["attributes"] == ["Smiling"] and "labels" not in card.convention
    session = onnxruntime.InferenceSession(config.out / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["noise", "component", "attributes", "guidance"]


def test_without_a_flow_the_generator_is_as_it_was_before_there_were_flows(config):
    trained = train(replace(config, prior="mixture", images=4 * STEP))
    session = onnxruntime.InferenceSession(config.out / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["noise", "component", "label"]
    assert "flow" not in zoo.named(config.out).convention and "flow_valid_loss" not in trained.summary


def test_without_labels_there_is_one_prior_for_all(config, data):
    trained = train(replace(config, condition="none", images=4 * STEP))
    assert trained.classes == () and set(trained.prior.labels.tolist()) == {-1}
    session = onnxruntime.InferenceSession(config.out / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["noise", "component"]


# Bad input ------------------------------------------------------------------------------------------------------------


def test_fewer_pictures_than_a_batch_are_refused(config):
    with pytest.raises(DataError, match=r"at least a batch of 64 pictures .* got 36 and 12"):
        train(replace(config, batch_size=64))


def test_a_conditional_vae_without_labels_is_refused(config, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for subject in range(20):
        save_image(loose / f"{subject}.png", face(subject, "neutral"))
    with pytest.raises(DataError, match="needs labels, and the data have none"):
        train(replace(config, data=(loose,), condition="labels"))


def test_a_class_of_one_picture_is_left_out_and_named(config, tmp_path, capsys):
    folder = draw(tmp_path / "more" / "train", range(12)).parent
    draw(folder / "valid", range(12, 14))
    draw(folder / "train", [0], ["fear"])
    assert dry_run(replace(config, data=(folder,), cache=None), steps=1).classes == CLASSES
    assert "Only 1 training picture shows 'fear', fewer than 8" in capsys.readouterr().err


@pytest.mark.slow
def test_other_data_cannot_go_on_with_a_run(config, tmp_path):
    train(replace(config, images=4 * STEP))
    folder = draw(tmp_path / "data" / "train", range(20, 32)).parent
    draw(folder / "valid", range(12, 14))
    with pytest.raises(TrainingError, match="other settings"):
        train(replace(config, data=(folder,), images=4 * STEP))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"spike": 1.0}, "'spike' is above 1"),
        ({"kl_warm_up": 2.0}, "'kl_warm_up' lies in"),
        ({"perceptual": -1.0}, "'perceptual' is 0 or more"),
        ({"data": ()}, "at least one folder"),
        ({"template": "no-64"}, "no template 'no-64'"),
        ({"perceptual": 0.2}, "32 px and more, got 16"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, setting, message):
    with pytest.raises(UsageError, match=message):
        replace(config, **setting)


def test_a_dry_run_says_size_and_speed_and_writes_nothing(config):
    dry = dry_run(config, steps=1)
    assert (dry.train, dry.valid, dry.classes) == (36, 12, CLASSES)
    assert dry.parameters > 10_000 and dry.macs > 100_000 and dry.images_per_second > 0
    assert not config.out.exists()
