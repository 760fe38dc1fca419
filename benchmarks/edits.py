"""Is an edited face read as it was asked to look, and does it stay who it was? Three ways to edit, one generator.

    MIEN_DATA=... python benchmarks/edits.py expression-gan-48 --cache crops

Faces of fer2013plus's test split, which nothing learned from. Each is asked for an expression that neither raters nor
the default reader nor the judge see in it. The flow's search ends by the default reader; class means go all the way, as
in models without a flow, and are searched by the same reader, too. The judges had no part in an edit: mini-XCEPTION
reads the expression; two embedders say whether face and edit match, at the threshold of FMR 1e-2 on the embedder's card
and at one where a hundredth of these faces match another one (at 48 px, strangers look more alike).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result

from mien import zoo
from mien.data.pictures import Pictures, read_pictures
from mien.evaluation.spaces import recut, resized
from mien.matching import operating_point
from mien.metrics.intervals import wilson
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Edit, Generator

FMR, SEED = 1e-2, 5
DATA, JUDGE = "fer2013plus", "mini-xception"
EMBEDDERS = ("sface", "dlib-resnet29")
SEARCHED = (1.0, 1.5, 2.0, 3.0)  # strengths of an edit by class means
READ = 0.5  # share of the expression asked for at which a search ends, as in `Generator.edit`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    generator = Generator(args.model, threads=1)
    # The same network with a card that says nothing of its flow edits by the means of its mixture.
    means = Generator(replace(generator.card, convention={**generator.card.convention, "flow": 0}), threads=1)
    judge, reader = (ExpressionReader(zoo.card(name), threads=1) for name in (JUDGE, zoo.default("expression")))
    template = generator.convention.template
    pictures = read_pictures(
        data_folder() / DATA, template=template, side=generator.side, colour=False, splits=("test",), cache=args.cache
    )
    pictures = pictures.take(np.random.default_rng(SEED).permutation(len(pictures))[: args.faces])
    wanted = wishes(pictures, judge, reader, template)
    asked: list[str] = []
    done: dict[str, list[Edit]] = {"flow": [], "class means": [], "class means, searched": []}
    seconds = 0.0
    for name, label in zip(pictures.names, wanted, strict=True):
        file = data_folder() / name
        began = time.process_time()
        by_flow = generator.edit(file, expression=label)
        seconds += time.process_time() - began
        if by_flow.shown == label:  # by the whole picture the reader sees more than by the crop
            continue
        tried = []
        for strength in SEARCHED:
            tried.append(means.edit(file, expression=label, strength=strength))
            if share_of(reader, label, tried[-1].after, generator) >= READ:
                break
        asked.append(label)
        for way, edit in zip(done, (by_flow, tried[0], tried[-1]), strict=True):
            done[way].append(edit)
    before = np.stack([edit.before for edit in done["flow"]])
    identities = {name: Identity(Embedder(zoo.card(name), threads=1), before, template) for name in EMBEDDERS}
    write_result("edits", {
        "machine": machine(), "model": generator.card.id, "data": DATA, "split": "test", "faces": len(asked),
        "seed": SEED, "reader_that_searches": reader.card.id, "judge": judge.card.id,
        "strengths_of_class_means": list(SEARCHED), "read_at": READ, "fmr": FMR,
        "seconds_an_edit_by_the_flow": seconds / len(wanted),
        "thresholds": {
            name: {
                "model": identity.embedder.card.id,
                "shipped": identity.shipped, "strangers_match_at_shipped": identity.strangers, "own": identity.own,
            }
            for name, identity in identities.items()
        },
        "ways": {way: judged(edits, np.array(asked), judge, identities, template) for way, edits in done.items()},
        "earlier": earlier(generator.card.id),
    })  # fmt: skip


def earlier(model: str) -> list[dict[str, Any]]:
    """Return what was measured before of other models."""
    before = read_result("edits")
    others = before.pop("earlier", [])
    return others + [before] * (before.get("model", model) != model)


def wishes(pictures: Pictures, judge: ExpressionReader, reader: ExpressionReader, template: str) -> list[str]:
    """Choose what each face is asked to show: nothing that anybody sees in it."""
    faces, known = pictures.rgb(), [name for name in judge.labels if name != "contempt"]
    seen = [readings(one, faces, template) for one in (judge, reader)]
    rng = np.random.default_rng(SEED)
    return [
        str(rng.choice([name for name in known if name not in {pictures.classes[label], *said}]))
        for label, *said in zip(pictures.labels, *seen, strict=True)
    ]


class Identity:
    """Tells whether two faces match, at the card's threshold and at one of these faces' own."""

    def __init__(self, embedder: Embedder, before: np.ndarray, template: str) -> None:
        self.embedder, self.template = embedder, template
        self.before = self.embed(before)
        # Pairs of different faces; hardly any are of one person.
        scores = (self.before @ self.before.T)[np.triu_indices(len(before), k=1)]
        self.shipped = operating_point(embedder.card, FMR).threshold
        self.own, self.strangers = float(np.quantile(scores, 1 - FMR)), float((scores >= self.shipped).mean())

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Return embeddings of faces of the generator's template."""
        wanted = self.embedder.convention.template
        return self.embedder.embed(recut(faces, self.template, wanted, self.embedder.side))

    def kept(self, after: np.ndarray) -> dict[str, Any]:
        """Return how many edits still match the face that they began with."""
        scores = (self.before * self.embed(after)).sum(axis=1)
        return {
            "at_shipped_threshold": share(scores >= self.shipped),
            "at_own_threshold": share(scores >= self.own),
            "cosine_median": float(np.median(scores)),
        }


def judged(
    edits: list[Edit], asked: np.ndarray, judge: ExpressionReader, identities: dict[str, Identity], template: str
) -> dict[str, Any]:
    """Return what the judges say of some edits."""
    after = np.stack([edit.after for edit in edits])
    seen = np.array(readings(judge, after, template))
    kept = {name: identity.kept(after) for name, identity in identities.items()}
    change = after.astype(float) - np.stack([edit.before for edit in edits])
    strengths, counts = np.unique([edit.strength for edit in edits], return_counts=True)
    return {
        "read_as_asked": share(seen == asked),
        "read_as_asked_by_expression": {name: share((seen == asked)[asked == name]) for name in sorted(set(asked))},
        "identity_kept": kept,
        "change_grey_levels": float(np.abs(change).mean()),
        "strengths": dict(zip([f"{strength:g}" for strength in strengths], counts.tolist(), strict=True)),
    }


def share_of(reader: ExpressionReader, label: str, face: np.ndarray, generator: Generator) -> float:
    """Return how probable an expression is, by the reader, among those that the generator knows."""
    told = reader.probabilities(cut(reader, face[None], generator.convention.template))[0]
    by_name = dict(zip(reader.labels, told, strict=True))
    return float(by_name[label] / sum(by_name[name] for name in generator.labels if name in by_name))


def readings(reader: ExpressionReader, faces: np.ndarray, template: str) -> list[str]:
    """Return the likeliest expression of each face; contempt is nothing that mini-XCEPTION knows."""
    known = [place for place, name in enumerate(reader.labels) if name != "contempt"]
    best = reader.probabilities(cut(reader, faces, template))[:, known].argmax(axis=1)
    return [reader.labels[known[place]] for place in best]


def cut(reader: ExpressionReader, faces: np.ndarray, template: str) -> np.ndarray:
    """Cut faces of the generator's template as a reader wants them."""
    if reader.template is None:
        return resized(faces, reader.side)
    return recut(faces, template, reader.template, reader.side)


def share(flags: np.ndarray) -> dict[str, Any]:
    """Return a share with its interval."""
    n = len(flags)
    return {"share": float(np.mean(flags)), "interval": list(wilson(int(np.sum(flags)), n)), "n": n}


if __name__ == "__main__":
    main()
