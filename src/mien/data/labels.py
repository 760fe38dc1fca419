"""What data sets call the expressions, and in which order, brought to one vocabulary.

Sources: Goodfellow et al., arXiv:1307.0414 (FER2013); Barsoum et al., arXiv:1608.01041 (FER+); Mollahosseini et al.,
arXiv:1708.03985 (AffectNet); Li et al., CVPR 2017 (RAF-DB); Lucey et al., CVPRW 2010 (CK+); Lyons et al., 1998 (JAFFE).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from mien.errors import DataError
from mien.types import EXPRESSIONS

__all__ = ["LABEL_SETS", "canonical", "class_list", "nearest", "numbered", "resolve"]

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "ferplus": EXPRESSIONS,
    "fer2013": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "affectnet7": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
    "affectnet8": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"),
    "rafdb": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
    "ckplus": ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"),
    "jaffe": ("neutral", "happiness", "sadness", "surprise", "anger", "disgust", "fear"),
}
"""Our names of each data set's classes, in that set's own order: what its class numbers mean."""

_FIRST_NUMBER = {"rafdb": 1}  # the others count from 0

_SYNONYMS: dict[str, str] = {
    word: name
    for name, words in {
        "neutral": "neutral neutrality ne",
        "happiness": "happiness happy joy joyful ha",
        "surprise": "surprise surprised su",
        "sadness": "sadness sad sa",
        "anger": "anger angry an",
        "disgust": "disgust disgusted di",
        "fear": "fear fearful afraid scared fe",
        "contempt": "contempt contemptuous scorn",
    }.items()
    for word in words.split()
}


def canonical(name: str) -> str | None:
    """Return our name of an expression, or None for what is none; numbers are not guessed.

    Example:
        >>> canonical("Happy"), canonical("ANGRY"), canonical("3")
        ('happiness', 'anger', None)
    """
    return _SYNONYMS.get(name.strip().lower())


def class_list(labels: str | Sequence[str]) -> tuple[str, ...]:
    """Return the classes that a data set's name (see `LABEL_SETS`) or a list stands for, ours where they are known.

    Raises:
        DataError: There is no such data set, or a class is listed twice.
    """
    if isinstance(labels, str):
        if labels not in LABEL_SETS:
            raise DataError(f"There is no label set '{labels}'. Known are {', '.join(LABEL_SETS)}.")
        return LABEL_SETS[labels]
    classes = tuple(canonical(label) or label for label in labels)
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise DataError(f"The list of classes names {', '.join(twice)} twice.")
    return classes


def numbered(number: int, labels: str | Sequence[str]) -> str | None:
    """Return the class that a number stands for in a label set or a list; None where it is outside."""
    classes = class_list(labels)
    index = number - (_FIRST_NUMBER.get(labels, 0) if isinstance(labels, str) else 0)
    return classes[index] if 0 <= index < len(classes) else None


def resolve(text: str, labels: str | Sequence[str]) -> str | None:
    """Return the class of a list that a label means, by name, synonym or number; None where it means none."""
    classes = class_list(labels)
    text = text.strip()
    if text in classes:
        return text
    if text.isdecimal():
        return numbered(int(text), labels)
    name = canonical(text)
    return name if name in classes else None


def nearest(text: str, classes: Sequence[str]) -> str:
    """Return `` (nearest is 'x')`` for a message about a label that is in no list, or nothing."""
    close = difflib.get_close_matches(text.strip().lower(), [*classes, *_SYNONYMS], n=1)
    return f" (nearest is '{close[0]}')" if close else ""
