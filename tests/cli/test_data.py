import json

import pytest
from click.testing import CliRunner

from data.layouts import CLASSES, picture, write
from mien.cli.data import KINDS, LAYOUTS, data
from mien.errors import DataError


@pytest.fixture
def run():
    def call(*arguments):
        result = CliRunner().invoke(data, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_inspect_prints_classes_and_draws_them(run, tmp_path):
    result = run("inspect", write(tmp_path / "set", CLASSES), "--plot", tmp_path / "page.png", "--strict")

    assert result.exit_code == 0
    assert "4 pictures, layout classes" in result.stdout and "happiness" in result.stdout
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_json_on_stdout_is_alone_there(run, tmp_path):
    record = json.loads(run("inspect", write(tmp_path, CLASSES), "--json").stdout)
    assert record["n"] == 4 and record["problems"] == []


def test_strict_reports_and_then_refuses(run, tmp_path):
    write(tmp_path, {**CLASSES, "happy/x.png": b"x"})

    assert "1 pictures cannot be read" in run("inspect", tmp_path).stdout
    with pytest.raises(DataError, match="1 pictures cannot be read"):
        run("inspect", tmp_path, "--strict")


def test_labels_are_a_set_or_a_list(run, tmp_path):
    write(tmp_path, {"3/a.png": picture(0), "3/b.png": picture(1), "4/a.png": picture(2), "4/b.png": picture(3)})

    assert "The classes are numbers" in run("inspect", tmp_path).stdout
    named = run("inspect", tmp_path, "--labels", "rafdb").stdout
    assert "disgust" in named and "are numbers" not in named
    listed = json.loads(run("inspect", tmp_path, "--labels", "a,b,c,happy,sad", "--json").stdout)
    assert listed["classes"]["class"]["happiness"] == {"": 2}


def test_the_layouts_offered_are_those_that_are_read():
    from mien.data import drawn, samples

    assert KINDS == samples.KINDS
    assert LAYOUTS == drawn.LAYOUTS


def test_what_draw_makes_inspect_reads(run, tmp_path):
    drawn = run("draw", tmp_path / "faces", "--per-class", 1, "--side", 32)

    assert drawn.stdout.endswith("faces: 8 drawn faces\n")
    assert "8 pictures, layout classes" in run("inspect", tmp_path / "faces").stdout
