"""What clips show over time, for `mien expression --sequence`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.cli.common import counted, progress
from mien.cli.records import record_writer
from mien.errors import ImageError, VideoError
from mien.files import printable
from mien.reporting import schemas

if TYPE_CHECKING:
    from mien.vision.sequence import Clip

_SHOWN, _LEAST_SHOWN = 3, 0.05  # classes in a line for people


@dataclass(frozen=True, slots=True)
class _Told:
    path: str
    clip: Clip | None
    error: str | None = None


def read_clips(paths: tuple[str, ...], run: str, form: str | None) -> int:
    """Read clips and print what they show; return the exit status."""
    from mien.video.clips import read_frames
    from mien.vision.sequence import SequenceReader

    reader = SequenceReader(zoo.named(run))
    writer = record_writer(
        form, schemas.EXPRESSION_CLIPS, as_json=_as_json, in_words=_echo, head={"model": reader.card.id}, plural="clips"
    )
    seen: Counter[str] = Counter()
    with writer as write, progress(len(paths), printing=True) as advance:
        for path in paths:
            told = _Told(path, None)
            try:
                told = _Told(path, reader.read(read_frames(path, most=reader.convention.frames)))
            except (ImageError, VideoError) as error:
                told = _Told(path, None, str(error))
                named = printable(path) in str(error)
                click.echo(f"mien: {error}" if named else f"mien: {printable(path)}: {error}", err=True)
            write(told)
            seen["failed" if told.clip is None else _outcome(told.clip)] += 1
            advance()
    line = "".join(f", {count} {name}" for name, count in seen.most_common())
    click.echo(f"{counted(len(paths), 'clip')}{line}", err=True)
    return 1 if seen["failed"] else 0


def _as_json(told: _Told) -> dict[str, object]:
    return schemas.expression_clip(told.path, told.clip, told.error)


def _outcome(clip: Clip) -> str:
    return "uncertain" if clip.expression.uncertain else clip.expression.label


def _echo(told: _Told) -> None:
    """Print a clip for people: a line."""
    if told.clip is None:
        return
    clip, shown = told.clip, told.clip.expression
    ranked = sorted(shown.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
    shares = ", ".join(f"{label} {p:.2f}" for label, p in ranked if p >= _LEAST_SHOWN or label == shown.label)
    without = f", {clip.without} without a face" if clip.without else ""
    looked = counted(len(clip.frames), "frame")
    click.echo(f"{printable(told.path)}  {_outcome(clip):<10}  {shares}  ({looked}{without})")
