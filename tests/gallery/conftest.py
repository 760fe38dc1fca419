import pytest

from mien.gallery import Gallery, sqlite

from .made_up import People


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch):
    """Don't wait for the disk at each commit; one test asks for what users get."""
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", "OFF")


@pytest.fixture
def people():
    return People()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.mien"


@pytest.fixture
def gallery(path):
    with Gallery(path) as opened:
        yield opened
