import math

import pytest
import torch
from torch import nn

from mien.errors import TrainingError
from mien.training.guard import Guard
from mien.training.run import read_log
from training.toy import ToyConfig, train


def fresh(fused):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.AdamW(model.parameters(), 0.1, fused=fused)


def take(guard, model, optimizer, factor=1.0):
    optimizer.zero_grad()
    loss = model(torch.ones(2, 3)).square().mean() * factor
    loss.backward()
    guard.step(optimizer, model, loss)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_bad_step_leaves_no_trace(fused, factor):
    model, optimizer = fresh(fused)
    other, other_optimizer = fresh(fused)
    guard, other_guard = Guard(clip=1.0), Guard(clip=1.0)

    for kind in (1.0, factor, 1.0):
        take(guard, model, optimizer, kind)
    for _ in range(2):
        take(other_guard, other, other_optimizer)

    assert torch.equal(model.weight, other.weight)
    assert guard.mean_loss() == other_guard.mean_loss()
    assert guard.skipped == 1 and not guard.broken


def test_a_gradient_overflow_with_a_finite_loss_is_a_bad_step():
    model, optimizer = fresh(False)
    guard = Guard()
    before = model.weight.clone()
    loss = model(torch.ones(2, 3)).mean()
    loss.backward()
    model.weight.grad[0, 0] = math.inf

    guard.step(optimizer, model, loss)

    assert torch.equal(model.weight, before)


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    for factor, expected in [(1.0, 2.0), (0.1, 0.5)]:
        model = nn.Linear(1, 1, bias=False)
        model.weight.grad = torch.tensor([[5.0 * factor]])
        before = model.weight.item()

        Guard(clip=2.0).step(torch.optim.SGD(model.parameters(), 1.0), model, torch.tensor(1.0))

        assert before - model.weight.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_many_bad_steps_break_the_training(fused):
    model, optimizer = fresh(fused)
    guard = Guard(patience=3)

    for _ in range(3):
        take(guard, model, optimizer, math.nan)

    assert fused or guard.broken
    assert math.isnan(guard.mean_loss()) and guard.broken


def test_good_steps_between_bad_ones_do_not():
    model, optimizer = fresh(False)
    guard = Guard(patience=2)

    for factor in (math.nan, 1.0) * 5:
        take(guard, model, optimizer, factor)

    assert math.isfinite(guard.mean_loss()) and not guard.broken


def test_a_broken_training_goes_back_at_half_the_rate(tmp_path):
    config = ToyConfig(out=tmp_path / "run")
    spoilt = []

    def spoil(images, loss):
        if images >= 88 and len(spoilt) < 3:
            spoilt.append(images)
            return loss * math.nan
        return loss

    _, _, guard = train(config, spoil=spoil)

    assert spoilt == [88, 96, 104]
    assert guard.recoveries == 1 and guard.scale == 0.5 and guard.skipped == 0
    rows = read_log(config.out)
    assert [row["images"] for row in rows] == [40, 80, 120, 160]
    _, _, unspoilt = train(ToyConfig(out=tmp_path / "whole"))
    whole = read_log(tmp_path / "whole")
    assert [row["lr"] for row in rows] == [row["lr"] * half for row, half in zip(whole, (1, 1, 0.5, 0.5), strict=True)]
    assert unspoilt.recoveries == 0


@pytest.mark.parametrize("from_images", [0, 88], ids=["from the first step", "later"])
def test_a_training_that_stays_broken_stops_with_a_report(tmp_path, from_images):
    config = ToyConfig(out=tmp_path / "run")
    calls = []

    def spoil(images, loss):
        calls.append(images)
        return loss * math.nan if images >= from_images else loss

    saved = "80" if from_images else "0"
    with pytest.raises(
        TrainingError, match=f"1/8 of the learning rate; 3 times .* kept as it was at {saved} images"
    ) as e:
        train(config, spoil=spoil)

    assert "\n" not in str(e.value)
    assert calls.count(from_images) == 4
