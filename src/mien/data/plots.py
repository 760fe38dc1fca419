"""A data set on one page: how many pictures of each class, what they look like, their sizes, copies across splits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.data.inspect import Report
from mien.data.samples import Samples
from mien.errors import DataError, ImageError
from mien.images import printable, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_inspection"]

Image = UInt8[np.ndarray, "height width 3"]

_COLOURS = {"train": "#2563ab", "valid": "#8db8e0", "test": "#c8501e", "": "#2563ab"}
_MOST_CLASSES, _EXAMPLES, _PAIRS = 12, 8, 8
_TILE, _GAP = 72, 4  # px


def plot_inspection(report: Report, path: str | Path) -> None:
    """Draw the report as PNG: pictures by class and split, examples, sizes, and pairs that stand in two splits.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = report.samples
    groups, number = _classes(samples)
    rows = max(len(groups), 3)
    # Without pyplot there is no global state to set or to leave behind.
    figure: Any = Figure(figsize=(12.8, 3.4 + 0.52 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=[0.52 * rows + 0.7, 2.7])
    bars, pictures = upper.subplots(1, 2, width_ratios=[1.0, 1.15])
    sizes, copies = lower.subplots(1, 2, width_ratios=[1.0, 1.15])
    _draw_counts(bars, samples, groups, number)
    _draw_examples(pictures, samples, groups)
    _draw_sizes(sizes, report)
    _draw_copies(copies, report)
    subjects = "" if samples.subjects is None else f", {len(set(samples.subjects.tolist()) - {''}):,} subjects"
    title = f"{printable(samples.source.name)}: {len(samples):,} pictures{subjects}, {len(report.problems)} problems"
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    buffer = io.BytesIO()
    # The software's version would make two runs of one result differ.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    try:
        write_whole(Path(path), buffer.getvalue())
    except OSError as error:
        raise DataError(f"Cannot write '{printable(path)}': {error.strerror or error}.") from error


def _classes(samples: Samples) -> tuple[list[tuple[str, np.ndarray]], int]:
    """Return name and samples of the classes of the first target, or of the subjects; the largest of many, and all."""
    if samples.targets:
        target = next(iter(samples.targets.values()))
        groups = [(name, np.flatnonzero(target.labels == k)) for k, name in enumerate(target.classes)]
    elif samples.subjects is not None:
        names, number = np.unique(samples.subjects, return_inverse=True)
        order = np.argsort(number, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
        groups = [(str(name) or "not known", part) for name, part in zip(names, parts, strict=True)]
    else:
        groups = [("pictures", np.arange(len(samples)))]
    if len(groups) > _MOST_CLASSES:
        return sorted(groups, key=lambda group: -len(group[1]))[:_MOST_CLASSES], len(groups)
    return groups, len(groups)


def _draw_counts(axes: Axes, samples: Samples, groups: Sequence[tuple[str, np.ndarray]], number: int) -> None:
    splits = [split for split in _COLOURS if (samples.splits == split).any()]
    left = np.zeros(len(groups))
    places = np.arange(len(groups))
    for split in splits:
        counts = np.array([(samples.splits[inside] == split).sum() for _, inside in groups])
        axes.barh(places, counts, left=left, color=_COLOURS[split], label=split or None, height=0.72)
        left += counts
    for place, total in zip(places, left, strict=True):
        axes.annotate(f"{int(total):,}", (total, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [printable(name)[:24] for name, _ in groups])
    # The rows stand beside those of the examples.
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.margins(x=0.14)
    more = f", the largest {len(groups)} of {number:,}" if number > len(groups) else ""
    name = next(iter(samples.targets), "subject" if samples.subjects is not None else "all")
    _dress(axes, f"Pictures by class ({name}{more})")
    if len(splits) > 1:
        axes.legend(frameon=False, loc="lower right", fontsize=9)


def _draw_examples(axes: Axes, samples: Samples, groups: Sequence[tuple[str, np.ndarray]]) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _, inside in groups:
        chosen = np.sort(rng.permutation(inside)[:_EXAMPLES])
        rows.append([_tile(samples, int(index)) for index in chosen])
    axes.imshow(_sheet(rows, _EXAMPLES), interpolation="nearest", aspect="equal")
    axes.set_anchor("W")
    axes.set_axis_off()
    axes.set_title("Examples, drawn at random", loc="left", fontsize=11)


def _draw_sizes(axes: Axes, report: Report) -> None:
    _dress(axes, "Sizes, px")
    if not report.sizes:
        axes.text(0.5, 0.5, "no picture can be read", ha="center", va="center", transform=axes.transAxes)
        return
    sizes = np.array(list(report.sizes), dtype=np.float64)
    counts = np.array(list(report.sizes.values()), dtype=np.float64)
    axes.scatter(
        sizes[:, 0], sizes[:, 1], s=24 + 400 * counts / counts.max(), color=_COLOURS["train"], alpha=0.45, linewidth=0
    )
    for (width, height), count in sorted(report.sizes.items(), key=lambda item: -item[1])[:4]:
        text = f"{width} x {height}: {count:,}"
        axes.annotate(text, (width, height), (10, 6), textcoords="offset points", fontsize=9)
    axes.set_xlim(0, sizes[:, 0].max() * 1.35)
    axes.set_ylim(0, sizes[:, 1].max() * 1.25)
    axes.set_xlabel("width")
    axes.set_ylabel("height")


def _draw_copies(axes: Axes, report: Report) -> None:
    axes.set_axis_off()
    samples, copies = report.samples, report.copies
    if not copies:
        axes.set_title("No picture stands in two splits", loc="left", fontsize=11)
        return
    # Those that are only nearly alike are what one wants to see; of exact ones a few will do.
    near = [copy for copy in copies if copy.likeness < 1]
    step = max(len(near) // _PAIRS, 1)
    shown = [*near[::step][:_PAIRS], *(copy for copy in copies if copy.likeness == 1)][:_PAIRS]
    rows = [[_tile(samples, copy.first) for copy in shown], [_tile(samples, copy.second) for copy in shown]]
    axes.imshow(_sheet(rows, _PAIRS), interpolation="nearest", aspect="equal")
    for column, copy in enumerate(shown):
        both = f"{samples.splits[copy.first]} / {samples.splits[copy.second]}"
        text = f"{both}\n{min(copy.likeness, 0.999):.3f}" if copy.likeness < 1 else f"{both}\nsame"
        axes.text((column + 0.5) * (_TILE + _GAP), 2 * (_TILE + _GAP) + 4, text, ha="center", va="top", fontsize=7.5)
    number = len(copies)
    axes.set_title(f"{number:,} pairs stand in two splits; {len(near):,} of them nearly", loc="left", fontsize=11)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, axis="x", color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _tile(samples: Samples, index: int) -> Image:
    """Return a picture fitted into a square; a light one with a cross where it cannot be read."""
    tile: Image = np.full((_TILE, _TILE, 3), 255, np.uint8)
    try:
        image = samples.picture(index)
    except ImageError:
        cv2.line(tile, (8, 8), (_TILE - 8, _TILE - 8), (200, 80, 30), 2)
        cv2.line(tile, (8, _TILE - 8), (_TILE - 8, 8), (200, 80, 30), 2)
        return tile
    zoom = _TILE / max(image.shape[:2])
    size = (max(round(image.shape[1] * zoom), 1), max(round(image.shape[0] * zoom), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    top, left = (_TILE - size[1]) // 2, (_TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def _sheet(rows: Sequence[Sequence[Image]], columns: int) -> Image:
    """Lay tiles out, one row a class; places without a picture stay white."""
    step = _TILE + _GAP
    sheet = np.full((max(len(rows), 1) * step, columns * step, 3), 255, np.uint8)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet[row * step : row * step + _TILE, column * step : column * step + _TILE] = tile
    return sheet
