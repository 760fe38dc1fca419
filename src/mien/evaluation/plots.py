"""Pictures of results as PNG: DET, ROC, FNMR against discarded comparisons, confusion, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mien.evaluation.audit import AuditReport
from mien.evaluation.expression import ExpressionReport
from mien.evaluation.generation import GenerationReport
from mien.evaluation.groups import GroupReport
from mien.evaluation.verification import VerificationReport
from mien.metrics.intervals import wilson
from mien.metrics.quality import DiscardCurve
from mien.metrics.verification import roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_audit",
    "plot_confusion",
    "plot_det",
    "plot_discard",
    "plot_distances",
    "plot_groups",
    "plot_reliability",
    "plot_roc",
]

_BLUE, _ORANGE, _GREY = "#2563ab", "#c8501e", "#8a8f98"


def plot_det(report: VerificationReport, path: str | Path) -> None:
    """Draw FNMR against FMR, both logarithmic, with its band and the operating points of the card."""
    figure, axes = _canvas("False match rate", "False non-match rate", f"DET, {report.dataset}")
    curve = report.det
    # A rate of zero has no place on a logarithmic axis: the axis ends at half of one error.
    floor = 0.5 / report.num_genuine
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.fill_between(
        curve.fmr, np.maximum(curve.low, floor), np.maximum(curve.high, floor), color=_BLUE, alpha=0.18, linewidth=0
    )
    axes.plot(curve.fmr, np.maximum(curve.fnmr, floor), color=_BLUE, linewidth=1.8, label="measured, 95 % band")
    ends = np.array([max(floor, float(curve.fmr.min())), 1.0])
    axes.plot(ends, ends, color=_GREY, linewidth=0.8, linestyle=":")
    axes.plot([report.eer], [max(report.eer, floor)], "o", color=_BLUE, label=f"EER {_percent(report.eer)}")
    _mark(axes, [(p.fmr, p.fnmr, p.target_fmr) for p in report.operating_points if p.fmr > 0], floor=floor)
    axes.set_xlim(float(curve.fmr.min()), 1.0)
    axes.set_ylim(floor, 1.0)
    axes.legend(frameon=False, loc="lower left")
    _save(figure, path)


def plot_roc(report: VerificationReport, path: str | Path) -> None:
    """Draw the true accept rate against a logarithmic FMR, with its band and the operating points of the card."""
    figure, axes = _canvas("False match rate", "True accept rate", f"ROC, {report.dataset}")
    curve = report.det
    axes.set_xscale("log")
    axes.fill_between(curve.fmr, 1 - curve.high, 1 - curve.low, color=_BLUE, alpha=0.18, linewidth=0)
    whole = roc(report.scores[report.same], report.scores[~report.same & np.isfinite(report.scores)])
    axes.plot(
        np.maximum(whole.fmr, curve.fmr.min()), whole.tar, color=_BLUE, linewidth=1.8, label="measured, 95 % band"
    )
    _mark(axes, [(p.fmr, 1 - p.fnmr, p.target_fmr) for p in report.operating_points if p.fmr > 0])
    # Nothing below the band's foot is worth the room.
    axes.set_ylim(max(0.0, float(1 - curve.high.max()) - 0.02), 1.005)
    axes.set_xlim(float(curve.fmr.min()), 1.0)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


def plot_groups(report: GroupReport, path: str | Path) -> None:
    """Draw FMR by group with its interval on a logarithmic axis, beside the rate that is stated for everybody."""
    stated = report.point.target_fmr if report.point.num_impostor else None
    figure, axes = _canvas("False match rate within the group", "", f"Strangers who match, {report.dataset}")
    figure.set_size_inches(6.4, 1.2 + 0.28 * len(report.groups))
    groups = report.groups[::-1]
    # A rate of zero has no place on a logarithmic axis: it stands at half of one match.
    floor = min(0.5 / max(group.num_impostor, 1) for group in groups)
    for row, group in enumerate(groups):
        low, high = (max(limit, floor) for limit in group.fmr_interval)
        axes.plot([low, high], [row, row], color=_BLUE, linewidth=2, alpha=0.4)
        axes.plot([max(group.fmr, floor)], [row], "o", color=_BLUE, markersize=5)
    if stated is not None:
        axes.axvline(stated, color=_ORANGE, linewidth=1, label=f"stated for everybody: {stated:g}")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(groups)), [f"{group.group} ({group.subjects})" for group in groups], fontsize=8)
    _save(figure, path)


def plot_discard(curves: Mapping[str, DiscardCurve], path: str | Path, *, title: str = "Error versus discard") -> None:
    """Draw error-versus-discard curves of one or more qualities, with the oracle and a quality that knows nothing.

    Args:
        curves: Curve by name, all of the same comparisons at the same threshold.
        path: Where the PNG goes.
        title: Above the curves.
    """
    figure, axes = _canvas("Share of comparisons discarded, worst first", "FNMR of the rest", title)
    first = next(iter(curves.values()))
    axes.axhline(first.area_random, color=_GREY, linewidth=1, linestyle=":", label="at random")
    colours = (_BLUE, _ORANGE, "#2f855a", "#7c3aed", "#b7791f")
    for number, (name, curve) in enumerate(curves.items()):
        shown = curve.discarded <= curve.max_discard
        label = f"{name}: {curve.gain:.0%} of what is possible"
        axes.plot(curve.discarded[shown], curve.fnmr[shown], color=colours[number % 5], linewidth=1.8, label=label)
    shown = first.discarded <= first.max_discard
    axes.plot(first.discarded[shown], first.oracle[shown], color=_GREY, linewidth=1, linestyle="--", label="oracle")
    axes.set_xlim(0.0, first.max_discard)
    axes.set_ylim(bottom=0.0)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_confusion(report: ExpressionReport, path: str | Path) -> None:
    """Draw what was answered for pictures of each class: shares of a row as shade, pictures as numbers."""
    figures = report.figures
    table, names = figures.confusion, figures.classes
    figure, axes = _canvas(
        "answered",
        "labelled" if report.target == "expression" else f"labelled by {report.target}",
        f"{report.dataset}, {report.split}",
        height=6.0,
    )
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.grid(False)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), [f"{name} ({count:,})" for name, count in zip(names, table.sum(1), strict=True)])
    for row, column in np.ndindex(*table.shape):
        if table[row, column]:
            text = f"{100 * shares[row, column]:.0f} %\n{table[row, column]:,}"
            colour = "white" if shares[row, column] > 0.55 else "#33373d"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.text(
        1.0,
        1.015,
        f"accuracy {_percent(figures.accuracy)}, macro-F1 {figures.macro_f1:.3f}",
        transform=axes.transAxes,
        ha="right",
        fontsize=8.5,
        color="#565b63",
    )
    _save(figure, path)


def plot_reliability(report: ExpressionReport, path: str | Path) -> None:
    """Draw accuracy against confidence, with how many pictures there are of each."""
    curve = report.figures.reliability
    figure, axes = _canvas("Confidence", "Accuracy", f"Reliability, {report.dataset}, {report.split}")
    share = curve.cases / curve.cases.sum()
    axes.bar(curve.confidence, share, width=0.045, color=_GREY, alpha=0.35, linewidth=0, label="share of the pictures")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    limits = np.array([wilson(a * n, n) for a, n in zip(curve.accuracy, curve.cases, strict=True)])
    error = np.abs(limits.T - curve.accuracy)
    axes.errorbar(
        curve.confidence, curve.accuracy, yerr=error, color=_BLUE, linewidth=1.8, elinewidth=1.0, marker="o",
        markersize=4, label=f"accuracy, 95 %; ECE {curve.error:.3f}",
    )  # fmt: skip
    if report.uncertain_below > 0:
        axes.axvline(report.uncertain_below, color=_ORANGE, linewidth=1, linestyle="--", label="uncertain below")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.0)
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def plot_audit(report: AuditReport, path: str | Path) -> None:
    """Draw how near samples come to training faces, beside held-out faces: a row a space, and people's similarity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[tuple[str, dict[str, np.ndarray], float | None]] = []
    for space in report.spaces:
        named = {"samples": space.distances, "held-out faces": space.holdout_distances}
        panels.append((f"{space.space}: distance to the nearest training face", named, None))
        named = {"samples": space.relative, "held-out faces": space.holdout_relative}
        panels.append((f"{space.space}: the same over the mean of the 50 nearest", named, space.near_limit))
    if report.cosines:
        names = {"sample": "samples", "holdout": "held-out faces", "impostors": "different people"}
        named = {names[name]: values for name, values in report.cosines.items()}
        panels.append(("identity: cosine to the most similar training face", named, None))
    figure = Figure(figsize=(6.4, 2.3 * len(panels)), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, sets, limit) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        edges = np.linspace(min(v.min() for v in sets.values()), max(v.max() for v in sets.values()) + 1e-9, 61)
        for (name, values), colour in zip(sets.items(), (_ORANGE, _BLUE, _GREY), strict=False):
            share = np.histogram(values, edges)[0] / len(values)
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.3, linewidth=0)
            axes.stairs(share, edges, color=colour, linewidth=1.2, label=name)
        if limit is not None:
            axes.axvline(limit, color="#33373d", linewidth=0.8, linestyle="--", label="1 % of held-out faces")
        _plain(axes)
        axes.set_title(title, loc="left", fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.legend(frameon=False, fontsize=7.5)
    _save(figure, path)


def plot_distances(report: GenerationReport, path: str | Path) -> None:
    """Draw the Frechet distance of generated faces as a multiple of that of other real ones, for each space."""
    figure, axes = _canvas("Frechet distance, over that of other real faces", "", f"{report.model}, n = {report.n}")
    axes.set_xscale("log")
    names = []
    for row, space in enumerate(reversed(report.spaces)):
        floor = np.mean([each.frechet for each in space.floor])
        names.append(space.name if space.judges else f"{space.name}\n(does not judge)")
        marks = [("generated", space.generated, _BLUE, "o"), ("real", space.floor, _GREY, "|")]
        marks += [(name, rounds, _ORANGE, "x+"[i % 2]) for i, (name, rounds) in enumerate(space.yardsticks.items())]
        for label, rounds, colour, shape in marks:
            values = [each.frechet / floor for each in rounds]
            text = label if not row else None
            axes.plot(values, [row] * len(values), shape, color=colour, label=text, markersize=8, alpha=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)
    axes.legend(frameon=False)
    _save(figure, path)


def _canvas(across: str, up: str, title: str, *, height: float = 4.8) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot there is no global state to set or to leave behind.
    figure = Figure(figsize=(6.4, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, loc="left", fontsize=11)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.grid(True, which="major", color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark(axes: Axes, points: list[tuple[float, float, float]], *, floor: float = 0.0) -> None:
    """Mark the shipped thresholds: what they were made for beside what they do."""
    for number, (x, y, target) in enumerate(points):
        label = None if number else "shipped thresholds (FMR asked for)"
        axes.plot([x], [max(y, floor)], "D", color=_ORANGE, markersize=5, label=label)
        axes.annotate(f"{target:g}", (x, max(y, floor)), (5, 5), textcoords="offset points", color=_ORANGE, fontsize=8)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _save(figure: Figure, path: str | Path) -> None:
    # The software's version would make two runs of one result differ.
    figure.savefig(path, format="png", metadata={"Software": None})
