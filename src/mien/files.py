"""Which files are meant: folders and patterns to pictures, each once, and what was left out; files written whole.

Everybody who searches a folder for pictures does it here, so that all commands find the same ones.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mien.errors import ImageError

__all__ = [
    "EXTENSIONS",
    "Found",
    "Subjects",
    "find_images",
    "find_subjects",
    "is_ignored",
    "local_path",
    "no_picture",
    "printable",
    "search_images",
    "walk",
    "write_whole",
]

EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "avif", "heic", "heif"),
    )
)
"""File names that a folder is searched for, lower case."""

# What other programs keep beside photographs: thumbnails of a NAS, resource forks, waste bins.
_IGNORED = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"})

# What mien itself writes: contact sheets (beside their groups.json), annotated pictures and crops.
_SHEET = re.compile(r"person-\d{4,}\.png")
_SHEETS_OF = "groups.json"
_COPY = re.compile(r"(.+)\.(?:faces\.jpg|face-\d+\.png)")
_KINDS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Found:
    """What files, folders and patterns lead to.

    Attributes:
        paths: The pictures, and what shall be reported as failed: missing files, folders that may not be read.
        others: Files that no known extension makes a picture, by extension, lower case ('' without one).
        own: Pictures that mien itself wrote there: contact sheets, annotated pictures, crops.
    """

    paths: tuple[Path, ...]
    others: Counter[str] = field(default_factory=Counter)
    own: int = 0

    def left_out(self) -> list[str]:
        """Return what was not looked at, a line each; nothing where it was everything."""
        lines = []
        if self.others:
            kinds = [f"{count} {name or 'without an extension'}" for name, count in self.others.most_common()]
            more = f" and {len(kinds) - _KINDS_SHOWN} more kinds" if len(kinds) > _KINDS_SHOWN else ""
            files = _count(self.others.total(), "other file")
            lines.append(f"{files} left out, by their names no pictures: {', '.join(kinds[:_KINDS_SHOWN])}{more}.")
        if self.own:
            lines.append(f"{_count(self.own, 'picture')} left out that mien itself wrote (sheets, crops, annotated).")
        return lines


@dataclass(frozen=True, slots=True)
class Subjects:
    """Pictures by subject, of folders with a folder a subject.

    Attributes:
        pictures: Each picture (or what shall be reported as failed) with the name of its subject.
        notes: What was left out, or taken together, a line each.
        failures: Folders of which nobody can tell whose pictures they hold, a line each.
    """

    pictures: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def find_images(args: Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and glob patterns to pictures; see `search_images`, which also says what was left out."""
    return list(search_images(args).paths)


def search_images(args: Sequence[str | Path], *, results: Iterable[Path | None] = ()) -> Found:
    """Expand files, folders and glob patterns to pictures.

    A file that is named stays, whatever its name says. Of a folder (with its sub-folders) and of a pattern those
    with a known extension are taken, in sorted order; hidden ones, and what mien itself wrote, are left out. What
    does not exist, may not be read or holds no picture stays in the list when there are others, so that `load_image`
    refuses it alone and the batch goes on.

    Args:
        args: Paths, ``file://`` URLs and patterns.
        results: Folders that results will be written into: below a folder that is searched they are passed over.

    Raises:
        ImageError: None of the arguments leads to a picture.
    """
    found: dict[Path, None] = {}
    failures: list[ImageError] = []
    others: Counter[str] = Counter()
    own = 0
    passed = {folder.resolve() for folder in results if folder is not None}
    for arg in args:
        path = local_path(arg)
        trouble = None
        if path.is_dir():
            inside, own_here = _pictures(path, passed, others)
            own += own_here
            trouble = no_picture(path) if inside in ([], [path]) else None
        elif not os.path.lexists(path) and glob.has_magic(str(path)):
            inside = []
            for hit in map(Path, sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207 - patterns may be absolute
                if hit.is_dir():
                    more, own_here = _pictures(hit, passed, others)
                    inside, own = inside + more, own + own_here
                elif hit.suffix.lower() in EXTENSIONS:
                    inside.append(hit)
            trouble = None if inside else f"No picture matches '{printable(path)}'. Check the pattern."
        else:
            inside = [path]
            trouble = None if os.path.lexists(path) else f"'{printable(path)}' does not exist. Check the path."
        if trouble:
            failures.append(ImageError(trouble))
        found.update(dict.fromkeys(inside or [path]))
    if failures and len(failures) == len(args):
        raise failures[0]
    if not args:
        raise ImageError("No pictures were named. Name files, folders or patterns.")
    return Found(tuple(found), others, own)


def find_subjects(folder: Path) -> Subjects:
    """Return the pictures of a folder with a folder a subject: the name of the folder is the subject's.

    Sub-folders of a subject's folder are the subject's too where it has pictures of its own. Where it has none, but
    several folders of pictures, nobody can tell whether these are one subject's or subjects themselves: that folder
    is a failure, and the others are done.

    Raises:
        ImageError: It may not be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        raise ImageError(no_picture(folder)) from None
    pictures: list[tuple[Path, str]] = []
    notes, failures = [], []
    others: Counter[str] = Counter()
    loose = own = 0
    for place in entries:
        if is_ignored(place.name):
            continue
        if not place.is_dir():
            loose += place.suffix.lower() in EXTENSIONS
            continue
        inside, own_here = _pictures(place, set(), others)
        own += own_here
        below = sorted({path.relative_to(place).parts[0] for path in inside if place not in (path, path.parent)})
        directly = any(path.parent == place for path in inside)
        shown = ", ".join(f"'{printable(name)}'" for name in below[:3]) + (", ..." if len(below) > 3 else "")
        name = f"'{printable(place)}'"
        if len(below) > 1 and not directly:
            failures.append(
                f"{name} holds folders of pictures ({shown}) and none of its own. If these are subjects, name {name} "
                f"itself; if all are of one, name it with --subject."
            )
            continue
        if below and directly:
            notes.append(f"{name} has sub-folders ({shown}); their pictures are taken as of the same subject.")
        pictures += [(path, place.name) for path in inside]
    if loose:
        notes.append(f"{_count(loose, 'picture')} directly in '{printable(folder)}' left out: a folder is a subject.")
    return Subjects(tuple(pictures), (*notes, *Found((), others, own).left_out()), tuple(failures))


def walk(folder: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]] | None]]:
    """Yield a folder and its sub-folders with their files, in sorted order, through links, each folder once.

    A folder that may not be read comes with None in place of its files. Hidden files and folders, and what other
    programs keep for themselves, are left out.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as scan:
                entries = sorted((e for e in scan if not is_ignored(e.name)), key=lambda e: os.fsencode(e.name))
        except OSError:
            yield place, None
            continue
        below = [entry for entry in entries if _is_dir(entry)]
        waiting += [place / entry.name for entry in reversed(below)]
        yield place, [entry for entry in entries if entry not in below]


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or is another program's own."""
    return name.startswith(".") or name in _IGNORED


def no_picture(folder: Path) -> str:
    """Return why a folder cannot be read as a picture, as a line."""
    name = f"'{printable(folder)}'"
    try:
        with os.scandir(folder):
            pass
    except PermissionError:
        return f"{name} may not be read. Check its permissions."
    except OSError as error:
        return f"{name} cannot be opened: {error.strerror or error}."
    if any(_pictures(folder, set(), Counter())[0]):
        return f"{name} is a folder, not a picture."
    return f"{name} holds no pictures. Known extensions: {' '.join(sorted(EXTENSIONS))}."


def local_path(source: str | os.PathLike[str]) -> Path:
    """Return the path that a path or ``file://`` URL names.

    Raises:
        ImageError: It is a URL of another kind.
    """
    text = os.fspath(source)
    kind = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text) if isinstance(text, str) else None
    if kind is None:
        return Path(text)
    url = urlsplit(text)
    if url.scheme.lower() != "file" or url.netloc not in ("", "localhost"):
        raise ImageError(f"'{printable(text)}' is not on this machine. Download it and name the file.")
    from urllib.request import url2pathname  # with an HTTP client: a quarter of the time of `--help`

    return Path(url2pathname(url.path) if os.name == "nt" else unquote(url.path, errors="surrogateescape"))


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path for one line of a message: undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def write_whole(path: Path, data: bytes, *, sync: bool = False, parents: bool = False) -> None:
    """Write a file, all of it or nothing.

    Args:
        path: The file; one of that name is replaced.
        data: What it shall hold.
        sync: Wait until the disk has it, so that not even a power cut takes both the old file and the new.
        parents: Make the folders that lead to it.

    Raises:
        OSError: The folder does not exist or cannot be written, or the disk is full.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mien-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; ours follow the umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:  # Ctrl-C too: a file half written would stay beside the whole one
        Path(temporary).unlink(missing_ok=True)
        raise


def _pictures(folder: Path, passed: set[Path], others: Counter[str]) -> tuple[list[Path], int]:
    """Return the pictures below a folder, with folders that may not be read, and how many are mien's own."""
    pictures: list[Path] = []
    own = 0
    if passed:
        top = folder.resolve()
        passed = {place for place in passed if top in place.parents}
    for place, files in walk(folder):
        if files is None:
            pictures.append(place)
            continue
        names = {entry.name for entry in files}
        stems = {PurePosixPath(name).stem for name in names}
        results = bool(passed) and place != folder and _is_below(place.resolve(), passed)
        for entry in files:
            suffix = PurePosixPath(entry.name).suffix.lower()
            if suffix not in EXTENSIONS:
                if not results and entry.name not in (_SHEETS_OF, "report.html"):
                    others[suffix] += 1
            elif results or _is_own(entry.name, names, stems, below=place != folder):
                own += 1
            else:
                pictures.append(place / entry.name)
    return pictures, own


def _is_own(name: str, names: set[str], stems: set[str], *, below: bool) -> bool:
    """Whether mien wrote a picture of this name; a folder of crops that is named itself is meant."""
    if _SHEET.fullmatch(name):
        return _SHEETS_OF in names
    copy = _COPY.fullmatch(name)
    return copy is not None and (below or copy.group(1) in stems)


def _is_below(place: Path, folders: set[Path]) -> bool:
    return place in folders or not folders.isdisjoint(place.parents)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
