"""FaceMesh of MediaPipe, `.tflite` to ONNX."""

from __future__ import annotations

from mien.zoo.foreign.tflite import Converter, reading

__all__ = ["facemesh"]

SIDE = 192


def facemesh(data: bytes) -> bytes:
    """Convert the FaceMesh of 468 points, `face_landmark.tflite`, to ONNX.

    The graph takes float32 NCHW RGB of 192 x 192 px, any batch, and gives two outputs: (batch, 1404), x, y and
    z of each point in px of the input, and (batch, 1), the logit that the picture shows a face.

    Raises:
        ModelError: The file is damaged or uses an operator that this network has not.
    """
    with reading("FaceMesh"):
        return Converter(data, "facemesh", side=SIDE).model()
