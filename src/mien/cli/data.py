"""`mien data`: look at pictures with labels before learning from them; draw some to try things on."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import counted, echo_json, progress

# As in mien.data.samples and mien.data.drawn, which need NumPy.
KINDS = ("auto", "classes", "subjects", "pictures", "fer2013-csv", "ferplus", "ckplus", "manifest")
LAYOUTS = ("expression", "subject")


@click.group(short_help="Look at labelled pictures before learning from them.")
def data() -> None:
    """Look at labelled pictures before learning from them; draw some to try things on."""


@data.command(short_help="Count and check labelled pictures.")
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


@data.command(short_help="Draw labelled faces of people who do not exist.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--per-class", type=click.IntRange(1), default=20, show_default=True, help="Pictures of each class.")
@click.option(
    "--by", "layout", type=click.Choice(LAYOUTS), default="expression", show_default=True, help="What a class is."
)
@click.option(
    "--subjects", type=click.IntRange(1), metavar="N", help="How many people.  [default: --per-class; --by subject: 8]"
)
@click.option("--split", is_flag=True, help="Put train, valid and test above the classes, no subject in two of them.")
@click.option(
    "--side", type=click.IntRange(32, 1024), default=160, show_default=True, metavar="PX", help="Of a picture."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Who is drawn, and how.")
def draw(folder: Path, per_class: int, layout: str, subjects: int | None, split: bool, side: int, seed: int) -> None:
    """Draw faces into a folder for each class below DIR, to try out training without photographs.

    Nobody of them exists. Figures measured on them say nothing about photographs.
    """
    from mien.data.drawn import draw_samples
    from mien.types import EXPRESSIONS

    classes = len(EXPRESSIONS) if layout == "expression" else subjects or 8
    with progress(classes * per_class) as advance:
        count = draw_samples(
            folder,
            per_class=per_class,
            subjects=subjects,
            layout=layout,
            split=split,
            side=side,
            seed=seed,
            progress=advance,
        )
    click.echo(f"{folder}: {counted(count, 'drawn face')}")
