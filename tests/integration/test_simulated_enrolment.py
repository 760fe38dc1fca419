"""Enrolment with simulated views on drawn faces, with the shipped models."""

import json

import pytest
from click.testing import CliRunner

from mien.cli.root import cli
from mien.drawing import draw_face
from mien.images import save_image

pytestmark = pytest.mark.integration


def mien(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_people_are_enrolled_with_simulated_views_found_told_and_erased(tmp_path):
    gallery = tmp_path / "people.mien"
    for subject, name in enumerate(("ada", "bob")):
        (tmp_path / "people" / name).mkdir(parents=True)
        save_image(tmp_path / "people" / name / "1.png", draw_face(subject, side=200).image)
    probe = tmp_path / "probe.png"
    save_image(probe, draw_face(0, side=160).image)

    told = mien("enroll", tmp_path / "people", "--simulate", 2, "--gallery", gallery).stdout
    assert told.count("with 2 simulated views") == 2

    shown = json.loads(mien("gallery", "show", "ada", "--gallery", gallery, "--json").stdout)
    assert [sample["simulated"] for sample in shown["samples"]] == [2] and shown["subject"]["simulated"] == 1
    assert "ada" in mien("identify", probe, "--gallery", gallery).stdout

    mien("gallery", "erase", "ada", "--gallery", gallery, "--yes")
    assert "ada" not in mien("gallery", "list", "--gallery", gallery).stdout
    assert json.loads(mien("gallery", "check", "--gallery", gallery, "--json").stdout)["ok"]
