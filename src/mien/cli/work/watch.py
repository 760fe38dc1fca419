"""The work of `mien watch`: what it prints and writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli.common import counted, machine_readable
from mien.gallery.names import shown
from mien.reporting import schemas
from mien.reporting.html import write_text
from mien.reporting.overlay import draw_watched
from mien.reporting.watching import clock, watch_page
from mien.video import records
from mien.video.sinks import Film, JsonLines

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.types import OperatingPoint
    from mien.video.pipeline import Sink
    from mien.video.records import Event, Summary, Watched
    from mien.video.sources import Source


class Keeper:
    """Keeps the summary, also where Ctrl-C ends the watch."""

    needs_pixels = False

    def __init__(self) -> None:
        self.summary: Summary | None = None
        self.unwritten = False

    def warn(self, text: str) -> None:
        """Say what went wrong, and keep that a file is not whole."""
        self.unwritten |= text.startswith("Cannot write")
        click.echo(f"mien: {shown(text)}", err=True)

    def write(self, watched: Watched) -> None:
        """Print the events of a picture."""
        for event in watched.events:
            _echo_event(event)

    def close(self, summary: Summary | None) -> None:
        """Keep the summary."""
        self.summary = summary


def open_sinks(
    source: Source,
    analyzer: Analyzer,
    point: OperatingPoint | None,
    jsonl: Path | None,
    pictures: bool,
    save: Path | None,
) -> list[Sink]:
    """Open what the options ask to be written: events, a film."""
    sinks: list[Sink] = []
    if jsonl is not None:
        head = schemas.watch_head(
            source.name,
            live=source.live,
            embedder=analyzer.card.id,
            expression=analyzer.expression_id,
            point=point,
        )
        if str(jsonl) == "-":
            machine_readable()
        sinks.append(
            JsonLines(
                sys.stdout if str(jsonl) == "-" else jsonl,
                event=schemas.watch_event,
                picture=schemas.watch_picture if pictures else None,
                head=head,
                tail=schemas.watch_tail,
            )
        )
    if save is not None:
        sinks.append(Film(save, draw=draw_watched))
    return sinks


def write_report(
    folder: Path, summary: Summary, source: Source, gallery: Gallery | None, point: OperatingPoint | None
) -> None:
    """Write the page of who was seen, when and for how long."""
    basis = "Nobody is known: there was no gallery. People who were seen again have the same number."
    if gallery is not None and point is not None:
        basis = (
            f"Names are from a gallery of {counted(len(gallery), 'subject')}, at cosine {point.threshold:.3f}; "
            "each track is named by its best faces together."
        )
    write_text(folder / "report.html", watch_page(summary, source=_title(source), basis=basis))
    click.echo(f"mien: wrote {folder / 'report.html'}", err=True)


def _title(source: Source) -> str:
    """Return the name of a file without its folders; of anything else the whole name."""
    return source.name if source.live else Path(source.name).name


def _echo_event(event: Event) -> None:
    """Print an event for people, on stderr where stdout takes JSON."""
    line = _in_words(event)
    if line is not None:
        click.echo(line, err=True)


def _in_words(event: Event) -> str | None:
    when = f"{event.time_s:8.1f} s"
    if isinstance(event, records.Entered):
        return f"{when}  track {event.track} {'is back' if event.again else 'appears'}"
    if isinstance(event, records.Named):
        known = event.identity
        score = "" if known.score is None else f"  score {known.score:.3f}"
        return f"{when}  track {event.track} is {shown(known.label)}{score}"
    if isinstance(event, records.Changed):
        return f"{when}  track {event.track} shows {event.expression.label}"
    if isinstance(event, records.Left):
        who = f", {shown(event.identity.label)}," if event.identity.label else ""
        return f"{when}  track {event.track}{who} has left after {event.until_s - event.since_s:.1f} s"
    return None  # what happens to the source is said when it happens


def echo_summary(summary: Summary) -> None:
    """Say in one line what was watched."""
    rate = summary.frames / max(summary.took_s, 1e-9)
    people = {track.identity.label for track in summary.tracks if track.identity.label}
    parts = [
        f"{clock(summary.seconds)} of video, {counted(summary.frames, 'picture')} ({rate:.0f} a second)",
        counted(len(summary.tracks), "track"),
        counted(len(people), "person", "people"),
    ]
    if summary.dropped:
        parts.append(f"{counted(summary.dropped, 'picture')} dropped")
    if summary.latency is not None:
        parts.append(f"95 % within {summary.latency.p95:.0f} ms")
    click.echo(f"{', '.join(parts)}.", err=True)
