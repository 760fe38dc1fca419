"""Faces out of noise, labels, latents and other faces, by the generators of trained VAEs and GANs. No PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.errors import ImageError, ModelError, UsageError
from mien.images import Source, load_image, printable
from mien.types import Box, Embedding, as_unit
from mien.vision.cohort import Cohort
from mien.vision.conventions import GeneratorConvention
from mien.vision.detector import Detection
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.feed import Feed, shrunk
from mien.vision.finding import DetectorLike, cut_face, find_face, patient_detector
from mien.vision.inversion import inverted
from mien.vision.laying import damp_colours, lay_change
from mien.zoo.session import make_session, runtime_errors, session_options

if TYPE_CHECKING:
    import onnxruntime

    from mien.zoo import Card

__all__ = ["MOST_GUIDANCE", "PRIORS", "Batch", "Cut", "Edit", "Generator", "Request"]

Image = UInt8[np.ndarray, "height width 3"]
Faces = UInt8[np.ndarray, "n side side 3"]
Latents = Float32[np.ndarray, "n latents"]

PRIORS = ("flow", "mixture", "normal", "fitted")
"""What latents are drawn from: a flow or a mixture fitted to a VAE's training faces, or N(0, I). Fitted is the flow,
and the mixture where there is none."""
MOST_GUIDANCE = 10.0
"""Farthest that a flow follows a condition."""

_FLOW = -1  # component of a network that stands for its flow
_BATCH = 8  # pictures in one run, always: what a picture looks like must not hang on how many were asked for
_ENCODED = 64  # faces in one run of an encoder
# Standard deviation of a VAE's latents around those of the face that they should be like, chosen on validation faces:
# with more of it fewer are the same person, with less of it all are the same picture.
_LIKENESS = 0.2
_FEATHER = 0.2  # of a face's side, at each border: how far an edit fades into its photograph


@dataclass(frozen=True, slots=True)
class Request:
    """What faces are wanted.

    Attributes:
        expression: One that all show; several that they show in turn; None: whatever the model draws.
        attributes: Names of the attributes that they have, those not named they lack.
        identity: Embedding of the face that they should be of, by the model's embedder, shape (dimension,).
        like: Picture of a face that they should be like: its embedding where the model takes one, else around its
            latents.
        seed: Picture i depends on the seed and i only, from 0.
        truncation: Factor on the noise: below 1 the faces are more typical and less varied, 0 to 2.
        prior: One of `PRIORS`; None: the fitted one where the model has one.
        guidance: How far a flow follows expression and attributes: 1 as in the training faces, more is more typical of
            them and less varied, 0 ignores them; None: as the model's card says.
        share_noise: Of several expressions all get the same noise before it changes: one face in all of them.
    """

    expression: str | Sequence[str] | None = None
    attributes: Collection[str] = ()
    identity: Embedding | Float[np.ndarray, " dimension"] | None = None
    like: Source | None = None
    seed: int = 0
    truncation: float = 1.0
    prior: str | None = None
    share_noise: bool = False
    guidance: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some of the pictures asked for.

    Attributes:
        first: Number of the first one.
        images: RGB uint8, shape (n, side, side, 3).
        labels: What each should show; None where the model knows no labels.
    """

    first: int
    images: Faces
    labels: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A face found in a picture and cut out for a generator.

    Attributes:
        picture: RGB uint8, as it was read.
        face: Where it is, px of the picture.
        crop: Aligned, RGB uint8, shape (side, side, 3).
    """

    picture: Image
    face: Detection
    crop: UInt8[np.ndarray, "side side 3"]


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A face with another expression.

    Attributes:
        before: The aligned face, RGB uint8, shape (side, side, 3).
        after: The same with the new expression.
        picture: All of the picture, the change laid into it.
        shown: The expression it showed.
        wanted: The expression it should show.
        strength: How far it went.
        identity: Cosine of the embeddings of ``before`` and ``after``.
        reconstruction: Cosine of the embeddings of ``before`` and of what encoder and decoder alone make of it.
        embedder: Id of the embedder that judged.
    """

    before: UInt8[np.ndarray, "side side 3"]
    after: UInt8[np.ndarray, "side side 3"]
    picture: Image
    shown: str
    wanted: str
    strength: float
    identity: float
    reconstruction: float
    embedder: str


@dataclass(frozen=True, slots=True)
class _Search:
    """How strong an edit becomes.

    Attributes:
        strengths: Tried one after the other.
        read: Share of the expression, by the reader, at which that ends.
    """

    strengths: tuple[float, ...]
    read: float


_ALL_THE_WAY = _Search((1.0,), 0.0)
_BY_FLOW = _Search((0.75, 1.0, 1.25, 1.5), 0.5)
_BY_MAPPER = _Search((1.0, 1.25, 1.5), 0.5)


@dataclass(slots=True)
class _Feed:
    """What the network is fed; None for what this model does not take."""

    noise: Latents
    component: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"] | None = None
    attributes: Float32[np.ndarray, "n attributes"] | None = None
    identity: Float32[np.ndarray, "n dimension"] | None = None
    guidance: Float32[np.ndarray, " n"] | None = None
    restarts: Float32[np.ndarray, "n restarts latents"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A request with its names looked up."""

    labels: tuple[int, ...] = ()  # in turn; empty: drawn
    parts: Mapping[int, Float64[np.ndarray, "part 2"]] = field(default_factory=dict)  # by label; -1 of all labels
    attributes: Float32[np.ndarray, " attributes"] | None = None
    identity: Float32[np.ndarray, " dimension"] | None = None
    around: Float32[np.ndarray, "turn latents"] | None = None  # a row for each of the labels in turn
    flows: bool = False  # whether noise is carried by the flow; parts then say which labels are how frequent
    guidance: float | None = None

    @property
    def every(self) -> Float64[np.ndarray, "part 2"]:
        """All parts."""
        return np.concatenate(list(self.parts.values()))


class Generator:
    """Make faces with one trained VAE or GAN.

    Opening is cheap; networks are opened when they are first needed.

    Args:
        model: A name of the catalogue, a run folder of `mien train vae` or `mien train gan`, an ONNX file with its
            card beside it, or a card.
        threads: ONNX Runtime threads; default the CPU quota.

    Attributes:
        card: The model's card.
        convention: What it says of the network.
        side: Width and height of the pictures, px.
        latents: Numbers that a picture is made from.
        labels: Expressions that can be asked for; empty where the model knows none.
        attributes: Attributes that can be asked for.
        edits: Expressions that a face can be changed to, where the model has an encoder.

    Raises:
        ModelError: There is no such model, its role is another, or its card does not fit its network.

    Example:
        >>> faces = Generator("face-vae-64").generate(64)  # doctest: +SKIP
        >>> faces.shape  # doctest: +SKIP
        (64, 64, 64, 3)
    """

    def __init__(self, model: str | Path | Card, *, threads: int | None = None) -> None:
        card = zoo.named(model) if isinstance(model, str | Path) else model
        if card.role != "generator":
            raise ModelError(f"'{card.name}' is of role {card.role}, expected a generator. {_KNOWN_BY}")
        self.convention = GeneratorConvention.of(card)
        self.card = card
        self.side, self.latents = self.convention.side, self.convention.latents
        self.labels, self.attributes = self.convention.labels, self.convention.attributes
        self.edits = self.convention.edits or self.labels
        self._components = np.array(self.convention.components or np.empty((0, 2)), dtype=np.float64)
        self._threads = threads
        self._points = TEMPLATES[self.convention.template].points_at(self.side)

    @property
    def draws_latents(self) -> bool:
        """Whether it draws what a VAE's latents stand for: a VAE, or a GAN that began as one and kept its encoder."""
        return self.has_encoder or self.convention.kind == "vae"

    @property
    def takes_identity(self) -> bool:
        """Whether it is told whose face to make."""
        return self.convention.identity is not None

    @property
    def has_encoder(self) -> bool:
        """Whether faces can be turned into its latents."""
        return self.convention.encoder is not None

    # Making -----------------------------------------------------------------------------------------------------------

    def generate(
        self,
        n: int,
        *,
        expression: str | Sequence[str] | None = None,
        attributes: Collection[str] = (),
        identity: Embedding | Float[np.ndarray, " dimension"] | None = None,
        like: Source | None = None,
        seed: int = 0,
        truncation: float = 1.0,
        prior: str | None = None,
        guidance: float | None = None,
    ) -> Faces:
        """Return n faces, RGB uint8, shape (n, side, side, 3); arguments are those of `Request`.

        Raises:
            UsageError: The model cannot make what is asked for.
        """
        request = Request(expression, attributes, identity, like, seed, truncation, prior, guidance=guidance)
        return np.concatenate([batch.images for batch in self.batches(n, request)], dtype=np.uint8)

    def batches(self, n: int, request: Request | None = None, *, start: int = 0) -> Iterator[Batch]:
        """Return the faces of numbers start to n - 1, a few at a time: memory stays flat however many there are.

        Raises:
            UsageError: The model cannot make what is asked for, or n is below 1.
        """
        request = request or Request()
        if n < 1:
            raise UsageError(f"The number of pictures should be 1 or more, got {n}.")
        _ = self._session  # A network that cannot be opened is no batch's trouble.
        return self._batches(n, request, self._plan(request), start)

    def _batches(self, n: int, request: Request, plan: _Plan, start: int) -> Iterator[Batch]:
        # The same batches wherever they start: the last bit may hang on a picture's place among its neighbours.
        for first in range(start - start % _BATCH, n, _BATCH):
            feed = self._drawn(plan, request, np.arange(first, first + _BATCH))
            low, high = max(start - first, 0), min(n - first, _BATCH)
            names = [None] * _BATCH if feed.label is None else [self.labels[k] for k in feed.label]
            yield Batch(first + low, self._pictures(feed)[low:high], tuple(names[low:high]))

    def decode(
        self,
        latents: Float[np.ndarray, "n latents"],
        *,
        expression: str | Sequence[str] | None = None,
        attributes: Collection[str] = (),
        identity: Embedding | Float[np.ndarray, " dimension"] | None = None,
    ) -> Faces:
        """Return the faces of latents (a GAN's are its noise), RGB uint8, shape (n, side, side, 3).

        Args:
            latents: Shape (n, latents).
            expression: One for all or one for each; None: the model's first.
            attributes: Names of the attributes that they have.
            identity: As in `Request`.

        Raises:
            UsageError: The model cannot make what is asked for.
        """
        return _rounded(self._decoded(latents, expression, attributes, identity))

    def between(
        self,
        a: int | Float[np.ndarray, " latents"] | Source,
        b: int | Float[np.ndarray, " latents"] | Source,
        steps: int = 8,
        *,
        expression: str | None = None,
        truncation: float = 1.0,
    ) -> Faces:
        """Return the faces on the way from one to another, both included, shape (steps, side, side, 3).

        The way is straight between latents of a VAE and along the sphere on which other GANs' noise lies.

        Args:
            a: A seed, latents of shape (latents,), or a picture of a face (VAE).
            b: The same.
            steps: Faces, from 2.
            expression: That all of them show; default the one that seed ``a`` shows, else the model's first.
            truncation: As in `Request`, for seeds.
        """
        if steps < 2:
            raise UsageError(f"The way between two faces has at least 2 steps, got {steps}.")
        if expression is None and self.labels:
            request = Request(seed=a, truncation=truncation) if isinstance(a, int) else None
            expression = self._first_label(request) if request else self.labels[0]
        (start, part), (end, other) = (self._end(end, expression, truncation) for end in (a, b))
        t = np.linspace(0, 1, steps)[:, None]
        way = (_straight if self.draws_latents else _along_sphere)(start, end, t)
        return _rounded(self._decoded(way, expression, component=part or other))

    def clip(
        self,
        expression: str,
        frames: int = 32,
        *,
        like: Source | None = None,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> Faces:
        """Return a face that begins to show an expression and ceases to, shape (frames, side, side, 3) (VAE).

        Args:
            expression: One of ``edits``.
            frames: From 3; the first and the last one show the face as it was.
            like: Picture of the face; default one that is drawn, neutral where the model draws by expression.
            seed: As in `Request`, for a drawn face.
            truncation: Likewise.

        Raises:
            UsageError: The model cannot make what is asked for.
            ImageError: The picture cannot be read or shows no face.
        """
        if frames < 3:
            raise UsageError(f"A clip has at least 3 frames, got {frames}.")
        if not self.draws_latents:
            raise UsageError(f"'{self.card.name}' makes no clips. A VAE does, and a GAN that began as one.")
        self._edit_number(expression)
        if like is not None:
            cut = self.cut(like)
            shown, here = self.expression_of(cut), self.encode([cut])
        elif self.labels:
            shown = "neutral" if "neutral" in self.labels else self.labels[0]
            here = self._end(seed, shown, truncation)[0][None]
        else:
            here = self._end(seed, None, truncation)[0][None]
            shown = self._read(_rounded(self._decoded(here)[0]))
        there = self.moved(here, shown=shown, wanted=expression)
        t = (0.5 - 0.5 * np.cos(2 * np.pi * np.linspace(0, 1, frames)))[:, None].astype(np.float32)
        way = here + t * (there - here)
        # The decoder is told an expression, which cannot be half of one: what it draws for either is mixed.
        drawn = [self._decoded(way, label if self.labels else None) for label in (shown, expression)]
        return _rounded((1 - t[:, :, None, None]) * drawn[0] + t[:, :, None, None] * drawn[1])

    # Faces in ---------------------------------------------------------------------------------------------------------

    def cut(self, picture: Source) -> Cut:
        """Find the face that a picture is of and cut it out as the model's training faces were.

        Raises:
            ImageError: The picture cannot be read or shows no face.
        """
        image = load_image(picture)
        face = find_face(image, self._detector)
        if face is None:
            name = f"'{printable(picture)}'" if isinstance(picture, str | Path) else "the picture"
            raise ImageError(f"No face was found in {name}. Name a picture with a clear, frontal face.")
        return Cut(image, face, cut_face(image, face.landmarks, points=self._points, side=self.side))

    def encode(self, pictures: Faces | Sequence[Source | Cut]) -> Latents:
        """Return the latents of faces, shape (n, latents): the means of their posteriors.

        Args:
            pictures: Aligned faces, RGB uint8, shape (n, side, side, 3); or pictures in which a face is looked for.

        Raises:
            ModelError: The model has no encoder.
            ImageError: A picture cannot be read or shows no face.
        """
        faces: Sequence[UInt8[np.ndarray, "side side 3"]]
        if isinstance(pictures, np.ndarray):
            if pictures.dtype != np.uint8 or pictures.shape[1:] != (self.side, self.side, 3):
                raise ImageError(
                    f"'{self.card.name}' encodes aligned faces, uint8 of shape (n, {self.side}, {self.side}, 3), got "
                    f"{pictures.dtype} of shape {pictures.shape}. Give a list of pictures to have their faces found."
                )
            faces = list(pictures)
        else:
            faces = [(picture if isinstance(picture, Cut) else self.cut(picture)).crop for picture in pictures]
        return self._encoded(faces, "mean")[0]

    def posteriors(self, faces: Faces) -> tuple[Latents, Latents]:
        """Return mean and standard deviation of the latents that aligned faces may stand for.

        Raises:
            ModelError: The model has no encoder, or one that says no variance.
        """
        if "log_variance" not in {item.name for item in self._encoder[0].get_outputs()}:
            raise ModelError(f"The encoder of '{self.card.name}' says no variance. Export the run again.")
        mean, log_variance = self._encoded(list(faces), "mean", "log_variance")
        return mean, np.exp(0.5 * log_variance)

    def _encoded(self, faces: Sequence[UInt8[np.ndarray, "side side 3"]], *outputs: str) -> list[Latents]:
        session, feed, side = self._encoder
        name = session.get_inputs()[0].name
        parts: list[list[np.ndarray]] = [[np.empty((0, self.latents), np.float32)] for _ in outputs]
        for start in range(0, len(faces), _ENCODED):
            seen = np.stack([shrunk(face, (side, side)) for face in faces[start : start + _ENCODED]])
            answers = session.run(list(outputs), {name: feed(seen)})
            for part, answer in zip(parts, answers, strict=True):
                part.append(answer)
        return [np.concatenate(part) for part in parts]

    def expression_of(self, cut: Cut) -> str:
        """Return the expression that a face shows, of those that the model can make."""
        if not self.edits:
            raise UsageError(self._cannot("expression", "Train one with labels: mien train vae --data DIR."))
        told = self._reader.read(cut.picture, [cut.face])[0].probabilities
        return max(self.edits, key=lambda label: told.get(label, -1.0))

    def edit(self, picture: Source, *, expression: str, strength: float | None = None) -> Edit:
        """Give the face of a picture another expression and keep who it is (VAE).

        The face is encoded, moved in the latent space, and decoded. Where the model has a mapper, that was trained to
        say where to. Else a flow that is told the expression says it: it carries the noise that it would have made
        this face of towards the other expression. Without either, the way is that from the mean of the expression it
        shows to the mean of the one asked for. Only the difference that this makes is added to the face, so that what
        the VAE cannot draw of it stays; where much changes, the face's details make room for it.

        Args:
            picture: With a face.
            expression: One of ``edits``.
            strength: 0 changes nothing, 1 goes all the way, more overdoes it. None: with a mapper or a flow the least
                of a few at which the expression is read; else 1.

        Raises:
            UsageError: The model cannot make that expression.
            ModelError: It has no encoder.
            ImageError: The picture cannot be read or shows no face.
        """
        if strength is not None and not 0 <= strength <= 4:
            raise UsageError(f"The strength of an edit should be 0 to 4, got {strength:g}.")
        self._edit_number(expression)
        _ = self._encoder  # Before the work: is there one?
        cut = self.cut(picture)
        shown = self.expression_of(cut)
        here = self.encode([cut])
        searched = self._searched(shown, expression)
        move = self.moved(here, shown=shown, wanted=expression) - here
        plain, face = self._decoded(here, shown if self.labels else None)[0], cut.crop.astype(np.float32)
        for tried in searched.strengths if strength is None else (strength,):
            there = np.asarray(here + np.float32(tried) * move, dtype=np.float32)
            change = min(tried, 1.0) * (self._decoded(there, expression if self.labels else None)[0] - plain)
            # Expressions also differ by how their pictures were lit, which is no part of an expression.
            change -= change.mean()
            if self.convention.edits:
                change = damp_colours(change)
            laid = lay_change(face, plain, change)
            after = _rounded(laid)
            if (
                strength is None
                and tried < searched.strengths[-1]
                and self._share_of(expression, after) >= searched.read
            ):
                break
        before, changed, redrawn = self._embedded(np.stack([cut.crop, after, _rounded(plain)]), self._judge)
        return Edit(
            cut.crop,
            after,
            self._pasted(cut, laid - face),
            shown,
            expression,
            tried,
            identity=float(before @ changed),
            reconstruction=float(before @ redrawn),
            embedder=self._judge.model,
        )

    def moved(self, latents: Latents, *, shown: str, wanted: str) -> Latents:
        """Return the latents of the same faces with another expression, shape (n, latents).

        Args:
            latents: Of faces that show ``shown``.
            shown: One of ``labels``.
            wanted: Another one.

        Raises:
            UsageError: The model knows no such expressions.
        """
        number = self._edit_number(wanted)
        self._edit_number(shown)
        if self.convention.edits and shown != wanted:
            return self._mapped(latents, number)
        if self._flow_redirects(shown, wanted):
            return np.asarray(latents + self._redirected(latents, shown, wanted), dtype=np.float32)
        return self._moved(latents, shown, wanted)

    def _searched(self, shown: str, wanted: str) -> _Search:
        if self.convention.edits and shown != wanted:
            return _BY_MAPPER
        return _BY_FLOW if self._flow_redirects(shown, wanted) else _ALL_THE_WAY

    def _mapped(self, latents: Latents, number: int) -> Latents:
        """Return where the mapper moves the latents of faces that shall show an expression."""
        row = self._attribute_row(())
        parts = [np.empty((0, self.latents), np.float32)]
        for start in range(0, len(latents), _BATCH):
            some = latents[start : start + _BATCH]
            feed = _Feed(some, np.zeros(len(some), np.int64), np.full(len(some), number))
            parts.append(self._run(self._with_conditions(feed, row, None), "edited"))
        return np.concatenate(parts)

    def _flow_redirects(self, shown: str, wanted: str) -> bool:
        return bool(self.convention.flow) and self.convention.guidance is not None and shown != wanted

    def _share_of(self, expression: str, face: UInt8[np.ndarray, "side side 3"]) -> float:
        """Return how probable an expression is to be seen in an aligned face, among those that the model can make."""
        told = self._told(face)
        return told.get(expression, 0.0) / max(sum(told.get(label, 0.0) for label in self.edits), 1e-9)

    def _read(self, face: UInt8[np.ndarray, "side side 3"]) -> str:
        """Return the expression that an aligned face shows, of those that the model can make."""
        told = self._told(face)
        return max(self.edits, key=lambda label: told.get(label, -1.0))

    def _told(self, face: UInt8[np.ndarray, "side side 3"]) -> Mapping[str, float]:
        box = Box(0, 0, self.side, self.side)
        return self._reader.read(face, [Detection(box, self._points.astype(np.float32), 1.0)])[0].probabilities

    # Asking -----------------------------------------------------------------------------------------------------------

    def _plan(self, request: Request) -> _Plan:
        """Look a request's names up; refuse what the model cannot make."""
        if not 0 <= request.truncation <= 2:
            raise UsageError(f"The truncation should be 0 to 2, got {request.truncation:g}.")
        if not 0 <= request.seed < 1 << 63:
            raise UsageError(f"The seed should be a whole number from 0, got {request.seed}.")
        labels = self._label_numbers(request.expression)
        identity, around = self._identity(request.identity), None
        if request.like is not None:
            if identity is not None:
                raise UsageError("Give an embedding or a picture of the face to be like, not both.")
            if self.takes_identity:
                identity = self._identity_of(self.cut(request.like))
            elif self.has_encoder:
                cut = self.cut(request.like)
                around = self.encode([cut])
                if self.labels:
                    shown = self.expression_of(cut)
                    labels = labels or (self.labels.index(shown),)
                    around = np.concatenate([self._moved(around, shown, self.labels[label]) for label in labels])
            else:
                raise UsageError(self._cannot("face to be like", self._alike()))
        elif self.takes_identity and identity is None:
            raise UsageError(
                f"'{self.card.name}' makes faces like a given one. Name it with --like PICTURE (in Python: identity=)."
            )
        parts = self._parts(request.prior) if around is None else {}
        flows = around is None and self._flows(request.prior)
        if parts and labels and -1 not in parts and (lacking := [k for k in labels if k not in parts]):
            raise UsageError(
                f"The fitted prior of '{self.card.name}' knows no {self.labels[lacking[0]]}. Take the prior normal."
            )
        row, guidance = self._attribute_row(request.attributes), self._guidance(request, flows)
        return _Plan(labels, parts, row, identity, around, flows, guidance)

    def _label_numbers(self, expression: str | Sequence[str] | None) -> tuple[int, ...]:
        if expression is None:
            return ()
        names = (expression,) if isinstance(expression, str) else tuple(expression)
        if not self.labels:
            others = self._others(lambda convention: bool(convention.labels))
            instead = others or "Train one with labels: mien train gan --data DIR."
            if self.edits:
                instead += " It changes that of a given face: mien edit, or --clip."
            raise UsageError(self._cannot("expression", instead))
        for name in names:
            if name not in self.labels:
                raise UsageError(f"'{self.card.name}' makes {', '.join(self.labels)}; got '{name}'.")
        if not names:
            raise UsageError(f"No expression was named. '{self.card.name}' makes {', '.join(self.labels)}.")
        return tuple(self.labels.index(name) for name in names)

    def _edit_number(self, expression: str) -> int:
        """Return the number of an expression that a face can be changed to."""
        if not self.edits:
            others = self._others(
                lambda convention: bool(convention.encoder and (convention.edits or convention.labels))
            )
            raise UsageError(
                self._cannot("expression", others or "Teach it: mien train mapper --model MODEL --data DIR.")
            )
        if expression not in self.edits:
            raise UsageError(f"'{self.card.name}' makes {', '.join(self.edits)}; got '{expression}'.")
        return self.edits.index(expression)

    def _attribute_row(self, names: Collection[str]) -> Float32[np.ndarray, " attributes"] | None:
        if strange := [name for name in names if name not in self.attributes]:
            known = f"It knows {', '.join(self.attributes)}." if self.attributes else "It knows none."
            raise UsageError(f"'{self.card.name}' has no attribute '{strange[0]}'. {known}")
        if not self.attributes:
            return None
        return np.array([name in names for name in self.attributes], dtype=np.float32)

    def _identity(
        self, given: Embedding | Float[np.ndarray, " dimension"] | None
    ) -> Float32[np.ndarray, " dimension"] | None:
        if given is None:
            return None
        if not self.takes_identity:
            raise UsageError(self._cannot("identity", self._alike()))
        if isinstance(given, Embedding) and given.model != self._judge_of_identity.model:
            raise UsageError(
                f"'{self.card.name}' takes embeddings of '{self._judge_of_identity.model}', got one of '{given.model}'."
            )
        vector = np.asarray(given.vector if isinstance(given, Embedding) else given, dtype=np.float32)
        if isinstance(given, Embedding) and self._judge_of_identity.cohort is not None:
            vector = Cohort.undo(vector[None])[0]  # the network learned what the recogniser alone sees
        expected = self._input_width("identity")
        if vector.ndim != 1 or (expected and len(vector) != expected) or not np.isfinite(vector).all():
            raise UsageError(
                f"'{self.card.name}' takes one embedding of shape ({expected},), finite; got shape {vector.shape}."
            )
        return as_unit(vector)

    def _parts(self, prior: str | None) -> dict[int, Float64[np.ndarray, "part 2"]]:
        """Return number and share of the prior's parts by label, -1 for parts of no label; {} is N(0, I)."""
        if prior not in (None, *PRIORS):
            raise UsageError(f"The prior is one of {', '.join(PRIORS)}; got '{prior}'.")
        if prior == "normal" or not len(self._components):
            if prior in ("fitted", "mixture"):
                raise UsageError(f"'{self.card.name}' has no fitted prior. Leave the prior out.")
            return {}
        rows = np.column_stack([np.arange(1, len(self._components) + 1), self._components[:, 1]])
        owners = self._components[:, 0].astype(int)
        return {int(label): rows[owners == label] for label in np.unique(owners)}

    def _flows(self, prior: str | None) -> bool:
        """Whether latents are drawn from the flow."""
        if prior == "flow" and not self.convention.flow:
            raise UsageError(f"'{self.card.name}' has no flow. Fit one: mien train prior --model MODEL --data DIR.")
        return bool(self.convention.flow) and prior in (None, "flow", "fitted")

    def _guidance(self, request: Request, flows: bool) -> float | None:
        """Return how far the flow follows what is asked for; None where it takes no guidance."""
        default = self.convention.guidance
        if request.guidance is None:
            return default
        if not 0 <= request.guidance <= MOST_GUIDANCE:
            raise UsageError(f"The guidance should be 0 to {MOST_GUIDANCE:g}, got {request.guidance:g}.")
        if not flows or default is None:
            why = "is told no expression and no attributes" if flows else "is not what these faces are drawn from"
            raise UsageError(f"Guidance is for flows that are told what to draw; that of '{self.card.name}' {why}.")
        return request.guidance

    def _cannot(self, what: str, instead: str) -> str:
        return f"'{self.card.name}' cannot be told the {what}. {instead}"

    def _alike(self) -> str:
        others = self._others(lambda convention: bool(convention.identity or convention.encoder))
        return others or "A VAE with its encoder can, and a GAN that was trained on identities."

    def _others(self, can: Callable[[GeneratorConvention], bool]) -> str:
        """Name the catalogue's generators that can."""
        names = [card.name for card in zoo.cards("generator") if can(GeneratorConvention.of(card))]
        return f"{', '.join(names)} can." if names else ""

    # Drawing ----------------------------------------------------------------------------------------------------------

    def _drawn(self, plan: _Plan, request: Request, numbers: Int64[np.ndarray, " n"]) -> _Feed:
        """Draw what the pictures of these numbers are made from; each from its own stream."""
        turn = len(plan.labels)
        noise = np.empty((len(numbers), self.latents), np.float32)
        component = np.zeros(len(numbers), np.int64)
        label = np.zeros(len(numbers), np.int64) if self.labels else None
        restarts = self._no_restarts(len(numbers)) if plan.flows else None
        for row, number in enumerate(numbers.tolist()):
            stream = number // turn if turn and request.share_noise else number
            rng = np.random.Generator(np.random.Philox(key=request.seed, counter=[0, 0, 0, stream]))
            # Always drawn in this order, used or not: naming an expression leaves the noise as it was.
            part_share, label_share = rng.random(2)
            noise[row] = rng.standard_normal(self.latents, dtype=np.float32)
            if restarts is not None:
                restarts[row] = rng.standard_normal(restarts.shape[1:], dtype=np.float32)
            wanted = plan.labels[number % turn] if turn else -1
            if plan.parts:
                rows = plan.every if wanted < 0 else plan.parts.get(wanted, plan.parts.get(-1, plan.every))
                ends = np.cumsum(rows[:, 1])
                place = min(int(np.searchsorted(ends, part_share * ends[-1], side="right")), len(rows) - 1)
                component[row] = int(rows[place, 0])
                wanted = int(self._components[component[row] - 1, 0]) if wanted < 0 else wanted
            if plan.flows:
                component[row] = _FLOW
            if label is not None:
                label[row] = int(label_share * len(self.labels)) if wanted < 0 else wanted
        noise *= np.float32(request.truncation)
        if restarts is not None:
            restarts *= np.float32(request.truncation)
        if plan.around is not None:
            noise = plan.around[numbers % len(plan.around)] + np.float32(_LIKENESS) * noise
        feed = _Feed(noise, component, label, restarts=restarts)
        return self._with_conditions(feed, plan.attributes, plan.identity, plan.guidance)

    def _no_restarts(self, count: int) -> Float32[np.ndarray, "n restarts latents"] | None:
        """What a flow is fed where noise is carried without a restart; None where it knows none."""
        times = self.convention.restarts
        return np.zeros((count, times, self.latents), np.float32) if times else None

    def _with_conditions(
        self, feed: _Feed, attributes: np.ndarray | None, identity: np.ndarray | None, guidance: float | None = None
    ) -> _Feed:
        count = len(feed.noise)
        told = self.convention.guidance if guidance is None else guidance
        feed.guidance = None if told is None else np.full(count, told, np.float32)
        feed.attributes = None if attributes is None else np.tile(attributes, (count, 1))
        feed.identity = None if identity is None else np.tile(identity, (count, 1))
        return feed

    def _decoded(
        self,
        latents: Float[np.ndarray, "n latents"],
        expression: str | Sequence[str] | None = None,
        attributes: Collection[str] = (),
        identity: Embedding | Float[np.ndarray, " dimension"] | None = None,
        component: int = 0,
    ) -> Float32[np.ndarray, "n side side 3"]:
        given = np.asarray(latents, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != self.latents or not np.isfinite(given).all():
            raise UsageError(
                f"'{self.card.name}' decodes latents of shape (n, {self.latents}), finite; got shape {given.shape}."
            )
        labels = self._label_numbers(expression) or (0,)
        if len(labels) not in (1, len(given)):
            raise UsageError(f"Give one expression or one for each of the {len(given)} latents, got {len(labels)}.")
        label = np.resize(np.array(labels, np.int64), len(given)) if self.labels else None
        who = self._identity(identity)
        if who is None and self.takes_identity:
            raise UsageError(f"'{self.card.name}' needs an identity to decode.")
        row = self._attribute_row(attributes)
        parts = [np.empty((0, self.side, self.side, 3), np.float32)]
        for start in range(0, len(given), _BATCH):
            some = given[start : start + _BATCH]
            feed = _Feed(some, np.full(len(some), component), None if label is None else label[start : start + _BATCH])
            parts.append(self._run(self._with_conditions(feed, row, who), "images"))
        return np.concatenate(parts)

    def _pictures(self, feed: _Feed) -> Faces:
        return _rounded(self._run(feed, "images"))

    def _run(self, feed: _Feed, output: str) -> np.ndarray:
        """Return images as (n, side, side, 3), 0 to 255, or another output as it is."""
        given = {"noise": feed.noise, "component": feed.component, "label": feed.label}
        given |= {"attributes": feed.attributes, "identity": feed.identity, "guidance": feed.guidance}
        given["restarts"] = self._no_restarts(len(feed.noise)) if feed.restarts is None else feed.restarts
        if feed.label is None and self.edits:  # its mapper's alone, which answers nothing here
            given["label"] = np.zeros(len(feed.noise), np.int64)
        fed = {item.name: given[item.name] for item in self._session.get_inputs()}
        try:
            answer = np.asarray(self._session.run([output], fed)[0], dtype=np.float32)
        except runtime_errors() as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"The network of generator '{self.card.name}' cannot be run: {reason} Export it again."
            ) from None
        if output != "images":
            return answer
        answer = answer.transpose(0, 2, 3, 1)
        return np.repeat(answer, 3, axis=3) if answer.shape[3] == 1 else answer

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        session = make_session(zoo.path(self.card), options=session_options(threads=self._threads))
        inputs, outputs = ({item.name for item in items} for items in (session.get_inputs(), session.get_outputs()))
        card = {"noise"} | ({"component"} if len(self._components) else set())
        card |= {"label"} if self.edits else set()
        card |= {"attributes"} if self.attributes else set()
        card |= {"identity"} if self.takes_identity else set()
        card |= {"guidance"} if self.convention.guidance is not None else set()
        card |= {"component"} if self.convention.flow else set()
        card |= {"restarts"} if self.convention.restarts else set()
        answers = {"images"} | ({"edited"} if self.convention.edits else set())
        # A mixture by class may stand before a decoder that is not told the class.
        if not inputs <= card or card - inputs - {"label"} or not answers <= outputs:
            raise ModelError(
                f"The network of generator '{self.card.name}' takes {', '.join(sorted(inputs))} and its card speaks of "
                f"{', '.join(sorted(card))}. Is the card of another file?"
            )
        return session

    def _input_width(self, name: str) -> int:
        shapes = {item.name: item.shape for item in self._session.get_inputs()}
        width = shapes[name][-1]
        return width if isinstance(width, int) else 0

    # Latents ----------------------------------------------------------------------------------------------------------

    def _end(self, end: Any, expression: str | None, truncation: float) -> tuple[Float32[np.ndarray, " latents"], int]:
        """Return the latents that a walk begins or ends at; a GAN with a prior walks through the noise of one part."""
        if isinstance(end, int):
            request = Request(expression, seed=end, truncation=truncation)
            feed = self._drawn(self._plan(request), request, np.arange(_BATCH))
            if self.draws_latents:
                return np.asarray(self._run(feed, "latents")[0]), 0
            return np.asarray(feed.noise[0]), int(feed.component[0])
        if isinstance(end, np.ndarray) and end.ndim == 1:
            return end.astype(np.float32), 0
        return np.asarray(self.encode([end])[0]), 0

    def _first_label(self, request: Request) -> str:
        feed = self._drawn(self._plan(request), request, np.arange(1))
        assert feed.label is not None, "the model has labels"
        return self.labels[int(feed.label[0])]

    @cached_property
    def _class_means(self) -> dict[str, Float32[np.ndarray, " latents"]] | None:
        """Mean latents by expression, out of the fitted prior: a part without noise is its mean."""
        parts = {label: rows for label, rows in self._parts(None).items() if label >= 0}
        if not parts or not self.labels:
            return None
        count = len(self._components)
        feed = _Feed(np.zeros((count, self.latents), np.float32), np.arange(1, count + 1))
        feed.label = np.maximum(self._components[:, 0], 0).astype(np.int64)
        means = self._run(self._with_conditions(feed, self._attribute_row(()), None), "latents")
        return {
            self.labels[label]: np.average(means[rows[:, 0].astype(int) - 1], axis=0, weights=rows[:, 1])
            for label, rows in parts.items()
        }

    def _moved(self, latents: Latents, shown: str, wanted: str) -> Latents:
        """Move a face's latents from the mean of the expression that it shows to that of another one."""
        if wanted == shown:
            return latents
        if (means := self._class_means) is not None and {shown, wanted} <= means.keys():
            return np.asarray(latents + (means[wanted] - means[shown]), dtype=np.float32)
        if "label" not in {item.name for item in self._session.get_inputs()}:
            raise UsageError(
                f"'{self.card.name}' cannot make the given face, which shows {shown}, show {wanted}: its prior "
                "knows no faces of both. Leave the expression out."
            )
        return latents  # The network is told the label.

    def _redirected(self, here: Latents, shown: str, wanted: str) -> Latents:
        """Return how far a face's latents move where the flow carries the same noise to another expression."""
        row = self._attribute_row(())

        def carried(noise: Latents, expression: str, guidance: float) -> Latents:
            parts = []
            for start in range(0, len(noise), _BATCH):
                some = noise[start : start + _BATCH]
                label = np.full(len(some), self.labels.index(expression))
                feed = _Feed(some, np.full(len(some), _FLOW), label)
                parts.append(self._run(self._with_conditions(feed, row, None, guidance), "latents"))
            return np.concatenate(parts)

        # That which it draws with: with less the expression is seldom read, with more somebody else is.
        guidance = self.convention.guidance
        assert guidance is not None, "a flow that is told expressions has one"
        noise = inverted(lambda rows: carried(rows, shown, 1.0), here)
        # What the inversion left cancels: the same expression moves nothing.
        moved: Latents = carried(noise, wanted, guidance) - carried(noise, shown, 1.0)
        return moved

    # Other networks ---------------------------------------------------------------------------------------------------

    @cached_property
    def _encoder(self) -> tuple[onnxruntime.InferenceSession, Feed, int]:
        """The encoder, how it is fed, and the side of the faces that it takes, which may be smaller than they are."""
        if not self.has_encoder:
            others = self._others(lambda convention: convention.encoder is not None)
            raise ModelError(f"'{self.card.name}' has no encoder. {others or 'A VAE has: mien train vae.'}")
        card = zoo.companion(self.card, "encoder")
        session = make_session(zoo.path(card), options=session_options(threads=self._threads))
        if "mean" not in {item.name for item in session.get_outputs()}:
            raise ModelError(f"The encoder '{card.name}' answers no 'mean'. Export the run again.")
        side = card.convention.get("side", self.side)
        if not isinstance(side, int) or not 0 < side <= self.side:
            raise ModelError(
                f"The encoder '{card.name}' takes faces of {side!r} px, expected at most the {self.side} px that "
                f"'{self.card.name}' draws."
            )
        return session, Feed(card.convention), side

    @cached_property
    def _detector(self) -> DetectorLike:
        return patient_detector()

    @cached_property
    def _reader(self) -> ExpressionReader:
        return ExpressionReader(zoo.card(zoo.default("expression")), threads=self._threads)

    @cached_property
    def _judge(self) -> Embedder:
        return Embedder(zoo.card(zoo.default("embedder")), threads=self._threads)

    @cached_property
    def _judge_of_identity(self) -> Embedder:
        """The embedder whose embeddings the model takes."""
        assert self.convention.identity is not None, "the model takes an identity"
        return Embedder(zoo.named(self.convention.identity, role="embedder"), threads=self._threads)

    def _identity_of(self, cut: Cut) -> Float32[np.ndarray, " dimension"]:
        # Of the small crop, as in training: the generator never saw an embedding of more detail.
        return np.asarray(self._embedded(cut.crop[None], self._judge_of_identity)[0])

    def _embedded(self, faces: Faces, embedder: Embedder) -> Float32[np.ndarray, "n dimension"]:
        """Embed faces of ours, whose landmarks are where the template says; an embedder may want to see more."""
        room = self.side // 4
        points = (self._points + room).astype(np.float32)
        framed = [cv2.copyMakeBorder(face, room, room, room, room, cv2.BORDER_REPLICATE) for face in faces]
        return embedder.describe(np.stack([embedder.crop(np.asarray(face, np.uint8), points) for face in framed]))

    def _pasted(self, cut: Cut, change: Float32[np.ndarray, "side side 3"]) -> Image:
        """Lay a change of the aligned face into its photograph; it fades towards the border of the face."""
        edge = np.clip(np.minimum(np.arange(self.side), np.arange(self.side)[::-1]) / (_FEATHER * self.side), 0, 1)
        fade = 0.5 - 0.5 * np.cos(np.pi * edge)
        soft = change * (fade[:, None] * fade)[..., None]
        back = cv2.invertAffineTransform(similarity_transform(cut.face.landmarks, self._points))
        height, width = cut.picture.shape[:2]
        return _rounded(cut.picture + cv2.warpAffine(soft, back, (width, height), flags=cv2.INTER_CUBIC))


_KNOWN_BY = "Runs of `mien train vae` and `mien train gan` are generators; see `mien models list`."


def _rounded(values: Float[np.ndarray, ...]) -> UInt8[np.ndarray, ...]:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)


def _straight(a: np.ndarray, b: np.ndarray, t: Float64[np.ndarray, "steps 1"]) -> Float64[np.ndarray, "steps latents"]:
    return np.asarray((1 - t) * a + t * b)


def _along_sphere(
    a: np.ndarray, b: np.ndarray, t: Float64[np.ndarray, "steps 1"]
) -> Float64[np.ndarray, "steps latents"]:
    """Turn from a to b at even speed, the length changing evenly.

    Source: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985, for any dimension.
    """
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) == 0:
        return _straight(a, b, t)
    u, v = a / lengths[0], b / lengths[1]
    angle = np.arccos(np.clip(u @ v, -1, 1))
    if np.sin(angle) < 1e-4:  # the same way, or opposite ones that no single arc joins
        return _straight(a, b, t)
    turn = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return np.asarray(turn * ((1 - t) * lengths[0] + t * lengths[1]))
