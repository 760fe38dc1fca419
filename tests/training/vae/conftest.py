import pytest
import torch

from mien.data.drawn import draw_samples


@pytest.fixture
def blind_and_single(monkeypatch):
    """No face is found in any picture, and one thread computes."""

    class Blind:
        def detect(self, image):
            return []

    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    draw_samples(folder, per_class=12, side=32)
    return folder
