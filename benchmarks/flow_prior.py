"""What a flow as the prior changes, the decoder being the same: each arm draws as many faces from another prior.

    MIEN_DATA=... python benchmarks/flow_prior.py face-gan-64 expression-gan-48 [MODEL ...] --cache crops

Held-out faces are halved: one half is compared with, the other is the floor. Expressions are asked for at the mix of
the data for distances, and equally often to see whether they are seen: by a network that learned from the same
pictures (expression-resnet27-equal) and by one that did not (mini-XCEPTION). Faces a second are of one thread, in CPU
time. One draw (seed 3): `mien evaluate generation` draws three times. A model may be a run folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result
from comparison import Comparison

from mien import zoo
from mien.data.pictures import read_pictures
from mien.evaluation.spaces import recut, resized
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Generator, Request

SEED = 3
MOST = 600  # faces of each kind
EACH = 100  # faces asked to show one expression
REFERENCE = {"face-64": "celeba10k", "fer-48": "fer2013plus"}
SPACES = {"identity": "dlib-resnet29", "expression": "expression-resnet27"}
READERS = ("mini-xception", "expression-resnet27-equal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--guidance", nargs="*", type=float, help="Of models told a label; default: 1 and their own.")
    args = parser.parse_args()
    before = read_result("flow_prior")  # figures of other models stand
    rows, earlier = before.get("models", {}), before.get("earlier", {})
    for path in args.models:
        name, row = Path(path).name, measured(Generator(path, threads=1), args.cache, args.guidance or [])
        if name in rows and rows[name]["model"] != row["model"]:
            earlier[rows[name]["model"]] = rows[name]
        rows[name] = row
    kept = {key: before[key] for key in ("samples_as_of",) if key in before}
    write_result("flow_prior", {"seed": SEED, "machine": machine(), "models": rows, "earlier": earlier, **kept})


def measured(generator: Generator, cache: Path | None, guidances: list[float]) -> dict[str, Any]:
    template, classes = generator.convention.template, generator.labels
    pictures = read_pictures(
        data_folder() / REFERENCE[template], template=template, side=generator.side,
        colour=not generator.convention.grey, splits=("test",), cache=cache,
    )  # fmt: skip
    real, shown = pictures.rgb(), np.full(len(pictures), -1)
    if classes:
        number = np.array([*(classes.index(name) if name in classes else -1 for name in pictures.classes), -1])
        shown = number[pictures.labels]
        real, shown = real[shown >= 0], shown[shown >= 0]
    order = np.random.default_rng(SEED).permutation(len(real))
    n = min(len(real) // 2, MOST)
    ours, others = order[:n], order[n : 2 * n]
    comparison = Comparison(real[ours], template, labels=shown[ours], judges=SPACES)
    readers = [ExpressionReader(zoo.card(name), threads=1) for name in READERS] if classes else []
    arms: dict[str, dict[str, Any]] = {"mixture": {"prior": "mixture"}}
    guidances = guidances or [1.0, *({generator.convention.guidance} - {None, 1.0})]
    for guidance in guidances if classes else [None]:
        arms["flow" if guidance is None else f"flow, guidance {guidance:g}"] = {"prior": "flow", "guidance": guidance}
    told = {}
    for arm, settings in arms.items():
        wanted = [classes[label] for label in shown[ours]] if classes else None
        drawn(generator, 8, wanted and wanted[:8], settings)  # opens the network
        began = time.process_time()
        fake = drawn(generator, n, wanted, settings)
        speed = n / (time.process_time() - began)
        told[arm] = {**comparison.of(fake), "samples_per_s": speed}
        if classes:
            asked = np.repeat(np.arange(len(classes)), EACH)
            faces = drawn(generator, len(asked), [classes[label] for label in asked], settings)
            told[arm]["asked_is_seen"] = {
                reader.card.name: agreed(reader, faces, asked, generator) for reader in readers
            }
        print(generator.card.name, arm, told[arm], flush=True)
    record = {"model": generator.card.id, "faces": n, "floor": comparison.frechet(real[others]), "arms": told}
    if classes:
        record |= {
            "asked_each": EACH,
            "real_is_seen": {r.card.name: agreed(r, real, shown, generator) for r in readers},
        }
    return record


def drawn(generator: Generator, n: int, wanted: list[str] | None, settings: dict[str, Any]) -> np.ndarray:
    request = Request(expression=wanted, seed=SEED, **settings)
    return np.concatenate([batch.images for batch in generator.batches(n, request)])


def agreed(reader: ExpressionReader, faces: np.ndarray, asked: np.ndarray, generator: Generator) -> dict[str, Any]:
    """Return the share of faces in which a reader sees what was asked for, by class and at the mean of classes."""
    labels = reader.labels
    known = [name for name in generator.labels if name in labels]
    fit = np.isin(asked, [generator.labels.index(name) for name in known])
    crops = (
        resized(faces[fit], reader.side)
        if reader.template is None
        else recut(faces[fit], generator.convention.template, reader.template, reader.side)
    )
    best = reader.probabilities(crops)[:, [labels.index(name) for name in known]].argmax(axis=1)
    right = np.array([known[place] == generator.labels[label] for place, label in zip(best, asked[fit], strict=True)])
    share = {name: float(right[asked[fit] == generator.labels.index(name)].mean()) for name in known}
    return {"equal_classes": float(np.mean(list(share.values()))), "by_class": share, "n": int(fit.sum())}


if __name__ == "__main__":
    main()
