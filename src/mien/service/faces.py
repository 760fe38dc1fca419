"""Endpoints about pictures: analyse, compare, identify, search."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mien import zoo
from mien.analyzer import FACES, Analyzer, choose_face
from mien.errors import ImageError, UsageError
from mien.gallery.deciding import decide
from mien.gallery.naming import name_faces
from mien.images import encode_image, load_image
from mien.matching import verify as verify_pictures
from mien.reporting import schemas
from mien.service.problems import Problem
from mien.service.settings import Limits
from mien.service.uploads import Upload, analyse, read_uploads
from mien.service.wiring import Reader, StrictRoute, Tenant, answer, answers_with, upload_of
from mien.types import Face, Picture

__all__ = ["Fmr", "Fpir", "Threshold", "Which", "check_face", "data_uri", "router", "some_read"]

router = APIRouter(route_class=StrictRoute, tags=["faces"])

Fmr = Annotated[
    float | None, Query(gt=0, lt=1, allow_inf_nan=False, description="Largest false match rate of a comparison.")
]
Fpir = Annotated[
    float | None, Query(gt=0, lt=1, allow_inf_nan=False, description="Largest share of strangers given a name.")
]
Threshold = Annotated[
    float | None, Query(ge=-1, le=1, allow_inf_nan=False, description="Decide at this score instead of a rate.")
]
Which = Annotated[
    str, Query(max_length=20, description="Which of several faces: main, largest, only, or a number, largest first.")
]

_FACE = {
    "box": [182.18, 66.2, 270.51, 178.23],
    "landmarks": [[203.34, 99.04], [246.35, 102.95], [222.35, 122.23], [203.57, 141.78], [239.48, 144.94]],
    "score": 0.8949,
    "quality": {"score": 0.6538, "reasons": [], "measures": {"side": 99.4796}},
    "expression": None,
    "turn": 0,
}
_PICTURE = {"path": "a.jpg", "width": 512, "height": 512}
_POINT = {
    "target_fmr": 0.001,
    "threshold": 0.7773,
    "fmr": 0.001,
    "fmr_interval": [0.0009, 0.0011],
    "fnmr": 0.154,
    "fnmr_interval": [0.137, 0.17],
    "num_genuine": 3472,
    "num_impostor": 12324623,
    "dataset": "made up",
}
_CANDIDATE = {"subject": "ada", "subject_id": 1, "sample_id": 3, "score": 0.874, "probability": 0.998}


@router.post(
    "/v1/analyze",
    openapi_extra=upload_of(several=True),
    responses=answers_with(
        {"schema": schemas.ANALYSIS, "pictures": [{**_PICTURE, "faces": [_FACE]}]}, problems=(408, 413, 415, 422)
    ),
)
async def analyze(
    request: Request,
    tenant: Reader,
    embeddings: Annotated[bool, Query(description="Add the embeddings.")] = False,
    crops: Annotated[bool, Query(description="Add the aligned crops, as data URIs.")] = False,
) -> Response:
    """Find the faces of pictures: boxes, landmarks, quality, expression."""
    pictures = await _analysed(request, tenant, lambda to: to.collection.expressive, embed=embeddings, crops=crops)
    told = []
    for picture in pictures:
        document = schemas.analysis(picture, embeddings=embeddings)
        if crops and picture.error is None:
            faces: list[dict[str, object]] = document["faces"]  # type: ignore[assignment]
            for facts, face in zip(faces, picture.faces, strict=True):
                facts["crop"] = None if face.crop is None else data_uri(face.crop, ".jpg")
        told.append(document)
    return answer({"schema": schemas.ANALYSIS, "pictures": told})


@router.post(
    "/v1/expression",
    openapi_extra=upload_of(several=True),
    responses=answers_with(
        {"schema": schemas.EXPRESSIONS, "model": "expression-1-0123abcd", "pictures": []}, problems=(408, 413, 415, 422)
    ),
)
async def expression(
    request: Request,
    tenant: Reader,
    shares: Annotated[
        str | None, Query(pattern="^(learned|equal)$", description="How common expressions are: learned, equal.")
    ] = None,
) -> Response:
    """Read what the faces of pictures show, and how sure that is."""

    def reader(to: Tenant) -> Analyzer:
        return to.collection.expressive if shares is None else to.core.with_shares(shares)

    pictures = await _analysed(request, tenant, reader, embed=False)
    model = zoo.card(zoo.default("expression")).id
    told = [schemas.expressions(picture) for picture in pictures]
    return answer({"schema": schemas.EXPRESSIONS, "model": model, "pictures": told})


@router.post(
    "/v1/verify",
    openapi_extra=upload_of("a", "b"),
    responses=answers_with(
        {
            "schema": schemas.COMPARISON,
            "a": {"path": "a.jpg"},
            "b": {"path": "b.jpg"},
            "score": 0.91,
            "match": True,
            "probability": 0.999,
            "embedder": "sface-resnet27-1-8ed90a76",
            "pairs": 1,
            "operating_point": _POINT,
            "worst_group": None,
        },
        problems=(408, 413, 415, 422),
    ),
)
async def verify(
    request: Request, tenant: Reader, fmr: Fmr = None, threshold: Threshold = None, face: Which = "main"
) -> Response:
    """Compare two pictures: are they of one subject? (1:1)"""
    check_face(face, "best")
    core, collection = tenant.core, tenant.collection
    uploads = await read_uploads(request, core.settings.limits, parts=("a", "b"))
    sides = {upload.part: upload for upload in uploads.pictures}
    if len(uploads.pictures) != 2 or set(sides) != {"a", "b"}:
        raise Problem(422, "A comparison takes two pictures: one file named a and one named b.")

    def work() -> dict[str, object]:
        analyzer = collection.analyzer
        own = collection.gallery if collection.gallery.model is not None else None
        decision = decide(analyzer.card, fmr=fmr, threshold=threshold, gallery=own)
        pictures = [sides[part] for part in ("a", "b")]
        images = [_read(upload, core.settings.limits) for upload in pictures]
        compared = verify_pictures(*images, point=decision.point, analyzer=analyzer, face=face)
        told = schemas.comparison(sides["a"].name, sides["b"].name, compared, analyzer.card.id)
        return {**told, "notes": list(decision.notes)}

    return answer(await core.work(work))


@router.post(
    "/v1/identify",
    openapi_extra=upload_of(several=True),
    responses=answers_with(
        {
            "schema": schemas.IDENTIFICATION,
            "embedder": "sface-resnet27-1-8ed90a76",
            "threshold": 0.7773,
            "operating_point": _POINT,
            "notes": [],
            "pictures": [
                {
                    **_PICTURE,
                    "faces": [{**_FACE, "subject": "ada", "candidates": [{**_CANDIDATE, "match": True}]}],
                    "repeated": {},
                }
            ],
        },
        problems=(408, 413, 415, 422),
    ),
)
async def identify(
    request: Request,
    tenant: Reader,
    fmr: Fmr = None,
    fpir: Fpir = None,
    threshold: Threshold = None,
    top: Annotated[int, Query(ge=1, le=100, description="Candidates a face, matching or not.")] = 1,
    once: Annotated[bool, Query(description="Give a name to one face of a picture at most.")] = False,
    expression: Annotated[bool, Query(description="Read expressions too.")] = False,
) -> Response:
    """Name the faces of pictures. (1:N)"""
    core, collection = tenant.core, tenant.collection
    uploads = await read_uploads(request, core.settings.limits)

    def work(upload: Upload) -> tuple[Picture, dict[str, object], dict[str, object]]:
        analyzer = collection.expressive if expression else collection.analyzer
        picture = analyse(analyzer, upload, core.settings.limits)
        gallery = collection.gallery
        decision = collection.decide(analyzer.card, fmr=fmr, fpir=fpir, threshold=threshold)
        at = decision.point.threshold
        faces = name_faces(gallery, picture, threshold=at, top=top, once=once)
        told = schemas.identification(picture, faces, card=analyzer.card, threshold=at, subjects=collection.size())
        head = schemas.identification_head(analyzer.card.id, decision.point)
        return picture, told, {"schema": schemas.IDENTIFICATION, **head, "notes": list(decision.notes)}

    done = await core.work_on(uploads.pictures, work)
    some_read([picture for picture, _, _ in done])
    core.metrics.found(sum(len(picture.faces) for picture, _, _ in done))
    return answer({**done[0][2], "pictures": [told for _, told, _ in done]})


@router.post(
    "/v1/search",
    openapi_extra=upload_of(),
    responses=answers_with(
        {"schema": schemas.SEARCH, "path": "a.jpg", "face": _FACE, "candidates": [_CANDIDATE]},
        problems=(408, 413, 415, 422),
    ),
)
async def search(
    request: Request,
    tenant: Reader,
    k: Annotated[int, Query(ge=1, le=1000, description="How many candidates.")] = 10,
    subjects: Annotated[bool, Query(description="Each subject once, by its best sample.")] = False,
    face: Which = "main",
) -> Response:
    """Find the samples that are most like a face, matching or not."""
    check_face(face)
    core, collection = tenant.core, tenant.collection
    uploads = await read_uploads(request, core.settings.limits)
    upload = one_picture(uploads.pictures)

    def work() -> dict[str, object]:
        analyzer, gallery = collection.analyzer, collection.gallery
        picture = analyse(analyzer, upload, core.settings.limits)
        chosen = choose(picture, face)
        assert chosen.embedding is not None, "analyse embeds"
        candidates = gallery.search(chosen.embedding, k, per_subject=subjects)
        return schemas.search(upload.name, chosen, candidates, card=analyzer.card, subjects=collection.size())

    return answer(await core.work(work))


async def _analysed(
    request: Request, tenant: Tenant, reader: Callable[[Tenant], Analyzer], *, embed: bool, crops: bool = False
) -> Sequence[Picture]:
    core = tenant.core
    uploads = await read_uploads(request, core.settings.limits)

    def work(upload: Upload) -> Picture:
        return analyse(reader(tenant), upload, core.settings.limits, embed=embed, crops=crops)

    pictures = await core.work_on(uploads.pictures, work)
    some_read(pictures)
    core.metrics.found(sum(len(picture.faces) for picture in pictures))
    return pictures


def some_read(pictures: Sequence[Picture]) -> None:
    """Refuse a request none of whose pictures could be read.

    Raises:
        Problem: 422, with the first one's sentence.
    """
    if all(picture.error is not None for picture in pictures):
        raise Problem(422, pictures[0].error or "")


def one_picture(pictures: Sequence[Upload]) -> Upload:
    """Return the only picture.

    Raises:
        Problem: 422: there are several.
    """
    if len(pictures) != 1:
        raise Problem(422, f"One picture is expected here, got {len(pictures)}.")
    return pictures[0]


def choose(picture: Picture, which: str) -> Face:
    """Return the face that is meant.

    Raises:
        Problem: 422: the picture cannot be read, or shows no face, or none that is clearly meant.
    """
    if picture.error is not None:
        raise Problem(422, picture.error)
    if not picture.faces:
        raise Problem(422, "The picture shows no face. Try a sharper or larger one.")
    try:
        return choose_face(picture.faces, picture.width, picture.height, which)
    except ImageError as error:
        words = str(error).replace("with --face", "with face=")
        raise Problem(422, f"{words[0].upper()}{words[1:]}") from error


def check_face(which: str, *further: str) -> None:
    """Refuse what names no face.

    Raises:
        UsageError: It is none of those known, and no number.
    """
    known = (*FACES, *further)
    if which not in known and not (which.isascii() and which.isdecimal() and int(which)):
        raise UsageError(f"face is {', '.join(known)}, or a number from 1, largest first.")


def _read(upload: Upload, limits: Limits) -> np.ndarray:
    return load_image(upload.data, limits=limits.picture)


def data_uri(image: np.ndarray, suffix: str = ".png") -> str:
    """Return a picture as a data URI."""
    kind = {".png": "png", ".jpg": "jpeg"}[suffix]
    return f"data:image/{kind};base64,{base64.b64encode(encode_image(image, suffix=suffix)).decode()}"
