"""What a study asks and what would answer it, written down before anything runs; and what its figures then say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mien.errors import EvaluationError
from mien.metrics.intervals import Interval, percentile_interval

__all__ = ["Arm", "Cell", "Comparison", "Protocol", "Verdict", "compare", "holm"]

REPLICATES = 2000


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of doing it.

    Attributes:
        name: Short, for tables and file names.
        says: What it does, in a sentence.
        control: Why it is there, where it is a control; empty for what is studied.
        settings: Where it is run; empty: at all settings.
    """

    name: str
    says: str
    control: str = ""
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question that was asked beforehand.

    Attributes:
        arm: That should be better.
        against: The one that it should be better than.
        setting: At which setting, such as a share of the data; as in `Cell.setting`.
        wanted: Gain from which the tool would be switched on; below 0, the loss that would still be borne.
    """

    arm: str
    against: str
    setting: str
    wanted: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: an arm, at a setting, with a seed."""

    arm: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """For its file."""
        return f"{self.setting}-{self.arm}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Protocol:
    """A study, before it runs.

    Attributes:
        name: Of the command.
        question: In plain words.
        measure: What is compared, such as macro-F1.
        arms: All of them.
        settings: All of them, in order.
        seeds: Runs of each arm at each setting.
        planned: What was asked beforehand; p-values are corrected over these by Holm's method.
    """

    name: str
    question: str
    measure: str
    arms: tuple[Arm, ...]
    settings: tuple[str, ...]
    seeds: int
    planned: tuple[Comparison, ...]

    def __post_init__(self) -> None:
        names = {arm.name for arm in self.arms}
        for asked in self.planned:
            if not {asked.arm, asked.against} <= names or asked.setting not in self.settings:
                raise EvaluationError(
                    f"The study '{self.name}' compares {asked.arm} with {asked.against} at {asked.setting}, and has "
                    f"the arms {', '.join(sorted(names))} at {', '.join(self.settings)}."
                )

    def cells(self) -> list[Cell]:
        """Return every run; one seed of everything comes before the next, so that a study cut short is still whole."""
        return [
            Cell(arm.name, setting, seed)
            for seed in range(self.seeds)
            for setting in self.settings
            for arm in self.arms
            if not arm.settings or setting in arm.settings
        ]

    def as_facts(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison came to.

    Attributes:
        asked: The comparison.
        difference: Of the means over seeds.
        interval: 95 %, resampling seeds and what was tested on.
        p_value: Two-sided, by the same resampling: of no difference, or of the loss that is borne where one is.
        corrected: The same after Holm's correction over all planned comparisons.
        seeds: Pairs of runs.
    """

    asked: Comparison
    difference: float
    interval: Interval
    p_value: float
    corrected: float
    seeds: int

    @property
    def holds(self) -> bool:
        """Whether the gain is there: wanted, and not explained by chance. A loss that is borne is not reached."""
        if self.asked.wanted < 0:
            return self.interval[0] > self.asked.wanted
        return self.difference >= self.asked.wanted and self.interval[0] > 0 and self.corrected < 0.05

    def sentence(self) -> str:
        """Say it in words."""
        low, high = (100 * end for end in self.interval)
        asked = self.asked
        points = (
            f"{100 * self.difference:+.1f} points [{low:+.1f}, {high:+.1f}], {self.seeds} seed{'s' * (self.seeds != 1)}"
        )
        if self.asked.wanted < 0 and self.interval[0] <= 0:
            most, told = -100 * self.asked.wanted, "Yes" if self.holds else "Not shown"
            return (
                f"{told}: at {asked.setting}, '{asked.arm}' is not worse than '{asked.against}' by {most:g}: {points}."
            )
        if self.holds:
            return f"Yes: at {asked.setting}, '{asked.arm}' beats '{asked.against}' by {points}."
        if self.interval[1] < 0:
            return f"No, it hurts: at {asked.setting}, '{asked.arm}' against '{asked.against}': {points}."
        short = " (less than wanted)" if self.interval[0] > 0 and self.corrected < 0.05 else ""
        return f"Not shown{short}: at {asked.setting}, '{asked.arm}' against '{asked.against}': {points}."


def compare(
    asked: Sequence[Comparison],
    measured: Mapping[tuple[str, str, int], Float[np.ndarray, " replicates"]],
    values: Mapping[tuple[str, str, int], float],
) -> list[Verdict]:
    """Answer what was planned, pairing runs of one seed.

    Args:
        asked: The planned comparisons.
        measured: By (arm, setting, seed), the measure on resampled test sets, the same ones in every run.
        values: The measure on the whole test set, likewise.

    Raises:
        EvaluationError: A comparison has no seed at which both of its arms were run.
    """
    found = []
    rng = np.random.default_rng(0)
    for one in asked:
        seeds = sorted(
            seed for arm, setting, seed in values
            if (arm, setting) == (one.arm, one.setting) and (one.against, setting, seed) in values
        )  # fmt: skip
        if not seeds:
            raise EvaluationError(f"No seed has runs of both {one.arm} and {one.against} at {one.setting}.")
        pairs = [((one.arm, one.setting, seed), (one.against, one.setting, seed)) for seed in seeds]
        table = np.stack([measured[a] - measured[b] for a, b in pairs])  # seeds x replicates
        chosen = rng.integers(len(seeds), size=(table.shape[1], len(seeds)))
        draws = table[chosen, np.arange(table.shape[1])[:, None]].mean(axis=1)
        bound = min(one.wanted, 0.0)
        below = min(float((draws <= bound).mean()), float((draws >= bound).mean()))
        found.append(
            Verdict(
                one,
                float(np.mean([values[a] - values[b] for a, b in pairs])),
                percentile_interval(draws),
                min(1.0, 2 * max(below, 1 / (len(draws) + 1))),
                1.0,
                len(seeds),
            )
        )
    corrected = holm([one.p_value for one in found])
    return [
        Verdict(one.asked, one.difference, one.interval, one.p_value, p, one.seeds)
        for one, p in zip(found, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being several.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = np.argsort(p_values)
    corrected, highest = np.ones(len(p_values)), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = highest
    return [float(p) for p in corrected]


def resampled_counts(items: int, replicates: int = REPLICATES, seed: int = 0) -> Int[np.ndarray, "replicates items"]:
    """Return how often each test item stands in each resampled test set."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(items, np.full(items, 1 / items), size=replicates)
