import numpy as np
import pytest


@pytest.fixture
def rng():
    """A random generator that every test starts afresh."""
    return np.random.default_rng(0)
