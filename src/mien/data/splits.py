"""Train, valid and test: by class shares, or by subject so that nobody stands in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Shaped

from mien.errors import DataError

__all__ = ["SPLITS", "by_subject", "fill_valid", "split_name", "stratified"]

Names = Shaped[np.ndarray, " samples"]

SPLITS = ("train", "valid", "test")

_WORDS = {
    word: split
    for split, words in {
        "train": "train training trn",
        "valid": "valid val validation dev publictest",
        "test": "test testing privatetest",
    }.items()
    for word in words.split()
}


def split_name(text: str) -> str | None:
    """Return train, valid or test for what data sets call them (Training, PublicTest, val, ...), else None."""
    return _WORDS.get(text.strip().lower())


def stratified(
    labels: Int[np.ndarray, " samples"],
    shares: Mapping[str, float],
    *,
    seed: int,
    given: Names | None = None,
) -> Names:
    """Split so that every class is divided alike.

    A class of few samples gives each split one as long as they last, the largest split first.

    Args:
        labels: Class of each sample; -1 (unlabelled) is divided like a class of its own.
        shares: Share of each split, such as ``{"train": 0.8, "valid": 0.1, "test": 0.1}``; they sum to one.
        seed: Of the shuffle.
        given: Splits that some samples have already ('' for none); these are kept.

    Returns:
        Name of each sample's split.

    Raises:
        DataError: The shares do not sum to one, or one is not positive.
    """
    return _divide(np.asarray(labels), np.arange(len(labels)), shares, seed=seed, given=given)


def by_subject(
    subjects: Shaped[np.ndarray, " samples"],
    shares: Mapping[str, float],
    *,
    seed: int,
    given: Names | None = None,
) -> Names:
    """Split so that each subject stands in one split only; shares count samples, as nearly as subjects allow.

    Args:
        subjects: Subject of each sample; a sample without one ('') is a subject of its own.
        shares: Share of each split; they sum to one.
        seed: Of the shuffle.
        given: Splits that some samples have already ('' for none); the other samples of the same subject follow.

    Returns:
        Name of each sample's split.

    Raises:
        DataError: The shares do not sum to one, or one is not positive.
    """
    names = [str(name) or f"\0{i}" for i, name in enumerate(np.asarray(subjects).tolist())]
    _, groups = np.unique(np.array(names), return_inverse=True)
    known = None
    if given is not None:
        # The first split that a subject is known to stand in.
        split_of = {int(g): s for g, s in zip(groups[::-1], np.asarray(given).tolist()[::-1], strict=True) if s}
        known = np.array([own or split_of.get(int(g), "") for g, own in zip(groups, given, strict=True)])
    return _divide(np.zeros(len(names), np.int64), groups, shares, seed=seed, given=known)


def fill_valid(
    splits: Names, labels: Int[np.ndarray, " samples"], *, share: float = 0.1, seed: int, subjects: Names | None = None
) -> Names:
    """Give a data set the splits that training needs: what has none goes to train, a missing valid is cut from train.

    Args:
        splits: Split of each sample, '' where it has none.
        labels: Class of each sample, for a split by class shares.
        share: Of train that becomes valid where there is no valid.
        seed: Of the shuffle.
        subjects: Where given, no subject stands in train and in valid.

    Raises:
        DataError: Nothing is left to train on.
    """
    splits = np.where(np.asarray(splits) == "", "train", splits)
    train = np.flatnonzero(splits == "train")
    if not (splits == "valid").any() and len(train):
        shares = {"train": 1 - share, "valid": share}
        if subjects is not None and any(subjects[train].tolist()):
            splits[train] = by_subject(subjects[train], shares, seed=seed)
        else:
            splits[train] = stratified(np.asarray(labels)[train], shares, seed=seed)
    if not (splits == "train").any() or not (splits == "valid").any():
        raise DataError(
            f"Training needs pictures to learn from and others to check with, got {int((splits == 'train').sum())} in "
            f"train and {int((splits == 'valid').sum())} in valid. Add pictures."
        )
    return splits


def _divide(
    strata: Int[np.ndarray, " samples"],
    groups: Int[np.ndarray, " samples"],
    shares: Mapping[str, float],
    *,
    seed: int,
    given: Names | None,
) -> Names:
    """Deal groups to splits, stratum by stratum: each time to the split that lacks most of its share."""
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        said = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise DataError(f"Shares of splits are positive and sum to 1, got {said or 'none'}.")
    names: Sequence[str] = sorted(shares, key=lambda name: -shares[name])
    wanted = np.array([shares[name] for name in names])
    splits = np.full(len(strata), "", dtype="<U16") if given is None else np.asarray(given).astype("<U16")
    rng = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        open_ = inside[splits[inside] == ""]
        has = np.array([(splits[inside] == name).sum() for name in names], dtype=np.float64)
        ids, place, sizes = np.unique(groups[open_], return_inverse=True, return_counts=True)
        chosen = np.empty(len(ids), dtype=np.int64)
        # Large groups first, while there is room for them; equal ones in random order.
        order = rng.permutation(len(ids))
        for group in order[np.argsort(-sizes[order], kind="stable")]:
            chosen[group] = int(np.argmax(wanted * len(inside) - has))
            has[chosen[group]] += sizes[group]
        splits[open_] = np.array(names)[chosen[place]] if len(open_) else ""
    return splits
