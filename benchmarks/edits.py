"""Is an edited face read as it was asked to look, and does it stay who it was? All ways to edit that a generator has.

    MIEN_DATA=... python benchmarks/edits.py expression-gan-48 --cache crops
    MIEN_DATA=... python benchmarks/edits.py face-vae-96 --cache crops
    MIEN_DATA=... python benchmarks/edits.py expression-gan-48 --cache crops --settings NAME=RUN ...

Faces of a test split, which nothing learned from: of fer2013plus where the generator is told expressions, else of
celeba_identities. Each is asked for an expression that neither raters nor the default reader nor the judge see in it.
The searches of mapper and flow end by the default reader; class means go all the way, as in models without either, and
are searched by the same reader, too. Two judges had no part in an edit: mini-XCEPTION reads the expression, and SFace
says whether face and edit match, at the threshold of FMR 1e-2 on its card and at one where a hundredth of these faces
match another one (at 48 px, strangers look more alike). dlib's network stood in a mapper's loss, and judges the others.

`--settings` compares mappers, and searches with each, on validation faces: what the shipped ones were chosen by.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
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
from mien.vision.laying import damp_colours, lay_change

FMR, SEED = 1e-2, 5
DATA, UNLABELLED, JUDGE = "fer2013plus", "celeba_identities", "mini-xception"
EMBEDDERS = ("sface", "dlib-resnet29")
BOX = "fer-48"
SEARCHED = (1.0, 1.5, 2.0, 3.0)  # strengths of an edit by class means
READ = 0.5  # share of the expression asked for at which a search ends, as in `Generator.edit`
# Of a mapper: strengths tried one after the other, and the share at which that ends; the first is the shipped one.
SEARCHES = (
    ((1.0, 1.25, 1.5), 0.5),
    ((1.0, 1.25, 1.5), 0.9),
    ((1.0,), 0.0),
    ((0.75, 1.0, 1.25, 1.5), 0.5),
    ((0.75, 1.0, 1.25, 1.5), 0.9),
    ((0.5, 0.75, 1.0, 1.25), 0.7),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--settings", nargs="*", metavar="NAME=RUN", help="Mappers to compare on validation faces.")
    args = parser.parse_args()
    if args.settings:
        write_result("mapper_settings", settings(args.settings, args.faces, args.cache))
        return
    generator = Generator(args.model, threads=1)
    judge, reader = (ExpressionReader(zoo.card(name), threads=1) for name in (JUDGE, zoo.default("expression")))
    pictures = faces_of(generator, "test", args.faces, args.cache)
    wanted = wishes(pictures, judge, reader, generator.convention.template)
    ways = ways_of(generator)
    asked: list[str] = []
    done: dict[str, list[Edit]] = {way: [] for way in ways}
    seconds = 0.0
    for name, label in zip(pictures.names, wanted, strict=True):
        file = data_folder() / name
        began = time.process_time()
        edits = [next(iter(ways.values()))(file, label)]
        seconds += time.process_time() - began
        if edits[0].shown == label:  # by the whole picture the reader sees more than by the crop
            continue
        edits += [edit(file, label) for edit in list(ways.values())[1:]]
        asked.append(label)
        for way, edit in zip(done, edits, strict=True):
            done[way].append(edit)
    template = generator.convention.template
    before = np.stack([edit.before for edit in next(iter(done.values()))])
    identities = {name: Identity(Embedder(zoo.card(name), threads=1), before, template) for name in EMBEDDERS}
    name = "edits" if generator.labels else f"edits_{args.model}"
    write_result(name, {
        "machine": machine(), "model": generator.card.id, "data": data_of(generator), "split": "test",
        "faces": len(asked), "seed": SEED, "reader_that_searches": reader.card.id, "judge": judge.card.id,
        "in_the_loss": list(generator.convention.edit_losses),
        "strengths_of_class_means": list(SEARCHED), "read_at": READ, "fmr": FMR,
        "seconds_an_edit": seconds / len(wanted),
        "thresholds": {
            name: {
                "model": identity.embedder.card.id,
                "shipped": identity.shipped, "strangers_match_at_shipped": identity.strangers, "own": identity.own,
            }
            for name, identity in identities.items()
        },
        "ways": {way: judged(edits, np.array(asked), judge, identities, template) for way, edits in done.items()},
        "earlier": earlier(name, generator.card.id),
    })  # fmt: skip


def data_of(generator: Generator) -> str:
    """Return whose faces are edited."""
    return DATA if generator.labels else UNLABELLED


def faces_of(generator: Generator, split: str, count: int, cache: Path | None) -> Pictures:
    """Return some faces of a split, drawn by chance."""
    pictures = read_pictures(
        data_folder() / data_of(generator), template=generator.convention.template, side=generator.side,
        colour=not generator.convention.grey, splits=(split,), cache=cache,
    )  # fmt: skip
    return pictures.take(np.random.default_rng(SEED).permutation(len(pictures))[:count])


Way = Callable[[Path, str], Edit]


def ways_of(generator: Generator) -> dict[str, Way]:
    """Return all ways in which a generator can edit, the one that it takes first."""
    ways: dict[str, Way] = {}
    if generator.convention.edits:
        ways["mapper"] = lambda file, label: generator.edit(file, expression=label)
    if not generator.labels:
        return ways
    # The same network with a card that says nothing of its mapper, or of its flow either.
    flow, means = without(generator, "edits"), without(generator, "edits", "flow")
    reader = ExpressionReader(zoo.card(zoo.default("expression")), threads=1)

    def searched(file: Path, label: str) -> Edit:
        for strength in SEARCHED:
            edit = means.edit(file, expression=label, strength=strength)
            if share_of(reader, label, edit.after, generator) >= READ:
                break
        return edit

    ways["flow"] = lambda file, label: flow.edit(file, expression=label)
    ways["class means"] = lambda file, label: means.edit(file, expression=label, strength=1.0)
    ways["class means, searched"] = searched
    return ways


def without(generator: Generator, *facts: str) -> Generator:
    """Return a generator whose card does not say some facts."""
    kept = {key: value for key, value in generator.card.convention.items() if key not in facts}
    return Generator(replace(generator.card, convention=kept), threads=1)


def settings(named: Sequence[str], count: int, cache: Path | None) -> dict[str, Any]:
    """Compare mappers and searches on validation faces."""
    judge, reader = (ExpressionReader(zoo.card(name), threads=1) for name in (JUDGE, zoo.default("expression")))
    told = read_result("mapper_settings").get("mappers", {})
    for name, _, folder in (text.partition("=") for text in named):
        generator = Generator(folder, threads=1)
        template, names = generator.convention.template, generator.edits
        pictures = faces_of(generator, "valid", count, cache)
        faces, wanted = pictures.rgb(), np.array(wishes(pictures, judge, reader, template))
        latents = generator.encode(faces)
        shown = [names[k] for k in shares(reader, faces, generator).argmax(axis=1)]
        moves = (
            np.concatenate(
                [generator.moved(z[None], shown=a, wanted=b) for z, a, b in zip(latents, shown, wanted, strict=True)]
            )
            - latents
        )
        identities = {name: Identity(Embedder(zoo.card(name), threads=1), faces, template) for name in EMBEDDERS}
        plain = drawn(generator, latents, shown)
        rows = []
        for strengths, read in SEARCHES:
            after, stopped, seen = faces.copy(), np.zeros(len(faces), bool), faces.astype(np.float32)
            for strength in strengths:
                change = min(strength, 1.0) * (drawn(generator, latents + strength * moves, list(wanted)) - plain)
                change -= change.mean(axis=(1, 2, 3), keepdims=True)
                tried = [lay_change(*one) for one in zip(seen, plain, damp_colours(change), strict=True)]
                after[~stopped] = np.rint(np.stack(tried).clip(0, 255))[~stopped].astype(np.uint8)
                asked = [names.index(label) for label in wanted]
                stopped |= shares(reader, after, generator)[np.arange(len(faces)), asked] >= read
            told_by = np.array(readings(judge, after, template))
            rows.append({
                "strengths": list(strengths), "read_at": read, "read_as_asked": share(told_by == wanted),
                "identity_kept": {name: one.kept(after)["at_shipped_threshold"] for name, one in identities.items()},
            })  # fmt: skip
            print(name, rows[-1], flush=True)
        setting = json.loads((Path(folder) / "mapper.json").read_text())
        kept = {key: setting[key] for key in ("images", "valid_read", "valid_cosine")}
        told[name] = {"model": generator.card.name, "data": data_of(generator), "faces": len(faces)} | kept
        told[name]["searches"] = rows
    return {"machine": machine(), "split": "valid", "seed": SEED, "judge": judge.card.id, "mappers": told}


def drawn(generator: Generator, latents: np.ndarray, names: list[str]) -> np.ndarray:
    """Return decoded latents, not rounded finer than a grey level, as float."""
    return generator.decode(latents, expression=names if generator.labels else None).astype(np.float32)


def shares(reader: ExpressionReader, faces: np.ndarray, generator: Generator) -> np.ndarray:
    """Return how probable each expression is, by the reader, among those that the generator can give."""
    told = reader.probabilities(cut(reader, faces, generator.convention.template))
    told = told[:, [reader.labels.index(name) for name in generator.edits]]
    return told / told.sum(axis=1, keepdims=True)


def earlier(name: str, model: str) -> list[dict[str, Any]]:
    """Return what was measured before of other models."""
    before = read_result(name)
    others = before.pop("earlier", [])
    return others + [before] * (before.get("model", model) != model)


def wishes(pictures: Pictures, judge: ExpressionReader, reader: ExpressionReader, template: str) -> list[str]:
    """Choose what each face is asked to show: nothing that anybody sees in it."""
    faces, known = pictures.rgb(), [name for name in judge.labels if name != "contempt"]
    seen = [readings(one, faces, template) for one in (judge, reader)]
    rng = np.random.default_rng(SEED)
    return [
        str(rng.choice([name for name in known if name not in {*pictures.classes[label : label + 1], *said}]))
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
    """Return how probable an expression is in one face."""
    return float(shares(reader, face[None], generator)[0, generator.edits.index(label)])


def readings(reader: ExpressionReader, faces: np.ndarray, template: str) -> list[str]:
    """Return the likeliest expression of each face; contempt is nothing that mini-XCEPTION knows."""
    known = [place for place, name in enumerate(reader.labels) if name != "contempt"]
    best = reader.probabilities(cut(reader, faces, template))[:, known].argmax(axis=1)
    return [reader.labels[known[place]] for place in best]


def cut(reader: ExpressionReader, faces: np.ndarray, template: str) -> np.ndarray:
    """Cut faces of the generator's template as a reader wants them."""
    if reader.template is None:  # a box around the face, as FER2013's pictures are
        return resized(faces, reader.side) if template == BOX else recut(faces, template, BOX, reader.side)
    return recut(faces, template, reader.template, reader.side)


def share(flags: np.ndarray) -> dict[str, Any]:
    """Return a share with its interval."""
    n = len(flags)
    return {"share": float(np.mean(flags)), "interval": list(wilson(int(np.sum(flags)), n)), "n": n}


if __name__ == "__main__":
    main()
