"""`mien watch`: faces of a video, stream or camera over time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli.common import (
    analyzer_options,
    expression_model,
    fit_analyzer,
    gallery_options,
    make_analyzer,
    make_folder,
    open_to_search,
    shares_option,
)
from mien.errors import UsageError
from mien.gallery.deciding import decide_search
from mien.video.options import FPIR

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.types import OperatingPoint


@click.command()
@click.argument("source")
@gallery_options(required=False)
@click.option("--fpir", type=float, metavar="RATE", help=f"Largest share of strangers to be named.  [default: {FPIR}]")
@click.option("--threshold", type=float, help="Decide at this cosine similarity instead of a rate.")
@click.option("--jsonl", type=click.Path(path_type=Path), metavar="FILE", help="Events, a line each; - is stdout.")
@click.option("--pictures", is_flag=True, help="A line for each picture, too, with the faces in it.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE.mp4", help="A film with the faces drawn in.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FOLDER", help="report.html: who, when, how long.")
@click.option("--seconds", type=float, metavar="S", help="End after so much of the video.")
@click.option("--fps", type=float, help="Pictures a second of a folder, or of a file without times.  [default: 25]")
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=5.0, show_default=True, metavar="S",
    help="A stream has stalled without a picture for so long.",
)  # fmt: skip
@click.option(
    "--give-up", type=click.FloatRange(0), default=60.0, show_default=True, metavar="S",
    help="A stream has ended where it does not come back for so long; 0: never.",
)  # fmt: skip
@click.option(
    "--smoothing", type=click.FloatRange(0, 60), default=0.6, show_default=True, metavar="S",
    help="Average expressions over so long; 0: each reading alone.",
)  # fmt: skip
@click.option("--expression", "model", metavar="MODEL", help="Another expression model; none reads no expressions.")
@shares_option
@analyzer_options
def watch(
    source: str,
    gallery: str | None,
    key: Path | None,
    fpir: float | None,
    threshold: float | None,
    jsonl: Path | None,
    pictures: bool,
    save: Path | None,
    report: Path | None,
    seconds: float | None,
    fps: float | None,
    timeout: float,
    give_up: float,
    smoothing: float,
    model: str | None,
    shares: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
) -> int:
    """Follow the faces of SOURCE: who is there, when, for how long, and what their faces show.

    \b
    mien watch clip.mp4 --gallery people.mien --report out/
    mien watch 0 --jsonl events.jsonl            the first camera
    mien watch rtsp://camera/stream --jsonl -    a stream, RTSP or MJPEG over HTTP
    mien watch frames/ --fps 10                  a folder of pictures

    A file is looked at as fast as it goes, all of it. Of a camera or stream the newest picture is taken, and what is
    dropped is counted; where it breaks off it is opened again. Ctrl-C ends a watch, and all files are whole.

    A name is given to a track, not to a picture: by its best faces together, and not taken back for one bad picture.
    The exit status is 1 if the source broke off or a file could not be written to its end.
    """
    from mien.cli.work import watch as work
    from mien.video import Eyes, Naming, Options, open_source
    from mien.video import watch as watch_source

    if (fpir is not None or threshold is not None) and gallery is None:
        raise UsageError("--fpir and --threshold decide about names: add --gallery FILE.")
    if pictures and jsonl is None:
        raise UsageError("--pictures adds lines to those of --jsonl: name its file.")
    _check_outputs(source, jsonl, save)
    opened_source = open_source(source, turn=_turn(), fps=fps, timeout_s=timeout, give_up_s=give_up)
    analyzer = make_analyzer(detector, embedder, min_face, expression=expression_model(model), shares=shares)
    folder = None if report is None else make_folder(report)
    with ExitStack() as stack:
        people, point = None, None
        if gallery is not None:
            people = stack.enter_context(open_to_search(gallery, key))
            analyzer, point = _fitted(analyzer, people, fpir, threshold)
        eyes = Eyes(analyzer)
        if opened_source.live:
            eyes.warm_up()
        threshold = 1.0 if point is None else point.threshold
        naming = Naming(people, model=analyzer.card.id, threshold=threshold, same=eyes.surely_same)
        keeper = work.Keeper()
        sinks = work.open_sinks(opened_source, analyzer, point, jsonl, pictures, save)
        try:
            summary = watch_source(
                opened_source,
                eyes,
                naming=naming,
                options=Options(smoothing_s=smoothing),
                sinks=[*sinks, keeper],
                limit_s=seconds,
                warn=keeper.warn,
            )
        finally:
            # Ctrl-C too: what was seen until then is a report.
            if folder is not None and keeper.summary is not None:
                work.write_report(folder, keeper.summary, opened_source, people, point)
    work.echo_summary(summary)
    return 1 if summary.ended in ("truncated", "gave up") or keeper.unwritten else 0


def _turn() -> int | None:
    turn: int | None = click.get_current_context().meta.get("mien.turn")
    return turn


def _check_outputs(source: str, jsonl: Path | None, save: Path | None) -> None:
    """Refuse to write over what is read, or two things into one file."""
    if save is not None and save.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        raise UsageError(f"--save writes MP4: name a file such as {save.with_suffix('.mp4').name}.")
    for option, path in (("--jsonl", jsonl), ("--save", save)):
        if path is not None and str(path) != "-" and path.exists() and Path(source).exists() and path.samefile(source):
            raise UsageError(f"{option} would write over the source. Name another file.")
    if jsonl is not None and save is not None and jsonl == save:
        raise UsageError("--jsonl and --save name the same file.")


def _fitted(
    analyzer: Analyzer, gallery: Gallery, fpir: float | None, threshold: float | None
) -> tuple[Analyzer, OperatingPoint]:
    analyzer = fit_analyzer(analyzer, gallery)
    rate = FPIR if fpir is None and threshold is None else fpir
    point, notes = decide_search(analyzer.card, gallery, fpir=rate, threshold=threshold)
    for note in notes:
        click.echo(f"mien: {note}", err=True)
    return analyzer, point
