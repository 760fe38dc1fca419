"""What is kept of a watch: events as JSON Lines, pictures as a film."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.errors import VideoError
from mien.files import printable
from mien.video.records import Event, Summary, Watched
from mien.video.sources import needs_av

if TYPE_CHECKING:
    from av.container import OutputContainer

__all__ = ["Film", "JsonLines"]

RGB = UInt8[np.ndarray, "height width 3"]
Record = Mapping[str, object]

_TICKS = 90_000  # a second, as MPEG counts


class JsonLines:
    """Events, a line each, on the disk as soon as they happen.

    Args:
        place: The file, or a stream such as stdout.
        event: An event as JSON.
        picture: A picture with its faces as JSON, if each is to be told of; else None.
        head: The first line.
        tail: The last line.

    Raises:
        VideoError: The file cannot be written.
    """

    def __init__(
        self,
        place: Path | TextIO,
        *,
        event: Callable[[Event], Record],
        head: Record,
        tail: Callable[[Summary], Record],
        picture: Callable[[Watched], Record] | None = None,
    ) -> None:
        self.needs_pixels = False
        self._event, self._picture, self._tail = event, picture, tail
        self._path = place if isinstance(place, Path) else None
        self._stream: TextIO | None = None if isinstance(place, Path) else place
        self._file: Any = None
        if self._path is not None:
            try:
                # Unbuffered: a line is with the system when `write` returns, whatever happens to us then.
                self._file = self._path.open("wb", buffering=0)
            except OSError as error:
                raise VideoError(f"Cannot write '{printable(self._path)}': {error.strerror}.") from error
        self._put(head)

    def write(self, watched: Watched) -> None:
        """Write what happened with one picture."""
        for event in watched.events:
            self._put(self._event(event))
        if self._picture is not None and not watched.is_over:
            self._put(self._picture(watched))

    def close(self, summary: Summary | None) -> None:
        """Write the last line and end."""
        if self._stream is None and self._file is None:
            return
        try:
            if summary is not None:
                self._put(self._tail(summary))
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _put(self, record: Record) -> None:
        line = json.dumps(record, allow_nan=False, ensure_ascii=self._stream is not None)
        if self._stream is not None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        data = f"{line}\n".encode("utf-8", "surrogateescape")
        if self._file is None:
            return
        end = os.fstat(self._file.fileno()).st_size if self._path is not None and self._path.is_file() else None
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if end is not None:
                os.ftruncate(self._file.fileno(), end)  # half a line is no JSON
            self._file.close()
            self._file = None
            assert self._path is not None
            kept = "the events up to here are kept"
            raise VideoError(f"Cannot write '{printable(self._path)}': {error.strerror}; {kept}.") from error


class Film:
    """An MP4 of what was watched. It is written in fragments: a film that is cut off can be played up to there.

    Args:
        path: The file.
        draw: Draws faces on a copy of a picture; None writes pictures as they are.
        preset: Of x264: faster ones cost less time and more space.

    Raises:
        VideoError: The file cannot be written.
    """

    def __init__(self, path: Path, *, draw: Callable[[Watched], RGB] | None = None, preset: str = "ultrafast") -> None:
        needs_av()
        self.needs_pixels = True
        self._path, self._draw, self._preset = path, draw, preset
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._last = -1
        self._failed = False
        try:
            with path.open("wb"):
                pass
        except OSError as error:
            raise VideoError(f"Cannot write '{printable(path)}': {error.strerror}.") from error

    def write(self, watched: Watched) -> None:
        """Draw and encode one picture."""
        import av

        if self._failed or watched.is_over:
            return
        image = watched.frame.image if self._draw is None else self._draw(watched)
        try:
            if self._container is None:
                self._open(image.shape[1], image.shape[0])
            picture = av.VideoFrame.from_ndarray(self._fitted(image), format="rgb24")
            self._last = max(round(watched.frame.time_s * _TICKS), self._last + 1)
            picture.pts, picture.time_base = self._last, self._stream.time_base
            assert self._container is not None
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)

    def close(self, summary: Summary | None) -> None:
        """Finish the file."""
        import av

        if self._container is None:
            if not self._failed and self._path.exists() and not self._path.stat().st_size:
                self._path.unlink()  # there was nothing to be shown: an empty file is no film
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode(None))
            container.close()
        except (av.error.FFmpegError, OSError) as error:
            self._fail(error)

    def _open(self, width: int, height: int) -> None:

        import av

        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        self._container = av.open(str(self._path), "w", format="mp4", options=options)
        stream = self._container.add_stream("libx264", rate=30, options={"preset": self._preset, "g": "30"})
        # Chroma has half the size, so both sides are even.
        stream.width, stream.height = max(width // 2 * 2, 2), max(height // 2 * 2, 2)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.thread_type = "SLICE"
        self._stream = stream

    def _fitted(self, image: RGB) -> RGB:
        """Return a picture of the film's size: one of another size is fitted in, on black."""
        width, height = self._stream.width, self._stream.height
        if image.shape[1] - width in (0, 1) and image.shape[0] - height in (0, 1):
            return np.ascontiguousarray(image[:height, :width])
        scale = min(width / image.shape[1], height / image.shape[0])
        size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        canvas = np.zeros((height, width, 3), np.uint8)
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return canvas

    def _fail(self, error: Exception) -> None:
        import av

        self._failed = True
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.error.FFmpegError, OSError):  # the disk is full: what can be closed is closed
                container.close()
        why = getattr(error, "strerror", None) or "the encoder failed"
        text = f"Cannot write '{printable(self._path)}': {why}; the film up to here is kept."
        raise VideoError(text) from error
