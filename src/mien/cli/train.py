"""`mien train`: from labelled pictures to a run folder with a network that the other commands can use."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mien.cli.common import counted, needs_torch
from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.training.expression import DryRun, Trained

SUBCOMMANDS = {
    # command: (module:attribute, one line of help)
    "expression": ("mien.cli.train:expression", "Expressions, from a folder for each, FER2013, FER+, CK+ or a list."),
    "sequence": ("mien.cli.train_sequence:sequence", "Expressions over time, from a folder for each, of clips."),
    "embedder": ("mien.cli.train_identity:embedder", "Who is who, from a folder for each subject."),
    "classifier": ("mien.cli.train_identity:classifier", "Which of these subjects, for a closed set of them."),
    "vae": ("mien.cli.train_generative:vae", "Draws faces, and describes them by latents; needs no labels."),
    "prior": ("mien.cli.train_generative:prior", "What a finished VAE, or a GAN begun as one, draws its samples from."),
    "mapper": ("mien.cli.train_generative:mapper", "How a finished VAE changes a face's expression."),
    "restoration": ("mien.cli.train_restoration:restoration", "Restores spoilt faces: small, blurred, noisy, covered."),
    "gan": ("mien.cli.train_generative:gan", "Draws faces, sharper; from noise, an expression, or whose face it is."),
}

Command = TypeVar("Command", bound=Callable[..., object])
Config = TypeVar("Config")
Outcome = TypeVar("Outcome")


class _Group(click.Group):
    """Imports a subcommand only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        module, attribute = SUBCOMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in SUBCOMMANDS.items()])


@click.group(cls=_Group)
def train() -> None:
    """Train a network on your own labelled pictures.

    Every training has a run folder: go on with a stopped one by the same command. Several processes train together
    when started with `torchrun -m mien train ...`.
    """


def training_options(command: Command, *, several: bool = False) -> Command:
    """Add what every training is told: --out, --config, --set, --seed, --images, --seconds, --device, --resume, ...

    Args:
        command: The command.
        several: --data may be given more than once; the command then gets a tuple.
    """
    for option in (
        click.option("--dry-run", is_flag=True, help="Build, take a few steps, say size and speed, write nothing."),
        click.option(
            "--resume",
            type=click.Choice(["auto", "must", "never"]),
            is_flag=False,
            flag_value="auto",  # of --resume alone
            default="auto",
            show_default=True,
            help="Go on with the run in --out: where there is one, or else refuse; never refuses where there is one.",
        ),
        click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps."),
        click.option("--seconds", type=float, metavar="S", help="Stop, saved, after so much wall-clock time."),
        click.option("--images", type=float, metavar="N", help="Length of the training in images seen, such as 2e6."),
        click.option("--seed", type=int, metavar="N", help="Of everything random."),
        click.option(
            "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as learning_rate=0.05."
        ),
        click.option(
            "--config",
            "file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Settings as TOML, or a run's own config.json.",
        ),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="RUN", help="The run folder."),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            multiple=several,
            metavar="DATA",
            help="Folder, zip or list" + ("; may be given more than once." if several else "."),
        ),
    ):
        command = option(command)
    return command


def check_resume(resume: str, out: Path | None) -> None:
    """Hold the run folder against --resume.

    Raises:
        UsageError: There is no run to go on with, or there is one where there must not be.
    """
    there = out is not None and (out / "last.safetensors").is_file()
    if resume == "must" and not there:
        raise UsageError(f"There is no run to go on with in '{out}'. Check --out, or leave --resume out.")
    if resume == "never" and there:
        raise UsageError(f"There is a run in '{out}' already. Name another folder, or leave --resume out.")


def run_story(story: Callable[[Config], Outcome], config: Config) -> Outcome:
    """Run a training; where Ctrl-C has stopped it, all is saved: say how to go on and end with status 130."""
    from mien.training.stopping import Interrupted

    try:
        return story(config)
    except Interrupted as stopped:
        click.echo(f"mien: {stopped}", err=True)
        raise click.exceptions.Exit(130) from None


def name_dry_run(settings: dict[str, Any], dry_run: bool) -> None:
    """Give a dry run a name for its folder, which is never made, where it has none."""
    if dry_run and settings["out"] is None:
        settings["out"] = Path("run")


def duration(images_per_second: float, images: int) -> list[str]:
    """Return the last lines of a dry run."""
    hours = images / images_per_second / 3600
    return [
        f"{images_per_second:,.0f} images/s: {images:,} images take about "
        + (f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(hours * 60)} minutes"),
        "Nothing was written.",
    ]


@click.command()
@partial(training_options, several=True)
@click.option("--arch", metavar="NAME", help="residual (default), face-trunk or tutorial-cnn.")
@click.option("--kind", metavar="LAYOUT", help="classes, fer2013-csv, ferplus, ckplus or manifest; default: found out.")
@click.option("--labels", metavar="SET", help="What class numbers mean: fer2013, ferplus, affectnet8, rafdb, ...")
@click.option("--strict", is_flag=True, default=None, help="Refuse training pictures that stand in other splits too.")
def expression(
    file: Path | None,
    sets: tuple[str, ...],
    resume: str,
    dry_run: bool,
    arch: str | None,
    data: tuple[Path, ...],
    **settings: object,
) -> None:
    """Train a network that reads expressions, and write it with its card into the run folder.

    The last lines say how to measure and use it. RUN/config.json holds all settings.
    """
    with needs_torch():
        from mien.training import expression as story
        from mien.training.config import load_config

    name_dry_run(settings, dry_run)
    given = {**settings, "data": data or None, "net.arch": arch}
    config = load_config(story.ExpressionConfig, file, sets, given)
    if dry_run:
        for line in _foreseen(story.dry_run(config), config.end):
            click.echo(line)
        return
    check_resume(resume, config.out)
    trained = run_story(story.train, config)
    for line in _outcome(trained, config.out, config.data):
        click.echo(line)


def _foreseen(dry: DryRun, images: int) -> list[str]:
    return [
        *(f"{name}: {', '.join(labels)}" for name, labels in dry.heads.items()),
        f"{counted(dry.train, 'picture')} to learn from, {dry.valid:,} to check with",
        f"{dry.parameters / 1e6:.2f} million parameters, {dry.macs / 1e6:.0f} million multiplications a face",
        *duration(dry.images_per_second, images),
    ]


def _outcome(trained: Trained, out: Path, data: tuple[Path, ...]) -> list[str]:
    lines = []
    for name in trained.heads:
        if (scores := trained.summary.get(name)) is not None:  # only the main process measures
            lines.append(
                f"{name}, {scores['pictures']:,} validation pictures: accuracy {100 * scores['accuracy']:.2f} %, "
                f"macro-F1 {scores['macro_f1']:.3f}, calibration error {scores['ece']:.3f}"
            )
    if lines:
        lines += [
            f"{out / 'card.html'}",
            *(f"Measure: mien evaluate expression --model {out} --data {source} --split test" for source in data),
            f"Use:     mien analyze PICTURE --expression {out}",
        ]
    return lines
