"""`mien verify`: are two pictures of one subject?"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mien
from mien.cli.common import (
    analyzer_options,
    decision_options,
    decision_point,
    echo_json,
    face_option,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    open_gallery,
)
from mien.errors import MienError, UsageError
from mien.files import printable
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.types import Comparison

MATCH, NO_MATCH, ERROR = 0, 1, 2
"""Exit statuses, as of grep and cmp."""


@click.command()
@click.argument("a")
@click.argument("b")
@decision_options
@face_option("best")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; see docs/json.md.")
@gallery_options(required=False)
@analyzer_options
def verify(
    a: str,
    b: str,
    fmr: float | None,
    threshold: float | None,
    which: str,
    as_json: bool,
    gallery: str | None,
    key: Path | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Compare the main faces of pictures A and B: are they of one subject? One of them may be - for stdin.

    Where a picture shows several faces, it is said which one was compared; a choice between two that are as large and
    central is refused. --face best compares all with all: the false match rate grows with the number of pairs.

    A calibrated --gallery brings its own threshold. The exit status is 0 for a match, 1 for none, 2 for an error.
    """
    with _errors_end_with(ERROR):
        if a == b == "-":
            raise UsageError("Only one picture can come from stdin. Name a file for the other.")
        analyzer = make_analyzer(detector, embedder, min_face)
        if gallery is None:
            point = decision_point(analyzer.card, fmr=fmr, threshold=threshold)
        else:
            with open_gallery(gallery, key, read_only=True) as opened:
                analyzer = fit_analyzer(analyzer, opened)
                point = decision_point(analyzer.card, fmr=fmr, threshold=threshold, gallery=opened)
        first, second = (sys.stdin.buffer if name == "-" else name for name in (a, b))
        comparison = mien.verify(first, second, point=point, analyzer=analyzer, face=which)
    if as_json:
        echo_json(schemas.comparison(a, b, comparison, analyzer.card.id))
    else:
        echo_words(comparison)
    _say_choice(a, b, comparison, which)
    return MATCH if comparison.match else NO_MATCH


@contextmanager
def _errors_end_with(status: int) -> Iterator[None]:
    """Say a user's mistake and end with this status: 1, the usual one, means no match here."""
    try:
        yield
    except MienError as error:
        click.echo(f"mien: {error}", err=True)
        click.get_current_context().exit(status)


def _say_choice(a: str, b: str, comparison: Comparison, which: str) -> None:
    """Say on stderr which face was compared, where there was a choice, and what was turned."""
    assert comparison.sides is not None, "pictures were compared"
    sides = dict(zip((a, b), comparison.sides, strict=True))  # a picture compared with itself is spoken of once
    for name, side in sides.items():
        if side.faces > 1:
            where = f"{side.box.side:.0f} px at {side.box.left:.0f},{side.box.top:.0f}"
            click.echo(
                f"mien: '{printable(name)}' shows {side.faces} faces; compared is number {side.face} ({where}), "
                f"by --face {which}.",
                err=True,
            )
        if side.quality is not None and side.quality.poor:
            why = ", ".join(reason.replace("_", " ") for reason in side.quality.reasons) or "in several ways"
            known = comparison.point.num_impostor > 0
            rates = "The rates hold for faces like those they were measured on; of" if known else "Of"
            click.echo(
                f"mien: '{printable(name)}' is of poor quality ({side.quality.score:.2f}: {why}). {rates} poor ones "
                "more are missed, and more strangers match.",
                err=True,
            )
        if side.turn:
            click.echo(f"mien: '{printable(name)}' is stored turned; upright after {side.turn} degrees.", err=True)
    if comparison.pairs > 1:
        click.echo(
            f"mien: the most similar of {comparison.pairs} pairs of faces; its false match rate is up to "
            f"{comparison.pairs} times the rate of one comparison.",
            err=True,
        )


def echo_words(comparison: Comparison) -> None:
    """Print decision, score and what is known about the operating point, a line each."""
    point = comparison.point
    decision, sign = ("match", ">=") if comparison.match else ("no match", "<")
    click.echo(f"{decision}: score {comparison.score:.3f} {sign} threshold {point.threshold:.3f}")
    if not math.isnan(comparison.probability):
        # Halves of a per mille would round to certainty, which no comparison gives.
        share = min(max(comparison.probability, 0.0001), 0.9999)
        click.echo(f"probability of one subject, at even odds: {100 * share:.2f} %")
    if not point.num_impostor:
        click.echo("error rates: not known, the threshold is your own")
        return
    click.echo(f"false match rate: {_rate(point.fmr, point.fmr_interval)}")
    worst = comparison.worst_group
    if worst is None:
        click.echo("between groups of people (age, sex, origin): not measured; it may be higher for some")
    else:
        told = f"{worst.group}, {_rate(worst.fmr, worst.fmr_interval)}"
        click.echo(f"highest within a group of people: {told}, on {worst.dataset}")
    if point.num_genuine:
        click.echo(f"false non-match rate: {_rate(point.fnmr, point.fnmr_interval)}")
    counts = f"{point.num_genuine:,} mated and {point.num_impostor:,} non-mated comparisons"
    click.echo(f"measured on: {point.dataset}, {counts}")


def _rate(rate: float, interval: tuple[float, float]) -> str:
    return f"{100 * rate:.3g} % (95 %: {100 * interval[0]:.2g} to {100 * interval[1]:.2g})"
