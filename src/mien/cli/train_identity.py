"""`mien train embedder` and `mien train classifier`: who is who, and who of a closed set of people."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import counted, needs_torch
from mien.cli.train import check_resume, name_dry_run, run_story, training_options

_CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep embeddings and crops here, for several runs; default: in the run folder.",
)
_ON = click.option("--on", metavar="MODEL", help="Embedder to build on: a name, or a run folder; default: ours.")


@click.command()
@training_options
@click.option(
    "--arch",
    type=click.Choice(["projection", "small-resnet"]),
    default="projection",
    show_default=True,
    help="Correct another embedder's vectors, in seconds; or learn from crops, for thousands of subjects.",
)
@_ON
@click.option("--head", type=click.Choice(["softmax", "cosface", "arcface"]), help="Margin; default: arcface.")
@_CACHE
def embedder(
    file: Path | None, sets: tuple[str, ...], resume: str, dry_run: bool, arch: str, **settings: object
) -> None:
    """Train an embedder on a folder for each subject, and judge it on subjects that it has never seen.

    Subjects are split into train, valid and test unless folders of these names stand above them. The last lines say
    whether the test subjects show a gain over the embedder built on, with a 95 % interval; where they don't, use that
    one. RUN works wherever an embedder is named: mien verify A B --embedder RUN.
    """
    with needs_torch():
        from mien.training import embedder as story
        from mien.training.config import load_config

    name_dry_run(settings, dry_run)
    config = load_config(story.ARCHITECTURES[arch], file, sets, settings)
    if dry_run:
        dry = story.dry_run(config)
        click.echo(f"{counted(dry.subjects, 'subject')}, {counted(dry.pictures, 'picture')}")
        click.echo(f"{dry.parameters / 1e6:.2f} million parameters, the training head included")
        click.echo(f"{dry.images_per_second:,.0f} images/s, finding the faces aside. Nothing was written.")
        return
    check_resume(resume, config.out)
    verdict = run_story(story.train, config)
    for name, base in verdict.base.items():
        click.echo(f"{name:<18} {verdict.new[name]}  built on {base}  difference {verdict.difference[name]}")
    click.echo(verdict.sentence())
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien verify A B --embedder {config.out}")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), metavar="DATA", help="A folder a subject, zip or list.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="RUN", help="The run folder.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Settings as TOML or JSON."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as strangers_named=0.01.")
@click.option("--head", type=click.Choice(["cosine", "logistic"]), help="Mean directions (default), or a regression.")
@click.option("--folds", type=int, metavar="N", help="Parts of the cross-validation; default: 5.")
@click.option("--seed", type=int, metavar="N", help="Of the folds.")
@_ON
@_CACHE
def classifier(file: Path | None, sets: tuple[str, ...], **settings: object) -> None:
    """Train a classifier that tells these subjects apart, and says `unknown` of others.

    Accuracy comes from cross-validation; the threshold of `unknown` from subjects left out in turn. RUN holds the
    subjects' names and what they look like: treat it like a gallery.
    """
    with needs_torch():
        from mien.training import classifier as story
        from mien.training.config import load_config

    config = load_config(story.ClassifierConfig, file, sets, settings)
    report = story.train(config)
    click.echo(report.sentence())
    click.echo(f"calibration error  {report.calibration_error:.3f}")
    if report.lost:
        click.echo(f"{counted(report.lost, 'picture')} show no face or cannot be read.", err=True)
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien classify PICTURE --model {config.out}")
