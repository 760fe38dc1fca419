"""`mien data`: look at pictures with labels before learning from them."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import echo_json, progress

# As in mien.data.samples, which needs NumPy.
KINDS = ("auto", "classes", "subjects", "fer2013-csv", "ferplus", "ckplus", "manifest")


@click.group(short_help="Look at labelled pictures before learning from them.")
def data() -> None:
    """Look at labelled pictures before learning from them."""


@data.command()
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), default="auto", show_default=True, help="How DIR is laid out.")
@click.option(
    "--labels",
    metavar="SET",
    help="What labels and class numbers may mean: ferplus, fer2013, affectnet7, affectnet8, rafdb, ckplus, jaffe, "
    "or a list such as happy,sad,neutral.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with all copies by name.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="PNG", help="Draw it on one page.")
@click.option("--strict", is_flag=True, help="Fail where anything is to be mended.")
def inspect(source: Path, kind: str, labels: str | None, as_json: bool, plot: Path | None, strict: bool) -> None:
    """Count and check the pictures of DIR: a folder, a .zip, a .csv or a .parquet.

    Prints classes by split, sizes, pictures that cannot be read, labels that mean nothing, and pictures that stand in
    two splits, exactly or nearly.
    """
    from mien.data.inspect import inspect as inspect_samples
    from mien.data.samples import read_samples

    chosen = labels.split(",") if labels and "," in labels else labels
    samples = read_samples(source, kind=kind, labels=chosen)
    with progress(len(samples)) as advance:
        report = inspect_samples(samples, progress=advance)
    if as_json:
        echo_json(report.to_json(), indent=1)
    else:
        click.echo("\n".join(report.lines()))
    if plot is not None:
        from mien.data.plots import plot_inspection

        plot_inspection(report, plot)
    if strict:
        report.refuse_problems()
