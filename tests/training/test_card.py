import cv2
import numpy as np
import pytest

from mien.training.card import draw_curves, render_card


def side(rows):
    image = cv2.imdecode(np.frombuffer(draw_curves(rows), np.uint8), cv2.IMREAD_COLOR)
    return image.shape[0]


def test_train_and_valid_share_a_plot_and_constants_have_none():
    def rows(*names):
        return [{"images": k, "seconds": k, **{name: float(k) for name in names}, "skipped": 0.0} for k in range(3)]

    assert side(rows("train_loss", "valid_loss")) == side(rows("lr"))
    assert side(rows("train_loss", "valid_loss", "a", "b", "c")) > side(rows("lr"))


@pytest.mark.parametrize("rows", [[], [{"images": 1, "seconds": 1.0, "loss": None}]], ids=["no rows", "no numbers"])
def test_an_empty_log_has_no_curves(rows):
    assert draw_curves(rows) is None


def test_a_single_report_is_drawn():
    assert draw_curves([{"images": 1, "seconds": 1.0, "loss": 2.0}]) is not None


@pytest.mark.parametrize(
    "images, seconds, text",
    [
        (500, 0.5, "toy story · 500 of 1,000 images in 0.5 s · 1,000 images a second"),
        (1000, 100, "1,000 images in 1 min 40 s · 10 images a second"),
        (1000, 7300, "1,000 images in 2 h 1 min · "),
    ],
)
def test_the_card_says_how_far_and_how_fast(images, seconds, text):
    page = render_card(
        "run",
        config={"images": 1000, "net": {"drop": 0.2, "wide": True, "widths": [8, 16], "file": None}},
        origin={"story": "ToyStoryConfig", "format": 1, "mien": "0.1.0"},
        summary={"accuracy": np.float64(0.5), "loss": float("inf"), "large": 123456.0, "tiny": 1.5e-7},
        rows=[{"images": images, "seconds": seconds}],
        curves=None,
        pictures={},
    )

    for part in (text, "0.5000", "123,456", "1.5e-07", "net.drop", "0.2", "yes", "8, 16", "–"):
        assert part in page, part
