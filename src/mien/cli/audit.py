"""`mien audit` and `mien publish`: does a generator draw people it learned from, and only then may it be given away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mien
from mien import evaluation, zoo
from mien.cli.common import counted, echo_json, make_folder, progress
from mien.errors import UsageError
from mien.files import printable, write_whole
from mien.training.reporter import PictureProgress

if TYPE_CHECKING:
    import numpy as np

    from mien import Generator
    from mien.evaluation.audit import AuditReport

DATA = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("model", metavar="RUN")
@click.option("--train", "train_sources", type=DATA, multiple=True, required=True, help="What it learned from.")
@click.option("--holdout", type=DATA, multiple=True, help="Faces it did not learn from.  [default: those of --train]")
@click.option("-n", "count", type=click.IntRange(100), default=2000, show_default=True, help="Samples to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--embedder", metavar="NAME", help="Tells people apart.  [default: the catalogue's]")
@click.option("--kind", default="auto", show_default=True, help="Layout of the data; see mien data inspect --help.")
@click.option("--cache", type=FOLDER, help="Where cut faces are kept, as the training's own setting.")
@click.option("-o", "--out", type=FOLDER, help="Where the audit is written.  [default: RUN/audit]")
@click.option("--json", "as_json", type=click.Path(path_type=Path, allow_dash=True), help="Write it here too.")
def audit(
    model: str,
    train_sources: tuple[Path, ...],
    holdout: tuple[Path, ...],
    count: int,
    seed: int,
    embedder: str | None,
    kind: str,
    cache: Path | None,
    out: Path | None,
    as_json: Path | None,
) -> int:
    """Check that the generator RUN does not draw the people it learned from.

    Samples are held against the training faces beside faces that the model never saw. Of --train the training part
    counts: what the data set itself, or mien train, holds out is the hold-out, unless --holdout names other data. The
    exit status is 1 where the audit fails.

    audit/closest.png shows real people beside samples: look at it, and do not pass it on.
    """
    generator = mien.Generator(model)
    if out is None:
        if not Path(model).is_dir():
            raise UsageError(f"'{model}' is no run folder that an audit could be written into. Name one with --out.")
        out = Path(model) / "audit"
    make_folder(out)
    train = _faces(generator, train_sources, ("train",), kind, cache)
    given = holdout or train_sources
    same = {path.resolve() for path in train_sources} & {path.resolve() for path in given}
    held = [
        _faces(generator, (path,), ("test",) if path.resolve() in same else ("train", "valid", "test"), kind, cache)
        for path in given
    ]
    others = _stacked(held)
    judge = evaluation.feature_space(
        zoo.named(zoo.choice(embedder or zoo.default("embedder"), "embedder")), generator.convention.template
    )
    with progress(count + len(train) + len(others), "faces") as advance:

        def seen(faces: int) -> None:
            for _ in range(faces):
                advance()

        report, samples = evaluation.audit_generator(
            generator, train, others, judge=judge, n=count, seed=seed, learned=_learned(Path(model)), progress=seen
        )
    evaluation.save_audit(report, samples, train, out)
    if as_json is not None and str(as_json) != "-":
        write_whole(as_json, (json.dumps(report.to_json(), indent=1) + "\n").encode(), sync=True, parents=True)
    if str(as_json) == "-":
        echo_json(report.to_json(), indent=1)
    _echo(report, out, err=str(as_json) == "-")
    return 0 if report.passed else 1


@click.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--out", type=FOLDER, required=True, metavar="DIR", help="Where the model is written.")
@click.option("--name", metavar="NAME", help="What it shall be called; prints its entry for the catalogue.")
@click.option("--figures", type=FILE, multiple=True, metavar="JSON", help="Of mien evaluate generation, for its card.")
def publish(run: Path, out: Path, name: str | None, figures: tuple[Path, ...]) -> None:
    """Write the model of RUN with its card and a sheet of samples, to be given away.

    Only a model whose audit was passed, with exactly these weights, is published: mien audit RUN comes first. Written
    are NAME.onnx with NAME.json, with an encoder also NAME-encoder.onnx, the card NAME.md, and NAME.png.
    """
    result = evaluation.published(run, make_folder(out), name=name, figures=figures)
    for file in result.files:
        click.echo(f"{printable(file)}  {zoo.human_size(file.stat().st_size)}", err=name is not None)
    if name is not None:
        click.echo(result.entry)


def _learned(run: Path) -> list[str] | None:
    """Return digests of the pictures that a run learned from; None where it kept none."""
    from mien.evaluation.audit import LEARNED

    file = run / LEARNED
    return file.read_text(encoding="ascii").split() if file.is_file() else None


def _faces(
    generator: Generator, sources: tuple[Path, ...], splits: tuple[str, ...], kind: str, cache: Path | None
) -> np.ndarray:
    """Return faces as the generator was shown them, RGB uint8, shape (n, side, side, 3)."""

    from mien.data.pictures import read_pictures

    convention = generator.convention
    pictures = read_pictures(
        sources,
        template=convention.template,
        side=generator.side,
        colour=not convention.grey,
        kind=kind,
        splits=splits,
        cache=cache,
        progress=PictureProgress(),
    )
    return pictures.rgb()


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    import numpy as np

    return np.concatenate(parts)


def _echo(report: AuditReport, out: Path, *, err: bool) -> None:
    counts = report.counts
    click.echo(
        f"{report.facts['name']}: {counts['samples']:,} samples against {counts['train']:,} training and "
        f"{counts['holdout']:,} held-out faces",
        err=err,
    )
    rows: list[tuple[str, object, str]] = [("copies to the pixel", f"{report.copies}", "")]
    for space in report.spaces:
        low, high = space.near_interval
        rows += [
            (f"{space.space}: near one face", f"{space.near_share:.1%}", f"{low:.1%} to {high:.1%}; held-out: 1 %"),
            (
                f"{space.space}: training is nearest",
                f"{space.nearest_is_training:.1%}",
                f"chance {space.chance:.1%}, p {space.pull_p_value:.2g}",
            ),
            (f"{space.space}: authentic", f"{space.authentic:.1%}", f"held-out {space.holdout_authentic:.1%}"),
        ]
    if (member := report.membership) is not None:
        rows.append(
            ("reconstruction tells training", f"AUC {member.auc:.3f}",
             f"error {member.train_rmse:.2f}, held-out {member.holdout_rmse:.2f}")
        )  # fmt: skip
    for name, value, note in rows:
        click.echo(f"  {name:<32}{value:<12}{note}", err=err)
    for line in (*report.reasons, *report.warnings):
        click.echo(f"  {line}", err=err)
    click.echo(f"{'passed' if report.passed else 'FAILED'}: {printable(out / 'audit.json')}", err=err)
    click.echo(
        f"{counted(len(report.closest), 'pair')} to look at: {printable(out / 'closest.png')}. "
        "It shows people of the training data: keep it to yourself.",
        err=True,
    )
