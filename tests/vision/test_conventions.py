from dataclasses import replace
from types import MappingProxyType

import pytest

from mien import zoo
from mien.errors import ModelError
from mien.vision.conventions import (
    ClassifierConvention,
    DetectorConvention,
    EmbedderConvention,
    ExpressionConvention,
    GeneratorConvention,
    RestorerConvention,
)
from mien.zoo import Card, Source

BY_ROLE = {
    "detector": DetectorConvention,
    "embedder": EmbedderConvention,
    "expression": ExpressionConvention,
    "generator": GeneratorConvention,
    "restorer": RestorerConvention,
}
GENERATOR = {"kind": "vae", "template": "face-64", "side": 64, "order": "RGB", "latents": 8}


def card(role, **facts):
    return Card("odd", role, "1", "", "", "", Source("file", "0" * 64), MappingProxyType(facts))


@pytest.mark.parametrize("name", [card.name for card in zoo.cards() if card.role in BY_ROLE])
def test_a_card_of_the_catalogue_is_read_and_written_as_it_was(name):
    known = zoo.card(name)

    facts = BY_ROLE[known.role].of(known).as_facts()
    assert facts == dict(known.convention)
    assert replace(known, convention=facts).id == known.id


def test_what_a_card_does_not_say_has_the_same_default_for_everybody():
    read = GeneratorConvention.of(card("generator", **GENERATOR))

    assert (read.labels, read.components, read.encoder, read.identity, read.grey) == ((), (), None, None, False)
    assert EmbedderConvention.of(card("embedder", template="fer-48")).side == 48
    assert DetectorConvention.of(card("detector", kind="scrfd")).threshold == 0.5
    reader = ExpressionConvention.of(card("expression", side=48, labels=["neutral"]))
    assert (reader.answers, reader.temperature, reader.template) == ("logits", 1.0, None)


def test_a_restorer_goes_all_the_way_on_every_face_unless_its_card_says_otherwise():
    facts = {"kind": "residual", "template": "loose-120", "side": 112, "multiple": 16, "order": "RGB"}
    read = RestorerConvention.of(card("restorer", **facts))

    assert (read.weight, read.gate, read.losses) == (1.0, 0.0, ())
    assert RestorerConvention.of(card("restorer", **facts, gate=2.5, weight=0.5)).gate == 2.5
    with pytest.raises(ModelError, match="template"):
        RestorerConvention.of(card("restorer", template="none", side=112))


def test_facts_that_nothing_reads_stay_on_the_card():
    facts = {**GENERATOR, "colour_of_the_sky": [1, {"blue": True}]}

    assert GeneratorConvention.of(card("generator", **facts)).as_facts() == facts


def test_every_missing_fact_is_named():
    with pytest.raises(ModelError, match=r"card of generator 'odd' does not say 'side', 'latents'\. Export it again."):
        GeneratorConvention.of(card("generator", kind="vae", template="face-64", order="RGB"))
    with pytest.raises(ModelError, match="does not say 'labels'"):
        ExpressionConvention.of(card("expression", side=48))
    with pytest.raises(ModelError, match=r"card of classifier 'odd' does not say 'embedder', 'on'\. Train"):
        ClassifierConvention.of(card("classifier", labels=["ann"]))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"side": "wide"}, "says side 'wide'; expected a whole number"),
        ({"side": 64.5}, "says side 64.5; expected a whole number"),
        ({"side": True}, "says side True; expected a whole number"),
        ({"latents": 0}, "says latents 0; expected 1 or more"),
        ({"order": "YUV"}, "says order 'YUV'; expected one of RGB, BGR, GRAY"),
        ({"labels": "joy"}, "says labels 'joy'; expected a list"),
        ({"labels": [3]}, "says labels 3; expected text"),
        ({"components": [[1, 2, 3]]}, r"says components \[1, 2, 3\]; expected pairs"),
        ({"encoder": 7}, "says encoder 7; expected text"),
        ({"template": "square"}, "makes faces of template 'square'; known are arcface-112"),
    ],
)
def test_a_fact_of_another_type_is_refused_in_one_line(facts, message):
    with pytest.raises(ModelError, match=message):
        GeneratorConvention.of(card("generator", **{**GENERATOR, **facts}))


def test_an_unknown_order_of_channels_is_not_taken_for_rgb():
    with pytest.raises(ModelError, match="says order 'YUV'; expected one of RGB, BGR, GRAY"):
        EmbedderConvention.of(card("embedder", template="fer-48", order="YUV"))
