"""BlazeFace of MediaPipe, `.tflite` to ONNX."""

from __future__ import annotations

from mien.zoo.foreign.tflite import Converter, reading

__all__ = ["blazeface"]


def blazeface(data: bytes) -> bytes:
    """Convert a BlazeFace `.tflite` to ONNX.

    The graph takes float32 NCHW of any batch and any size that is a multiple of 32, and gives the file's outputs, cells
    row by row: (batch, cells * anchors, values).

    Raises:
        ModelError: The file is damaged or uses an operator that BlazeFace has not.
    """
    with reading("BlazeFace"):
        return Converter(data, "blazeface").model()
