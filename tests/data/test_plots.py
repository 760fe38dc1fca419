import numpy as np
import pytest

from data.layouts import CLASSES, picture, write
from mien.data.inspect import inspect
from mien.data.plots import plot_inspection
from mien.data.samples import read_samples
from mien.errors import DataError
from mien.images import load_image

SPLIT = {f"{split}/{name}": data for split in ("train", "test") for name, data in CLASSES.items()}
SUBJECTS = {f"s{k}/{i}.png": picture(k, seed=i) for k in range(14) for i in range(2)}


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (CLASSES, "auto"),
        (SPLIT, "auto"),
        (SUBJECTS, "subjects"),
        ({**CLASSES, "happy/x.png": b"x", "sad": None}, "auto"),
    ],
    ids=["classes", "copies across splits", "many subjects", "unreadable and empty"],
)
def test_a_data_set_is_drawn_on_one_page(tmp_path, files, kind):
    report = inspect(read_samples(write(tmp_path / "set", files), kind=kind))

    plot_inspection(report, tmp_path / "page.png")
    first = (tmp_path / "page.png").read_bytes()
    page = load_image(tmp_path / "page.png")
    assert page.shape[1] > 1000 and len(np.unique(page.reshape(-1, 3), axis=0)) > 200

    plot_inspection(report, tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes() == first


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    report = inspect(read_samples(write(tmp_path / "set", CLASSES)))
    with pytest.raises(DataError, match="Cannot write"):
        plot_inspection(report, tmp_path / "gone" / "page.png")
