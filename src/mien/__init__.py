"""Face and expression recognition that runs offline and says how sure it is.

The public names below are imported when they are first used; importing `mien` sets one variable.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mien.lazy import attributes

# The one thing that importing does, because it must come first: ONNX Runtime 1.31 and later note device and model in
# ~/.cache/Microsoft and send it to their makers, unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Analyzer",
    "Box",
    "Candidate",
    "Comparison",
    "Embedding",
    "Expression",
    "Face",
    "Gallery",
    "Generator",
    "MienError",
    "OperatingPoint",
    "Picture",
    "Quality",
    "Records",
    "load_image",
    "verify",
]

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.errors import MienError
    from mien.gallery import Gallery
    from mien.images import load_image
    from mien.matching import verify
    from mien.types import (
        Box,
        Candidate,
        Comparison,
        Embedding,
        Expression,
        Face,
        OperatingPoint,
        Picture,
        Quality,
        Records,
    )
    from mien.vision.generator import Generator
else:
    __getattr__ = attributes(
        "mien",
        {
            "analyzer": ("Analyzer",),
            "errors": ("MienError",),
            "gallery": ("Gallery",),
            "images": ("load_image",),
            "matching": ("verify",),
            "types": (
                "Box",
                "Candidate",
                "Comparison",
                "Embedding",
                "Expression",
                "Face",
                "OperatingPoint",
                "Picture",
                "Quality",
                "Records",
            ),
            "vision.generator": ("Generator",),
        },
    )


def __dir__() -> list[str]:
    return sorted(__all__)
