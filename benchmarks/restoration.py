"""Does restoring a spoilt face help to recognise it? Ours against classical methods, by two recognisers, on LFW.

The probe of each mated pair is spoilt, its reference is not; every probe is also compared with everybody else's
reference. Thresholds are set for each arm on its own non-mated comparisons. Faces are cut by the landmarks of the
unspoilt picture, so that finding them plays no part. With --choose the weight and the gate are chosen, on CelebA's
held-out subjects.

    MIEN_DATA=... python benchmarks/restoration.py --model runs/restorer [--choose]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, write_result

import mien.zoo
from mien.analyzer import Analyzer, central_face
from mien.data.degradation import add_noise, blur, compress, shrink
from mien.data.pictures import read_pictures
from mien.evaluation import read_pairs
from mien.images import load_image
from mien.metrics.intervals import wilson
from mien.metrics.verification import permissive_threshold
from mien.types import as_unit
from mien.vision.detector import Detection
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.restorer import Restorer

FMR, STRICT, SEED, REPLICATES = 1e-2, 1e-3, 0, 2000
RECOGNISERS = ("sface", "dlib-resnet29")
JUDGE_OF_ALL = RECOGNISERS[0]  # the other one, slower, judges the arms that matter
SHORT = ("as is", "unsharp", "ours", "ours, gated")


@dataclass(frozen=True)
class Shown:
    """A face somewhere: a picture, its landmarks, and what covers it."""

    image: np.ndarray
    marks: np.ndarray
    covered: np.ndarray | None = None


@dataclass(frozen=True)
class Pair:
    """Two pictures of one subject."""

    subject: str
    probe: Shown
    reference: Shown


def small(shown: Shown, factor: float, noise: float, rng: np.random.Generator) -> Shown:
    """Return a picture so many times smaller, with noise."""
    image = shrink(shown.image, 1 / factor)
    return Shown(add_noise(image, noise, rng), (shown.marks + 0.5) * (len(image) / len(shown.image)) - 0.5)


def blocked(shown: Shown, share: float, rng: np.random.Generator) -> Shown:
    """Return a face with a grey block over a share of the square from brows to chin."""
    eyes = float(np.hypot(*(shown.marks[1] - shown.marks[0])))
    middle, side = shown.marks.mean(axis=0), 2.2 * eyes
    size = np.sqrt(share) * side
    corner = middle - side / 2 + rng.uniform(0, side - size, 2)
    (left, top), (right, bottom) = (np.rint(x).astype(int).clip(0) for x in (corner, corner + size))
    image, covered = shown.image.copy(), np.zeros(shown.image.shape[:2], dtype=bool)
    covered[top:bottom, left:right] = True
    image[covered] = rng.integers(0, 256, 3)
    return Shown(image, shown.marks, covered)


SPOILT: dict[str, Callable[[Shown, np.random.Generator], Shown]] = {
    "clean": lambda shown, rng: shown,
    "3 times smaller, noise 8": lambda shown, rng: small(shown, 3, 8, rng),
    "4 times smaller, noise 8": lambda shown, rng: small(shown, 4, 8, rng),
    "blurred": lambda shown, rng: Shown(blur(shown.image, 0.1 * np.ptp(shown.marks[:2, 0])), shown.marks),
    "noise 40": lambda shown, rng: Shown(add_noise(shown.image, 40, rng), shown.marks),
    "JPEG of quality 5": lambda shown, rng: Shown(compress(shown.image, 5), shown.marks),
    "30 % covered": lambda shown, rng: blocked(shown, 0.3, rng),
}


def arms(model: Path | None, condition: str) -> dict[str, Restorer | None]:
    """Return what is compared; None takes the picture as it is."""
    found: dict[str, Restorer | None] = {
        "as is": None,
        "bicubic": Restorer(method="unsharp", weight=0.0),
        "unsharp": Restorer(method="unsharp"),
        "clahe": Restorer(method="clahe"),
        "denoise": Restorer(method="denoise"),
    }
    if condition == "30 % covered":
        found |= {"telea": Restorer(method="telea"), "vae": Restorer(method="vae")}
    if model is not None:
        found |= {"ours, whole": Restorer(model, weight=1.0, gate=0.0), "ours": Restorer(model, gate=0.0)}
        found["ours, gated"] = Restorer(model)
    return found


def treated(restorer: Restorer | None, shown: Shown) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the picture to cut a face from, its landmarks there, and whether it was left alone."""
    if restorer is None:
        return shown.image, shown.marks, True
    if shown.covered is not None and restorer.method in ("network", "telea", "vae"):
        done = restorer.restore_picture(shown.image, [shown.marks], covered=shown.covered)
        return done.image, shown.marks, False
    image, marks, face = restorer.prepared(shown.image, shown.marks)
    return image, marks, face.left_alone


def lfw_pairs(count: int) -> list[Pair]:
    """Return mated pairs of LFW, no subject twice."""
    folder = data_folder() / "lfw_pairs"
    pairs = read_pairs(folder / "pairs.txt", images=folder)
    mated = zip(pairs.first[pairs.same], pairs.second[pairs.same], strict=True)
    return _found([(Path(str(pairs.sources[a])), Path(str(pairs.sources[b]))) for a, b in mated], count)


def celeba_pairs(count: int) -> list[Pair]:
    """Return mated pairs of CelebA's subjects whom the restorer has not seen."""
    held = read_pictures(
        data_folder() / "celeba_identities", template="loose-120", side=16, colour=True, splits=("test",),
        keep_without_face=True, detector=_Nowhere(),
    )  # fmt: skip
    by_subject: dict[str, list[Path]] = {}
    for name in held.names:
        path = Path(*Path(name).parts[1:])
        by_subject.setdefault(path.parent.name, []).append(data_folder() / "celeba_identities" / path)
    return _found([(paths[0], paths[1]) for paths in by_subject.values() if len(paths) > 1], count)


class _Nowhere:
    def detect(self, image: np.ndarray) -> list[Detection]:
        return []


def _found(names: list[tuple[Path, Path]], count: int) -> list[Pair]:
    analyzer, pairs, seen = Analyzer(expression=None), list[Pair](), set[str]()
    for place in np.random.default_rng(SEED).permutation(len(names)):
        first, second = names[place]
        if first.parent.name in seen:
            continue
        both = []
        for path in (first, second):
            image = load_image(path)
            face = central_face(analyzer.analyze(image, embed=False), image.shape[1], image.shape[0])
            if face is not None:
                both.append(Shown(image, np.asarray(face.landmarks)))
        if len(both) == 2:
            seen.add(first.parent.name)
            pairs.append(Pair(first.parent.name, *both))
        if len(pairs) == count:
            break
    return pairs


def embed(embedder: Embedder, faces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors to compare, and those of the network alone."""
    plain = embedder.describe(np.stack([embedder.crop(image, marks.astype(np.float32)) for image, marks in faces]))
    return (plain if embedder.cohort is None else embedder.cohort.normalise(plain)), plain


@dataclass
class Measured:
    """What one recogniser said of one arm."""

    genuine: np.ndarray
    accepted: np.ndarray
    accepted_strictly: np.ndarray
    impostor: float
    cosine: np.ndarray
    fmr_before: float


def judge(vectors: np.ndarray, plain: np.ndarray, references: np.ndarray, clean: np.ndarray, limit: float) -> Measured:
    """Compare probes with all references."""
    scores = vectors @ references.T
    genuine, others = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
    threshold = permissive_threshold(others, rate=FMR)
    return Measured(
        genuine,
        genuine >= threshold,
        genuine >= permissive_threshold(others, rate=STRICT),
        float(others.mean()),
        (plain * as_unit(clean)).sum(axis=1),
        float((others >= limit).mean()),
    )


def rows_of(measured: dict[str, Measured], clean: np.ndarray, alone: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Return a row an arm; ``clean`` are the pairs accepted where nothing was spoilt."""
    as_is = measured["as is"].accepted
    draws = np.random.default_rng(SEED).integers(len(as_is), size=(REPLICATES, len(as_is)))
    lost = clean.mean() - as_is.mean()
    for arm, found in measured.items():
        gain = found.accepted.mean(dtype=float) - as_is.mean()
        gains = found.accepted[draws].mean(axis=1) - as_is[draws].mean(axis=1)
        losses = clean[draws].mean(axis=1) - as_is[draws].mean(axis=1)
        shares = gains / np.where(losses > 0, losses, np.nan)
        row: dict[str, Any] = {
            "arm": arm,
            "tar": float(found.accepted.mean()),
            "tar_interval": wilson(float((~found.accepted).sum()), len(as_is)),
            "gain": float(gain),
            "gain_interval": np.percentile(gains, [2.5, 97.5]).tolist(),
            "harmed": float((as_is & ~found.accepted).mean()),
            "cosine_to_clean": float(found.cosine.mean()),
            "cosine_5th_percentile": float(np.percentile(found.cosine, 5)),
            "impostor_mean": found.impostor,
            "fmr_at_threshold_for_clean": found.fmr_before,
            "left_alone": alone.get(arm, 0.0),
        }
        row["tar_interval"] = [1 - row["tar_interval"][1], 1 - row["tar_interval"][0]]
        before, after = measured["as is"].accepted_strictly, found.accepted_strictly
        strictly = after[draws].mean(axis=1) - before[draws].mean(axis=1)
        row["strictly"] = {
            "fmr": STRICT, "tar": float(after.mean()), "gain": float(after.mean() - before.mean()),
            "gain_interval": np.percentile(strictly, [2.5, 97.5]).tolist(),
        }  # fmt: skip
        if lost > 0.02:
            row["won_back"] = float(gain / lost)
            row["won_back_interval"] = np.nanpercentile(shares, [2.5, 97.5]).tolist()
        yield row


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of two crops, dB, at most 60."""
    error = float(np.square(a.astype(float) - b).mean())
    return float(10 * np.log10(255**2 / max(error, 0.065)))


def study(pairs: list[Pair], model: Path | None, conditions: list[str], recognisers: list[str]) -> dict[str, Any]:
    """Measure all arms under all conditions."""
    embedders = {name: Embedder(mien.zoo.card(name)) for name in recognisers}
    reader = ExpressionReader(mien.zoo.card(mien.zoo.default("expression")))
    views = Restorer(method="unsharp")
    references = {
        name: embed(embedder, [(pair.reference.image, pair.reference.marks) for pair in pairs])[0]
        for name, embedder in embedders.items()
    }
    clean = {
        name: embed(embedder, [(p.probe.image, p.probe.marks) for p in pairs]) for name, embedder in embedders.items()
    }
    limits, accepted = {}, {}
    for name in recognisers:
        scores = clean[name][0] @ references[name].T
        limits[name] = permissive_threshold(scores[~np.eye(len(pairs), dtype=bool)], rate=FMR)
        accepted[name] = np.diag(scores) >= limits[name]
    labels = [_label(reader, pair.probe.image, pair.probe.marks) for pair in pairs]
    report: dict[str, Any] = {"pairs": len(pairs), "tar_clean": {k: float(v.mean()) for k, v in accepted.items()}}
    for condition in conditions:
        spoilt = [SPOILT[condition](pair.probe, np.random.default_rng((SEED, i))) for i, pair in enumerate(pairs)]
        measured: dict[str, dict[str, Measured]] = {name: {} for name in recognisers}
        alone, pictures = {}, {}
        for arm, restorer in arms(model, condition).items():
            done = [treated(restorer, shown) for shown in spoilt]
            faces = [(image, marks) for image, marks, _ in done]
            alone[arm] = float(np.mean([left for *_, left in done])) if restorer is not None else 0.0
            pictures[arm] = {
                "psnr": float(np.mean([
                    psnr(views.crop(image, marks), views.crop(pair.probe.image, pair.probe.marks))
                    for (image, marks), pair in zip(faces, pairs, strict=True)
                ])),
                "expression_kept": None if arm not in SHORT else float(np.mean([
                    _label(reader, image, marks) == label for (image, marks), label in zip(faces, labels, strict=True)
                ])),
            }  # fmt: skip
            for name, embedder in embedders.items():
                if name == JUDGE_OF_ALL or arm in SHORT:
                    measured[name][arm] = judge(*embed(embedder, faces), references[name], clean[name][1], limits[name])
            print(condition, arm, pictures[arm], float(measured[JUDGE_OF_ALL][arm].accepted.mean()), flush=True)
        report[condition] = {
            name: [{**row, **pictures[row["arm"]]} for row in rows_of(measured[name], accepted[name], alone)]
            for name in recognisers
        }
    return report


def _label(reader: ExpressionReader, image: np.ndarray, marks: np.ndarray) -> str:
    from mien.types import Box

    detection = Detection(Box(0, 0, 1, 1), np.asarray(marks, np.float32), 1.0)
    return reader.read(image, [detection])[0].label


def choose(pairs: list[Pair], model: Path) -> None:
    """Print what weights and gates do to the default recogniser on subjects held out."""
    embedder = Embedder(mien.zoo.card(JUDGE_OF_ALL))
    references = embed(embedder, [(pair.reference.image, pair.reference.marks) for pair in pairs])[0]
    off = ~np.eye(len(pairs), dtype=bool)
    for condition in ("clean", "3 times smaller, noise 8", "4 times smaller, noise 8", "noise 40"):
        spoilt = [SPOILT[condition](pair.probe, np.random.default_rng((SEED, i))) for i, pair in enumerate(pairs)]
        damage = [Restorer(model, gate=0.0).restore(Restorer(model).crop(s.image, s.marks)).damage for s in spoilt]
        print(condition, "damage, percentiles 5 50 95:", np.percentile(damage, [5, 50, 95]).round(2), flush=True)
        for weight in (0.0, 0.35, 0.7, 1.0):
            restorer = Restorer(model, weight=weight, gate=0.0)
            vectors, _ = embed(embedder, [treated(restorer, shown)[:2] for shown in spoilt])
            scores = vectors @ references.T
            threshold = permissive_threshold(scores[off], rate=FMR)
            gap = (np.diag(scores).mean() - scores[off].mean()) / scores[off].std()
            print(f"  weight {weight}: TAR {(np.diag(scores) >= threshold).mean():.3f}, d {gap:.3f}", flush=True)


def _last_report(run: Path) -> dict[str, Any]:
    """Return what a training said last of itself, and the settings that matter."""
    row = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    kept = {name: config[name] for name in ("batch_size", "net", "judged", "learning_rate", "occluded")}
    return {**{name: value for name, value in row.items() if name != "seconds"}, "settings": kept}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--conditions", nargs="*", default=list(SPOILT))
    parser.add_argument("--recognisers", nargs="*", choices=RECOGNISERS, default=list(RECOGNISERS))
    parser.add_argument("--note", default="")
    parser.add_argument("--run", type=Path, help="a training run whose last report is written beside, shipped or not")
    given = parser.parse_args()
    if given.choose:
        choose(celeba_pairs(given.pairs), given.model)
        return
    report = study(lfw_pairs(given.pairs), given.model, given.conditions, given.recognisers)
    write_result("restoration", {
        "machine": machine(), "fmr": FMR, "note": given.note,
        "model": None if given.model is None else mien.zoo.named(given.model).id,
        "trained": None if given.run is None else _last_report(given.run), **report,
    })  # fmt: skip


if __name__ == "__main__":
    main()
