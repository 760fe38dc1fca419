import pytest

from mien.gallery import Gallery

from .made_up import People


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
