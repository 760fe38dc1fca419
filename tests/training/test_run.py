import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien.errors import TrainingError
from mien.training.card import draw_curves
from mien.training.config import load_config
from mien.training.ema import EMA
from mien.training.run import Progress, Run, load_checkpoint, position_seed, read_log
from training.toy import Died, Toy, ToyConfig, train


@pytest.fixture
def config(tmp_path):
    return ToyConfig(out=tmp_path / "run")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def rows(config):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(config.out)]


# Resume


@pytest.mark.parametrize("die_at", [40, 80, 96], ids=["after a checkpoint", "half way", "between checkpoints"])
def test_a_killed_and_resumed_training_equals_an_unbroken_one_bit_for_bit(tmp_path, die_at):
    whole, broken = ToyConfig(out=tmp_path / "whole"), ToyConfig(out=tmp_path / "broken")
    model, ema, _ = train(whole)

    with pytest.raises(Died):
        train(broken, die_at=die_at)
    model_again, ema_again, _ = train(broken)

    assert same(weights(model), weights(model_again))
    assert same(weights(ema.model), weights(ema_again.model))
    assert rows(whole) == rows(broken) and len(rows(whole)) == 4
    assert (whole.out / "best.safetensors").exists() == (broken.out / "best.safetensors").exists()
    states = {out: Toy(8, 0.2) for out in (whole.out, broken.out)}
    for out, best in states.items():
        load_checkpoint(out / "best.safetensors", model=best)
    assert same(*(weights(best) for best in states.values()))


def test_momentum_lies_in_memory_as_its_weight_does_after_a_resume(config):
    train(replace(config, images=80))
    model = Toy(8, 0.2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    load_checkpoint(config.out / "last.safetensors", optimizer=optimizer)

    assert all(state["momentum_buffer"].stride() == weight.stride() for weight, state in optimizer.state.items())


def test_two_seeds_differ_and_one_seed_repeats():
    draws = []
    for seed, images in [(0, 0), (1, 0), (0, 128), (0, 0)]:
        draws.append(torch.rand(4, generator=torch.Generator().manual_seed(position_seed(seed, images))))

    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_finished_run_trains_no_further(config):
    model, _, _ = train(config)

    again, _, _ = train(config)

    assert same(weights(model), weights(again)) and len(rows(config)) == 4


def test_every_kind_of_state_survives_a_checkpoint(config):
    class Everything:
        def __init__(self, state):
            self.state = state

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    state = {
        "none": None,
        "text": "a.b",
        "numbers": [1, 2.5, float("inf"), True],
        "pair": (1, (2.0, torch.tensor(3.0))),
        7: {"half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0, 3)},
        "whole": torch.arange(3),
    }
    tied = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    tied["b"].weight = tied["a"].weight
    with Run(config.out, config) as run:
        run.load_state(everything=Everything(state), tied=tied)

    again = Everything({"whole": torch.zeros(3)})
    load_checkpoint(config.out / "last.safetensors", everything=again, tied=tied)

    assert str(again.state) == str(state)


# Config


def test_a_run_can_be_repeated_from_its_own_config(config):
    train(replace(config, images=8))

    assert load_config(ToyConfig, config.out / "config.json") == replace(config, images=8)


def test_a_changed_config_is_refused_and_named(config):
    train(replace(config, images=40))

    with pytest.raises(TrainingError, match=r"other settings: lr \(0.1 -> 0.2\), width \(8 -> 4\). Set them as they"):
        train(replace(config, lr=0.2, width=4, images=80))

    assert len(rows(config)) == 1


def test_what_may_change_may_change(config, tmp_path):
    train(replace(config, images=40))
    (config.out).rename(tmp_path / "moved")

    train(replace(config, images=80, out=tmp_path / "moved", seconds=99.0, device="cpu"))

    assert json.loads((tmp_path / "moved/config.json").read_text())["images"] == 80


def test_a_folder_without_a_checkpoint_takes_any_config(config):
    with pytest.raises(Died), Run(config.out, config):
        raise Died

    train(replace(config, lr=0.2, images=8))


def test_a_run_of_another_story_is_refused(config):
    train(replace(config, images=8))

    class OtherConfig(ToyConfig):
        pass

    with pytest.raises(TrainingError, match="holds a run of ToyConfig, not of OtherConfig"):
        Run(config.out, OtherConfig(out=config.out))


def test_a_checkpoint_without_its_config_is_refused(config):
    train(replace(config, images=8))
    (config.out / "config.json").unlink()

    with pytest.raises(TrainingError, match=r"holds a checkpoint, but its config.json or run.json cannot be read"):
        Run(config.out, config)


def test_two_processes_cannot_train_into_one_folder(config):
    with Run(config.out, config), pytest.raises(TrainingError, match="Another process trains into"):
        Run(config.out, config)


def test_a_refused_run_leaves_the_folder_free(config):
    train(replace(config, images=8))
    with pytest.raises(TrainingError):
        Run(config.out, replace(config, lr=9.0))

    Run(config.out, config, may_change={"images"}).close()


def test_a_folder_that_cannot_be_made_is_a_clear_line(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TrainingError, match=r"Cannot make the run folder .* Name another one"):
        Run(tmp_path / "file" / "run", ToyConfig(out=tmp_path))


# Checkpoints that do not fit


@pytest.mark.parametrize(
    "model, message",
    [
        (Toy(4, 0.0), r"model.first.weight is \(8, 1, 3, 3\) in the file and \(4, 1, 3, 3\) here"),
        (nn.Linear(2, 2), "model.bias is not in the file|model.first.bias of the file is not in this model"),
        (nn.Sequential(Toy(8, 0.0)), "It is of another architecture; build the model as its config says"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_and_changes_nothing(config, model, message):
    train(replace(config, images=8))
    before, progress = weights(model), Progress(images=5)

    with pytest.raises(TrainingError, match=message):
        load_checkpoint(config.out / "last.safetensors", progress=progress, model=model)

    assert progress.images == 5 and same(before, weights(model))


def test_an_optimizer_of_other_weights_is_refused(config):
    train(replace(config, images=8))

    with pytest.raises(TrainingError, match=r"optimizer.param_groups.0.params has 6 entries in the file and 2 here"):
        load_checkpoint(config.out / "last.safetensors", optimizer=torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1))


def test_a_missing_part_is_named(config):
    train(replace(config, images=8))

    with pytest.raises(TrainingError, match=r"lacks critic; it holds model, ema, optimizer, progress"):
        load_checkpoint(config.out / "last.safetensors", critic=nn.Linear(2, 2))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
        (lambda path: path.write_bytes(b"hello"), "cannot be read"),
        (lambda path: path.unlink(), "is missing. Is .* the folder of a run"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'{\\"format\\": 1', b'{\\"format\\": 9')),
            "format 9",
        ),
        (lambda path: path.write_bytes(b"\x02\0\0\0\0\0\0\0{}"), "is of format unknown"),
    ],
    ids=["cut short", "no safetensors", "missing", "newer", "not ours"],
)
def test_a_damaged_checkpoint_is_a_clear_line(config, damage, message):
    train(replace(config, images=8))
    damage(config.out / "last.safetensors")

    with pytest.raises(TrainingError, match=message):
        load_checkpoint(config.out / "last.safetensors", model=Toy(8, 0.2))


# Saving in bad times


def in_a_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before(config):
    killed = in_a_process(
        """
        import os, signal, sys
        from dataclasses import replace
        from pathlib import Path
        import mien.images
        from training.toy import ToyConfig, train

        config = ToyConfig(out=Path(sys.argv[1]))
        train(replace(config, images=40))
        wait = os.fsync

        def half_way(descriptor):
            os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
            wait(descriptor)
            os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = half_way
        train(config)
        """,
        config.out,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(config.out.glob(".mien-*"))) == 1
    progress = Progress()
    load_checkpoint(config.out / "last.safetensors", progress=progress)
    assert progress.images == 40

    model, _, _ = train(config)

    whole = replace(config, out=config.out.parent / "whole")
    unbroken, _, _ = train(whole)
    assert same(weights(model), weights(unbroken))
    assert rows(config) == rows(whole)
    assert not list(config.out.glob(".mien-*"))


def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(config):
    train(replace(config, images=40))
    before = (config.out / "last.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        with pytest.raises(
            TrainingError, match=r"File too large. The checkpoint of 40 images is whole. Mend"
        ) as caught:
            train(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert "\n" not in str(caught.value)
    assert (config.out / "last.safetensors").read_bytes() == before
    assert not list(config.out.glob(".mien-*"))
    train(config)
    assert [row["images"] for row in rows(config)] == [40, 80, 120, 160]


def test_a_torn_last_line_of_the_log_is_cut_off(config):
    train(replace(config, images=80))
    with (config.out / "log.jsonl").open("a") as file:
        file.write('{"images": 120, "sec')

    assert len(read_log(config.out)) == 2
    train(config)
    assert [row["images"] for row in rows(config)] == [40, 80, 120, 160]


# Log, pictures, card


def test_a_number_that_is_not_finite_is_null_in_the_log(config):
    with Run(config.out, config) as run:
        run.log(images=8, train_loss=float("nan"), valid_loss=1)

    assert rows(config) == [{"images": 8, "train_loss": None, "valid_loss": 1.0}]


def test_tensorboard_has_the_numbers_of_the_log(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config)

    events = EventAccumulator(str(config.out / "tensorboard")).Reload()
    logged = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert logged == [(row["images"], np.float32(row["train_loss"])) for row in rows(config)]


def test_the_card_holds_everything_and_loads_nothing(config, monkeypatch):
    monkeypatch.setattr("mien.training.card.draw_curves", draw_curves)  # left out elsewhere
    train(config)
    with Run(config.out, config, may_change={"images"}) as run:
        run.picture("first_batch", np.zeros((8, 16), np.uint8))
        run.finish(
            {
                "accuracy": 0.75,
                "note": "<script>",
                "expected_calibration_error": float("nan"),
                "per_class": {"anger": {"f1": 0.5}, "fear": {"f1": 0.25, "recall": 1}},
                "counts": {"train": 12000},
            }
        )

    page = (config.out / "card.html").read_text()
    for text in (
        "<h1>run</h1>",
        "toy",
        "160 images in",
        "0.75",
        "&lt;script&gt;",
        "first batch",
        "anger",
        "recall",
        "12,000",
    ):
        assert text in page, text
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png") == 2
    assert json.loads((config.out / "summary.json").read_text())["expected_calibration_error"] is None
    assert (config.out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_a_log_has_a_card_too(config):
    with Run(config.out, config) as run:
        run.finish({})

    assert "What was asked for" in (config.out / "card.html").read_text()


# EMA


def test_the_average_is_the_textbook_one():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
        ema = EMA(model, half_life_images=10, ramp=1e9)
        model.weight.fill_(1.0)
    for _ in range(2):
        ema.update(model, 5)

    assert ema.model.weight.item() == pytest.approx(0.5)
    assert not ema.model.training and not ema.model.weight.requires_grad


def test_the_ramp_forgets_early_weights():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(100.0)
        ema = EMA(model, half_life_images=1e9, ramp=0.1)
        model.weight.fill_(1.0)
    for _ in range(20):
        ema.update(model, 10)

    assert ema.model.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_the_average_covers_buffers_and_copies_counts():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, half_life_images=0)
    model(torch.randn(8, 2) + 5)

    ema.update(model, 8)

    assert torch.equal(ema.model.running_mean, model.running_mean) and ema.model.num_batches_tracked == 1


def test_a_folder_that_went_away_is_a_clear_line(config):
    with Run(config.out, config) as run:
        run.load_state(model=Toy(8, 0.2))
        config.out.rename(config.out.parent / "elsewhere")

        for save in (run.save_state, lambda: run.log(images=8, loss=1.0), lambda: run.finish({})):
            with pytest.raises(TrainingError, match=r"Cannot save the run in .*: No such file or directory"):
                save()
