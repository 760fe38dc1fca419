"""`mien train sequence`: a small recurrent network that reads expressions over the frames of clips."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import counted, needs_torch
from mien.cli.train import check_resume, duration, name_dry_run, run_story, training_options


@click.command()
@training_options
@click.option(
    "--features",
    type=click.Choice(["vae", "expression", "landmarks"]),
    help="What is read of a frame: a VAE's latents (default), what it shows by itself, or points of lips, eyes, brows.",
)
@click.option("--on", metavar="MODEL", help="Which model reads that; default: ours.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep what was read of the frames here, for several runs; default: in the run folder.",
)
def sequence(
    file: Path | None,
    sets: tuple[str, ...],
    resume: str,
    dry_run: bool,
    **settings: object,
) -> None:
    """Train a network that reads expressions over time, and write it with its card into the run folder.

    DATA has a folder for each expression, and in it a folder of frames or a video for each clip; CK+'s own layouts and
    a list, clips.csv, are read too. Subjects who are known stand either among those learned from or those checked with.
    """
    with needs_torch():
        from mien.training import sequence as story
        from mien.training.config import load_config

    name_dry_run(settings, dry_run)
    config = load_config(story.SequenceConfig, file, sets, settings)
    if dry_run:
        dry = story.dry_run(config)
        click.echo(
            f"{counted(dry.clips, 'clip')} of {counted(dry.subjects, 'known subject')}: {', '.join(dry.classes)}"
        )
        click.echo(f"{dry.parameters:,} parameters")
        for line in duration(dry.clips_per_second, config.end):
            click.echo(line.replace("images", "clips"))
        return
    check_resume(resume, config.out)
    trained = run_story(story.train, config)
    scores, clips = trained.summary["validation"], trained.summary["clips"]
    click.echo(
        f"{counted(clips['valid'], 'validation clip')}: accuracy {100 * scores['accuracy']:.2f} %, "
        f"macro-F1 {scores['macro_f1']:.3f}, calibration error {scores['ece']:.3f}"
    )
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien expression CLIP --sequence {config.out}")
