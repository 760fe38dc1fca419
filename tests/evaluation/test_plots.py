import numpy as np
import pytest
from PIL import Image

from evaluation.fake import FakeAnalyzer, write_lfw
from mien.evaluation.pairs import read_pairs
from mien.evaluation.plots import plot_det, plot_discard, plot_roc
from mien.evaluation.verification import verify_pairs
from mien.metrics.quality import error_versus_discard


@pytest.fixture
def report(tmp_path):
    return verify_pairs(FakeAnalyzer(noise=1.3), read_pairs(write_lfw(tmp_path)))


def colours(path):
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert image.shape[0] > 400 and image.shape[1] > 600
    return image.reshape(-1, 3)


def near(pixels, colour):
    return int((np.abs(pixels - np.array(colour)).max(axis=1) < 25).sum())


@pytest.mark.parametrize("draw", [plot_det, plot_roc])
def test_a_curve_has_a_line_a_band_and_the_shipped_thresholds(report, tmp_path, draw):
    draw(report, tmp_path / "curve.png")

    pixels = colours(tmp_path / "curve.png")
    assert near(pixels, (0x25, 0x63, 0xAB)) > 500  # The curve.
    assert near(pixels, (216, 227, 240)) > 500  # The band: the same blue at 18 %.
    assert near(pixels, (0xC8, 0x50, 0x1E)) > 30  # Two marks.


def test_the_same_report_gives_the_same_bytes(report, tmp_path):
    for name in ("a", "b"):
        plot_det(report, tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_discard_curve_shows_each_quality(tmp_path):
    rng = np.random.default_rng(0)
    genuine = rng.normal(0.6, 0.2, 300)
    curves = {
        "sharpness": error_versus_discard(genuine, genuine + rng.normal(0, 0.2, 300), threshold=0.4),
        "size": error_versus_discard(genuine, rng.random(300), threshold=0.4),
    }

    plot_discard(curves, tmp_path / "edc.png")

    pixels = colours(tmp_path / "edc.png")
    assert near(pixels, (0x25, 0x63, 0xAB)) > 200 and near(pixels, (0xC8, 0x50, 0x1E)) > 200
