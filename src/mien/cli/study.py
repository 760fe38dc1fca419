"""`mien study`: does a generative tool help? Arms, controls, seeds, and a verdict that can be no."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mien.cli.common import needs_torch
from mien.errors import UsageError
from mien.files import printable, write_whole

if TYPE_CHECKING:
    from mien.studies.engine import AnyStudy
    from mien.studies.protocol import Cell

_FIGURES, _PLOT, _PAGE = "study.json", "study.png", "study.html"
_FOLDER = click.Path(path_type=Path, file_okay=False)
_PEOPLE = click.Path(path_type=Path)


@click.group()
def study() -> None:
    """Run and read studies of what generative models bring."""


@study.command("list")
def list_studies() -> None:
    """List the studies."""
    for name, command in run.commands.items():
        click.echo(f"{name}: {(command.help or '').splitlines()[0]}")


@study.group()
def run() -> None:
    """Run a study: write study.json, study.png and study.html into its folder.

    Ctrl-C stops it, and the same command goes on. The exit status is 1 if a run failed; the others are kept.
    """


def run_options(command: Callable[..., int], *, seeds: int = 5) -> Callable[..., int]:
    """Add what every study takes: its folder, seeds with their default, processes."""
    for option in (
        click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes at once."),
        click.option("--seeds", type=click.IntRange(1), default=seeds, show_default=True, help="Runs of each arm."),
        click.option(
            "--out", type=_FOLDER, required=True, metavar="DIR", help="Its folder; the same command goes on with it."
        ),
    ):
        command = option(command)
    return command


@run.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DATA",
    help="Expressions, split in three parts.",
)
@run_options
@click.option(
    "--share", "shares", type=float, multiple=True, metavar="PERCENT", help="Of the training faces; default: 10."
)
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--images", type=click.IntRange(64), help="Faces that each classifier sees; default: 60,000.")
@click.option("--generator-images", type=click.IntRange(64), help="Faces that each generator sees; default: 60,000.")
@click.option("--per-class", type=click.IntRange(1), help="Generated faces of a class that are kept; default: 400.")
@click.option("--test-on", type=click.IntRange(1), help="Most faces of the test set; default: all.")
@click.option("--cache", type=_FOLDER, metavar="DIR", help="Keep cut faces here, for several studies.")
def augmentation(data: Path, out: Path, seeds: int, jobs: int, cache: Path | None, **settings: Any) -> int:
    """Do generated faces teach a classifier of expressions more than real ones do?"""
    _check_there(data)
    with needs_torch():
        from mien.studies.augmentation import AugmentationStudy

    given = {key: value for key, value in settings.items() if value}
    return run_study(AugmentationStudy(data=data, seeds=seeds, cache=cache or out / "crops", **given), out, jobs)


@run.command("few-shot")
@click.option("--data", type=_PEOPLE, required=True, metavar="PEOPLE", help="Who is searched for: a folder a person.")
@click.option("--learn", type=_PEOPLE, metavar="PEOPLE", help="Other people, to learn within-person variation from.")
@click.option("--among", type=_PEOPLE, metavar="PEOPLE", help="More people: enrolled beside them, or strangers.")
@run_options
@click.option("--references", type=click.IntRange(1), multiple=True, help="Pictures enrolled; default: 1, 2 and 3.")
@click.option("--poor", is_flag=True, help="Search with poor probes as well.")
@click.option("--fpir", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Of strangers; default: 0.01.")
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this one, and 'plain'; may be repeated.")
@click.option("--cache", type=_FOLDER, metavar="DIR", help="Keep embeddings and cut faces here, for several studies.")
def few_shot(out: Path, seeds: int, jobs: int, arms: tuple[str, ...], **settings: Any) -> int:
    """Does simulated variation of few pictures make better templates?

    PEOPLE is a folder with a folder a person, or a CSV with the columns path and subject. Whoever has three pictures or
    more is enrolled, whoever has one is a stranger.
    """
    _check_there(*(settings[name] for name in ("data", "learn", "among")))
    with needs_torch():
        from mien.studies.few_shot import FewShotStudy

    given = {key: value for key, value in settings.items() if value}
    if arms:
        given["arms"] = tuple(dict.fromkeys(("plain", *arms)))
    return run_study(FewShotStudy(seeds=seeds, **given), out, jobs)


@run.command()
@click.option(
    "--data",
    type=_PEOPLE,
    metavar="PEOPLE",
    help="A folder a person, or a CSV; with --pairs the folder that its paths start from.",
)
@click.option("--pairs", type=_PEOPLE, metavar="FILE", help="LFW pairs.txt or a CSV with the header a,b,same.")
@partial(run_options, seeds=1)
@click.option("--model", metavar="MODEL", help="A restorer to ask about: name, run folder or ONNX file.")
@click.option("--condition", "conditions", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--embedder", "embedders", multiple=True, metavar="NAME", help="Recognises; may be repeated.")
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this one, and 'as-is'; may be repeated.")
@click.option("--most", type=int, help="Pairs at most, one a person; default: 200.")
def restoration(out: Path, seeds: int, jobs: int, arms: tuple[str, ...], **settings: Any) -> int:
    """Does restoring a spoilt face help to recognise it?

    One picture of each mated pair is spoilt, restored, and compared with the other, and with everybody else's. PEOPLE
    is a folder with a folder a person, or a CSV with the columns path and subject: whoever has two pictures is a pair.
    """
    from mien.studies.restoration import AS_IS, RestorationStudy

    _check_there(settings["data"], settings["pairs"])
    given = {key: value for key, value in settings.items() if value not in (None, ())}
    if arms:
        given["arms"] = tuple(dict.fromkeys((AS_IS, *arms)))
    return run_study(RestorationStudy(seeds=seeds, **given), out, jobs)


@run.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    metavar="DATA",
    help="Expressions with subjects: CK+'s layout, or a list with path, label and subject. May be repeated.",
)
@run_options
@click.option(
    "--task",
    type=click.Choice(["onset", "first", "stills"]),
    default="onset",
    show_default=True,
    help="Which question.",
)
@click.option(
    "--features",
    type=click.Choice(["vae", "expression", "landmarks"]),
    multiple=True,
    help="What networks are shown of a frame; default: vae. May be repeated.",
)
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--clips", type=click.IntRange(1), help="Of each pair of faces and renderer; default: 2.")
@click.option("--images", type=click.IntRange(64), help="Clips that each network sees; default: 25,600.")
@click.option("--folds", type=click.IntRange(2), help="Parts of the subjects; default: 2.")
@click.option("--cache", type=_FOLDER, metavar="DIR", help="Keep cut faces here, for several studies.")
def sequence(data: tuple[Path, ...], out: Path, seeds: int, jobs: int, cache: Path | None, **settings: Any) -> int:
    """Does the order of frames tell anything about expressions?"""
    _check_there(*data)
    with needs_torch():
        from mien.studies.sequence import SequenceStudy

    given = {key: value for key, value in settings.items() if value}
    return run_study(SequenceStudy(data=data, seeds=seeds, cache=cache or out / "crops", **given), out, jobs)


def _check_there(*sources: Path | None) -> None:
    """Refuse data that are not there before the study's folder is claimed for them.

    Raises:
        UsageError: One does not exist.
    """
    for source in sources:
        if source is not None and not source.exists():
            raise UsageError(f"'{printable(source)}' does not exist. Check the path.")


def run_study(made: AnyStudy, out: Path, jobs: int) -> int:
    """Run what is left of a study, write what it says, and return the exit status."""
    from mien.studies import engine

    def tell(cell: Cell, done: int, of: int) -> None:
        click.echo(f"{done} of {of}: {cell.arm} at {cell.setting}, seed {cell.seed}", err=True)

    failed = engine.run_cells(made, out, jobs=jobs, told=tell, noted=lambda line: click.echo(f"mien: {line}", err=True))
    for line in engine.failures(failed):
        click.echo(f"mien: {line}", err=True)
    _write(made, out)
    return 1 if failed else 0


@study.command()
@click.argument("folder", type=_FOLDER)
def show(folder: Path) -> None:
    """Print what the study in FOLDER says."""
    from mien.studies.report import table

    file = folder / _FIGURES
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(
            f"'{printable(folder)}' holds no {_FIGURES}. Name the folder that `mien study run` wrote into."
        ) from None
    for line in table(figures):
        click.echo(line)


def _write(made: AnyStudy, out: Path) -> None:
    from mien.studies import engine
    from mien.studies.report import draw_plot, page, table

    figures = engine.summarise(made, out)
    plot = draw_plot(figures)
    for name, data in (
        (_FIGURES, (json.dumps(figures, indent=1) + "\n").encode()),
        (_PLOT, plot),
        (_PAGE, page(figures, plot).encode()),
    ):
        try:
            write_whole(out / name, data)
        except OSError as error:
            raise UsageError(f"Cannot write '{printable(out / name)}': {error.strerror or error}.") from error
    for line in table(figures):
        click.echo(line)
    click.echo(f"{printable(out / _PAGE)}")
