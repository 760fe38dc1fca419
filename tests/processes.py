"""Processes that tests start."""

import signal
import subprocess
from collections.abc import Sequence


def start(command: Sequence[object], **options) -> subprocess.Popen:
    """Start a process that heeds Ctrl-C: a test run in the background is told to ignore it, and would pass that on."""
    ignored = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, ignored)
