"""The frames of a short clip, out of a folder, a list of pictures or a video file; long ones are thinned evenly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.errors import VideoError
from mien.files import EXTENSIONS, printable
from mien.images import load_image
from mien.video.sources import open_source
from mien.vision.sequence import evenly

__all__ = ["read_frames"]

Image = UInt8[np.ndarray, "height width 3"]


def read_frames(source: str | Path | Sequence[Path], *, most: int) -> list[Image]:
    """Return at most so many frames of a clip, spread evenly, upright, in order.

    How many a video has is known at its end: there they are spread as evenly as a factor of two.

    Args:
        source: A folder of frames, a video file, or its pictures in order.
        most: Frames to return; no more than twice as many are ever in memory.

    Raises:
        VideoError: It cannot be read, or holds no pictures.
        ImageError: One of the pictures cannot be read.
        UsageError: It is a video, and PyAV is not installed.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        if len(source) > 1 or source[0].suffix.lower() in EXTENSIONS:
            return [load_image(source[number]) for number in evenly(len(source), most).tolist()]
        source = source[0]
    folder = Path(source)
    if folder.is_dir():
        inside = list(folder.iterdir())
        if any(path.is_dir() for path in inside) and not any(path.suffix.lower() in EXTENSIONS for path in inside):
            raise VideoError(
                f"'{printable(folder)}' holds folders and no frames. Name each clip, such as {printable(folder)}/*."
            )
    kept: list[Image] = []
    stride = 1
    opened = open_source(str(source))
    for number, frame in enumerate(opened.frames(lambda code, text: None)):
        if number % stride == 0:
            kept.append(frame.image)
        frame.forget()
        if len(kept) > 2 * most:
            kept, stride = kept[::2], 2 * stride
    return [kept[number] for number in evenly(len(kept), most).tolist()]
