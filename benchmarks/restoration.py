"""What surrounds the study of restoration: choosing weight and gate, and writing its figures down for the pages.

The study itself is a command. On LFW, by two recognisers:

    mien study run restoration --pairs $MIEN_DATA/lfw_pairs/pairs.txt --data $MIEN_DATA/lfw_pairs \\
        --embedder sface --embedder dlib-resnet29 --model runs/restorer --out studies/restoration
    python benchmarks/restoration.py --study studies/restoration --run runs/restorer

The second line writes its study.json, the machine, and what the training said last, to results/restoration.json.
Beforehand, weight and gate are chosen on CelebA's held-out subjects, never on LFW:

    MIEN_DATA=... python benchmarks/restoration.py --choose --model runs/restorer
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, write_result

import mien.zoo
from mien.data.pictures import read_pictures
from mien.metrics.verification import permissive_threshold
from mien.studies.restoration import FMR
from mien.studies.spoilt import CONDITIONS, Listed, Pair, Shown, find_pairs, restored
from mien.vision.detector import Detection
from mien.vision.embedder import Embedder
from mien.vision.restorer import Restorer

CHOSEN_ON = ("clean", "3 times smaller, noise 8", "4 times smaller, noise 8", "noise 40")
WEIGHTS = (0.0, 0.35, 0.7, 1.0)


def held_out_pairs(count: int) -> list[Pair]:
    """Return mated pairs of CelebA's subjects whom the restorer has not seen."""
    folder = data_folder() / "celeba_identities"
    held = read_pictures(
        folder, template="loose-120", side=16, colour=True, splits=("test",), keep_without_face=True,
        detector=_Nowhere(),
    )  # fmt: skip
    of_subject: dict[str, list[Path]] = {}
    for name in held.names:
        path = folder / Path(*Path(name).parts[1:])
        of_subject.setdefault(path.parent.name, []).append(path)
    two = tuple((subject, *paths[:2]) for subject, paths in of_subject.items() if len(paths) > 1)
    pairs, _ = find_pairs(Listed(two, central=True), count)
    return pairs


class _Nowhere:
    def detect(self, image: np.ndarray) -> list[Detection]:
        return []


def choose(pairs: list[Pair], model: Path) -> None:
    """Print what weights and gates do to the default recogniser."""
    embedder = Embedder(mien.zoo.card(mien.zoo.default("embedder")))

    def embed(faces: list[Shown]) -> np.ndarray:
        return embedder.embed(np.stack([embedder.crop(one.image, one.landmarks.astype(np.float32)) for one in faces]))

    references, off = embed([pair.reference for pair in pairs]), ~np.eye(len(pairs), dtype=bool)
    every = Restorer(model, gate=0.0)
    for condition in CHOSEN_ON:
        spoilt = [CONDITIONS[condition](pair.probe, np.random.default_rng((0, i))) for i, pair in enumerate(pairs)]
        damage = [every.restore(every.crop(one.image, one.landmarks)).damage for one in spoilt]
        print(condition, "damage, percentiles 5 50 95:", np.percentile(damage, [5, 50, 95]).round(2), flush=True)
        for weight in WEIGHTS:
            restorer = Restorer(model, weight=weight, gate=0.0)
            scores = embed([restored(restorer, one)[0] for one in spoilt]) @ references.T
            threshold = permissive_threshold(scores[off], rate=FMR)
            gap = (np.diag(scores).mean() - scores[off].mean()) / scores[off].std()
            print(f"  weight {weight}: TAR {(np.diag(scores) >= threshold).mean():.3f}, d {gap:.3f}", flush=True)


def last_report(run: Path) -> dict[str, Any]:
    """Return what a training said last of itself, and the settings that matter."""
    row = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    kept = {name: config[name] for name in ("batch_size", "net", "judged", "learning_rate", "occluded")}
    return {**{name: value for name, value in row.items() if name != "seconds"}, "settings": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--choose", action="store_true", help="print what weights do to recognition, on --model")
    asked.add_argument("--study", type=Path, help="folder of the finished study, whose figures are written down")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=int, default=200, help="that --choose looks at")
    parser.add_argument("--run", type=Path, help="a training run whose last report is written beside, shipped or not")
    parser.add_argument("--note", default="", help="what was cut")
    given = parser.parse_args()
    if given.choose:
        if given.model is None:
            parser.error("--choose needs --model")
        choose(held_out_pairs(given.pairs), given.model)
        return
    figures = json.loads((given.study / "study.json").read_text(encoding="utf-8"))
    trained = None if given.run is None else last_report(given.run)
    write_result("restoration", {"machine": machine(), "note": given.note, "trained": trained, **figures})


if __name__ == "__main__":
    main()
