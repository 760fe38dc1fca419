"""Does training pay: corrections of the default embedder, a small network from scratch, and closed-set classifiers.

On the CelebA subset all learning and choosing happens on half A of the identities and the verdict comes from half B,
the halves of `operating_points.py`; on ORL subjects are split by seed. The base stands beside each, on the same faces,
and differences are paired over resampled subjects. Three seeds each.

    MIEN_DATA=... python benchmarks/identity_training.py [--cache DIR] [--only projection,classifier,small-resnet]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_folder, machine, write_result
from operating_points import in_half_a

from mien.analyzer import Analyzer
from mien.cli.common import plain
from mien.data.acquisition import read_subjects
from mien.data.samples import Samples
from mien.training import classifier, embedder

SEEDS = (0, 1, 2)
CORRECTIONS: dict[str, dict[str, Any]] = {
    "arcface": {},
    "cosface": {"head": "cosface", "margin": 0.2},
    "softmax": {"head": "softmax"},
    "arcface, hidden layer": {"hidden": 128},
}
SCRATCH: dict[str, Any] = {
    "side": 64, "widths": (16, 32, 64, 128), "blocks": (1, 1, 1, 1), "images": 60_000, "batch_size": 64,
    "report_every": 15_000, "learning_rate": 2e-3,
}  # fmt: skip
MANY = 5  # pictures of a subject that a classifier can learn from and be checked with


def halves(samples: Samples) -> Samples:
    """Make half A of the identities train (mien cuts valid off it) and half B test."""
    half_a = in_half_a(samples.subjects.astype(np.int64))
    return replace(samples, splits=np.where(half_a, "train", "test"))


def of_many(samples: Samples) -> Samples:
    """Return the pictures of subjects with many."""
    counts = Counter(samples.subjects.tolist())
    return samples.take(np.array([counts[name] >= MANY for name in samples.subjects.tolist()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--only", default="projection,classifier,small-resnet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    analyzer = Analyzer(expression=None, threads=1)
    celeba, orl = read_subjects(data_folder() / "celeba10k" / "attributes.csv"), read_subjects(data_folder() / "orl")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        cache = arguments.cache or Path(place) / "cache"

        def add(story: Any, config: Any, samples: Samples, facts: dict[str, Any]) -> None:
            start = time.perf_counter()
            told = story.train(config, analyzer=analyzer, samples=samples)
            rows.append({**facts, "seed": config.seed, "seconds": time.perf_counter() - start, **asdict(told)})
            print(facts, config.seed, told.sentence(), flush=True)

        def common(samples: Samples, seed: int) -> dict[str, Any]:
            return {"data": samples.source, "out": Path(place) / f"run-{len(rows)}", "cache": cache, "seed": seed}

        for seed in SEEDS:
            for data, samples in (("orl", orl), ("celeba10k", halves(celeba))):
                for name, settings in CORRECTIONS.items() if "projection" in arguments.only else ():
                    config = embedder.EmbedderConfig(**common(samples, seed), **settings)
                    add(embedder, config, samples, {"story": "projection", "data": data, "settings": name})
            for data, samples in (("orl", orl), (f"celeba10k, subjects of {MANY} or more", of_many(celeba))):
                for head in ("cosine", "logistic") if "classifier" in arguments.only else ():
                    told = classifier.ClassifierConfig(**common(samples, seed), head=head)
                    add(classifier, told, samples, {"story": "classifier", "data": data, "settings": head})
            if "small-resnet" in arguments.only:
                small = embedder.SmallResNetConfig(**common(celeba, seed), **SCRATCH)
                add(
                    embedder, small, halves(celeba), {"story": "small-resnet", "data": "celeba10k", "settings": SCRATCH}
                )
    head = {"machine": machine() | {"torch": torch.__version__}, "embedder": analyzer.card.id, "threads": 1}
    write_result("identity_training", plain({**head, "runs": rows}))


if __name__ == "__main__":
    main()
