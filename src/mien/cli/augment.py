"""`mien augment`: generated faces for the classes of a training set that have too few."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--model", metavar="MODEL", help="A generator's name or run folder; default: ours for expressions.")
@click.option("-o", "--out", type=_FOLDER, required=True, metavar="DIR")
@click.option(
    "--to", "target", default="median", show_default=True, metavar="COUNT",
    help="Fill classes up to this many faces: median, largest, or a number.",
)  # fmt: skip
@click.option("--least", type=float, default=0.4, show_default=True, help="Least probability of the expression asked.")
@click.option("--most", type=float, default=1.0, show_default=True, help="And the highest: surer faces teach little.")
@click.option(
    "--radius", type=float, default=1.0, show_default=True, metavar="PERCENTILE",
    help="Leave out faces nearer to one of DATA, or to one another, than so many per cent of DATA's are. 0: never.",
)  # fmt: skip
@click.option(
    "--judge",
    metavar="MODEL",
    help="Network that reads expressions; default: one that the generator's training did not use.",
)
@click.option("--no-filter", is_flag=True, help="Keep every face.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--cache", type=_FOLDER, metavar="DIR", help="Keep cut faces of DATA here.")
def augment(
    data: Path, model: str | None, out: Path, target: str, judge: str | None, no_filter: bool, seed: int,
    cache: Path | None, **limits: float,
) -> int:  # fmt: skip
    """Fill the rare classes of DATA with generated faces, into a folder beside it.

    Train on both: mien train expression --data DATA --data DIR. A face is kept if an independent network sees the
    expression that was asked for, and if it is neither a training face nor another generated one over again.
    `decisions.csv` lists every face that was drawn and why it was left out. Whether this helps is another question: see
    mien study run augmentation. The exit status is 1 if a class could not be filled.
    """
    from mien.cli.work import augment as work

    return work.augment(
        data, out, model=model, target=target, judge=judge, filtered=not no_filter, seed=seed, cache=cache,
        limits=limits,
    )  # fmt: skip
