import json

import pytest
from click.testing import CliRunner

from gallery.fake_analyzer import FakeAnalyzer, card, write_picture
from mien.cli.enroll import MOST_VIEWS, enroll
from mien.errors import GalleryError, ImageError, UsageError
from mien.gallery import Gallery, records
from mien.zoo.catalogue import Card


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.mien"


@pytest.fixture
def analyzer():
    return FakeAnalyzer()


@pytest.fixture
def run(monkeypatch, path, analyzer):
    monkeypatch.setattr("mien.cli.enroll.make_analyzer", lambda *_: analyzer)

    def call(*arguments):
        arguments = [str(argument) for argument in (*arguments, "--gallery", path)]
        result = CliRunner().invoke(enroll, arguments, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def enrolled(path):
    with Gallery(path) as gallery:
        return {subject.name: subject.samples for subject in gallery.subjects()}


def test_pictures_of_one_subject(run, path, tmp_path):
    for seed in range(3):
        write_picture(tmp_path / "pictures" / f"{seed}.png", 1, seed=seed)
    result = run(tmp_path / "pictures", "--subject", "Ada Lovelace")
    assert result.return_value == 0
    assert enrolled(path) == {"Ada Lovelace": 3}
    assert result.stdout.count("added") == 3 and "Ada Lovelace, sample 1  quality 0.90" in result.stdout
    assert "3 pictures: 3 added." in result.stderr and "has 1 subject." in result.stderr


def test_a_folder_a_subject(run, path, tmp_path):
    write_picture(tmp_path / "people" / "ada" / "1.png", 1)
    write_picture(tmp_path / "people" / "ada" / "deeper" / "2.png", 1, seed=1)
    write_picture(tmp_path / "people" / "bob" / "1.png", 2)
    (tmp_path / "people" / "empty").mkdir()
    assert run(tmp_path / "people").return_value == 0
    assert enrolled(path) == {"ada": 2, "bob": 1}


def test_a_table_of_paths_and_subjects(run, path, tmp_path):
    write_picture(tmp_path / "in" / "1.png", 1)
    write_picture(tmp_path / "in" / "2.png", 2)
    table = tmp_path / "in" / "people.csv"
    table.write_text("\ufeffsubject,path,note\nada,1.png,x\nbob,2.png,y\n", encoding="utf-8")
    assert run("--csv", table).return_value == 0
    assert enrolled(path) == {"ada": 1, "bob": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,name\na,b\n", "columns path and subject, got: path, name"),
        ("", "columns path and subject"),
        ("path,subject\n,ada\n", "Line 2 .* lacks"),
        ("path,subject\n1.png\n", "Line 2 .* lacks"),
    ],
)
def test_a_table_that_is_none_is_refused_before_anything_is_made(run, path, tmp_path, text, message):
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        run("--csv", tmp_path / "people.csv")
    assert not path.exists()


def test_a_missing_table_is_an_error(run, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        run("--csv", tmp_path / "none.csv")


def test_a_second_run_adds_nothing(run, path, tmp_path):
    picture = write_picture(tmp_path / "1.png", 1)
    run(picture, "--subject", "ada")
    result = run(picture, "--subject", "ada")
    assert result.return_value == 0 and "1 already" in result.stderr
    assert enrolled(path) == {"ada": 1}


def test_refused_and_broken_pictures_are_told_and_the_rest_is_done(run, path, tmp_path):
    write_picture(tmp_path / "p" / "a.png", 1)
    write_picture(tmp_path / "p" / "b.png", 1, quality=0.2, seed=1)
    write_picture(tmp_path / "p" / "c.png", seed=2)
    (tmp_path / "p" / "d.png").write_bytes(b"no picture")
    write_picture(tmp_path / "p" / "e.png", 1, seed=3)

    result = run(tmp_path / "p", "--subject", "ada", "--jsonl")

    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["status"] for record in records] == ["added", "refused", "refused", "failed", "added"]
    assert [record.get("reasons") for record in records[1:3]] == [["blurred"], ["no_face"]]
    assert {record["schema"] for record in records} == {"mien/enrolment/1"}
    assert "d.png" in records[3]["error"] and "d.png" in result.stderr
    assert result.return_value == 1 and enrolled(path) == {"ada": 2}


def test_the_gate_can_be_moved(run, path, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1, quality=0.2)
    assert "refused" in run(picture, "--subject", "ada").stdout
    assert "quality 0.20  blurred" in run(picture, "--subject", "ada", "--min-quality", 0).stdout
    assert enrolled(path) == {"ada": 1}


def test_of_several_faces_the_asked_for_one_is_taken(run, path, tmp_path):
    # The fake's second face is smaller and nearer the middle.
    picture = write_picture(tmp_path / "two.png", 1, 2)
    run(picture, "--subject", "largest", "--face", "largest")
    run(picture, "--subject", "main")
    result = run(picture, "--subject", "only", "--face", "only")
    assert "several faces" in result.stdout and result.return_value == 1
    analyzer = FakeAnalyzer()
    with Gallery(path) as gallery:
        for name, person in (("largest", 2), ("main", 3)):
            assert gallery.vectors(name)[0] @ analyzer.vector(person, [person, 0]) > 0.99


def test_one_person_under_two_names_is_told(run, tmp_path):
    run(write_picture(tmp_path / "a.png", 1), "--subject", "ada")
    result = run(write_picture(tmp_path / "b.png", 1, seed=1), "--subject", "countess")
    assert "also matches ada" in result.stdout
    result = run(write_picture(tmp_path / "c.png", 1, seed=2), "--subject", "third", "--json")
    (record,) = json.loads(result.stdout)["pictures"]
    assert {candidate["subject"] for candidate in record["duplicates"]} == {"ada", "countess"}


def test_a_model_without_operating_points_enrols_without_looking_for_duplicates(run, analyzer, path, tmp_path):
    facts = card()
    analyzer.card = Card(
        *(getattr(facts, name) for name in ("name", "role", "version", "summary", "licence")), "", facts.source
    )
    result = run(write_picture(tmp_path / "a.png", 1), "--subject", "ada")
    assert "duplicates are not looked for" in result.stderr and enrolled(path) == {"ada": 1}


def test_a_folder_whose_name_is_no_name_fails_alone(run, path, tmp_path):
    write_picture(tmp_path / "people" / ("x" * 201) / "1.png", 1)
    write_picture(tmp_path / "people" / "bob" / "1.png", 2)
    result = run(tmp_path / "people")
    assert result.return_value == 1 and "1 to 200 characters" in result.stderr
    assert enrolled(path) == {"bob": 1}


def test_whose_pictures_they_are_must_be_said(run, tmp_path):
    picture = write_picture(tmp_path / "p" / "a.png", 1)
    with pytest.raises(UsageError, match="--subject NAME"):
        run(picture)
    with pytest.raises(UsageError, match="no folder a subject"):
        run(tmp_path / "p")
    with pytest.raises(UsageError, match="Nothing to enrol"):
        run()
    with pytest.raises(UsageError, match="give it alone"):
        run(picture, "--csv", tmp_path / "x.csv")


def test_a_picture_that_does_not_exist_makes_no_gallery(run, path, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        run(tmp_path / "none.png", "--subject", "ada")
    assert not path.exists()


def test_a_gallery_of_another_embedder_is_refused(run, analyzer, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    run(picture, "--subject", "ada")
    analyzer.card = card("other")
    with pytest.raises(GalleryError, match=r"fake-1-\w+, but the embedder in use is other-1-"):
        run(picture, "--subject", "ada")


def test_people_below_people_are_not_stored_as_one(run, path, tmp_path):
    for place, number in {"amber/0": 1, "family/cedar/0": 2, "family/dune/0": 3}.items():
        write_picture(tmp_path / "people" / f"{place}.png", number)
    result = run(tmp_path / "people")
    assert result.return_value == 1 and enrolled(path) == {"amber": 1}
    assert "family' holds folders of pictures ('cedar', 'dune')" in result.stderr


def test_a_table_that_is_no_utf8_is_said_to_be_none(run, path, tmp_path):
    write_picture(tmp_path / "1.png", 1)
    (tmp_path / "people.csv").write_bytes("path,subject\n1.png,José\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"line 2 is no text in UTF-8"):
        run("--csv", tmp_path / "people.csv")


def test_of_several_faces_it_is_said_which_one_was_taken(run, tmp_path):
    picture = write_picture(tmp_path / "group.png", 1, 2)
    result = run(picture, "--subject", "ada", "--face", "largest", "--json")
    assert "shows 2 faces; taken is number 1 (30 px at 0,10), by --face largest." in result.stderr
    (record,) = json.loads(result.stdout)["pictures"]
    assert record["faces"] == 2 and record["face"]["number"] == 1


def test_a_renamed_folder_enrolled_again_is_told(run, tmp_path):
    picture = write_picture(tmp_path / "a.png", 1)
    run(picture, "--subject", "ada")
    result = run(picture, "--subject", "countess")
    assert "this very picture is enrolled as ada too" in result.stdout
    assert "also matches" not in result.stdout


def test_films_need_a_subject_and_no_list(tmp_path):
    for arguments in (["clip.mp4", "--video"], ["--video", "--subject", "ada"]):
        with pytest.raises(UsageError, match="--video takes films of one subject"):
            CliRunner().invoke(
                enroll, [*arguments, "--gallery", str(tmp_path / "g")], standalone_mode=False, catch_exceptions=False
            )


def test_simulated_views_go_into_the_template_and_are_told(run, path, tmp_path):
    picture = write_picture(tmp_path / "1.png", 1)
    result = run(picture, "--subject", "ada", "--simulate", 3)
    assert "with 3 simulated views" in result.stdout
    with Gallery(path) as gallery:
        assert gallery.samples("ada")[0].simulated == 3 and gallery.subject("ada").simulated == 1
    again = run(picture, "--subject", "ada", "--simulate", 3)
    assert "already" in again.stdout and "simulated view" not in again.stdout


def test_simulated_views_stand_in_the_json(run, tmp_path):
    write_picture(tmp_path / "p" / "1.png", 1)
    document = json.loads(run(tmp_path / "p", "--subject", "ada", "--simulate", 2, "--jsonl").stdout.splitlines()[-1])
    assert document["simulated"] == 2


def test_films_are_not_simulated(run, path):
    with pytest.raises(UsageError, match="--simulate takes pictures"):
        run("clip.mp4", "--subject", "ada", "--video", "--simulate", 2)
    assert not path.exists()


def test_the_most_views_are_those_of_the_library():
    assert MOST_VIEWS == records.MOST_VIEWS
