"""How a training shows itself: a bar with speed and time left on a terminal, a line a report elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["PictureProgress", "Reporter"]


class Reporter:
    """Show images/s, time left and the newest numbers on stderr; use it in a `with` block.

    Args:
        total: Length of the training in images.
        done: Images seen before, in a resumed run.
        quiet: Show nothing, as in all processes but the main one.
        stream: Where to; stderr.
    """

    def __init__(self, total: int, *, done: int = 0, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._total = total
        self._done = self._from = done
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Reporter:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(file=self._stream),
                redirect_stdout=False,
            )
            self._task = self._bar.add_task("", total=self._total, completed=self._done, speed="", note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def images_per_second(self) -> float:
        """Mean speed since the start of this process, reports included."""
        return (self._done - self._from) / max(time.monotonic() - self._start, 1e-9)

    def advance(self, images: int) -> None:
        """Note that the training has come to ``images``."""
        if images < self._done:
            # The training went back to a checkpoint.
            self._from, self._start = images, time.monotonic()
        self._done = images
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=images, speed=f"{self.images_per_second:,.0f} images/s")

    def report(self, images: int, **scalars: float) -> None:
        """Show the newest numbers."""
        if self._quiet:
            return
        note = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scalars.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=note)
            self._bar.console.print(f"{images:>12,}  {note}", highlight=False)
            return
        speed = self.images_per_second
        left = f", {format_duration((self._total - images) / speed)} left" if speed > 0 and images < self._total else ""
        self._stream.write(f"{images:,} of {self._total:,} images, {speed:,.0f} images/s{left}: {note}\n")
        self._stream.flush()


class PictureProgress:
    """Shows how far a long preparation of pictures has got; use it in a `with` block and call it after each one.

    Args:
        quiet: Show nothing.
        least: Fewer pictures than this are not worth a bar.
    """

    def __init__(self, *, quiet: bool = False, least: int = 1000) -> None:
        self._quiet, self._least = quiet, least
        self._reporter: Reporter | None = None

    def __enter__(self) -> PictureProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, done: int, total: int) -> None:
        """Note that so many of so many pictures are done; the first of another set begins anew."""
        if self._quiet or total < self._least:
            return
        if self._reporter is None or done == 1:
            self._end()
            self._reporter = Reporter(total).__enter__()
        self._reporter.advance(done)
        if done % 5000 == 0:
            self._reporter.report(done)
        if done == total:
            self._end()

    def _end(self) -> None:
        if self._reporter is not None:
            self._reporter.__exit__(None, None, None)
            self._reporter = None


def format_duration(seconds: float) -> str:
    """Return seconds as "40 s", "12 min" or "2 h 5 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
