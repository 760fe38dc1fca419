import math
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mien.errors import UsageError
from mien.training.stopping import Budget, EarlyStopping, Interrupted, Stop


def test_patience_ends_after_so_many_reports_without_a_better_value():
    stopping = EarlyStopping(2)

    better = [stopping.update(value, images) for images, value in enumerate([0.5, 0.7, 0.7, 0.6])]

    assert better == [True, True, False, False]
    assert stopping.exhausted and stopping.best == 0.7 and stopping.best_images == 1


def test_a_loss_is_better_when_lower():
    stopping = EarlyStopping(2, higher_is_better=False)

    assert [stopping.update(value, 0) for value in (2.0, 1.0, 3.0)] == [True, True, False]
    assert not stopping.exhausted


def test_a_value_that_is_no_number_is_never_the_best():
    stopping = EarlyStopping(1)

    assert not stopping.update(math.nan, 0) and stopping.exhausted and stopping.best is None


def test_patience_zero_never_stops():
    stopping = EarlyStopping(0)
    for _ in range(9):
        stopping.update(0.0, 0)

    assert not stopping.exhausted


def test_negative_patience_is_refused():
    with pytest.raises(UsageError, match="got -1"):
        EarlyStopping(-1)


def test_patience_goes_on_after_a_resume():
    before, after = EarlyStopping(2), EarlyStopping(2)
    before.update(0.5, 10)
    before.update(0.4, 20)

    after.load_state_dict(before.state_dict())
    after.update(0.4, 30)

    assert after.exhausted and after.best == 0.5 and after.best_images == 10


def test_a_budget_ends_and_no_budget_does_not():
    short, none = Budget(0.02), Budget(None)
    assert not short.spent
    time.sleep(0.03)

    assert short.spent and not none.spent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops(number, capsys):
    before = signal.getsignal(number)

    with Stop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)

    assert signal.getsignal(number) is before
    assert capsys.readouterr().err == "\nStopping after this step; once more stops at once, without saving.\n"


def test_another_thread_trains_without_catching_signals():
    seen = []

    def work():
        with Stop() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [False]


def test_an_interruption_says_how_to_go_on():
    error = Interrupted(Path("runs/a"), 12_800)

    assert str(error) == "Stopped and saved at 12,800 images in 'runs/a'. Go on with the same command."
    assert isinstance(error, KeyboardInterrupt)
