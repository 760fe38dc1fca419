"""What surrounds every training step: which is next, when to report, what broken numbers do, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from torch import nn

from mien.errors import TrainingError
from mien.training.checkpoint import Part, load_checkpoint
from mien.training.config import TrainingConfig
from mien.training.guard import Guard
from mien.training.reporter import Reporter
from mien.training.run import Progress, Run
from mien.training.stopping import Budget, EarlyStopping, Interrupted, Stop

__all__ = ["Course"]

Result = TypeVar("Result")


class Course:
    """The way of one training through its steps. A story learns, measures and draws; this does the rest.

        course.begin()
        with course:
            for images in course.steps():
                ...  # learn from the batch that starts at this position
                if course.advance() and (figures := course.measure(validate, decides="valid_loss")):
                    course.report(figures, score=-figures["valid_loss"])
        course.restore_best()
        summary = course.publish(write)

    Call every method in all processes.

    Args:
        run: The run folder.
        config: Its length, batch size, budget and reports.
        guards: By the name under which their mean loss is logged; the first one keeps the rate's scale.
        best: Keeps the best score, and ends the training when its patience is exhausted.
        published: The network of the best checkpoint, by name.
        parts: Everything that a checkpoint holds, the guards and ``best`` included; `Progress` is added.

    Attributes:
        run: The run folder.
        progress: How far the training has got.
        best: The best score, and where it was reached.
    """

    def __init__(
        self,
        run: Run,
        config: TrainingConfig,
        *,
        guards: Mapping[str, Guard],
        best: EarlyStopping,
        published: Mapping[str, nn.Module],
        parts: Mapping[str, Part],
    ) -> None:
        assert guards, "a training is guarded"
        self.run, self.best, self.progress = run, best, Progress()
        self._config, self._guards, self._published = config, dict(guards), dict(published)
        self._parts = {**parts, "progress": self.progress}
        self._ranks = run.ranks
        self._within = ExitStack()
        self._out_of_time = False

    @property
    def scale(self) -> float:
        """What the schedule's learning rate is multiplied by: a half for each time that the training went back."""
        return min(guard.scale for guard in self._guards.values())

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to learn: all images are seen, or patience is at its end."""
        return self.progress.images >= self._config.end or self.best.exhausted

    def begin(self) -> bool:
        """Go on from the last checkpoint, or write the first one; return whether there was one.

        Raises:
            TrainingError: It lies beyond `end_at`.
        """
        found, end = self.run.load_state(**self._parts), self._config.end
        if self._config.end_at is not None and self.progress.images >= end + self._config.batch_size:
            raise TrainingError(
                f"'{self.run.out}' has learned from {self.progress.images:,} images, more than the {end:,} asked for. "
                f"Ask for more, or take another folder."
            )
        return found

    def __enter__(self) -> Course:
        self._budget = Budget(self._config.seconds)
        self._stop = self._within.enter_context(Stop())
        reporter = Reporter(self._config.end, done=self.progress.images, quiet=not self._ranks.is_main)
        self._reporter = self._within.enter_context(reporter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within.close()

    def steps(self) -> Iterator[int]:
        """Yield the position of each batch, PyTorch seeded by it, until all is learned or the time is over.

        After each step a training whose loss is no number goes back to its last checkpoint, and one that the user has
        stopped is saved.

        Raises:
            TrainingError: Going back has been tried as often as allowed.
            Interrupted: Ctrl-C; all is saved.
        """
        while not self.finished and not self._out_of_time:
            position = self.progress.images
            # Seeding by position makes every step repeatable on its own.
            self.run.seed_position(position)
            yield position
            assert self.progress.images > position, "each step ends with advance()"
            if self._broken:
                self._go_back()
            elif self._ranks.any(self._stop.requested):
                self.save()
                raise Interrupted(self.run.out, self.progress.images)

    def advance(self) -> bool:
        """Count the batch that was learned from; return whether a report is due."""
        self.progress.images += self._config.batch_size
        self._reporter.advance(self.progress.images)
        self._out_of_time = self._ranks.any(self._budget.spent)
        due = self.progress.images % self._config.report_every < self._config.batch_size
        return due or self._out_of_time or self.progress.images >= self._config.end

    def measure(
        self, look: Callable[[], Mapping[str, float]], *, decides: str, known: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Return the mean losses since the last report and what a look at the model says.

        Args:
            look: Measures the model, in the main process only.
            decides: The figure of ``look`` that has to be a finite number.
            known: Figures that all processes have; each has to be a finite number.

        Returns:
            The figures; empty where they are broken, so that there is nothing to report: the training then goes back.
        """
        losses = {name: self._ranks.mean(guard.mean_loss()) for name, guard in self._guards.items()}
        known = known or {}
        first = next(iter(self._guards.values()))
        first.broken = self._ranks.any(self._broken or not math.isfinite(sum(known.values())))
        if first.broken:
            return {}
        looked = dict(self._ranks.from_main(look))
        # A norm's statistics may be spoilt where the weights are not.
        first.broken = not math.isfinite(looked[decides])
        return {} if first.broken else {**losses, **known, **looked}

    def report(
        self,
        figures: Mapping[str, float],
        *,
        score: float,
        shown: Sequence[str] | None = None,
        before_saving: Callable[[], None] | None = None,
        **logged: float,
    ) -> None:
        """Keep the best, log, show, and make the run safe to stop, in this order.

        Args:
            figures: As `measure` gave them.
            score: What the best state is chosen by.
            shown: Which figures the user sees; default all.
            before_saving: What else is done at a report: drawing, and rules whose state the checkpoint keeps.
            logged: More figures for the log.
        """
        images = self.progress.images
        if self.best.update(score, images):
            self.run.save_best(**self._published)
        self.run.log(images=images, **figures, **logged)
        self._reporter.report(images, **{name: figures[name] for name in (shown or figures)})
        if before_saving is not None:
            before_saving()
        self.save()

    def save(self) -> None:
        """Make the run safe to stop here."""
        self.run.save_state(**self._parts)

    def restore_best(self) -> None:
        """Give the published network, in every process, the state that was best."""
        if self._ranks.is_main:
            load_checkpoint(self.run.best, **self._published)
        self._ranks.broadcast(*self._published.values())

    def publish(self, write: Callable[[], Result]) -> Result | None:
        """Write the result, in the main process only, and say where the training ended before its time.

        Returns:
            What ``write`` gave; None in the other processes.
        """
        written = write() if self._ranks.is_main else None
        if not self.finished:
            learned, length = self.progress.images, self._config.images
            self._ranks.say(
                f"The time is over at {learned:,} images, {learned / length:.1%} of the schedule. Go on with the same "
                f"command, --seconds aside; a whole schedule of this length is --images {learned}."
            )
        return written

    @property
    def _broken(self) -> bool:
        return any(guard.broken for guard in self._guards.values())

    def _go_back(self) -> None:
        first, *others = self._guards.values()
        first.recover(self.run, **self._parts)
        for guard in others:
            guard.broken = False
        self._out_of_time = False
        self._ranks.say(f"The loss is no number: back to {self.progress.images:,} images, at half the learning rate.")
