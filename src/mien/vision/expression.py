"""What a face shows, by any expression network of the catalogue or of a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.types import EXPRESSIONS, Expression
from mien.vision.conventions import ExpressionConvention
from mien.vision.feed import Feed
from mien.vision.shares import Shares, check_shares, log_prior
from mien.zoo.session import make_session, session_options

if TYPE_CHECKING:
    from mien.vision.detector import Detection
    from mien.zoo import Card

__all__ = ["ExpressionReader", "entropy"]

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
              that is not uncertain, or ``uncertain_above``, its largest entropy,
            - ``shares`` of the classes that each head learned, and what is made of them: ``assume``, ``answer``,
              ``softened``; see `mien.vision.conventions.ExpressionConvention`,
            - ``batch``: the most faces at once.

            Valence and arousal after the labels are not read.
        threads: ONNX Runtime threads; default the CPU quota.
        shares: Class shares that faces are read with, see `mien.vision.shares`; default those of the card.

    Raises:
        MienError: The card is not one of such a network, or does not say what these shares need.

    Attributes:
        heads: Labels by head, in the network's order.
        labels: What a face may show: those of the first head, and of the others that have a say.
        side: Of the faces it is fed, px.
        template: How they are cut; None where it is fed the detector's box.
        grey: It is fed grey faces.
        uncertain_below: Least probability of an outcome that is not uncertain.
        uncertain_above: Its largest entropy, as a share of the largest that there is; 0 where that is not looked at.
        shares: Class shares that faces are read with.
    """

    def __init__(self, card: Card, *, threads: int | None = None, shares: Shares | None = None) -> None:
        convention = ExpressionConvention.of(card)
        self.card = card
        self.heads = _heads(card.name, convention)
        self._answering = convention.answer or (next(iter(self.heads)),)
        self.labels = tuple(dict.fromkeys(label for head in self._answering for label in self.heads[head]))
        self.side, self.template, self.grey = convention.side, convention.template, convention.grey
        self.uncertain_below = convention.uncertain_below
        self.uncertain_above = convention.uncertain_above
        self.asked = shares
        self.shares: Shares = convention.assume if shares is None else shares
        check_shares(self.shares)
        self._softened = convention.softened
        self._learned = {name: np.array(row) / sum(row) for name, row in convention.shares.items() if sum(row) > 0}
        if self.shares != "learned":
            for head in self._answering:
                self._check_learned(head)
        self._feed = Feed(card.convention)
        self._answers_logits = convention.answers == "logits"
        self._flip = convention.flip
        self._step = convention.batch or _STEP
        self._temperature = convention.temperature
        self.session = make_session(zoo.path(card), options=session_options(threads=threads))
        self._input = self.session.get_inputs()[0].name
        if convention.heads and (lacking := set(self.heads) - {o.name for o in self.session.get_outputs()}):
            raise ModelError(
                f"The card of expression model '{card.name}' names the heads {', '.join(self.heads)}; "
                f"its network has no output {', '.join(sorted(lacking))}. Is the card of another file?"
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
        """Return calibrated probabilities of cut faces, in the order of ``labels``, or of a head's.

        Args:
            crops: RGB uint8, shape (faces, side, side, 3), as `crop` cuts them.
            head: Which of ``heads``, as it learned, or for the shares that the reader was told. Default: what `read`
                tells, which is for the shares of the card and for pictures from anywhere.
        """
        if head is not None:
            (logits,) = self._logits(crops, (head,))
            return self._for_shares(logits / self._temperature_of(head), head, self.asked or "learned")
        told = []
        for name, logits in zip(self._answering, self._logits(crops, self._answering), strict=True):
            told.append(self._for_shares(logits / (self._temperature_of(name) * self._softened), name, self.shares))
        return told[0] if len(told) == 1 else _pooled(told, [self.heads[name] for name in self._answering], self.labels)

    def outcome(self, probabilities: Float64[np.ndarray, " classes"]) -> Expression:
        """Return one row of what `probabilities` tells as a record."""
        unsure = bool(self.uncertain_above) and float(entropy(probabilities)) > self.uncertain_above
        told = likeliest(self.labels, probabilities, uncertain_below=self.uncertain_below)
        return replace(told, uncertain=True) if unsure else told

    def _check_learned(self, head: str) -> None:
        if head not in self._learned:
            of_head = f" of head '{head}'" if head else ""
            raise ModelError(
                f"The card of expression model '{self.card.name}' does not say the class shares that it learned"
                f"{of_head}: it answers for those alone, --shares learned."
            )

    def _for_shares(
        self, logits: Float64[np.ndarray, "faces classes"], head: str, shares: Shares
    ) -> Float64[np.ndarray, "faces classes"]:
        if shares != "learned":
            self._check_learned(head)
            logits = logits + log_prior(shares, self.heads[head], self._learned.get(head))
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True))

    def _logits(
        self, crops: UInt8[np.ndarray, "faces side side 3"], heads: Sequence[str]
    ) -> list[Float64[np.ndarray, "faces classes"]]:
        parts: list[list[np.ndarray]] = [[np.empty((0, len(self.heads[head])))] for head in heads]
        for start in range(0, len(crops), self._step):
            batch = self._feed(crops[start : start + self._step])
            views = [batch, np.ascontiguousarray(batch[..., ::-1])] if self._flip else [batch]
            answers = [self._run(view, heads) for view in views]
            for place, head in enumerate(heads):
                classes = len(self.heads[head])
                parts[place].append(np.mean([of_view[place][:, :classes] for of_view in answers], axis=0))
        return [np.concatenate(rows) for rows in parts]

    def _run(self, batch: np.ndarray, heads: Sequence[str]) -> list[Float64[np.ndarray, "faces outputs"]]:
        # A network of one head may call its output as it likes.
        names = list(heads) if any(heads) else None
        answers = self.session.run(names, {self._input: batch})[: len(heads)]
        rows = [np.asarray(answer, dtype=np.float64) for answer in answers]
        return rows if self._answers_logits else [np.log(np.maximum(row, 1e-12)) for row in rows]

    def _temperature_of(self, head: str) -> float:
        given = self._temperature
        return float(given.get(head, 1.0) if isinstance(given, Mapping) else given)


def likeliest(
    labels: Sequence[str], probabilities: Float64[np.ndarray, " classes"], *, uncertain_below: float
) -> Expression:
    """Return probabilities of labels as a record: the likeliest, uncertain where it is less probable than that."""
    by_label = dict(zip(labels, probabilities.tolist(), strict=True))
    ordered = {label: by_label[label] for label in EXPRESSIONS if label in by_label}
    best = max(ordered, key=lambda label: ordered[label])
    return Expression(best, ordered, uncertain=ordered[best] < uncertain_below)


def entropy(probabilities: Float64[np.ndarray, "*faces classes"]) -> Float64[np.ndarray, "*faces"]:
    """Return how undecided probabilities are: 0 where one class has all, 1 where all are alike."""
    filled = np.maximum(probabilities, 1e-12)
    return np.asarray(-(filled * np.log(filled)).sum(axis=-1) / np.log(probabilities.shape[-1]))


def _pooled(
    told: Sequence[Float64[np.ndarray, "faces classes"]], by_head: Sequence[Sequence[str]], labels: Sequence[str]
) -> Float64[np.ndarray, "faces labels"]:
    """Return the mean of several heads. A class that a head does not know has the mean of those that do."""
    known = np.array([[label in mine for label in labels] for mine in by_head])
    wide = np.zeros((len(told), len(told[0]), len(labels)))
    for place, (rows, mine) in enumerate(zip(told, by_head, strict=True)):
        wide[place][:, [labels.index(label) for label in mine]] = rows
    mean = wide.sum(axis=0) / known.sum(axis=0)
    for place in range(len(told)):
        strange = mean[:, ~known[place]]
        wide[place] *= 1 - strange.sum(axis=1, keepdims=True)
        wide[place][:, ~known[place]] = strange
    return np.asarray(wide.mean(axis=0))


def _heads(name: str, convention: ExpressionConvention) -> dict[str, tuple[str, ...]]:
    given = convention.heads or {"": convention.labels}
    heads = {head: tuple(label for label in labels if label not in _NO_CLASSES) for head, labels in given.items()}
    if unknown := {label for labels in heads.values() for label in labels} - set(EXPRESSIONS):
        raise ModelError(
            f"Expression model '{name}' answers {', '.join(sorted(unknown))}; known are {', '.join(EXPRESSIONS)}."
        )
    return heads
