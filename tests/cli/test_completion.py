import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mien.cli.root import COMMANDS, cli

SOURCE = Path(__file__).parent.parent.parent / "src"


def printed(shell):
    result = CliRunner().invoke(cli, ["completion", shell], prog_name="mien")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def complete(tmp_path):
    """Complete a line in a bash that has read the script; return what it offers and how the script was registered."""
    mien = tmp_path / "mien"
    mien.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mien "$@"\n')
    mien.chmod(0o755)
    (tmp_path / "completion.sh").write_text(printed("bash"))
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(SOURCE)}

    def call(*words):
        line = (
            f"source completion.sh; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            "_mien_completion mien; printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p mien"
        )
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        *offered, registered = done.stdout.split("\n")[:-1]
        return offered, registered

    return call


def test_bash_completes_commands_and_falls_back_to_files(complete):
    offered, registered = complete("mien", "e")

    assert offered == [name for name in COMMANDS if name.startswith("e")]
    assert "-o default" in registered, "pictures are files, which the shell knows"


def test_bash_completes_the_options_of_a_command(complete):
    offered, _ = complete("mien", "verify", "--f")

    assert "--fmr" in offered and all(option.startswith("--f") for option in offered)


@pytest.mark.parametrize(
    ("shell", "falls_back"), [("bash", "-o default"), ("zsh", '-z "$response"'), ("fish", "complete --command mien")]
)
def test_every_script_falls_back_to_files(shell, falls_back):
    script = printed(shell)

    assert "_MIEN_COMPLETE" in script and falls_back in script and "--no-files" not in script


def test_an_unknown_shell_is_refused_with_those_that_are_known():
    result = CliRunner().invoke(cli, ["completion", "tcsh"], prog_name="mien")

    assert result.exit_code == 2 and "'bash', 'zsh', 'fish'" in result.output


def test_completing_commands_imports_none():
    line = (
        "import sys; from mien.cli.root import cli; import click; "
        "items = cli.shell_complete(click.Context(cli), ''); "
        "print(len(items), [name for name in sys.modules if name.startswith('mien.cli.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", line], env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )

    assert done.stdout.startswith(f"{len(COMMANDS)} ['mien.cli.root']"), done.stdout + done.stderr
