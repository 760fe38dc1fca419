"""Giving a generator away: its networks, what is known about it, and what it draws, once its audit was passed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from mien import zoo
from mien.errors import EvaluationError, UsageError
from mien.evaluation.audit import SCHEMA, AuditReport, weights_of
from mien.evaluation.generation import SCHEMA as GENERATION
from mien.evaluation.plots import plot_audit
from mien.images import encode_image, printable, write_whole
from mien.reporting.pictures import contact_sheet
from mien.types import Facts
from mien.vision.generator import Generator
from mien.zoo.catalogue import NAME, as_toml

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["Published", "passed_audit", "published", "sample_sheet", "save_audit"]

Faces = UInt8[np.ndarray, "faces side side 3"]

AUDIT = "audit.json"
_ROWS, _COLUMNS = 8, 8
_COLUMNS_OF_SPACE = {
    "frechet": "Frechet distance",
    "kernel": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "spread": "spread within classes",
}


@dataclass(frozen=True, slots=True)
class Published:
    """What was written.

    Attributes:
        files: Networks, their cards as JSON, the card in words, the samples.
        entry: For `zoo/catalogue.toml`, where the networks are put into `mien/weights`.
    """

    files: tuple[Path, ...]
    entry: str


def save_audit(report: AuditReport, samples: Faces, train: Faces, folder: Path) -> None:
    """Write an audit: `audit.json`, `audit.png` with histograms, and `closest.png` with the pairs to look at.

    The pairs show people of the training data; a `.gitignore` keeps them out of a repository.

    Args:
        report: What was found.
        samples: That were audited.
        train: Faces they were held against, as given to the audit.
        folder: Where to; it exists.
    """
    pictures, captions = [], []
    for pair in report.closest:
        pictures += [samples[pair.sample], train[pair.train]]
        captions += [f"sample {pair.sample}", f"{pair.space} {pair.relative:.2f}"]
    title = "Samples, each with the training face that it stands nearest to. Real people: not to be passed on."
    sheet = contact_sheet(pictures, columns=16, side=72, captions=captions, title=title)
    write_whole(folder / ".gitignore", b"closest.png\n")
    write_whole(folder / "closest.png", encode_image(sheet, suffix=".png"))
    plot_audit(report, folder / "audit.png")
    # Last: whoever finds a verdict finds what it rests on.
    write_whole(folder / AUDIT, _json(report.to_json()))


def passed_audit(run: Path, card: Card) -> Facts:
    """Return the audit of a run.

    Raises:
        EvaluationError: There is none, it failed, or it is of other weights.
    """
    file = run / "audit" / AUDIT
    where = printable(run)
    again = f"mien audit {where} --train DATA"
    if not file.is_file():
        raise EvaluationError(f"'{where}' was not audited, and only what was is published. Run: {again}")
    try:
        record: Facts = json.loads(file.read_text(encoding="utf-8"))
        schema, verdict, weights, reasons = (record[key] for key in ("schema", "verdict", "weights", "reasons"))
    except (ValueError, KeyError, TypeError):
        raise EvaluationError(f"'{printable(file)}' is damaged. Run again: {again}") from None
    if schema != SCHEMA:
        raise EvaluationError(f"'{printable(file)}' is of schema {schema}, expected {SCHEMA}. Run again: {again}")
    if weights != weights_of(card):
        raise EvaluationError(f"The audit of '{where}' is of other weights than it has now. Run again: {again}")
    if verdict != "passed":
        why = reasons[0] if reasons else "no reason is given"
        raise EvaluationError(f"The audit of '{where}' failed, so it is not published. {why}")
    return record


def published(run: Path, out: Path, *, name: str | None = None, figures: Sequence[Path] = ()) -> Published:
    """Write the model of a run with its card and samples.

    Args:
        run: Run folder of a trained generator with a passed audit.
        out: Where to; it exists.
        name: What the model shall be called; default as its card says.
        figures: Measurements of it as JSON, for its card.

    Raises:
        EvaluationError: It has no passed audit of these weights, or a measurement is of another model.
        UsageError: The name cannot be one.
    """
    generator = Generator(run)
    card = generator.card
    record = passed_audit(run, card)
    name = name or card.name
    if not NAME.fullmatch(name):
        raise UsageError(f"A model's name is of a to z, 0 to 9, '.', '_' and '-', got '{name}'. Give one with --name.")
    measured = [_figures(file, card) for file in figures]
    networks: list[tuple[str, Card]] = [(name, card)]
    if generator.has_encoder:
        networks.append((f"{name}-encoder", zoo.companion(card, "encoder")))
    files, entries = [], []
    for own, one in networks:
        onnx, facts = out / f"{own}.onnx", out / f"{own}.json"
        write_whole(onnx, zoo.path(one).read_bytes())
        write_whole(facts, _json(_entry(own, one, encoder=f"{name}-encoder.onnx")))
        entries.append(_as_toml(own, one, onnx, encoder=f"{name}-encoder"))
        files += [onnx, facts]
    words, sheet = out / f"{name}.md", out / f"{name}.png"
    write_whole(words, _card(name, generator, record, measured).encode("utf-8"))
    write_whole(sheet, encode_image(sample_sheet(generator, title=name), suffix=".png"))
    return Published((*files, words, sheet), "\n".join(entries))


def sample_sheet(generator: Generator, *, title: str = "", seed: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the first samples of a seed, none chosen: a row for each expression, or eight rows."""
    labels = generator.labels
    rows = [generator.generate(_COLUMNS, expression=label, seed=seed) for label in labels]
    faces = np.concatenate(rows) if labels else generator.generate(_ROWS * _COLUMNS, seed=seed)
    line = f"{title}: the first samples of seed {seed}, none chosen"
    return contact_sheet(list(faces), columns=_COLUMNS, side=max(generator.side, 64), rows=labels or None, title=line)


def _entry(name: str, card: Card, *, encoder: str) -> Facts:
    """Return what a card file says."""
    convention = dict(card.convention)
    if "encoder" in convention:
        convention["encoder"] = encoder
    return {
        "name": name,
        "role": card.role,
        "version": card.version,
        "summary": card.summary,
        "licence": card.licence,
        "training_data": card.training_data,
        "convention": convention,
        "metrics": dict(card.metrics),
    }


def _as_toml(name: str, card: Card, file: Path, *, encoder: str) -> str:
    facts = _entry(name, card, encoder=encoder)
    key = f"models.{json.dumps(name) if '.' in name else name}"
    entry = {word: facts[word] for word in ("role", "version", "summary", "licence", "training_data")}
    entry["source"] = {"kind": "weights", "member": file.name, "sha256": card.source.sha256}
    return as_toml(entry | {"convention": facts["convention"]}, key)


def _figures(file: Path, card: Card) -> Facts:
    try:
        record: Facts = json.loads(file.read_text(encoding="utf-8"))
        said = record.get("model")
    except (OSError, ValueError, AttributeError):
        raise EvaluationError(f"'{printable(file)}' is no JSON of mien evaluate. Check the file.") from None
    if said not in (None, card.id):
        raise EvaluationError(f"'{printable(file)}' measures '{said}', expected '{card.id}'. Measure this model.")
    return record


def _card(name: str, generator: Generator, record: Facts, measured: Sequence[Facts]) -> str:
    """Write the card; every figure comes out of JSON."""
    card, convention = generator.card, generator.convention
    kind = {"vae": "variational autoencoder", "gan": "generator of a GAN"}.get(convention.kind, convention.kind)
    colour = "grey" if convention.grey else "colour"
    lines = ["## What it is", ""]
    lines.append(
        f"{card.summary or name.capitalize() + '.'} A {kind}: {colour} faces of {generator.side}x{generator.side} px, "
        f"cut as template `{convention.template}`, from {generator.latents} latents."
    )
    if generator.labels:
        lines[-1] += f" Asked for by expression: {', '.join(generator.labels)}."
    if losses := convention.losses:
        lines[-1] += f" In its loss stood {', '.join(losses)}: they judge nothing below."
    if convention.edits:
        taught = ", ".join(convention.edit_losses) or "nobody"
        lines[-1] += f" It edits faces to {', '.join(convention.edits)}; taught that by {taught}, who may not judge it."
    lines += ["", f"![Samples]({name}.png)", "", "Samples are the first of seed 0, none chosen.", ""]
    lines += ["## Data and terms", "", f"- training data: {card.training_data or 'not stated'}"]
    lines += [f"- licence: {card.licence or 'not stated'}", ""]
    lines += ["## Does it draw people it learned from?", ""]
    lines += list(_audit_lines(record))
    if card.metrics:
        lines += ["", "## Measured in training", "", *(f"- {path}: {value}" for path, value in _numbers(card.metrics))]
    for figures in measured:
        if figures.get("schema") == GENERATION:
            lines += ["", "## Measured", "", *_generation_lines(figures)]
        else:
            lines += ["", f"## Measured: {figures.get('schema', 'figures')}", ""]
            lines += [f"- {path}: {value}" for path, value in _numbers(figures)]
    return "\n".join(lines) + "\n"


def _audit_lines(record: Facts) -> Iterator[str]:
    n, limits = record["n"], record["limits"]
    yield (
        f"`mien audit` passed with these weights: {n['samples']:,} samples beside {n['train']:,} training faces and "
        f"{n['holdout']:,} faces that were held out. {record['copies']} are a training face to the pixel, or mirrored."
    )
    yield ""
    yield "| space | stand out as near one training face | nearest face is of training | authentic |"
    yield "| --- | --- | --- | --- |"
    for name, space in record["spaces"].items():
        low, high = space["near_interval"]
        yield (
            f"| {name} | {_percent(space['near_share'])} [{100 * low:.1f}, {100 * high:.1f}], held-out faces 1 %, "
            f"limit {limits['near_share']:.0%} | {_percent(space['nearest_is_training'])}, "
            f"chance {_percent(space['chance'])} (p {space['pull_p_value']:.2g}) | "
            f"{_percent(space['authentic'])}, held-out faces {_percent(space['holdout_authentic'])} |"
        )
    if cosines := record["identity_cosine"]:
        kinds = {"sample": "samples", "holdout": "faces held out"}
        said = [f"{words} {cosines[kind]['median']:.3f}" for kind, words in kinds.items() if kind in cosines]
        if said:
            yield ""
            yield f"Cosine to the most similar training face, median: {', '.join(said)}."
    if member := record["membership"]:
        yield ""
        yield (
            f"Reconstruction tells training from held-out faces with an AUC of {member['auc']:.3f} (0.5 tells "
            f"nothing): its error is {member['train_rmse']:.2f} and {member['holdout_rmse']:.2f} grey levels."
        )
    for warning in record["warnings"]:
        yield ""
        yield warning


def _generation_lines(figures: Facts) -> Iterator[str]:
    """Say what `mien evaluate generation` measured: a row a space, each figure beside that of real faces."""
    yield (
        f"{figures['n']:,} samples against as many real faces of {figures['reference']}, split {figures['split']}, "
        f"mean of {figures['seeds']} seeds; in brackets other real faces, which is as good as it gets."
    )
    yield ""
    yield "| features | " + " | ".join(_COLUMNS_OF_SPACE.values()) + " |"
    yield "| --- " * (len(_COLUMNS_OF_SPACE) + 1) + "|"
    for name, space in figures["spaces"].items():
        generated, real = space["generated"], space["real"]
        cells = [f"{generated[key]['mean']:.3g} ({real[key]['mean']:.3g})" for key in _COLUMNS_OF_SPACE]
        yield f"| {name}{'' if space['judges'] else ', stood in a loss'} | {' | '.join(cells)} |"
    yield ""
    reader = figures["classifier"].rsplit("-", 2)[0] if figures.get("classifier") else "a network"
    for key, beside, words in (
        ("asked_is_seen", "real_is_seen", f"the expression asked for is the one that {reader} sees"),
        ("face_found", "real_face_found", "the detector finds a face"),
    ):
        if figures.get(key):
            told = f"{_percent(figures[key]['share'])} [{_range(figures[key]['interval'])}]"
            other = f", of real faces {_percent(figures[beside]['share'])}" if figures.get(beside) else ""
            yield f"- {words}: {told}{other}"
    yield f"- sharpness over that of real faces: {figures['sharpness']['mean']:.2f}"
    if rebuilt := figures.get("reconstruction"):
        low, high = rebuilt["psnr_interval"]
        yield (
            f"- {rebuilt['n']:,} held-out faces encoded and decoded: PSNR {rebuilt['psnr']:.1f} dB "
            f"[{low:.1f}, {high:.1f}], sharpness {rebuilt['sharpness']:.2f} of their own"
        )


def _range(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.1f}, {100 * interval[1]:.1f}"


def _numbers(values: Facts, before: str = "") -> Iterator[tuple[str, str]]:
    """Return all numbers of a record, each with the way to it; lists are no single figures, except intervals."""
    for key, value in values.items():
        path = f"{before}{re.sub('_', ' ', str(key))}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}, ")
        elif isinstance(value, bool) or value is None:
            continue
        elif isinstance(value, (int, float)):
            yield path, f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(item, float) for item in value):
            yield path, f"{value[0]:.4g} to {value[1]:.4g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _json(record: Facts) -> bytes:
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode("utf-8")
