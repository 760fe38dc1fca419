"""What a face shows, by any expression network of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.types import EXPRESSIONS, Expression
from mien.vision.feed import Feed
from mien.vision.session import make_session, session_options

if TYPE_CHECKING:
    from mien.vision.detector import Detection
    from mien.zoo import Card

__all__ = ["ExpressionReader"]

_NO_CLASSES = ("valence", "arousal")  # what networks of several tasks answer after the classes


class ExpressionReader:
    """Read expressions with one ONNX network that answers logits or probabilities, one a class.

    Args:
        card: The model's card; its convention names ``labels`` (in the network's order, named as in
            `mien.types.EXPRESSIONS`), ``side``, ``order`` (RGB, BGR or GRAY), ``mean``, ``scale`` (one number or one a
            channel), how the face is cut (``template``, or ``crop = "box"``), and optionally ``answers`` (logits unless
            it says probabilities), ``batch`` (the most faces at once), ``temperature`` and ``uncertain_below``, the
            least probability of an outcome that is not uncertain. Valence and arousal after the labels are not read.
        threads: ONNX Runtime threads; default the CPU quota.
    """

    def __init__(self, card: Card, *, threads: int | None = None) -> None:
        from mien import zoo

        convention = card.convention
        self.card = card
        self.labels = tuple(str(label) for label in convention["labels"] if label not in _NO_CLASSES)
        if unknown := set(self.labels) - set(EXPRESSIONS):
            raise ModelError(
                f"Expression model '{card.name}' answers {', '.join(sorted(unknown))}; "
                f"known are {', '.join(EXPRESSIONS)}."
            )
        self.side = int(convention["side"])
        self._template = convention.get("template")
        self._feed = Feed(convention)
        self._answers_logits = convention.get("answers", "logits") == "logits"
        self._most = int(convention.get("batch", 0))
        self._temperature = float(convention.get("temperature", 1.0))
        self._uncertain_below = float(convention.get("uncertain_below", 0.0))
        self._session = make_session(zoo.path(card.name), options=session_options(threads=threads))
        self._input = self._session.get_inputs()[0].name

    def read(self, image: UInt8[np.ndarray, "height width 3"], detections: Sequence[Detection]) -> list[Expression]:
        """Return the expression of each detected face of a picture."""
        if not detections:
            return []
        batch = self._feed(np.stack([self._cut(image, detection) for detection in detections]))
        step = self._most or len(batch)
        parts = [self._session.run(None, {self._input: batch[i : i + step]})[0] for i in range(0, len(batch), step)]
        answers = np.concatenate(parts).astype(np.float64)[:, : len(self.labels)]
        logits = (answers if self._answers_logits else np.log(np.maximum(answers, 1e-12))) / self._temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return [self._outcome(row) for row in shares / shares.sum(axis=1, keepdims=True)]

    def _outcome(self, probabilities: np.ndarray) -> Expression:
        by_label = dict(zip(self.labels, probabilities.tolist(), strict=True))
        ordered = {label: by_label[label] for label in EXPRESSIONS if label in by_label}
        best = max(ordered, key=lambda label: ordered[label])
        return Expression(best, ordered, uncertain=ordered[best] < self._uncertain_below)

    def _cut(
        self, image: UInt8[np.ndarray, "height width 3"], detection: Detection
    ) -> UInt8[np.ndarray, "side side 3"]:
        if self._template is not None:
            side, points = TEMPLATES[str(self._template)]
            return align(image, detection.landmarks, points=np.array(points) * (self.side / side), side=self.side)
        box = detection.box
        left, top = max(int(box.left), 0), max(int(box.top), 0)
        part = image[top : max(int(box.bottom), top + 1), left : max(int(box.right), left + 1)]
        return np.asarray(cv2.resize(part, (self.side, self.side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
