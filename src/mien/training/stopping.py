"""When to stop: no more progress, no more time, or the user's Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from mien.errors import UsageError

__all__ = ["Budget", "EarlyStopping", "Interrupted", "Stop"]


class EarlyStopping:
    """Keep the best value of a metric, and say when there has been none better for a while.

    Args:
        patience: So many reports without a better value end the training; 0 never does.
        higher_is_better: False for a loss.

    Attributes:
        best: The best value so far; None before the first.
        best_images: The position at which it was measured.
        waited: Reports since then.
    """

    def __init__(self, patience: int, *, higher_is_better: bool = True) -> None:
        if patience < 0:
            raise UsageError(f"Patience is 0 (never stop early) or a number of reports, got {patience}.")
        self.patience = patience
        self.higher_is_better = higher_is_better
        self.best: float | None = None
        self.best_images = 0
        self.waited = 0

    def update(self, value: float, images: int) -> bool:
        """Note a value; return True where it is the best so far. A value that is no number never is."""
        if math.isfinite(value) and (
            self.best is None or (value > self.best if self.higher_is_better else value < self.best)
        ):
            self.best, self.best_images, self.waited = value, images, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self.waited

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"best": self.best, "best_images": self.best_images, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.best, self.best_images, self.waited = state["best"], int(state["best_images"]), int(state["waited"])


class Budget:
    """A limit on wall-clock time, which starts when this is made.

    Args:
        seconds: None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._start = time.monotonic()

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return self.seconds is not None and time.monotonic() - self._start >= self.seconds


class Interrupted(KeyboardInterrupt):
    """The user stopped a training; it is saved, and the message says how to go on. Exit with status 130."""

    def __init__(self, out: Path, images: int) -> None:
        super().__init__(f"Stopped and saved at {images:,} images in '{out}'. Go on with the same command.")


class Stop:
    """Catch Ctrl-C (and SIGTERM) within a `with` block: the first lets the step end, the second stops at once.

    Attributes:
        requested: Whether it has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        # Python allows signal handlers in the main thread only; elsewhere Ctrl-C is not ours to catch.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        sys.stderr.write("\nStopping after this step; once more stops at once, without saving.\n")
