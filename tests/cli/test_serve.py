import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from click.testing import CliRunner

from mien.cli.serve import keys, needs_extra, serve
from mien.errors import GalleryError, UsageError


def run(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_a_key_is_printed_once_and_listed_without_its_secret(tmp_path):
    made = run(keys, "create", "--scope", "enrol", "--label", "door", "--expires", "90d", "--data", tmp_path)
    text = made.stdout.strip()
    listed = run(keys, "list", "--data", tmp_path).stdout

    assert text.startswith("mien_") and "shown this once" in made.stderr
    assert text.split("_")[1] in listed and "default=enrol" in listed and "door" in listed
    assert text.split("_", 2)[2] not in listed


def test_a_key_is_revoked_by_its_id_or_text_and_rotated(tmp_path):
    first = run(keys, "create", "--scope", "read", "--collection", "*", "--data", tmp_path).stdout.strip()
    second = json.loads(run(keys, "rotate", first, "--json", "--data", tmp_path).stdout)

    assert second["grants"] == {"*": "read"} and second["key"] != first
    run(keys, "revoke", second["id"], "--data", tmp_path)
    listed = json.loads(run(keys, "list", "--json", "--data", tmp_path).stdout)["keys"]
    assert all(key["revoked"] for key in listed)
    with pytest.raises(UsageError, match="no key"):
        run(keys, "rotate", first, "--data", tmp_path)
    with pytest.raises(UsageError, match="90d"):
        run(keys, "create", "--scope", "read", "--expires", "soon", "--data", tmp_path)


def test_beyond_loopback_a_service_without_keys_does_not_start(tmp_path):
    with pytest.raises(UsageError, match="mien keys create --scope admin"):
        run(serve, "--host", "0.0.0.0", "--data", tmp_path)
    made = run(keys, "create", "--scope", "read", "--data", tmp_path).stdout.strip()
    run(keys, "revoke", made, "--data", tmp_path)
    with pytest.raises(UsageError, match="needs keys"):
        run(serve, "--host", "0.0.0.0", "--data", tmp_path)


def test_what_cannot_be_served_is_said_in_a_line(tmp_path):
    (tmp_path / "no.mien").write_text("no gallery")
    with pytest.raises(GalleryError, match="not a mien gallery"):
        run(serve, "--gallery", tmp_path / "no.mien", "--data", tmp_path / "a")
    with pytest.raises(UsageError, match="two files"):
        run(serve, "--certificate", "a.pem", "--data", tmp_path / "b")
    with pytest.raises(UsageError, match="certificate or its key cannot be read"):
        run(serve, "--certificate", "a.pem", "--private-key", "b.pem", "--data", tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        run(serve, "--data", tmp_path / "file" / "below")


def test_missing_packages_are_named_with_their_cure():
    with pytest.raises(UsageError, match=r"pip install 'mien\[serve\]'"), needs_extra():
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
    with pytest.raises(ModuleNotFoundError), needs_extra():
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")


@pytest.mark.slow
def test_a_service_answers_and_ends_by_sigterm_without_a_word(tmp_path):
    command = [sys.executable, "-m", "mien", "--offline", "serve", "--port", "0", "--data", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stderr.readline()
            assert "serving on http://127.0.0.1:" in line
            place = line.split("serving on ")[1].split(" ")[0]
            with urllib.request.urlopen(f"{place}/healthz", timeout=20) as answer:
                assert json.load(answer)["status"] == "ok"
            second = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
            assert second.returncode == 1 and "Another service uses the folder" in second.stderr
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0 and time.monotonic() - start < 30
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
