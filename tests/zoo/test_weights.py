"""What is shipped inside the package is what the catalogue says."""

import hashlib
from importlib import resources

import pytest

from mien import zoo
from mien.drawing import draw_face
from mien.vision.detector import Detection
from mien.vision.expression import ExpressionReader

WEIGHTS = resources.files("mien") / "weights"
SHIPPED = [card.name for card in zoo.cards() if card.source.kind == "weights"]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_network_is_the_one_of_its_card_and_has_words_beside_it(name):
    card = zoo.card(name)

    assert hashlib.sha256((WEIGHTS / card.source.member).read_bytes()).hexdigest() == card.source.sha256
    words = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    assert words.startswith("## What it is") and "## Known failures" in words
    assert words.rstrip() in card.text()


def test_shipped_files_are_small():
    sizes = [len(file.read_bytes()) for file in WEIGHTS.iterdir() if file.is_file()]

    assert max(sizes) <= 25e6 and sum(sizes) <= 120e6


@pytest.fixture(scope="module")
def reader():
    return ExpressionReader(zoo.card(zoo.default("expression")), threads=1)


@pytest.mark.parametrize("expression", ["neutral", "happiness", "surprise"])
def test_the_expression_model_knows_plain_drawings(reader, expression):
    told = []
    for subject in range(8):
        drawn = draw_face(subject, side=200, expression=expression, seed=subject)
        told += reader.read(drawn.image, [Detection(drawn.box, drawn.landmarks, 1.0)])

    assert sum(outcome.label == expression for outcome in told) >= 6
    assert all(sum(outcome.probabilities.values()) == pytest.approx(1) for outcome in told)
