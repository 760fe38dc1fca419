"""Endpoints that give a picture back with other faces: restored, or nobody's."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from mien.analyzer import Analyzer
from mien.anonymizer import Anonymizer
from mien.images import load_image
from mien.reporting.schemas import ANONYMIZATION, RESTORATION
from mien.service.core import Core
from mien.service.faces import data_uri, one_picture
from mien.service.problems import Problem
from mien.service.uploads import Upload, read_uploads
from mien.service.wiring import Reader, StrictRoute, answer, answers_with, upload_of
from mien.vision.restorer import Restorer

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["altered pictures"])

_FILLS = ("telea", "vae")  # methods that are to be told what is covered

Method = Literal["network", "unsharp", "clahe", "denoise", "telea", "vae"]
Covered = Literal["found", "none", "mouth", "eyes"]
Mode = Literal["generate", "blur", "mosaic"]


@lru_cache(maxsize=4)
def _restorer(method: str, weight: float | None) -> Restorer:
    """Return a restorer, opened once for the weights that are asked for most."""
    return Restorer(method=method, weight=weight, threads=1)


@router.post(
    "/v1/restore",
    openapi_extra=upload_of(),
    responses=answers_with(
        {
            "schema": RESTORATION,
            "path": "a.jpg",
            "method": "denoise",
            "faces": [{"damage": 6.2, "left_alone": False, "covered": 0.0}],
        },
        problems=(408, 413, 415, 422),
    ),
)
async def restore(
    request: Request,
    tenant: Reader,
    by: Annotated[Method, Query(description="How.")] = "network",
    mask: Annotated[Covered, Query(description="What stands before the face.")] = "found",
    weight: Annotated[
        float | None, Query(ge=0, le=2, allow_inf_nan=False, description="0: as it was; 1: all that the method does.")
    ] = None,
) -> Response:
    """Restore the faces of a picture: small, blurred, noisy or covered ones. What is added is a guess."""
    core, collection = tenant.core, tenant.collection
    if by in _FILLS and mask not in ("mouth", "eyes"):
        raise Problem(400, f"'{by}' is to be told what is covered: 'mask' is mouth or eyes.")
    if mask in ("mouth", "eyes") and by not in ("network", *_FILLS):
        raise Problem(400, f"'{by}' fills nothing in. Take telea or vae with 'mask'.")
    upload = one_picture((await read_uploads(request, core.settings.limits)).pictures)

    def work() -> dict[str, object]:
        restorer = _restorer(by, weight)
        image = load_image(upload.data, limits=core.settings.limits.picture)
        marks = [face.landmarks for face in collection.analyzer.analyze(image, embed=False)]
        done = restorer.restore_picture(image, marks, cover=mask)
        faces = [
            face.as_facts() | {"before": data_uri(face.before), "after": data_uri(face.after)} for face in done.faces
        ]
        head = {"schema": RESTORATION, "path": upload.name, "method": by}
        return {**head, "faces": faces, "picture": _as_it_came(upload, done.image)}

    return answer(await core.work(work))


@router.post(
    "/v1/anonymize",
    openapi_extra=upload_of(),
    responses=answers_with(
        {
            "schema": ANONYMIZATION,
            "path": "a.jpg",
            "threshold": 0.777,
            "matching": 0,
            "faces": [{"mode": "generate", "similarity": 0.31, "expression_before": "neutral"}],
        },
        problems=(408, 413, 415, 422),
    ),
)
async def anonymize(
    request: Request,
    tenant: Reader,
    mode: Annotated[Mode, Query(description="A generated face, the face blurred, or a mosaic.")] = "generate",
    fmr: Annotated[
        float, Query(gt=0, lt=1, allow_inf_nan=False, description="False match rate at which nobody may match.")
    ] = 1e-3,
    people: Annotated[bool, Query(description="Nobody of the collection may match either.")] = False,
) -> Response:
    """Replace the faces of a picture, and look at the result: who still matches is counted in `matching`."""
    core, collection = tenant.core, tenant.collection
    make = partial(_anonymizer, core, collection.expressive, mode, fmr)
    upload = one_picture((await read_uploads(request, core.settings.limits)).pictures)

    def work() -> dict[str, object]:
        worker = make(gallery=collection.gallery if people and collection.gallery.model is not None else None)
        image: np.ndarray = load_image(upload.data, limits=core.settings.limits.picture)
        done = worker.anonymize(image)
        return {
            "schema": ANONYMIZATION,
            "path": upload.name,
            "threshold": worker.threshold,
            "matching": sum(face.matches(worker.threshold) for face in done.faces),
            "faces": [face.as_facts() for face in done.faces],
            "picture": _as_it_came(upload, done.image),
        }

    return answer(await core.work(work))


def _anonymizer(core: Core, analyzer: Analyzer, mode: str, fmr: float, **options: object) -> Anonymizer:
    generator = core.generator(None) if mode == "generate" else None
    return Anonymizer(analyzer, generator, mode=mode, fmr=fmr, **options)  # type: ignore[arg-type]


def _as_it_came(upload: Upload, image: np.ndarray) -> str:
    """Return a picture as a data URI: PNG where one came, so that the rest of it is the same to the last px."""
    return data_uri(image, ".png" if upload.data.startswith(b"\x89PNG") else ".jpg")
