"""Where to compute, and how precisely."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch

from mien.errors import UsageError
from mien.zoo.fetch import say
from mien.zoo.session import thread_count

__all__ = ["autocast", "choose_device", "fast_precision"]


def choose_device(name: str = "auto", *, local_rank: int = 0) -> torch.device:
    """Return the device that a setting names; auto is the GPU where there is one.

    On a CPU, PyTorch gets as many threads as ONNX Runtime would (MIEN_THREADS, the CPU quota), unless OMP_NUM_THREADS
    says how many, as torchrun does.

    Args:
        name: auto, cpu, cuda, cuda:1, mps.
        local_rank: Which GPU of the machine a process takes where ``name`` gives no number.

    Raises:
        UsageError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UsageError(f"Device '{name}' is not known. Choose auto, cpu, cuda, cuda:1 or mps.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("Device 'mps' was asked for, but this machine has none. Choose --device auto.")
    if kind == "cuda":
        index = int(number) if number else local_rank
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            raise UsageError(
                f"Device 'cuda:{index}' was asked for, but PyTorch {torch.__version__} sees {count} GPUs. "
                f"Choose --device auto."
            )
        return torch.device("cuda", index)
    if kind == "cpu" and ("MIEN_THREADS" in os.environ or "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(thread_count())
    return torch.device(kind)


def autocast(device: torch.device, precision: Literal["fp32", "bf16"]) -> AbstractContextManager[object]:
    """Return the context for forward passes: with bf16, products and convolutions run in bfloat16, losses do not.

    bfloat16 has the range of float32, so that no gradient needs scaling. Where it would be emulated, all stays in
    float32, and a line on stderr says so.
    """
    if precision == "fp32":
        return nullcontext()
    if fast_precision(device) == "fp32":
        _tell_of_fp32()
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fast_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """Return bf16 where the machine multiplies it faster, and fp32 elsewhere.

    A CPU without instructions for bfloat16 converts each number, which takes many times as long.
    """
    return "bf16" if device.type != "cpu" or _cpu_multiplies_bf16() else "fp32"


@cache
def _cpu_multiplies_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@cache
def _tell_of_fp32() -> None:
    """Say it once, in the first process of several."""
    if os.environ.get("RANK", "0") == "0":
        say(
            "This processor has no instructions for bf16, which would make training many times slower: it runs in fp32."
        )
