"""FaceMesh of MediaPipe and its network of eyes, `.tflite` to ONNX."""

from __future__ import annotations

from mien.zoo.foreign.tflite import Converter, reading

__all__ = ["facemesh", "iris"]

SIDE, EYE_SIDE = 192, 64


def facemesh(data: bytes) -> bytes:
    """Convert the FaceMesh of 468 points, `face_landmark.tflite`, to ONNX.

    The graph takes float32 NCHW RGB of 192 x 192 px, any batch, and gives two outputs: (batch, 1404), x, y and
    z of each point in px of the input, and (batch, 1), the logit that the picture shows a face.

    Raises:
        ModelError: The file is damaged or uses an operator that this network has not.
    """
    with reading("FaceMesh"):
        return Converter(data, "facemesh", side=SIDE).model()


def iris(data: bytes) -> bytes:
    """Convert MediaPipe's network of eyes, `iris_landmark.tflite`, to ONNX.

    The graph takes float32 NCHW RGB of 64 x 64 px, any batch, and gives two outputs: (batch, 213), x, y and z of 71
    points around an eye, lids first, and (batch, 15), of five points of its iris, px of the input.

    Raises:
        ModelError: The file is damaged or uses an operator that this network has not.
    """
    with reading("network of eyes"):
        return Converter(data, "iris", side=EYE_SIDE).model()
