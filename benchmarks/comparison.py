"""How drawn faces compare with photographs, by networks that stood in no loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien import zoo
from mien.evaluation.spaces import feature_space
from mien.metrics.generation import frechet_distance, sharpness, spread_ratio
from mien.metrics.intervals import wilson
from mien.vision.finding import find_face, patient_detector

JUDGES = ("dlib-resnet29", "expression-resnet27", "mini-xception")


class Comparison:
    """Photographs to compare with.

    Args:
        real: RGB uint8, shape (n, side, side, 3).
        template: How they are cut.
        labels: Class of each, for the spread within classes; None: one class.
        judges: Networks in whose features faces are compared; a mapping gives them other names.
    """

    def __init__(
        self,
        real: np.ndarray,
        template: str,
        *,
        labels: np.ndarray | None = None,
        judges: Sequence[str] | Mapping[str, str] = JUDGES,
    ) -> None:
        named = judges if isinstance(judges, Mapping) else {name: name for name in judges}
        self.real, self.labels = real, np.zeros(len(real), int) if labels is None else labels
        self.spaces = {key: feature_space(zoo.card(name), template, threads=1).features for key, name in named.items()}
        self.base = {key: features(real) for key, features in self.spaces.items()}
        self.detector = patient_detector()

    def frechet(self, faces: np.ndarray) -> dict[str, float]:
        """Return distances of other faces, by judge; of other photographs, the floor."""
        return {key: float(frechet_distance(self.base[key], features(faces))) for key, features in self.spaces.items()}

    def of(self, drawn: np.ndarray) -> dict[str, Any]:
        """Return the figures of as many faces that were drawn, of the same classes in the same order."""
        seen = {key: features(drawn) for key, features in self.spaces.items()}
        found = sum(find_face(face, self.detector) is not None for face in drawn)
        return {
            "frechet": {key: float(frechet_distance(self.base[key], seen[key])) for key in seen},
            "spread": {key: float(spread_ratio(self.base[key], seen[key], self.labels, self.labels)) for key in seen},
            "sharpness": float(sharpness(drawn) / sharpness(self.real)),
            "face_found": {"share": found / len(drawn), "interval": list(wilson(found, len(drawn)))},
        }
