"""Does restoring a spoilt face help to recognise it? Each method against the picture as it is, by any recognisers.

The probe of each mated pair is spoilt, its reference is not; every probe is also compared with everybody else's
reference. Each arm has the threshold of its own non-mated comparisons. Faces are cut by the landmarks of the unspoilt
picture, so that finding them plays no part. No PyTorch.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Bool, Float, Float32

from mien import zoo
from mien.errors import DataError, UsageError
from mien.files import printable, write_whole
from mien.metrics.fidelity import psnr, ssim
from mien.metrics.identification import mate_ranks
from mien.metrics.intervals import percentile_interval
from mien.metrics.verification import eer, permissive_threshold
from mien.studies.engine import Measurement
from mien.studies.protocol import Arm, Cell, Comparison, Protocol, resampled_counts
from mien.studies.spoilt import CONDITIONS, COVERED, Finder, Shown, find_pairs, list_pairs, packed, restored, unpacked
from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.restorer import FILLER, Restorer
from mien.zoo import Card

__all__ = ["ARMS", "AS_IS", "FMR", "STRICT", "RestorationStudy"]

FMR, STRICT = 1e-2, 1e-3
FEWEST = 11
"""Pairs: fewer have no 100 non-mated comparisons, of which one in a hundred could match."""

AS_IS, _GATED = "as-is", "network-gated"
ARMS = (
    Arm(AS_IS, "the spoilt picture as it is", "what a recogniser sees today"),
    Arm("bicubic", "the face enlarged and nothing else", "compute control"),
    Arm("unsharp", "an unsharp mask", "the simplest classical method"),
    Arm("clahe", "light evened out place by place (CLAHE)", "classical"),
    Arm("denoise", "non-local means", "classical"),
    Arm("telea", "what is covered filled in from its border (Telea)", "classical"),
    Arm("vae", "what is covered filled in by a generator"),
    Arm("network-whole", "the network's change in full (weight 1), every face"),
    Arm("network", "the network's change by the weight of its card, every face"),
    Arm(_GATED, "the same, and faces that would hardly change left alone: mien restore --model"),
)
_FILLING = ("telea", "vae")
_NETWORKS = ("network-whole", "network", _GATED)
_ASKED = (_GATED, "denoise")  # what is compared with the picture as it is: the first of these that is run

_WANTED = 0.02
"""Points of TAR: as many as a restorer may at most lose of the mates that were found before, its harm rate."""

_LOST = 0.02  # TAR: where damage costs less, a share of it says nothing
_TOP = 10  # times the FMR: the share of non-mated scores among which a resampled threshold is looked for first
_AT_ONCE = 100  # replicates

Scores = Float32[np.ndarray, "pairs pairs"]
"""Of each probe, a row, with each reference; mated ones on the diagonal."""
Replicates = Float[np.ndarray, " replicates"]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RestorationStudy:
    """The study of restoring before recognition.

    Attributes:
        data: Folder with a folder a subject, or CSV with the columns path and subject; with ``pairs`` the folder that
            its paths start from, None: the list's own.
        pairs: List of comparisons whose mated ones are taken, as `mien.evaluation.read_pairs` takes it.
        model: A restorer, by name, run folder or ONNX file; None leaves the arms of a network out.
        embedders: Recognisers, likewise; none: the catalogue's.
        conditions: What is done to probes, of `CONDITIONS`.
        seeds: Draws of the damage; pairs are the same in all.
        most: Pairs at most, no subject twice.
        arms: Which of `ARMS` to run; those that fill in are run where something is covered.
    """

    data: Path | None = None
    pairs: Path | None = None
    model: str | None = None
    embedders: tuple[str, ...] = ()
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    seeds: int = 1
    most: int = 200
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)

    def __post_init__(self) -> None:
        names = [arm.name for arm in ARMS]
        if unknown := [name for name in self.arms if name not in names]:
            raise UsageError(f"There is no arm '{unknown[0]}'. Choose from {', '.join(names)}.")
        if unknown := [name for name in self.conditions if name not in CONDITIONS]:
            raise UsageError(f"There is no condition '{unknown[0]}'. Choose from {'; '.join(CONDITIONS)}.")
        if AS_IS not in self.arms:
            raise UsageError(f"The arm '{AS_IS}' is what all others are measured by: add it.")
        if not self.conditions or self.seeds < 1:
            raise UsageError("Seeds are 1 or more, and conditions at least one.")
        if self.most < FEWEST:
            raise UsageError(_too_few(self.most))
        if self.data is None and self.pairs is None:
            raise UsageError("Name pictures with --data, or a list of pairs with --pairs.")
        if self.pairs is not None and self.data is not None and self.data.is_file():
            raise UsageError("With --pairs, --data is the folder that its paths start from, not a file.")

    def __getstate__(self) -> dict[str, Any]:
        # What was opened stays here: other processes open networks of their own.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def protocol(self) -> Protocol:
        """What is asked."""
        names = [name for name in self.arms if self.model is not None or name not in _NETWORKS]
        covered = tuple(name for name, (condition, _) in self._settings.items() if condition == COVERED)
        if not covered:
            names = [name for name in names if name not in _FILLING]
        arms = [
            Arm(arm.name, arm.says, arm.control, covered if arm.name in _FILLING else ())
            for arm in ARMS
            if arm.name in names
        ]
        asked = [next((name for name in _ASKED if name in names), ""), "unsharp"]
        return Protocol(
            "restoration",
            "Is a face found more often once its spoilt picture has been restored?",
            f"TAR at FMR {FMR:g}",
            tuple(arms),
            tuple(self._settings),
            self.seeds,
            tuple(
                # Of pictures that are not spoilt nothing can be won back: there it must not be lost.
                Comparison(arm, AS_IS, setting, -_WANTED if condition == "clean" else _WANTED)
                for arm in asked
                for setting, (condition, _) in self._settings.items()
                if arm in names
            ),
        )

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on.

        Raises:
            ModelError: The model is no restorer, or a recogniser is none.
            UsageError: An arm has nothing to work with.
        """
        asked = set(self.arms) if set(self.arms) < {arm.name for arm in ARMS} else set[str]()
        if self.model is None and (lacking := [name for name in _NETWORKS if name in asked]):
            raise UsageError(f"The arm '{lacking[0]}' needs a network. Name one with --model.")
        if COVERED not in self.conditions and (idle := [name for name in _FILLING if name in asked]):
            raise UsageError(f"The arm '{idle[0]}' fills in what is covered. Add the condition '{COVERED}'.")
        facts = asdict(self)
        runs = {arm.name for arm in self.protocol.arms}
        return facts | {
            "data": None if self.data is None else self.data.resolve().name,
            "pairs": None if self.pairs is None else self.pairs.name,
            "model": None if self.model is None else zoo.named(self.model, role="restorer").id,
            "embedders": [card.id for card in self._recognisers],
            "expression": zoo.card(zoo.default("expression")).id,
            "generator": zoo.card(FILLER).id if "vae" in runs else None,
            "fmr": FMR,
            "strict_fmr": STRICT,
        }

    # One cell

    def prepare(self, folder: Path, note: Callable[[str], None]) -> None:
        """Find the faces of the pairs, and embed what is not spoilt: what all cells share.

        Args:
            folder: Where it is kept; what is there already is not made again.
            note: Is told what was left out, a line each.

        Raises:
            DataError: There are too few pairs with a face in both pictures.
        """
        file = folder / "pairs.npz"
        if file.is_file():
            for line in _read(file)["left_out"].tolist():
                note(line)
            return
        pairs, left_out = find_pairs(list_pairs(self.data, self.pairs), self.most, self._finder)
        if FEWEST <= len(pairs) < self.most:
            left_out.append(
                f"There are {len(pairs)} pairs of different subjects with faces, of the {self.most} asked for."
            )
        for line in left_out:
            note(line)
        if len(pairs) < FEWEST:
            raise DataError(_too_few(len(pairs)))
        probes = [pair.probe for pair in pairs]
        found: Arrays = {**packed(pairs), "left_out": np.array(left_out, str)}
        for number, embedder in enumerate(self._networks.embedders):
            found[f"references{number}"] = _comparable(embedder, _described(embedder, [p.reference for p in pairs]))
            found[f"clean{number}"] = _described(embedder, probes)
        found["expressions"] = self._networks.expressions(probes)
        _write(file, found)

    def run(self, cell: Cell, folder: Path) -> Mapping[str, np.ndarray]:
        """Spoil, restore, compare, and return the scores.

        Returns:
            ``scores``: of each probe, a row, with each reference. ``cosine``: of each probe's embedding to that of its
            unspoilt picture. ``psnr_db``, ``ssim``: of each face to the unspoilt one. ``expression_kept``,
            ``left_alone``: of each probe. ``clean``, of the control: scores of the unspoilt probes.
        """
        self.prepare(folder, lambda line: None)
        condition, number = self._settings[cell.setting]
        common, embedder = _read(folder / "pairs.npz"), self._networks.embedders[number]
        found = self._restored(common, Cell(cell.arm, condition, cell.seed), folder)
        references, plain, clean = common[f"references{number}"], found[f"vectors{number}"], common[f"clean{number}"]
        scores = _comparable(embedder, plain) @ references.T
        told = {
            "scores": scores,
            "cosine": (plain * clean).sum(axis=1),
            **{name: found[name] for name in ("psnr_db", "ssim", "expression_kept", "left_alone")},
        }
        return told if cell.arm != AS_IS else told | {"clean": _comparable(embedder, clean) @ references.T}

    def _restored(self, common: Arrays, cell: Cell, folder: Path) -> Arrays:
        """Return what all recognisers see of an arm's faces under a condition: they share the restoring."""
        file = folder / f"{cell.name}.npz"
        with FileLock(file.with_suffix(".lock")):
            if not file.is_file():
                _write(file, self._restore(common, cell))
        return _read(file)

    def _restore(self, common: Arrays, cell: Cell) -> Arrays:
        restorer, spoil, views = self._restorer(cell.arm), CONDITIONS[cell.setting], Restorer(method="unsharp")
        faces: list[Shown] = []
        near: list[tuple[float, float]] = []
        alone: list[bool] = []
        for place, pair in enumerate(unpacked(common)):
            # By seed and place: the same damage in every arm.
            spoilt = spoil(pair.probe, np.random.default_rng((cell.seed, place)))
            face, left = restored(restorer, spoilt)
            ours, right = (views.crop(shown.image, shown.landmarks) for shown in (face, pair.probe))
            faces.append(face)
            alone.append(left)
            near.append((psnr(ours, right), ssim(ours, right)))
        embedders = self._networks.embedders
        return {
            **{f"vectors{number}": _described(embedder, faces) for number, embedder in enumerate(embedders)},
            "psnr_db": np.array([one for one, _ in near]),
            "ssim": np.array([one for _, one in near]),
            "expression_kept": self._networks.expressions(faces) == common["expressions"],
            "left_alone": np.array(alone),
        }

    def _restorer(self, arm: str) -> Restorer | None:
        if arm == AS_IS:
            return None
        if arm == "bicubic":
            return Restorer(method="unsharp", weight=0.0, threads=1)
        if arm not in _NETWORKS:
            return Restorer(method=arm, threads=1)
        weight, gate = {"network-whole": (1.0, 0.0), "network": (None, 0.0), _GATED: (None, None)}[arm]
        return Restorer(self.model, weight=weight, gate=gate, threads=1)

    # What they amount to

    def measure(self, runs: Mapping[Cell, Mapping[str, np.ndarray]]) -> Measurement:
        """Return the share of mated pairs that match, pairs drawn anew for the intervals, the same ones in all arms."""
        values, resampled = {}, {}
        for cell, run in runs.items():
            key = (cell.arm, cell.setting, cell.seed)
            values[key] = float(_accepted(run["scores"]).mean())
            resampled[key] = _resampled(run["scores"])
        rows, clean = [], dict[str, Replicates]()
        for arm, setting in self._places():
            seeds = [
                seed
                for seed in range(self.seeds)
                if (arm, setting, seed) in values and (AS_IS, setting, seed) in values
            ]
            if seeds:
                mine, controls = ([runs[Cell(name, setting, seed)] for seed in seeds] for name in (arm, AS_IS))
                draws, control_draws = (
                    np.mean([resampled[name, setting, seed] for seed in seeds], axis=0) for name in (arm, AS_IS)
                )
                if setting not in clean:
                    clean[setting] = _resampled(controls[0]["clean"])
                told = _row(mine, controls, draws, control_draws, clean[setting])
                rows.append({"arm": arm, "setting": setting, "seeds": len(seeds), **told})
        return Measurement(values, resampled, rows, len(next(iter(runs.values()))["scores"]))

    def _places(self) -> list[tuple[str, str]]:
        """Return every arm and setting at which it is run, by setting."""
        return [(cell.arm, cell.setting) for cell in self.protocol.cells() if cell.seed == 0]

    # What it takes

    @cached_property
    def _recognisers(self) -> tuple[Card, ...]:
        cards = [zoo.named(name, role="embedder") for name in self.embedders or (zoo.default("embedder"),)]
        if len({card.name for card in cards}) < len(cards):
            raise UsageError("Two recognisers have one name. Name each once, and run folders differently.")
        return tuple(cards)

    @cached_property
    def _settings(self) -> dict[str, tuple[str, int]]:
        """The condition and the number of the recogniser, by setting."""
        if len(self.embedders) < 2:
            return {condition: (condition, 0) for condition in self.conditions}
        return {
            f"{condition}, {card.name}": (condition, number)
            for condition in self.conditions
            for number, card in enumerate(self._recognisers)
        }

    @cached_property
    def _networks(self) -> _Networks:
        return _Networks(self._recognisers)

    @property
    def _finder(self) -> Finder | None:
        """What finds faces; None: the default."""
        return None


class _Networks:
    """What looks at faces, opened when it is first needed; one thread each, so that figures don't depend on it."""

    def __init__(self, recognisers: Sequence[Card]) -> None:
        self.embedders = [Embedder(card, threads=1) for card in recognisers]

    @cached_property
    def _reader(self) -> ExpressionReader:
        return ExpressionReader(zoo.card(zoo.default("expression")), threads=1)

    def expressions(self, faces: Sequence[Shown]) -> np.ndarray:
        """Return what each face shows, as text, shape (faces,)."""
        box = Box(0, 0, 1, 1)  # the reader aligns by landmarks
        return np.array([
            self._reader.read(face.image, [Detection(box, face.landmarks.astype(np.float32), 1.0)])[0].label
            for face in faces
        ])  # fmt: skip


def _described(embedder: Embedder, faces: Sequence[Shown]) -> Float32[np.ndarray, "faces dimension"]:
    """Return what the network alone sees of faces."""
    return embedder.describe(np.stack([embedder.crop(face.image, face.landmarks.astype(np.float32)) for face in faces]))


def _comparable(embedder: Embedder, plain: np.ndarray) -> Float32[np.ndarray, "faces dimension"]:
    return plain if embedder.cohort is None else embedder.cohort.normalise(plain)


def _read(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise UsageError(f"'{printable(file)}' is damaged. Delete it and run the study again.") from None


def _write(file: Path, arrays: Arrays) -> None:
    whole = io.BytesIO()
    np.savez(whole, allow_pickle=False, **arrays)
    write_whole(file, whole.getvalue(), parents=True)


def _too_few(pairs: int) -> str:
    return (
        f"A false match rate of {FMR:g} takes {1 / FMR:.0f} non-mated comparisons, which {FEWEST} mated pairs of "
        f"different subjects give; there are {pairs}. Name more pictures."
    )


# Figures --------------------------------------------------------------------------------------------------------------


def _others(scores: Scores) -> Float32[np.ndarray, " comparisons"]:
    return scores[~np.eye(len(scores), dtype=bool)]


def _accepted(scores: Scores, rate: float = FMR) -> Bool[np.ndarray, " pairs"]:
    """Return which mated pairs match, at the threshold of these non-mated comparisons."""
    return np.asarray(np.diag(scores) >= permissive_threshold(_others(scores), rate=rate))


def _rank1(scores: Scores) -> float:
    """Return the share of probes whose own reference scores higher than all others."""
    return float((mate_ranks(scores, np.arange(len(scores))) == 1).mean())


def _resampled(scores: Scores) -> Replicates:
    """Return the share of mated pairs that match where pairs are drawn anew, and the threshold found anew."""
    count, own = len(scores), np.diag(scores)
    probe, reference = np.nonzero(~np.eye(count, dtype=bool))
    others = scores[probe, reference]
    order = np.argsort(-others)
    most = min(int(_TOP * FMR * len(order)) + 1, len(order))
    found = []
    drawn = resampled_counts(count).astype(np.float64)
    for weights in np.split(drawn, range(_AT_ONCE, len(drawn), _AT_ONCE)):
        # A pair drawn twice makes no non-mated comparison with itself.
        limits = FMR * (count**2 - np.square(weights).sum(axis=1)) * (1 + 1e-12)
        for top in (order[:most], order):
            matched = np.cumsum(weights[:, probe[top]] * weights[:, reference[top]], axis=1)
            if (matched[:, -1] > limits).all():
                break
        refused = np.where(matched[:, -1] > limits, others[top][(matched > limits[:, None]).argmax(axis=1)], -np.inf)
        found.append(((own > refused[:, None]) * weights).sum(axis=1) / count)
    return np.concatenate(found)


def _row(
    mine: Sequence[Mapping[str, np.ndarray]],
    controls: Sequence[Mapping[str, np.ndarray]],
    draws: Replicates,
    control_draws: Replicates,
    clean_draws: Replicates,
) -> dict[str, Any]:
    """Return the figures of an arm at a setting: means over seeds; draws likewise."""
    before = [_accepted(run["scores"]) for run in controls]
    after = [_accepted(run["scores"]) for run in mine]
    clean = controls[0]["clean"]
    limit = permissive_threshold(_others(clean), rate=FMR)
    unspoilt = float(_accepted(clean).mean())
    lost = unspoilt - float(np.mean(before))
    gain = float(np.mean(after)) - float(np.mean(before))
    costs = clean_draws - control_draws
    won = (draws - control_draws) / np.where(costs > 0, costs, np.nan)
    impostors, impostors_before = (
        np.mean([_others(run["scores"]).mean() for run in some]) for some in (mine, controls)
    )
    strict = STRICT * len(_others(clean)) >= 1
    mean = {
        name: float(np.mean([run[name].mean() for run in mine]))
        for name in ("cosine", "psnr_db", "ssim", "expression_kept", "left_alone")
    }
    return {
        "value": float(np.mean(after)),
        "interval": percentile_interval(draws),
        "gain": gain,
        "gain_interval": percentile_interval(draws - control_draws),
        "tar_unspoilt": unspoilt,
        "won_back": gain / lost if lost > _LOST else None,
        "won_back_interval": percentile_interval(won) if lost > _LOST else None,
        "harmed": float(np.mean([(b & ~a).mean() for b, a in zip(before, after, strict=True)])),
        "eer": float(np.mean([eer(np.diag(run["scores"]), _others(run["scores"])) for run in mine])),
        "rank1": float(np.mean([_rank1(run["scores"]) for run in mine])),
        "tar_at_fmr_1e-3": float(np.mean([_accepted(run["scores"], STRICT).mean() for run in mine]))
        if strict
        else None,
        "cosine_to_clean": mean["cosine"],
        "cosine_5th_percentile": float(np.mean([np.percentile(run["cosine"], 5) for run in mine])),
        "impostor_mean": float(impostors),
        "impostor_drift": float(impostors - impostors_before),
        "fmr_at_clean_threshold": float(np.mean([(_others(run["scores"]) >= limit).mean() for run in mine])),
        **{name: mean[name] for name in ("psnr_db", "ssim", "expression_kept", "left_alone")},
    }
