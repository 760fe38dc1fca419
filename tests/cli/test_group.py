import json
import math

import pytest
from click.testing import CliRunner

from gallery.fake_analyzer import FakeAnalyzer, point, write_picture
from mien.cli.group import basis, group
from mien.errors import ImageError, ModelError, UsageError
from mien.gallery import Gallery
from mien.matching import given_threshold


@pytest.fixture
def folder(tmp_path):
    """1 and 2 meet twice, 1 is once with 3, 4 is alone and hardly to be seen; one picture is empty."""
    for number, people in enumerate([(1, 2), (1, 2), (1, 3), ()]):
        write_picture(tmp_path / "in" / f"{number}.png", *people, seed=number + 1)
    write_picture(tmp_path / "in" / "9.png", 4, quality=0.05, seed=9)
    return tmp_path / "in"


@pytest.fixture
def run(monkeypatch, tmp_path):
    analyzer = FakeAnalyzer()
    monkeypatch.setattr("mien.cli.group.make_analyzer", lambda *_, **__: analyzer)

    def call(*arguments):
        arguments = [str(argument) for argument in (*arguments, "--out", tmp_path / "out")]
        result = CliRunner().invoke(group, arguments, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def test_people_are_found_counted_and_shown(run, folder, tmp_path):
    result = run(folder, "--json", "--threshold", "0.6")
    document = json.loads(result.stdout)

    assert document == json.loads((tmp_path / "out" / "groups.json").read_text())
    assert document["schema"] == "mien/groups/1"
    assert document["counts"] == {
        "pictures": 5, "copies": 0, "failed": 0, "faces": 7, "people": 3, "unassigned": 1,
    }  # fmt: skip
    first, second, third = document["people"]
    assert (first["pictures"], second["pictures"], third["pictures"]) == ([0, 1, 2], [0, 1], [2])
    assert first["with"] == [{"person": 2, "pictures": 2}, {"person": 3, "pictures": 1}]
    assert sorted(first["faces"]) == [[0, 0], [1, 0], [2, 0]]
    assert [face["person"] for face in document["pictures"][0]["faces"]] == [1, 2]
    assert document["pictures"][4]["faces"][0]["person"] is None
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "groups.json", "person-0001.png", "person-0002.png", "report.html",
    ]  # fmt: skip
    assert result.return_value == 0
    assert "5 pictures: 7 faces, 2 people seen more than once, 1 seen once, 1 too poor to tell" in result.stderr


def test_nothing_but_json_goes_to_stdout(run, folder):
    assert run(folder, "--threshold", "0.6").stdout == ""


def test_poor_faces_may_be_let_in(run, folder):
    document = json.loads(run(folder, "--json", "--min-quality", "0", "--threshold", "0.6").stdout)
    assert document["counts"]["unassigned"] == 0 and document["counts"]["people"] == 4


def test_a_broken_picture_is_told_and_the_rest_is_done(run, folder, tmp_path):
    (folder / "5.png").write_bytes(b"")
    result = run(folder, "--json", "--threshold", "0.6")
    document = json.loads(result.stdout)
    assert result.return_value == 1
    assert "0 bytes" in result.stderr and "1 failed" in result.stderr
    assert "0 bytes" in document["pictures"][4]["error"] and document["counts"]["people"] == 3
    assert "Not read" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_the_default_rate_is_stricter_than_one_comparison_needs(run, folder):
    assert json.loads(run(folder, "--json").stdout)["operating_point"]["target_fmr"] == 1e-4
    assert json.loads(run(folder, "--json", "--fmr", "1e-2").stdout)["operating_point"]["threshold"] == 0.5


def test_a_gallery_names_whom_it_knows(run, folder, tmp_path):
    analyzer = FakeAnalyzer()
    with Gallery(tmp_path / "known.mien") as gallery:
        picture = write_picture(tmp_path / "ada.png", 2, seed=77)
        (found,) = analyzer.pictures([picture], crops=True, digests=True)
        gallery.enrol("ada", found.faces[0], source_hash=found.digest)

    document = json.loads(run(folder, "--json", "--threshold", "0.6", "--gallery", tmp_path / "known.mien").stdout)

    assert [person["name"] for person in document["people"]] == [None, "ada", None]
    assert "ada" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_every_group_of_somebody_known_bears_the_name(run, folder, tmp_path):
    analyzer = FakeAnalyzer()
    with Gallery(tmp_path / "known.mien") as gallery:
        for number in (1, 2):
            picture = write_picture(tmp_path / f"ada{number}.png", number, seed=70 + number)
            (found,) = analyzer.pictures([picture], crops=True, digests=True)
            gallery.enrol("ada", found.faces[0], source_hash=found.digest)

    document = json.loads(run(folder, "--json", "--threshold", "0.6", "--gallery", tmp_path / "known.mien").stdout)

    assert [person["name"] for person in document["people"]] == ["ada", "ada", None]


def test_copies_of_a_picture_are_one_picture(run, tmp_path):
    original = write_picture(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "a (1).png").write_bytes(original.read_bytes())
    (tmp_path / "in" / "link.png").symlink_to(original)
    result = run(tmp_path / "in", "--json", "--threshold", "0.6")
    document = json.loads(result.stdout)

    assert "1 picture (2 copies left out): 1 face, 0 people seen more than once, 1 seen once" in result.stderr
    assert document["counts"]["copies"] == 2 and document["counts"]["faces"] == 1
    assert [picture.get("copy_of") for picture in document["pictures"]] == [None, 0, 0]
    assert "Who is in 1 picture" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_report_inside_the_photographs_is_not_read_again(run, tmp_path, monkeypatch):
    for number in (1, 2):
        write_picture(tmp_path / "out" / f"{number}.png", 1, seed=number)
    first = json.loads(run(tmp_path / "out", "--json", "--threshold", "0.6").stdout)
    again = run(tmp_path / "out", "--json", "--threshold", "0.6")

    assert json.loads(again.stdout) == first and first["counts"]["pictures"] == 2
    assert "1 picture left out that mien itself wrote" in again.stderr
    assert "1 person seen more than once" in again.stderr


def test_sheets_of_an_earlier_run_do_not_stay(run, folder, tmp_path):
    run(folder, "--threshold", "0.6")
    run(folder, "--threshold", "0.99")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["groups.json", "report.html"]


def test_no_faces_at_all_is_a_report_too(run, tmp_path):
    write_picture(tmp_path / "in" / "empty.png")
    result = run(tmp_path / "in", "--json")
    assert json.loads(result.stdout)["people"] == [] and result.return_value == 0


def test_what_cannot_be_done_is_refused(run, folder, tmp_path):
    (tmp_path / "void").mkdir()
    with pytest.raises(ImageError, match="holds no pictures"):
        run(tmp_path / "void")
    with pytest.raises(UsageError, match="not both"):
        run(folder, "--fmr", "1e-3", "--threshold", "0.5")
    with pytest.raises(ModelError, match=r"measured down to FMR 0\.0001"):
        run(folder, "--fmr", "1e-6")


def test_the_basis_of_the_decision_is_a_sentence():
    assert "at least 0.600: a false match rate of 0.001 for two faces (measured on made up)" in basis(point(1e-3, 0.6))
    own = given_threshold(0.42)
    assert math.isnan(own.fnmr) and "at least 0.420, as asked for" in basis(own)
