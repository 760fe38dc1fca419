import base64
import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from mien import zoo
from mien.cli import common
from mien.cli.common import (
    analyzer_options,
    counted,
    decision_options,
    decision_point,
    echo_json,
    face_as_json,
    gallery_options,
    make_analyzer,
    make_folder,
    open_gallery,
    path_as_json,
    plain,
    progress,
)
from mien.errors import GalleryError, ModelError, UsageError
from mien.types import Box, Embedding, Expression, Face, OperatingPoint, Quality, Reason, as_unit
from squares import POINT_2, POINTS, filled_store, store  # noqa: F401


@pytest.fixture
def face(rng):
    return Face(
        Box(1.23456, 2, 30.005, 40),
        (POINTS * 30).astype(np.float32),
        0.98765432,
        quality=Quality(0.123456, (Reason.BLURRED, Reason.TOO_SMALL), {"side": 33.33333, "yaw": math.nan}),
        embedding=Embedding("model", as_unit(rng.normal(size=16))),
        expression=Expression("anger", {"anger": 0.7, "fear": 0.3}, uncertain=True),
    )


def on_a_terminal(code):
    """Run code with stderr on a terminal; return its stdout and what the terminal saw."""
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
        check=True,
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(master)
    return done.stdout.decode(), seen.decode()


# JSON


def test_numbers_that_are_not_finite_become_null():
    assert plain({"a": math.nan, "b": [math.inf, 1.5], "c": np.array([1, np.nan], np.float32)}) == {
        "a": None,
        "b": [None, 1.5],
        "c": [1.0, None],
    }


def test_records_become_objects():
    point = OperatingPoint(0.1, 0.5, 0.1, math.nan, (0.0, 1.0), (0.0, 1.0), 1, 2, "drawn")

    assert plain(point)["fnmr"] is None and plain(point)["fmr_interval"] == [0.0, 1.0]
    assert plain((np.float32(0.5), np.int64(3), Path("a/b"), None, "x")) == [0.5, 3, "a/b", None, "x"]


def test_a_face_is_json_that_any_parser_takes(face, capsys):
    echo_json(face_as_json(face))

    facts = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert facts["box"] == [1.23, 2, 30.0, 40] and np.shape(facts["landmarks"]) == (5, 2)
    assert facts["quality"]["reasons"] == ["blurred", "too_small"] and facts["quality"]["measures"]["yaw"] is None
    assert facts["expression"] == {"label": "anger", "probabilities": {"anger": 0.7, "fear": 0.3}, "uncertain": True}
    assert "embedding" not in facts


def test_an_embedding_survives_json_to_the_last_bit(face):
    facts = json.loads(json.dumps(face_as_json(face, embedding=True)))

    assert facts["embedding"]["model"] == "model"
    np.testing.assert_array_equal(np.array(facts["embedding"]["vector"], np.float32), face.embedding.vector)


def test_what_was_not_measured_is_null():
    facts = face_as_json(Face(Box(0, 0, 1, 1), POINTS, 0.5), embedding=True)

    assert facts["quality"] is None and facts["expression"] is None and "embedding" not in facts


def test_a_path_that_is_no_utf8_keeps_its_bytes():
    raw = b"caf\xe9/\xff.jpg"

    facts = path_as_json(os.fsdecode(raw))

    assert facts["path"] == "caf\N{REPLACEMENT CHARACTER}/\N{REPLACEMENT CHARACTER}.jpg"
    assert base64.b64decode(facts["path_bytes"]) == raw
    assert path_as_json(Path("café.jpg")) == {"path": "café.jpg"}


# Options


def test_the_options_arrive_under_their_names():
    @click.command()
    @decision_options
    @gallery_options(required=False)
    @analyzer_options
    def command(**options):
        echo_json(options)

    def run(*arguments):
        return json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)

    unset = dict.fromkeys(("fmr", "threshold", "gallery", "key", "embedder", "min_face"))
    assert run() == {**unset, "detector": "auto"}
    assert run("--fmr", "1e-3", "--min-face", "12", "--key", "k")["key"] == "k"


def test_a_gallery_that_is_required_is_asked_for():
    @click.command()
    @gallery_options()
    def command(**options):
        pass

    assert "Missing option '--gallery'" in CliRunner().invoke(command, []).stderr


def test_an_analyzer_is_made_as_asked(store):  # noqa: F811
    assert make_analyzer("fast", "tiny", 30).card.name == "tiny"
    with pytest.raises(UsageError, match="min_face"):
        make_analyzer("fast", "tiny", 0.5)


def test_the_model_decides_unless_a_threshold_or_a_calibrated_gallery_does(store, tmp_path, rng, capsys):  # noqa: F811
    card = zoo.card("tiny")
    assert decision_point(card, fmr=None, threshold=None) == POINT_2
    assert decision_point(card, fmr=None, threshold=0.25).threshold == 0.25
    with pytest.raises(UsageError, match="not both"):
        decision_point(card, fmr=1e-3, threshold=0.25)
    with pytest.raises(ModelError, match="not 1e-08"):
        decision_point(card, fmr=1e-8, threshold=None)

    path = str(tmp_path / "g.mien")
    with open_gallery(path, create=True) as gallery:
        for number in range(4):
            vector = as_unit(rng.normal(size=64))
            enrolled = Face(Box(0, 0, 9, 9), POINTS, 0.9, embedding=Embedding(card.id, vector))
            gallery.enrol(f"subject {number}", enrolled, source_hash=str(number))
        assert decision_point(card, fmr=None, threshold=None, gallery=gallery) == POINT_2
        assert "not calibrated at FMR 0.001" in capsys.readouterr().err
        calibrated = gallery.calibrate(0.5).point
        chosen = decision_point(card, fmr=0.5, threshold=None, gallery=gallery)
        assert (chosen.threshold, chosen.dataset) == (calibrated.threshold, "gallery of 4 subjects")
        assert capsys.readouterr().err == ""


def test_a_gallery_that_is_not_there_is_not_made_by_the_way(tmp_path):
    with pytest.raises(GalleryError):
        open_gallery(str(tmp_path / "g.mien"))
    assert list(tmp_path.iterdir()) == []


# Folders, words, progress


def test_a_folder_for_results_is_made_or_refused(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"Cannot make the folder '.*file/x': Not a directory"):
        make_folder(tmp_path / "file" / "x")


def test_one_is_singular():
    assert [counted(n, "face") for n in (0, 1, 2)] == ["0 faces", "1 face", "2 faces"]


def test_there_is_no_bar_where_nobody_reads_it(capsys):
    with progress(3) as advance:
        for _ in range(3):
            advance()

    assert capsys.readouterr() == ("", "")


def test_data_does_not_pass_through_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(common, "BAR_AFTER_S", 0)
    monkeypatch.setattr(common, "is_terminal", lambda stream: stream is sys.stderr)

    with progress(2) as advance:
        for step in range(2):
            print(step)
            advance()

    assert capsys.readouterr().out == "0\n1\n"


WORK = """
import time, sys
from mien.cli import common
common.BAR_AFTER_S = {after}
with common.progress(3, "things", printing={printing}) as advance:
    for step in range(3):
        time.sleep(0.02)
        print(step)
        print("oops", file=sys.stderr)
        advance()
    if {fails}:
        raise SystemExit(0)
"""


@pytest.mark.parametrize("fails", [False, True], ids=["to the end", "broken off"])
def test_a_terminal_gets_a_bar_and_the_data_stays_on_stdout(fails):
    data, seen = on_a_terminal(WORK.format(after=0, printing=True, fails=fails))

    assert data == "0\n1\n2\n"
    assert "things" in seen and "3/3" in seen and seen.count("oops") == 3
    assert seen.count("\x1b[?25h") == seen.count("\x1b[?25l")  # the cursor is back


def test_quick_work_shows_no_bar():
    data, seen = on_a_terminal(WORK.format(after=60, printing=False, fails=False))

    assert data == "0\n1\n2\n" and seen.split() == ["oops"] * 3
