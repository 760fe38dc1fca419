"""The work of `mien augment`: generated faces for the classes of a training set that have too few."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from mien import zoo
from mien.cli.common import counted, make_folder, progress
from mien.data.pictures import read_pictures
from mien.errors import DataError, UsageError
from mien.evaluation.generation import READERS
from mien.evaluation.spaces import recut, resized
from mien.evaluation.synthetic import KEPT, Candidate, FaceFilter, Limits, draw_candidates, lacking
from mien.files import printable, write_whole
from mien.images import encode_image
from mien.vision.expression import ExpressionReader
from mien.vision.generator import Generator, Request

SCHEMA = "mien/augmentation/1"


class _Row(NamedTuple):
    """A face that was drawn, as `decisions.csv` lists it."""

    asked: str
    number: int
    verdict: str
    probability: str
    file: str


def augment(
    data: Path, out: Path, *, model: str | None, target: str, judge: str | None, filtered: bool, seed: int,
    cache: Path | None, limits: Mapping[str, float],
) -> int:  # fmt: skip
    """Fill the rare classes of a training set; return the exit status, 1 if a class could not be filled."""
    generator = Generator(model or "expression-gan-48")
    bounds = Limits(**limits)
    pictures = read_pictures(
        data, template=generator.convention.template, side=generator.side, colour=not generator.convention.grey,
        cache=cache, progress=None,
    )  # fmt: skip
    pictures = pictures.take(pictures.labels >= 0)
    if not len(pictures):
        raise DataError(f"'{printable(data)}' has no labelled training faces. Expected a folder for each expression.")
    wanted = lacking([pictures.classes[k] for k in pictures.labels], generator.labels, target)
    if left_out := [name for name in pictures.classes if name not in generator.labels]:
        click.echo(f"mien: {generator.card.name} draws no {', '.join(left_out)}; left as they are.", err=True)
    if not wanted:
        click.echo(f"No class of '{printable(data)}' has fewer faces than asked for; nothing is drawn.")
        return 0
    make_folder(out)
    if any(out.iterdir()):
        raise UsageError(f"'{printable(out)}' is not empty. Name a new folder: what is there may be of another call.")
    face_filter = FaceFilter(pictures.rgb(), bounds) if filtered else None
    see = _judge(generator, judge) if filtered else None
    rows: list[_Row] = []
    try:
        with progress(sum(wanted.values()), "faces") as advance:
            for name, count in wanted.items():
                candidates = draw_candidates(
                    partial(_draw, generator, name, seed),
                    count,
                    judge=None if see is None else partial(see, name),
                    face_filter=face_filter,
                )
                _write_class(out, name, candidates, rows, advance)
    finally:
        write_whole(out / "decisions.csv", _as_csv(rows))
    return _report(out, generator, data, wanted, rows)


def _draw(generator: Generator, name: str, seed: int, start: int, end: int) -> np.ndarray:
    batches = generator.batches(end, Request(expression=name, seed=seed), start=start)
    return np.concatenate([batch.images for batch in batches])


def _judge(generator: Generator, name: str | None) -> Callable[[str, np.ndarray], np.ndarray | None]:
    """Return what reads expressions out of aligned faces: from one expression and faces to its probabilities."""

    free = [known for known in READERS if known not in generator.convention.losses]
    reader = ExpressionReader(zoo.named(name or (free or READERS)[0]))

    def see(expression: str, faces: np.ndarray) -> np.ndarray | None:
        if expression not in reader.labels:
            return None  # nothing is known of it
        template = reader.template
        crops = (
            resized(faces, reader.side)
            if template is None
            else recut(faces, generator.convention.template, template, reader.side)
        )
        return reader.probabilities(crops)[:, reader.labels.index(expression)]

    return see


def _write_class(
    out: Path, name: str, candidates: Iterable[Candidate], rows: list[_Row], advance: Callable[[], None]
) -> None:
    """Write the faces that are kept, and add a row for each that was drawn."""
    (out / name).mkdir()
    for one in candidates:
        file = f"{name}/{one.number:07d}.png" if one.verdict == KEPT else ""
        if file:
            write_whole(out / file, encode_image(one.image, suffix=".png"))
            advance()
        probability = "" if one.probability is None else f"{one.probability:.4f}"
        rows.append(_Row(name, one.number, one.verdict, probability, file))


def _as_csv(rows: list[_Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_Row._fields, *rows])
    return text.getvalue().encode()


def _report(out: Path, generator: Generator, data: Path, wanted: dict[str, int], rows: list[_Row]) -> int:
    kept = Counter(row.asked for row in rows if row.file)
    drawn = Counter(row.asked for row in rows)
    classes = {
        name: {
            "wanted": count,
            "drawn": drawn[name],
            "kept": kept[name],
            "verdicts": dict(Counter(row.verdict for row in rows if row.asked == name)),
        }
        for name, count in wanted.items()
    }
    facts = {"schema": SCHEMA, "model": generator.card.id, "data": data.resolve().name, "classes": classes}
    write_whole(out / "augmentation.json", (json.dumps(facts, indent=1) + "\n").encode())
    for name, count in wanted.items():
        share = f"{100 * kept[name] / max(drawn[name], 1):.0f} % of {drawn[name]:,} drawn"
        short = "" if kept[name] == count else f", {counted(count - kept[name], 'face')} short"
        click.echo(f"{name}: {counted(kept[name], 'face')} kept, {share}{short}")
    click.echo(f"{printable(out)}: {counted(sum(kept.values()), 'face')} by {generator.card.name}")
    return 0 if all(kept[name] == count for name, count in wanted.items()) else 1
