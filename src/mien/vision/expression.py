"""What a face shows, by any expression network of the catalogue or of a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.types import EXPRESSIONS, Expression
from mien.vision.conventions import ExpressionConvention
from mien.vision.feed import Feed
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.vision.detector import Detection
    from mien.zoo import Card

__all__ = ["ExpressionReader"]

_NO_CLASSES = ("valence", "arousal")  # what networks of several tasks answer after the classes
_STEP = 64  # faces in one run: more are no faster, and take memory


class ExpressionReader:
    """Read expressions with one ONNX network that answers logits or probabilities, one a class.

    Args:
        card: The model's card; its convention names ``labels`` (in the network's order, named as in
            `mien.types.EXPRESSIONS`), ``side``, ``order`` (RGB, BGR or GRAY), ``mean``, ``scale`` (one number or one a
            channel), how the face is cut (``template``, or ``crop = "box"``), and optionally

            - ``heads``, in place of ``labels``: the labels of each output by its name; the first is what `read` tells,
            - ``answers``: logits unless it says probabilities,
            - ``flip``: the logits of a face and of its mirror image are averaged,
            - ``temperature``, one number or one a head, and ``uncertain_below``, the least probability of an outcome
              that is not uncertain,
            - ``batch``: the most faces at once.

            Valence and arousal after the labels are not read.
        threads: ONNX Runtime threads; default the CPU quota.

    Attributes:
        heads: Labels by head, in the network's order.
        labels: Of the first head.
        side: Of the faces it is fed, px.
        template: How they are cut; None where it is fed the detector's box.
        grey: It is fed grey faces.
        uncertain_below: Least probability of an outcome that is not uncertain.
    """

    def __init__(self, card: Card, *, threads: int | None = None) -> None:
        from mien import zoo

        convention = ExpressionConvention.of(card)
        self.card = card
        self.heads = _heads(card.name, convention)
        self.labels = next(iter(self.heads.values()))
        self.side, self.template, self.grey = convention.side, convention.template, convention.grey
        self.uncertain_below = convention.uncertain_below
        self._feed = Feed(card.convention)
        self._answers_logits = convention.answers == "logits"
        self._flip = convention.flip
        self._step = convention.batch or _STEP
        self._temperature = convention.temperature
        self._session = make_session(zoo.path(card), options=session_options(threads=threads))
        self._input = self._session.get_inputs()[0].name
        if convention.heads and (gone := set(self.heads) - {o.name for o in self._session.get_outputs()}):
            raise ModelError(
                f"The card of expression model '{card.name}' names the heads {', '.join(self.heads)}; "
                f"its network has no output {', '.join(sorted(gone))}. Is the card of another file?"
            )

    def read(self, image: UInt8[np.ndarray, "height width 3"], detections: Sequence[Detection]) -> list[Expression]:
        """Return the expression of each detected face of a picture."""
        if not detections:
            return []
        crops = np.stack([self.crop(image, detection) for detection in detections])
        return [self.outcome(row) for row in self.probabilities(crops)]

    def crop(
        self, image: UInt8[np.ndarray, "height width 3"], detection: Detection
    ) -> UInt8[np.ndarray, "side side 3"]:
        """Cut a face out as the network is fed it."""
        if self.template is not None:
            points = TEMPLATES[self.template].points_at(self.side)
            return align(image, detection.landmarks, points=points, side=self.side)
        box = detection.box
        left, top = max(int(box.left), 0), max(int(box.top), 0)
        part = image[top : max(int(box.bottom), top + 1), left : max(int(box.right), left + 1)]
        return np.asarray(cv2.resize(part, (self.side, self.side), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def probabilities(
        self, crops: UInt8[np.ndarray, "faces side side 3"], *, head: str | None = None
    ) -> Float64[np.ndarray, "faces classes"]:
        """Return calibrated probabilities of cut faces, in the order of the head's labels.

        Args:
            crops: RGB uint8, shape (faces, side, side, 3), as `crop` cuts them.
            head: Which of ``heads``; default the first.
        """
        head = next(iter(self.heads)) if head is None else head
        logits = self._logits(crops, head) / self._temperature_of(head)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def outcome(self, probabilities: Float64[np.ndarray, " classes"]) -> Expression:
        """Return one row of the first head's probabilities as a record."""
        by_label = dict(zip(self.labels, probabilities.tolist(), strict=True))
        ordered = {label: by_label[label] for label in EXPRESSIONS if label in by_label}
        best = max(ordered, key=lambda label: ordered[label])
        return Expression(best, ordered, uncertain=ordered[best] < self.uncertain_below)

    def _logits(self, crops: UInt8[np.ndarray, "faces side side 3"], head: str) -> Float64[np.ndarray, "faces classes"]:
        classes = len(self.heads[head])
        parts = [np.empty((0, classes))]
        for start in range(0, len(crops), self._step):
            batch = self._feed(crops[start : start + self._step])
            views = [batch, np.ascontiguousarray(batch[..., ::-1])] if self._flip else [batch]
            parts.append(np.mean([self._run(view, head)[:, :classes] for view in views], axis=0))
        return np.concatenate(parts)

    def _run(self, batch: np.ndarray, head: str) -> Float64[np.ndarray, "faces outputs"]:
        # A network of one head may call its output as it likes.
        names = [head] if head else None
        answers = np.asarray(self._session.run(names, {self._input: batch})[0], dtype=np.float64)
        return answers if self._answers_logits else np.log(np.maximum(answers, 1e-12))

    def _temperature_of(self, head: str) -> float:
        given = self._temperature
        return float(given.get(head, 1.0) if isinstance(given, Mapping) else given)


def _heads(name: str, convention: ExpressionConvention) -> dict[str, tuple[str, ...]]:
    given = convention.heads or {"": convention.labels}
    heads = {head: tuple(label for label in labels if label not in _NO_CLASSES) for head, labels in given.items()}
    if unknown := {label for labels in heads.values() for label in labels} - set(EXPRESSIONS):
        raise ModelError(
            f"Expression model '{name}' answers {', '.join(sorted(unknown))}; known are {', '.join(EXPRESSIONS)}."
        )
    return heads
