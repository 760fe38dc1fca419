"""The run card: one page that says the settings of a training, how it went and what came out."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mien.reporting.html import data_uri, render

__all__ = ["draw_curves", "render_card"]

_COLOURS = {"train": "#8a8f98", "valid": "#2563ab", "": "#2563ab"}
_COLUMNS = 3
_TILES = 5
_ROW, _BELOW = 2.7, 0.2  # inches: of a row of plots, and below them all

Row = Mapping[str, float | None]


def draw_curves(rows: Sequence[Row]) -> bytes | None:
    """Draw every number of a log against the images seen, `train_x` and `valid_x` in one plot.

    Returns:
        A PNG; None where there is nothing to draw.
    """
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        for name, value in row.items():
            if name in ("images", "seconds") or value is None:
                continue
            part, _, rest = name.partition("_")
            title, line = (rest, part) if part in ("train", "valid") and rest else (name, "")
            xs, ys = panels.setdefault(title, {}).setdefault(line, ([], []))
            xs.append(float(row["images"] or 0))
            ys.append(value)
    # What never changed is no curve.
    panels = {
        title: lines
        for title, lines in panels.items()
        if len(rows) == 1 or any(len(set(ys)) > 1 for _, ys in lines.values())
    }
    if not panels:
        return None
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    height = _ROW * lines + _BELOW
    figure = Figure(figsize=(12.0, height), facecolor="white")
    # Margins that any tick label fits into: a layout engine that measures them takes longer than all the drawing.
    figure.subplots_adjust(
        left=0.055, right=0.985, wspace=0.24, hspace=0.42, bottom=(_BELOW + 0.3) / height, top=1 - 0.35 / height
    )
    for place, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, place + 1)
        only = next(iter(curves)) if len(curves) == 1 else ""
        title = _words(f"{title}, {only}" if only else title)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color="#182230")
        for line, (xs, ys) in sorted(curves.items()):
            axes.plot(
                xs,
                ys,
                color=_COLOURS[line],
                linewidth=1.6,
                label=line or None,
                marker="o" if len(xs) < 12 else None,
                markersize=3,
            )
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9, handlelength=1.4)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(labelsize=9, colors="#5b6676", length=0)
        axes.grid(color="#e8ebef", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.set_xlim(left=0)
    figure.text(0.52, 0.1 / height, "images seen", fontsize=9, color="#5b6676", ha="center")
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    figure.savefig(png, dpi=144, format="png")
    return png.getvalue()


def render_card(
    title: str,
    *,
    config: Mapping[str, Any],
    origin: Mapping[str, Any],
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    curves: bytes | None,
    pictures: Mapping[str, bytes],
) -> str:
    """Return the page as HTML that holds everything it shows.

    Args:
        title: Name of the run.
        config: As `mien.training.config.as_dict` gives it.
        origin: What `run.json` holds.
        summary: As given to `Run.finish`.
        rows: The log.
        curves: What `draw_curves` gave.
        pictures: PNG by name.
    """
    flat = {name: value for name, value in summary.items() if not isinstance(value, Mapping)}
    tiles = [(_number(value), _words(name)) for name, value in flat.items() if _is_number(value)][:_TILES]
    shown = {label for _, label in tiles}
    facts = [(_words(name), _text(value)) for name, value in flat.items() if _words(name) not in shown]
    tables = [_table(name, value) for name, value in summary.items() if isinstance(value, Mapping)]
    return render(
        "run.html",
        title=title,
        basis=_basis(config, origin, rows),
        tiles=tiles,
        facts=facts,
        tables=tables,
        curves=data_uri(curves) if curves else None,
        pictures=[(_words(name), data_uri(data)) for name, data in pictures.items()],
        settings=list(_settings(config)),
        origin=[(_words(name), _text(value)) for name, value in origin.items() if name not in ("format", "story")],
    )


def _basis(config: Mapping[str, Any], origin: Mapping[str, Any], rows: Sequence[Row]) -> str:
    parts = [_story(str(origin.get("story", "")))]
    if rows:
        images, seconds = float(rows[-1]["images"] or 0), float(rows[-1]["seconds"] or 0)
        whole = config.get("end_at") or config.get("images")
        of = f" of {whole:,}" if isinstance(whole, int) and images < whole else ""
        parts.append(f"{images:,.0f}{of} images in {_duration(seconds)}")
        if seconds > 0:
            parts.append(f"{images / seconds:,.0f} images a second, reports included")
    return " · ".join(part for part in parts if part)


def _story(name: str) -> str:
    """`ExpressionConfig` as `expression`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Config")).lower()


def _table(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if value and all(isinstance(row, Mapping) for row in value.values()):
        columns = list(dict.fromkeys(str(key) for row in value.values() for key in row))
        body = [(str(label), [_text(row.get(column)) for column in columns]) for label, row in value.items()]
        return {"title": _words(name), "columns": [_words(column) for column in columns], "rows": body}
    return {
        "title": _words(name),
        "columns": [],
        "rows": [(_words(str(key)), [_text(item)]) for key, item in value.items()],
    }


def _settings(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{prefix}{key}.")
        else:
            # A setting is shown as one would type it.
            rows.append((prefix + key, f"{value:g}" if isinstance(value, float) else _text(value)))
    return rows


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    value = float(value)
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    # As many digits for all rates, so that columns line up.
    return f"{value:.4f}" if 0.001 <= abs(value) <= 1 or value == 0 else f"{value:.4g}"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return _number(value)
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(_text(item) for item in value) or "–"
    return str(value)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
