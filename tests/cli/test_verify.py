import json

import click
import pytest
from click.testing import CliRunner

from mien.cli import verify as module
from mien.cli.verify import verify
from mien.types import Comparison, GroupRate, OperatingPoint
from squares import filled_store, save, store  # noqa: F401

ANNA, BERT = 0, 200  # blues


@pytest.fixture
def run(store):  # noqa: F811
    def call(*arguments, **options):
        arguments = [*map(str, arguments), "--embedder", "tiny"]
        # As `mien` itself runs it: what a command returns is the exit status.
        return CliRunner().invoke(verify, arguments, catch_exceptions=False, standalone_mode=False, **options)

    return call


@pytest.fixture
def anna(tmp_path):
    return save(tmp_path / "anna.png", (50, 30, 60, ANNA))


@pytest.fixture
def bert(tmp_path):
    return save(tmp_path / "bert.png", (50, 30, 60, BERT))


def test_a_match_ends_with_zero_and_says_what_is_known(run, anna):
    result = run(anna, anna)

    assert result.return_value == 0 and result.stderr == ""
    assert result.stdout.splitlines() == [
        "match: score 1.000 >= threshold 1.000",
        "probability of one subject, at even odds: 88.08 %",
        "false match rate: 0.1 % (95 %: 0.01 to 0.2)",
        "between groups of people (age, sex, origin): not measured; it may be higher for some",
        "false non-match rate: 10 % (95 %: 5 to 20)",
        "measured on: squares, 100 mated and 1,000 non-mated comparisons",
    ]


def test_no_match_ends_with_one(run, anna, bert):
    result = run(anna, bert)

    assert result.return_value == 1 and result.stdout.startswith("no match: score ")


@pytest.mark.parametrize(
    "wrong", [["no such file"], ["empty.png"], ["a.png", "--fmr", "7"], ["a.png", "--gallery", "g"]]
)
def test_an_error_ends_with_two_and_one_line(run, anna, tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", (50, 30, 60, ANNA))
    save(tmp_path / "empty.png")

    result = run(anna, *wrong)

    assert result.return_value == 2 and result.stdout == ""
    assert result.stderr.startswith("mien: ") and len(result.stderr.splitlines()) == 1


def test_a_threshold_decides_without_rates(run, anna, bert):
    assert run(anna, bert, "--threshold", "-1").return_value == 0
    result = run(anna, anna, "--threshold", "0.5")

    assert "error rates: not known" in result.stdout and "false match rate" not in result.stdout
    assert run(anna, bert, "--threshold", "0.5", "--fmr", "0.1").return_value == 2


def test_json_says_all_of_it(run, anna, bert):
    facts = json.loads(run(anna, bert, "--json").stdout)

    assert facts["schema"] == "mien/comparison/1" and facts["match"] is False
    quality = facts["a"].pop("quality")
    assert 0 < quality["score"] < 1 and quality["reasons"] == []
    assert facts["a"] == {"path": str(anna), "faces": 1, "face": 1, "box": [50, 30, 110, 90], "turn": 0}
    assert facts["worst_group"] is None
    assert facts["pairs"] == 1 and facts["embedder"].startswith("tiny-1-")
    assert facts["score"] < facts["operating_point"]["threshold"] and 0 < facts["probability"] < 1
    assert facts["operating_point"]["fmr_interval"] == [1e-4, 2e-3]


def test_json_has_null_for_rates_that_nobody_measured(run, anna):
    point = json.loads(run(anna, anna, "--json", "--threshold", "0.5").stdout)["operating_point"]

    assert {key for key, value in point.items() if value is None} == {
        "target_fmr", "fmr", "fmr_interval", "fnmr", "fnmr_interval",
    }  # fmt: skip


def test_of_several_faces_it_is_said_which_one_was_compared(run, anna, tmp_path):
    group = save(tmp_path / "group.png", (50, 30, 60, ANNA), (4, 4, 20, BERT))
    result = run(group, anna, "--json")

    assert result.return_value == 0 and json.loads(result.stdout)["a"]["faces"] == 2
    assert result.stderr == f"mien: '{group}' shows 2 faces; compared is number 1 (60 px at 50,30), by --face main.\n"


def test_an_arbitrary_choice_between_faces_is_refused_and_can_be_made(run, tmp_path):
    room = {"width": 600, "height": 400}  # for the crops
    both = save(tmp_path / "both.png", (100, 170, 60, ANNA), (440, 170, 60, BERT), **room)
    anna = save(tmp_path / "one.png", (270, 170, 60, ANNA), **room)
    bert = save(tmp_path / "other.png", (270, 170, 60, BERT), **room)

    assert run(both, anna).return_value == 2 and "It shows 2 faces" in run(both, anna).stderr
    assert run(both, anna, "--face", "only").return_value == 2
    assert {run(both, anna, "--face", number).return_value for number in "12"} == {0, 1}
    assert run(both, anna, "--face", "3").return_value == 2
    for one in (anna, bert):
        result = run(both, one, "--face", "best")
        assert result.return_value == 0 and "most similar of 2 pairs" in result.stderr
    with pytest.raises(click.BadParameter, match="a number from 1, got 'nicest'"):
        run(both, anna, "--face", "nicest")


def test_one_picture_may_come_from_stdin(run, anna):
    assert run("-", anna, input=anna.read_bytes()).return_value == 0
    assert run(anna, "-", input=b"").return_value == 2
    assert "Only one picture" in run("-", "-", input=anna.read_bytes()).stderr


def test_a_calibrated_gallery_brings_its_own_threshold(run, anna, tmp_path):
    from mien import zoo
    from mien.analyzer import Analyzer
    from mien.gallery import Gallery

    analyzer = Analyzer(embedder="tiny", threads=1)
    path = tmp_path / "g.mien"
    with Gallery(path, model=zoo.card("tiny").id) as gallery:
        for blue in (0, 60, 120, 200):
            picture = save(tmp_path / f"{blue}.png", (50, 30, 60, blue))
            (shown,) = next(analyzer.pictures([picture])).faces
            gallery.enrol(f"blue {blue}", shown, source_hash=str(blue))
        point = gallery.calibrate(0.3).point

    facts = json.loads(run(anna, anna, "--gallery", path, "--fmr", "0.3", "--json").stdout)

    assert facts["operating_point"]["dataset"] == "gallery of 4 subjects"
    assert facts["operating_point"]["threshold"] == pytest.approx(point.threshold)
    assert "false non-match rate" not in run(anna, anna, "--gallery", path, "--fmr", "0.3").stdout
    uncalibrated = run(anna, anna, "--gallery", path)
    assert "not calibrated at FMR 0.001" in uncalibrated.stderr and "measured on: squares" in uncalibrated.stdout


def test_a_poor_face_is_said_to_be_poor_and_why(run, tmp_path):
    poor = save(tmp_path / "poor.png", (50, 30, 20, ANNA))

    said = run(poor, save(tmp_path / "again.png", (50, 30, 20, ANNA))).stderr
    assert said.count("is of poor quality (0.") == 2 and "The rates hold for" in said

    once = run(poor, poor, "--threshold", "0.5").stderr
    assert once.count("is of poor quality (0.") == 1 and "more strangers match" in once
    assert "rates hold" not in once, "there are none"


def test_the_group_whose_strangers_match_most_often_is_named(capsys):
    point = OperatingPoint(1e-3, 0.5, 1e-3, 0.1, (5e-4, 2e-3), (0.05, 0.2), 100, 1000, "celebrities")
    worst = GroupRate(1e-3, "asian female", 2.2e-3, (1.3e-3, 3.3e-3), 290, "UTKFace")

    module.echo_words(Comparison(0.6, True, 0.9, point, worst_group=worst))

    said = capsys.readouterr().out
    assert "highest within a group of people: asian female, 0.22 % (95 %: 0.13 to 0.33), on UTKFace" in said
