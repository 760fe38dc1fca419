"""`mien expression` on red squares, read by a tiny network from a run folder."""

import csv
import io
import json

import pytest
from click.testing import CliRunner

from mien.analyzer import Analyzer
from mien.cli.analyze import analyze
from mien.cli.expression import expression
from mien.errors import ModelError, UsageError
from mien.images import load_image
from squares import filled_store, save, store  # noqa: F401
from zoo.nets import expression as network

LABELS = ["happiness", "neutral", "anger"]


@pytest.fixture
def model(store, tmp_path):  # noqa: F811
    """A run folder; of its answers, those below 0.6 are uncertain."""
    folder = tmp_path / "toy"
    folder.mkdir()
    network(16, 3).save(folder / "model.onnx")
    convention = {"labels": LABELS, "crop": "box", "side": 16, "uncertain_below": 0.6}
    (folder / "card.json").write_text(json.dumps({"role": "expression", "convention": convention}))
    return folder


@pytest.fixture
def run(model):
    def call(*arguments, command=expression, name="--model"):
        arguments = [*map(str, arguments), name, str(model)]
        result = CliRunner().invoke(command, arguments, standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


@pytest.fixture
def folder(tmp_path):
    """Two faces, none, and a picture that is broken."""
    save(tmp_path / "in" / "a.png", (20, 20, 40, 250), (80, 30, 60, 0))
    save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.jpg").write_bytes(b"")
    return tmp_path / "in"


def told(model, path):
    return [face.expression for face in Analyzer(expression=str(model)).analyze(load_image(path), embed=False)]


def test_people_read_a_line_a_face_most_probable_class_first(run, folder, model):
    result = run(folder / "a.png")

    lines = result.stdout.splitlines()
    assert lines[0] == str(folder / "a.png") and len(lines) == 3
    for line, one in zip(lines[1:], told(model, folder / "a.png"), strict=True):
        assert ("uncertain" if one.uncertain else one.label) in line
        assert f"{one.label} {one.probabilities[one.label]:.2f}" in line
    assert result.stderr.startswith("1 picture: 2 faces, ") and result.return_value == 0


def test_json_tells_every_probability(run, folder, model):
    document = json.loads(run(folder, "--json").stdout)

    assert document["schema"] == "mien/expressions/1" and document["model"].startswith("toy-1-")
    a, b, c = document["pictures"]
    assert set(c) == {"path", "error"} and b["faces"] == [] and (a["width"], a["height"]) == (160, 120)
    for face, one in zip(a["faces"], told(model, folder / "a.png"), strict=True):
        assert face["probabilities"] == pytest.approx(dict(one.probabilities), abs=1e-4)
        assert face["expression"] == one.label and face["uncertain"] == one.uncertain
        assert face["probability"] == face["probabilities"][one.label]
    assert a["faces"][0]["box"] == [80, 30, 140, 90]


def test_jsonl_is_an_object_a_line(run, folder):
    lines = [json.loads(line) for line in run(folder, "--jsonl").stdout.splitlines()]

    assert len(lines) == 3 and all(line["schema"] == "mien/expressions/1" for line in lines)


def test_csv_has_a_row_a_face_and_one_for_a_picture_without(run, folder, model):
    rows = list(csv.DictReader(io.StringIO(run(folder, "--csv").stdout)))

    assert [(row["path"], row["face"]) for row in rows] == [
        (str(folder / "a.png"), "1"),
        (str(folder / "a.png"), "2"),
        (str(folder / "b.png"), ""),
    ]
    first = told(model, folder / "a.png")[0]
    assert (rows[0]["expression"], rows[0]["uncertain"]) == (first.label, str(int(first.uncertain)))
    assert float(rows[0]["probability"]) == pytest.approx(first.probabilities[first.label], abs=1e-4)


def test_a_broken_picture_is_one_line_and_status_1(run, folder):
    result = run(folder)

    assert result.return_value == 1 and "'b.png'" not in result.stderr
    assert "is empty (0 bytes)" in result.stderr and result.stderr.endswith("1 failed\n")


def test_analyze_takes_the_model_too(run, folder, model):
    document = json.loads(run(folder / "a.png", "--json", command=analyze, name="--expression").stdout)

    labels = [face["expression"]["label"] for face in document["pictures"][0]["faces"]]
    assert labels == [one.label for one in told(model, folder / "a.png")]


def test_a_model_of_another_role_or_none_is_refused(store, folder):  # noqa: F811
    for model, error, match in (
        ("tiny", UsageError, "role embedder, expected a model of role expression"),
        ("none/such", ModelError, "There is no run folder or ONNX file"),
    ):
        with pytest.raises(error, match=match):
            CliRunner().invoke(
                expression, [str(folder), "--model", model], standalone_mode=False, catch_exceptions=False
            )


def test_shares_are_passed_on_and_answer_for_other_classes(model, folder):
    card = json.loads((model / "card.json").read_text())
    card["convention"]["shares"] = {"": [0.2, 0.3, 0.5]}
    (model / "card.json").write_text(json.dumps(card))
    shares = folder / "shares.toml"
    shares.write_text("neutral = 1\nanger = 1\n")

    def probabilities(*arguments):
        call = [str(folder / "a.png"), "--json", "--model", str(model), *map(str, arguments)]
        result = CliRunner().invoke(expression, call, standalone_mode=False)
        (picture,) = json.loads(result.stdout)["pictures"]
        return picture["faces"][0]["probabilities"]

    learned = probabilities()
    weighed = {name: p / share for (name, p), share in zip(learned.items(), (0.3, 0.2, 0.5), strict=True)}
    expected = {name: weight / sum(weighed.values()) for name, weight in weighed.items()}
    assert probabilities("--shares", "equal") == pytest.approx(expected, abs=1e-4)
    assert probabilities("--shares", shares)["happiness"] == 0
    assert probabilities("--shares", "learned") == learned


def test_shares_without_expressions_are_refused(folder):
    with pytest.raises(UsageError, match="none are read"):
        CliRunner().invoke(
            analyze, [str(folder / "a.png"), "--expression", "none", "--shares", "equal"], standalone_mode=False,
            catch_exceptions=False,
        )  # fmt: skip


def test_shares_that_a_card_cannot_serve_are_refused_in_one_line(run, folder):
    with pytest.raises(ModelError, match="does not say the class shares that it learned") as caught:
        run(folder / "a.png", "--shares", "equal")
    assert "\n" not in str(caught.value)
