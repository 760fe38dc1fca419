"""`mien evaluate`: measure verification (1:1), identification (1:N), expressions and generated faces."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

import mien
from mien import evaluation, zoo
from mien.cli.common import counted, decision_point, is_terminal, needs_torch, progress
from mien.errors import UsageError
from mien.files import printable, write_whole
from mien.training.reporter import PictureProgress

if TYPE_CHECKING:
    from mien.evaluation import ExpressionReport
    from mien.evaluation.acquisition import AnalyzerLike
    from mien.evaluation.generation import Distances, Faces, GenerationReport, Taught, Teach
    from mien.evaluation.records import Rate

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
DATA = click.Path(path_type=Path)
OUT = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
OUT_FOLDER = click.Path(path_type=Path, file_okay=False)

Row = tuple[str, str, str]


@click.group(short_help="Measure verification, identification, expressions and generated faces, with intervals.")
def evaluate() -> None:
    """Measure recognition on data with known subjects or expressions. Intervals are 95 % and resample subjects."""


@evaluate.command()
@click.option("--images", type=FOLDER, help="Folder that the list's paths start from; default: the list's own folder.")
@click.option("--pairs", type=FILE, help="LFW pairs.txt, a CSV with the header a,b,same, or a .bin set.")
@click.option("--groups", type=FILE, help="CSV with the column path, optionally subject, and a column an attribute.")
@click.option("--fmr", type=float, help="With --groups: rate whose threshold decides.  [default: 1e-3]")
@click.option("--threshold", type=float, help="With --groups: your own threshold in its place.")
@click.option("--json", "out", type=OUT, help="Write all figures here; - is stdout.")
@click.option("--plots", type=OUT_FOLDER, help="Write det.png and roc.png, or groups.png, into this folder.")
@click.option("--embedder", help="Name of an embedder; see mien models list.")
@click.option("--detector", default="auto", show_default=True, help="Name of a detector.")
@click.pass_context
def verification(
    ctx: click.Context,
    images: Path | None,
    pairs: Path | None,
    groups: Path | None,
    fmr: float | None,
    threshold: float | None,
    out: Path | None,
    plots: Path | None,
    embedder: str | None,
    detector: str,
) -> None:
    """Compare the pairs of a list: accuracy over folds, EER, TAR at FMR; or people within groups: rates by group.

    With --pairs the threshold of each fold is chosen on the others, and a picture without a face counts as an error.
    With --groups everybody is compared with everybody of the same group (sex, age, origin, camera, ...), at one
    threshold.
    """
    if (pairs is None) == (groups is None):
        raise UsageError("Name a list of pairs with --pairs, or people and their groups with --groups; one of them.")
    _check_writable(out, plots)
    if groups is not None:
        _evaluate_groups(ctx, groups, images, open_analyzer(detector, embedder), fmr, threshold, out, plots)
        return
    if fmr is not None or threshold is not None:
        raise UsageError("--fmr and --threshold are for --groups; --pairs reports all rates.")
    assert pairs is not None, "one of the two is named"
    listed = evaluation.read_pairs(pairs, images=images)
    analyzer = open_analyzer(detector, embedder)
    with progress(len(listed.pictures)) as advance:
        report = evaluation.verify_pairs(analyzer, listed, progress=advance)
    _write_json(out, report.to_json())
    if plots:
        plots.mkdir(parents=True, exist_ok=True)
        evaluation.plot_det(report, plots / "det.png")
        evaluation.plot_roc(report, plots / "roc.png")

    folds = len(report.accuracy.folds)
    rows: list[Row] = [
        (
            f"accuracy, {folds} folds",
            f"{_percent(report.accuracy.mean)} +- {100 * report.accuracy.stderr:.2f}",
            _interval(report.accuracy_interval),
        ),
        ("equal error rate", _percent(report.eer), _interval(report.eer_interval)),
        *_rates("TAR at FMR", report.tar_at_fmr),
        *(
            (
                f"card's threshold for FMR {point.target_fmr:g}",
                f"FMR {point.fmr:.2g}, FNMR {_percent(point.fnmr)}",
                f"FMR {point.fmr_interval[0]:.1g} to {point.fmr_interval[1]:.1g}",
            )
            for point in report.operating_points
        ),
        ("failures to acquire", f"{len(report.fta)} of {report.num_pictures} pictures", ""),
    ]
    title = f"{report.dataset}: {report.num_genuine} mated and {report.num_impostor} non-mated pairs, {report.embedder}"
    _table(title, rows, err=_is_stdout(out))
    _finish(ctx, report.unreadable, [rate.reason for rate in report.tar_at_fmr.values() if rate.reason])


def _evaluate_groups(
    ctx: click.Context,
    file: Path,
    images: Path | None,
    analyzer: AnalyzerLike,
    fmr: float | None,
    threshold: float | None,
    out: Path | None,
    plots: Path | None,
) -> None:
    people = evaluation.read_groups(file, images=images)
    point = decision_point(analyzer.embedder.card, fmr=fmr, threshold=threshold)
    with progress(len(people.paths)) as advance:
        report = evaluation.evaluate_groups(analyzer, people, point=point, dataset=file.name, progress=advance)
    _write_json(out, report.to_json())
    if plots:
        plots.mkdir(parents=True, exist_ok=True)
        evaluation.plot_groups(report, plots / "groups.png")
    rows: list[Row] = [
        (
            f"{printable(group.group)} ({counted(group.subjects, 'person', 'people')})",
            f"FMR {group.fmr:.2g}" + ("" if group.fnmr is None else f", FNMR {_percent(group.fnmr)}"),
            f"FMR {group.fmr_interval[0]:.1g} to {group.fmr_interval[1]:.1g}",
        )
        for group in report.groups
    ]
    rows.append(("worst group", f"{printable(report.worst.group)}: FMR {report.worst.fmr:.2g}", ""))
    if report.ratio is not None:
        rows.append(("worst over geometric mean", f"{report.ratio:.1f} times", ""))
    rows.append(("failures to acquire", f"{len(report.fta)} of {len(people.paths)} pictures", ""))
    stated = f"at FMR {point.target_fmr:g}" if point.num_impostor else "at your own threshold"
    _table(f"{report.dataset}: within groups, {stated} ({report.embedder})", rows, err=_is_stdout(out))
    too_few = [f"{printable(name)}: {counted(count, 'person', 'people')}" for name, count in report.too_small.items()]
    _finish(ctx, report.unreadable, [f"left out, too few people: {'; '.join(too_few)}"] if too_few else [])


@evaluate.command()
@click.option("--gallery-dir", type=FOLDER, required=True, help="One folder a subject: who is enrolled.")
@click.option("--probe-dir", type=FOLDER, required=True, help="One folder a subject; others, and `unknown`: strangers.")
@click.option("--json", "out", type=OUT, help="Write all figures here; - is stdout.")
@click.option("--embedder", help="Name of an embedder; see mien models list.")
@click.option("--detector", default="auto", show_default=True, help="Name of a detector.")
@click.pass_context
def identification(
    ctx: click.Context, gallery_dir: Path, probe_dir: Path, out: Path | None, embedder: str | None, detector: str
) -> None:
    """Search for probes among enrolled subjects: rank-1, CMC, and FNIR at FPIR for probes of strangers."""
    _check_writable(out, None)
    count = len(evaluation.scan(gallery_dir).paths) + len(evaluation.scan(probe_dir).paths)
    analyzer = open_analyzer(detector, embedder)
    with progress(count) as advance:
        report = evaluation.identify_folders(analyzer, gallery_dir, probe_dir, progress=advance)
    _write_json(out, report.to_json())

    rows: list[Row] = [
        ("rank 1", _percent(report.rank1), _interval(report.rank1_interval)),
        *((f"rank {k}", _percent(float(report.cmc[k - 1])), "") for k in (5, 10) if k <= len(report.cmc)),
        *_rates("FNIR at FPIR", report.fnir_at_fpir),
        *(
            (
                f"card's threshold for FMR {point.target_fmr:g}",
                f"FPIR {_percent(point.fpir)}, FNIR {_percent(point.fnir)}",
                f"FPIR foreseen {_percent(point.expected_fpir)}",
            )
            for point in report.operating_points
        ),
        ("failures to acquire, to enrol", f"{len(report.fta)} pictures, {len(report.fte)} subjects", ""),
    ]
    title = (
        f"{report.num_subjects} subjects, {report.num_references} references; "
        f"{report.num_mated} mated and {report.num_nonmated} other probes, {report.embedder}"
    )
    _table(title, rows, err=_is_stdout(out))
    notes = [rate.reason for rate in report.fnir_at_fpir.values() if rate.reason]
    if report.repeated:
        notes.append(f"{len(report.repeated)} probes are the very picture that is enrolled: they flatter every rate.")
    _finish(ctx, report.unreadable, notes)


@evaluate.command()
@click.option(
    "--model", metavar="MODEL", help="A model's name, a run folder, or an ONNX file with its card; default: ours."
)
@click.option("--data", type=DATA, required=True, help="Folder, zip or list of pictures with expressions.")
@click.option("--kind", default="auto", show_default=True, help="Layout of the data; see mien data inspect --help.")
@click.option("--labels", help="Data set whose class names and numbers are used: fer2013, affectnet8, rafdb, ...")
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test", "all"]),
    help="Part of the data.  [default: test where there is one, else all]",
)
@click.option("--target", help="Whose labels count where data has several, such as ferplus and fer2013.")
@click.option(
    "--classes",
    type=click.Choice(["data", "model"]),
    default="data",
    show_default=True,
    help="Choose from the classes that the data has, or from all that the model knows.",
)
@click.option(
    "--shares",
    metavar="SHARES",
    help="How common expressions are: learned, equal, or a file; answer: as mien analyze tells.  [default: learned]",
)
@click.option("--no-leaks", is_flag=True, help="Leave out pictures that also stand in another split.")
@click.option("--agreed", is_flag=True, help="Measure only where most raters agree: how FER+ is published.")
@click.option("--json", "out", type=OUT, help="Write all figures here; - is stdout.")
@click.option("--plots", type=OUT_FOLDER, help="Write confusion.png and reliability.png into this folder.")
@click.pass_context
def expression(
    ctx: click.Context,
    model: str | None,
    data: Path,
    kind: str,
    labels: str | None,
    split: str | None,
    target: str | None,
    classes: str,
    shares: str | None,
    no_leaks: bool,
    agreed: bool,
    out: Path | None,
    plots: Path | None,
) -> None:
    """Read the expressions of labelled pictures: accuracy, F1 by class, calibration.

    Faces are found and cut out as at run time. A picture in which no face is found is read as a whole, and counted.
    """
    from mien.data.samples import read_samples
    from mien.vision.expression import ExpressionReader
    from mien.vision.shares import read_shares

    _check_writable(out, plots)
    card = zoo.named(model or zoo.default("expression"))
    if card.role != "expression":
        raise UsageError(f"'{model}' is of role {card.role}, expected a model of role expression.")
    samples = read_samples(data, kind=kind, labels=labels)
    as_told = shares == "answer"
    reader = ExpressionReader(card, shares=None if shares is None or as_told else read_shares(shares))
    with progress(None) as advance:
        report = evaluation.evaluate_expression(
            reader,
            samples,
            split=split,
            target=target,
            classes=classes,
            leaks=not no_leaks,
            agreed=agreed,
            as_told=as_told,
            progress=advance,
        )
    _write_json(out, report.to_json())
    if plots:
        plots.mkdir(parents=True, exist_ok=True)
        evaluation.plot_confusion(report, plots / "confusion.png")
        evaluation.plot_reliability(report, plots / "reliability.png")

    figures = report.figures
    title = f"{report.dataset}, {report.split}: {len(figures.labels)} pictures, "
    title += f"{len(figures.classes)} classes by {report.target}, {report.model}"
    _table(title, _expression_rows(report), err=_is_stdout(out))
    _finish(ctx, report.unreadable, [*samples.notes, *_left_out(report)], fate="left out")


def _expression_rows(report: ExpressionReport) -> list[Row]:
    figures = report.figures
    limits = figures.intervals
    rows: list[Row] = [
        ("accuracy", _percent(figures.accuracy), _interval(limits.accuracy)),
        ("macro-F1", _percent(figures.macro_f1), _interval(limits.macro_f1)),
        *(
            (f"F1 of {name} ({score.n})", _percent(score.f1), _interval(interval))
            for name, score, interval in zip(figures.classes, figures.per_class, limits.f1, strict=True)
        ),
        ("expected calibration error", _percent(figures.reliability.error), _interval(limits.ece)),
    ]
    if report.uncertain_below > 0:
        rows.append((f"uncertain, below {report.uncertain_below:.2f}", _percent(figures.uncertain), ""))
        rows.append(("accuracy of the others", _percent(figures.accuracy_of_certain), ""))
    rows.append(("no face found, read as a whole", f"{report.not_found} of {len(figures.labels)} pictures", ""))
    return rows


def _left_out(report: ExpressionReport) -> list[str]:
    """Say which pictures were not measured, and why."""
    notes = []
    if report.unlabelled:
        notes.append(f"{report.unlabelled} pictures have no label; they are left out.")
    if report.leaks is not None:
        notes.append(f"{report.leaks} pictures also stand in another split; they are left out.")
    if report.disputed is not None:
        notes.append(f"On {report.disputed} pictures raters do not agree; they are left out.")
    if report.left_out:
        unknown = ", ".join(f"{name} ({number})" for name, number in report.left_out.items())
        notes.append(f"The model does not know {unknown}; these pictures are left out.")
    return notes


@evaluate.command()
@click.option(
    "--model", metavar="MODEL|DIR", required=True, help="A generator's name or run folder; or a folder of pictures."
)
@click.option("--reference", type=DATA, required=True, help="Real faces that the generator has not seen.")
@click.option(
    "--reference-split",
    "split",
    type=click.Choice(["train", "valid", "test", "all"]),
    default="test",
    show_default=True,
    help="Part of them; of data without splits a tenth is test, the one that training leaves out.",
)
@click.option("-n", "count", type=int, help="Faces of each kind; default and at most half of the real ones.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Draws; intervals are over them.")
@click.option(
    "--space", "names", multiple=True, metavar="MODEL", help="Network whose features are compared; may be repeated."
)
@click.option(
    "--inception",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="ONNX",
    help="FID's network, to compute FID too: (n, 3, 299, 299), RGB 0 to 255, to (n, 2048).",
)
@click.option("--template", help="How faces of a folder are cut.  [default: face-64]")
@click.option("--side", type=int, help="Their side in px.  [default: the template's]")
@click.option("--grey", is_flag=True, help="Compare in grey.")
@click.option("--aligned", is_flag=True, help="The folder's pictures are cut by the template already.")
@click.option(
    "--train-on-synthetic",
    "lesson",
    type=int,
    metavar="N",
    help="Also train a small network on generated faces, one on real ones (those of the reference's train split), and "
    "test both on the split compared with; each sees N faces, such as 60000. Needs PyTorch.",
)
@click.option("--cache", type=OUT_FOLDER, help="Keep faces cut out of the reference here.")
@click.option("--json", "out", type=OUT, help="Write all figures here; - is stdout.")
@click.option("--plots", type=OUT_FOLDER, help="Write distances.png into this folder.")
@click.pass_context
def generation(
    ctx: click.Context,
    model: str,
    reference: Path,
    split: str,
    count: int | None,
    seeds: int,
    names: tuple[str, ...],
    inception: Path | None,
    template: str | None,
    side: int | None,
    grey: bool,
    aligned: bool,
    lesson: int | None,
    cache: Path | None,
    out: Path | None,
    plots: Path | None,
) -> None:
    """Compare generated faces with real ones, in the features of several networks.

    Each distance stands beside that of other real faces (the floor), and of real faces blurred and made noisy. What is
    asked for is read by an expression network that the generator was not trained with; a network that it was trained
    with is measured with, and marked as not judging.
    """
    _check_writable(out, plots)
    report = evaluation.evaluate_model(
        model,
        reference,
        split=split,
        n=count,
        seeds=seeds,
        spaces=names,
        inception=inception,
        template=template,
        side=side,
        grey=grey,
        aligned=aligned,
        teach=None if lesson is None else _lesson(lesson),
        cache=cache,
        reading=PictureProgress(),
        measuring=progress,
    )
    _write_json(out, report.to_json())
    if plots:
        plots.mkdir(parents=True, exist_ok=True)
        evaluation.plot_distances(report, plots / "distances.png")
    against = f"{report.n} faces of {report.reference}, {report.split}"
    title = f"{report.model} against {against}, {counted(report.seeds, 'seed')}"
    _table(title, _generation_rows(report), err=_is_stdout(out))
    _finish(ctx, {}, report.notes)


def _lesson(images: int) -> Teach:
    """Return what trains on generated and on real faces, networks that each see so many."""
    with needs_torch():
        from mien.training.synthetic import train_on_synthetic

    def teach(fake: Faces, real: Faces, test: Faces, classes: int, grey: bool) -> Taught:
        return train_on_synthetic(fake, real, test, classes=classes, images=images, grey=grey)

    return teach


def _generation_rows(report: GenerationReport) -> list[Row]:
    from mien.metrics.intervals import mean_interval, wilson

    rows: list[Row] = []
    for space in report.spaces:
        name = space.name if space.judges else f"{space.name} (in its loss: does not judge)"

        def mean(rounds: Sequence[Distances], figure: str) -> float:
            return fmean(getattr(each, figure) for each in rounds)

        first = "FID" if space.name == evaluation.INCEPTION else "Frechet distance"
        for figure, word in (("frechet", first), ("kernel", "kernel distance")):
            low, high = mean_interval([getattr(each, figure) for each in space.generated])
            others = ", ".join(f"{key} {mean(rounds, figure):.3g}" for key, rounds in space.yardsticks.items())
            told = f"{mean(space.generated, figure):.3g} (real {mean(space.floor, figure):.3g}, {others})"
            rows.append((f"{name}: {word}", told, "" if math.isnan(low) else f"{low:.3g} to {high:.3g}"))
        figures = ("precision", "recall", "density", "coverage", "spread")
        told = ", ".join(f"{figure} {mean(space.generated, figure):.2f}" for figure in figures)
        rows.append((f"{name}: {told}", "", ""))
    for agreement, word in ((report.asked_is_seen, "asked for is seen"), (report.real_is_seen, "the same, real faces")):
        if agreement is not None:
            word = word if report.classifier_judges else f"{word} (in its loss: does not judge)"
            rows.append((word, _percent(agreement.share), _interval(agreement.interval)))
    for (found, of), word in ((report.found, "a face is found"), (report.real_found, "the same, real faces")):
        rows.append((word, _percent(found / of), _interval(wilson(found, of))))
    rows.append(("sharpness over real", f"{fmean(report.sharpness):.2f}", ""))
    if report.reconstruction is not None:
        psnr = report.reconstruction.psnr
        told = f"{fmean(psnr):.2f} dB, sharpness {report.reconstruction.sharpness:.2f}"
        low, high = mean_interval(psnr)
        rows.append((f"{len(psnr):,} real faces reconstructed", told, f"{low:.2f} to {high:.2f}"))
    if report.taught is not None:
        taught = report.taught
        told = f"{_percent(fmean(taught.accuracy))} (real {_percent(fmean(taught.real_accuracy))})"
        rows.append((f"learned from {taught.n:,} generated faces", told, ""))
    if report.samples_per_s:
        rows.append(("faces drawn a second", f"{report.samples_per_s:.0f}", ""))
    return rows


def open_analyzer(detector: str, embedder: str | None) -> AnalyzerLike:
    """Open an analyzer that reads no expressions."""
    return mien.Analyzer(detector=detector, embedder=embedder, expression=None)


def _rates(label: str, rates: Mapping[str, Rate]) -> list[Row]:
    return [
        (f"{label} {name}", _percent(rate.value), _interval(rate.interval))
        for name, rate in rates.items()
        if rate.value is not None
    ]


def _percent(rate: float) -> str:
    return "not measured" if math.isnan(rate) else f"{100 * rate:.2f} %"


def _interval(interval: tuple[float, float]) -> str:
    return "" if math.isnan(interval[0]) else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _table(title: str, rows: Sequence[Row], *, err: bool) -> None:
    """Print label, value and interval: a table on a terminal, aligned text elsewhere."""
    if is_terminal(sys.stderr if err else sys.stdout):
        from rich.console import Console
        from rich.table import Table

        table = Table("", "measured", "95 % interval", title=title, title_justify="left", box=None)
        for row in rows:
            table.add_row(*row)
        Console(stderr=err, highlight=False).print(table, markup=False)
        return
    click.echo(title, err=err)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip(), err=err)


def _finish(
    ctx: click.Context, unreadable: Mapping[str, str], notes: Sequence[str], *, fate: str = "counted as errors"
) -> None:
    """Say on stderr what could not be measured; a picture that could not be read makes the status 1."""
    for note in notes:
        click.echo(f"Not measured: {note}" if note.startswith(("FMR", "FPIR")) else note, err=True)
    for why in list(unreadable.values())[:5]:
        click.echo(why, err=True)
    if unreadable:
        click.echo(f"{counted(len(unreadable), 'picture')} could not be read; {fate}.", err=True)
        ctx.exit(1)


def _is_stdout(out: Path | None) -> bool:
    return out is not None and str(out) == "-"


def _check_writable(out: Path | None, plots: Path | None) -> None:
    """Refuse a place that cannot be written before the work, not after it."""
    for place in (out.parent if out and not _is_stdout(out) else None, plots):
        if place is None:
            continue
        above = next(p for p in (place, *place.absolute().parents) if p.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UsageError(f"Cannot write into '{place}'. Name a folder that can be written.")


def _write_json(out: Path | None, record: dict[str, object]) -> None:
    if out is None:
        return
    text = json.dumps(record, indent=1, allow_nan=False)
    if _is_stdout(out):
        click.echo(text)
        return
    write_whole(out, f"{text}\n".encode(), sync=True, parents=True)
