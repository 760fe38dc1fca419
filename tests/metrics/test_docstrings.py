import doctest
import importlib

import pytest

MODULES = [
    "mien.metrics.calibration",
    "mien.metrics.clustering",
    "mien.metrics.expression",
    "mien.metrics.generation",
    "mien.metrics.identification",
    "mien.metrics.intervals",
    "mien.metrics.verification",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_the_functions_return(name):
    result = doctest.testmod(importlib.import_module(name))

    assert result.attempted > 0 and result.failed == 0
