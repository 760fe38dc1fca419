"""What `mien group` shows: people, who meets whom, and what is in which picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.grouping import Grouping, Person
from mien.images import load_image, printable
from mien.reporting.html import css_colour, data_uri, render
from mien.reporting.pictures import contact_sheet
from mien.types import Face, Picture

__all__ = ["Album", "AlbumFace", "AlbumPicture", "Name", "expression_shares", "group_page", "person_sheet"]

MOST_PEOPLE, MOST_THUMBS, MOST_PICTURES = 200, 18, 1000
"""What a page shows at most: people, faces of each, pictures. It says how many more there are."""
_ONCE, _MEETING, _SHEET, _MOODS = 240, 14, 240, 4


@dataclass(frozen=True, slots=True)
class AlbumFace:
    """One face of an album: what a report needs of it, and no more.

    Attributes:
        picture: Number of the picture.
        thumb: The aligned face as JPEG.
        quality: In [0, 1].
        expression: The most probable class, or "uncertain"; None where no expression model is in use.
    """

    picture: int
    thumb: bytes
    quality: float = 1.0
    expression: str | None = None


@dataclass(frozen=True, slots=True)
class AlbumPicture:
    """One picture of an album: its path as given, its size in px and its faces' numbers; or why it has none.

    A copy of an earlier picture, pixel by pixel, has that one's number in ``copy_of`` and no faces of its own.
    """

    path: str
    width: int = 0
    height: int = 0
    faces: tuple[int, ...] = ()
    error: str | None = None
    copy_of: int | None = None


@dataclass(slots=True)
class Album:
    """Pictures and faces in the order they came; it holds small JPEGs and no picture."""

    pictures: list[AlbumPicture] = field(default_factory=list)
    faces: list[AlbumFace] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def original(self, picture: Picture) -> int | None:
        """Return the number of the picture that this one is a copy of, by its digest; None where it is new."""
        return None if picture.digest is None else self._numbers.get(picture.digest)

    def add(self, picture: Picture, thumbs: Sequence[bytes]) -> None:
        """Take in a picture with one encoded crop a face; of a copy of an earlier one, nothing but its name."""
        number, first = len(self.pictures), len(self.faces)
        if (original := self.original(picture)) is not None:
            size = (picture.width, picture.height)
            self.pictures.append(AlbumPicture(str(picture.path), *size, copy_of=original))
            return
        if picture.digest is not None:
            self._numbers[picture.digest] = number
        for face, thumb in zip(picture.faces, thumbs, strict=True):
            self.faces.append(_album_face(number, face, thumb))
        own = tuple(range(first, len(self.faces)))
        self.pictures.append(AlbumPicture(str(picture.path), picture.width, picture.height, own, picture.error))

    @property
    def failures(self) -> list[str]:
        """Why pictures could not be read, a line each."""
        return [picture.error for picture in self.pictures if picture.error is not None]

    @property
    def num_copies(self) -> int:
        """How many pictures are copies of earlier ones."""
        return sum(picture.copy_of is not None for picture in self.pictures)

    @property
    def num_read(self) -> int:
        """How many different pictures could be read."""
        return len(self.pictures) - len(self.failures) - self.num_copies


def _album_face(picture: int, face: Face, thumb: bytes) -> AlbumFace:
    quality = face.quality.score if face.quality is not None else 1.0
    told = face.expression
    return AlbumFace(picture, thumb, quality, None if told is None else "uncertain" if told.uncertain else told.label)


@dataclass(frozen=True, slots=True)
class Name:
    """Who a person is by a gallery, and the cosine similarity that says so."""

    subject: str
    score: float


def group_page(
    grouping: Grouping, album: Album, *, title: str, basis: str, names: Mapping[int, Name] | None = None
) -> str:
    """Return the report as one HTML page.

    Args:
        grouping: Of the album's faces.
        album: What was grouped.
        title: Heading.
        basis: A sentence on how it was decided.
        names: Of people that a gallery knows, by their id.
    """
    names = names or {}
    several = [person for person in grouping.people if len(person.faces) > 1]
    alone = [person for person in grouping.people if len(person.faces) == 1]
    shown = {person.id: _tag(person, names) for person in several[:MOST_PEOPLE]}
    people = [{**shown[p.id], **_details(p, grouping, album, names, shown)} for p in several[:MOST_PEOPLE]]
    read = album.num_read
    tiles = [(read, "pictures"), (len(album.faces), "faces"), (len(several), "people seen more than once")]
    tiles += [(len(alone), "seen once")]
    tiles += [(album.num_copies, "copies left out")] if album.num_copies else []
    tiles += [(len(grouping.unassigned), "too poor to tell")] if grouping.unassigned else []
    tiles += [(len(album.failures), "not read")] if album.failures else []
    once = [{**_thumb(album, p.faces[0]), "name": _tag(p, names)["name"]} for p in alone[:_ONCE]]
    return render(
        "groups.html",
        title=title,
        basis=basis,
        tiles=tiles,
        people=people,
        hidden_people=max(len(several) - MOST_PEOPLE, 0),
        meetings=_meetings(grouping, shown),
        once=once,
        once_total=len(alone),
        unassigned=[_thumb(album, face) for face in grouping.unassigned[:_ONCE]],
        unassigned_total=len(grouping.unassigned),
        pictures=_pictures(grouping, album, shown),
        hidden_pictures=max(read - MOST_PICTURES, 0),
        failures=album.failures,
    )


def person_sheet(person: Person, album: Album, *, name: str | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Return a contact sheet of one person, RGB uint8: most typical faces first, at most 240."""
    faces = person.faces[:_SHEET]
    hidden = len(person.faces) - len(faces)
    title = f"{name or f'Person {person.id}'}: {len(person.faces)} pictures" + (
        f", {len(faces)} shown" if hidden else ""
    )
    columns = min(max(round((len(faces) * 1.6) ** 0.5), 4), 12)
    captions = [Path(printable(album.pictures[album.faces[face].picture].path)).name for face in faces]
    crops = [load_image(album.faces[face].thumb) for face in faces]
    return contact_sheet(crops, columns=columns, captions=captions, title=title)


def expression_shares(person: Person, album: Album) -> dict[str, float]:
    """Return in which share of a person's faces each expression is seen, most often first; empty without a model."""
    seen = Counter(told for face in person.faces if (told := album.faces[face].expression) is not None)
    return {label: count / seen.total() for label, count in seen.most_common()}


def _tag(person: Person, names: Mapping[int, Name]) -> dict[str, object]:
    known = names.get(person.id)
    name = known.subject if known else f"Person {person.id}"
    short = name if len(name) <= 10 else f"{name[:9]}…"
    tag = {"id": person.id, "name": name, "short": short if known else person.id, "colour": css_colour(person.id - 1)}
    return {**tag, "known": known is not None, "score": known.score if known else 0.0}


def _details(
    person: Person, grouping: Grouping, album: Album, names: Mapping[int, Name], shown: Mapping[int, object]
) -> dict[str, object]:
    where = [Path(printable(album.pictures[number].path)).name for number in (person.pictures[0], person.pictures[-1])]
    return {
        "count": len(person.pictures),
        "first": where[0],
        "last": where[1],
        "thumbs": [_thumb(album, face) for face in person.faces[:MOST_THUMBS]],
        "hidden": max(len(person.faces) - MOST_THUMBS, 0),
        "companions": [(shown[other], count) for other, count in grouping.companions(person.id) if other in shown][:6],
        "expressions": list(expression_shares(person, album).items())[:_MOODS],
    }


def _thumb(album: Album, face: int) -> dict[str, str]:
    seen = album.faces[face]
    return {"uri": data_uri(seen.thumb), "picture": printable(album.pictures[seen.picture].path)}


def _meetings(grouping: Grouping, shown: Mapping[int, dict[str, object]]) -> dict[str, object]:
    """A table of those who meet, for the people seen most often."""
    met = {i for a, b, _ in grouping.together for i in (a, b) if a in shown and b in shown}
    ids = sorted(met)[:_MEETING]
    counts = {(a, b): n for a, b, n in grouping.together} | {(b, a): n for a, b, n in grouping.together}
    most = max((counts.get((a, b), 0) for a in ids for b in ids), default=0)

    def cell(a: int, b: int) -> dict[str, object]:
        count = counts.get((a, b), 0)
        return {"text": "·" if a == b else count or "", "strength": round(12 + 58 * count / most) if count else 0}

    return {"names": [shown[i] for i in ids], "rows": [(shown[a], [cell(a, b) for b in ids]) for a in ids]}


def _pictures(grouping: Grouping, album: Album, shown: Mapping[int, dict[str, object]]) -> list[dict[str, object]]:
    who = grouping.person_of()
    rows = []
    for picture in [p for p in album.pictures if p.error is None and p.copy_of is None][:MOST_PICTURES]:
        ids = [who[face] for face in picture.faces if face in who]
        people = [shown[i] for i in sorted(ids) if i in shown]
        once = sum(i not in shown for i in ids)
        rows.append({"path": printable(picture.path), "faces": len(picture.faces), "people": people, "once": once})
    return rows
