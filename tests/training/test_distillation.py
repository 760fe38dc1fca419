import json
import re
from dataclasses import replace

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from mien import zoo
from mien.data.crops import Crops
from mien.data.transforms import Variation
from mien.errors import DataError, TrainingError, UsageError
from mien.networks import FaceTrunk
from mien.training import distillation as story
from mien.training.config import load_config
from mien.training.distillation import DistillationConfig, dry_run, load_material, subject_head, train
from mien.training.run import read_log
from mien.training.stopping import Interrupted, Stop
from mien.vision.embedder import Embedder
from training.people import base_card, write_people


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), 20, 4)


@pytest.fixture
def teacher(tmp_path):
    """A teacher that sees blocks, in a run folder of its own."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    card = base_card(folder / "model.onnx")
    facts = {name: getattr(card, name) for name in ("role", "version", "summary", "licence", "training_data")}
    (folder / "card.json").write_text(json.dumps({**facts, "name": "blocks", "convention": dict(card.convention)}))
    return folder


@pytest.fixture
def config(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(story, "cut_crops", cut_blocks)
    monkeypatch.setattr(FaceTrunk, "BLOCKS", ((32, True), (32, True), (32, True)))  # a tenth of the time
    return DistillationConfig(
        data=data, out=tmp_path / "run", teacher=str(teacher), pretrained=False, fmr=0.05, images=96, batch_size=16,
        report_every=48, warmup=16, ema_half_life=16, cache=tmp_path / "cache",
    )  # fmt: skip


def cut_blocks(samples, *, side, frame, canvas, **_):
    """Crops of pictures that need no alignment; one of somebody black shows no face."""
    whole = [np.repeat(np.repeat(image, 14, axis=0), 14, axis=1) for _, image in samples.pictures()]
    pad = (canvas - frame) // 2
    stack = np.stack(whole)
    room = np.pad(stack, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    yes = np.ones(len(whole), bool)
    return Crops(stack, room, frame, np.zeros((len(whole), 2, 3), np.float32), stack.any(axis=(1, 2, 3)), yes)


def test_a_student_comes_nearer_to_its_teacher_and_serves_as_an_embedder(config):
    easy = replace(
        config, images=640, report_every=320, identity_weight=0.0, learning_rate=3e-3, clean=1.0, covered=0.0
    )
    judgement = train(replace(easy, variation=Variation(flip=0.0, erase=0.0, jpeg=0.0, noise=0.0)))

    log = read_log(config.out)
    assert log[-1]["valid_cosine"] > log[0]["valid_cosine"] and log[-1]["train_loss"] < log[0]["train_loss"]
    card = zoo.named(config.out)
    assert card.role == "embedder" and card.convention["dimension"] == 64 and "blocks" in card.summary
    assert set(card.metrics["test"]) == {"clean", "spoilt"}
    assert judgement.clean.built_on == judgement.spoilt.built_on == "blocks"
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert Embedder(card).embed(crops).shape == (2, 64)
    session = onnxruntime.InferenceSession(config.out / "model.onnx")
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((3, 3, 112, 112), np.float32)})[0].shape == (3, 64)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(config, tmp_path, monkeypatch):
    class Now(Stop):
        requested = property(lambda self: True, lambda self, value: None)

    train(replace(config, images=64, report_every=32, out=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("mien.training.course.Stop", Now)
        with pytest.raises(Interrupted):
            train(replace(config, images=64, report_every=32))
    train(replace(config, images=64, report_every=32))

    assert (config.out / "model.onnx").read_bytes() == (tmp_path / "whole" / "model.onnx").read_bytes()


def test_the_teacher_is_asked_once_about_faces_and_their_mirror_images(config, monkeypatch):
    first = load_material(config, zoo.named(config.teacher))
    monkeypatch.setattr(Embedder, "describe", lambda *_: pytest.fail("asked again"))
    again = load_material(config, zoo.named(config.teacher))

    assert np.array_equal(first.targets, again.targets) and first.digest == again.digest
    assert np.allclose(np.linalg.norm(first.targets, axis=1), 1, atol=1e-5)
    assert np.abs(first.targets - first.plain).max() > 1e-3


def test_chance_follows_from_the_position_and_all_that_is_checked_is_spoilt_alike(config):
    material = load_material(replace(config, clean=0.5, covered=0.0), zoo.named(config.teacher))
    numbers, places = np.arange(8), np.arange(8)

    def batch(position):
        torch.manual_seed(0)
        return material.varied(position, places, numbers)

    assert torch.equal(batch(64), batch(64)) and not torch.equal(batch(64), batch(128))
    spoilt = material.spoilt_faces(numbers)
    assert np.array_equal(spoilt, material.spoilt_faces(numbers))
    assert all(
        np.abs(a.astype(int) - b).max() > 0
        for a, b in zip(spoilt, material.crops.faces[material.found[:8]], strict=True)
    )


def test_directions_of_people_are_the_means_of_what_the_teacher_sees_and_stay(config):
    material = load_material(config, zoo.named(config.teacher))
    head = subject_head(config, material)

    somebody = material.train[0]
    own = material.targets[material.train[material.subjects[material.train] == material.subjects[somebody]]].sum(0)
    assert np.allclose(head.directions[material.who[somebody]], own / np.linalg.norm(own), atol=1e-5)
    assert not any(weight.requires_grad for weight in head.parameters())


def test_pictures_without_a_face_are_left_out(config, data, tmp_path):
    people = write_people(tmp_path / "more", 12, 3)
    cv2.imwrite(str(people / "subject_000" / "0.png"), np.zeros((8, 8, 3), np.uint8))

    assert load_material(replace(config, data=people), zoo.named(config.teacher)).count == 35


def test_a_teacher_that_sees_other_crops_is_refused(config, teacher):
    base_card(teacher / "model.onnx", side=64)
    card = json.loads((teacher / "card.json").read_text())
    card["convention"]["side"] = 64
    (teacher / "card.json").write_text(json.dumps(card))

    with pytest.raises(UsageError, match="64 px; a teacher here sees them as arcface-112, 112 px"):
        train(config)


def test_too_few_faces_for_a_batch_are_refused(config):
    with pytest.raises(DataError, match="at least a batch of 64 faces"):
        train(replace(config, batch_size=64))


def test_a_run_does_not_go_on_with_other_faces(config, tmp_path):
    train(replace(config, images=48))
    other = write_people(tmp_path / "others", 20, 4, first=50)

    with pytest.raises(TrainingError, match="data"):
        train(replace(config, data=other))


@pytest.mark.parametrize("setting", ["clean=2", "zoom=0.5", "fmr=0", "identity_weight=-1", "teecher=sface"])
def test_settings_out_of_range_are_refused(setting, tmp_path):
    with pytest.raises(UsageError, match=re.escape(setting.split("=")[0])):
        load_config(DistillationConfig, sets=[setting, f"out={tmp_path}", f"data={tmp_path}"])


def test_a_dry_run_says_size_and_writes_nothing(config):
    dry = dry_run(replace(config, out=config.out / "dry", batch_size=2), steps=1)

    assert (dry.subjects, dry.pictures) == (20, 80) and dry.parameters > 50_000 and dry.images_per_second > 0
    assert not (config.out / "dry").exists()
