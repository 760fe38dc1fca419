"""`mien export`: a trained run as an ONNX file, smaller or faster if asked, or a generator in fewer bits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from mien.cli.common import echo_json, needs_torch
from mien.errors import ModelError, UsageError
from mien.files import printable

SCHEMA, GENERATOR_SCHEMA = "mien/export/1", "mien/export-generator/1"
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("run", type=FOLDER)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="NAME.onnx, its card goes beside it; or NAME.safetensors, to train on from; of a generator a folder.  "
    "[default: in the run folder; of a generator RUN-fp16 or RUN-int8]",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "fp16"]),
    help="8-bit weights and activations (of a generator weights alone), or weights stored in half precision.",
)
@click.option(
    "--average",
    "others",
    type=FOLDER,
    multiple=True,
    metavar="RUN",
    help="Another run, such as of another seed: one file with the mean answer of all.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Where the training data are now; once for each set.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON; see docs/json.md.")
def export(
    run: Path,
    out: Path | None,
    quantize: Literal["int8", "fp16"] | None,
    others: tuple[Path, ...],
    data: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write the network of RUN as ONNX and measure, on its validation pictures, what that costs.

    Scales of 8-bit networks come from training pictures. The file works wherever a model is named, as in
    mien analyze --expression FILE. A .safetensors file is for mien train expression --set init=FILE.

    A generator, with its encoder, is written with smaller weights into a folder of its own, which is audited and
    published like a run.
    """
    with needs_torch():
        from mien.training.export import export as write
        from mien.training.export import save_weights

    if out is not None and out.suffix == ".safetensors":
        if others:
            raise UsageError("Training goes on from one run. Leave --average out, or name an .onnx file.")
        size = save_weights(run, out, precision=quantize)
        click.echo(f"{printable(out)}\n  {'size':<22}{size / 1e6:.2f} MB")
        return
    if _is_generator(run):
        _export_generator(run, out, quantize, as_json, others, data)
        return
    if out is not None and out.is_dir():
        raise UsageError(f"'{printable(out)}' is a folder. Expected a file that ends in .onnx.")
    report = write(run, out, others=others, quantize=quantize, data=data)
    if as_json:
        echo_json({"schema": SCHEMA, **asdict(report), "speedup": report.speedup}, indent=1)
        return
    rows = [
        ("from PyTorch", f"a logit differs by {report.difference:.1g} at most"),
        ("size", f"{report.bytes / 1e6:.2f} MB"),
        ("one face, one thread", f"{report.ms:.2f} ms"),
        ("accuracy", f"{100 * report.accuracy:.2f} % of {report.n} validation pictures"),
    ]
    if quantize:
        rows[1] = ("size", f"{report.bytes / 1e6:.2f} MB, {report.bytes_float / 1e6:.2f} MB in float32")
        rows[2] = ("one face, one thread", f"{report.ms:.2f} ms, {report.speedup:.2f} times as fast as in float32")
        rows[3] = (
            "accuracy",
            f"{100 * report.accuracy:.2f} % of {report.n} validation pictures, {100 * report.lost:.2f} points lost",
        )
        rows.append(("answers changed", f"{100 * report.changed:.2f} %"))
        if report.kept_float:
            rows.append(("kept in float32", f"{len(report.kept_float)} layers: with them accuracy fell too far"))
    click.echo(f"{report.file}")
    for name, value in rows:
        click.echo(f"  {name:<22}{value}")


def _is_generator(run: Path) -> bool:
    from mien import zoo

    try:
        return zoo.named(run).role == "generator"
    except ModelError:
        return False


def _export_generator(
    run: Path,
    out: Path | None,
    quantize: Literal["int8", "fp16"] | None,
    as_json: bool,
    others: tuple[Path, ...],
    data: tuple[Path, ...],
) -> None:
    from mien.training.storage import store_generator

    if quantize is None or others or data:
        raise UsageError(
            "A generator's run holds its network as ONNX already: here it is written with smaller weights, and nothing "
            "else. Give --quantize fp16 or int8, without --average and --data."
        )
    report = store_generator(run, out or run.with_name(f"{run.resolve().name}-{quantize}"), quantize)
    if as_json:
        echo_json({"schema": GENERATOR_SCHEMA, **asdict(report)}, indent=1)
        return
    click.echo(f"{printable(report.out)}")
    click.echo(f"  {'size':<22}{report.bytes / 1e6:.2f} MB, {report.bytes_before / 1e6:.2f} MB before")
    click.echo(f"  {'drawn faces':<22}a px differs by {report.difference:.2f} grey levels on average")
