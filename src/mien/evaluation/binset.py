"""The field's `.bin` sets: a pickle of (encoded pictures, labels), read without trusting it.

A pickle is a program. This reader runs none of it: every global that such a set may name is replaced by a
harmless stand-in here, and any other is refused.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mien.errors import EvaluationError
from mien.images import printable

__all__ = ["read_bin"]

# What unpickling broken or hostile bytes may raise, short of running out of memory.
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeError,
    ValueError,
)


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Read encoded pictures (two a pair, in order) and whether each pair is of one subject.

    Raises:
        EvaluationError: The file is no such set, or asks for code.
    """
    name = printable(path.name)
    try:
        with path.open("rb") as file:
            content = _Reader(file, name).load()
    except _BROKEN as error:
        raise EvaluationError(f"{name} is no .bin set, or is cut short ({type(error).__name__}).") from None
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise EvaluationError(f"{name} holds a {type(content).__name__}. Expected a pair of pictures and labels.")
    pictures, labels = content
    labels = _plain(labels)
    if not isinstance(pictures, list | tuple) or not isinstance(labels, list | tuple):
        raise EvaluationError(f"{name} is no .bin set. Expected a list of pictures and a list of labels.")
    if not labels or len(pictures) != 2 * len(labels):
        raise EvaluationError(f"{name} holds {len(pictures)} pictures and {len(labels)} labels. Expected two a label.")
    encoded = [_encoded(picture) for picture in pictures]
    same = [_plain(label) for label in labels]
    if any(picture is None for picture in encoded):
        raise EvaluationError(f"{name} holds pictures that are not encoded bytes.")
    if any(not isinstance(label, bool | int) or label not in (0, 1) for label in same):
        raise EvaluationError(f"{name} holds labels other than true and false.")
    return [picture for picture in encoded if picture is not None], [bool(label) for label in same]


class _Dtype:
    """Stands in for `numpy.dtype`: remembers the code."""

    def __init__(self, code: str | bytes = "", *_: object) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else str(code)

    def __setstate__(self, _: object) -> None:
        """Ignore byte order and the like: one-byte types have none."""


class _Array:
    """Stands in for `numpy.ndarray`: bytes that claim to be of a one-byte type."""

    def __init__(self, *_: object) -> None:
        self.code, self.data = "", b""

    def __setstate__(self, state: tuple[object, tuple[int, ...], object, object, object]) -> None:
        _, shape, dtype, _, data = state
        self._fill(shape, dtype, data)

    def _fill(self, shape: int | tuple[int, ...], dtype: object, data: object) -> None:
        shape = (shape,) if isinstance(shape, int) else shape
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "b1", "|u1", "|b1"):
            raise ValueError("only arrays of bytes and of truth values are read")
        if not isinstance(data, bytes | bytearray) or len(shape) != 1 or math.prod(shape) != len(data):
            raise ValueError("an array's shape does not fit its bytes")
        self.code, self.data = dtype.code[-2:], bytes(data)


def _from_buffer(data: object, dtype: object, shape: tuple[int, ...], _: object) -> _Array:
    array = _Array()
    array._fill(shape, dtype, data)
    return array


def _scalar(dtype: object, data: object) -> bool:
    if not isinstance(dtype, _Dtype) or dtype.code not in ("b1", "|b1") or data not in (b"\0", b"\1"):
        raise ValueError("only truth values are read")
    return bool(data == b"\1")


def _latin1(text: object, encoding: object) -> bytes:
    # How Python 3 writes bytes for Python 2. No other codec is looked up.
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("only bytes written as Latin-1 are read")
    return text.encode("latin1")


class _Call:
    """A stand-in that can be called and, unlike a bare function or class, not be written to."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> None:
        raise ValueError("a stand-in has no state")


_ALLOWED = {
    ("_codecs", "encode"): _Call(_latin1),
    ("numpy", "dtype"): _Call(_Dtype),
    ("numpy", "ndarray"): _Call(_Array),
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Call(_Array)
    _ALLOWED[_core + ".multiarray", "scalar"] = _Call(_scalar)
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _Call(_from_buffer)


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, name: str) -> None:
        # Strings of Python 2 are bytes: that is where the pictures are.
        super().__init__(file, encoding="bytes")
        self._name = name

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise EvaluationError(
                f"{self._name} asks for {module[:40]!r}.{name[:40]!r}, which a set of pictures has no use for. "
                "Nothing of it was run; get the file from a source you trust."
            )
        return _ALLOWED[module, name]


def _encoded(picture: object) -> bytes | None:
    if isinstance(picture, _Array):
        return picture.data if picture.code == "u1" else None
    return bytes(picture) if isinstance(picture, bytes | bytearray) else None


def _plain(value: object) -> object:
    return np.frombuffer(value.data, dtype=value.code).tolist() if isinstance(value, _Array) and value.code else value
