"""Arrays out of HDF5 files of the oldest layout, which Keras 2 wrote its weights in.

Read are groups as B-trees of symbol tables and little-endian floats stored in one piece; nothing else of the format.

Source: The HDF Group, "HDF5 File Format Specification, version 3.0", II.A (superblock 0), III.A to III.D, and IV.A.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from mien.errors import ModelError

__all__ = ["read_arrays"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DATASPACE, _DATATYPE, _LAYOUT, _CONTINUED, _SYMBOLS = 0x01, 0x03, 0x08, 0x10, 0x11
_DEPTH = 16  # of groups in groups: a damaged file may go round in circles


def read_arrays(data: bytes, *, below: str = "") -> dict[str, np.ndarray]:
    """Return the float arrays of a file by path, such as `layer/kernel:0`.

    Args:
        data: The file.
        below: A group; only what is in it is read, and paths start there.

    Raises:
        ModelError: The file is damaged or of another layout, or has no such group.
    """
    try:
        if data[:9] != _SIGNATURE + b"\0" or data[13:15] != b"\x08\x08":
            raise ValueError("no HDF5 of superblock 0")
        (root,) = struct.unpack_from("<Q", data, 64)
        place = root
        for name in below.split("/") if below else ():
            place = dict(_members(data, _messages(data, place)))[name]
        return dict(_arrays(data, place, "", _DEPTH))
    except (struct.error, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ModelError(f"The HDF5 file cannot be read: damaged, or of another layout ({error}).") from None


def _arrays(data: bytes, place: int, path: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    if not depth:
        raise ValueError("groups are nested too deeply")
    messages = _messages(data, place)
    if _SYMBOLS in messages:
        for name, member in _members(data, messages):
            yield from _arrays(data, member, f"{path}/{name}" if path else name, depth - 1)
    elif _LAYOUT in messages:
        yield path, _array(data, messages)


def _messages(data: bytes, place: int) -> dict[int, int]:
    """Return where the body of each message of an object header is, by kind."""
    version, _, count, _, size = struct.unpack_from("<BBHII", data, place)
    if version != 1:
        raise ValueError(f"object header {version}")
    found: dict[int, int] = {}
    blocks = [(place + 16, size)]
    while blocks:
        at, left = blocks.pop(0)
        end = at + left
        while at + 8 <= end and count > 0:
            kind, length = struct.unpack_from("<HH", data, at)
            found.setdefault(kind, at + 8)
            if kind == _CONTINUED:
                blocks.append(struct.unpack_from("<QQ", data, at + 8))
            at, count = at + 8 + length, count - 1
    return found


def _members(data: bytes, messages: dict[int, int]) -> Iterator[tuple[str, int]]:
    """Return name and object header of each member of a group."""
    tree, heap = struct.unpack_from("<QQ", data, messages[_SYMBOLS])
    if data[heap : heap + 4] != b"HEAP":
        raise ValueError("a heap is missing")
    (names,) = struct.unpack_from("<Q", data, heap + 24)
    yield from _symbols(data, tree, names, _DEPTH)


def _symbols(data: bytes, node: int, names: int, depth: int) -> Iterator[tuple[str, int]]:
    if data[node : node + 4] == b"SNOD":
        (count,) = struct.unpack_from("<H", data, node + 6)
        for entry in range(node + 8, node + 8 + 40 * count, 40):
            offset, header = struct.unpack_from("<QQ", data, entry)
            yield data[names + offset : data.index(b"\0", names + offset)].decode(), header
        return
    kind, _, count = struct.unpack_from("<BBH", data, node + 4)
    if data[node : node + 4] != b"TREE" or kind or not depth:
        raise ValueError("a group's tree is broken")
    for entry in range(count):  # keys of 8 bytes stand between the children
        (child,) = struct.unpack_from("<Q", data, node + 32 + 16 * entry)
        yield from _symbols(data, child, names, depth - 1)


def _array(data: bytes, messages: dict[int, int]) -> np.ndarray:
    space, kind, layout = (messages[key] for key in (_DATASPACE, _DATATYPE, _LAYOUT))
    version, rank = struct.unpack_from("<BB", data, space)
    if version != 1:
        raise ValueError(f"dataspace {version}")
    shape = struct.unpack_from(f"<{rank}Q", data, space + 8)
    bits, _, _, _, size = struct.unpack_from("<BBBBI", data, kind)
    if bits & 15 != 1:
        return np.empty(0, np.float32)  # no floats: names and settings
    order, storage = data[kind + 1] & 1, struct.unpack_from("<BB", data, layout)
    if order or size not in (4, 8) or storage != (3, 1):
        raise ValueError("an array that is not in one piece of little-endian floats")
    (start,) = struct.unpack_from("<Q", data, layout + 2)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    return np.frombuffer(data, f"<f{size}", count, start).reshape(shape)
