"""A study's figures as a plot and a page in plain words. No PyTorch: a finished study is read anywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from mien.reporting.html import css_colour, data_uri, render

__all__ = ["draw_plot", "page", "table"]

_ACROSS = 4  # panels of the plot
_ITEMS = {"few-shot": "searches", "restoration": "mated pairs"}
"""What a study with a measure of its own counts."""
_FIXED = {"setting", "arm", "value", "interval", "seeds"}  # columns that every study with a measure of its own has
_WORDS = {word: word.upper() for word in ("fmr", "fnir", "fpir", "psnr", "ssim", "tar")}


def draw_plot(figures: Mapping[str, Any]) -> bytes:
    """Draw the measure of each arm, with its interval over seeds, one panel a setting; return a PNG."""
    from matplotlib.figure import Figure

    study, rows = figures["study"], figures["rows"]
    measure = _column(figures)
    settings = [name for name in study["settings"] if any(row["setting"] == name for row in rows)]
    arms = [arm["name"] for arm in study["arms"] if any(row["arm"] == arm["name"] for row in rows)]
    across = min(len(settings), _ACROSS)
    down = -(-len(settings) // across)
    figure = Figure(figsize=(1.5 + 4.2 * across, down * (0.9 + 0.38 * len(arms))), layout="constrained", dpi=110)
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for panel in panels[len(settings) :]:
        panel.set_axis_off()
    for panel, setting in zip(panels, settings, strict=False):
        found = {row["arm"]: row for row in rows if row["setting"] == setting}
        for place, arm in enumerate(arms):
            row = found.get(arm)
            if row is None:
                continue
            value, interval = 100 * row[measure], _interval(row, measure)
            colour = css_colour(place)
            if interval is not None:
                panel.plot([100 * end for end in interval], [place, place], color=colour, lw=2, alpha=0.6)
            panel.plot([value], [place], "o", color=colour, ms=6)
        control = next((a["name"] for a in study["arms"] if a["control"].startswith("the best")), None)
        if control in found:
            panel.axvline(100 * found[control][measure], color="0.6", lw=0.8, ls="--")
        panel.set_yticks(range(len(arms)), arms)
        title = f"{setting} of the training faces" if setting.endswith("%") else setting.replace("-", " ")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(f"{study['measure']}, in %")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", alpha=0.25)
    panels[0].invert_yaxis()  # of all panels: they share the axis
    packed = io.BytesIO()
    figure.savefig(packed, format="png")
    return packed.getvalue()


def _column(figures: Mapping[str, Any]) -> str:
    """Return what the study's measure is called in a row; ``value`` where it is one of the study's own."""
    return {"macro-F1": "macro_f1", "accuracy": "accuracy"}.get(figures["study"]["measure"], "value")


def page(figures: Mapping[str, Any], plot: bytes) -> str:
    """Return the page: question, verdicts in words, plot, arms, figures."""
    return render(
        "study.html",
        title=f"Study: {figures['study']['name']}",
        figures=figures,
        plot=data_uri(plot),
        measure=_column(figures),
        items=_ITEMS.get(figures["study"]["name"], "items"),
        headings={name: _heading(name) for name in figures["rows"][0] if name not in _FIXED},
    )


def _heading(name: str) -> str:
    """Return what a figure of a row is called above its column."""
    words = name.removesuffix("_db").split("_")
    return " ".join(_WORDS.get(word, word) for word in words) + (", dB" if name.endswith("_db") else "")


def table(figures: Mapping[str, Any]) -> list[str]:
    """Return the verdicts and a line for each arm and setting, for a terminal."""
    lines = [figures["study"]["question"], *(f"  {one['sentence']}" for one in figures["verdicts"])]
    measure = _column(figures)
    width, wide = (max(len(row[name]) for row in figures["rows"]) for name in ("arm", "setting"))
    for row in figures["rows"]:
        interval = _interval(row, measure)
        around = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
        accuracy = f", accuracy {100 * row['accuracy']:.1f}" if measure == "macro_f1" else ""
        lines.append(
            f"  {row['setting']:>{wide}} {row['arm']:<{width}}  {figures['study']['measure']} {100 * row[measure]:.1f}"
            f"{around}{accuracy}, {row['seeds']} seed{'s' * (row['seeds'] != 1)}"
        )
    if figures["unfinished"]:
        lines.append(f"  {figures['unfinished']} runs are still to come: the same command goes on.")
    return lines


def _interval(row: Mapping[str, Any], measure: str) -> tuple[float, float] | None:
    found: tuple[float, float] | None = row["interval" if measure == "value" else f"{measure}_interval"]
    return found
