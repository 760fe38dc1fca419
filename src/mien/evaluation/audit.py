"""Does a generator draw people it was trained on? Samples, training faces and faces held out, compared three ways.

A generator that merely draws blurred or average faces comes near to every face, of training or not. So what counts
is not how near a sample is to a training face, but whether it is nearer than to others: nearer than its surroundings,
and nearer than to faces of the same data that nobody trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from mien import zoo
from mien.errors import EvaluationError
from mien.evaluation.records import plain
from mien.images import digest
from mien.metrics.intervals import Interval, wilson

if TYPE_CHECKING:
    from mien.evaluation.spaces import FeatureSpace
    from mien.vision.generator import Generator
    from mien.zoo import Card

__all__ = [
    "LEARNED",
    "SCHEMA",
    "AuditReport",
    "Comparison",
    "Limits",
    "Membership",
    "Pair",
    "RankSum",
    "Space",
    "audit",
    "audit_generator",
    "compare",
    "membership",
    "nearest",
    "network_space",
    "pixel_space",
    "rank_sum",
    "weights_of",
]

Faces = UInt8[np.ndarray, "faces side side 3"]
Vectors = Float32[np.ndarray, "faces dimension"]

SCHEMA = "mien/audit/1"
LEARNED = "learned.txt"
"""File of a run with the digest of each picture that it learned from, one a line; no picture can be made from it."""
_LEAST = 100  # faces of each kind below which no share of 1 % can be seen
_NEIGHBOURS = 50  # whose mean distance stands for the surroundings of a face
_COPIED = 1 / 3  # of the distance of its surroundings: below it a face is a copy, however it was changed
_BATCH = 32
_ROWS = 256  # of a distance matrix held at once
_BINS = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What an audit lets pass.

    Attributes:
        copies: Samples that are a training face to the pixel, as it is or mirrored.
        copied_share: Share of samples, more than of held-out faces, that are a training face but for blur, noise or a
            few px: at less than a third of the distance of its surroundings.
        near_share: Share of samples that stand out as near to one training face as only the nearest 1 % of the
            held-out faces do.
        pull: Share of samples that are nearer to training faces than to held-out ones without chance explaining it.
        spread: Least distance between samples over that between held-out faces, at the mean: below it all are one face.
        repeats: Share of samples that are another sample to the pixel.
        unnamed: Share of the pictures that the model learned from, by its own record, that may be missing among the
            training faces of the audit.
        p_value: Below which chance does not explain it.
        membership: AUC of telling training faces from held-out ones by how well a VAE reconstructs them; above it the
            audit warns of overfitting, but does not fail: no person is drawn by it.
    """

    copies: int = 0
    copied_share: float = 0.001
    near_share: float = 0.02
    pull: float = 0.2
    spread: float = 0.3
    repeats: float = 0.01
    unnamed: float = 0.01
    p_value: float = 1e-3
    membership: float = 0.65


@dataclass(frozen=True, slots=True)
class RankSum:
    """A one-sided Mann-Whitney test of whether one set of numbers is smaller than another.

    Attributes:
        smaller: Probability that one of the first is smaller than one of the second; 0.5 where they are alike.
        z: Standardised; far below 0 where the first are smaller.
        p_value: Of so low a z if they were alike.
    """

    smaller: float
    z: float
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where distances are measured: one vector a face.

    Attributes:
        name: Of the space.
        judge: Id of the network that makes the vectors; empty where there is none.
        samples: Of the generator's samples, shape (views, samples, dimension): as they are and mirrored, or one view
            where mirror images are alike. The nearest view counts.
        train: Of the training faces.
        holdout: Of held-out faces, views as for samples.
    """

    name: str
    judge: str
    samples: Float32[np.ndarray, "views samples dimension"]
    train: Float32[np.ndarray, "train dimension"]
    holdout: Float32[np.ndarray, "views holdout dimension"]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What one space says.

    Attributes:
        space: Its name.
        judge: Id of its network, or empty.
        distances: Of each sample to its nearest training face, shape (samples,).
        holdout_distances: Of each held-out face to its nearest training face.
        relative: Distance of each sample to its nearest training face over the mean distance to its 50 nearest; a copy
            has nearly 0, a face like any other nearly 1, however sharp it is.
        holdout_relative: The same of the held-out faces.
        partner: Number of the nearest training face of each sample.
        test: Are samples nearer to training faces than held-out faces are? Blur alone makes it so.
        relative_test: The same of relative distances.
        closer_share: Share of samples nearer to a training face than all but 1 % of the held-out faces.
        copied_share: Share of samples whose relative distance is below a third.
        copied_interval: 95 % interval of that share.
        holdout_copied: The same share of the held-out faces: data sets hold one picture twice.
        near_limit: Relative distance that 1 % of the held-out faces fall below.
        near_share: Share of samples below it, where 1 % is what chance gives.
        near_interval: 95 % interval of that share.
        near_p_value: Of so large a share if samples and held-out faces were alike.
        nearest_is_training: Share of samples whose nearest face, of training and held-out ones together, is one of
            training.
        chance: What that share is where the samples do not care.
        pull: How far it goes from chance (0) to all (1); below 0 where samples are nearer to held-out faces.
        pull_p_value: Of so strong a pull if training and held-out faces were exchanged at random.
        authentic: Share of samples farther from their nearest training face than that is from its own nearest.
        holdout_authentic: The same of the held-out faces.
        spread: Mean distance between samples over that between held-out faces; near 0 all samples are one face.
    """

    space: str
    judge: str
    distances: Float[np.ndarray, " samples"]
    holdout_distances: Float[np.ndarray, " holdout"]
    relative: Float[np.ndarray, " samples"]
    holdout_relative: Float[np.ndarray, " holdout"]
    partner: Int[np.ndarray, " samples"]
    test: RankSum
    relative_test: RankSum
    closer_share: float
    copied_share: float
    copied_interval: Interval
    holdout_copied: float
    near_limit: float
    near_share: float
    near_interval: Interval
    near_p_value: float
    nearest_is_training: float
    chance: float
    pull: float
    pull_p_value: float
    authentic: float
    holdout_authentic: float
    spread: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures without the faces."""
        arrays = ("distances", "holdout_distances", "relative", "holdout_relative", "partner")
        record = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in arrays}
        record |= {"test": asdict(self.test), "relative_test": asdict(self.relative_test)}
        return record | {f"median_{name}": float(np.median(getattr(self, name))) for name in arrays[:4]}


@dataclass(frozen=True, slots=True, eq=False)
class Membership:
    """How well reconstruction tells training faces from held-out ones.

    Attributes:
        auc: Probability that a training face is reconstructed better than a held-out one; 0.5 tells nothing.
        train_rmse: Mean error of training faces, grey levels.
        holdout_rmse: Mean error of held-out faces.
        n: Faces of each kind.
    """

    auc: float
    train_rmse: float
    holdout_rmse: float
    n: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """A sample beside the training face that it is nearest to.

    Attributes:
        sample: Number of the sample.
        train: Number of the training face.
        space: In which they are near.
        relative: Relative distance there.
    """

    sample: int
    train: int
    space: str
    relative: float


@dataclass(frozen=True, slots=True, eq=False)
class AuditReport:
    """What an audit found.

    Attributes:
        copies: Samples that are a training face to the pixel, or its mirror image.
        spaces: By space.
        cosines: Cosine similarity by kind: of each `sample` and each `holdout` face to its most similar training face,
            and of `impostors`, real people who are different.
        membership: Of a VAE; None for other models.
        closest: The pairs to look at, the most suspicious first.
        reasons: Why the audit failed, a sentence each; empty where it passed.
        warnings: What to know although it passed.
        limits: What was let pass.
        counts: Faces of each kind.
        repeated: Samples that are another sample to the pixel.
        facts: Of which model, for JSON.
    """

    copies: int
    spaces: tuple[Comparison, ...]
    cosines: Mapping[str, Float[np.ndarray, " faces"]]
    membership: Membership | None
    closest: tuple[Pair, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    limits: Limits
    counts: Mapping[str, int]
    repeated: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against publishing the model."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON can hold it: figures and histograms, no face and no name."""
        edges = np.linspace(-0.2, 1.0, _BINS + 1)
        record = {
            "schema": SCHEMA,
            **self.facts,
            "verdict": "passed" if self.passed else "failed",
            "reasons": list(self.reasons),
            "warnings": list(self.warnings),
            "limits": asdict(self.limits),
            "n": dict(self.counts),
            "copies": self.copies,
            "repeated_samples": self.repeated,
            "spaces": {one.space: one.to_json() for one in self.spaces},
            "identity_cosine": {
                "edges": edges.round(4).tolist(),
                **{
                    name: {
                        "counts": np.histogram(np.clip(values, edges[0], 1.0), edges)[0].tolist(),
                        "median": float(np.median(values)),
                        "p99": float(np.quantile(values, 0.99)),
                    }
                    for name, values in self.cosines.items()
                },
            },
            "membership": self.membership and asdict(self.membership),
        }
        return cast(dict[str, Any], plain(record))


def audit(
    samples: Faces,
    train: Faces,
    holdout: Faces,
    *,
    spaces: Sequence[Callable[[Faces, Faces, Faces], Space]],
    reconstruct: Callable[[Faces], Faces] | None = None,
    learned: Collection[str] | None = None,
    limits: Limits | None = None,
    closest: int = 64,
    seed: int = 0,
) -> AuditReport:
    """Hold samples of a generator against the faces that it learned from.

    Training faces that are another one to the pixel count once; held-out faces that are also training faces are left
    out.

    Args:
        samples: Drawn by the generator, at least 100.
        train: The faces it learned from, cut as it was shown them.
        holdout: Faces of the same source that it did not learn from, cut in the same way, at least 100.
        spaces: What makes feature spaces of samples, training and held-out faces: `pixel_space`, `network_space`.
            The one named identity is where people are told apart.
        reconstruct: Encodes and decodes faces, where the model can.
        learned: Digests of the pictures that the model learned from, where its training kept them (`LEARNED`).
        limits: What is let pass.
        closest: Pairs to show.
        seed: Of the impostors drawn.

    Raises:
        EvaluationError: There are too few faces, or they are of different sizes.
    """
    limits = limits or Limits()
    _check_sizes(samples, train, holdout)
    known, first = np.unique([digest(face) for face in train], return_index=True)
    train, told = train[np.sort(first)], set(known.tolist())
    mirrored = {digest(face[:, ::-1]) for face in train}
    twice = np.array([digest(face) in told for face in holdout])
    holdout = holdout[~twice]
    _check_counts(samples, train, holdout, int(twice.sum()))
    drawn = [digest(face) for face in samples]
    copies = sum(key in told or key in mirrored for key in drawn)

    made = [make(samples, train, holdout) for make in spaces]
    compared = tuple(compare(space) for space in made)
    cosines = next((_cosines(space, seed) for space in made if space.name == "identity"), {})
    member = membership(train, holdout, reconstruct, seed=seed) if reconstruct else None
    repeated = len(drawn) - len(set(drawn))
    reasons, warnings = _judged(copies, compared, member, limits, len(samples))
    if repeated > limits.repeats * len(samples):
        reasons.append(
            f"{repeated} of {len(samples)} samples are another sample to the pixel; {limits.repeats:.0%} may be. A "
            f"generator that draws the same faces again cannot be audited by what it draws."
        )
    if learned is None:
        warnings.append(
            "The model keeps no record of what it learned from: an audit against other data than that says nothing."
        )
    elif len(missing := set(learned) - told) > limits.unnamed * len(set(learned)):
        reasons.append(
            f"{len(missing):,} of {len(set(learned)):,} pictures that it learned from are not among the training "
            f"faces. Name all data with --train, and the --cache of the training."
        )
    return AuditReport(
        copies=copies,
        spaces=compared,
        cosines=cosines,
        membership=member,
        closest=_closest(compared, closest, np.sort(first)),
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        limits=limits,
        counts={
            "samples": len(samples),
            "train": len(train),
            "holdout": len(holdout),
            "holdout_left_out": int(twice.sum()),
        },
        repeated=repeated,
    )


def audit_generator(
    generator: Generator,
    train: Faces,
    holdout: Faces,
    *,
    judge: FeatureSpace,
    n: int = 2000,
    seed: int = 0,
    learned: Collection[str] | None = None,
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[AuditReport, Faces]:
    """Draw samples and audit them in the spaces `identity` and `pixels`; return the report and the samples.

    Args:
        generator: A trained VAE or GAN.
        train: The faces it learned from, RGB uint8, cut as its template.
        holdout: Faces of the same source that it did not learn from, cut in the same way.
        judge: Features of faces of the generator's template in which people are told apart.
        n: Samples.
        seed: Of the samples.
        learned: As for `audit`.
        limits: What is let pass.
        progress: Called with the number of faces that were looked at.

    Raises:
        EvaluationError: There are too few faces, or they are not of the generator's size.
    """
    samples = generator.generate(n, seed=seed)
    reconstruct = None
    if generator.has_encoder:
        reconstruct = partial(_reconstructed, generator)
    report = audit(
        samples,
        train,
        holdout,
        spaces=[network_space(judge, name="identity", progress=progress), pixel_space],
        reconstruct=reconstruct,
        learned=learned,
        limits=limits,
        seed=seed,
    )
    warnings = report.warnings
    if judge.name in generator.convention.losses:
        warnings += (f"'{judge.name}' stood in a loss of this model: what it says about identities is worth less.",)
    facts = {
        "model": generator.card.id,
        "name": generator.card.name,
        "weights": weights_of(generator.card),
        "seed": seed,
        "template": generator.convention.template,
    }
    return replace(report, facts=facts, warnings=warnings), samples


def weights_of(card: Card) -> dict[str, str]:
    """Return the SHA-256 of each network of a generator, by role: what an audit speaks about."""
    found = {"generator": card.source.sha256}
    if "encoder" in card.convention:
        found["encoder"] = zoo.companion(card, "encoder").source.sha256
    return found


def _reconstructed(generator: Generator, faces: Faces) -> Faces:
    return generator.decode(generator.encode(faces))


def compare(space: Space) -> Comparison:
    """Compare distances of samples to training faces with those of held-out faces.

    Source: the test is the z of C. Meehan et al., "A non-parametric test to detect data-copying in generative models",
    AISTATS 2020, over one cell; authenticity is A. Alaa et al., "How faithful is your synthetic data?", ICML 2022;
    nearness over surroundings follows N. Carlini et al., "Extracting training data from diffusion models", 2023, the
    third T. Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize", 2023.
    """
    around = max(min(_NEIGHBOURS, len(space.train) - 1), 2)
    near, partners = nearest(space.samples, space.train, around)
    real, real_partners = nearest(space.holdout, space.train, around)
    relative, real_relative = (d[:, 0] / np.maximum(d.mean(axis=1), 1e-12) for d in (near, real))
    first = max(round(0.01 * len(real_relative)), 1)
    limit = float(np.sort(real_relative)[first - 1])
    below, copied = int((relative < limit).sum()), int((relative < _COPIED).sum())
    own = _own_nearest(space.train, np.unique(np.concatenate([partners[:, 0], real_partners[:, 0]])))
    is_training, chance, p_value = _pull(space, near[:, 0], partners[:, 0])
    return Comparison(
        space=space.name,
        judge=space.judge,
        distances=near[:, 0],
        holdout_distances=real[:, 0],
        relative=relative,
        holdout_relative=real_relative,
        partner=partners[:, 0],
        test=rank_sum(near[:, 0], real[:, 0]),
        relative_test=rank_sum(relative, real_relative),
        closer_share=float((near[:, 0] < np.quantile(real[:, 0], 0.01)).mean()),
        copied_share=copied / len(relative),
        copied_interval=wilson(copied, len(relative)),
        holdout_copied=float((real_relative < _COPIED).mean()),
        near_limit=limit,
        near_share=below / len(relative),
        near_interval=wilson(below, len(relative)),
        near_p_value=_chance_of_more_below(below, len(relative), first, len(real_relative)),
        nearest_is_training=is_training,
        chance=chance,
        pull=(is_training - chance) / (1 - chance),
        pull_p_value=p_value,
        authentic=float((near[:, 0] > own[partners[:, 0]]).mean()),
        holdout_authentic=float((real[:, 0] > own[real_partners[:, 0]]).mean()),
        spread=_apart(space.samples[0]) / max(_apart(space.holdout[0]), 1e-12),
    )


def rank_sum(first: Float[np.ndarray, " a"], second: Float[np.ndarray, " b"]) -> RankSum:
    """Test whether the first numbers are smaller than the second; ties count half and shrink the variance.

    Example:
        >>> rank_sum(np.array([1.0, 2.0]), np.array([3.0, 4.0])).smaller
        1.0

    Source: H. B. Mann and D. R. Whitney, 1947, with the normal approximation.
    """
    a, b = len(first), len(second)
    _, place, counts = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    larger = ranks[:a].sum() - a * (a + 1) / 2  # pairs in which the first is the larger
    total = a + b
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (total * (total - 1))
    spread = np.sqrt(a * b / 12 * (total + 1 - ties))
    z = float((larger - a * b / 2) / spread) if spread > 0 else 0.0
    return RankSum(float(1 - larger / (a * b)), z, NormalDist().cdf(z))


def nearest(
    queries: Float32[np.ndarray, "views queries dimension"],
    reference: Float32[np.ndarray, "reference dimension"],
    count: int,
) -> tuple[Float[np.ndarray, "queries count"], Int[np.ndarray, "queries count"]]:
    """Return distances to the nearest of a reference, nearest first, and their numbers; of views the nearest counts."""
    distances = np.empty((queries.shape[1], count))
    numbers = np.empty((queries.shape[1], count), dtype=np.int64)
    squares = (reference.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, queries.shape[1], _ROWS):
        rows = slice(start, start + _ROWS)
        table = np.min([_squared(view[rows], reference, squares) for view in queries], axis=0)
        some = np.argpartition(table, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(table, some, axis=1)
        order = np.argsort(values, axis=1)
        distances[rows] = np.sqrt(np.maximum(np.take_along_axis(values, order, axis=1), 0.0))
        numbers[rows] = np.take_along_axis(some, order, axis=1)
    return distances, numbers


def membership(
    train: Faces, holdout: Faces, reconstruct: Callable[[Faces], Faces], *, seed: int = 0, most: int = 1000
) -> Membership:
    """Measure whether a VAE reconstructs training faces better than held-out ones."""
    rng = np.random.default_rng(seed)
    errors = []
    for faces in (train, holdout):
        chosen = faces[np.sort(rng.permutation(len(faces))[:most])]
        errors.append(np.sqrt(((chosen.astype(np.float32) - reconstruct(chosen)) ** 2).mean(axis=(1, 2, 3))))
    return Membership(
        auc=rank_sum(*errors).smaller,
        train_rmse=float(errors[0].mean()),
        holdout_rmse=float(errors[1].mean()),
        n=(len(errors[0]), len(errors[1])),
    )


def pixel_space(samples: Faces, train: Faces, holdout: Faces) -> Space:
    """Return faces as 16x16 px of even brightness and contrast; mirror images are looked at too."""
    views = [np.stack([pixel_vectors(faces), pixel_vectors(faces[:, :, ::-1])]) for faces in (samples, holdout)]
    return Space("pixels", "", views[0], pixel_vectors(train), views[1])


def network_space(
    network: FeatureSpace, *, name: str, progress: Callable[[int], None] | None = None
) -> Callable[[Faces, Faces, Faces], Space]:
    """Return what makes the space of a network's features.

    Args:
        network: What sees the faces; its features hardly differ for a mirror image.
        name: Of the space; `identity` is where people are told apart.
        progress: Called with the number of faces that were looked at.
    """

    def seen(faces: Faces) -> Vectors:
        parts = []
        for start in range(0, len(faces), _BATCH):
            parts.append(network.features(faces[start : start + _BATCH]).astype(np.float32))
            if progress is not None:
                progress(len(parts[-1]))
        return np.concatenate(parts)

    def make(samples: Faces, train: Faces, holdout: Faces) -> Space:
        return Space(name, network.model, seen(samples)[None], seen(train), seen(holdout)[None])

    return make


def pixel_vectors(faces: Faces) -> Vectors:
    small = np.stack([cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA) for face in faces])
    vectors = small.reshape(len(small), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def _chance_of_more_below(below: int, samples: int, rank: int, holdout: int) -> float:
    """Return the chance that so many samples or more lie below the held-out face of a rank, if all are alike.

    Then of the ``below + rank - 1`` lowest of all, fewer than ``rank`` are held-out faces: a hypergeometric sum.
    """
    lowest, everyone = below + rank - 1, samples + holdout
    terms = [
        _log_choose(lowest, i) + _log_choose(everyone - lowest, holdout - i) - _log_choose(everyone, holdout)
        for i in range(min(rank, lowest + 1))
        if holdout - i <= everyone - lowest
    ]
    return min(float(sum(math.exp(term) for term in terms)), 1.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _squared(rows: Vectors, reference: Vectors, squares: Float[np.ndarray, " reference"]) -> np.ndarray:
    own = (rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
    return np.asarray(own + squares - 2 * (rows @ reference.T).astype(np.float64))


def _own_nearest(train: Vectors, wanted: Int[np.ndarray, " wanted"]) -> Float[np.ndarray, " train"]:
    """Return the distance of some training faces to the nearest other one; NaN for those not asked for."""
    distances, numbers = nearest(train[None, wanted], train, 2)
    # Rounding may put a face's twin before itself.
    other = np.where(numbers[:, 0] == wanted, distances[:, 1], distances[:, 0])
    every = np.full(len(train), np.nan)
    every[wanted] = other
    return every


def _apart(vectors: Vectors) -> float:
    """Return the mean distance between faces, each and the one half a set away in an order that is always the same."""
    order = np.random.default_rng(0).permutation(len(vectors))
    return float(np.linalg.norm(vectors[order] - vectors[np.roll(order, len(order) // 2)], axis=1).mean())


def _pull(
    space: Space, distances: Float[np.ndarray, " samples"], partner: Int[np.ndarray, " samples"]
) -> tuple[float, float, float]:
    """Return the share of samples whose nearest face is one of training, what chance gives, and the p-value.

    Were it left to chance which of all faces were held out, each face would keep the samples that are nearest to it:
    the share is a sum over faces drawn without replacement, whatever depends on whatever among the samples.
    """
    n, train, holdout = len(distances), len(space.train), space.holdout.shape[1]
    to_held, number = (column[:, 0] for column in nearest(space.samples, space.holdout[0], 1))
    wins = distances <= to_held
    counts = np.zeros(train + holdout)
    np.add.at(counts, np.where(wins, partner, train + number), 1)
    everyone = train + holdout
    chance = train / everyone
    deviation = np.sqrt(holdout * (1 - holdout / everyone) * counts.var(ddof=1))
    z = (wins.sum() - n * chance) / deviation if deviation > 0 else 0.0
    return float(wins.mean()), chance, 1 - NormalDist().cdf(float(z))


def _cosines(space: Space, seed: int) -> dict[str, Float[np.ndarray, " faces"]]:
    rng = np.random.default_rng(seed)
    impostors = 10_000
    one = space.holdout[0][rng.integers(space.holdout.shape[1], size=impostors)]
    other = space.train[rng.integers(len(space.train), size=impostors)]
    # Unit vectors: a distance is a cosine.
    best = {
        name: 1 - nearest(views, space.train, 1)[0][:, 0] ** 2 / 2
        for name, views in (("sample", space.samples), ("holdout", space.holdout))
    }
    return {**best, "impostors": (one * other).sum(axis=1).astype(np.float64)}


def _closest(spaces: Sequence[Comparison], count: int, original: Int[np.ndarray, " train"]) -> tuple[Pair, ...]:
    """Choose the pairs that stand out most, measured by what stands out among held-out faces; a sample once."""
    pairs: dict[int, tuple[float, Pair]] = {}
    for space in spaces:
        for sample in np.argsort(space.relative)[:count].tolist():
            rank = float(space.relative[sample] / max(space.near_limit, 1e-12))
            pair = Pair(sample, int(original[space.partner[sample]]), space.space, float(space.relative[sample]))
            if sample not in pairs or rank < pairs[sample][0]:
                pairs[sample] = (rank, pair)
    return tuple(pair for _, pair in sorted(pairs.values(), key=lambda entry: entry[0])[:count])


def _judged(
    copies: int, spaces: Sequence[Comparison], member: Membership | None, limits: Limits, samples: int
) -> tuple[list[str], list[str]]:
    reasons, warnings = [], []
    if copies > limits.copies:
        reasons.append(f"{copies} of {samples} samples are training faces to the pixel; {limits.copies} may be.")
    for space in spaces:
        allowed = space.holdout_copied + limits.copied_share
        if space.copied_share > allowed and space.copied_interval[0] > space.holdout_copied:
            reasons.append(
                f"{space.space}: {space.copied_share:.2%} of the samples are copies of a training face but for small "
                f"changes, as {space.holdout_copied:.2%} of the held-out faces are; at most {allowed:.2%} may be."
            )
        if space.near_share > limits.near_share and space.near_p_value < limits.p_value:
            reasons.append(
                f"{space.space}: {space.near_share:.1%} of the samples stand out as near to one training face as 1 % "
                f"of the held-out faces do (p {space.near_p_value:.1g}); at most {limits.near_share:.0%} may."
            )
        if space.pull > limits.pull and space.pull_p_value < limits.p_value:
            reasons.append(
                f"{space.space}: {space.nearest_is_training:.1%} of the samples are nearer to a training face than to "
                f"any held-out one, where chance gives {space.chance:.1%} (p {space.pull_p_value:.1g}): a pull of "
                f"{space.pull:.2f}; at most {limits.pull:g} may be."
            )
        if space.spread < limits.spread:
            reasons.append(
                f"{space.space}: samples lie {space.spread:.2f} times as far apart as held-out faces do, at least "
                f"{limits.spread:g} are expected: they are nearly all one face."
            )
        if space.pull < -limits.pull and 1 - space.pull_p_value < limits.p_value:
            warnings.append(
                f"{space.space}: samples are nearer to held-out faces than chance explains. Was it the training faces "
                f"that --train named?"
            )
    if member is not None and member.auc > limits.membership:
        warnings.append(
            f"Training faces are reconstructed better than held-out ones (AUC {member.auc:.2f}, above "
            f"{limits.membership:g}): the model is overfitted, and who has its encoder can guess who was in the data."
        )
    return reasons, warnings


def _check_sizes(samples: Faces, train: Faces, holdout: Faces) -> None:
    shapes = {"samples": samples.shape[1:], "training faces": train.shape[1:], "held-out faces": holdout.shape[1:]}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
        raise EvaluationError(f"An audit compares faces of one size, got {said}. Cut them as the generator's template.")


def _check_counts(samples: Faces, train: Faces, holdout: Faces, left_out: int) -> None:
    for what, count, cure in (
        ("samples", len(samples), "Draw more with -n."),
        ("different training faces", len(train), "Name all data that the model learned from with --train."),
        (
            "held-out faces",
            len(holdout),
            "Add some with --holdout." + (f" {left_out} were left out: they are training faces." if left_out else ""),
        ),
    ):
        if count < _LEAST:
            raise EvaluationError(f"An audit needs at least {_LEAST} {what}, got {count}. {cure}")
