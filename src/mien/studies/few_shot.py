"""Does simulated variation of few pictures make a better template? Searches among many people, strangers included.

References are simulated, probes are as they are: what is studied is what `mien enroll --simulate` could store. Whoever
has three pictures or more is enrolled and searched for, whoever has one is a stranger, whoever has two is left out.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Bool, Float, Float32, Int, UInt8

from mien.analyzer import Analyzer, main_face
from mien.errors import DataError, UsageError
from mien.files import write_whole
from mien.gallery.ingest import Wanted, wanted
from mien.gallery.migration import realigned
from mien.gallery.simulation import chosen, view
from mien.metrics.intervals import percentile_interval
from mien.studies.engine import Measurement
from mien.studies.protocol import REPLICATES, Arm, Cell, Comparison, Protocol
from mien.studies.within_person import Whitening, quality_slope, train_vae
from mien.types import as_unit
from mien.vision.cohort import pooled, subject_scorer
from mien.vision.generator import Generator

__all__ = ["ARMS", "FewShotStudy"]

Crop = UInt8[np.ndarray, "side side 3"]
Crops = UInt8[np.ndarray, "views side side 3"]
Make = Callable[[Crop, Sequence[int]], Crops]
Vectors = Float32[np.ndarray, "faces dimension"]
Views = Float32[np.ndarray, "faces views dimension"]

ALL_KINDS = (0, 1, 2, 3, 5, 6, 7, 9)
"""Views of all kinds: a mirror image, three warps, two degradations, two of other light."""

FEW = 4  # views of `mien.gallery.simulation.views`
_DRAWN = 8  # embeddings that a VAE, or chance, adds to the picture's own
_POOR = 2  # the number of the view that poor probes are
_GENERATOR, _GENERATED, _SPREAD = "face-gan-64", 2, 0.2  # the spread as of `Request.like`

ARMS = (
    Arm("plain", "the picture as it is", "what a gallery does today"),
    Arm("noise", "and embeddings at the distance of simulated views, in directions of chance", "negative control"),
    Arm("mirror", "and its mirror image: enroll --simulate 1", "the best classical one on half A"),
    Arm("mirror-warps", f"and {FEW} views, mirrored, turned, scaled and moved: enroll --simulate {FEW}", "classical"),
    Arm("all-kinds", f"and {len(ALL_KINDS)} views: mirrored, warped, degraded, lit otherwise", "classical"),
    Arm("generated", f"and {_GENERATED} faces that {_GENERATOR} makes around its latents"),
    Arm("vae", f"and {_DRAWN} embeddings of the same person, drawn by a conditional VAE of embeddings"),
    Arm("whitened", "mapped by the variation within people, linear", "linear control of the VAE"),
    Arm("quality", "with a bonus or malus by the quality of the reference"),
    Arm("mirror-whitened", "and its mirror image, then mapped by the variation within people", "the best learned one"),
)
_LEARNED = {"vae", "whitened", "quality", "mirror-whitened"}
BEST, CONTROL = "mirror-whitened", "mirror"
"""Chosen on half A, before half B was looked at (benchmarks/results/few_shot.json)."""

_POOR_PROBES = "1 reference, poor probes"
_MOST_STRANGERS = 5  # the best ones of each reference, from whom the worth of quality is learned


@dataclass(frozen=True)
class _Faces:
    """The main faces of a list of pictures: crops lie in a file of their own."""

    owner: Int[np.ndarray, " faces"]
    vectors: Vectors  # as the network alone gives them
    quality: Float[np.ndarray, " faces"]
    crops: Path


@dataclass(frozen=True)
class _Task:
    """Who is enrolled with which faces, and who is searched for with which."""

    references: Int[np.ndarray, "people references"]
    probes: Int[np.ndarray, " probes"]
    person: Int[np.ndarray, " probes"]  # row of `references`


@dataclass(frozen=True)
class FewShotStudy:
    """The study of templates from few pictures.

    Attributes:
        data: Folder with a folder a person, or CSV with the columns path and subject: who is searched for.
        learn: The same, of other people: what within-person variation is learned from. None leaves those arms out.
        among: The same: people who are enrolled, or strangers, and not searched for.
        seeds: Draws of references, and trainings of the VAE.
        references: Pictures of each person that are enrolled.
        poor: Also search with poor probes, at one reference.
        fpir: Share of strangers' searches that may name somebody.
        vae_steps: Batches that the VAE of embeddings learns from.
        arms: Which of `ARMS` to run.
        cache: Folder for embeddings and cut faces, for several studies.
    """

    data: Path
    learn: Path | None = None
    among: Path | None = None
    seeds: int = 5
    references: tuple[int, ...] = (1, 2, 3)
    poor: bool = False
    fpir: float = 0.01
    vae_steps: int = 400
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)
    cache: Path | None = None

    def __post_init__(self) -> None:
        if unknown := [name for name in self.arms if name not in {arm.name for arm in ARMS}]:
            raise UsageError(f"There is no arm '{unknown[0]}'. Choose from {', '.join(arm.name for arm in ARMS)}.")
        if not self.references or min(self.references) < 1 or self.seeds < 1 or not 0 < self.fpir < 1:
            raise UsageError("References and seeds are 1 or more, and an FPIR lies between 0 and 1.")
        if "plain" not in self.arms:
            raise UsageError("The arm 'plain' is what all others are measured by: add it.")

    @property
    def protocol(self) -> Protocol:
        """What is asked."""
        names = [name for name in self.arms if self.learn is not None or name not in _LEARNED]
        settings = tuple(f"{count} reference{'s' if count > 1 else ''}" for count in self.references)
        asked = ((BEST, "plain"), (BEST, CONTROL), (CONTROL, "plain"))
        return Protocol(
            "few-shot",
            "Is a person found more often where simulated variation of the enrolled picture goes into the template?",
            f"found at FPIR {100 * self.fpir:g} %",
            tuple(arm for arm in ARMS if arm.name in names),
            settings + ((_POOR_PROBES,) if self.poor else ()),
            self.seeds,
            tuple(Comparison(arm, other, settings[0]) for arm, other in asked if {arm, other} <= set(names)),
        )

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on."""
        facts = asdict(self)
        del facts["cache"]
        named = {name: getattr(self, name) for name in ("data", "learn", "among")}
        analyzer = self._analyzer
        return facts | {
            **{name: None if path is None else path.resolve().name for name, path in named.items()},
            "embedder": analyzer.card.id,
            "generator": _GENERATOR if "generated" in self.arms else None,
        }

    # One cell

    def run(self, cell: Cell, folder: Path) -> Mapping[str, np.ndarray]:
        """Enrol, search, and return each mated search's score and each stranger's best.

        Returns:
            ``own``: score of each search with the person's own template. ``first``: whether nobody else scored more.
            ``person``: who was searched for. ``best``: the highest score of each stranger.
        """
        torch.set_num_threads(1)  # the same sums whatever runs beside
        material = _Material(self, self.cache or folder)
        task, strangers = material.task(cell.seed, _count_of(cell.setting)), material.strangers
        templates, bonus = material.templates(cell, task.references)
        probes = material.probes(task.probes, poor=cell.setting == _POOR_PROBES)
        people, count, dimension = templates.shape
        scored = subject_scorer(templates.reshape(-1, dimension), count * np.arange(people))
        scores = scored(probes) + bonus
        own = scores[np.arange(len(probes)), task.person]
        return {
            "own": own,
            "first": own >= scores.max(axis=1) - 1e-7,
            "person": task.person,
            "best": (scored(strangers) + bonus).max(axis=1),
        }

    # What they amount to

    def measure(self, runs: Mapping[Cell, Mapping[str, np.ndarray]]) -> Measurement:
        """Return the share of searches that found their person, people and strangers drawn anew for the intervals."""
        values, resampled, rows = {}, {}, []
        for cell, run in runs.items():
            key = (cell.arm, cell.setting, cell.seed)
            values[key], resampled[key] = self._found(run)
        for setting in self.protocol.settings:
            for arm in self.protocol.arms:
                seeds = [cell.seed for cell in runs if (cell.arm, cell.setting) == (arm.name, setting)]
                both = [seed for seed in seeds if ("plain", setting, seed) in values]
                if both:
                    rows.append(self._row(arm.name, setting, both, values, resampled, runs))
        return Measurement(values, resampled, rows, sum(len(run["own"]) for run in _plain_once(runs)))

    def _found(self, run: Mapping[str, np.ndarray]) -> tuple[float, Float[np.ndarray, " replicates"]]:
        person, best = run["person"], run["best"]
        who, place = np.unique(person, return_inverse=True)
        score = np.where(run["first"], run["own"], -np.inf)
        threshold = np.sort(best)[::-1][int(self.fpir * len(best))]
        value = float((score > threshold).mean())
        rng = np.random.default_rng(0)
        people = rng.multinomial(len(who), np.full(len(who), 1 / len(who)), size=REPLICATES)
        strangers = rng.multinomial(len(best), np.full(len(best), 1 / len(best)), size=REPLICATES)
        order = np.argsort(-best)
        above = np.cumsum(strangers[:, order], axis=1) > int(self.fpir * len(best))
        thresholds = best[order][above.argmax(axis=1)]
        found = np.empty(REPLICATES)
        for part in np.array_split(np.arange(REPLICATES), 20):
            weight = people[part][:, place]
            found[part] = ((score > thresholds[part, None]) * weight).sum(axis=1) / weight.sum(axis=1)
        return value, found

    def _row(
        self,
        arm: str,
        setting: str,
        seeds: Sequence[int],
        values: Mapping[tuple[str, str, int], float],
        resampled: Mapping[tuple[str, str, int], np.ndarray],
        runs: Mapping[Cell, Mapping[str, np.ndarray]],
    ) -> dict[str, Any]:
        mine, plain = [(arm, setting, seed) for seed in seeds], [("plain", setting, seed) for seed in seeds]
        draws, plain_draws = (np.mean([resampled[key] for key in keys], axis=0) for keys in (mine, plain))
        missed, before = (1 - np.mean([values[key] for key in keys]) for keys in (mine, plain))
        here = [runs[Cell(*key)] for key in mine]
        there = [runs[Cell(*key)]["best"] for key in plain]
        passed = [
            (run["best"] > np.sort(best)[::-1][int(self.fpir * len(best))]).mean()
            for run, best in zip(here, there, strict=True)
        ]
        fewer = 1 - (1 - draws) / np.maximum(1 - plain_draws, 1e-9)
        return {
            "arm": arm,
            "setting": setting,
            "seeds": len(seeds),
            "value": float(1 - missed),
            "interval": percentile_interval(draws),
            "fnir": float(missed),
            "fewer_misses": float(1 - missed / before) if before else None,
            "fewer_misses_interval": percentile_interval(fewer),
            "rank1": float(np.mean([run["first"].mean() for run in here])),
            "fpir_at_plain_threshold": float(np.mean(passed)),
            "impostor_drift": float(np.mean([r["best"].mean() - b.mean() for r, b in zip(here, there, strict=True)])),
        }

    @cached_property
    def _analyzer(self) -> Analyzer:
        return Analyzer(expression=None, threads=1)


class _Material:
    """Embeddings of one study, computed when they are first needed and kept in files."""

    def __init__(self, study: FewShotStudy, folder: Path) -> None:
        self._study, self._folder = study, folder
        self._analyzer = study._analyzer
        cohort = self._analyzer.embedder.cohort
        self._comparable: Callable[[Vectors], Vectors] = as_unit if cohort is None else cohort.normalise
        folder.mkdir(parents=True, exist_ok=True)
        parts = [self._faces(path) for path in (study.data, study.among) if path is not None]
        self._parts = parts
        self._vectors = np.concatenate([part.vectors for part in parts])
        self._quality = np.concatenate([part.quality for part in parts])
        apart = 1 + max(int(part.owner.max()) for part in parts)
        self._owner = np.concatenate([part.owner + number * apart for number, part in enumerate(parts)])
        people, counts = np.unique(self._owner, return_counts=True)
        self._several, self._alone = people[counts > 2], people[counts == 1]
        self._searched = apart
        if len(self._several) < 2 or len(self._alone) < 1 / study.fpir:
            raise DataError(
                f"The study needs people with 3 pictures or more to search for, and {1 / study.fpir:.0f} with one who "
                f"are strangers; there are {len(self._several)} and {len(self._alone)}. Name more people with --among."
            )

    # People

    def task(self, seed: int, count: int) -> _Task:
        """Draw the references of everybody with more pictures than that; the rest are probes of those searched for."""
        rng = np.random.default_rng(seed)
        references: list[Int[np.ndarray, " references"]] = []
        probes: list[int] = []
        person: list[int] = []
        for one in self._several:
            mine = rng.permutation(np.nonzero(self._owner == one)[0])
            if len(mine) > count:
                if one < self._searched:
                    probes += mine[count:].tolist()
                    person += [len(references)] * (len(mine) - count)
                references.append(mine[:count])
        return _Task(np.array(references), np.array(probes), np.array(person))

    @property
    def strangers(self) -> Vectors:
        """Embeddings of people who are not enrolled."""
        return self._comparable(self._vectors[np.isin(self._owner, self._alone)])

    def probes(self, rows: Int[np.ndarray, " probes"], *, poor: bool) -> Vectors:
        """Return what is searched with."""
        return self._comparable(self._views([_POOR], rows)[:, 0] if poor else self._vectors[rows])

    # Arms

    def templates(
        self, cell: Cell, references: Int[np.ndarray, "people references"]
    ) -> tuple[Float32[np.ndarray, "people references dimension"], Float[np.ndarray, " people"]]:
        """Return the templates that an arm stores, and what it adds to each person's scores."""
        rows = references.ravel()
        raw = self._template_vectors(cell, rows)
        bonus = np.zeros(len(references))
        if cell.arm == "quality":
            bonus = self._slope() * _log_odds(self._quality[references]).mean(axis=1)
        return raw.reshape(*references.shape, -1), bonus

    def _template_vectors(self, cell: Cell, rows: Int[np.ndarray, " rows"]) -> Vectors:
        own, arm = self._vectors[rows], cell.arm
        if arm in ("plain", "quality"):
            return self._comparable(own)
        if arm == "whitened":
            return self._comparable(self._whitening()(own))
        if arm == "mirror-whitened":
            return self._comparable(self._whitening()(as_unit(own + self._views([0], rows)[:, 0])))
        if arm == "noise":
            others = self._by_chance(own, rows, cell.seed)
        elif arm == "vae":
            others = self._drawn(own, cell.seed)
        elif arm == "generated":
            others = self._generated(rows)
        else:
            numbers = {"mirror": chosen(1), "mirror-warps": chosen(FEW), "all-kinds": ALL_KINDS}[arm]
            others = self._views(numbers, rows)
        seen = np.concatenate([own[:, None], others], axis=1)
        stored = self._comparable(seen.reshape(-1, own.shape[1])).reshape(*seen.shape[:2], -1)
        return np.stack([pooled(one) for one in stored])

    def _by_chance(self, own: Vectors, rows: Int[np.ndarray, " rows"], seed: int) -> Views:
        """Return embeddings as far from the picture's own as its simulated views are, in directions of chance."""
        there = self._views(ALL_KINDS, rows)
        cosine = np.einsum("fvd,fd->fv", there, own)[..., None]
        rng = np.random.default_rng([seed, 7])
        away = rng.normal(size=there.shape)
        away -= np.einsum("fvd,fd->fv", away, own)[..., None] * own[:, None]
        away /= np.linalg.norm(away, axis=2, keepdims=True)
        return np.asarray(cosine * own[:, None] + np.sqrt(np.maximum(1 - cosine**2, 0)) * away, np.float32)

    def _drawn(self, own: Vectors, seed: int) -> Views:
        known = self._known()
        return train_vae(known.vectors, known.owner, seed, steps=self._study.vae_steps).draw(own, _DRAWN, seed)

    def _whitening(self) -> Whitening:
        known = self._known()
        return Whitening.fit(known.vectors, known.owner)

    def _slope(self) -> float:
        """Learn what the quality of a reference is worth: its other pictures against its nearest strangers."""
        known = self._known()
        people, first = np.unique(known.owner, return_index=True)
        compared = self._comparable(known.vectors)
        other = np.setdiff1d(np.arange(len(known.owner)), first)
        mate = first[np.searchsorted(people, known.owner[other])]
        near = compared[first] @ compared[first].T
        np.fill_diagonal(near, -1)
        strange = np.sort(near, axis=0)[-_MOST_STRANGERS:].T  # by reference
        quality = _log_odds(known.quality)
        scores = np.concatenate([(compared[other] * compared[mate]).sum(axis=1), strange.ravel()])
        of_reference = np.concatenate([quality[mate], np.repeat(quality[first], strange.shape[1])])
        return quality_slope(scores, of_reference, np.r_[np.ones(len(other), int), np.zeros(strange.size, int)])

    def _known(self) -> _Faces:
        assert self._study.learn is not None, "arms that learn are left out where there is nothing to learn from"
        return self._faces(self._study.learn)

    # Embeddings

    def _faces(self, listed: Path) -> _Faces:
        """Find, judge and embed the main face of each picture of a list; pictures without one are left out."""
        pictures = _pictures(listed)
        name = _digest([f"{one.path.name} {one.subject}" for one in pictures])
        file, crops = self._folder / f"faces-{name}.npz", self._folder / f"crops-{name}.npy"
        with FileLock(file.with_suffix(".lock")):
            if not file.is_file():
                self._find(pictures, file, crops)
        with np.load(file, allow_pickle=False) as kept:
            return _Faces(kept["owner"], kept["vectors"], kept["quality"], crops)

    def _find(self, pictures: Sequence[Wanted], file: Path, crops: Path) -> None:
        number = {subject: place for place, subject in enumerate(sorted({one.subject for one in pictures}))}
        found: list[tuple[int, float, Crop]] = []
        read = self._analyzer.pictures([one.path for one in pictures], embed=False, crops=True)
        for one, picture in zip(pictures, read, strict=True):
            face = main_face(picture.faces, picture.width, picture.height)
            if face is not None and face.crop is not None:
                found.append((number[one.subject], 0.0 if face.quality is None else face.quality.score, face.crop))
        if not found:
            raise DataError("None of the pictures shows a face.")
        cut = np.stack([crop for *_, crop in found])
        owner, quality = np.array([one[0] for one in found]), np.array([one[1] for one in found])
        _write(crops, lambda packed: np.save(packed, cut, allow_pickle=False))
        vectors = self._analyzer.embedder.describe(cut)
        _write(file, lambda packed: np.savez(packed, owner=owner, quality=quality, vectors=vectors))

    def _needed(self) -> Bool[np.ndarray, " faces"]:
        """Return which faces are ever a reference."""
        needed = np.zeros(len(self._owner), bool)
        for seed in range(self._study.seeds):
            for count in self._study.references:
                needed[self.task(seed, count).references] = True
        return needed

    def _views(self, numbers: Sequence[int], rows: Int[np.ndarray, " rows"]) -> Views:
        """Return embeddings of simulated views of these faces, by the numbers of the views."""
        places = [ALL_KINDS.index(number) for number in numbers]

        def seen(crop: Crop, places: Sequence[int]) -> Crops:
            return np.stack([view(crop, ALL_KINDS[place]) for place in places])

        return self._made("views", seen, places, len(ALL_KINDS), rows)

    def _generated(self, rows: Int[np.ndarray, " rows"]) -> Views:
        """Return embeddings of faces that a generator makes around the latents of each face."""
        generator, embedder = Generator(_GENERATOR, threads=1), self._analyzer.embedder
        here, there = embedder.convention.template, generator.convention.template
        noise = _SPREAD * np.random.default_rng(0).normal(size=(_GENERATED, generator.latents)).astype(np.float32)

        def around(crop: Crop, places: Sequence[int]) -> Crops:
            seen = realigned(crop[None], template=here, to_template=there, to_side=generator.side)
            faces = generator.decode(generator.encode(seen) + noise[list(places)])
            return realigned(faces, template=there, to_template=here, to_side=crop.shape[0])

        return self._made("generated", around, range(_GENERATED), _GENERATED, rows)

    def _made(self, kind: str, make: Make, places: Sequence[int], count: int, rows: Int[np.ndarray, " rows"]) -> Views:
        """Return embeddings of what is made of faces; all that are ever references are made at once, and kept."""
        needed = self._needed()
        needed[rows] = True
        found, done = [], 0
        for part in self._parts:
            mine = needed[done : done + len(part.owner)]
            done += len(part.owner)
            found.append(self._made_of(part, np.nonzero(mine)[0], kind, make, places, count))
        return np.asarray(np.concatenate(found)[rows][:, places])

    def _made_of(
        self, part: _Faces, rows: Int[np.ndarray, " rows"], kind: str, make: Make, places: Sequence[int], count: int
    ) -> Views:
        file = part.crops.with_name(part.crops.name.replace("crops-", f"{kind}-")).with_suffix(".npz")
        with FileLock(file.with_suffix(".lock")):
            vectors = np.full((len(part.owner), count, part.vectors.shape[1]), np.nan, np.float32)
            if file.is_file():
                with np.load(file, allow_pickle=False) as kept:
                    vectors = kept["vectors"]
            missing = np.isnan(vectors[:, :, 0])
            crops = np.load(part.crops, mmap_mode="r", allow_pickle=False)
            begun = False
            for row in rows.tolist():
                lacking = [place for place in places if missing[row, place]]
                if lacking:
                    made = make(np.asarray(crops[row]), lacking)
                    vectors[row, lacking] = self._analyzer.embedder.describe(made)
                    begun = True
            if begun:
                _write(file, lambda packed: np.savez(packed, vectors=vectors))
        return vectors


def _plain_once(runs: Mapping[Cell, Mapping[str, np.ndarray]]) -> list[Mapping[str, np.ndarray]]:
    """Return the runs of the first arm's first seed, one a setting."""
    return [run for cell, run in runs.items() if cell.arm == "plain" and cell.seed == 0]


def _count_of(setting: str) -> int:
    return int(setting.split()[0])


def _log_odds(quality: Float[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    kept = np.clip(quality, 0.01, 0.99)
    return np.asarray(np.log(kept / (1 - kept)))


def _pictures(listed: Path) -> list[Wanted]:
    """Return the pictures of a folder of people, or of a CSV, and whose they are."""
    wish = wanted([], table=listed) if listed.is_file() else wanted([os.fspath(listed)])
    return sorted(wish.pictures, key=lambda one: (one.subject, os.fspath(one.path)))


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _write(file: Path, save: Callable[[io.BytesIO], None]) -> None:
    packed = io.BytesIO()
    save(packed)
    write_whole(file, packed.getvalue())
