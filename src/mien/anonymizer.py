"""Faces of photographs replaced by generated ones, or blurred, or made a mosaic; and the proof that nobody is left.

A new face is drawn from latents that lie between those of the face that was there, which keeps pose, expression and
light, and those of a generated one. Who knows these noise latents could reckon back: they come from a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mien.alignment import TEMPLATES, similarity_transform
from mien.errors import UsageError
from mien.grouping import cluster
from mien.matching import operating_point
from mien.types import Box, Embedding, Face
from mien.vision.blending import Layers, match_border, transfer_colour
from mien.vision.detector import Detection
from mien.vision.finding import cut_face

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.vision.generator import Generator

__all__ = ["GENERATOR", "MODES", "Anonymizer", "AnonymousFace", "AnonymousPicture", "People"]

Image = UInt8[np.ndarray, "height width 3"]
Vectors = Float32[np.ndarray, "n dimension"]

MODES = ("generate", "blur", "mosaic")
"""What stands in for a face: a generated one, itself blurred, itself in a few squares."""

GENERATOR = "face-gan-64"
"""What draws the generated ones: how well it hides people was measured with this one (docs/privacy.md)."""

_STRENGTHS = (0.8, 0.9, 1.0)
# Of the way from the face that was there to a generated one, one try after another; set by hand.
_CANDIDATES = 12  # faces of a try, of which the one with the expression is taken
_TRUNCATION = 0.8  # of the generated faces: typical ones are seldom malformed
_MALFORMED = (
    0.04  # what a grey level of difference between a face and itself redrawn counts: large where it is malformed
)
_MARGIN = 0.05  # of similarity that a candidate stays below the threshold: the whole picture may show a little more
_LEAST_SIDE = 20.0  # px: smaller faces become mosaics, for nobody sees an expression in them
_CANVAS, _ROOM = 128, 64  # px of the aligned face in which candidates are judged, and of what is seen around it
_SQUARES = 6  # of a mosaic, across a face


@dataclass(frozen=True, slots=True)
class AnonymousFace:
    """What became of a face.

    Attributes:
        mode: One of `MODES`: what was done in the end.
        fell_back: Whether another mode was asked for.
        similarity: The largest to anybody who was in the picture, as measured in the finished picture; None where
            nobody looked.
        nearest: The largest to anybody of the gallery; None without one.
        tries: Faces that were tried before this one.
        expression_before: What the face showed.
        expression_after: What the new one shows.
    """

    mode: str
    fell_back: bool = False
    similarity: float | None = None
    nearest: float | None = None
    tries: int = 0
    expression_before: str | None = None
    expression_after: str | None = None

    @property
    def keeps_expression(self) -> bool:
        """Whether the new face shows what the old one did."""
        return self.expression_before is not None and self.expression_before == self.expression_after

    def matches(self, threshold: float) -> bool:
        """Whether somebody is known by it still, as far as anybody looked."""
        return any(score is not None and score >= threshold for score in (self.similarity, self.nearest))

    def as_facts(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "mode": self.mode,
            "fell_back": self.fell_back,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "nearest": None if self.nearest is None else round(self.nearest, 4),
            "tries": self.tries,
            "expression_before": self.expression_before,
            "expression_after": self.expression_after,
        }


@dataclass(frozen=True, slots=True, eq=False)
class AnonymousPicture:
    """A photograph and what became of its faces.

    Attributes:
        image: RGB uint8; outside the faces as it was.
        faces: Largest first.
    """

    image: Image
    faces: tuple[AnonymousFace, ...]


@dataclass(slots=True)
class People:
    """Who is who in a set of pictures, so that one subject gets one new face. Holds embeddings: keep it in memory only.

    Attributes:
        secret: What new faces follow from.
        person: Number of the person by picture and face.
        chosen: The candidate that a person got at first, by person.
    """

    secret: bytes
    person: dict[tuple[str, int], int] = field(default_factory=dict)
    chosen: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pictures: Sequence[tuple[str, Sequence[Face]]], threshold: float, secret: bytes) -> People:
        """Group the faces of pictures.

        Args:
            pictures: A name of each, and its faces with embeddings.
            threshold: Similarity from which two faces are one person.
            secret: What new faces follow from.
        """
        places, vectors = list[tuple[str, int]](), []
        for name, faces in pictures:
            for number, face in enumerate(faces):
                if face.embedding is not None:
                    places.append((name, number))
                    vectors.append(face.embedding.vector)
        if not places:
            return cls(secret)
        labels = cluster(np.stack(vectors).astype(np.float32), threshold=threshold)
        return cls(secret, {place: int(label) for place, label in zip(places, labels, strict=True)})

    def seed(self, person: int, attempt: int) -> int:
        """Return what a person's new face is drawn from."""
        return _derived(self.secret, f"person {person} {attempt}")


class Anonymizer:
    """Replace the faces of photographs.

    Args:
        analyzer: Finds faces, embeds them and reads their expressions.
        generator: Draws faces; it has an encoder. None for the classical modes.
        mode: One of `MODES`.
        fmr: A new face is none of anybody at this false match rate.
        verify: Look at the finished picture again and try other faces while somebody is still known in it.
        gallery: Nobody of it should be known either.
        tries: Faces that are tried before a mosaic is made.
        secret: What new faces follow from; None: nobody knows.

    Raises:
        UsageError: The mode is none, or the generator cannot encode faces.
        ModelError: The embedder has no operating point for the rate.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        generator: Generator | None = None,
        *,
        mode: str = "generate",
        fmr: float = 1e-3,
        verify: bool = True,
        gallery: Gallery | None = None,
        tries: int = len(_STRENGTHS),
        secret: bytes | None = None,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"A mode is one of {', '.join(MODES)}; got '{mode}'.")
        if mode == "generate" and generator is None:
            raise UsageError("Generated faces need a generator. Name one, or take the mode blur or mosaic.")
        if generator is not None and not generator.has_encoder:
            raise UsageError(
                f"'{generator.card.name}' has no encoder, so it cannot keep a pose or an expression. Take one that "
                f"began as a VAE, such as face-gan-64."
            )
        self.mode, self.verify, self.tries = mode, verify, tries
        self.threshold = operating_point(analyzer.embedder.card, fmr).threshold
        self._analyzer, self._generator, self._gallery = analyzer, generator, gallery
        self._secret = secret if secret is not None else secrets.token_bytes(32)

    def anonymize(self, image: Image, *, name: str = "", people: People | None = None) -> AnonymousPicture:
        """Return a photograph without the faces that were in it.

        Args:
            image: RGB uint8.
            name: Of the picture: what new faces follow from, beside the secret.
            people: Gives one person one new face in all pictures.
        """
        faces = self._analyzer.analyze(image)
        plans = [self._plan(image, face, f"{name} {number}") for number, face in enumerate(faces)]
        if people is not None:
            for number, plan in enumerate(plans):
                person = people.person.get((name, number))
                if person is not None:
                    plan.person, plan.people = person, people
        done = self._made(image, plans)
        if not self.verify:
            return AnonymousPicture(done, tuple(plan.outcome() for plan in plans))
        for _ in range(self.tries + 1):
            found = self._looked(done, plans)
            still = [plan for plan in plans if not plan.safe(found, self.threshold)]
            if not still and not found.overlooked:
                break
            for plan in still:
                plan.next_try(self.tries)
            # A face that shows only now, beside one that is gone, is somebody's too.
            plans += [_Plan(face, "mosaic", self.mode, 0) for face in found.overlooked]
            done = self._made(image, plans)
        else:
            found = self._looked(done, plans)
        return AnonymousPicture(done, tuple(plan.outcome(found) for plan in plans))

    # Making -----------------------------------------------------------------------------------------------------------

    def _plan(self, image: Image, face: Face, what: str) -> _Plan:
        small = face.box.side < _LEAST_SIDE
        mode = "mosaic" if small and self.mode == "generate" else self.mode
        return _Plan(face, mode, self.mode, _derived(self._secret, what))

    def _made(self, image: Image, plans: Sequence[_Plan]) -> Image:
        """Return the photograph with what every plan makes of its face."""
        layers = Layers(image)
        for plan in plans:
            matrix = similarity_transform(plan.face.landmarks, _POINTS)
            if plan.mode == "generate":
                if plan.drawn is None:
                    plan.drawn = self._drawn(image, plan)
                grain = np.random.default_rng(plan.seed)
                layers.replace(plan.drawn, _MASK, matrix, grain=grain)
            else:
                crop = cut_face(image, plan.face.landmarks, points=_POINTS, side=_CANVAS)
                layers.replace(_blurred(crop) if plan.mode == "blur" else _mosaic(crop), _WIDE, matrix)
        return layers.blended()

    def _drawn(self, image: Image, plan: _Plan) -> Image:
        """Draw candidates for a face, and return the one that shows its expression best and is not the person."""
        generator = self._generator
        assert generator is not None
        strength = _STRENGTHS[min(plan.tries, len(_STRENGTHS) - 1)]
        seed = plan.seed_now()
        own_points = TEMPLATES[generator.convention.template].points_at(generator.side)
        own = cut_face(image, plan.face.landmarks, points=own_points, side=generator.side)
        here = generator.encode(own[None])
        strangers = generator.encode(generator.generate(_CANDIDATES, seed=seed, truncation=_TRUNCATION))
        # Both are about N(0, I): so is what lies between them.
        mixed = np.sqrt(1 - strength**2) * here + strength * strangers
        expression = plan.face.expression.label if plan.face.expression else None
        drawn = generator.decode(mixed, expression=expression if expression in generator.labels else None)
        room = _CANVAS + 2 * _ROOM
        seen = cut_face(image, plan.face.landmarks, points=_POINTS + _ROOM, side=room)
        crop = seen[_ROOM:-_ROOM, _ROOM:-_ROOM]
        warp = similarity_transform(own_points, _POINTS)
        candidates = [
            self._coloured(
                np.asarray(
                    cv2.warpAffine(
                        face, warp, (_CANVAS, _CANVAS), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
                    ),
                    np.uint8,
                ),
                crop,
            )
            for face in drawn
        ]
        again = generator.decode(
            generator.encode(drawn), expression=expression if expression in generator.labels else None
        )
        odd = np.abs(again.astype(np.float32) - drawn).mean(axis=(1, 2, 3))
        return candidates[self._choose(candidates, seen, plan, -_MALFORMED * odd)]

    @staticmethod
    def _coloured(face: Image, crop: Image) -> Image:
        return match_border(transfer_colour(face, crop, _MASK), crop, _MASK)

    def _choose(self, candidates: Sequence[Image], seen: Image, plan: _Plan, merits: np.ndarray) -> int:
        """Return the number of the candidate to take: not the person, if there is one, and of the same expression."""
        if plan.people is not None and plan.tries == 0 and plan.person in plan.people.chosen:
            return plan.people.chosen[plan.person]
        shown = []
        for face in candidates:
            whole = seen.copy()
            part = whole[_ROOM:-_ROOM, _ROOM:-_ROOM].astype(np.float32)
            mixed = part + (face - part) * _MASK[..., None]
            whole[_ROOM:-_ROOM, _ROOM:-_ROOM] = np.clip(np.rint(mixed), 0, 255)
            shown.append(whole)
        points = np.asarray(_POINTS + _ROOM, np.float32)
        embedder = self._analyzer.embedder
        vectors = embedder.embed(np.stack([embedder.crop(picture, points) for picture in shown]))
        score = merits.astype(np.float64)
        assert plan.face.embedding is not None
        similar = vectors @ plan.face.embedding.vector
        if self._gallery is not None:
            similar = np.maximum(similar, [self._nearest(vector) for vector in vectors])
        # Nobody's face comes first; only among such faces does the expression count.
        score -= 10 * np.maximum(similar - (self.threshold - _MARGIN), 0)
        if plan.face.expression is not None:
            score += self._agreement(shown, points, plan.face)
        number = int(score.argmax())
        if plan.people is not None and plan.tries == 0 and plan.person is not None:
            plan.people.chosen[plan.person] = number
        return number

    def _agreement(self, shown: Sequence[Image], points: Float32[np.ndarray, "5 2"], face: Face) -> np.ndarray:
        """Return how much expressions agree, 0 to 1 (Bhattacharyya's coefficient)."""
        reader = self._analyzer.expression_reader
        if reader is None or face.expression is None:
            return np.zeros(len(shown))
        told = face.expression.probabilities
        detection = Detection(_BOX, points, 1.0)
        crops = np.stack([reader.crop(picture, detection) for picture in shown])
        answers = [reader.outcome(row).probabilities for row in reader.probabilities(crops)]
        return np.array([sum(np.sqrt(told[key] * row.get(key, 0.0)) for key in told) for row in answers])

    # Looking again ----------------------------------------------------------------------------------------------------

    def _looked(self, image: Image, plans: Sequence[_Plan]) -> _Found:
        """Look for people in a finished picture: where their faces were, and wherever else a face is found."""
        embedder = self._analyzer.embedder
        if not plans:
            return _Found()
        originals = np.stack([_vector(plan.face) for plan in plans])
        crops = np.stack([embedder.crop(image, plan.face.landmarks) for plan in plans])
        own = embedder.embed(crops)
        similar = (own @ originals.T).max(axis=1)
        nearest = np.array([self._nearest(vector) for vector in own]) if self._gallery is not None else None
        expressions: list[str | None] = [None] * len(plans)
        overlooked: list[Face] = []
        for face in self._analyzer.analyze(image):
            number = _nearest_plan(face, plans)
            if number is None:
                overlooked.append(face)
                continue
            if face.embedding is None:
                continue
            similar[number] = max(similar[number], float((originals @ face.embedding.vector).max()))
            if nearest is not None:
                nearest[number] = max(nearest[number], self._nearest(face.embedding.vector))
            if face.expression is not None:
                expressions[number] = face.expression.label
        return _Found(
            {id(plan): float(value) for plan, value in zip(plans, similar, strict=True)},
            {} if nearest is None else {id(plan): float(value) for plan, value in zip(plans, nearest, strict=True)},
            {id(plan): value for plan, value in zip(plans, expressions, strict=True)},
            overlooked,
        )

    def _nearest(self, vector: Float32[np.ndarray, " dimension"]) -> float:
        assert self._gallery is not None
        found = self._gallery.search(Embedding(self._analyzer.embedder.model, vector), 1)
        return max((candidate.score for candidate in found), default=-1.0)


@dataclass(slots=True)
class _Found:
    """What was seen in a finished picture, by plan."""

    similar: dict[int, float] = field(default_factory=dict)
    nearest: dict[int, float] = field(default_factory=dict)
    expressions: dict[int, str | None] = field(default_factory=dict)
    overlooked: list[Face] = field(default_factory=list)  # where no face was seen before


@dataclass(slots=True, eq=False)
class _Plan:
    """What is to become of a face."""

    face: Face
    mode: str
    asked: str
    seed: int
    tries: int = 0
    person: int | None = None
    people: People | None = None
    drawn: Image | None = None

    def seed_now(self) -> int:
        if self.people is not None and self.person is not None:
            return self.people.seed(self.person, self.tries)
        return (self.seed + self.tries) % (1 << 62)

    def safe(self, found: _Found, threshold: float) -> bool:
        return max(found.similar[id(self)], found.nearest.get(id(self), -1.0)) < threshold

    def next_try(self, most: int) -> None:
        """Draw another face, or, when enough have been tried, make a mosaic."""
        self.tries += 1
        self.drawn = None
        if self.tries >= most or self.mode != "generate":
            self.mode = "mosaic"

    def outcome(self, found: _Found | None = None) -> AnonymousFace:
        expression = self.face.expression
        return AnonymousFace(
            self.mode,
            fell_back=self.mode != self.asked,
            similarity=None if found is None else found.similar[id(self)],
            nearest=None if found is None else found.nearest.get(id(self)),
            tries=self.tries,
            expression_before=None if expression is None else expression.label,
            expression_after=None if found is None else found.expressions.get(id(self)),
        )


def _derived(secret: bytes, what: str) -> int:
    """Return a seed that only who knows the secret can reckon."""
    digest = hmac.new(secret, what.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _vector(face: Face) -> Float32[np.ndarray, " dimension"]:
    assert face.embedding is not None, "faces are embedded"
    return face.embedding.vector


def _nearest_plan(face: Face, plans: Sequence[_Plan]) -> int | None:
    """Return the plan at whose place a face was found."""
    middle = face.landmarks.mean(axis=0)
    away = [float(np.linalg.norm(plan.face.landmarks.mean(axis=0) - middle)) for plan in plans]
    number = int(np.argmin(away))
    return number if away[number] < plans[number].face.box.side else None


def _blurred(crop: Image) -> Image:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), _CANVAS / 8), np.uint8)


def _mosaic(crop: Image) -> Image:
    small = cv2.resize(crop, (_SQUARES, _SQUARES), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (_CANVAS, _CANVAS), interpolation=cv2.INTER_NEAREST), np.uint8)


def _oval(power: float, across: float, down: float) -> Float32[np.ndarray, "side side"]:
    """Return a soft oval that holds the face, from brows to chin; semi-axes as shares of the side."""
    place = (np.arange(_CANVAS) + 0.5) / _CANVAS - 0.5
    radius = ((np.abs(place) / across) ** power + (np.abs(place[:, None]) / down) ** power) ** (1 / power)
    fade = np.clip((1 - radius) / 0.18, 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * fade), np.float32)


_POINTS: Float64[np.ndarray, "5 2"] = TEMPLATES["face-64"].points_at(_CANVAS)
_BOX = Box(_ROOM, _ROOM, _ROOM + _CANVAS, _ROOM + _CANVAS)
_MASK = _oval(2.4, 0.43, 0.48)
_WIDE = _oval(6.0, 0.5, 0.5)
