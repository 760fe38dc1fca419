import base64
import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mien.drawing import draw_face
from mien.errors import ImageError, UsageError
from mien.images import save_image
from mien.notebook import boxed_picture, html_of, inline_picture, table_of


def shown(html):
    """Decode the picture that a piece of HTML holds."""
    (pixels,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(pixels))))


def test_text_is_escaped_in_head_cells_and_note():
    html = html_of([{"<b>": "<script>alert(1)</script>"}], note='<img src="https://example.org/x.png">')

    assert "<script>" not in html and "<b>" not in html and html.count("<img") == 0
    assert "&lt;script&gt;" in html


def test_a_column_without_any_value_is_left_out():
    html = html_of([{"a": 1, "b": None}, {"a": None, "b": None}])

    assert "<th>a</th>" in html and "<th>b</th>" not in html


@pytest.mark.parametrize(
    ("value", "said"), [(0.123456, "0.1235"), (True, "yes"), (False, "no"), (float("nan"), ""), (None, ""), (12, "12")]
)
def test_values_are_short(value, said):
    assert f"<td>{said}</td>" in html_of([{"a": value}, {"a": 0}])


def test_a_long_table_ends_with_how_many_rows_are_left():
    html = html_of([{"a": i} for i in range(1050)])

    assert html.count("<tr>") == 51 and "and 1,000 more" in html


def test_a_picture_is_inline_and_unchanged():
    image = draw_face(18, side=64).image

    assert np.array_equal(shown(inline_picture(image, "a face")), image)


def test_boxes_are_drawn_where_the_faces_are_on_a_reduced_picture(tmp_path):
    save_image(tmp_path / "grey.png", np.full((480, 960, 3), 90, np.uint8))

    drawn = shown(boxed_picture(str(tmp_path / "grey.png"), 960, 480, [(200, 100, 400, 300)]))

    assert drawn.shape == (240, 480, 3)
    changed = np.argwhere((drawn != 90).any(axis=-1))
    np.testing.assert_allclose([changed.min(axis=0), changed.max(axis=0)], [[50, 100], [150, 200]], atol=1)


def test_a_picture_that_is_turned_by_exif_is_shown_upright(tmp_path):
    image = Image.new("RGB", (60, 40), "white")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)

    assert shown(boxed_picture(str(tmp_path / "turned.jpg"), 40, 60, [])).shape == (60, 40, 3)


def test_a_file_that_is_gone_broken_or_another_picture_now_is_refused(tmp_path):
    save_image(tmp_path / "other.png", np.zeros((10, 30, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes((tmp_path / "other.png").read_bytes()[:40])

    for name, size in (
        ("gone.png", (30, 10)),
        ("broken.png", (30, 10)),
        ("other.png", (20, 10)),
        ("other.png", (10, 30)),
    ):
        with pytest.raises(ImageError):
            boxed_picture(str(tmp_path / name), *size, [])


def test_rows_become_a_pandas_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("table", rows)))

    assert table_of([{"a": 1}, {"a": 2}]) == ("table", [{"a": 1}, {"a": 2}])


def test_without_pandas_the_message_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(UsageError, match="pip install pandas"):
        table_of([])
