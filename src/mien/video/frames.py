"""One picture of a video, turned into RGB only if somebody looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    import av

__all__ = ["THUMB", "Frame"]

RGB = UInt8[np.ndarray, "height width 3"]

THUMB = (64, 36)
"""Width and height of the small grey picture that shows what has changed."""


class Frame:
    """One picture of a video.

    Args:
        picture: RGB uint8, or what PyAV decoded.
        number: From 0, of all pictures that the source gave, those that were dropped included.
        time_s: Since the first picture, by the source's own time stamps.
        turn: By how many degrees clockwise it has to be turned to be upright: 0, 90, 180 or 270.
        arrived_s: When it was decoded, by `time.monotonic`.

    Attributes:
        number: As given.
        time_s: As given.
        arrived_s: As given.
        width: Px, upright.
        height: Px, upright.
    """

    __slots__ = ("_picture", "_rgb", "_turn", "arrived_s", "height", "number", "time_s", "width")

    def __init__(
        self, picture: RGB | av.VideoFrame, *, number: int, time_s: float, turn: int = 0, arrived_s: float = 0.0
    ) -> None:
        assert turn in (0, 90, 180, 270)
        self.number, self.time_s, self.arrived_s = number, time_s, arrived_s
        self._picture: Any = picture
        self._turn = turn
        self._rgb: RGB | None = None
        if isinstance(picture, np.ndarray):
            size = picture.shape[1], picture.shape[0]
        else:
            size = picture.width, picture.height
        self.width, self.height = size if turn in (0, 180) else size[::-1]

    @property
    def image(self) -> RGB:
        """The picture upright, RGB uint8, shape (height, width, 3); converted when it is first asked for."""
        if self._rgb is None:
            picture = self._picture
            rgb = picture if isinstance(picture, np.ndarray) else picture.to_ndarray(format="rgb24")
            self._rgb = np.ascontiguousarray(np.rot90(rgb, -self._turn // 90)) if self._turn else rgb
        return self._rgb

    def thumb(self) -> UInt8[np.ndarray, "36 64"]:
        """Return a small grey picture, upright: where two of them differ, something has changed."""
        grey = self._grey()
        # Every so many px of the blurred picture would be better; these few are there at no cost.
        rows = np.linspace(0, grey.shape[0] - 1, 4 * THUMB[1]).astype(np.intp)
        columns = np.linspace(0, grey.shape[1] - 1, 4 * THUMB[0]).astype(np.intp)
        small = np.ascontiguousarray(grey[rows[:, None], columns])
        if self._turn:
            small = np.ascontiguousarray(np.rot90(small, -self._turn // 90))
        return np.asarray(cv2.resize(small, THUMB, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def _grey(self) -> UInt8[np.ndarray, "height width"]:
        """Return the brightness: of YUV pictures the first plane, which needs no conversion."""
        picture = self._picture
        if picture is None or isinstance(picture, np.ndarray):
            return np.asarray(self.image[..., 1])
        if not picture.format.name.startswith(("yuv", "nv", "gray")) or picture.format.components[0].bits != 8:
            return np.asarray(picture.to_ndarray(format="rgb24")[..., 1])
        plane = picture.planes[0]
        if picture.format.name == "yuyv422" or plane.line_size < picture.width:
            return np.asarray(picture.to_ndarray(format="rgb24")[..., 1])
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        return np.asarray(rows[: picture.height, : picture.width])

    def forget(self) -> None:
        """Let go of the pixels: nobody will look at them again."""
        self._picture = self._rgb = None
