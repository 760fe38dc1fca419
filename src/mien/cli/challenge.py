"""`mien challenge`: ask who is before a camera to blink, turn and smile."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from mien.cli.common import echo_json, expression_model, machine_readable, make_analyzer
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.video.challenge import Challenge

_SAME_FMR = 1e-3  # at which two looks are of one subject


@click.command()
@click.argument("source")
@click.option("--steps", type=click.IntRange(1, 5), default=3, show_default=True, help="How much is asked.")
@click.option("--ask", multiple=True, metavar="WISH", help="Ask this, in this order, instead of what is drawn.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=8.0, show_default=True, metavar="S",
    help="Time for each.",
)  # fmt: skip
@click.option("--seed", type=int, help="Draw the same wishes again; without it nobody knows them.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.option("--embedder", metavar="MODEL", help="Says whether it is one subject all the time.")
def challenge(
    source: str, steps: int, ask: tuple[str, ...], timeout: float, seed: int | None, as_json: bool, embedder: str | None
) -> int:
    """Ask who is before the camera SOURCE for a few things, such as a blink, and look whether they are done.

    SOURCE is as of `mien watch`. WISH is blink, turn-left, turn-right (their own left and right), smile or surprise.
    A print or a recording held before the camera hardly passes; a cue that somebody is there, and no proof. The exit
    status is 1 if something was not done.
    """
    from mien.matching import operating_point
    from mien.video import open_source
    from mien.video.challenge import WISHES, Challenge, SightReader, choose_wishes, frames_of

    machine_readable()
    wishes = ask or choose_wishes(steps, seed=seed)
    opened = open_source(source)
    analyzer = make_analyzer(embedder=embedder, expression=expression_model(None))
    asked = Challenge(wishes, timeout_s=timeout, same=operating_point(analyzer.card, _SAME_FMR).threshold)
    reader = SightReader(analyzer)

    def notify(_: str, text: str) -> None:
        click.echo(f"mien: {text}", err=True)

    with closing(frames_of(opened, notify)) as frames:
        for frame in frames:
            if asked.take(reader.read(frame.image, frame.time_s)):
                _say(asked, WISHES, len(wishes))
            if asked.is_over:
                break
    asked.end()
    if as_json:
        steps_done = [
            {"wish": one.wish, "passed": one.passed, "seconds": one.seconds, "why": one.why} for one in asked.outcomes
        ]
        echo_json({"schema": schemas.CHALLENGE, "source": source, "passed": asked.passed, "steps": steps_done})
    else:
        _sum_up(asked)
    return 0 if asked.passed else 1


def _say(asked: Challenge, words: dict[str, str], of: int) -> None:
    if asked.asked is not None:
        click.echo(f"{len(asked.outcomes) + 1} of {of}: please {words[asked.asked]}.", err=True)
    elif asked.outcomes[-1].passed and not asked.is_over:
        click.echo("   seen. Look into the camera.", err=True)


def _sum_up(asked: Challenge) -> None:
    for one in asked.outcomes:
        click.echo(f"{one.wish:<11} {'done' if one.passed else 'not done'}  {one.seconds:.1f} s  {one.why}".rstrip())
    click.echo("Passed: a cue that somebody is there, and no proof." if asked.passed else "Not passed.")
