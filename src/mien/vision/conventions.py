"""What a card says of a network's input and answers, typed and checked once.

A card holds these facts as a plain mapping, and a digest of that mapping is part of the model's id; what is not known
here is therefore kept in ``more``. `of` reads and checks, `as_facts` gives the mapping back, for those who write cards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Never, Self, TypedDict, TypeVar, cast

from mien.alignment import TEMPLATES
from mien.errors import ModelError, UsageError
from mien.types import Facts
from mien.vision.shares import Shares, check_shares

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = [
    "ORDERS",
    "AttributeConvention",
    "ClassifierConvention",
    "DetectorConvention",
    "EmbedderConvention",
    "ExpressionConvention",
    "GeneratorConvention",
    "RestorerConvention",
    "SequenceConvention",
]

ORDERS = ("RGB", "BGR", "GRAY")
"""Orders in which a network may be fed the channels of a picture."""

Channels = float | tuple[float, ...]
"""One number for all channels, or one for each."""

_ALWAYS = ("order", "layout", "mean", "scale", "threshold")  # on a card even where they have their defaults
_T = TypeVar("_T")
_D = TypeVar("_D")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convention:
    """What the conventions of all roles share.

    Attributes:
        more: Facts of the card that nothing here reads.
    """

    more: Facts = field(default_factory=dict)

    def as_facts(self) -> dict[str, object]:
        """Return the mapping that a card holds: lists for tuples, and no fact that has its default."""
        facts = {
            item.name: _listed(getattr(self, item.name))
            for item in fields(self)
            if item.name != "more" and (item.name in _ALWAYS or getattr(self, item.name) not in (item.default, {}))
        }
        return facts | {key: _listed(value) for key, value in self.more.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConvention(_Convention):
    """Of a detector.

    Attributes:
        kind: Which decoder reads its answers.
        order: One of `ORDERS`.
        layout: Of its input.
        mean: Subtracted from pixels of 0 to 255.
        scale: What they are multiplied with after that.
        threshold: Least score of a face.
        side: The only side of pictures that it takes, px; None: any multiple of a stride.
    """

    kind: str
    order: str = "RGB"
    layout: str = "NCHW"
    mean: Channels = 0.0
    scale: Channels = 1.0
    threshold: float = 0.5
    side: int | None = None

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none.
        """
        facts = _Facts(card, "detector", "See docs/models.md for what it should hold.")
        read = cls(
            kind=facts.get("kind", str, ""),
            **facts.pixels(),
            threshold=facts.get("threshold", float, 0.5),
            side=facts.get("side", int, None),
            more=facts.more(cls),
        )
        return facts.checked(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderConvention(_Convention):
    """Of an embedder.

    Attributes:
        template: How faces are cut, a name of `mien.alignment.TEMPLATES`.
        kind: Name of the convention.
        side: Of the faces, px; by default the template's.
        order: One of `ORDERS`.
        layout: Of its input.
        mean: Subtracted from pixels of 0 to 255.
        scale: What they are multiplied with after that.
        dimension: Of the embeddings; 0 where the card does not say it.
        flip: Whether embeddings of a face and of its mirror image are added.
        landmark_weights: How much each landmark counts when a face is aligned; None: all alike.
        mean_embedding: Name of the mean embedding of a population, beside mien's weights.
        keep_along_mean: How much of the variation along it is kept, 0 to 1.
        batch: Most faces at once; 0: as many as are given.
        losses: Networks that stood in its loss.
        cohort: Name of the cohort that normalises its embeddings, beside mien's weights; None: there is none.
        cohort_sha256: Digest of that cohort.
        neighbours: How many of the cohort's embeddings, the nearest, say how crowded the place of a face is.
        floor: Distance to them below which places count as equally crowded.
    """

    template: str
    kind: str = ""
    side: int
    order: str = "RGB"
    layout: str = "NCHW"
    mean: Channels = 0.0
    scale: Channels = 1.0
    dimension: int = 0
    flip: bool = False
    landmark_weights: tuple[float, ...] | None = None
    mean_embedding: str | None = None
    keep_along_mean: float = 1.0
    batch: int = 0
    losses: tuple[str, ...] = ()
    cohort: str | None = None
    cohort_sha256: str = ""
    neighbours: int = 0
    floor: float = 0.0

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none, or the template is unknown.
        """
        facts = _Facts(card, "embedder", "See docs/models.md for what it should hold.")
        template = facts.get("template", str, "")
        if template not in TEMPLATES:
            raise ModelError(
                f"Embedder '{card.name}' wants template '{template}'; known are {', '.join(sorted(TEMPLATES))}."
            )
        read = cls(
            template=template,
            kind=facts.get("kind", str, ""),
            side=facts.get("side", int, TEMPLATES[template][0]),
            **facts.pixels(),
            dimension=facts.get("dimension", int, 0),
            flip=facts.get("flip", bool, False),
            landmark_weights=facts.several("landmark_weights", float) or None,
            mean_embedding=facts.get("mean_embedding", str, None),
            keep_along_mean=facts.get("keep_along_mean", float, 1.0),
            batch=facts.get("batch", int, 0),
            losses=facts.several("losses", str),
            cohort=facts.get("cohort", str, None),
            cohort_sha256=facts.get("cohort_sha256", str, ""),
            neighbours=facts.get("neighbours", int, 0),
            floor=facts.get("floor", float, 0.0),
            more=facts.more(cls),
        )
        return facts.checked(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionConvention(_Convention):
    """Of a network that reads expressions.

    Attributes:
        side: Of the faces that it is fed, px.
        kind: Name of the convention.
        order: One of `ORDERS`.
        layout: Of its input.
        mean: Subtracted from pixels of 0 to 255.
        scale: What they are multiplied with after that.
        template: How faces are cut; None where it is fed the detector's box.
        crop: `box` on cards of networks that are fed the detector's box.
        labels: Of its answers, in their order, where it has one head.
        heads: Labels by the name of an output, where it has several.
        answers: `logits` or `probabilities`.
        flip: Whether answers for a face and for its mirror image are averaged.
        temperature: Divides the logits: one number, or one by head.
        uncertain_below: Least probability of an outcome that is not uncertain.
        uncertain_above: Largest entropy of the probabilities of such an outcome, as a share of the largest that there
            is; 0: it is not looked at.
        shares: Share of each class in what a head learned from, by head, in the order of its labels; a network of one
            head without a name has it under "".
        assume: Class shares that faces are read with unless others are asked for: `learned`, `equal`, or a share by
            class.
        answer: Heads whose probabilities are averaged to tell what a face shows; empty: the first.
        softened: Divides the logits once more where a face is read: for pictures that are not those of the training.
        batch: Most faces at once; 0: as many as the reader likes.
    """

    side: int
    kind: str = ""
    order: str = "RGB"
    layout: str = "NCHW"
    mean: Channels = 0.0
    scale: Channels = 1.0
    template: str | None = None
    crop: str = ""
    labels: tuple[str, ...] = ()
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answers: str = "logits"
    flip: bool = False
    temperature: float | Mapping[str, float] = 1.0
    uncertain_below: float = 0.0
    uncertain_above: float = 0.0
    shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    assume: str | Mapping[str, float] = "learned"
    answer: tuple[str, ...] = ()
    softened: float = 1.0
    batch: int = 0

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none, or the template is unknown.
        """
        facts = _Facts(card, "expression model", "See docs/models.md for what it should hold.")
        facts.expect("side", *(() if card.convention.get("heads") else ("labels",)))
        template = facts.get("template", str, None)
        if template is not None and template not in TEMPLATES:
            raise ModelError(
                f"Expression model '{card.name}' wants faces cut by '{template}'; known are {', '.join(TEMPLATES)}."
            )
        heads: Facts = facts.get("heads", Mapping, {})
        temperature = card.convention.get("temperature", 1.0)
        by_head = isinstance(temperature, Mapping)
        shares: Mapping[str, object] = facts.get("shares", Mapping, {})
        read = cls(
            side=facts.get("side", int, 0),
            kind=facts.get("kind", str, ""),
            **facts.pixels(),
            template=template,
            crop=facts.get("crop", str, ""),
            labels=facts.several("labels", str),
            heads={str(name): tuple(str(label) for label in labels) for name, labels in heads.items()},
            answers=facts.get("answers", str, "logits"),
            flip=facts.get("flip", bool, False),
            temperature=facts.get("temperature", Mapping, 1.0) if by_head else facts.get("temperature", float, 1.0),
            uncertain_below=facts.get("uncertain_below", float, 0.0),
            uncertain_above=facts.get("uncertain_above", float, 0.0),
            shares={str(name): facts.numbers("shares", row) for name, row in shares.items()},
            assume=facts.assumed("assume"),
            answer=facts.several("answer", str),
            softened=facts.positive("softened", 1.0),
            batch=facts.get("batch", int, 0),
            more=facts.more(cls),
        )
        classes = read.heads or {"": read.labels}
        for name, row in read.shares.items():
            if len(row) != len(classes.get(name, ())) or min(row) < 0:
                facts.refuse("shares", list(row), f"a number from 0 for each class of '{name}'")
        if strange := [name for name in read.answer if name not in classes]:
            facts.refuse("answer", strange[0], f"one of {', '.join(classes)}")
        return facts.checked(read)

    @property
    def grey(self) -> bool:
        """Whether it is fed grey faces."""
        return self.order == "GRAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeConvention(_Convention):
    """Of a network that reads an attribute: mesh, eyes, age or gender.

    Attributes:
        side: Of the faces that it is fed, px.
        kind: Which attribute.
        order: One of `ORDERS`.
        layout: Of its input.
        mean: Subtracted from pixels of 0 to 255.
        scale: What they are multiplied with after that.
        template: How faces are cut; None where they are cut with room around their points.
        labels: Of its answers, in their order, where they have names.
        classes: How many there are, where they have none.
    """

    side: int
    kind: str
    order: str = "RGB"
    layout: str = "NCHW"
    mean: Channels = 0.0
    scale: Channels = 1.0
    template: str | None = None
    labels: tuple[str, ...] = ()
    classes: int = 0

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none, or the template is unknown.
        """
        facts = _Facts(card, f"{card.role} model", "See docs/models.md for what it should hold.")
        facts.expect("side", "kind")
        template = facts.get("template", str, None)
        if template is not None and template not in TEMPLATES:
            facts.refuse("template", template, f"one of {', '.join(TEMPLATES)}")
        read = cls(
            side=facts.get("side", int, 0),
            kind=facts.get("kind", str, ""),
            **facts.pixels(),
            template=template,
            labels=facts.several("labels", str),
            classes=facts.get("classes", int, 0),
            more=facts.more(cls),
        )
        return facts.checked(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorConvention(_Convention):
    """Of a generator.

    Attributes:
        kind: `vae` or `gan`.
        template: How the faces that it makes are cut, a name of `mien.alignment.TEMPLATES`.
        side: Of the faces, px.
        order: `RGB`, or `GRAY` where the faces are grey.
        latents: Numbers that a face is made from.
        places: Of the map that they are; 1 where they are a vector.
        labels: Expressions that can be asked for; empty where it knows none.
        attributes: Attributes that can be asked for.
        components: Label (-1: of all) and weight of each component of its fitted mixture.
        flow: Steps of the flow that its network draws from where the component is below 0; 0 where it has none.
        restarts: New noise that its flow takes on its way; 0 where it takes none.
        guidance: How far its flow follows a condition unless told otherwise; None where it takes none.
        edits: Expressions that its mapper gives to faces, in the order of the input `label`: its labels where it has
            some; empty where it has no mapper.
        edit_losses: Networks that stood in the loss of its mapper, and may therefore not judge its edits.
        encoder: Its encoder: a file beside it in a run, a name in the catalogue; None where it has none.
        identity: The embedder whose embedding of a face it takes; None where it takes none.
        losses: Networks that stood in its loss, and may therefore not judge it.
    """

    kind: str
    template: str
    side: int
    order: str = "RGB"
    latents: int
    places: int = 1
    labels: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    components: tuple[tuple[int, float], ...] = ()
    flow: int = 0
    restarts: int = 0
    guidance: float | None = None
    edits: tuple[str, ...] = ()
    edit_losses: tuple[str, ...] = ()
    encoder: str | None = None
    identity: str | None = None
    losses: tuple[str, ...] = ()

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none, or the template is unknown.
        """
        facts = _Facts(card, "generator", "Export it again.")
        facts.expect("kind", "template", "side", "order", "latents")
        template = facts.get("template", str, "")
        if template not in TEMPLATES:
            raise ModelError(
                f"Generator '{card.name}' makes faces of template '{template}'; known are {', '.join(TEMPLATES)}."
            )
        read = cls(
            kind=facts.get("kind", str, ""),
            template=template,
            side=facts.get("side", int, 0),
            order=facts.order(),
            latents=facts.get("latents", int, 0),
            places=facts.get("places", int, 1),
            labels=facts.several("labels", str),
            attributes=facts.several("attributes", str),
            components=facts.several("components", _component),
            flow=facts.get("flow", int, 0),
            restarts=facts.get("restarts", int, 0),
            guidance=facts.get("guidance", float, None),
            edits=facts.several("edits", str),
            edit_losses=facts.several("edit_losses", str),
            encoder=facts.get("encoder", str, None),
            identity=facts.get("identity", str, None),
            losses=facts.several("losses", str),
            more=facts.more(cls),
        )
        if read.edits and read.labels and read.edits != read.labels:
            raise ModelError(
                f"Generator '{card.name}' draws {', '.join(read.labels)} and edits to {', '.join(read.edits)}; "
                f"expected the same. Export it again."
            )
        return facts.checked(read)

    @property
    def grey(self) -> bool:
        """Whether its faces are grey."""
        return self.order == "GRAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorerConvention(_Convention):
    """Of a network that restores faces.

    Attributes:
        template: How the faces are cut, a name of `mien.alignment.TEMPLATES`.
        side: Of the faces, px.
        multiple: It takes faces of any side that is a multiple of so many px.
        order: `RGB`.
        gate: Grey levels of change below which a face counts as clean; 0: every face is restored.
        weight: Share of its change that serves recognition best.
        losses: Networks that stood in its loss, and may therefore not judge it.
    """

    template: str
    side: int
    multiple: int = 16
    order: str = "RGB"
    gate: float = 0.0
    weight: float = 1.0
    losses: tuple[str, ...] = ()

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none, or the template is unknown.
        """
        facts = _Facts(card, "restorer", "Export it again.")
        facts.expect("template", "side")
        template = facts.get("template", str, "")
        if template not in TEMPLATES:
            raise ModelError(
                f"Restorer '{card.name}' takes faces of template '{template}'; known are {', '.join(TEMPLATES)}."
            )
        read = cls(
            template=template,
            side=facts.get("side", int, 0),
            multiple=facts.get("multiple", int, 16),
            gate=facts.get("gate", float, 0.0),
            weight=facts.get("weight", float, 1.0),
            losses=facts.several("losses", str),
            more=facts.more(cls),
        )
        return facts.checked(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConvention(_Convention):
    """Of a classifier of known subjects.

    Attributes:
        labels: The subjects.
        embedder: Id of the embedder whose embeddings it takes.
        on: Name or run folder of that embedder.
        unknown_below: Least score of a subject that it knows; None: every face is of one.
    """

    labels: tuple[str, ...]
    embedder: str
    on: str
    unknown_below: float | None = None

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none.
        """
        facts = _Facts(card, "classifier", "Train the classifier again.")
        facts.expect("labels", "embedder", "on")
        return cls(
            labels=facts.several("labels", str),
            embedder=facts.get("embedder", str, ""),
            on=facts.get("on", str, ""),
            unknown_below=facts.get("unknown_below", float, None),
            more=facts.more(cls),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceConvention(_Convention):
    """Of a network that reads clips.

    Attributes:
        labels: What a clip may show.
        features: What is read from each frame, one of `mien.vision.sequence.FEATURES`.
        on: Name or run folder of the model that reads it.
        frames: Most frames of a clip that are looked at, spread evenly.
        temperature: What logits are divided by.
        uncertain_below: Least probability of an outcome that is not uncertain.
    """

    labels: tuple[str, ...]
    features: str
    on: str
    frames: int = 32
    temperature: float = 1.0
    uncertain_below: float = 0.0

    @classmethod
    def of(cls, card: Card) -> Self:
        """Read and check a card.

        Raises:
            ModelError: A fact is missing or is none.
        """
        facts = _Facts(card, "sequence network", "Train it again.")
        facts.expect("labels", "features", "on")
        return cls(
            labels=facts.several("labels", str),
            features=facts.get("features", str, ""),
            on=facts.get("on", str, ""),
            frames=facts.get("frames", int, 32),
            temperature=facts.get("temperature", float, 1.0),
            uncertain_below=facts.get("uncertain_below", float, 0.0),
            more=facts.more(cls),
        )


class _Pixels(TypedDict):
    """How pixels are fed to a network."""

    order: str
    layout: str
    mean: Channels
    scale: Channels


class _Facts:
    """The facts of one card, read by type; what is wrong with one is said in one line."""

    def __init__(self, card: Card, role: str, cure: str) -> None:
        self._facts, self._whose, self._cure = card.convention, f"The card of {role} '{card.name}'", cure

    def expect(self, *keys: str) -> None:
        """Refuse a card without these facts."""
        if missing := [key for key in keys if self._facts.get(key) in (None, "", [], ())]:
            raise ModelError(f"{self._whose} does not say {', '.join(map(repr, missing))}. {self._cure}")

    def get(self, key: str, kind: Callable[..., _T], default: _D) -> _T | _D:
        """Return a fact of a type; the default where the card does not say it."""
        given = self._facts.get(key)
        return default if given is None else self._as(key, given, kind)

    def several(self, key: str, kind: Callable[..., _T]) -> tuple[_T, ...]:
        """Return a fact that is a list; () where the card does not say it."""
        given = self._facts.get(key)
        if given is not None and not isinstance(given, list | tuple):
            self.refuse(key, given, "a list")
        return tuple(self._as(key, item, kind) for item in given or ())

    def numbers(self, key: str, given: object) -> tuple[float, ...]:
        """Return a list of numbers inside of a fact, at least one."""
        if not isinstance(given, list | tuple) or not given:
            self.refuse(key, given, "lists of numbers")
        return tuple(self._as(key, item, float) for item in given)

    def positive(self, key: str, default: float) -> float:
        """Return a number above 0."""
        number: float = self.get(key, float, default)
        if not number > 0:
            self.refuse(key, number, "a number above 0")
        return number

    def assumed(self, key: str) -> Shares:
        """Return class shares; those that were learned where the card does not say any."""
        given = self._facts.get(key, "learned")
        try:
            check_shares(given)
        except UsageError as error:
            raise ModelError(f"{self._whose} says {key} {given!r}. {error}") from error
        return given if isinstance(given, str) else {str(name): float(value) for name, value in given.items()}

    def order(self) -> str:
        """Return the order of the channels."""
        order: str = self.get("order", str, "RGB")
        if order not in ORDERS:
            self.refuse("order", order, f"one of {', '.join(ORDERS)}")
        return order

    def pixels(self) -> _Pixels:
        """Return what says how pixels are fed to a network."""
        return {
            "order": self.order(),
            "layout": self.get("layout", str, "NCHW"),
            "mean": self.get("mean", _channels, 0.0),
            "scale": self.get("scale", _channels, 1.0),
        }

    def more(self, convention: type[_Convention]) -> Facts:
        """Return the facts that a convention has no field for."""
        known = {item.name for item in fields(convention)}
        return {key: value for key, value in self._facts.items() if key not in known}

    def checked(self, read: _T) -> _T:
        """Return a convention whose counts are counts."""
        for key, least in (("side", 1), ("latents", 1), ("dimension", 0), ("batch", 0)):
            if (value := getattr(read, key, None)) is not None and value < least:
                self.refuse(key, value, f"{least} or more")
        return read

    def _as(self, key: str, given: object, kind: Callable[..., _T]) -> _T:
        expected = _EXPECTED.get(kind, "other values")
        try:
            if kind in (int, float) and isinstance(given, bool):
                raise TypeError
            if kind in (str, bool, Mapping):
                if not isinstance(given, kind):
                    raise TypeError
                return cast(_T, given)
            value = kind(given)
            if kind is int and value != given:
                raise TypeError
            return value
        except (TypeError, ValueError):
            self.refuse(key, given, expected)

    def refuse(self, key: str, given: object, expected: str) -> Never:
        """Say that a fact is none."""
        raise ModelError(f"{self._whose} says {key} {given!r}; expected {expected}. {self._cure}")


def _channels(given: Sequence[float] | float) -> Channels:
    return tuple(float(item) for item in given) if isinstance(given, Sequence) else float(given)


def _component(given: tuple[int, float]) -> tuple[int, float]:
    label, weight = given
    return int(label), float(weight)


_EXPECTED: Mapping[object, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Mapping: "a table",
    _channels: "a number, or one for each channel",
    _component: "pairs of a label's number and a weight",
}


def _listed(value: object) -> object:
    """Return what JSON would give back: lists for tuples, throughout."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value
