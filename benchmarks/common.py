"""What the benchmarks share: the machine, the folder of real data, reading and writing a result."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def data_folder() -> Path:
    """Return the folder with the unpacked data sets; it is no part of the project."""
    folder = Path(os.environ.get("MIEN_DATA", "data"))
    if not folder.is_dir():
        raise SystemExit(f"No folder '{folder}'. Unpack the data sets into one and name it with MIEN_DATA.")
    return folder


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    import cv2
    import numpy as np
    import onnxruntime

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def read_result(name: str) -> dict[str, Any]:
    """Return what `results/NAME.json` holds; nothing where there is none yet."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_result(name: str, result: dict[str, Any]) -> None:
    """Write `results/NAME.json` and say so."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
