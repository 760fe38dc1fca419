"""The page of a watch: who was there, when, for how long, what their faces showed over time, and their best faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup

from mien.images import encode_image
from mien.reporting.html import css_colour, data_uri, render
from mien.types import EXPRESSIONS
from mien.video.records import Summary, TrackSummary

__all__ = ["EXPRESSION_COLOURS", "clock", "watch_page"]

_PEOPLE, _BINS, _MOMENTS = 200, 240, 12
_VISIBLE = 0.15  # share of a plot's height
_WIDTH, _HEIGHT = 720, 96  # of the plot of expressions, in its own units

EXPRESSION_COLOURS = dict(
    zip(
        EXPRESSIONS,
        ("#94a3b8", "#f59e0b", "#38bdf8", "#6366f1", "#ef4444", "#65a30d", "#a855f7", "#14b8a6"),
        strict=True,
    )
)


@dataclass(slots=True)
class _Person:
    """All tracks of one identity."""

    name: str
    known: bool
    tracks: list[TrackSummary]

    @property
    def seconds(self) -> float:
        return sum(track.seconds for track in self.tracks)

    @property
    def visits(self) -> list[tuple[float, float]]:
        return sorted(visit for track in self.tracks for visit in track.visits)

    @property
    def best(self) -> TrackSummary:
        return max(self.tracks, key=lambda track: (track.face is not None, track.quality))

    def shares(self) -> dict[str, float]:
        """Return the share of time of each expression, largest first."""
        total: dict[str, float] = {}
        for track in self.tracks:
            for label, seconds in track.expressions.items():
                total[label] = total.get(label, 0.0) + seconds
        whole = sum(total.values())
        ordered = sorted(total.items(), key=lambda item: -item[1])
        return {label: seconds / whole for label, seconds in ordered} if whole else {}


def watch_page(summary: Summary, *, source: str, basis: str) -> str:
    """Return the report as one HTML page.

    Args:
        summary: Of the watch.
        source: Name of what was watched.
        basis: A sentence: how identities were decided.
    """
    people = _people(summary.tracks)
    shown = people[:_PEOPLE]
    end = max(summary.seconds, 0.1)
    known = sum(person.known for person in people)
    tiles = [
        (clock(summary.seconds), "watched"),
        (str(len(people)), "person" if len(people) == 1 else "people"),
        (str(known), "of the gallery"),
        (f"{summary.frames:,}", "pictures"),
    ]
    if summary.dropped:
        tiles.append((f"{summary.dropped:,}", "dropped, newer ones were taken"))
    if summary.latency is not None:
        tiles.append((f"{summary.latency.p95:.0f} ms", "late at most, 95 % of pictures"))
    present = sorted({label for person in shown for label in _in_plot(person)}, key=EXPRESSIONS.index)
    return render(
        "watch.html",
        title=f"Who was there: {source}",
        basis=basis,
        tiles=tiles,
        people=[_as_card(number, person, end) for number, person in enumerate(shown)],
        hidden=len(people) - len(shown),
        legend=[(label, EXPRESSION_COLOURS[label]) for label in present],
        ticks=_ticks(end),
        notices=summary.notices,
        ended={"interrupted": "It was stopped.", "truncated": "It broke off.", "gave up": "It did not come back."}.get(
            summary.ended, ""
        ),
    )


def clock(seconds: float) -> str:
    """Return a time as 4.2 s, 1:23 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _people(tracks: Sequence[TrackSummary]) -> list[_Person]:
    """Put tracks of one identity together; those there longest come first, subjects of the gallery before others."""
    found: dict[tuple[bool, str], _Person] = {}
    for track in tracks:
        if not track.visits:
            continue
        known = track.identity.state == "identified"
        name = track.identity.label or f"track {track.track}, seen too briefly"
        found.setdefault((known, name), _Person(name, known, [])).tracks.append(track)
    return sorted(found.values(), key=lambda person: (not person.known, -person.seconds))


def _as_card(number: int, person: _Person, end: float) -> Mapping[str, object]:
    best, visits = person.best, person.visits
    scores = [track.identity.score for track in person.tracks if track.identity.score is not None]
    return {
        "name": person.name,
        "known": person.known,
        "colour": css_colour(number),
        "face": _uri(best.face),
        "score": max(scores) if scores and person.known else None,
        "seconds": clock(person.seconds),
        "times": len(visits),
        "tracks": ", ".join(str(track.track) for track in person.tracks[:_MOMENTS]),
        "moments": [f"{clock(since)} to {clock(until)}" for since, until in visits[:_MOMENTS]],
        "more": max(len(visits) - _MOMENTS, 0),
        "bars": [(100 * since / end, max(100 * (until - since) / end, 0.4)) for since, until in visits],
        "shares": [(label, EXPRESSION_COLOURS[label], 100 * share) for label, share in person.shares().items()],
        "plot": _plot(person, end),
    }


def _plot(person: _Person, end: float) -> Markup | None:
    """Draw the probabilities of expressions over time as stacked areas; gaps where nobody was there."""
    labels = next((track.labels for track in person.tracks if track.series), ())
    if not labels:
        return None
    bins = min(_BINS, max(int(end / 0.2), 12))
    sums, counts = np.zeros((bins, len(labels))), np.zeros(bins)
    for track in person.tracks:
        for time_s, row in track.series:
            place = min(int(time_s / end * bins), bins - 1)
            sums[place] += row
            counts[place] += 1
    there = np.zeros(bins, bool)
    for since, until in person.visits:
        there[int(since / end * bins) : int(until / end * bins) + 1] = True
    filled = np.flatnonzero(counts)
    if not len(filled):
        return None
    # Between two readings what was read last goes on, for as long as the face is there.
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(bins), filled[0]))
    means = sums[last] / counts[last][:, None]
    there |= counts > 0
    runs = _runs(there)
    order = sorted(range(len(labels)), key=lambda i: EXPRESSIONS.index(labels[i]))
    heights = np.cumsum(means[:, order], axis=1)
    parts = []
    for start, stop in runs:
        x = np.arange(start, stop + 1) / bins * _WIDTH
        for place, index in enumerate(order):
            high = np.append(heights[start:stop, place], heights[stop - 1, place])
            low = np.zeros_like(high)
            if place:
                low = np.append(heights[start:stop, place - 1], heights[stop - 1, place - 1])
            if float((high - low).max()) < 0.005:
                continue
            up = " ".join(f"{a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in zip(x, high, strict=True))
            down = " ".join(f"{a:.1f},{_HEIGHT * (1 - b):.1f}" for a, b in zip(x[::-1], low[::-1], strict=True))
            # Numbers and names of our own: nothing that came from outside.
            parts.append(
                f'<polygon points="{up} {down}" fill="{EXPRESSION_COLOURS[labels[index]]}">'
                f"<title>{labels[index]}</title></polygon>"
            )
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img"'
    return Markup(f'<svg {box} aria-label="Expressions over time">{"".join(parts)}</svg>')


def _in_plot(person: _Person) -> list[str]:
    """Return the expressions that a plot shows enough of to be looked up in the legend."""
    found = []
    for track in person.tracks:
        for place, label in enumerate(track.labels):
            if any(row[place] >= _VISIBLE for _, row in track.series):
                found.append(label)
    return found


def _runs(there: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _ticks(end: float) -> list[tuple[float, str]]:
    """Return some round times along the axis, with their places in per cent."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200)
    step = next((step for step in steps if end / step <= 8), 86400)
    return [(100 * i * step / end, clock(i * step)) for i in range(int(end / step) + 1)]


def _uri(face: UInt8[np.ndarray, "side side 3"] | None) -> str | None:
    return None if face is None else data_uri(encode_image(face, quality=88))
