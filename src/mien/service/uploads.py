"""Pictures out of a request: multipart or raw bytes, never a path or URL that the service would read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from mien.errors import ImageError
from mien.images import decode
from mien.service.problems import Problem
from mien.types import Embedding, Picture

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.service.settings import Limits

__all__ = ["Upload", "Uploads", "analyse", "read_uploads"]

_LONGEST_NAME = 255
_RAW = ("application/octet-stream", "")


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it came.

    Attributes:
        name: Of the file, for the answer; `-` where it has none.
        data: Encoded.
        part: Name of the form field.
    """

    name: str
    data: bytes
    part: str = "picture"


@dataclass(frozen=True, slots=True)
class Uploads:
    """What a request brought: pictures, and the other fields of its form."""

    pictures: tuple[Upload, ...]
    fields: dict[str, str]


async def read_uploads(
    request: Request, limits: Limits, *, parts: Sequence[str] = ("picture",), fields: Sequence[str] = ()
) -> Uploads:
    """Return the pictures of a request.

    Args:
        request: With a multipart form or the bytes of one picture as its body.
        limits: How many pictures.
        parts: Form fields that hold pictures.
        fields: Form fields that hold text.

    Raises:
        Problem: 415: another content type; 422: no picture; 413: too many; 400: a form that cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _of_form(request, limits, parts, fields)
    if kind in _RAW or kind.startswith("image/"):
        if parts != ("picture",):
            raise Problem(415, f"Send {' and '.join(parts)} as files of a form (multipart/form-data).")
        data = await request.body()
        if not data:
            raise Problem(422, "The request has no picture: its body is empty. Send a picture's bytes or a form.")
        return Uploads((Upload("-", data),), {})
    raise Problem(
        415,
        f"Pictures come as multipart/form-data or as raw bytes (image/jpeg, application/octet-stream), not as "
        f"'{_printable(kind)}'. Paths and URLs are not read.",
    )


async def _of_form(request: Request, limits: Limits, parts: Sequence[str], fields: Sequence[str]) -> Uploads:
    try:
        form = await request.form(max_files=limits.pictures + 1, max_fields=20, max_part_size=64 * 1024)
    except MultiPartException as error:
        raise Problem(400, f"The form cannot be read: {error.message}") from None
    pictures, text = [], {}
    for part, value in form.multi_items():
        if isinstance(value, UploadFile):
            if part not in parts:
                raise Problem(400, f"Pictures of the form are named {', '.join(parts)}, got '{_printable(part)}'.")
            pictures.append(Upload(_printable(value.filename or "-"), await value.read(), part))
        elif part in fields:
            text[part] = value
        elif part in parts:
            raise Problem(422, f"'{part}' is text; send it as a file (curl: -F {part}=@FILE). Paths are not read.")
        else:
            raise Problem(400, f"The form has an unknown field '{_printable(part)}'.")
    if len(pictures) > limits.pictures:
        raise Problem(
            413, f"A request has at most {limits.pictures} pictures. Send more of them as a job: POST /v1/jobs."
        )
    if not pictures:
        raise Problem(422, f"The form has no picture. Add one as a file named {' or '.join(parts)}.")
    return Uploads(tuple(pictures), text)


def _printable(text: str) -> str:
    """Return a name as it may stand in an answer: without control characters, surrogates and undue length."""
    kept = "".join(character if character.isprintable() else "\ufffd" for character in text[:_LONGEST_NAME])
    return kept or "-"


def analyse(
    analyzer: Analyzer, upload: Upload, limits: Limits, *, embed: bool = True, crops: bool = False, digest: bool = False
) -> Picture:
    """Read one picture and find its faces; what is wrong with it stands in `Picture.error`, as on the command line."""
    try:
        decoded = decode(upload.data, limits=limits.picture)
    except ImageError as error:
        return Picture(upload.name, error=_about(upload, str(error)))
    except MemoryError:
        return Picture(upload.name, error=_about(upload, "The picture needs more memory than there is; reduce it."))
    (picture,) = analyzer.pictures([decoded.image], embed=False, crops=True, digests=digest)
    if picture.error is not None:
        return replace(picture, path=upload.name)
    notes = (*decoded.notes, *picture.notes)
    faces = picture.faces
    if len(faces) > limits.faces:
        notes += (f"it shows {len(faces)} faces, of which the {limits.faces} largest are read",)
        faces = faces[: limits.faces]
    if embed and faces:
        vectors = analyzer.embed_crops(np.stack([face.crop for face in faces if face.crop is not None]))
        model = analyzer.card.id
        faces = tuple(
            replace(face, embedding=Embedding(model, vector.copy()))
            for face, vector in zip(faces, vectors, strict=True)
        )
    if not crops:
        faces = tuple(replace(face, crop=None) for face in faces)
    return replace(picture, path=upload.name, faces=faces, notes=notes)


def _about(upload: Upload, sentence: str) -> str:
    """Name the file in a sentence about 'The picture'."""
    return sentence if upload.name == "-" else sentence.replace("The picture", f"'{upload.name}'", 1)
