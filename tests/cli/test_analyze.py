import base64
import json
import os

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.analyze import analyze
from mien.errors import ImageError, ModelError, UsageError
from mien.types import AgeGuess, Attributes, GenderGuess, Opening, Pose
from squares import filled_store, save, scene, store  # noqa: F401

ONE, TWO = ((20, 20, 40, 100),), ((20, 20, 40, 100), (80, 30, 60, 0))


@pytest.fixture
def run(store):  # noqa: F811
    def call(*arguments, **options):
        result = CliRunner().invoke(
            analyze, [str(argument) for argument in arguments], standalone_mode=False, **options
        )
        if result.exception:
            raise result.exception
        return result

    return call


@pytest.fixture
def folder(tmp_path):
    """Four pictures: one face, two faces, none, and one that is broken."""
    save(tmp_path / "in" / "a.png", *ONE)
    save(tmp_path / "in" / "b.png", *TWO)
    save(tmp_path / "in" / "deep" / "c.png")
    (tmp_path / "in" / "d.jpg").write_bytes(b"")
    return tmp_path / "in"


def test_people_read_a_line_a_picture_and_a_line_a_face(run, folder):
    result = run(folder / "b.png")

    assert result.stdout.splitlines()[0] == f"{folder / 'b.png'}  160 x 120 px  2 faces"
    assert result.stdout.splitlines()[1].split()[:7] == ["1", "60", "x", "60", "px", "at", "80,30"]
    assert "score 0.90  quality 0." in result.stdout
    assert (result.stderr, result.return_value) == ("1 picture: 2 faces\n", 0)


def test_a_picture_without_a_face_is_no_failure(run, folder):
    result = run(folder / "deep")

    assert "no face" in result.stdout
    assert (result.stderr, result.return_value) == ("1 picture: 0 faces, 1 without a face\n", 0)


def test_a_broken_picture_is_said_in_one_line_and_the_rest_is_done(run, folder):
    result = run(folder)

    assert result.stderr.splitlines() == [
        f"mien: '{folder / 'd.jpg'}' is empty (0 bytes).",
        "4 pictures: 3 faces, 1 without a face, 1 failed",
    ]
    assert result.return_value == 1 and "d.jpg" not in result.stdout and "c.png" in result.stdout


def test_json_is_one_document(run, folder):
    document = json.loads(run(folder, "--json").stdout)

    assert document["schema"] == "mien/analysis/1"
    a, b, d, c = document["pictures"] if "d.jpg" in document["pictures"][2]["path"] else [None] * 4
    assert (a["path"], a["width"], a["height"]) == (str(folder / "a.png"), 160, 120)
    assert [face["box"] for face in b["faces"]] == [[80, 30, 140, 90], [20, 20, 60, 60]]
    assert set(b["faces"][0]) == {"box", "landmarks", "score", "quality", "expression", "turn"}
    assert set(d) == {"path", "error"} and c["faces"] == []


def test_one_picture_is_a_document_too(run, folder):
    assert len(json.loads(run(folder / "a.png", "--json").stdout)["pictures"]) == 1


def test_jsonl_is_an_object_a_line_with_its_schema(run, folder):
    lines = [json.loads(line) for line in run(folder, "--jsonl").stdout.splitlines()]

    assert [line["schema"] for line in lines] == ["mien/analysis/1"] * 4
    assert json.loads(run(folder, "--json").stdout)["pictures"] == [
        {key: value for key, value in line.items() if key != "schema"} for line in lines
    ]


def test_embeddings_come_only_when_asked_for(run, folder):
    with pytest.raises(UsageError, match="Add --json or --jsonl"):
        run(folder, "--embeddings")

    (line,) = run(folder / "a.png", "--jsonl", "--embeddings", "--embedder", "tiny").stdout.splitlines()

    embedding = json.loads(line)["faces"][0]["embedding"]
    assert embedding["model"].startswith("tiny-1-")
    assert np.linalg.norm(embedding["vector"]) == pytest.approx(1, abs=1e-6)


def test_a_picture_comes_from_stdin(run, folder, tmp_path):
    result = run("-", "--jsonl", "--crops", tmp_path / "crops", input=(folder / "b.png").read_bytes())

    assert json.loads(result.stdout)["path"] == "-" and len(json.loads(result.stdout)["faces"]) == 2
    assert sorted(p.name for p in (tmp_path / "crops").iterdir()) == ["stdin.face-1.png", "stdin.face-2.png"]
    broken = run("-", "--jsonl", input=b"nonsense")
    assert "no picture that mien knows" in json.loads(broken.stdout)["error"] and broken.return_value == 1
    with pytest.raises(UsageError, match="Give it alone"):
        run("-", folder)


def test_names_that_are_no_utf8_keep_their_bytes(run, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xe9.png"
    with open(name, "wb") as file:
        file.write(save(tmp_path / "a.txt", *ONE).read_bytes())

    result = run(tmp_path, "--jsonl", "--crops", tmp_path / "crops")

    facts = json.loads(result.stdout)
    assert base64.b64decode(facts["path_bytes"]) == name and len(facts["faces"]) == 1
    assert [os.fsencode(path.name) for path in (tmp_path / "crops").iterdir()] == [b"\xff\xe9.face-1.png"]
    assert "\\xff\\xe9.png" in run(tmp_path).stdout


def test_crops_are_aligned_faces_one_file_each(run, folder, tmp_path):
    run(folder, "--crops", tmp_path / "crops", "--embedder", "tiny")

    names = sorted(p.name for p in (tmp_path / "crops").iterdir())
    assert names == ["a.face-1.png", "b.face-1.png", "b.face-2.png"]
    assert cv2.imread(str(tmp_path / "crops" / "a.face-1.png")).shape == (112, 112, 3)


def test_two_pictures_of_one_name_give_two_results(run, tmp_path):
    for place in ("x/a", "y/A", "z/a", "z/a-2"):
        save(tmp_path / "in" / f"{place}.png", *ONE)

    run(tmp_path / "in", "--crops", tmp_path / "crops")

    names = sorted(p.name for p in (tmp_path / "crops").iterdir())
    assert names == ["A-2.face-1.png", "a-2-2.face-1.png", "a-3.face-1.png", "a.face-1.png"]


def test_annotated_pictures_are_written_at_full_size(run, folder, tmp_path):
    run(folder, "--save", tmp_path / "out" / "deep")

    names = sorted(p.name for p in (tmp_path / "out" / "deep").iterdir())
    assert names == ["a.faces.jpg", "b.faces.jpg", "c.faces.jpg"]
    drawn = cv2.imread(str(tmp_path / "out" / "deep" / "b.faces.jpg"))[..., ::-1]
    assert drawn.shape == (120, 160, 3)
    assert np.abs(drawn.astype(int) - scene(*TWO)).max() > 100  # something was drawn


def test_a_picture_from_stdin_is_annotated(run, folder, tmp_path):
    run("-", "--save", tmp_path / "out", input=(folder / "b.png").read_bytes())

    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stdin.faces.jpg"]


def test_a_picture_that_vanishes_before_it_is_annotated_has_failed(run, folder, tmp_path, monkeypatch):
    import mien.images

    def gone(source):
        raise ImageError("gone")

    monkeypatch.setattr(mien.images, "load_image", gone)  # the analyzer has its own name for it

    result = run(folder / "a.png", "--save", tmp_path / "out", "--jsonl")

    assert json.loads(result.stdout)["error"] == "gone" and result.return_value == 1
    assert result.stderr == "mien: gone\n1 picture: 0 faces, 1 failed\n"


def test_a_place_that_cannot_be_written_is_refused_before_the_work(run, folder, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="Cannot make the folder"):
        run(folder, "--save", tmp_path / "file" / "out")


def test_nothing_to_read_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ImageError, match="holds no pictures"):
        run(tmp_path / "empty")
    with pytest.raises(ImageError, match="does not exist"):
        run(tmp_path / "nowhere.jpg")


def test_uncertain_expressions_are_marked(run, folder, monkeypatch):
    from mien.analyzer import Analyzer
    from mien.types import Expression

    class Reader:
        def read(self, image, detections):
            return [Expression("fear", {"fear": 0.4, "anger": 0.6}, uncertain=True) for _ in detections]

    monkeypatch.setattr("mien.analyzer.Models.expression", Reader())
    assert Analyzer() is not None

    assert "fear 0.40 (uncertain)" in run(folder / "a.png").stdout


# Attributes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch):
    """Every face has these attributes."""
    mesh = np.zeros((468, 3), np.float32)
    mesh[:, :2] = np.random.default_rng(0).uniform(20, 60, (468, 2))
    attributes = Attributes(
        Pose(-12.34, 3.0, 0.4), Opening(0.3, True), Opening(0.02, False), Opening(0.2, True),
        AgeGuess(31.26, 6.2), GenderGuess("female", 0.98765, 0.0512), mesh, 0.99,
    )  # fmt: skip

    class Reader:
        def __init__(self, **_):
            pass

        def read(self, image, found):
            return [attributes] * len(found)

    monkeypatch.setattr("mien.analyzer.AttributeReader", Reader)
    return attributes


def test_attributes_are_words_below_their_face_and_guesses_come_with_their_error(run, folder, seen):
    result = run(folder / "a.png", "--attributes")

    assert result.stdout.splitlines()[2].strip() == (
        "yaw -12, pitch +3, roll +0 degrees  right eye closed  mouth open  looks 31 years old (+-6)  "
        "looks female (wrong for 5%)"
    )
    assert "guesses from looks" in result.stderr


def test_attributes_in_json_carry_error_and_note_and_are_absent_unless_asked_for(run, folder, seen):
    told = json.loads(run(folder / "a.png", "--json", "--attributes").stdout)
    plain = json.loads(run(folder / "a.png", "--json").stdout)

    attributes = told["pictures"][0]["faces"][0]["attributes"]
    assert attributes["pose"] == {"yaw": -12.3, "pitch": 3.0, "roll": 0.4}
    assert attributes["age"] == {"years": 31.3, "error": 6.2}
    assert attributes["apparent_gender"] == {"label": "female", "probability": 0.9877, "error": 0.051}
    assert attributes["right_eye"] == {"open": False, "openness": 0.02} and len(attributes["mesh"]) == 468
    assert "guesses" in told["note"] and "note" not in plain
    assert "attributes" not in plain["pictures"][0]["faces"][0]


def test_the_mesh_is_drawn_in_place_of_the_box(run, folder, tmp_path, seen):
    run(folder / "a.png", "--attributes", "--save", tmp_path / "boxes")
    run(folder / "a.png", "--attributes", "--save", tmp_path / "mesh", "--draw", "mesh")

    boxes, mesh = (cv2.imread(str(tmp_path / kind / "a.faces.jpg")).astype(int) for kind in ("boxes", "mesh"))
    assert np.abs(boxes - mesh).max() > 60


def test_a_picture_without_a_face_has_no_attributes_and_says_nothing_of_them(run, folder, seen):
    result = run(folder / "deep", "--attributes")

    assert "no face" in result.stdout and result.stderr == "1 picture: 0 faces, 1 without a face\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draw", "boxes"], "--draw says what --save DIR draws"),
        (["--draw", "mesh", "--save", "out"], "--draw mesh is of --attributes"),
    ],
)
def test_what_to_draw_needs_a_place_and_something_to_draw(run, folder, options, message):
    with pytest.raises(UsageError, match=message):
        run(folder / "a.png", *options)


def test_offline_without_their_models_attributes_say_which_to_pull(run, folder, monkeypatch):
    monkeypatch.setenv("MIEN_OFFLINE", "1")

    with pytest.raises(ModelError, match="mien models pull facemesh"):
        run(folder / "a.png", "--attributes")
