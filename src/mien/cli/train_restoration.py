"""`mien train restoration`: a network that restores spoilt faces."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from mien.cli.common import counted, needs_torch
from mien.cli.train import check_resume, duration, name_dry_run, run_story, training_options


@click.command()
@partial(training_options, several=True)
@click.option("--aligned", is_flag=True, default=None, help="The pictures are faces cut out already: look for none.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep cut faces here, for several runs; default: in the run folder.",
)
def restoration(
    file: Path | None,
    sets: tuple[str, ...],
    resume: str,
    dry_run: bool,
    data: tuple[Path, ...],
    **settings: object,
) -> None:
    """Train a network that restores faces: spoilt ones in, what they were out.

    A folder of good pictures of faces is enough: they are spoilt here, by size, blur, noise, JPEG, light and things
    before the face, and some are left clean. RUN gets model.onnx, which needs no PyTorch.
    """
    with needs_torch():
        from mien.training import restoration as story
        from mien.training.config import load_config

    name_dry_run(settings, dry_run)
    config = load_config(story.RestorationConfig, file, sets, {**settings, "data": data or None})
    if dry_run:
        dry = story.dry_run(config)
        click.echo(f"{counted(dry.train, 'picture')} to learn from, {dry.valid:,} to check with")
        click.echo(
            f"{dry.parameters / 1e6:.2f} million parameters, {dry.macs / 1e6:.0f} million multiplications a face"
        )
        for line in duration(dry.images_per_second, config.end):
            click.echo(line)
        return
    check_resume(resume, config.out)
    trained = run_story(story.train, config)
    if not trained.summary:
        return  # only the main process measures
    facts = trained.summary
    click.echo(
        f"{counted(facts['pictures']['valid'], 'picture')} held out: PSNR {facts['psnr']:.2f} dB, "
        f"{facts['psnr_gain']:+.2f} dB where nothing stands before the face"
    )
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien restore PICTURE -o OUT --model {config.out}")
