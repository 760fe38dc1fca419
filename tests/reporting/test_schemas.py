"""Records as JSON: nothing is printed on the way, and keys are those of docs/json.md."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mien.matching import given_threshold
from mien.reporting import schemas
from mien.types import Box, Comparison, Expression, Face, OperatingPoint, Picture

POINT = OperatingPoint(1e-3, 0.4, 9e-4, 0.02, (5e-4, 2e-3), (0.01, 0.03), 300, 40_000, "made up")
FACE = Face(
    Box(0, 0, 10, 12),
    np.zeros((5, 2), np.float32),
    0.9,
    expression=Expression("sadness", {"sadness": 0.75, "anger": 0.25}, uncertain=True),
)


def test_rates_that_nobody_measured_are_null():
    facts = schemas.point_as_json(given_threshold(0.4))
    assert facts["threshold"] == 0.4
    assert {key for key, value in facts.items() if value is None} == {
        "target_fmr", "fmr", "fmr_interval", "fnmr", "fnmr_interval",
    }  # fmt: skip
    assert schemas.identification_head("net", given_threshold(0.4))["operating_point"] == facts
    assert schemas.point_as_json(POINT)["fmr"] == 9e-4


@pytest.mark.parametrize(
    "make",
    [
        schemas.analysis,
        schemas.expressions,
        lambda picture: schemas.classification(picture, []),
        lambda picture: schemas.identification(picture, [], card=None, threshold=0.4, subjects=1),
    ],
)
def test_a_picture_that_could_not_be_read_has_its_error_and_prints_nothing(make, capsys):
    assert make(Picture("a.png", error="broken")) == {"path": "a.png", "error": "broken"}
    assert capsys.readouterr() == ("", "")


def test_notes_on_a_picture_are_kept():
    assert schemas.analysis(Picture("a.png", 20, 10, notes=("odd",)))["notes"] == ["odd"]
    assert "notes" not in schemas.analysis(Picture("a.png", 20, 10))


def test_an_expression_is_its_label_and_all_probabilities():
    (face,) = schemas.expressions(Picture("a.png", 20, 10, (FACE,)))["faces"]
    assert (face["expression"], face["probability"], face["uncertain"]) == ("sadness", 0.75, True)
    assert face["box"] == [0, 0, 10, 12]


def test_a_comparison_of_embeddings_has_no_sides():
    facts = schemas.comparison("a", "b", Comparison(0.5, True, 0.9, POINT), "net")
    assert facts["a"] == {"path": "a"} and json.dumps(schemas.plain(facts), allow_nan=False)


def test_every_schema_id_is_described():
    described = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
    ids = [value for name, value in vars(schemas).items() if name.isupper() and str(value).startswith("mien/")]
    assert len(ids) >= 12 and all(re.fullmatch(r"mien/[a-z-]+/[0-9]+", value) for value in ids)
    assert [value for value in ids if value not in described] == []
