"""Face and expression recognition that runs offline and says how sure it is.

The public names below are imported when they are first used; importing `mien` sets one variable.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# The one thing that importing does, because it must come first: ONNX Runtime 1.31 and later note device and model in
# ~/.cache/Microsoft and send it to their makers, unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "Analyzer": "mien.analyzer",
    "Box": "mien.types",
    "Candidate": "mien.types",
    "Comparison": "mien.types",
    "Embedding": "mien.types",
    "Expression": "mien.types",
    "Face": "mien.types",
    "Gallery": "mien.gallery",
    "Generator": "mien.vision.generator",
    "MienError": "mien.errors",
    "OperatingPoint": "mien.types",
    "Picture": "mien.types",
    "Quality": "mien.types",
    "Records": "mien.types",
    "load_image": "mien.images",
    "verify": "mien.matching",
}

__all__ = [*_PUBLIC]

if TYPE_CHECKING:
    from mien.analyzer import Analyzer as Analyzer
    from mien.errors import MienError as MienError
    from mien.gallery import Gallery as Gallery
    from mien.images import load_image as load_image
    from mien.matching import verify as verify
    from mien.types import (
        Box as Box,
    )
    from mien.types import (
        Candidate as Candidate,
    )
    from mien.types import (
        Comparison as Comparison,
    )
    from mien.types import (
        Embedding as Embedding,
    )
    from mien.types import (
        Expression as Expression,
    )
    from mien.types import (
        Face as Face,
    )
    from mien.types import (
        OperatingPoint as OperatingPoint,
    )
    from mien.types import (
        Picture as Picture,
    )
    from mien.types import (
        Quality as Quality,
    )
    from mien.types import (
        Records as Records,
    )
    from mien.vision.generator import Generator as Generator


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
