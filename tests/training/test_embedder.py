import json
import re
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from mien import zoo
from mien.analyzer import Analyzer
from mien.data.crops import Crops
from mien.data.samples import read_samples
from mien.errors import DataError, TrainingError, UsageError
from mien.training import embedder as story
from mien.training.config import load_config
from mien.training.embedder import EmbedderConfig, SmallResNetConfig, dry_run, train
from mien.training.run import read_log
from mien.training.stopping import Interrupted, Stop
from mien.vision.embedder import Embedder
from mien.zoo.adding import add
from training.people import BlocksAnalyzer, base_card, write_people


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), 40, 4)


@pytest.fixture
def analyzer(tmp_path):
    return BlocksAnalyzer(base_card(tmp_path / "base.onnx"))


@pytest.fixture
def config(data, tmp_path):
    return EmbedderConfig(
        data=data,
        out=tmp_path / "run",
        fmr=0.05,
        images=6_000,
        batch_size=64,
        report_every=1_000,
        margin=0.2,
        learning_rate=5e-3,
    )


def test_a_correction_that_helps_is_said_to_beat_its_base_and_serves_as_an_embedder(config, analyzer, rng):
    verdict = train(config, analyzer=analyzer)

    assert verdict.outcome == "better" and verdict.subjects == 10
    card = zoo.named(config.out)
    assert card.role == "embedder" and "It beats blocks" in card.summary
    assert card.metrics["test"]["outcome"] == "better" and card.probability[0] > 0
    assert Analyzer(embedder=str(config.out)).card == card
    held_out = np.stack([rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)])
    assert np.abs(Embedder(card).embed(held_out) - analyzer.embedder.embed(held_out)).max() > 1e-3
    log = read_log(config.out)
    assert log[-1]["valid_cost"] < log[0]["valid_cost"]
    assert json.loads((config.out / "summary.json").read_text())["outcome"] == verdict.sentence()


def test_a_correction_that_never_helps_ends_as_none_and_says_so(config, analyzer):
    verdict = train(replace(config, learning_rate=1e-9, patience=2), analyzer=analyzer)

    assert verdict.outcome == "not shown" and "Use blocks" in zoo.named(config.out).summary
    assert verdict.new["eer"].value == pytest.approx(verdict.base["eer"].value, abs=1e-6)


def test_the_file_can_be_added_to_the_zoo(config, analyzer, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    train(replace(config, images=64), analyzer=analyzer)
    how = json.loads((config.out / "summary.json").read_text())["how to add it"]
    kind = re.search(r"--convention (\S+)", how).group(1)

    added = add(config.out / "model.onnx", name="mine", role="embedder", convention_name=kind)

    crops = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert np.allclose(Embedder(added).embed(crops), Embedder(zoo.named(config.out)).embed(crops), atol=1e-6)


def stopped_at(monkeypatch, images):
    """Ctrl-C arrives in the step that ends at so many images."""

    class Now(Stop):
        @property
        def requested(self):
            self.asked = getattr(self, "asked", 0) + 1
            return self.asked * 64 >= images

        @requested.setter
        def requested(self, value):
            pass

    monkeypatch.setattr("mien.training.course.Stop", Now)


def test_a_stopped_run_that_goes_on_equals_an_unbroken_one_to_the_last_bit(config, analyzer, tmp_path, monkeypatch):
    short = replace(config, images=1_280, report_every=320, hidden=8, accumulate=2)
    train(replace(short, out=tmp_path / "whole"), analyzer=analyzer)
    with monkeypatch.context() as patch:
        stopped_at(patch, 640)
        with pytest.raises(Interrupted, match="Stopped and saved at 640 images"):
            train(short, analyzer=analyzer)

    train(short, analyzer=analyzer)

    for name in ("model.onnx", "best.safetensors"):
        whole, broken = (tmp_path / "whole" / name).read_bytes(), (short.out / name).read_bytes()
        if name.endswith(".onnx"):
            assert whole == broken
        else:
            assert (
                whole[8 + int.from_bytes(whole[:8], "little") :] == broken[8 + int.from_bytes(broken[:8], "little") :]
            )


def test_embeddings_are_kept_for_the_next_run(config, analyzer, tmp_path):
    kept = replace(config, images=64, cache=tmp_path / "cache")
    train(kept, analyzer=analyzer)
    seen = analyzer.seen
    train(replace(kept, out=tmp_path / "second"), analyzer=analyzer)

    assert seen == 160 and analyzer.seen == seen


def test_the_datas_own_splits_hold(data, config, analyzer):
    samples = read_samples(data, kind="subjects")
    number = np.array([int(name[8:]) for name in samples.subjects.tolist()])
    splits = np.where(number < 24, "train", np.where(number < 30, "valid", "test"))

    verdict = train(replace(config, images=64), analyzer=analyzer, samples=replace(samples, splits=splits))
    assert verdict.subjects == 10
    two = np.where(number < 30, "train", "test")
    out = config.out.with_name("two")
    assert (
        train(replace(config, images=64, out=out), analyzer=analyzer, samples=replace(samples, splits=two)).faces == 40
    )

    shared = np.where(np.arange(len(samples)) % 4 == 0, "test", splits)
    with pytest.raises(DataError, match="30 subjects stand in more than one split"):
        train(replace(config, out=out.with_name("s")), analyzer=analyzer, samples=replace(samples, splits=shared))
    with pytest.raises(DataError, match="has some splits and lacks others"):
        halves = np.where(number < 24, "valid", "test")
        train(replace(config, out=out.with_name("h")), analyzer=analyzer, samples=replace(samples, splits=halves))


def test_too_few_subjects_are_refused_before_the_training(tmp_path, config, analyzer):
    few = write_people(tmp_path / "few", 3, 2)

    with pytest.raises(DataError, match="at least 2 subjects"):
        train(replace(config, data=few), analyzer=analyzer)


def test_one_picture_a_subject_is_refused(tmp_path, config, analyzer):
    few = write_people(tmp_path / "few", 20, 1)

    with pytest.raises(DataError, match="one with 2 faces"):
        train(replace(config, data=few), analyzer=analyzer)


def test_a_resumed_run_of_another_head_is_refused(config, analyzer):
    short = replace(config, images=64)
    train(short, analyzer=analyzer)

    with pytest.raises(TrainingError, match='head \\("arcface" -> "cosface"\\)'):
        train(replace(short, head="cosface"), analyzer=analyzer)


@pytest.mark.parametrize("setting", ["margin=2", "fmr=0", "head=triplet", "hidden=-1", "marginn=0.1"])
def test_settings_out_of_range_are_refused(setting, tmp_path):
    with pytest.raises(UsageError, match=re.escape(setting.split("=")[0])):
        load_config(EmbedderConfig, sets=[setting, f"out={tmp_path}", f"data={tmp_path}"])


def cut_blocks(samples, *, side, frame, canvas, **_):
    """Crops of pictures that need no alignment."""
    whole = [np.repeat(np.repeat(image, 16, axis=0), 16, axis=1) for _, image in samples.pictures()]
    pad = (canvas - frame) // 2
    stack = np.stack([image[:frame, :frame] for image in whole])
    room = np.pad(stack, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    step = frame // side
    yes = np.ones(len(whole), bool)
    return Crops(stack[:, ::step, ::step], room, frame, np.zeros((len(whole), 2, 3), np.float32), yes, yes)


def test_a_network_from_scratch_learns_and_is_exported(config, analyzer, monkeypatch):
    monkeypatch.setattr(story, "cut_crops", cut_blocks)
    shared = {name: getattr(config, name) for name in ("data", "out", "fmr")}
    settings = SmallResNetConfig(
        **shared, side=16, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), dimension=32, images=1_280, batch_size=64,
        report_every=640, learning_rate=5e-3, scale=16.0,
    )  # fmt: skip

    verdict = train(settings, analyzer=analyzer)

    log = read_log(settings.out)
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert set(verdict.new) == set(verdict.base) and zoo.named(settings.out).convention["side"] == 16
    session = onnxruntime.InferenceSession(settings.out / "model.onnx")
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((3, 3, 16, 16), np.float32)})[0].shape == (3, 32)


def test_a_dry_run_says_size_and_writes_nothing(data, tmp_path):
    small = SmallResNetConfig(data=data, out=tmp_path / "run", side=16, widths=(4, 4, 4, 4), batch_size=8)

    dry = dry_run(small)
    assert (dry.subjects, dry.pictures) == (40, 160) and dry.parameters > 1_000 and dry.images_per_second > 0
    assert dry_run(EmbedderConfig(data=data, out=tmp_path / "run")).parameters == 128 * 128 + 128 + 40 * 128
    assert not small.out.exists()


def test_torch_seeds_outside_do_not_matter(config, analyzer, tmp_path):
    for number in (1, 2):
        torch.manual_seed(number)
        train(replace(config, images=128, out=tmp_path / f"run{number}"), analyzer=analyzer)

    assert (tmp_path / "run1" / "model.onnx").read_bytes() == (tmp_path / "run2" / "model.onnx").read_bytes()
