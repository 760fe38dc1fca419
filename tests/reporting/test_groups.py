import re

import numpy as np
import pytest

from mien.errors import UsageError
from mien.grouping import group_faces
from mien.images import encode_image
from mien.reporting import groups
from mien.reporting.groups import Album, Name, expression_shares, group_page, person_sheet
from mien.reporting.html import css_colour, data_uri, render, write_text
from mien.types import Box, Expression, Face, Picture, Quality

#        picture:   0  0  1  1  2  3
SUBJECTS = [0, 1, 0, 1, 0, 2]
PICTURES = [0, 0, 1, 1, 2, 3]


def seen(expression=None):
    quality = Quality(0.8)
    points = np.zeros((5, 2), np.float32)
    mood = Expression(expression, {expression: 1.0}) if expression else None
    return Face(Box(0, 0, 10, 10), points, 0.9, quality=quality, expression=mood)


@pytest.fixture
def album():
    album = Album()
    thumb = encode_image(np.full((8, 8, 3), 90, np.uint8))
    for number in range(4):
        faces = [seen("happiness" if i == 0 else None) for i, p in enumerate(PICTURES) if p == number]
        name = "<b>beach & sun</b>.jpg" if number == 0 else f"{number}.jpg"
        album.add(Picture(name, 100, 80, tuple(faces)), [thumb] * len(faces))
    album.add(Picture("broken.jpg", error="'broken.jpg' is damaged or cut short."), [])
    return album


@pytest.fixture
def grouping():
    return group_faces(np.eye(3, dtype=np.float32)[SUBJECTS], PICTURES, threshold=0.5)


def test_an_album_numbers_faces_and_pictures(album):
    assert [picture.faces for picture in album.pictures] == [(0, 1), (2, 3), (4,), (5,), ()]
    assert [face.picture for face in album.faces] == PICTURES
    assert album.failures == ["'broken.jpg' is damaged or cut short."]


def test_expressions_are_shares_of_a_persons_faces_with_the_uncertain_apart():
    album, thumb = Album(), encode_image(np.full((8, 8, 3), 90, np.uint8))
    told = [("happiness", False), ("anger", True), ("happiness", False), ("neutral", False)]
    for label, uncertain in told:
        mood = Expression(label, {label: 1.0}, uncertain)
        face = Face(Box(0, 0, 10, 10), np.zeros((5, 2), np.float32), 0.9, expression=mood)
        album.add(Picture("x.jpg", 100, 80, (face,)), [thumb])
    grouping = group_faces(np.ones((4, 1), np.float32), range(4), threshold=0.5)
    (person,) = grouping.people

    assert expression_shares(person, album) == {"happiness": 0.5, "uncertain": 0.25, "neutral": 0.25}
    page = group_page(grouping, album, title="", basis="")
    assert re.search(r"happiness <span[^>]*>50 %", page) and re.search(r"uncertain <span[^>]*>25 %", page)


def test_the_page_tells_who_how_often_and_with_whom(album, grouping):
    page = group_page(grouping, album, title="Holidays", basis="Decided by drawing lots.")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Holidays" in text and "Decided by drawing lots." in text
    assert "4 pictures" in text and "6 faces" in text and "2 people seen more than once" in text
    assert "1 seen once" in text and "1 not read" in text
    assert "with Person 2 2" in text
    assert "1 face that matches nobody else" in text
    assert "damaged or cut short" in text


def test_names_come_from_the_gallery(album, grouping):
    page = group_page(grouping, album, title="t", basis="b", names={1: Name("a <subject> with a long name", 0.97)})
    assert "a &lt;subject&gt; with a long name" in page and "in the gallery, 0.970" in page and "Person 1<" not in page


def test_expressions_are_shown_only_where_faces_carry_them(album, grouping):
    assert "happiness" in group_page(grouping, album, title="t", basis="b")
    for i, face in enumerate(album.faces):
        album.faces[i] = groups.AlbumFace(face.picture, face.thumb)
    assert "happiness" not in group_page(grouping, album, title="t", basis="b")


def test_what_comes_from_outside_is_escaped(album, grouping):
    page = group_page(grouping, album, title="<script>", basis="b")
    assert "<b>beach" not in page and "&lt;b&gt;beach &amp; sun" in page and "<script>" not in page


def test_the_page_loads_nothing(album, grouping):
    page = group_page(grouping, album, title="t", basis="b")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "url(" not in page and "@import" not in page and "http" not in page.replace("http-equiv", "")


def test_long_lists_are_cut_and_say_so(album, grouping, monkeypatch):
    for name in ("MOST_PEOPLE", "MOST_PICTURES", "MOST_THUMBS"):
        monkeypatch.setattr(groups, name, 1)
    page = group_page(grouping, album, title="t", basis="b")
    assert "1 more people are in groups.json" in page and "3 more pictures" in page and "and 2 more" in page


def test_unassigned_faces_are_told(album):
    grouping = group_faces(
        np.eye(3, dtype=np.float32)[SUBJECTS], PICTURES, threshold=0.5, quality=[1, 1, 1, 1, 1, 0], min_quality=0.5
    )
    assert "1 face below the quality" in group_page(grouping, album, title="t", basis="b")


def test_an_empty_album_is_a_page_too():
    grouping = group_faces(np.empty((0, 4), np.float32), [], threshold=0.5)
    assert "Pictures" in group_page(grouping, Album(), title="t", basis="b")


def test_a_sheet_shows_a_person(album, grouping):
    one = person_sheet(grouping.people[0], album)
    assert one.ndim == 3 and one.std() > 10
    assert not np.array_equal(one, person_sheet(grouping.people[0], album, name="ada"))


def test_a_misspelt_name_in_a_template_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("groups.html", title="t")


def test_pictures_become_uris_of_their_kind():
    image = np.zeros((4, 4, 3), np.uint8)
    for suffix, kind in ((".png", "image/png"), (".jpg", "image/jpeg"), (".webp", "image/webp")):
        assert data_uri(encode_image(image, suffix=suffix)).startswith(f"data:{kind};base64,")
    assert re.fullmatch("#[0-9a-f]{6}", css_colour(4))


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    write_text(tmp_path / "page.html", "ü")
    assert (tmp_path / "page.html").read_text("utf-8") == "ü"
    with pytest.raises(UsageError, match=r"Cannot write 'page\.html'"):
        write_text(tmp_path / "none" / "page.html", "x")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UsageError, match="No space left"):
        write_text(tmp_path / "page.html", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
