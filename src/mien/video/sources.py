"""Where pictures come from: a file, a folder of frames, a stream, a camera.

A file ends and waits for nobody. A stream or camera is live: it stalls, breaks off and comes back, so it is opened anew
with growing pauses, and a new container each time. Settings of the decoder decide how late a live picture is: frame
threads hold back a picture each, slice threads none.
"""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from mien.errors import ImageError, UsageError, VideoError
from mien.files import find_images, local_path, printable
from mien.images import load_image
from mien.video.frames import Frame

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["Folder", "Recording", "Source", "Stream", "needs_av", "open_source"]

Notify = Callable[[str, str], None]

_STREAMS = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "rtmp", "tcp", "srt")
_USUAL_FPS = 25.0  # of pictures without any time
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a stream that broke off is opened anew: the first pause, and how long they grow."""
_NO_INDEX = "its index is missing, as in a recording that was cut off"
_LONGEST_STEP_S = 3600.0  # between two time stamps that belong together


class Source(Protocol):
    """Gives pictures.

    Attributes:
        live: Whether it goes on whether or not somebody looks.
        name: For messages and records, without user names and passwords.
    """

    live: bool
    name: str

    def frames(self, notify: Notify) -> Iterator[Frame]:
        """Yield pictures; ``notify(code, sentence)`` tells of what happens to the source.

        Raises:
            VideoError: There is nothing to be read.
        """
        ...

    def stop(self) -> None:
        """Ask `frames` to end; called from another thread."""
        ...


def open_source(
    text: str,
    *,
    turn: int | None = None,
    fps: float | None = None,
    timeout_s: float = 5.0,
    give_up_s: float = 60.0,
) -> Source:
    """Return the source that a text names: a camera by number, a stream by address, a file or folder by path.

    Args:
        text: ``0``, ``rtsp://host/path``, ``http://host/stream``, ``clip.mp4``, ``frames/``.
        turn: Turn pictures clockwise by so many degrees; None: as the file says.
        fps: Pictures a second of a folder, or of a file without time stamps; default 25.
        timeout_s: A live source that gives no picture for so long has stalled.
        give_up_s: A live source that does not come back for so long has ended; 0: never.

    Raises:
        VideoError: There is no such file, folder or camera, or it cannot be opened.
        UsageError: PyAV is not installed, or a number is out of range.
    """
    if turn not in (None, 0, 90, 180, 270):
        raise UsageError(f"Pictures are turned by 0, 90, 180 or 270 degrees, got {turn}.")
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"--fps should lie between 0 and 1000, got {fps:g}.")
    scheme = urlsplit(text).scheme.lower() if "://" in text else ""
    if re.fullmatch(r"\d{1,3}", text) and not Path(text).exists():
        return _camera(int(text), turn, timeout_s, give_up_s)
    if text.startswith("/dev/video"):
        return _camera(int(re.sub(r"\D", "", text) or 0), turn, timeout_s, give_up_s)
    if scheme in _STREAMS:
        needs_av()
        return Stream(text, name=_without_login(text), turn=turn, timeout_s=timeout_s, give_up_s=give_up_s)
    try:
        path = local_path(text)
    except ImageError as error:
        kinds = ", ".join(f"{kind}://" for kind in ("rtsp", "http", "https"))
        raise VideoError(f"'{_without_login(text)}' is no address that can be read; streams are {kinds}.") from error
    if path.is_dir():
        return Folder(path, fps=fps, turn=turn)
    if not path.exists():
        raise VideoError(f"'{printable(path)}' does not exist. Name a file, a folder, a stream or a camera's number.")
    needs_av()
    recording = Recording(path, turn=turn, fps=fps)
    recording.check()
    return recording


def needs_av() -> None:
    """Do nothing if PyAV is installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise UsageError("Video needs PyAV. Install it with: pip install 'mien[video]'") from None


class Folder:
    """The pictures of a folder, in the order of their names with numbers by value."""

    def __init__(self, path: Path, *, fps: float | None = None, turn: int | None = None) -> None:
        self.live = False
        self.name = printable(path)
        try:
            found = find_images([path])
        except ImageError as error:
            raise VideoError(str(error)) from error
        self._paths = sorted(found, key=lambda file: _by_value(str(file)))
        self._fps, self._turn = fps or _USUAL_FPS, turn or 0
        self._stopped = threading.Event()

    def frames(self, notify: Notify) -> Iterator[Frame]:
        """Yield the pictures; one that cannot be read is told of and passed over."""
        read = 0
        for number, path in enumerate(self._paths):
            if self._stopped.is_set():
                return
            try:
                image = load_image(path)
            except ImageError as error:
                notify("unreadable", str(error))
                continue
            read += 1
            time_s = number / self._fps
            yield Frame(image, number=number, time_s=time_s, turn=self._turn, arrived_s=time.monotonic())
        if not read and not self._stopped.is_set():
            raise VideoError(f"No picture of '{self.name}' can be read.")

    def stop(self) -> None:
        """End after the present picture."""
        self._stopped.set()


class Recording:
    """A video file."""

    def __init__(self, path: Path, *, turn: int | None = None, fps: float | None = None) -> None:
        self.live = False
        self.name = printable(path)
        self._path, self._turn, self._fps = path, turn, fps
        self._stopped = threading.Event()

    def check(self) -> None:
        """Open the file and close it again, so that what is no video is said at once.

        Raises:
            VideoError: It cannot be opened, or holds no pictures.
        """
        with self._open() as container:
            self._stream(container)

    def frames(self, notify: Notify) -> Iterator[Frame]:
        """Yield all pictures; where the file breaks off, those before are kept."""
        import av

        number = 0
        clock = _Clock(self._fps)
        with self._open() as container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate or 0)
            clock.rate = self._fps or (rate if 0 < rate <= 1000 else _USUAL_FPS)
            expected = _promised_s(container, stream, rate)
            broken = ""
            pictures = _decoded(container, stream)
            while not self._stopped.is_set():
                try:
                    picture = next(pictures)
                except StopIteration:
                    break
                except (av.error.FFmpegError, OSError) as error:
                    broken = _reason(error)
                    break
                if picture.is_corrupt and not number:
                    continue  # before the first whole picture there is nothing to see
                time_s = clock.time_of(picture)
                turn = (-picture.rotation) % 360 if self._turn is None else self._turn
                turn = round(turn / 90) * 90 % 360
                yield Frame(picture, number=number, time_s=time_s, turn=turn, arrived_s=time.monotonic())
                number += 1
        if self._stopped.is_set():
            return
        if not number:
            raise VideoError(f"'{self.name}' holds no picture that can be decoded{broken and f': {broken}'}.")
        if clock.guessed:
            notify("no_times", f"'{self.name}' has no time stamps; {clock.rate:g} pictures a second are assumed.")
        short = expected - clock.last_s > max(1.0, 0.05 * expected) + 2 / clock.rate
        if broken or short:
            told = f" of {expected:.1f}" if short else ""
            why = f": {broken}" if broken else ""
            text = f"'{self.name}' breaks off after {clock.last_s:.1f}{told} s{why}. What came before was looked at."
            notify("truncated", text)

    def stop(self) -> None:
        """End after the present picture."""
        self._stopped.set()

    def _open(self) -> InputContainer:
        import av

        try:
            return av.open(str(self._path), metadata_errors="ignore")
        except (av.error.FFmpegError, OSError) as error:
            why = _NO_INDEX if _lacks_index(self._path) else _reason(error)
            raise VideoError(f"'{self.name}' cannot be read as a video: {why}.") from error

    def _stream(self, container: InputContainer) -> Any:
        if not container.streams.video:
            raise VideoError(f"'{self.name}' holds no pictures, only {_kinds(container)}.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoError(f"'{self.name}' is coded in a way that this FFmpeg cannot decode. Convert it to H.264.")
        return stream


class Stream:
    """A live source, opened anew where it breaks off.

    Args:
        address: What FFmpeg opens.
        name: The same without user name and password.
        turn: Turn pictures clockwise by so many degrees.
        timeout_s: Without a picture for so long it has stalled.
        give_up_s: Without one for so long it has ended; 0: never.
        form: FFmpeg's name of the input format, for cameras.
        options: FFmpeg's options.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str,
        turn: int | None = None,
        timeout_s: float = 5.0,
        give_up_s: float = 60.0,
        form: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.live = True
        self.name = name
        self._address, self._turn, self._form = address, turn, form
        self._timeout_s, self._give_up_s = timeout_s, give_up_s
        self._options = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "200000", **(options or {})}
        if address.startswith("rtsp"):
            # Over UDP packets are lost, and a lost one smears until the next key picture.
            self._options.setdefault("rtsp_transport", "tcp")
        self._stopped = threading.Event()

    def frames(self, notify: Notify) -> Iterator[Frame]:
        """Yield pictures, and go on after breaks.

        Raises:
            VideoError: It never gave a picture.
        """
        number, seen_s, failures = 0, time.monotonic(), 0
        start_s: float | None = None
        why = ""
        while not self._stopped.is_set():
            try:
                for picture in self._pictures():
                    now = time.monotonic()
                    if start_s is None:
                        start_s = now
                    elif failures:
                        gap = now - seen_s
                        notify("reconnected", f"{self.name} is back after {gap:.1f} s.")
                    failures, seen_s = 0, now
                    # By the clock: time stamps of a stream start anew whenever it does.
                    yield Frame(picture, number=number, time_s=now - start_s, turn=self._turn or 0, arrived_s=now)
                    number += 1
                    if self._stopped.is_set():
                        return
                why = "it ended"
            except _BrokenError as error:
                why = str(error)
            failures += 1
            if failures == 1 and number:
                notify("stalled", f"{self.name} gives no more pictures ({why}); trying to reach it again.")
            if self._give_up_s and time.monotonic() - seen_s > self._give_up_s:
                break
            self._stopped.wait(_pause(failures))
        if self._stopped.is_set():
            return
        if not number:
            raise VideoError(f"{self.name} gives no pictures: {why}. Check the address, and that it is running.")
        notify("gave up", f"{self.name} did not come back within {self._give_up_s:g} s.")

    def stop(self) -> None:
        """End after the present picture, or in a pause."""
        self._stopped.set()

    def _pictures(self) -> Iterator[Any]:
        import av

        try:
            limits = (self._timeout_s, self._timeout_s)
            container = av.open(
                self._address, format=self._form, options=self._options, timeout=limits, metadata_errors="ignore"
            )
        except (av.error.FFmpegError, OSError) as error:
            raise _BrokenError(_reason(error)) from error
        with container:
            if not container.streams.video:
                raise _BrokenError("it holds no pictures")
            stream = container.streams.video[0]
            stream.codec_context.thread_type = "SLICE"
            stream.codec_context.flags |= _low_delay()
            try:
                yield from _decoded(container, stream)
            except (av.error.FFmpegError, OSError) as error:
                raise _BrokenError(_reason(error)) from error


class _BrokenError(Exception):
    """A live source gave no picture, for a reason in a few words."""


class _Clock:
    """Times of a file's pictures: their time stamps where they have any, else by counting."""

    def __init__(self, fps: float | None) -> None:
        self.rate = fps or _USUAL_FPS
        self.last_s = 0.0
        self.guessed = False
        self._forced = fps is not None
        self._first: float | None = None
        self._count = 0

    def time_of(self, picture: Any) -> float:
        stamp: float | None = None if picture.pts is None else picture.time
        if self._count and (stamp is None or self._forced):
            self.guessed = self.guessed or not self._forced
            time_s = self.last_s + 1 / self.rate
        elif stamp is None or self._forced:
            time_s = 0.0
        else:
            self._first = stamp if self._first is None else self._first
            time_s = float(stamp - self._first)
            # Two files that were put together begin anew, or jump: go on as if nothing had happened.
            if self._count and not self.last_s < time_s < self.last_s + _LONGEST_STEP_S:
                self._first = stamp - self.last_s - 1 / self.rate
                time_s = self.last_s + 1 / self.rate
        self._count += 1
        self.last_s = time_s
        return time_s


def _camera(number: int, turn: int | None, timeout_s: float, give_up_s: float) -> Stream:
    needs_av()
    name = f"camera {number}"
    if sys.platform.startswith("linux"):
        device = Path(f"/dev/video{number}")
        if not device.exists():
            there = sorted(int(path.name[5:]) for path in Path("/dev").glob("video[0-9]*") if path.name[5:].isdigit())
            told = f"there is {', '.join(map(str, there))}" if there else "there is none at all"
            raise VideoError(f"There is no camera {number} ({device} does not exist); {told}.")
        return Stream(str(device), name=name, turn=turn, timeout_s=timeout_s, give_up_s=give_up_s, form="v4l2")
    form, address = ("avfoundation", str(number)) if sys.platform == "darwin" else ("dshow", f"video={number}")
    options = {"framerate": "30"} if form == "avfoundation" else {}
    return Stream(address, name=name, turn=turn, timeout_s=timeout_s, give_up_s=give_up_s, form=form, options=options)


def _decoded(container: InputContainer, stream: Any) -> Iterator[Any]:
    """Decode packet by packet: one that is damaged is passed over, as players do."""
    import av

    damaged = 0
    for packet in container.demux(stream):
        try:
            pictures = packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            if damaged > 50:
                raise
            continue
        if pictures:
            damaged = 0
        yield from pictures


def _low_delay() -> Any:
    from av.codec.context import Flags

    return Flags.low_delay


def _pause(failures: int) -> float:
    """Grow from half a second to half a minute, with chance in it: many watchers should not come back at once."""
    longest = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)
    return longest * random.uniform(0.6, 1.0)


def _reason(error: Exception) -> str:
    """Return what FFmpeg found wrong, in words that name neither addresses nor passwords."""
    import av

    names = (
        (av.error.ExitError, "no answer in time"),
        (av.error.TimeoutError, "no answer in time"),
        (av.error.InvalidDataError, "it is damaged, or no video"),
        (av.error.DecoderNotFoundError, "its codec is not known"),
        (av.error.HTTPUnauthorizedError, "a user name and password are needed"),
        (av.error.ConnectionRefusedError, "nobody answers there"),
        (av.error.EOFError, "it ended"),
    )
    for kind, words in names:
        if isinstance(error, kind):
            return words
    return getattr(error, "strerror", None) or "FFmpeg cannot read it"


def _promised_s(container: InputContainer, stream: Any, rate: float) -> float:
    """Return how long a file says that it is; each container says it in another place."""
    own = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    whole = container.duration / 1e6 if container.duration and len(container.streams) == 1 else 0.0
    return max(own, whole, stream.frames / rate if rate > 0 else 0.0)


def _lacks_index(path: Path) -> bool:
    """Whether this is an MP4 whose index, which is written last, is not there."""
    kinds: list[bytes] = []
    try:
        with path.open("rb") as file:
            place = 0
            while len(head := file.read(16)) >= 8 and len(kinds) < 64:
                size, kind = int.from_bytes(head[:4], "big"), head[4:8]
                kinds.append(kind)
                size = int.from_bytes(head[8:16], "big") if size == 1 else size
                if size < 8:
                    break
                place += size
                file.seek(place)
    except OSError:
        return False
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds


def _without_login(address: str) -> str:
    """Return an address without user name, password and query, which may hold a key."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return printable(urlunsplit((parts.scheme, host + port, parts.path, "", "")))


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _by_value(name: str) -> list[tuple[int, int, str]]:
    """Order names with the numbers in them by value: frame 10 comes after frame 9."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]
