"""Models named by a name, a run folder or a file."""

import json

import numpy as np
import pytest

from mien import zoo
from mien.analyzer import Analyzer
from mien.errors import ModelError, UsageError
from mien.vision.expression import ExpressionReader
from vision.planted import save_constant

CARD = {"role": "expression", "convention": {"labels": ["neutral", "happiness"], "side": 8}}


@pytest.fixture
def run(tmp_path):
    """A run folder whose network always sees happiness."""
    folder = tmp_path / "smiles"
    folder.mkdir()
    save_constant(folder / "model.onnx", [np.log([[0.2, 0.8]])])
    (folder / "card.json").write_text(json.dumps(CARD))
    return folder


def test_a_name_of_the_catalogue_is_that_model(home):
    assert zoo.named("centerface") == zoo.card("centerface")


def test_a_run_folder_is_a_model_called_after_it(home, run):
    card = zoo.named(run)

    assert card.name == "smiles" and card.role == "expression"
    assert zoo.path(card) == run.resolve() / "model.onnx" and card.origin.endswith("model.onnx")
    probabilities = ExpressionReader(card).probabilities(np.zeros((1, 8, 8, 3), np.uint8))
    np.testing.assert_allclose(probabilities, [[0.2, 0.8]], rtol=1e-6)


def test_a_file_takes_the_card_of_its_name_before_the_folders(home, run):
    network = run / "model-int8.onnx"
    network.write_bytes((run / "model.onnx").read_bytes())
    assert zoo.named(str(network)).metrics == {}

    network.with_suffix(".json").write_text(json.dumps({**CARD, "metrics": {"accuracy": 0.5}}))

    assert zoo.named(str(network)).metrics == {"accuracy": 0.5}


def test_two_files_with_one_card_have_two_ids(home, run):
    other = save_constant(run / "other.onnx", [np.log([[0.7, 0.3]])])

    assert zoo.named(other).id != zoo.named(run).id


def test_a_card_says_its_own_name(home, run):
    (run / "card.json").write_text(json.dumps({**CARD, "name": "grin"}))

    assert zoo.named(run).name == "grin"


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("card.json", None, "card.json' is missing"),
        ("model.onnx", None, "model.onnx' is missing"),
        ("card.json", "{", "is damaged"),
        ("card.json", "[]", "is damaged"),
        ("card.json", "{}", "incomplete or damaged: 'role'"),
    ],
)
def test_a_run_that_lacks_something_is_refused_in_one_line(home, run, file, text, match):
    (run / file).unlink()
    if text is not None:
        (run / file).write_text(text)

    with pytest.raises(ModelError, match=match) as caught:
        zoo.named(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("model", "match"), [("smiley", "There is no model 'smiley'"), ("runs/1", "no run folder or")])
def test_what_is_neither_is_refused(home, model, match):
    with pytest.raises(ModelError, match=match):
        zoo.named(model)


@pytest.mark.slow
def test_an_analyzer_takes_a_run_folder_and_only_one_of_expressions(home, run):
    assert Analyzer(expression=str(run)).expression_reader.labels == ("neutral", "happiness")
    (run / "card.json").write_text(json.dumps({**CARD, "role": "embedder"}))

    with pytest.raises(UsageError, match="role embedder, expected a model of role expression"):
        Analyzer(expression=str(run))


def test_a_role_that_is_expected_is_checked(home, run):
    assert zoo.named(run, role="expression").name == "smiles"
    with pytest.raises(ModelError, match="'smiles' is of role expression, expected a model of role embedder"):
        zoo.named(run, role="embedder")


def test_a_companion_lies_beside_a_run_or_stands_in_the_catalogue(home, run):
    assert zoo.companion(zoo.card("face-gan-64"), "encoder") == zoo.card("face-vae-64-encoder")
    facts = {"role": "generator", "convention": {"kind": "vae", "encoder": "reader.onnx"}}
    (run / "card.json").write_text(json.dumps(facts))
    save_constant(run / "reader.onnx", [np.log([[0.2, 0.8]])])
    (run / "reader.json").write_text(json.dumps(CARD))

    assert zoo.path(zoo.companion(zoo.named(run), "encoder")) == run.resolve() / "reader.onnx"


@pytest.mark.parametrize("wish", ["fast", "accurate"])
def test_fast_and_accurate_mean_an_embedder(wish):
    assert zoo.card(zoo.choice(wish, "embedder")).role == "embedder"


def test_other_names_and_other_roles_are_left_as_they_are():
    assert zoo.choice("sface", "embedder") == "sface" and zoo.choice("fast", "generator") == "fast"


def test_an_analyzer_takes_the_fast_embedder_by_that_word():
    assert Analyzer(embedder="fast", expression=None).card.name == zoo.choice("fast", "embedder")
