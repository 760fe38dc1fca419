import json

import pytest
from click.testing import CliRunner

from gallery.fake_analyzer import FakeAnalyzer, write_picture
from mien.cli.identify import identify, search
from mien.errors import GalleryError, ImageError, UsageError
from mien.gallery import Gallery
from mien.types import OperatingPoint

PEOPLE = {1: "ada", 2: "bob", 3: "cyd"}


@pytest.fixture
def path(tmp_path):
    analyzer = FakeAnalyzer()
    with Gallery(tmp_path / "people.mien") as gallery:
        for number, name in PEOPLE.items():
            for seed in (50, 51):
                picture = write_picture(tmp_path / "enrolled" / f"{name}{seed}.png", number, seed=seed)
                (found,) = analyzer.pictures([picture], crops=True, digests=True)
                gallery.enrol(name, found.faces[0], source_hash=found.digest)
    return tmp_path / "people.mien"


@pytest.fixture
def run(monkeypatch, path):
    analyzer = FakeAnalyzer()
    monkeypatch.setattr("mien.cli.identify.make_analyzer", lambda *_: analyzer)

    def call(command, *arguments, gallery=path):
        arguments = [str(argument) for argument in (*arguments, "--gallery", gallery)]
        result = CliRunner().invoke(command, arguments, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def test_known_faces_get_their_names_and_strangers_none(run, tmp_path):
    picture = write_picture(tmp_path / "group.png", 2, 9, seed=7)
    result = run(identify, picture)
    lines = result.stdout.splitlines()
    assert "2 faces" in lines[0]
    assert "bob  score 0.8" in lines[1] and "probability" in lines[1]
    assert "unknown" in lines[2] and len(lines) == 3
    assert result.return_value == 0 and "1 picture: 1 known, 1 unknown" in result.stderr


def test_json_has_candidates_with_their_scores_and_the_decision(run, tmp_path):
    picture = write_picture(tmp_path / "group.png", 2, 9, seed=7)
    document = json.loads(run(identify, picture, "--top", 2, "--json").stdout)
    assert document["schema"] == "mien/identification/1" and document["threshold"] == 0.6
    (found,) = document["pictures"]
    known, stranger = found["faces"]
    assert (known["subject"], stranger["subject"]) == ("bob", None)
    assert [candidate["match"] for candidate in known["candidates"]] == [True, False]
    assert known["candidates"][0]["subject"] == "bob" and known["candidates"][0]["probability"] > 0.95
    assert not stranger["candidates"][0]["match"] and stranger["candidates"][0]["probability"] < 0.1
    assert known["candidates"][0]["score"] > known["candidates"][1]["score"]


def test_lines_of_json_stand_alone(run, tmp_path):
    pictures = [write_picture(tmp_path / f"{seed}.png", 1, seed=seed) for seed in range(3)]
    records = [json.loads(line) for line in run(identify, *pictures, "--jsonl").stdout.splitlines()]
    assert [record["faces"][0]["subject"] for record in records] == ["ada"] * 3
    assert all(record["operating_point"]["target_fmr"] == 1e-3 for record in records)


def test_no_picture_with_a_face_is_still_a_document(run, tmp_path):
    document = json.loads(run(identify, write_picture(tmp_path / "none.png"), "--json").stdout)
    assert document["pictures"][0]["faces"] == []


def test_a_broken_picture_is_told_and_the_rest_is_done(run, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    write_picture(tmp_path / "in" / "b.png", 1)
    result = run(identify, tmp_path / "in", "--json")
    assert result.return_value == 1 and "1 known, 0 unknown, 1 failed" in result.stderr
    assert ["error" in picture for picture in json.loads(result.stdout)["pictures"]] == [True, False]
    assert "a.png" in run(identify, tmp_path / "in").stderr


def test_more_candidates_are_shown_on_request_with_what_does_not_match(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    lines = run(identify, picture, "--top", 3).stdout.splitlines()
    assert "ada" in lines[1]
    assert all("no match: " in line for line in lines[2:]) and len(lines) == 4


def test_a_threshold_of_ones_own_decides(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    assert "unknown  best score" in run(identify, picture, "--threshold", 0.99).stdout
    assert "ada" in run(identify, picture, "--threshold", 0.1).stdout


def test_a_rate_for_the_whole_gallery_is_stricter_than_one_for_a_comparison(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    document = json.loads(run(identify, picture, "--fpir", 0.003, "--json").stdout)
    assert document["operating_point"]["target_fmr"] == pytest.approx(0.001, rel=0.01)
    assert json.loads(run(identify, picture, "--fpir", 0.001, "--json").stdout)["threshold"] > document["threshold"]


def test_a_rate_beyond_what_was_measured_is_said_to_be(run, tmp_path):
    result = run(identify, write_picture(tmp_path / "a.png", 1), "--fpir", 1e-6, "--json")
    assert "none below 0.0001 was measured" in result.stderr and "0.03 % of strangers" in result.stderr
    assert json.loads(result.stdout)["threshold"] == 0.7


def test_a_loose_rate_in_a_gallery_is_said_to_name_strangers(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    point = "mien.matching.operating_point"
    assert "--fpir takes the size" not in run(identify, picture, "--fmr", 0.01).stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point, lambda card, fmr: OperatingPoint(fmr, 0.4, fmr, 0.1, (0, 1), (0, 1), 9, 99))
        assert "8.7 % of strangers may be given one of 3 names" in run(identify, picture, "--fmr", 0.03).stderr


@pytest.mark.parametrize("options", [("--fpir", 2), ("--fpir", 0.1, "--fmr", 0.1), ("--fpir", 0.1, "--threshold", 0.5)])
def test_rates_that_make_no_sense_are_refused(run, tmp_path, options):
    with pytest.raises(UsageError, match="--fpir"):
        run(identify, write_picture(tmp_path / "a.png", 1), *options)


def calibrated(path, target, threshold):
    with Gallery(path) as gallery:
        point = OperatingPoint(target, threshold, target, 0.1, (0, 1), (0, 1), 10, 100_000, "own")
        gallery.keep_point(point)


def test_a_calibrated_gallery_decides_by_its_own_threshold(run, path, tmp_path):
    calibrated(path, 1e-3, 0.83)
    picture = write_picture(tmp_path / "a.png", 1)
    result = run(identify, picture, "--json")
    assert json.loads(result.stdout)["threshold"] == 0.83 and "not calibrated" not in result.stderr
    assert json.loads(run(identify, picture, "--fpir", 0.01, "--json").stdout)["threshold"] == 0.83


def test_a_gallery_that_has_grown_since_calibration_is_said_to(run, path, tmp_path):
    calibrated(path, 1e-3, 0.83)
    analyzer = FakeAnalyzer()
    with Gallery(path) as gallery:
        for number in range(10, 15):
            picture = write_picture(tmp_path / "more" / f"{number}.png", number)
            (found,) = analyzer.pictures([picture], digests=True)
            gallery.enrol(f"n{number}", found.faces[0], source_hash=found.digest)
    assert "grown from 3 to 8 subjects" in run(identify, picture).stderr


def test_an_empty_or_missing_gallery(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    with pytest.raises(GalleryError, match="mien enroll"):
        run(identify, picture, gallery=tmp_path / "none.mien")
    Gallery(tmp_path / "empty.mien").close()
    assert "unknown" in run(identify, picture, gallery=tmp_path / "empty.mien").stdout


def test_search_lists_the_nearest_samples(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    result = run(search, picture, "-k", 3)
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and all("ada, sample" in line for line in lines[:2]) and "ada" not in lines[2]
    once = run(search, picture, "--subjects").stdout.splitlines()
    assert len(once) == 3 and "ada" in once[0]


def test_search_as_json(run, tmp_path):
    document = json.loads(run(search, write_picture(tmp_path / "a.png", 1), "--json").stdout)
    assert document["schema"] == "mien/search/1" and len(document["candidates"]) == 6
    assert document["candidates"][0]["subject"] == "ada" and document["face"]["quality"]["score"] == 0.9


def test_search_without_a_face_is_an_error(run, tmp_path):
    with pytest.raises(ImageError, match="shows no face"):
        run(search, write_picture(tmp_path / "none.png"))


def test_one_name_at_two_faces_of_a_picture_is_told_and_can_be_given_once(run, tmp_path):
    picture = write_picture(tmp_path / "mirror.png", 2, 2, seed=7)
    twice = run(identify, picture, "--json")
    (found,) = json.loads(twice.stdout)["pictures"]
    assert [face["subject"] for face in found["faces"]] == ["bob", "bob"] and found["repeated"] == {"bob": 2}
    assert "2 faces are named bob" in twice.stderr and "--once-per-picture" in twice.stderr
    once = run(identify, picture, "--once-per-picture")
    assert once.stdout.count("bob") == 1 and "the name of a more similar face" in once.stdout
    assert "are named" not in once.stderr and "1 known, 1 unknown" in once.stderr


def test_with_a_threshold_of_ones_own_the_rates_are_null(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 2, seed=7)
    point = json.loads(run(identify, picture, "--threshold", 0.5, "--json").stdout)["operating_point"]
    assert (point["threshold"], point["fmr"], point["fmr_interval"], point["fnmr"]) == (0.5, None, None, None)
