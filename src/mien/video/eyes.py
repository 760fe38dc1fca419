"""The networks that a watch uses, behind functions that can be faked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mien.errors import ModelError
from mien.matching import operating_point
from mien.types import Box, Expression, Quality
from mien.vision.detector import Detection, Detector
from mien.vision.quality import assess, measure

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.zoo import Card

__all__ = ["Eyes", "EyesLike", "portrait"]

RGB = UInt8[np.ndarray, "height width 3"]
Crop = UInt8[np.ndarray, "side side 3"]

# Of the few who left a moment ago one is likely to come back; of all people of a day hardly any given one is.
_MAYBE_FMR, _SAME_FMR, _SURE_FMR = 1e-1, 1e-2, 1e-4


class EyesLike(Protocol):
    """What the pipeline asks of networks: `Eyes`, or a stand-in."""

    same: float | None
    """Cosine from which on two faces are taken for one person; None where that was not measured."""
    maybe: float | None
    """Cosine below which they are hardly one person; None where that was not measured."""
    surely_same: float | None
    """The same for people of a whole day, of whom there are many more to be mistaken for."""
    labels: tuple[str, ...]
    """Classes of `read`; empty where no expressions are read."""

    def find(self, image: RGB) -> list[Detection]:
        """Search a picture for faces."""
        ...

    def look_again(self, image: RGB, boxes: Sequence[Box]) -> list[Detection | None] | None:
        """Look for faces that are expected; None where the detector cannot."""
        ...

    def judge(self, image: RGB, detection: Detection) -> tuple[Crop, Quality]:
        """Cut a face out for `embed`, and say how fit it is."""
        ...

    def embed(self, crops: Sequence[Crop]) -> Float32[np.ndarray, "faces dimension"]:
        """Return what the embedder alone sees, unit vectors that can be averaged."""
        ...

    def comparable(self, vectors: Float32[np.ndarray, "n dimension"]) -> Float32[np.ndarray, "n other"]:
        """Return unit vectors whose cosines are compared with thresholds."""
        ...

    def expression_crop(self, image: RGB, detection: Detection) -> Crop:
        """Cut a face out for `read`."""
        ...

    def read(self, crops: Sequence[Crop]) -> Float64[np.ndarray, "faces classes"]:
        """Return probabilities of expressions, in the order of ``labels``."""
        ...

    def outcome(self, probabilities: Float64[np.ndarray, " classes"]) -> Expression:
        """Return one row of probabilities as a record."""
        ...


class Eyes:
    """The networks of an analyzer, one thread each, since two threads of a watch use them at once.

    Args:
        analyzer: With the cohort of the gallery in use, see `Analyzer.for_gallery`.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self.card = analyzer.card
        self._models = analyzer.networks
        self.labels = self._models.expression.labels if self._models.expression is not None else ()
        _ = self._models.embedder.session  # opened before two threads race for it
        self.same = _threshold(analyzer.card, _SAME_FMR)
        self.maybe = _threshold(analyzer.card, _MAYBE_FMR)
        self.surely_same = _threshold(analyzer.card, _SURE_FMR)

    def warm_up(self) -> None:
        """Run each network once: a first run takes several times as long, and a camera does not wait for it."""
        image = np.full((480, 640, 3), 90, np.uint8)
        self.find(image)
        box = Box(270.0, 190.0, 370.0, 290.0)
        points = np.array([[300, 220], [340, 220], [320, 240], [305, 262], [335, 262]], np.float32)
        face = Detection(box, points, 1.0)
        self.look_again(image, [box])
        self.embed([self.judge(image, face)[0]])
        if self.labels:
            self.read([self.expression_crop(image, face)])

    def find(self, image: RGB) -> list[Detection]:
        """Search a picture for faces, largest first."""
        return self._models.detector.detect(image)

    def look_again(self, image: RGB, boxes: Sequence[Box]) -> list[Detection | None] | None:
        """Look for faces that are expected; None where the detector cannot."""
        detector = self._models.detector
        if not isinstance(detector, Detector) or not detector.can_look_again:
            return None
        return detector.look_again(image, boxes)

    def judge(self, image: RGB, detection: Detection) -> tuple[Crop, Quality]:
        """Cut a face out for `embed`, and say how fit it is."""
        crop = self._models.embedder.crop(image, detection.landmarks)
        return crop, assess(measure(crop, detection.landmarks, detection.box, detection.score))

    def embed(self, crops: Sequence[Crop]) -> Float32[np.ndarray, "faces dimension"]:
        """Return what the embedder alone sees, unit vectors that can be averaged."""
        return self._models.embedder.describe(np.stack(crops))

    def comparable(self, vectors: Float32[np.ndarray, "n dimension"]) -> Float32[np.ndarray, "n other"]:
        """Return unit vectors whose cosines are compared with thresholds."""
        cohort = self._models.embedder.cohort
        return vectors if cohort is None else cohort.normalise(vectors)

    def expression_crop(self, image: RGB, detection: Detection) -> Crop:
        """Cut a face out for `read`."""
        assert self._models.expression is not None
        return self._models.expression.crop(image, detection)

    def read(self, crops: Sequence[Crop]) -> Float64[np.ndarray, "faces classes"]:
        """Return probabilities of expressions, in the order of ``labels``."""
        assert self._models.expression is not None
        return self._models.expression.probabilities(np.stack(crops))

    def outcome(self, probabilities: Float64[np.ndarray, " classes"]) -> Expression:
        """Return one row of probabilities as a record."""
        assert self._models.expression is not None
        return self._models.expression.outcome(probabilities)


def _threshold(card: Card, fmr: float) -> float | None:
    try:
        return operating_point(card, fmr).threshold
    except ModelError:
        return None


def portrait(image: RGB, box: Box, side: int = 128) -> Crop:
    """Cut a face out with room around it, for people to look at."""
    reach = 0.8 * max(box.width, box.height)
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    scale = side / (2 * reach)
    matrix = np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]])
    left, top = max(int(x - reach), 0), max(int(y - reach), 0)
    part = image[top : int(y + reach) + 2, left : int(x + reach) + 2]
    matrix[:, 2] += scale * np.array([left, top])
    if scale < 0.5:  # averaged first: a face cut out of a large picture would be speckled
        size = (max(round(part.shape[1] * scale), 1), max(round(part.shape[0] * scale), 1))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        matrix = matrix * [[part.shape[1] / size[0], 0, 1], [0, part.shape[0] / size[1], 1]]
        part = np.asarray(small, dtype=np.uint8)
    cut = cv2.warpAffine(part, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, dtype=np.uint8)
