import math
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from mien.errors import TrainingError, UsageError
from mien.training.config import TrainingConfig
from mien.training.course import Course
from mien.training.guard import Guard
from mien.training.run import Run, read_log
from mien.training.stopping import EarlyStopping, Interrupted


@pytest.fixture
def config(tmp_path):
    return TrainingConfig(out=tmp_path / "run", images=40, batch_size=4, report_every=12)


def follow(config, *, measured=lambda images: 1.0, patience=0, spoil=lambda images: False, stop_at=None, begun=None):
    """Learn one number; return the positions of the steps."""
    positions = []
    with Run(config.out, config, may_change={"images"}) as run:
        model = nn.Linear(1, 1)
        guard, best = Guard(patience=2), EarlyStopping(patience)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        course = Course(
            run, config, guards={"train_loss": guard}, best=best, published={"model": model},
            parts={"model": model, "optimizer": optimizer, "guard": guard, "best": best},
        )  # fmt: skip
        found = course.begin()
        if begun is not None:
            begun.append(found)
        with course:
            for images in course.steps():
                positions.append(images)
                optimizer.zero_grad()
                loss = model(torch.rand(4, 1)).square().mean() * (math.nan if spoil(len(positions)) else 1)
                loss.backward()
                guard.step(optimizer, model, loss)
                if len(positions) == stop_at:
                    signal.raise_signal(signal.SIGTERM)
                if course.advance() and (
                    figures := course.measure(lambda: {"valid": measured(course.progress.images)}, decides="valid")
                ):
                    course.report(figures, score=figures["valid"])
        course.restore_best()
        course.publish(lambda: None)
    return positions


def reports(config):
    return [row["images"] for row in read_log(config.out)]


def test_steps_are_told_their_position_and_reports_come_at_their_time(config):
    assert follow(config) == list(range(0, 40, 4))
    assert reports(config) == [12, 24, 36, 40]
    assert read_log(config.out)[0].keys() >= {"train_loss", "valid"}


def test_a_training_can_end_before_its_schedule_does(config):
    assert follow(replace(config, end_at=18)) == list(range(0, 20, 4))
    assert reports(config) == [12, 20]
    assert follow(config) == list(range(20, 40, 4))  # and goes on when it is asked to
    with pytest.raises(TrainingError, match=r"has learned from 40 images, more than the 18 asked for"):
        follow(replace(config, end_at=18))
    assert replace(config, end_at=90).end == 40
    with pytest.raises(UsageError, match="'end_at' is at least 1, got 0"):
        replace(config, end_at=0)


def test_a_training_without_better_scores_ends_early(config):
    follow(config, patience=2)
    assert reports(config) == [12, 24, 36]


def test_a_stopped_training_is_saved_where_it_stopped_and_goes_on_there(config):
    with pytest.raises(Interrupted, match="at 20 images"):
        follow(config, stop_at=5)
    begun = []
    assert follow(config, begun=begun) == list(range(20, 40, 4)) and begun == [True]


def test_a_figure_that_is_no_number_sends_a_training_back_and_says_so(config, capsys):
    broken = iter([math.nan])
    positions = follow(config, measured=lambda images: next(broken, 1.0) if images == 24 else 1.0)
    assert positions == [*range(0, 24, 4), *range(12, 40, 4)]
    assert reports(config) == [12, 24, 36, 40]
    assert "back to 12 images, at half the learning rate" in capsys.readouterr().err


def test_going_back_has_an_end(config):
    with pytest.raises(TrainingError, match="3 times the training went back"):
        follow(config, spoil=lambda step: step > 3)
    assert reports(config) == [12]


def test_a_training_whose_time_is_over_reports_and_says_how_to_go_on(config, capsys):
    assert follow(replace(config, seconds=1e-9)) == [0]
    assert reports(config) == [4]
    said = capsys.readouterr().err
    assert "The time is over at 4 images, 10.0% of the schedule. Go on with the same command" in said
    assert "a whole schedule of this length is --images 4." in said
    follow(config)
    assert reports(config)[-1] == 40
    assert "The time is over" not in capsys.readouterr().err
