"""Several processes that train one model, started by `torchrun`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mien.errors import UsageError

__all__ = ["Ranks"]

Items = TypeVar("Items", bound=Sequence[object] | Tensor)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, and of how many. One process alone needs no set-up, and every method is free of cost.

    Gradients are averaged by one flattened all-reduce a step, without a wrapper around the model. Statistics of batch
    normalisation are each process's own; those of the main one are saved.

    Attributes:
        rank: From 0; 0 is the main process, which logs and saves.
        world: How many processes.
        local: From 0, on this machine: the number of the GPU to take.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> Ranks:
        """Join the processes that `torchrun` started, as its environment says; alone without it.

        Raises:
            UsageError: The environment names a rank outside the world.
        """
        rank, world, local = (
            int(os.environ.get(name, low)) for name, low in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        if not 0 <= rank < world:
            raise UsageError(f"RANK is from 0 to WORLD_SIZE - 1, got {rank} of {world}. Start with torchrun.")
        if world > 1 and not dist.is_initialized():
            # Its functions keep the group as a default argument. Imported afterwards, as an optimiser does, they would
            # hold it, with its threads, beyond `close`: then a thread that frees a tensor while Python ends aborts.
            import torch.distributed.nn

            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(rank, world, local)

    @property
    def is_main(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def say(self, *lines: str) -> None:
        """Tell the user, a line each, on stderr; of several processes only the main one speaks."""
        if self.is_main:
            for line in lines:
                sys.stderr.write(f"mien: {line}\n")

    def shard(self, items: Items) -> Items:
        """Return this process's part of a batch: one of ``world`` equal, contiguous pieces.

        Raises:
            UsageError: The batch cannot be cut into equal pieces, without which averages would differ.
        """
        if len(items) % self.world:
            raise UsageError(f"A batch of {len(items)} cannot be shared evenly by {self.world} processes.")
        size = len(items) // self.world
        return items[self.rank * size : (self.rank + 1) * size]  # type: ignore[return-value]

    @torch.no_grad()
    def broadcast(self, *models: nn.Module) -> None:
        """Give every process the weights and buffers of the main one."""
        if self.world > 1:
            for model in models:
                for tensor in (*model.parameters(), *model.buffers()):
                    dist.broadcast(tensor.data, src=0)

    @torch.no_grad()
    def mean_gradients(self, *models: nn.Module) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.world == 1:
            return
        gradients = [weight.grad for model in models for weight in model.parameters() if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(old) for part, old in zip(parts, gradients, strict=True)])

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes."""
        return value if self.world == 1 else self._sum(value) / self.world

    def any(self, flag: bool) -> bool:
        """Return whether any process says so: all must leave the loop at the same step."""
        return flag if self.world == 1 else self._sum(float(flag)) > 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process run a block before the others do: they find what it wrote."""
        if not self.is_main:
            self._wait()
        yield
        if self.is_main:
            self._wait()

    def from_main(self, make: Callable[[], Made]) -> Made:
        """Call a function in the main process only, and return its answer in all of them."""
        if self.world == 1:
            return make()
        answer = [make() if self.is_main else None]
        dist.broadcast_object_list(answer, src=0)
        return answer[0]  # type: ignore[return-value]

    def close(self) -> None:
        """Leave the processes."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _wait(self) -> None:
        """Go on once every process has come here."""
        if self.world > 1:
            self._sum(0.0)

    def _sum(self, value: float) -> float:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.item()
