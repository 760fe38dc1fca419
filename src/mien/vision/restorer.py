"""Spoilt faces restored, one by one or in whole photographs, by a trained network or by classical methods. No PyTorch.

What a restorer changes is a guess from other faces. Whether it serves recognition, docs/restoration.md says, with
figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.errors import ModelError, UsageError
from mien.vision.blending import Layers, feather, match_border
from mien.vision.classical import CLASSICAL, fill
from mien.vision.conventions import RestorerConvention
from mien.vision.finding import cut_face
from mien.vision.generator import Generator
from mien.zoo.session import make_session, runtime_errors, session_options

if TYPE_CHECKING:
    import onnxruntime

    from mien.zoo import Card

__all__ = ["COVERS", "FILLER", "METHODS", "RestoredFace", "RestoredPicture", "Restorer", "cover_from_landmarks"]

Image = UInt8[np.ndarray, "height width 3"]
Crop = UInt8[np.ndarray, "side side 3"]
Cover = Bool[np.ndarray, "side side"]
Landmarks = Float[np.ndarray, "5 2"]

METHODS = ("network", *CLASSICAL, "telea", "vae")
"""What restores a face: a trained network, one of the classical methods, or a generator that fills what is covered."""

FILLER = "face-gan-64"
"""The generator that fills faces in: what it does was measured with this one (docs/restoration.md)."""

COVERS = ("found", "mouth", "eyes", "none")
"""Where something stands before the face: where the network finds it, a worn mask, glasses, nowhere."""

_LEAST_COVER = 0.01  # of a face: less than that is no thing before it
_LEAST_FOUND = 0.5  # probability
_PROJECTIONS = 6  # onto a generator's faces; after these a hole hardly changes
_MEASURED = 0.7  # of a crop's side: the middle of it, in which changes are measured


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFace:
    """What became of one face.

    Attributes:
        before: The aligned face, RGB uint8, shape (side, side, 3).
        after: The same restored; equal to ``before`` where it was left alone.
        damage: Mean change that the method wanted to make in the middle of the face, grey levels.
        left_alone: Whether the change was under the gate, so that it is left as it is.
        covered: Share of the face that was taken for covered.
    """

    before: Crop
    after: Crop
    damage: float
    left_alone: bool
    covered: float

    def as_facts(self) -> dict[str, object]:
        """Return it for JSON, without the pictures."""
        return {
            "damage": round(self.damage, 3),
            "left_alone": self.left_alone,
            "covered": round(self.covered, 4),
        }


@dataclass(frozen=True, slots=True, eq=False)
class RestoredPicture:
    """A photograph and what became of its faces.

    Attributes:
        image: RGB uint8; outside the faces as it was.
        faces: In the order given.
    """

    image: Image
    faces: tuple[RestoredFace, ...]


class Restorer:
    """Restore faces.

    Opening is cheap; the network is opened when it is first needed.

    Args:
        model: A restorer, by name, run folder, ONNX file or card, as `mien.zoo.named` takes it; for the method vae a
            generator with an encoder. None: the catalogue's; classical methods need none.
        method: One of `METHODS`.
        weight: Share of the change that is made: 0 leaves the face as it is, 1 goes all the way; None: what the card
            says.
        gate: Faces that would change by fewer grey levels are left alone; 0 restores all; None: what the card says.
        threads: ONNX Runtime threads; default the CPU quota.

    Attributes:
        method: As given.
        side: Of the aligned faces, px.
        weight: As used.
        gate: As used.

    Raises:
        UsageError: An argument is out of range.
        ModelError: There is no such model, or it is of another role.
    """

    def __init__(
        self,
        model: str | Path | Card | None = None,
        *,
        method: str = "network",
        weight: float | None = None,
        gate: float | None = None,
        threads: int | None = None,
    ) -> None:
        if method not in METHODS:
            raise UsageError(f"A method is one of {', '.join(METHODS)}; got '{method}'.")
        self.card: Card | None = None
        self.method = method
        convention = RestorerConvention(template="loose-120", side=112)
        if method == "network":
            model = zoo.default("restorer") if model is None else model
            self.card = zoo.named(model) if isinstance(model, str | Path) else model
            if self.card.role != "restorer":
                raise ModelError(f"'{self.card.name}' is of role {self.card.role}, expected a restorer.")
            convention = RestorerConvention.of(self.card)
        self.convention = convention
        self.side = convention.side
        self.weight = convention.weight if weight is None else weight
        self.gate = (convention.gate if method == "network" else 0.0) if gate is None else gate
        if not 0 <= self.weight <= 2:
            raise UsageError(f"The weight of a restoration should be 0 to 2, got {self.weight:g}.")
        if not 0 <= self.gate <= 255:
            raise UsageError(f"A gate is 0 to 255 grey levels, got {self.gate:g}.")
        self._threads = threads
        self._generator = _opened(model, threads) if method == "vae" else None
        self.points = TEMPLATES[convention.template].points_at(self.side)

    # Crops ------------------------------------------------------------------------------------------------------------

    def crop(self, image: Image, landmarks: Landmarks) -> Crop:
        """Cut a face out as the network takes it, the picture's border repeated where the crop reaches beyond it."""
        return cut_face(image, np.asarray(landmarks, np.float32), points=self.points, side=self.side)

    def restore(self, crop: Crop, *, covered: Cover | None = None, cover: str = "found") -> RestoredFace:
        """Restore one aligned face.

        Args:
            crop: RGB uint8, shape (side, side, 3), with sides that are a multiple of the model's, px.
            covered: Where something stands before it; None: as ``cover`` says.
            cover: One of `COVERS`.

        Raises:
            UsageError: The mask is of another size or covers everything, or the crop's side does not fit.
        """
        side = len(crop)
        if crop.dtype != np.uint8 or crop.shape != (side, side, 3) or side % self.convention.multiple:
            raise UsageError(
                f"A face to restore is RGB uint8, square, its side a multiple of {self.convention.multiple} px; got "
                f"{crop.dtype} of shape {crop.shape}."
            )
        told = self._told(crop, covered, cover)
        restored, found = self._answer(crop, told)
        if covered is None and cover == "found":
            seen = found > _LEAST_FOUND
            if _LEAST_COVER < seen.mean() < 0.9:
                told = seen
                restored, _ = self._answer(crop, told)
        change = restored - crop
        damage = float(np.abs(_middle(change)).mean())
        if damage < self.gate and not told.any():
            return RestoredFace(crop, crop, damage, left_alone=True, covered=0.0)
        # What is covered holds nothing of the face: there the change is made in full, whatever the weight.
        share = np.where(told, max(min(self.weight, 1.0), float(self.weight > 0)), self.weight)[..., None]
        after = np.clip(np.rint(crop + share * change), 0, 255).astype(np.uint8)
        return RestoredFace(crop, after, damage, left_alone=False, covered=float(told.mean()))

    def _told(self, crop: Crop, covered: Cover | None, cover: str) -> Cover:
        side = len(crop)
        if cover not in COVERS:
            raise UsageError(f"What covers a face is one of {', '.join(COVERS)}; got '{cover}'.")
        if covered is not None:
            if covered.shape != (side, side):
                raise UsageError(f"A mask is of the size of its face, {side} x {side} px; got shape {covered.shape}.")
            if covered.mean() > 0.95:
                raise UsageError("The mask covers all of the face: nothing is left to restore it from.")
            return covered.astype(bool)
        if cover in ("mouth", "eyes"):
            return cover_from_landmarks(self.points * (side / self.side), side, cover)
        return np.zeros((side, side), dtype=bool)

    def _answer(self, crop: Crop, told: Cover) -> tuple[Float32[np.ndarray, "side side 3"], Float32[np.ndarray, "s s"]]:
        """Return the face as the method would have it, 0 to 255, and how probable it is that each px is covered."""
        nothing = np.zeros(crop.shape[:2], np.float32)
        if self.method in CLASSICAL:
            return CLASSICAL[self.method](crop).astype(np.float32), nothing
        if self._generator is not None:
            return _drawn_in(self._generator, crop, told, self.points * (len(crop) / self.side)), nothing
        if self.method == "telea":
            return (fill(crop, told) if told.any() else crop).astype(np.float32), nothing
        fed = {
            "image": np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32),
            "covered": told[None, None].astype(np.float32),
        }
        try:
            restored, found = self._session.run(["restored", "found"], fed)
        except runtime_errors() as error:
            reason = " ".join(str(error).split())[:200]
            name = "" if self.card is None else self.card.name
            raise ModelError(f"The network of restorer '{name}' cannot be run: {reason} Export it again.") from None
        return np.asarray(restored[0]).transpose(1, 2, 0), np.asarray(found[0, 0])

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        assert self.card is not None, "a network has a card"
        return make_session(zoo.path(self.card), options=session_options(threads=self._threads))

    def prepared(self, image: Image, landmarks: Landmarks) -> tuple[Image, Float32[np.ndarray, "5 2"], RestoredFace]:
        """Return what a recogniser should cut a face from: the picture itself where the face is left alone.

        Otherwise that is the face and its surroundings, upright, restored, and not smaller than the network sees it.

        Args:
            image: RGB uint8.
            landmarks: Of the face, px, shape (5, 2).

        Returns:
            A picture, the landmarks in it, and what became of the face.
        """
        marks = np.asarray(landmarks, np.float32)
        face = self.restore(self.crop(image, marks))
        if face.left_alone:
            return image, marks, face
        matrix = similarity_transform(marks, self.points)
        # A larger face keeps its own resolution; three times the network's is more than recognisers see.
        factor = float(np.clip(1 / max(np.hypot(matrix[0, 0], matrix[1, 0]), 1e-6), 1, 3))
        room = self.side // 3
        points, side = (self.points + room) * factor, round((self.side + 2 * room) * factor)
        around = cut_face(image, marks, points=points, side=side)
        layers = Layers(around)
        layers.add(
            face.after.astype(np.float32) - face.before, feather(self.side), similarity_transform(points, self.points)
        )
        return layers.blended(), points.astype(np.float32), face

    # Photographs ------------------------------------------------------------------------------------------------------

    def restore_picture(
        self,
        image: Image,
        faces: Sequence[Landmarks],
        *,
        covered: Bool[np.ndarray, "height width"] | None = None,
        cover: str = "found",
    ) -> RestoredPicture:
        """Restore the faces of a photograph, and leave the rest of it as it is.

        Only the change is enlarged to the photograph's resolution and added: what the photograph holds of finer detail
        stays.

        Args:
            image: RGB uint8.
            faces: Landmarks of each face, px, shape (5, 2).
            covered: Where something stands before the faces; None: as ``cover`` says.
            cover: One of `COVERS`.

        Raises:
            UsageError: The mask is of another size than the picture, or covers all of a face.
        """
        if covered is not None and covered.shape != image.shape[:2]:
            raise UsageError(
                f"A mask is of the size of its picture, {image.shape[1]} x {image.shape[0]} px; got "
                f"{covered.shape[1]} x {covered.shape[0]} px."
            )
        layers, restored = Layers(image), list[RestoredFace]()
        for landmarks in faces:
            matrix = similarity_transform(landmarks, self.points)
            told = None
            if covered is not None:
                size = (self.side, self.side)
                told = cv2.warpAffine(covered.astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
            face = self.restore(self.crop(image, landmarks), covered=told, cover=cover)
            restored.append(face)
            if not face.left_alone:
                change = face.after.astype(np.float32) - face.before
                layers.add(change, feather(self.side), matrix)
        return RestoredPicture(layers.blended(), tuple(restored))


def _opened(model: str | Path | Card | None, threads: int | None) -> Generator:
    generator = Generator(FILLER if model is None else model, threads=threads)
    if not generator.has_encoder or generator.convention.grey:
        raise UsageError(
            f"'{generator.card.name}' cannot fill faces in: that takes an encoder, and colour. Take a VAE."
        )
    return generator


def _drawn_in(
    generator: Generator, crop: Crop, told: Cover, points: Float[np.ndarray, "5 2"]
) -> Float32[np.ndarray, "side side 3"]:
    """Return a face whose covered px a generator has drawn: projected onto its faces, again and again.

    What is seen stays; what is covered is what the generator makes of the whole, which then is a part of the whole.
    """
    if not told.any():
        return crop.astype(np.float32)
    side = generator.side
    matrix = similarity_transform(points, TEMPLATES[generator.convention.template].points_at(side))
    small = cv2.warpAffine(crop, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    hole = cv2.warpAffine(told.astype(np.float32), matrix, (side, side))[..., None]
    # Begun with the colour of the skin that is seen.
    seen = _middle(small)[_middle(hole)[..., 0] == 0]
    small = np.where(hole > 0, np.median(seen if len(seen) else crop[~told], axis=0), small).astype(np.uint8)
    face = small
    for _ in range(_PROJECTIONS):
        drawn = generator.decode(generator.encode(face[None].astype(np.uint8)))[0]
        drawn = match_border(drawn, small, np.clip(cv2.GaussianBlur(hole, (0, 0), 1.5), 0, 1))
        face = np.rint(small + hole * (drawn.astype(np.float32) - small)).astype(np.uint8)
    size = (len(crop), len(crop))
    back = cv2.warpAffine(
        face.astype(np.float32), cv2.invertAffineTransform(matrix), size, flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    soft = cv2.GaussianBlur(told.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.asarray(crop + np.maximum(soft, told[..., None]) * (back - crop), np.float32)


def cover_from_landmarks(points: Landmarks, side: int, what: str) -> Cover:
    """Return what a worn mask (``mouth``) or glasses (``eyes``) cover of a face, drawn from its landmarks."""
    eyes = points[1] - points[0]
    middle, across = points[:2].mean(axis=0), np.array([-eyes[1], eyes[0]])
    outlines = {
        "mouth": [(-1, 0.6), (-0.25, 0.45), (0.25, 0.45), (1, 0.6), (0.9, 1.3), (0.45, 1.9), (-0.45, 1.9), (-0.9, 1.3)],
        "eyes": [(-0.95, -0.33), (0.95, -0.33), (0.95, 0.38), (0.15, 0.3), (-0.15, 0.3), (-0.95, 0.38)],
    }  # fmt: skip
    region = np.zeros((side, side), np.uint8)
    u, v = np.array(outlines[what]).T
    cv2.fillPoly(region, [np.rint(middle + u[:, None] * eyes + v[:, None] * across).astype(np.int32)], 1)
    return region.astype(bool)


def _middle(change: Shaped[np.ndarray, "side side channels"]) -> Shaped[np.ndarray, "s s channels"]:
    margin = round(len(change) * (1 - _MEASURED) / 2)
    return change[margin : len(change) - margin, margin : len(change) - margin]
