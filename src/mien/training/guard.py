"""What to do when numbers stop being numbers: leave out a step; if that does not help, go back and go slower."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mien.errors import TrainingError
from mien.training.run import Part, Run

__all__ = ["Guard"]


class Guard:
    """Takes the optimizer's steps, and leaves out those whose gradient is not finite.

    A single bad batch costs one step. Where bad steps are the rule the model is lost: `recover` restores the last
    checkpoint and halves the learning rate, at most three times.

    Args:
        clip: Longest gradient, as the norm over all weights; longer ones are shortened to it. None never shortens.
        patience: So many bad steps in a row break the training.
        most_recoveries: The next one after these stops the training.

    Attributes:
        scale: What the schedule's learning rate is multiplied by: 1, then a half with each recovery.
        broken: Whether bad steps have become the rule; `recover` mends it.
        skipped: Steps left out so far.
        recoveries: How often the training went back.
    """

    def __init__(self, *, clip: float | None = None, patience: int = 20, most_recoveries: int = 3) -> None:
        self.clip = clip
        self.patience = patience
        self.most_recoveries = most_recoveries
        self.scale = 1.0
        self.broken = False
        self.skipped = 0
        self.recoveries = 0
        self._in_a_row = 0
        self._steps = 0  # since the last report
        self._bad: Tensor | None = None  # since the last report, counted where the model is
        self._loss: Tensor | None = None  # sum over the good steps since the last report

    def step(self, optimizer: torch.optim.Optimizer, model: nn.Module, loss: Float[Tensor, ""]) -> None:
        """Clip the gradients and take the optimizer's step, or leave it out.

        With a fused optimizer nothing waits for the device; `broken` is then known after the next `mean_loss`.

        Args:
            optimizer: Of the weights of ``model``.
            model: With gradients.
            loss: Of this step, a scalar: for the report.
        """
        weights = [weight for weight in model.parameters() if weight.grad is not None]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        # The averaged gradient decides, not the loss of one's own part of the batch: all processes do the same.
        bad = ~torch.isfinite(norm)
        self._steps += 1
        self._bad = bad.long() if self._bad is None else self._bad.to(bad.device) + bad
        good_loss = torch.where(bad, torch.zeros_like(loss), loss.detach()).float()
        self._loss = good_loss if self._loss is None else self._loss.to(loss.device) + good_loss
        fused = all(group.get("fused") for group in optimizer.param_groups)
        # A comparison waits for the device; shortening by a factor of one does not, but costs a pass over the weights.
        if self.clip is not None and (fused or norm > self.clip):
            nn.utils.clip_grads_with_norm_(weights, self.clip, norm, foreach=True)
        if fused:
            # The kernels of a fused optimizer leave the step out by themselves.
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            optimizer.step()
        elif bad:
            self._in_a_row += 1
            self.broken = self.broken or self._in_a_row >= self.patience
        else:
            self._in_a_row = 0
            optimizer.step()

    def mean_loss(self) -> float:
        """Return the mean loss of the good steps since the last call; NaN, and `broken`, where most were bad."""
        if self._bad is None or self._loss is None:
            return math.nan
        bad, steps, total = int(self._bad), self._steps, float(self._loss)
        self.skipped += bad
        self._steps, self._bad, self._loss = 0, None, None
        if 2 * bad > steps or not math.isfinite(total):
            self.broken = True
            return math.nan
        return total / (steps - bad)

    def recover(self, run: Run, **parts: Part) -> None:
        """Restore the last checkpoint and halve the learning rate for good.

        Args:
            run: Whose checkpoint to restore.
            parts: As given to `Run.save_state`, this guard among them.

        Raises:
            TrainingError: It has been tried as often as allowed.
        """
        scale, tried = self.scale, self.recoveries + 1
        if tried > self.most_recoveries:
            raise TrainingError(
                f"The loss is no number, even at 1/{round(1 / scale)} of the learning rate; {self.recoveries} times "
                f"the training went back to its last checkpoint. '{run.out}' is kept as it was at {run.saved_images:,} "
                f"images. Look for bad values in the data, or lower the learning rate and train into another folder."
            )
        run.load_state(**parts)
        # The checkpoint's guard does not know of this yet; the next one will.
        self.scale, self.recoveries = scale / 2, tried
        self.broken, self._in_a_row = False, 0
        self._steps, self._bad, self._loss = 0, None, None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "scale": self.scale,
            "skipped": self.skipped,
            "recoveries": self.recoveries,
            "in_a_row": self._in_a_row,
            "steps": self._steps,
            "bad": self._bad,
            "loss": self._loss,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.scale, self.skipped, self.recoveries = state["scale"], state["skipped"], state["recoveries"]
        self._in_a_row, self._steps = state["in_a_row"], state["steps"]
        self._bad, self._loss = state["bad"], state["loss"]
