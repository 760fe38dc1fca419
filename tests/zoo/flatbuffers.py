"""A writer of small `.tflite` files."""

import struct

ADD, CONCATENATION, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL, RELU, RESHAPE, PAD, PRELU = 0, 2, 3, 4, 6, 17, 19, 22, 34, 54
FLOAT32, FLOAT16, INT32 = 0, 1, 2


class Builder:
    """Small FlatBuffer writer. References point forwards, so it grows to the front; places count from the end."""

    def __init__(self):
        self.data = b""

    def _put(self, item: bytes) -> int:
        self.data = bytes(item) + self.data
        return len(self.data)

    def table(self, fields: dict[int, tuple[str, int] | int]) -> int:
        """Write a table of inline scalars (format, value) and references (place of the target)."""
        offsets, body = [0] * (max(fields, default=-1) + 1), bytearray(4)
        references = []
        for number, value in fields.items():
            offsets[number] = len(body)
            if isinstance(value, tuple):
                body += struct.pack("<" + value[0], value[1])
            else:
                references.append((len(body), value))
                body += bytes(4)
        vtable = struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), len(body), *offsets)
        body[:4] = struct.pack("<i", len(vtable))
        end = len(self.data) + len(body)
        for place, target in references:
            body[place : place + 4] = struct.pack("<I", end - place - target)
        at = self._put(body)
        self._put(vtable)
        return at

    def vector(self, format: str, values) -> int:
        return self._put(struct.pack(f"<I{len(values)}{format}", len(values), *values))

    def tables(self, targets: list[int]) -> int:
        end = len(self.data) + 4 * len(targets)
        offsets = [end - 4 * index - target for index, target in enumerate(targets)]
        return self._put(struct.pack(f"<I{len(offsets)}I", len(offsets), *offsets))

    def text(self, value: str) -> int:
        return self.vector("B", value.encode())

    def file(self, root: int) -> bytes:
        return struct.pack("<I", 8 + len(self.data) - root) + b"TFL3" + self.data
