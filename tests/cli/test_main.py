import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mien import zoo
from mien.cli import main as main_module
from mien.cli.main import main
from mien.cli.root import COMMANDS, cli
from mien.errors import ImageError
from squares import save


@pytest.fixture
def run(monkeypatch, capfd):
    """Run `mien` with a command that does as told; return status, stdout and stderr."""

    def call(action, *options):
        command = click.Command("doctor", callback=action)
        monkeypatch.setattr("mien.cli.doctor.doctor", command)
        monkeypatch.setattr(sys, "argv", ["mien", *options, "doctor"])
        with pytest.raises(SystemExit) as ended:
            main()
        # A process that was stopped ignores further signals until it ends; this one goes on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return (ended.value.code, *capfd.readouterr())

    return call


def raising(error):
    def action():
        raise error

    return action


def mien(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mien", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_a_users_mistake_is_one_line_and_status_one(run):
    assert run(raising(ImageError("'x' does not exist."))) == (1, "", "mien: 'x' does not exist.\n")


def test_wrong_usage_is_status_two():
    result = mien("analyze", "--no-such-option")

    assert result.returncode == 2 and "No such option" in result.stderr and "Traceback" not in result.stderr
    assert mien("no-such-command").returncode == 2


def test_what_a_command_returns_is_the_status(run):
    assert run(lambda: 3)[0] == 3
    assert run(lambda: None)[0] == 0
    assert run(lambda: click.get_current_context().exit(4))[0] == 4


def test_stopping_by_hand_is_status_130(run):
    status, _, message = run(raising(KeyboardInterrupt()))

    assert status == 130 and "Stopped. What was reported as done is kept." in message


def test_ctrl_c_inside_the_import_of_a_library_is_no_error_of_that_library(run):
    def action():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    status, _, message = run(action)
    assert status == 130 and message == "\nStopped. What was reported as done is kept.\n"


def test_a_second_ctrl_c_ends_at_once_without_noise():
    code = (
        "import sys, signal, time, click\nimport mien.cli.doctor\n"
        "def wait():\n"
        "    try: print('ready', flush=True); time.sleep(60)\n"
        "    finally:\n        print('stopping', flush=True); time.sleep(60)\n"
        "mien.cli.doctor.doctor = click.Command('doctor', callback=wait)\n"
        "from mien.cli.main import main; sys.argv = ['mien', 'doctor']; main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for line in (b"ready\n", b"stopping\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=30)
    assert process.returncode == 130 and message == b"\nStopped at once.\n"


def test_ctrl_c_is_ours_again_only_while_a_command_runs(run):
    before = signal.getsignal(signal.SIGINT)
    seen = []
    run(lambda: seen.append(signal.getsignal(signal.SIGINT)))
    assert seen[0] != before and signal.getsignal(signal.SIGINT) == before


def test_a_name_that_the_code_page_lacks_is_escaped_and_the_run_goes_on():
    code = (
        "import sys, click\nimport mien.cli.doctor\n"
        "mien.cli.doctor.doctor = click.Command('doctor', callback=lambda: [click.echo(n) for n in ('é', '王', 'z')])\n"
        "from mien.cli.main import main; sys.argv = ['mien', 'doctor']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert done.stdout.splitlines() == ["é".encode("cp1252"), b"\\u738b", b"z"] and done.stderr == b""


def test_closed_streams_are_no_trouble():
    done = subprocess.run(f"{sys.executable} -m mien --version >&- 2>&-", shell=True, check=False)
    assert done.returncode == 0


def test_without_a_home_folder_the_cure_is_named():
    code = (
        "import pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from mien.cli.main import main; main()"
    )
    bare = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME", "MIEN_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], capture_output=True, text=True, env=bare, check=False, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "There is no home folder. Set MIEN_HOME to a folder of your own." in done.stdout


def test_too_few_threads_are_one_line(run):
    status, _, message = run(raising(RuntimeError("can't start new thread")))
    assert status == 1 and "use --threads 1" in message


def test_a_full_disk_is_one_line():
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - of Linux
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mien", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert (done.returncode, done.stderr) == (1, "mien: stdout: No space left on device.\n")


def test_trouble_with_a_file_names_it(run, monkeypatch):
    monkeypatch.setattr(main_module, "drop_stdout", lambda: None)
    error = OSError(errno.EIO, "Input/output error", "disk/\udcff.png")

    assert run(raising(error)) == (1, "", "mien: 'disk/\\xff.png': Input/output error.\n")


def test_too_little_memory_is_one_line(run):
    status, _, message = run(raising(MemoryError()))

    assert status == 1 and message.startswith("mien: there is not enough memory.")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr("mien.cli.doctor.doctor", click.Command("doctor", callback=raising(ZeroDivisionError())))
    monkeypatch.setattr(sys, "argv", ["mien", "doctor"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_a_reader_that_has_enough_is_no_trouble():
    done = subprocess.run(
        f"{sys.executable} -m mien --help | head -1", shell=True, capture_output=True, text=True, check=False
    )

    assert done.stdout.startswith("Usage: mien") and done.stderr == ""


def test_settings_travel_to_workers_as_environment_variables(run, monkeypatch):
    for name in ("MIEN_OFFLINE", "MIEN_THREADS", "MIEN_DEVICE"):
        monkeypatch.setenv(name, "")
    seen = {}
    run(lambda: seen.update(os.environ), "--offline", "--threads", "3", "--device", "cpu")

    assert (seen["MIEN_OFFLINE"], seen["MIEN_THREADS"], seen["MIEN_DEVICE"]) == ("1", "3", "cpu")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(name):
    command = cli.get_command(click.Context(cli), name)

    assert command is not None and command.name == name
    assert command.help or command.get_short_help_str()


def test_help_lists_every_command_and_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mien", "--help"], capture_output=True, text=True, check=True
    )

    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "click" in imported
    assert not imported & {"numpy", "cv2", "onnxruntime", "onnx", "faiss", "rich", "scipy", "PIL", "jaxtyping"}
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_help_of_a_command_imports_nothing_heavy():
    code = f"""
import sys
from mien.cli.root import cli
for name in {sorted(COMMANDS)}:
    cli([name, "--help"], standalone_mode=False)
    assert not {{"numpy", "cv2", "PIL", "jaxtyping", "rich", "torch"}} & set(sys.modules), name
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_analyzing_imports_nothing_that_it_does_not_need(tmp_path):
    code = "import sys, mien.analyzer, mien.matching, mien.cli.analyze, mien.cli.verify; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    heavy = {"onnx", "onnxruntime", "faiss", "rich", "scipy", "matplotlib", "jinja2", "cryptography", "pip"}
    assert not heavy & set(done.stdout.split())


def test_help_and_version_in_this_process():
    from importlib.metadata import version

    runner = CliRunner()
    first, *models = runner.invoke(cli, ["--version"]).stdout.splitlines()
    assert first == f"mien {version('mien')}"
    assert models == [f"{role}: {zoo.card(name).id}" for role, name in zoo.defaults().items()]
    listed = runner.invoke(cli, ["-h"]).stdout.split("Commands:")[1]
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "] == [*COMMANDS]
    assert cli.list_commands(click.Context(cli)) == [*COMMANDS]
    assert cli.get_command(click.Context(cli), "bogus") is None


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert mien("--version").stdout.startswith(f"mien {version('mien')}\n")


@pytest.mark.slow
def test_ctrl_c_ends_a_batch_and_leaves_whole_lines(tmp_path):
    """The real process gets a real signal while it prints."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import mien.analyzer; from squares import SquareDetector\n"
        "mien.analyzer.Detector = lambda card, **_: SquareDetector()\n"
        "from mien.cli.main import main; main()"
    )
    picture = save(tmp_path / "a.png", (20, 20, 40, 100))
    for number in range(3000):
        os.link(picture, tmp_path / f"{number}.png")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "analyze", "--jsonl", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "MIEN_HOME": str(tmp_path), "MIEN_OFFLINE": "1"},
    )  # fmt: skip
    first = process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    rest, message = process.communicate(timeout=30)

    lines = [json.loads(line) for line in (first + rest).splitlines()]
    assert process.returncode == 130 and 1 <= len(lines) < 3001
    assert "Stopped." in message and "Traceback" not in message
