"""A flow for a generator that is finished."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from mien.cli.train import train
from mien.data.drawn import draw_samples
from mien.data.pictures import read_pictures
from mien.errors import DataError, TrainingError, UsageError
from mien.networks.flow import Restarts, VelocityNetConfig
from mien.training.storage import store_generator
from mien.training.vae.flow import FlowConfig, fit_flow
from mien.training.vae.refit import PriorConfig, first_of_each, refit
from mien.vision.generator import Generator
from vision.generators import LABELS, save_generator

FLOW = FlowConfig(
    images=320, batch_size=32, report_every=160, net=VelocityNetConfig(width=16, blocks=1, code=8), steps=2
)
pytestmark = pytest.mark.usefixtures("blind_and_single")
COMPONENTS = ((0, 0.5), (1, 0.3), (2, 0.2))


@pytest.fixture
def run(tmp_path):
    return save_generator(tmp_path / "run", kind="vae", labels=LABELS, components=COMPONENTS, encoder=True)


def settings(run, data, **more):
    cache = data.parent / "crops"  # cut once
    given = {
        "model": str(run),
        "data": (data,),
        "cache": cache,
        "keep_without_face": True,
        "device": "cpu",
        "flow": FLOW,
    }
    return PriorConfig(**{**given, **more})


class Look(torch.nn.Module):
    """Sees the picture itself."""

    def forward(self, images):
        return [images]


@pytest.fixture
def seen(monkeypatch):
    """Let faces be as far apart as their pixels are."""
    monkeypatch.setattr("mien.training.vae.refit.ImageFeatures", Look)
    monkeypatch.setattr("mien.training.vae.refit.perceptual_distance", lambda a, b: (a[0] - b[0]).abs().mean((1, 2, 3)))


@pytest.fixture
def fitted_to(monkeypatch):
    """What each flow is fitted to and checked with, in a list that grows."""
    told = []

    def fit(train, valid, *rest, **more):
        told.append((train, valid))
        return fit_flow(train, valid, *rest, **more)

    monkeypatch.setattr("mien.training.vae.refit.fit_flow", fit)
    return told


def test_a_flow_may_learn_from_those_faces_alone_that_are_redrawn_best(run, data, tmp_path, seen, fitted_to):
    for share in (1.0, 0.5):
        done = refit(settings(run, data, out=tmp_path / f"of-{share}", mirror=False, redrawn=share))

    generator = Generator(run)
    pictures = read_pictures(
        (data,), template=generator.convention.template, side=generator.side, colour=not generator.convention.grey,
        keep_without_face=True, splits=("train", "valid"), cache=data.parent / "crops",
    ).split("train")  # fmt: skip
    faces, names = pictures.rgb(), [pictures.classes[label] for label in pictures.labels]
    kept = np.array([name in LABELS for name in names])
    faces, names = faces[kept], np.array(names)[kept]
    back = generator.decode(generator.posteriors(faces)[0], expression=list(names))
    apart = np.abs(faces.astype(float) - back).mean((1, 2, 3))
    np.testing.assert_allclose(fitted_to[0][0].mean, generator.posteriors(faces)[0], atol=1e-6)
    best = np.array([distance <= np.median(apart[names == name]) for distance, name in zip(apart, names, strict=True)])
    np.testing.assert_array_equal(fitted_to[1][0].mean, fitted_to[0][0].mean[best])
    assert done.summary["pictures"] == best.sum() < len(faces)
    with pytest.raises(UsageError, match="'redrawn' is above 0 and at most 1, got 0"):
        settings(run, data, redrawn=0)


def test_a_graded_flow_is_told_how_well_each_face_is_redrawn(run, data, tmp_path, seen, fitted_to):
    for share, graded in ((1.0, False), (1.0, True), (0.5, True)):
        out = tmp_path / f"{share}-{graded}"
        refit(settings(run, data, out=out, mirror=False, varied=1, redrawn=share, graded=graded))

    plain, every, half = (train for train, _ in fitted_to)
    assert plain.grade is None
    np.testing.assert_array_equal(every.condition, plain.condition)
    grades = every.grade[: len(every) // 2]
    np.testing.assert_array_equal(every.grade[len(grades) :], grades)  # a variation has its face's
    assert grades.min() == 0 and grades.max() == 1
    best = grades >= 0.5
    np.testing.assert_array_equal(half.mean[: best.sum()], every.mean[: len(grades)][best])
    drawn = Generator(out)
    assert drawn.generate(2).shape[0] == 2 and drawn.card.metrics["prior"]["flow_grading"] == 0.0


def test_of_one_photograph_that_comes_again_or_mirrored_the_first_is_learned_from(monkeypatch):
    monkeypatch.setattr("mien.metrics.generation.BLOCK", 128 * 300)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(300, 8)).astype(np.float32)  # three parts of them are compared, one after the other
    mirrored = rng.normal(size=(300, 8)).astype(np.float32)
    of = np.zeros(300, int)
    latents[200] = latents[3] + 0.01
    mirrored[250] = latents[7] + 0.01
    latents[260] = latents[4]
    of[260] = 1  # another expression

    kept = first_of_each(latents, mirrored, of, 0.01)

    assert np.flatnonzero(~kept).tolist() == [200, 250]


def test_faces_of_one_photograph_are_learned_from_once_and_all_are_checked_with(run, data, tmp_path, fitted_to):
    for least in (0.0, 1e9):
        refit(settings(run, data, out=tmp_path / f"{least}", mirror=False, distinct=least))

    (every, valid), (few, same) = fitted_to
    assert len(few) == len(LABELS) < len(every) and len(same) == len(valid)
    with pytest.raises(UsageError, match="'distinct' is 0 or more, got -1"):
        settings(run, data, distinct=-1)


def test_a_flow_with_restarts_makes_room_for_one_without(run, data, tmp_path):
    refit(settings(run, data, flow=replace(FLOW, restarts=Restarts(2))))
    generator = Generator(run)
    assert generator.convention.restarts == 2
    first = generator.generate(3)

    refit(settings(run, data))

    assert Generator(run).convention.restarts == 0 and not np.array_equal(Generator(run).generate(3), first)


def test_faces_are_encoded_once_more_for_each_variation_those_held_out_are_not(run, data, tmp_path, fitted_to):
    for varied in (0, 2):
        done = refit(settings(run, data, out=tmp_path / f"of-{varied}", mirror=False, varied=varied))

    (plain, plain_valid), (train, valid) = fitted_to
    faces = len(plain)
    assert len(train) == 3 * faces and done.summary["pictures"] == faces
    np.testing.assert_array_equal(train.mean[:faces], plain.mean)
    np.testing.assert_array_equal(train.condition, np.concatenate([plain.condition] * 3))
    np.testing.assert_array_equal(valid.mean, plain_valid.mean)
    moved = [np.abs(train.mean[k * faces : (k + 1) * faces] - plain.mean).mean() for k in (1, 2)]
    others = np.abs(plain.mean - np.roll(plain.mean, 1, axis=0)).mean()
    assert min(moved) > 0 and max(moved) < others
    assert not np.array_equal(train.mean[faces : 2 * faces], train.mean[2 * faces :])
    with pytest.raises(UsageError, match="'varied' is 0 or more, got -1"):
        settings(run, data, varied=-1)


def test_a_run_gets_a_flow_and_its_decoder_and_mixture_stay(run, data):
    before = Generator(run)
    mixture, latents = before.generate(4, prior="mixture"), np.ones((2, before.latents), np.float32)
    decoded = before.decode(latents, expression="happiness")

    done = refit(settings(run, data))

    after = Generator(run)
    assert after.convention.flow == FLOW.steps and after.convention.guidance == FLOW.guidance
    assert np.array_equal(after.generate(4, prior="mixture"), mixture)
    assert np.array_equal(after.decode(latents, expression="happiness"), decoded)
    assert not np.array_equal(after.generate(4), mixture)
    assert after.card.metrics["prior"]["flow_valid_loss"] == done.fitted.valid_loss
    assert done.summary["pictures"] > 20 and after.card.id != before.card.id


def test_another_folder_gets_a_whole_model_and_the_run_stays_as_it_is(run, data, tmp_path):
    before = Generator(run).card.id

    done = refit(settings(run, data, out=tmp_path / "new"))

    assert Generator(run).card.id == before and not Generator(run).convention.flow
    moved = Generator(done.out)
    assert moved.convention.flow and moved.has_encoder and moved.generate(2).shape[0] == 2
    with pytest.raises(UsageError, match="holds a model already"):
        refit(settings(run, data, out=tmp_path / "new"))


def test_the_flow_of_a_model_in_8_bits_is_stored_so_too(run, data, tmp_path):
    plain = refit(settings(run, data, out=tmp_path / "plain"))
    small = store_generator(plain.out, tmp_path / "small", "int8").out

    again = refit(settings(small, data, out=tmp_path / "again"))

    for file in ("model.onnx", "encoder.onnx"):
        sizes = [(folder / file).stat().st_size for folder in (plain.out, small, again.out)]
        assert sizes[1] < sizes[0] and abs(sizes[2] - sizes[1]) < 0.02 * sizes[1], file


def test_the_command_fits_a_flow_and_says_how_to_use_it(run, data):
    from click.testing import CliRunner

    small = [f"flow.{key}={value}" for key, value in (("images", 160), ("batch_size", 32), ("report_every", 160))]
    sets = [
        part
        for item in (*small, "flow.net.width=8", "flow.steps=2", "keep_without_face=true")
        for part in ("--set", item)
    ]

    given = ["prior", "--model", run, "--data", data, "--cache", data.parent / "crops", "--device", "cpu"]
    result = CliRunner().invoke(train, [*map(str, given), *sets])

    assert result.exit_code == 0, result.output
    assert "on faces held out" in result.output and f"Use: mien generate --model {run} " in result.output
    assert json.loads((run / "prior.json").read_text())["losses"][-1]["images"] == 160


def test_a_flow_is_learned_on_from_the_folder_that_holds_it(run, data, tmp_path):
    begun = refit(settings(run, data, out=tmp_path / "begun", flow=replace(FLOW, learning_rate=1e-2)))

    still = replace(FLOW, learning_rate=1e-12)
    on = refit(settings(run, data, out=tmp_path / "on", init=begun.out, flow=still))

    fresh = refit(settings(run, data, out=tmp_path / "fresh", flow=still))
    assert on.fitted.valid_loss == pytest.approx(begun.fitted.valid_loss, abs=1e-5)
    assert abs(fresh.fitted.valid_loss - begun.fitted.valid_loss) > 1e-3
    with pytest.raises(TrainingError, match="holds no flow that could be learned on"):
        refit(settings(run, data, out=tmp_path / "other", init=tmp_path))


def test_what_cannot_be_fitted_is_refused_in_one_line(run, data, tmp_path):
    with pytest.raises(UsageError, match="is no run folder that could be changed"):
        refit(settings("face-vae-64", data))
    blind = save_generator(tmp_path / "blind", kind="vae", labels=LABELS, components=COMPONENTS)
    with pytest.raises(UsageError, match="has no encoder, so that nothing can be fitted"):
        refit(settings(blind, data))
    bare = save_generator(tmp_path / "bare", kind="vae", encoder=True)
    with pytest.raises(UsageError, match="has no prior that a flow could stand beside"):
        refit(settings(bare, data))
    draw_samples(tmp_path / "other", per_class=12, side=32)
    shutil.rmtree(tmp_path / "other" / "neutral")
    with pytest.raises(DataError, match="the data show no neutral"):
        refit(settings(run, tmp_path / "other"))
