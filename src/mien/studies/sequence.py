"""Does the order of frames tell anything about an expression? Arms that see it, arms that don't, and two renderers.

Clips are rendered from stills (`mien.studies.motion`), and each is also shown backwards, as a clip with another label:
only who looks at the order of frames can tell the two apart. Networks learn from clips of one renderer and of some of
the subjects, and are tested on clips of the other renderer and of the other subjects.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float32, Int
from torch.nn import functional

from mien.data.crops import cut_crops
from mien.data.samples import read_samples
from mien.errors import DataError, UsageError
from mien.files import write_whole
from mien.networks.sequence import SequenceNet, SequenceNetConfig
from mien.studies.motion import NEUTRAL, LatentPaths, Motion, Pair, Renderer, Still, Warps, mean_shapes, render
from mien.studies.protocol import Arm, Cell, Comparison, Protocol
from mien.training.schedule import warmup_cosine
from mien.types import EXPRESSIONS
from mien.vision.attributes import MeshReader
from mien.vision.generator import Generator
from mien.vision.sequence import FEATURES, FrameFeatures, whole_crop

__all__ = ["ARMS", "TASKS", "SequenceStudy"]

Features = Float32[np.ndarray, "clips frames features"]
Labels = Int[np.ndarray, " clips"]

ARMS = (
    Arm("last", "the last frame alone"),
    Arm("best", "the frame of which a network that looks at each alone is surest"),
    Arm("mean", "each frame alone, answers averaged"),
    Arm("attention", "each frame alone, weighed by attention", "has no order"),
    Arm("difference", "the last frame less the first one, nothing between"),
    Arm("gru", "a GRU over frames and their differences, then attention"),
    Arm("gru-shuffled", "the same network, frames shuffled when it is tested", "order taken away"),
    Arm("gru-reversed", "the same network, frames backwards when it is tested", "order turned round"),
    Arm("gru-trained-shuffled", "a GRU that learned from shuffled frames, and is tested on such", "never had order"),
)
_TESTED = {"best": "mean", "gru-shuffled": "gru", "gru-reversed": "gru"}  # arm: whose network it tests
_PLAIN = SequenceNetConfig(order="none", pool="mean", differences=False)
_NETS = {
    "last": replace(_PLAIN, pool="last"),
    "mean": _PLAIN,
    "attention": replace(_PLAIN, pool="attention"),
    "difference": replace(_PLAIN, pool="last"),
    "gru": SequenceNetConfig(),
    "gru-trained-shuffled": SequenceNetConfig(),
}

TASKS = {
    "onset": "Does a face begin to show an expression, or cease to?",
    "first": "Which of two expressions of a subject came first?",
    "stills": "Which expression do the last three frames of a real clip show?",
}
_RENDERERS = ("latent", "warp")
_BATCH, _RATE, _DECAY = 64, 3e-3, 0.05
_FEWEST = 4  # subjects: two to learn from and two to test on


@dataclass(frozen=True)
class SequenceStudy:
    """The study of order in clips of faces.

    Attributes:
        data: Pictures with expressions and subjects; the last one of a subject and expression is its still.
        task: One of `TASKS`.
        features: What networks are shown of each frame, one of `mien.vision.sequence.FEATURES`.
        seeds: Networks an arm and setting.
        clips: Of each pair of faces and renderer; each is also shown backwards.
        images: Clips that each network sees, repeats included.
        folds: Parts of the subjects; each is tested by networks that learned from the others.
        motion: How clips move.
        arms: Which of `ARMS` to run.
        generator: VAE of the latent paths.
        cache: Folder for the faces that are cut out.
    """

    data: tuple[Path, ...]
    task: Literal["onset", "first", "stills"] = "onset"
    features: tuple[str, ...] = ("vae",)
    seeds: int = 5
    clips: int = 2
    images: int = 25_600
    folds: int = 2
    motion: Motion = field(default_factory=Motion)
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)
    generator: str = "expression-vae-48"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UsageError(f"There is no task '{self.task}'. Choose from {', '.join(TASKS)}.")
        if unknown := [name for name in self.arms if name not in {arm.name for arm in ARMS}]:
            raise UsageError(f"There is no arm '{unknown[0]}'. Choose from {', '.join(arm.name for arm in ARMS)}.")
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise UsageError(f"There are no features '{unknown[0]}'. Choose from {', '.join(FEATURES)}.")
        if not self.features or min(self.seeds, self.clips, self.images) < 1 or self.folds < 2:
            raise UsageError("Seeds, clips and images are 1 or more, folds 2 or more, and features at least one kind.")

    @property
    def protocol(self) -> Protocol:
        """What is asked."""
        if self.task == "stills":
            asked = [Comparison("gru", "last", setting, wanted=-0.01) for setting in self._settings]
            asked += [Comparison("mean", "last", setting, wanted=-0.01) for setting in self._settings]
        else:
            asked = [Comparison("gru", "gru-shuffled", setting, wanted=0.1) for setting in self._settings]
            asked += [Comparison("gru", "difference", setting, wanted=0.01) for setting in self._settings]
        return Protocol(
            f"sequence-{self.task}",
            TASKS[self.task],
            "accuracy",
            tuple(arm for arm in ARMS if arm.name in self.arms),
            self._settings,
            self.seeds,
            tuple(one for one in asked if {one.arm, one.against} <= set(self.arms)),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """What labels mean."""
        return ("onset", "offset") if self.task == "onset" else EXPRESSIONS

    @property
    def _settings(self) -> tuple[str, ...]:
        if self.task == "stills":
            return self.features
        ways = [f"{one}-to-{other}" for one, other in itertools.permutations(_RENDERERS)]
        return tuple(way if kind == "vae" else f"{way}-{kind}" for kind in self.features for way in ways)

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on."""
        facts = asdict(self)
        del facts["cache"]
        return facts | {"data": [source.resolve().name for source in self.data]}

    def run(self, cell: Cell, folder: Path) -> tuple[Int[np.ndarray, " clips"], ...]:
        """Train and test the networks of one arm; return labels, answers, and the number of each clip's subject."""
        torch.set_num_threads(1)  # the same sums whatever runs beside
        folder.mkdir(parents=True, exist_ok=True)
        kind = next((kind for kind in self.features if cell.setting.endswith(kind)), self.features[0])
        with FileLock(folder / "lock"):
            material = self._material(kind, folder)
        if self.task == "stills":
            learned = tested = material["clips"]
        else:
            one, other = _RENDERERS if cell.setting.startswith(_RENDERERS[0]) else _RENDERERS[::-1]
            learned, tested = material[one], material[other]
        parts = _dealt(tested.subjects, self.folds)
        answers = np.full(len(tested.labels), -1)
        for fold in range(self.folds):
            inside = np.flatnonzero(parts[tested.subjects] == fold)
            others = np.flatnonzero(parts[learned.subjects] != fold)
            answers[inside] = self._answers(cell, learned.take(others), tested.take(inside), fold, folder)
        return tested.labels, answers, tested.subjects

    # Clips ------------------------------------------------------------------------------------------------------------

    def _material(self, kind: str, folder: Path) -> dict[str, _Clips]:
        """Return the features of all clips, by renderer; made once for all cells."""
        file = folder / f"{kind}.npz"
        if not file.is_file():
            made = self._read_clips(kind) if self.task == "stills" else self._render_clips(kind)
            packed = io.BytesIO()
            np.savez_compressed(
                packed, **{f"{name}.{key}": value for name, one in made.items() for key, value in vars(one).items()}
            )
            write_whole(file, packed.getvalue())
        with np.load(file, allow_pickle=False) as arrays:
            names = dict.fromkeys(key.split(".")[0] for key in arrays.files)
            return {
                name: _Clips(arrays[f"{name}.features"], arrays[f"{name}.labels"], arrays[f"{name}.subjects"])
                for name in names
            }

    def _render_clips(self, kind: str) -> dict[str, _Clips]:
        stills = self._stills()
        pairs = _pairs(stills, between=self.task == "first")
        subjects = sorted({pair.b.subject for pair in pairs})
        if len(subjects) < _FEWEST:
            raise DataError(
                f"Clips can be rendered of {len(subjects)} subjects, fewer than {_FEWEST}: each needs a still with an "
                f"expression{' and another one' if self.task == 'first' else ''}. Add data with subjects."
            )
        motion = replace(self.motion, least=max(self.motion.least, 0.8)) if self.task == "first" else self.motion
        reader = self._reader(kind)
        clips = {}
        for place, (name, renderer) in enumerate(self._renderers(stills).items()):
            parts = []
            for number, pair in enumerate(pairs):
                way = renderer.between(pair)
                labels = (0, 1) if self.task == "onset" else tuple(EXPRESSIONS.index(label) for label in pair.labels)
                for clip in range(self.clips):
                    frames, _ = render(way, motion, np.random.default_rng([place, number, clip]))
                    read = reader.of(list(frames), [whole_crop(frames.shape[1])] * len(frames))
                    parts += [(read, labels[0], pair.b.subject), (read[::-1], labels[1], pair.b.subject)]
            clips[name] = _gathered(parts, subjects)
        return clips

    def _reader(self, kind: str) -> FrameFeatures:
        return FrameFeatures(kind, threads=1)

    def _renderers(self, stills: Sequence[Still]) -> dict[str, Renderer]:
        """Return the two renderers."""
        meshes = MeshReader(threads=1)
        return {
            "latent": LatentPaths(Generator(self.generator, threads=1)),
            "warp": Warps(mean_shapes(stills, meshes), meshes),
        }

    def _stills(self) -> list[Still]:
        """Return the last face of each subject and expression."""
        return [faces[-1] for faces in self._by_subject().values()]

    def _by_subject(self) -> dict[tuple[str, str], list[Still]]:
        found: dict[tuple[str, str], list[Still]] = {}
        for source in self.data:
            samples = read_samples(source)
            target = samples.targets.get("expression")
            if target is None or samples.subjects is None:
                raise DataError(
                    f"'{source.name}' says no subjects or no expressions. Name data in CK+'s layout, or a list with "
                    f"path, label and subject."
                )
            crops = cut_crops(samples, cache=self.cache, threads=1)
            for index in sorted(range(len(samples)), key=lambda index: samples.names[index]):
                label, subject = int(target.labels[index]), str(samples.subjects[index])
                if label >= 0 and subject and crops.readable[index]:
                    still = Still(np.repeat(crops.faces[index][..., None], 3, axis=2), target.classes[label], subject)
                    found.setdefault((subject, still.label), []).append(still)
        return found

    def _read_clips(self, kind: str) -> dict[str, _Clips]:
        """Return real clips: what there is of a subject and expression, in order, three frames of each."""
        reader = self._reader(kind)
        parts = []
        for (subject, label), faces in self._by_subject().items():
            for start in range(0, len(faces) - 2, 3):
                images = [still.face for still in faces[start : start + 3]]
                read = reader.of(images, [whole_crop(images[0].shape[0])] * 3)
                parts.append((read, EXPRESSIONS.index(label), subject))
        return {"clips": _gathered(parts, sorted({subject for _, _, subject in parts}))}

    # Networks ---------------------------------------------------------------------------------------------------------

    def _answers(self, cell: Cell, learned: _Clips, tested: _Clips, fold: int, folder: Path) -> Labels:
        """Return what an arm says of the clips of a fold; a network that several arms test is trained once."""
        trained = _TESTED.get(cell.arm, cell.arm)
        file = folder / f"{cell.setting}-{trained}-{cell.seed}-{fold}.npz"
        if not file.is_file():
            network = self._trained(trained, learned, cell.seed)
            answers: dict[str, Any] = {
                arm: _told(network, arm, tested, cell.seed)
                for arm in (trained, *(arm for arm, whose in _TESTED.items() if whose == trained))
            }
            packed = io.BytesIO()
            np.savez_compressed(packed, **answers)
            write_whole(file, packed.getvalue())
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays[cell.arm])

    def _trained(self, arm: str, clips: _Clips, seed: int) -> SequenceNet:
        torch.manual_seed(seed)
        shown = _view(arm, clips.features, seed)
        network = SequenceNet(_NETS[arm], features=shown.shape[2], classes=len(self.classes))
        network.standardise(torch.from_numpy(shown.reshape(-1, shown.shape[2])))
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        for seen in range(0, self.images, _BATCH):
            rng = np.random.default_rng([seed, seen])
            chosen = rng.integers(len(shown), size=_BATCH)
            batch = clips.features[chosen]
            batch = _view(arm, batch, seed * self.images + seen)
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(seen, self.images, self.images // 20, _RATE)
            logits, _ = network(torch.from_numpy(np.ascontiguousarray(batch)))
            loss = functional.cross_entropy(logits, torch.from_numpy(clips.labels[chosen]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return network.eval()


@dataclass(frozen=True, eq=False)
class _Clips:
    features: Features
    labels: Labels
    subjects: Int[np.ndarray, " clips"]

    def take(self, chosen: Int[np.ndarray, " taken"]) -> _Clips:
        return _Clips(self.features[chosen], self.labels[chosen], self.subjects[chosen])


def _gathered(parts: Sequence[tuple[np.ndarray, int, str]], subjects: Sequence[str]) -> _Clips:
    if not parts:
        raise DataError(
            "No clip can be made of these pictures. Expected subjects with a neutral face and an expression, or, for "
            "--task stills, three frames of each."
        )
    numbers = {name: number for number, name in enumerate(subjects)}
    features, labels, whose = zip(*parts, strict=True)
    return _Clips(np.stack(features), np.array(labels, np.int64), np.array([numbers[one] for one in whose], np.int64))


def _pairs(stills: Sequence[Still], *, between: bool) -> list[Pair]:
    """Return the motions that stills allow: from neutral to each expression, or between two expressions."""
    whose: dict[str, dict[str, Still]] = {}
    for still in stills:
        whose.setdefault(still.subject, {})[still.label] = still
    pairs = []
    for _, shown in sorted(whose.items()):
        others = [shown[label] for label in EXPRESSIONS if label in shown and label != NEUTRAL]
        if between:
            pairs += [Pair(a, b) for a, b in itertools.combinations(others, 2)]
        else:
            pairs += [Pair(shown.get(NEUTRAL), one) for one in others]
    return pairs


def _dealt(subjects: Int[np.ndarray, " clips"], folds: int) -> Int[np.ndarray, " subjects"]:
    """Return the fold of each subject, the same in all cells."""
    if (people := int(subjects.max()) + 1) < folds:
        raise DataError(f"There are {people} subjects for {folds} folds, of which each needs one. Take fewer --folds.")
    return np.random.default_rng(0).permutation(int(subjects.max()) + 1) % folds


def _view(arm: str, features: Features, seed: int) -> Features:
    """Return what an arm's network is shown."""
    if arm == "difference":
        return np.asarray(features[:, -1:] - features[:, :1])
    if arm in ("gru-shuffled", "gru-trained-shuffled"):
        order = np.random.default_rng(seed).random(features.shape[:2]).argsort(axis=1)
        return np.take_along_axis(features, order[:, :, None], axis=1)
    return features[:, ::-1] if arm == "gru-reversed" else features


def _told(network: SequenceNet, arm: str, clips: _Clips, seed: int) -> Labels:
    shown = np.ascontiguousarray(_view(arm, clips.features, seed))
    with torch.no_grad():
        if arm == "best":  # each frame is a clip of its own
            count, frames, width = shown.shape
            logits, _ = network(torch.from_numpy(shown.reshape(-1, 1, width)))
            shares = logits.softmax(dim=1).reshape(count, frames, -1)
            surest = shares.amax(dim=2).argmax(dim=1)
            return np.asarray(shares[torch.arange(count), surest].argmax(dim=1).numpy())
        logits, _ = network(torch.from_numpy(shown))
    return np.asarray(logits.argmax(dim=1).numpy())
