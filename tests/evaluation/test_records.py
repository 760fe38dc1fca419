import math

import pytest

from mien.evaluation.records import plain, rate_name


@pytest.mark.parametrize(
    ("rate", "name"), [(1e-1, "1e-1"), (1e-4, "1e-4"), (0.003, "3e-3"), (1.0, "1e0"), (0.0125, "1.25e-2")]
)
def test_rates_are_named_as_people_write_them(rate, name):
    assert rate_name(rate) == name
    assert float(name) == rate


def test_what_json_cannot_hold_becomes_null():
    assert plain({"a": (1.0, math.nan), "b": [-math.inf], "c": "x", "d": 3}) == {
        "a": [1.0, None],
        "b": [None],
        "c": "x",
        "d": 3,
    }
