"""Foreign weight files to ONNX, once, with the `onnx` package alone. The same bytes in give the same bytes out."""

from __future__ import annotations

import hashlib

__all__ = ["REVISION", "content_digest", "convert"]

REVISION = 2
"""Raised when a conversion changes, so that files converted before are made anew."""


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
    if not kind:
        return data
    from mien.zoo.foreign.conversions import CONVERSIONS  # with `onnx`, which a file that is used as it is needs not

    return CONVERSIONS[kind](data)


def content_digest(kind: str, data: bytes) -> str:
    """Return the digest that a catalogue keeps of what a conversion made.

    Of graph and weights where there was a conversion: its bytes may change with the versions of `onnx` and `protobuf`,
    what it computes may not. Of the bytes themselves where the file is used as it is.

    Raises:
        ModelError: The file should be ONNX and is not.
    """
    if not kind:
        return hashlib.sha256(data).hexdigest()
    from mien.zoo.foreign.onnxfile import graph_digest  # with `onnx`, as above

    return graph_digest(data)
