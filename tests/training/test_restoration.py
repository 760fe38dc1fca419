import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mien.drawing import draw_face
from mien.errors import DataError, TrainingError, UsageError
from mien.images import save_image
from mien.networks import RestorationNetConfig
from mien.training.ranks import Ranks
from mien.training.restoration import RestorationConfig, dry_run, load_restorer, train
from mien.training.restoration.material import load_material
from mien.training.run import read_log
from mien.vision.restorer import Restorer

NET = RestorationNetConfig(side=32, widths=(8, 16), blocks=(1, 1))
STEP = 8  # images


@pytest.fixture(autouse=True)
def single(monkeypatch):
    monkeypatch.setattr("mien.training.card.draw_curves", lambda rows: None)  # longer than the trainings
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are the same to the last bit only with as many threads
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "faces"
    folder.mkdir()
    for subject in range(24):
        save_image(folder / f"{subject}.png", draw_face(subject, side=64).image[6:58, 6:58])
    return folder


def settings(data, out, **more):
    given = {
        "data": (data,), "out": out, "cache": data.parent / "crops", "aligned": True, "canvas": 48, "images": 6 * STEP,
        "batch_size": STEP, "report_every": 3 * STEP, "net": NET, "judged": 0.0, "checked": 2, "device": "cpu",
    }  # fmt: skip
    return RestorationConfig(**{**given, **more})


def test_a_report_on_covered_faces_alone_has_a_number_everywhere(data, tmp_path):
    train(settings(data, tmp_path / "run", images=STEP, report_every=STEP, occluded=1.0, checked=1))

    row = read_log(tmp_path / "run")[-1]
    assert all(isinstance(row[name], float) and math.isfinite(row[name]) for name in row if name.startswith("valid_"))


def test_a_stopped_training_goes_on_as_if_it_had_not_been_stopped(data, tmp_path):
    whole = train(settings(data, tmp_path / "whole"))
    while not (tmp_path / "cut" / "summary.json").exists() or read_log(tmp_path / "cut")[-1]["images"] < 2 * STEP:
        train(settings(data, tmp_path / "cut", seconds=1e-6))  # one step each
    resumed = train(settings(data, tmp_path / "cut", seconds=60))
    # Which report was best is not the same where there were more of them; what was learned is.
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    learned = [key for key in one if key.startswith(("model", "ema", "optimizer"))]
    assert len(learned) > 20 and all(torch.equal(one[key], other[key]) for key in learned)
    assert resumed.summary["parameters"] == whole.summary["parameters"]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that was given time to learn."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("finished") / "run"
    config = settings(data, out, images=40 * STEP, report_every=20 * STEP, learning_rate=3e-3, ema_half_life=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.training.card.draw_curves", lambda rows: None)
        return train(config), config


def test_spoilt_faces_come_nearer_to_what_they_were(finished):
    trained, config = finished
    rows = read_log(config.out)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] and math.isfinite(trained.summary["psnr"])
    assert (config.out / "pictures" / "restored.png").is_file()


def test_the_published_network_restores_at_run_time_what_it_restored_in_training(finished):
    trained, config = finished
    restorer = Restorer(config.out)
    crop = draw_face(30, side=restorer.side).image
    face = restorer.restore(crop, cover="none")
    x = torch.from_numpy(crop).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected, _ = trained.model(x, torch.zeros(1, 1, *crop.shape[:2]))
    wanted = expected[0].clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(face.after - wanted).max() <= 1
    card = json.loads((config.out / "card.json").read_text())
    assert card["role"] == "restorer" and card["convention"]["losses"] == []


def test_a_run_can_be_read_again_and_another_folder_is_refused(finished, tmp_path):
    trained, config = finished
    model, facts = load_restorer(config.out)
    assert facts["story"] == "restoration"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.model.parameters(), strict=True))
    with pytest.raises(TrainingError, match="is no restorer"):
        load_restorer(tmp_path)


def test_the_same_place_in_a_training_is_the_same_batch(data, tmp_path):
    material = load_material(settings(data, tmp_path), cache=None, ranks=Ranks())
    numbers = material.order.batch(0, 4)
    one, again = (material.batch(0, numbers, range(4)) for _ in range(2))
    assert torch.equal(one.spoilt, again.spoilt) and torch.equal(one.told, again.told)
    later = material.batch(STEP, numbers, range(4))
    assert not torch.equal(one.spoilt, later.spoilt)
    # A part of a batch is that part, whichever process makes it.
    assert torch.equal(material.batch(0, numbers[2:], [2, 3]).spoilt, one.spoilt[2:])


def test_a_cover_is_told_only_where_there_is_one(data, tmp_path):
    config = settings(data, tmp_path, occluded=1.0, told=1.0)
    batch = load_material(config, cache=None, ranks=Ranks()).batch(0, np.arange(8), range(8))
    assert (batch.covered.flatten(1).sum(1) > 0).sum() >= 6
    assert ((batch.told > 0) >= (batch.covered > 0)).all()
    blind = settings(data, tmp_path, occluded=1.0, told=0.0)
    assert load_material(blind, cache=None, ranks=Ranks()).batch(0, np.arange(8), range(8)).told.sum() == 0


def test_a_dry_run_says_size_and_speed_and_writes_nothing(data, tmp_path):
    dry = dry_run(settings(data, tmp_path / "run"), steps=1)
    assert dry.parameters > 1000 and dry.macs > 1000 and dry.images_per_second > 0 and dry.train + dry.valid < 24
    assert not (tmp_path / "run").exists()


def test_too_few_pictures_and_settings_out_of_range_are_refused(data, tmp_path):
    with pytest.raises(DataError, match="at least a batch of 64"):
        load_material(settings(data, tmp_path, batch_size=64), cache=None, ranks=Ranks())
    for setting, match in (
        ({"told": 2.0}, "'told' lies in"), ({"identity": -1.0}, "'identity' is 0 or more"),
        ({"zoom": (1.2, 0.9)}, "rising"), ({"canvas": 16}, "at least net.side"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            settings(data, tmp_path, **setting)
