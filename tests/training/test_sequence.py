"""A network over time, on frames whose brightness rises or falls: all clips hold the same frames."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mien import zoo
from mien.errors import DataError, ImageError, ModelError, TrainingError, UsageError
from mien.networks.sequence import SequenceNetConfig
from mien.training.sequence import SequenceConfig, dry_run, train
from mien.vision.sequence import FrameFeatures, SequenceReader, evenly, whole_crop

LEVELS = (20, 60, 100, 140, 180)


class Brightness(FrameFeatures):
    """Reads how bright a frame is; a black one shows no face."""

    def __init__(self):
        self.looked = 0

    def find(self, image):
        self.looked += 1
        return whole_crop(image.shape[0]) if image.any() else None

    def of(self, images, faces):
        return np.array([[image.mean(), 1.0] for image in images], np.float32)


def write_clip(folder, levels):
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 8, 3), level, np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    for number in range(10):
        levels = [level + number for level in LEVELS]
        write_clip(root / "happy" / f"S{number:03}_001", levels)
        write_clip(root / "sad" / f"S{number:03}_002", levels[::-1])
    write_clip(root / "sad" / "S001_003", [0, 0])  # no face
    return root


@pytest.fixture(scope="module")
def settings(data):
    return {
        "data": data, "images": 1280, "batch_size": 32, "report_every": 640, "learning_rate": 0.03, "skip": 0.1,
        "ema_half_life": 100, "net": SequenceNetConfig(units=8, drop=0.0), "device": "cpu",
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    torch.set_num_threads(1)
    config = SequenceConfig(out=tmp_path_factory.mktemp("runs") / "run", **settings)
    reader = Brightness()
    return config, train(config, reader=reader), reader


def test_what_only_the_order_tells_is_learned(trained):
    config, done, _ = trained

    assert done.classes == ("happiness", "sadness")
    assert done.summary["validation"]["accuracy"] == 1
    assert done.summary["clips"] == {"train": 16, "valid": 4, "subjects": 10}
    assert (config.out / "card.html").is_file() and done.summary["onnx_difference"] < 1e-4


def test_nobody_stands_on_both_sides(trained):
    split = json.loads((trained[0].out / "summary.json").read_text())["clips"]

    assert split["train"] % 2 == split["valid"] % 2 == 0  # both clips of a subject together


def test_the_run_reads_clips_of_any_length_without_pytorch(trained):
    reader = SequenceReader(zoo.named(trained[0].out), threads=1)
    reader.features = Brightness()
    rising = [np.full((8, 8, 3), level, np.uint8) for level in range(20, 190, 10)]

    up, down = reader.read(rising), reader.read(rising[::-1])

    assert (up.expression.label, down.expression.label) == ("happiness", "sadness")
    assert abs(sum(up.weights) - 1) < 1e-5 and up.frames == tuple(range(17)) and up.without == 0


def test_frames_without_a_face_are_counted_and_a_clip_of_such_is_refused(trained):
    reader = SequenceReader(zoo.named(trained[0].out), threads=1)
    reader.features = Brightness()
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 90, np.uint8)

    clip = reader.read([grey, black, grey])

    assert clip.frames == (0, 2) and clip.without == 1
    with pytest.raises(ImageError, match="None of the 2 frames that were looked at shows a face"):
        reader.read([black, black])


def test_a_run_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="is of role embedder, expected a run folder of `mien train sequence`"):
        SequenceReader(zoo.card("sface"))


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(trained, settings, tmp_path):
    config, _, reader = trained
    looked = reader.looked
    again = SequenceConfig(out=tmp_path / "again", cache=config.out / "features", **settings)

    train(replace(again, seconds=1e-6), reader=reader)
    stopped = (again.out / "model.onnx").read_bytes()
    train(again, reader=reader)

    assert stopped != (config.out / "model.onnx").read_bytes()
    assert (again.out / "model.onnx").read_bytes() == (config.out / "model.onnx").read_bytes()
    assert reader.looked == looked  # what was read of the frames is kept


def test_other_clips_under_the_same_run_are_refused(trained, settings, tmp_path):
    other = tmp_path / "other"
    for number in range(6):
        write_clip(other / "happy" / f"S{number:03}_001", LEVELS)
        write_clip(other / "sad" / f"S{number:03}_002", LEVELS[::-1])

    with pytest.raises(TrainingError, match="data"):
        train(SequenceConfig(out=trained[0].out, **settings | {"data": other}), reader=Brightness())


def test_a_dry_run_says_size_and_speed_and_writes_nothing(settings, tmp_path):
    dry = dry_run(SequenceConfig(out=tmp_path / "run", **settings), reader=Brightness())

    assert (dry.clips, dry.subjects, dry.classes) == (21, 10, ("happiness", "sadness"))
    assert dry.parameters > 0 and dry.clips_per_second > 0 and not (tmp_path / "run").exists()


def test_one_expression_is_nothing_to_tell_apart(settings, tmp_path):
    write_clip(tmp_path / "data" / "happy" / "a", LEVELS)

    with pytest.raises(DataError, match="show happiness only"):
        train(SequenceConfig(out=tmp_path / "run", **settings | {"data": tmp_path / "data"}), reader=Brightness())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"frames": 0}, "'frames'"), ({"skip": 2.0}, "'skip'"), ({"learning_rate": 0.0}, "'learning_rate'")],
)
def test_settings_out_of_range_are_refused(settings, wrong, message):
    with pytest.raises(UsageError, match=message):
        SequenceConfig(out="run", **settings | wrong)


@pytest.mark.parametrize(("count", "most", "numbers"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (5, 1, [0])])
def test_frames_are_chosen_evenly(count, most, numbers):
    assert evenly(count, most).tolist() == numbers
