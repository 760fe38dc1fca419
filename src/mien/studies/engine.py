"""Run the cells of a study, in parallel, so that it can be stopped and gone on with; and write down what they say."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

import mien
from mien.errors import MienError, UsageError
from mien.files import printable, write_whole
from mien.metrics.expression import accuracy, confusion, macro_f1, per_class
from mien.metrics.intervals import Interval, mean_interval, percentile_interval
from mien.studies import protocol as protocols
from mien.studies.protocol import Cell, Verdict, compare, resampled_counts

__all__ = ["SCHEMA", "AnyStudy", "MeasuredStudy", "Measurement", "Study", "failures", "run_cells", "summarise"]

SCHEMA = "mien/study/1"
_PROTOCOL, _CELLS, _MATERIAL = "protocol.json", "cells", "material"
_REPLICATES_AT_ONCE = 50
Measure = Callable[[np.ndarray], np.ndarray]
_MEASURES: dict[str, tuple[Measure, str]] = {"macro-F1": (macro_f1, "macro_f1"), "accuracy": (accuracy, "accuracy")}
"""What a study may compare: how it is computed from confusion tables, and its name in a row."""


class Study(Protocol):
    """What the engine needs of a study; it travels to other processes, so it is plain data."""

    @property
    def protocol(self) -> protocols.Protocol:
        """What is asked."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What labels and answers mean."""

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on, for JSON."""

    def run(self, cell: Cell, folder: Path) -> tuple[Int[np.ndarray, " test"], ...]:
        """Run one cell; ``folder`` keeps what cells share. Return true labels and answers, shape (test,).

        Where test items belong together (clips of one subject), the number of each one's group comes third: groups are
        then resampled instead of items.
        """


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the runs of a study say that measures something else than classes.

    Attributes:
        values: The measure by (arm, setting, seed), higher is better.
        resampled: The same on resampled test items, the same ones for all arms at a setting, shape (replicates,).
        rows: By arm and setting, for people: with ``arm``, ``setting``, ``seeds``, ``value`` and ``interval``.
        test_items: What was tested on.
        test_groups: What these belong to, such as subjects, where groups are resampled; None otherwise.
    """

    values: Mapping[tuple[str, str, int], float]
    resampled: Mapping[tuple[str, str, int], np.ndarray]
    rows: list[dict[str, Any]]
    test_items: int
    test_groups: int | None = None


@runtime_checkable
class MeasuredStudy(Protocol):
    """A study with a measure of its own; plain data as well."""

    @property
    def protocol(self) -> protocols.Protocol:
        """What is asked."""

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on, for JSON."""

    def run(self, cell: Cell, folder: Path) -> Mapping[str, np.ndarray]:
        """Run one cell; ``folder`` keeps what cells share. Return what `measure` needs of it."""

    def measure(self, runs: Mapping[Cell, Mapping[str, np.ndarray]]) -> Measurement:
        """Return what the cells that have run amount to."""


@runtime_checkable
class Prepared(Protocol):
    """A study whose cells share something that takes long, or that may turn out not to do."""

    def prepare(self, folder: Path, note: Callable[[str], None]) -> None:
        """Make what cells share, unless ``folder`` has it; ``note`` is told what was left out, a line each."""


AnyStudy = Study | MeasuredStudy
Arrays = Mapping[str, np.ndarray]


def run_cells(
    study: AnyStudy,
    out: Path,
    *,
    jobs: int = 1,
    told: Callable[[Cell, int, int], None] | None = None,
    noted: Callable[[str], None] = lambda line: None,
) -> list[tuple[Cell, str]]:
    """Run what has not run yet; return the cells that failed and why.

    Args:
        study: Which.
        out: Its folder; one that holds the same study is gone on with.
        jobs: Processes at once.
        told: Called after each cell with it, how many there are now, and of how many.
        noted: Called with each line of what had to be left out.

    Raises:
        UsageError: The folder holds another study, or the same with other settings or other code.
        MienError: The data don't do for the study.
    """
    facts = _checked(study, out)
    if isinstance(study, Prepared):
        try:
            study.prepare(out / _MATERIAL, noted)  # before the folder is claimed: other data may still be named for it
        except OSError as error:
            raise UsageError(f"Cannot write into '{printable(out)}': {error.strerror or error}.") from error
    _claim(out, facts)
    cells = study.protocol.cells()
    left = [cell for cell in cells if not _file(out, cell).is_file()]
    failed: list[tuple[Cell, str]] = []
    for done, (cell, trouble) in enumerate(_finished(study, out, left, jobs), start=len(cells) - len(left) + 1):
        if trouble:
            failed.append((cell, trouble))
        if told is not None:
            told(cell, done, len(cells))
    return failed


def summarise(study: AnyStudy, out: Path) -> dict[str, Any]:
    """Return what the cells that have run say: a row for each arm and setting, and the verdicts; as JSON has it.

    Raises:
        UsageError: The folder holds no runs of this study.
    """
    found = {cell: _load(_file(out, cell)) for cell in study.protocol.cells() if _file(out, cell).is_file()}
    if not found:
        raise UsageError(
            f"'{printable(out)}' holds no finished run of the study '{study.protocol.name}'. Run it first."
        )
    if isinstance(study, MeasuredStudy):
        measured = study.measure(found)
    else:
        measured = _classified(found, study.classes, study.protocol.measure)
    ready = [one for one in study.protocol.planned if _has_both(one, measured.values)]
    return {
        "schema": SCHEMA,
        "study": study.protocol.as_facts(),
        "settings": study.facts(),
        "mien": version("mien"),
        "test_items": measured.test_items,
        **({} if measured.test_groups is None else {"test_groups": measured.test_groups}),
        "rows": measured.rows,
        "verdicts": [_verdict(one) for one in compare(ready, measured.resampled, measured.values)] if ready else [],
        "unfinished": len(study.protocol.cells()) - len(found),
    }


def failures(failed: list[tuple[Cell, str]]) -> list[str]:
    """Return a line for each cell that failed, or one for all where many failed for one reason."""
    reasons = {trouble for _, trouble in failed}
    if len(reasons) == 1 and len(failed) > 2:
        return [f"{len(failed)} runs: {reasons.pop()}"]
    return [f"{cell.arm} at {cell.setting}, seed {cell.seed}: {trouble}" for cell, trouble in failed]


# Cells ----------------------------------------------------------------------------------------------------------------


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Write down what runs here, unless that is written."""
    try:
        (out / _CELLS).mkdir(parents=True, exist_ok=True)
        if not (out / _PROTOCOL).is_file():
            write_whole(out / _PROTOCOL, (json.dumps(facts, indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"Cannot write into '{printable(out)}': {error.strerror or error}.") from error


def _checked(study: AnyStudy, out: Path) -> dict[str, Any]:
    """Return what is to run here, for JSON, and check that nothing else was begun."""
    facts: dict[str, Any] = json.loads(
        json.dumps({"protocol": study.protocol.as_facts(), "settings": study.facts(), "code": _code()})
    )
    file = out / _PROTOCOL
    if not file.is_file():
        return facts
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read '{printable(file)}': {error.strerror or error}.") from error
    except ValueError:
        raise UsageError(f"'{printable(file)}' is damaged. Name a new folder.") from None
    if not isinstance(there, dict) or there.get("protocol", {}).get("name") != study.protocol.name:
        raise UsageError(f"'{printable(out)}' holds another study. Name a new folder.")
    if there.get("code") != facts["code"]:
        raise UsageError(
            f"'{printable(out)}' was begun by other code of mien: its runs may not be compared with new ones. Name a "
            f"new folder, or install the version that began it."
        )
    for part in ("protocol", "settings"):
        for key, value in facts[part].items():
            if there.get(part, {}).get(key) != value:
                raise UsageError(
                    f"'{printable(out)}' was begun with another {key}. Give the same, or name a new folder."
                )
    return facts


def _code() -> str:
    """Return a digest of the code that figures depend on."""
    root = Path(mien.__file__).parent
    hasher = hashlib.sha256()
    for folder in ("studies", "training", "networks", "losses", "metrics", "data", "evaluation", "vision", "alignment"):
        for file in sorted([*(root / folder).rglob("*.py"), *root.glob(f"{folder}.py")]):
            hasher.update(file.read_bytes())
    return hasher.hexdigest()[:16]


def _finished(study: AnyStudy, out: Path, cells: list[Cell], jobs: int) -> Iterator[tuple[Cell, str]]:
    """Yield cells as they end, with what went wrong, or ''."""
    if jobs == 1:
        for cell in cells:
            yield cell, _run(study, cell, out)
        return
    # Started anew, not forked: numerical libraries that have begun threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[str], Cell] = {pool.submit(_run, study, cell, out): cell for cell in cells}
        try:
            for future in as_completed(running):
                trouble = future.exception()
                yield running[future], future.result() if trouble is None else f"its process ended ({trouble})"
        finally:  # Ctrl-C ends what runs and begins nothing more
            pool.shutdown(wait=False, cancel_futures=True)


def _run(study: AnyStudy, cell: Cell, out: Path) -> str:
    try:
        found = study.run(cell, out / _MATERIAL)
        if not isinstance(found, Mapping):
            found = dict(zip(("labels", "answers", "groups"), found, strict=False))
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **found)
        write_whole(_file(out, cell), packed.getvalue())
    except (MienError, OSError, EOFError, zipfile.BadZipFile) as error:
        return str(error) or type(error).__name__
    return ""


def _file(out: Path, cell: Cell) -> Path:
    return out / _CELLS / f"{cell.name}.npz"


def _load(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UsageError(f"'{printable(file)}' is damaged. Delete it and run the study again.") from None


# Figures --------------------------------------------------------------------------------------------------------------


def _classified(found: Mapping[Cell, Arrays], names: tuple[str, ...], measured_by: str) -> Measurement:
    """Return what classifiers amount to that answered for the same test items."""
    measure, column = _MEASURES[measured_by]
    values: dict[tuple[str, str, int], float] = {}
    resampled: dict[tuple[str, str, int], np.ndarray] = {}
    tables: dict[tuple[str, str], list[np.ndarray]] = {}
    for cell, run in found.items():
        key = (cell.arm, cell.setting, cell.seed)
        table = confusion(run["labels"], run["answers"], classes=len(names))
        values[key] = float(measure(table))
        resampled[key] = _resampled(run, len(names), measure)
        tables.setdefault((cell.arm, cell.setting), []).append(table)
    some = next(iter(found.values()))
    items, groups = len(some["labels"]), len(np.unique(_groups(some)))
    grouped = groups < items
    rows = [
        _row(arm, setting, runs, names, column)
        | ({f"{column}_interval": _by_group(arm, setting, resampled)} if grouped else {})
        for (arm, setting), runs in tables.items()
    ]
    return Measurement(values, resampled, rows, items, groups if grouped else None)


def _groups(run: Arrays) -> Int[np.ndarray, " test"]:
    """Return what each test item belongs to; itself where nothing was said."""
    return run["groups"] if "groups" in run else np.arange(len(run["labels"]))


def _by_group(arm: str, setting: str, resampled: Mapping[tuple[str, str, int], np.ndarray]) -> Interval:
    """Return where the mean over seeds lies for other groups of test items, 95 %."""
    runs = [draws for (name, at, _), draws in resampled.items() if (name, at) == (arm, setting)]
    return percentile_interval(np.mean(runs, axis=0))


def _resampled(run: Arrays, classes: int, measure: Measure) -> np.ndarray:
    """Return the measure on resampled groups of test items, the same ones in all runs."""
    _, group = np.unique(_groups(run), return_inverse=True)
    counts = resampled_counts(int(group.max()) + 1)
    place = run["labels"] * classes + run["answers"]
    cells = np.zeros((counts.shape[1], classes * classes), np.float32)
    np.add.at(cells, (group, place), 1)
    parts = [
        measure((counts[i : i + _REPLICATES_AT_ONCE].astype(np.float32) @ cells).reshape(-1, classes, classes))
        for i in range(0, len(counts), _REPLICATES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _has_both(one: protocols.Comparison, values: Mapping[tuple[str, str, int], float]) -> bool:
    seeds = [{seed for arm, at, seed in values if (arm, at) == (name, one.setting)} for name in (one.arm, one.against)]
    return bool(seeds[0] & seeds[1])


def _row(arm: str, setting: str, tables: list[np.ndarray], classes: tuple[str, ...], column: str) -> dict[str, Any]:
    f1 = [float(macro_f1(table)) for table in tables]
    right = [float(accuracy(table)) for table in tables]
    by_class = np.mean([[score.f1 for score in per_class(table)] for table in tables], axis=0)
    told = {"macro_f1": f1, "accuracy": right}[column]
    return {
        "arm": arm,
        "setting": setting,
        "seeds": len(tables),
        "macro_f1": float(np.mean(f1)),
        "accuracy": float(np.mean(right)),
        f"{column}_interval": mean_interval(told) if len(told) > 1 else None,
        # A class that no test item shows has none.
        "f1_by_class": {name: None if np.isnan(f1) else float(f1) for name, f1 in zip(classes, by_class, strict=True)},
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    return {
        "arm": one.asked.arm,
        "against": one.asked.against,
        "setting": one.asked.setting,
        "wanted": one.asked.wanted,
        "difference": one.difference,
        "interval": one.interval,
        "p_value": one.p_value,
        "p_value_holm": one.corrected,
        "seeds": one.seeds,
        "holds": one.holds,
        "sentence": one.sentence(),
    }
