"""Which setting of an edit by the flow is read as asked most, and keeps the person best? On validation faces.

    MIEN_DATA=... python benchmarks/edit_settings.py expression-gan-48 expression-vae-48 --cache crops

Faces of fer2013plus's validation split; asked for, read and matched as in `edits.py`. All strengths are made at each
guidance, whole and only around eyes, nose and mouth; then each policy chooses among them what it would have ended at.
The reader that policies ask has no part in judging; nor, for those that ask SFace, has SFace: `judges` says which do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from common import data_folder, machine, write_result
from edits import DATA, EMBEDDERS, FMR, JUDGE, SEED, readings, share, share_of, wishes, without

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.pictures import read_pictures
from mien.evaluation.spaces import recut
from mien.matching import operating_point
from mien.vision.embedder import Embedder
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Generator

GUIDANCES = (1.5, 2.0, 2.5, 3.2, 4.0)
STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
SHIPPED = (0.75, 1.0, 1.25, 1.5)
REGIONS = ("face", "features")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="The first one's policies all; of others the first policy.")
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    rows = {}
    for place, model in enumerate(args.models):
        generator = without(Generator(model, threads=1), "edits")
        tried = made(generator, args.faces, args.cache, REGIONS if place == 0 else REGIONS[:1])
        rows[generator.card.id] = told(tried)
        for name, row in rows[generator.card.id].items():
            print(generator.card.name, name, {key: row[key] for key in ("read", "kept", "judges")}, flush=True)
    write_result("edit_settings", {
        "machine": machine(), "data": DATA, "split": "valid", "seed": SEED, "judge": JUDGE, "fmr": FMR,
        "guidances": list(GUIDANCES), "strengths": list(STRENGTHS), "models": rounded(rows),
    })  # fmt: skip


def made(generator: Generator, faces: int, cache: Path | None, regions: tuple[str, ...]) -> dict[str, Any]:
    """Make all edits of all faces; return what is said of them: arrays (face, guidance, strength, region)."""
    template = generator.convention.template
    judge, reader = (ExpressionReader(zoo.card(name), threads=1) for name in (JUDGE, zoo.default("expression")))
    pictures = read_pictures(
        data_folder() / DATA, template=template, side=generator.side, colour=False, splits=("valid",), cache=cache
    )
    pictures = pictures.take(np.random.default_rng(SEED).permutation(len(pictures))[:faces])
    before, after, asked, seen = [], [], [], []
    for name, label in zip(pictures.names, wishes(pictures, judge, reader, template), strict=True):
        cut = generator.cut(data_folder() / name)
        shown = generator.expression_of(cut)
        if shown == label:
            continue
        edits = np.stack([edited(generator, cut.crop, shown, label, guidance, regions) for guidance in GUIDANCES])
        before.append(cut.crop)
        after.append(edits)
        asked.append(label)
        flat = edits.reshape(-1, *cut.crop.shape)
        seen.append(np.reshape([share_of(reader, label, face, generator) for face in flat], edits.shape[:3]))
    shape = (len(after), *after[0].shape[:3])
    flat = np.concatenate([edits.reshape(-1, *before[0].shape) for edits in after])
    each = flat.shape[0] // len(after)
    likeness = {name: same(Embedder(zoo.card(name), threads=1), before, flat, template) for name in EMBEDDERS}
    return {
        "regions": regions,
        "share": np.stack(seen),
        "right": np.reshape(np.array(readings(judge, flat, template)) == np.repeat(asked, each), shape),
        "cosine": {name: cosine.reshape(shape) for name, (cosine, _) in likeness.items()},
        "threshold": {name: thresholds for name, (_, thresholds) in likeness.items()},
    }


def edited(
    generator: Generator, crop: np.ndarray, shown: str, label: str, guidance: float, regions: tuple[str, ...]
) -> np.ndarray:
    """Return what `Generator.edit` would make of an aligned face at each strength, shape (strength, region, ...)."""
    here = generator.encode(crop[None])
    with patch.object(generator, "convention", replace(generator.convention, guidance=guidance)):
        move = generator.moved(here, shown=shown, wanted=label) - here
    plain = generator.decode(here, expression=shown)[0].astype(float)
    made = []
    for strength in STRENGTHS:
        there = generator.decode((here + np.float32(strength) * move).astype(np.float32), expression=label)[0]
        change = min(strength, 1.0) * (there - plain)
        for region in regions:
            window = 1.0 if region == "face" else features(generator)
            part = change * window
            made.append(np.rint(crop + part - part.mean()).clip(0, 255).astype(np.uint8))
    return np.stack(made).reshape(len(STRENGTHS), len(regions), *crop.shape)


def features(generator: Generator) -> np.ndarray:
    """Return a soft window over eyes, nose and mouth, shape (side, side, 1): an ellipse about their middle."""
    points = np.array(TEMPLATES[generator.convention.template].points)
    (low, high), middle = (points.min(axis=0), points.max(axis=0)), points.mean(axis=0)
    rows, columns = np.mgrid[: generator.side, : generator.side]
    reach = (high - low) * (0.95, 1.0)
    away = np.hypot((columns - middle[0]) / reach[0], (rows - middle[1]) / reach[1])
    return np.clip((1.15 - away) / 0.3, 0, 1)[..., None]


def same(
    embedder: Embedder, before: list[np.ndarray], after: np.ndarray, template: str
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the cosine of each edit to its face, and the thresholds that match, the card's and these faces' own."""
    wanted = embedder.convention.template

    def embed(faces: np.ndarray) -> np.ndarray:
        return embedder.embed(recut(faces, template, wanted, embedder.side))

    was = embed(np.stack(before))
    strangers = (was @ was.T)[np.triu_indices(len(was), k=1)]
    cosine = (np.repeat(was, len(after) // len(was), axis=0) * embed(after)).sum(axis=1)
    return cosine, {
        "card": operating_point(embedder.card, FMR).threshold,
        "own": float(np.quantile(strangers, 1 - FMR)),
    }


def rounded(value: Any) -> Any:
    """Keep three digits of every figure: there are many, and of few faces."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def told(tried: dict[str, Any]) -> dict[str, Any]:
    """Return what each policy reaches."""
    rows = {}
    for name, (choose, asks) in policies(tried["regions"]).items():
        chosen = np.array([choose(tried, face) for face in range(len(tried["share"]))])
        at = (np.arange(len(chosen)), *chosen.T)
        kept = {
            key: {which: share(cosine[at] >= tried["threshold"][key][which]) for which in ("card", "own")}
            for key, cosine in tried["cosine"].items()
        }
        right = tried["right"][at]
        both = {
            key: share(right & (cosine[at] >= tried["threshold"][key]["card"]))
            for key, cosine in tried["cosine"].items()
        }
        rows[name] = {
            "read": share(right),
            "kept": kept,
            "read_and_kept": both,
            "judges": [key for key in kept if key not in asks],
            "cosine_median": {key: float(np.median(cosine[at])) for key, cosine in tried["cosine"].items()},
        }
    return rows


Policy = Callable[[dict[str, Any], int], tuple[int, int, int]]


def policies(regions: tuple[str, ...]) -> dict[str, tuple[Policy, tuple[str, ...]]]:
    """Return ways to choose among the edits of a face, and which embedders each of them asks."""
    ways: dict[str, tuple[Policy, tuple[str, ...]]] = {"as shipped": (first(2.0, SHIPPED, 0.5), ())}
    longer = (*SHIPPED, 2.0, 2.5)
    for region in range(len(regions)):
        where = "" if region == 0 else ", only features"
        for guidance in GUIDANCES:
            for strengths, how in ((SHIPPED, "to 1.5"), (longer, "to 2.5"), ((0.5, *longer), "from 0.5 to 2.5")):
                for read in (0.4, 0.5, 0.7, 0.9):
                    title = f"guidance {guidance:g}, {how}, read at {read:g}{where}"
                    ways[title] = (first(guidance, strengths, read, region), ())
    for read in (0.5, 0.7, 0.9):
        ways[f"the likest by SFace of all read at {read:g}"] = (likest(read), ("sface",))
    return ways


def first(guidance: float, strengths: tuple[float, ...], read: float, region: int = 0) -> Policy:
    """End at the least strength that is read; else at the last."""

    def choose(tried: dict[str, Any], face: int) -> tuple[int, int, int]:
        row = GUIDANCES.index(guidance)
        places = [STRENGTHS.index(strength) for strength in strengths]
        ends = [place for place in places if tried["share"][face, row, place, region] >= read]
        return row, (ends or places[-1:])[0], region

    return choose


def likest(read: float) -> Policy:
    """Of all that are read take the one that SFace finds likest; where none is, the one that is read most."""

    def choose(tried: dict[str, Any], face: int) -> tuple[int, int, int]:
        shares, cosines = tried["share"][face], tried["cosine"]["sface"][face]
        fit = shares >= read
        best = np.where(fit, cosines, -1).argmax() if fit.any() else shares.argmax()
        row, place, region = np.unravel_index(best, shares.shape)
        return int(row), int(place), int(region)

    return choose


if __name__ == "__main__":
    main()
