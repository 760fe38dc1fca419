"""ONNX Runtime sessions that behave on a laptop, in a container with a CPU quota, and beside other work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mien.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["make_session", "providers", "runtime_errors", "session_options", "thread_count"]

CGROUP = Path("/sys/fs/cgroup")
_PREFERRED = {
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


def thread_count() -> int:
    """Return how many threads a session may use: MIEN_THREADS, else what affinity and the CPU quota leave us.

    A container with a quota of half a core still shows every core of its host; as many threads as cores then
    queue for one time slice and a call takes a hundred times as long.
    """
    wish = os.environ.get("MIEN_THREADS", "")
    if wish:
        if not wish.isdecimal() or int(wish) < 1:
            raise UsageError(f"MIEN_THREADS should be a whole number from 1, got '{wish}'.")
        return int(wish)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(CGROUP)
    return max(1, min(cores, int(quota) if quota is not None else cores))


def _cpu_quota(root: Path) -> float | None:
    """Return the CPU quota in cores from cgroup v2 or v1, None where there is none."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()[:2]
            return None if quota == "max" else int(quota) / int(period)
        v1 = root / "cpu"
        quota_us = int((v1 / "cpu.cfs_quota_us").read_text())
        return quota_us / int((v1 / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    except (OSError, ValueError):
        return None


def providers(device: str | None = None) -> list[str]:
    """Return ONNX Runtime providers, best first.

    Args:
        device: `auto`, or one of cpu, cuda, rocm, directml, coreml, openvino; default MIEN_DEVICE, else auto.

    Raises:
        UsageError: The device is unknown, or this build of ONNX Runtime lacks its provider.
    """
    import onnxruntime

    device = (device or os.environ.get("MIEN_DEVICE") or "auto").lower()
    present = onnxruntime.get_available_providers()
    if device == "auto":
        # CoreML recompiles at each new input size, which the detector has: it is there for those who ask.
        best = [name for key, name in _PREFERRED.items() if name in present and key not in ("coreml", "cpu")]
        return [*best, "CPUExecutionProvider"]
    if device not in _PREFERRED:
        raise UsageError(f"--device should be auto or one of {', '.join(_PREFERRED)}, got '{device}'.")
    if _PREFERRED[device] not in present:
        raise UsageError(
            f"Device '{device}' needs ONNX Runtime with {_PREFERRED[device]}; this build has {', '.join(present)}. "
            "Install the matching onnxruntime package (onnxruntime-gpu for cuda), or use --device auto."
        )
    return list(dict.fromkeys([_PREFERRED[device], "CPUExecutionProvider"]))


def session_options(
    *, threads: int | None = None, config: Mapping[str, str] | None = None
) -> onnxruntime.SessionOptions:
    """Return options with a thread count that fits and without spinning.

    Args:
        threads: Threads inside one operator; default `thread_count`.
        config: Further entries for ``add_session_config_entry``, for those who know what they do.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or thread_count()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    return options


def make_session(
    path: Path, *, options: onnxruntime.SessionOptions | None = None, device: str | None = None
) -> onnxruntime.InferenceSession:
    """Open an ONNX file.

    Raises:
        ModelError: The file is not a model that ONNX Runtime can run.
    """
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options or session_options(), providers=providers(device)
        )
    except runtime_errors() as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"'{path.name}' is not a model that ONNX Runtime {onnxruntime.__version__} can run: {reason} "
            "Check the file with: mien models verify"
        ) from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises; its exceptions share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*found, RuntimeError, ValueError)
