"""`mien train embedder` and `mien train classifier`: who is who, and who of a closed set of people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli.common import counted, needs_torch
from mien.cli.train import check_resume, name_dry_run, run_story, training_options
from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.training.embedder import DryRun
    from mien.training.verification import Verdict

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
    type=click.Choice(["projection", "small-resnet", "dlib-trunk"]),
    default="projection",
    show_default=True,
    help="Correct another embedder's vectors, in seconds; learn from crops, for thousands of subjects; or learn to see "
    "in bad pictures what --teacher sees in good ones.",
)
@click.option("--teacher", metavar="MODEL", help="dlib-trunk: embedder to learn from; default: sface.")
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
        from mien.training import distillation
        from mien.training import embedder as story
        from mien.training.config import load_config

    name_dry_run(settings, dry_run)
    if arch == "dlib-trunk":
        _refuse(settings, "on", "head", why=f"--arch {arch} learns from --teacher")
        student = load_config(distillation.DistillationConfig, file, sets, settings)
        if dry_run:
            _echo_dry(distillation.dry_run(student), "")
            return
        check_resume(resume, student.out)
        judgement = run_story(distillation.train, student)
        for name, verdict in (("as they are", judgement.clean), ("every other spoilt", judgement.spoilt)):
            click.echo(name)
            _echo_verdict(verdict, "teacher")
        _echo_use(student.out)
        return
    _refuse(settings, "teacher", why=f"--arch {arch} has none: choose --arch dlib-trunk")
    config = load_config(story.ARCHITECTURES[arch], file, sets, settings)
    if dry_run:
        _echo_dry(story.dry_run(config), ", the training head included")
        return
    check_resume(resume, config.out)
    _echo_verdict(run_story(story.train, config), "built on")
    _echo_use(config.out)


def _refuse(settings: dict[str, object], *names: str, why: str) -> None:
    """Take options that belong to other architectures out of the settings; refuse them where they were given."""
    for name in names:
        if settings.pop(name) is not None:
            raise UsageError(f"--{name} cannot be given here: {why}.")


def _echo_dry(dry: DryRun, counting: str) -> None:
    click.echo(f"{counted(dry.subjects, 'subject')}, {counted(dry.pictures, 'picture')}")
    click.echo(f"{dry.parameters / 1e6:.2f} million parameters{counting}")
    click.echo(f"{dry.images_per_second:,.0f} images/s, finding the faces aside. Nothing was written.")


def _echo_verdict(verdict: Verdict, beside: str) -> None:
    for name, base in verdict.base.items():
        click.echo(f"{name:<18} {verdict.new[name]}  {beside} {base}  difference {verdict.difference[name]}")
    click.echo(verdict.sentence())


def _echo_use(out: Path) -> None:
    click.echo(f"{out / 'card.html'}")
    click.echo(f"Use: mien verify A B --embedder {out}")


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
