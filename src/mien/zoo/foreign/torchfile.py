"""State dicts that PyTorch wrote before its zip format, read without running anything that they hold.

Such a file is five pickles and then the numbers. A pickle is a program; unpickling runs it. Here its opcodes are walked
with `pickletools`, and only those that a dict of tensors is made of are understood: nothing is imported or called.

Source: PyTorch's `torch/serialization.py`, `_legacy_save`.
"""

from __future__ import annotations

import io
import pickletools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.errors import ModelError

__all__ = ["read_state_dict"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the file would import; it stays a name."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers later in the file."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A contiguous part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


_MARK = _Global("a mark")


def read_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict by name, in the file's order.

    Args:
        data: A `.pth` or `.pt` file in the format of PyTorch before 1.6: float32 and int64 tensors, contiguous.

    Raises:
        ModelError: The file is damaged, of another format, or holds anything but tensors by name.
    """
    file = io.BytesIO(data)
    try:
        magic, version, system, state, keys = (_walk(file) for _ in range(5))
        if (magic, version) != (_MAGIC, _VERSION) or not system["little_endian"]:
            raise ModelError("The file is not a state dict in the format of PyTorch before 1.6, little-endian.")
        used = {t.storage.key: t.storage for t in state.values() if isinstance(t, _Tensor)}
        numbers = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            if count != used[key].count:
                raise ValueError(f"storage {key} has {count} numbers, expected {used[key].count}")
            numbers[key] = np.frombuffer(data, used[key].dtype, count, file.tell())
            file.seek(count * used[key].dtype.itemsize, io.SEEK_CUR)
        return {str(name): _array(tensor, numbers) for name, tensor in state.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error) as error:
        raise ModelError(f"The state dict cannot be read: damaged, or of another format ({error}).") from None


def _array(tensor: _Tensor, numbers: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(tensor, _Tensor):
        raise ValueError("a tensor was expected under each name")
    size = int(np.prod(tensor.shape))
    part = numbers[tensor.storage.key][tensor.offset : tensor.offset + size]
    return part.reshape(tensor.shape)


def _walk(file: io.BytesIO) -> Any:
    """Walk the opcodes of one pickle and return what it describes."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            items = stack[-_TUPLES[name] :]
            stack[-_TUPLES[name] :] = [tuple(items)]
        else:
            match name:
                case "PROTO" | "STOP":
                    pass
                case "MARK":
                    stack.append(_MARK)
                case "GLOBAL":
                    if argument not in (_DICT, _TENSOR, *_STORAGES):
                        raise ModelError(f"The state dict names '{argument}', which no tensor needs: it is not read.")
                    stack.append(_Global(argument))
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "TUPLE":
                    stack.append(tuple(_since_mark(stack)))
                case "APPENDS":
                    items = _since_mark(stack)
                    stack[-1].extend(items)
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    stack[-1][key] = value
                case "SETITEMS":
                    items = _since_mark(stack)
                    stack[-1].update(zip(items[::2], items[1::2], strict=True))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "BINPERSID":
                    stack.append(_storage(stack.pop()))
                case "REDUCE":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(_made(function, arguments))
                case "BUILD":  # Version numbers of the layers: not needed.
                    stack.pop()
                case _:
                    raise ModelError(f"The state dict has the opcode {name}, which no tensor needs: it is not read.")
    (made,) = stack
    return made


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what was put on the stack since the last mark, and the mark."""
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
        if at < 0:
            raise ValueError("a mark is missing")
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _storage(described: tuple[Any, ...]) -> _Storage:
    kind, of, key, _, count, view = described
    if kind != "storage" or view is not None or count < 0:
        raise ValueError("a storage of its own was expected")
    return _Storage(str(key), _STORAGES[of.name], int(count))


def _made(function: _Global, arguments: tuple[Any, ...]) -> Any:
    if function == _Global(_DICT) and arguments == ():
        return {}
    if function != _Global(_TENSOR):
        raise ValueError(f"{function} makes no tensor")
    storage, offset, shape, strides = arguments[:4]
    size = int(np.prod(shape))
    contiguous = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    if tuple(strides) != contiguous or min((*shape, offset)) < 0 or offset + size > storage.count:
        raise ValueError(f"a tensor of shape {tuple(shape)} does not lie whole in its storage")
    return _Tensor(storage, int(offset), tuple(shape))
