import pytest


@pytest.fixture(scope="package", autouse=True)
def no_curves():
    """Leave out the curves of run cards, which take longer than the small trainings; `test_card.py` draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.training.card.draw_curves", lambda rows: None)
        yield
