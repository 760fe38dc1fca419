"""Foreign weight files to ONNX, once, with the `onnx` package alone. The same bytes in give the same bytes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from mien.zoo.foreign.blazeface import blazeface
from mien.zoo.foreign.dlib import dlib_resnet
from mien.zoo.foreign.facemesh import facemesh, iris
from mien.zoo.foreign.mobilenet import mobilenet
from mien.zoo.foreign.onnxfile import dynamic_size, graph_digest
from mien.zoo.foreign.sface import sface
from mien.zoo.foreign.xception import mini_xception

__all__ = ["CONVERSIONS", "REVISION", "content_digest", "convert"]

REVISION = 2
"""Raised when a conversion changes, so that files converted before are made anew."""

CONVERSIONS: dict[str, Callable[[bytes], bytes]] = {
    "dynamic-size": dynamic_size,
    "dlib-resnet": dlib_resnet,
    "dlib-resnet-fp16": lambda data: dlib_resnet(data, half=True),
    "blazeface": blazeface,
    "facemesh": facemesh,
    "iris": iris,
    "mobilenet": mobilenet,
    "mini-xception": mini_xception,
    "sface": sface,
}


def convert(kind: str, data: bytes) -> bytes:
    """Convert a file's bytes.

    Args:
        kind: Name of the conversion as in the catalogue; empty for none.
        data: The file.

    Returns:
        An ONNX file, or ``data`` itself where nothing is to be converted.

    Raises:
        ModelError: The file is not what the conversion expects.
    """
    return CONVERSIONS[kind](data) if kind else data


def content_digest(kind: str, data: bytes) -> str:
    """Return the digest that a catalogue keeps of what a conversion made.

    Of graph and weights where there was a conversion: its bytes may change with the versions of `onnx` and `protobuf`,
    what it computes may not. Of the bytes themselves where the file is used as it is.

    Raises:
        ModelError: The file should be ONNX and is not.
    """
    return graph_digest(data) if kind else hashlib.sha256(data).hexdigest()
