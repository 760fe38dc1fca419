"""`mien demo`: all of it on a public-domain portrait and drawn faces."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import DEFAULT_FMR, make_folder


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Where to.",
)
@click.option("--fmr", type=float, default=DEFAULT_FMR, show_default=True, help="False match rate to decide at.")
def demo(out: Path, fmr: float) -> None:
    """Find, enrol, degrade, identify and group; write report.html and pictures into DIR."""
    from mien.demo import run, summary

    shown = run(make_folder(out), fmr=fmr)
    for line in summary(shown):
        click.echo(line)
    point = shown.point
    click.echo(
        f"\nDecided at cosine {point.threshold:.3f}: FMR {point.fmr:.2g}, FNMR {point.fnmr:.2g} on {point.dataset}.\n"
        f"One picture takes {shown.analyze_ms:.0f} ms, all of this took {shown.seconds:.1f} s.\n{shown.report}",
    )
