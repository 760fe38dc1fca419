"""Start `mien` and end it: every mistake of a user is one line and a status, never a traceback.

Nothing heavy is imported before `main` stands ready for Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["main"]

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main() -> NoReturn:
    """Run the command line: a user's mistake is one line and status 1 or 2, never a traceback."""
    interrupts = _Interrupts()
    try:
        _prepare_streams()
        status = _run()
    except KeyboardInterrupt:
        status = _stopped()
    except Exception:
        # Ctrl-C within the import of a library written in C comes out as that library's own error.
        if not interrupts.count:
            raise
        status = _stopped()
    finally:
        interrupts.restore()
    sys.exit(status)


class _Interrupts:
    """Lets Ctrl-C stop what runs, and a second one end the process at once, whatever waits for whom."""

    def __init__(self) -> None:
        self.count = 0
        # Where Ctrl-C is ignored (nohup) or handled by somebody else, so it stays.
        self._ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            try:
                signal.signal(signal.SIGINT, self._interrupt)
            except ValueError:
                self._ours = False  # not in the main thread

    def restore(self) -> None:
        if self._ours and signal.getsignal(signal.SIGINT) == self._interrupt:
            # What is left is the interpreter's own end, which nothing should disturb.
            signal.signal(signal.SIGINT, signal.SIG_IGN if self.count else signal.default_int_handler)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            os.write(2, b"\nStopped at once.\n")
            os._exit(STOPPED)
        raise KeyboardInterrupt


def _prepare_streams() -> None:
    """Let every name be printed: what a stream's code page lacks is escaped; a stream that is closed takes all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for as long as we run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _run() -> int:
    import click

    from mien.cli.root import cli
    from mien.errors import MienError

    try:
        status = cli.main(prog_name="mien", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _stopped()
    except MienError as error:
        click.echo(f"mien: {error}", err=True)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has what it wanted.
        drop_stdout()
        return 141
    except OSError as error:
        # A full disk, a mount that went away: no mistake of ours, and no traceback helps.
        named = isinstance(error.filename, str | bytes)
        where = f"'{os.fsencode(error.filename).decode(errors='backslashreplace')}'" if named else "stdout"
        click.echo(f"mien: {where}: {error.strerror or error}.", err=True)
        drop_stdout()
        return 1
    except MemoryError:
        click.echo("mien: there is not enough memory. Give it more, or fewer and smaller pictures.", err=True)
        return 1
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        click.echo("mien: no more threads can be started. Raise the limit, or use --threads 1.", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _stopped() -> int:
    sys.stderr.write("\nStopped. What was reported as done is kept.\n")
    return STOPPED


def drop_stdout() -> None:
    """Point stdout elsewhere, so that the flush at exit has nobody to complain to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
