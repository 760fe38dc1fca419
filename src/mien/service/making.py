"""Endpoints that make faces: generate, encode, go from one to another, edit an expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from mien import zoo
from mien.images import load_image
from mien.service.faces import data_uri, one_picture
from mien.service.people import Strict
from mien.service.problems import Problem
from mien.service.uploads import Upload, read_uploads
from mien.service.wiring import CoreOf, Reader, StrictRoute, answer, answers_with, upload_of
from mien.vision.conventions import GeneratorConvention
from mien.vision.generator import Edit
from mien.vision.generator import Request as Wish

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["generated faces"])

GENERATORS = "mien/generators/1"
GENERATED = "mien/generated-faces/1"
LATENTS = "mien/latents/1"
EDIT = "mien/edit/1"
_MOST = 64  # pictures of a request

Model = Annotated[str | None, Query(max_length=100, description="A generator of `/v1/generators`; default: ours.")]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-100, le=100)]
Label = Annotated[str, Field(max_length=40)]


class Order(Strict):
    """What faces are wanted."""

    n: Annotated[int, Field(ge=1, le=_MOST)] = 8
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    expression: Label | Annotated[list[Label], Field(max_length=20)] | None = None
    attributes: Annotated[list[Label], Field(max_length=50)] = []  # noqa: RUF012 - pydantic copies it
    truncation: Annotated[float, Field(ge=0, le=2)] = 1.0
    prior: Annotated[str, Field(max_length=20)] | None = None
    model: Annotated[str, Field(max_length=100)] | None = None
    latents: Annotated[list[Annotated[list[Finite], Field(max_length=4096)]], Field(max_length=_MOST)] | None = None


@router.get(
    "/v1/generators",
    responses=answers_with(
        {
            "schema": GENERATORS,
            "generators": [{"name": "face-vae-64", "id": "face-vae-64-1-0123abcd", "side": 64, "latents": 64}],
        }
    ),
)
async def generators(core: CoreOf) -> Response:
    """List the generators, and what each can be told."""

    def work() -> list[dict[str, object]]:
        told: list[dict[str, object]] = []
        for card in zoo.cards("generator"):
            convention = GeneratorConvention.of(card)
            encodes = convention.encoder is not None
            told.append(
                {
                    "name": card.name,
                    "id": card.id,
                    "default": card.name == zoo.defaults().get("generator"),
                    "side": convention.side,
                    "latents": convention.latents,
                    "labels": list(convention.labels),
                    "attributes": list(convention.attributes),
                    "needs_identity": convention.identity is not None,
                    "edits": encodes and len(convention.edits or convention.labels) > 1,
                    "encodes": encodes,
                    "pictures_between": encodes,
                }
            )
        return told

    return answer({"schema": GENERATORS, "generators": await core.read(work)})


@router.post(
    "/v1/generate",
    responses=answers_with(
        {"schema": GENERATED, "model": "face-vae-64-1-0123abcd", "seed": 0, "pictures": []}, problems=(413, 422)
    ),
)
async def generate(tenant: Reader, body: Order) -> Response:
    """Make faces: from a seed, or of latents."""
    core = tenant.core
    generator = await core.read(lambda: core.generator(body.model))

    def work() -> dict[str, object]:
        labels: Sequence[str | None]
        if body.latents is not None:
            rows = {len(row) for row in body.latents}
            if rows != {generator.latents}:
                raise Problem(400, f"'{generator.card.name}' makes a face of {generator.latents} numbers.")
            latents = np.array(body.latents, dtype=np.float32)
            given = body.expression if body.expression is not None or not generator.labels else generator.labels[0]
            images = generator.decode(latents, expression=given, attributes=body.attributes)
            labels = [given] * len(images) if given is None or isinstance(given, str) else given
        else:
            wish = Wish(body.expression, body.attributes, None, None, body.seed, body.truncation, body.prior)
            batches = list(generator.batches(body.n, wish))
            images = np.concatenate([batch.images for batch in batches])
            labels = [label for batch in batches for label in batch.labels]
        return _told(generator.card.id, body.seed if body.latents is None else None, images, labels)

    return answer(await core.work(work))


@router.post(
    "/v1/encode",
    openapi_extra=upload_of(),
    responses=answers_with(
        {"schema": LATENTS, "model": "face-vae-64-1-0123abcd", "shown": "neutral", "latents": [0.12, -1.3]},
        problems=(408, 413, 415, 422),
    ),
)
async def encode(request: Request, tenant: Reader, model: Model = None) -> Response:
    """Return the latents of a face: numbers to change, and to make a face of with `/v1/generate`."""
    core = tenant.core
    generator = await core.read(lambda: core.generator(model))
    upload = one_picture((await read_uploads(request, core.settings.limits)).pictures)

    def work() -> dict[str, object]:
        cut = generator.cut(load_image(upload.data, limits=core.settings.limits.picture))
        latents = generator.encode([cut])[0]
        shown = generator.expression_of(cut) if generator.labels else None
        numbers = [round(float(number), 5) for number in latents]
        head = {"schema": LATENTS, "model": generator.card.id, "shown": shown}
        return {**head, "latents": numbers, "image": data_uri(cut.crop)}

    return answer(await core.work(work))


@router.post(
    "/v1/between",
    openapi_extra={
        "requestBody": {**upload_of("a", "b")["requestBody"], "required": False},
    },
    responses=answers_with(
        {"schema": GENERATED, "model": "face-vae-64-1-0123abcd", "seed": None, "pictures": []},
        problems=(408, 413, 415, 422),
    ),
)
async def between(
    request: Request,
    tenant: Reader,
    a: Annotated[int | None, Query(ge=0, lt=1 << 63, description="Seed of the first face.")] = None,
    b: Annotated[int | None, Query(ge=0, lt=1 << 63, description="Seed of the last face.")] = None,
    steps: Annotated[int, Query(ge=2, le=_MOST)] = 8,
    expression: Annotated[str | None, Query(max_length=40)] = None,
    truncation: Annotated[float, Query(ge=0, le=2, allow_inf_nan=False)] = 1.0,
    model: Model = None,
) -> Response:
    """Make the faces on the way from one to another: two seeds, or two pictures (files `a` and `b` of a form)."""
    core = tenant.core
    generator = await core.read(lambda: core.generator(model))
    ends: dict[str, int | Upload] = {name: seed for name, seed in (("a", a), ("b", b)) if seed is not None}
    if len(ends) < 2:
        uploads = await read_uploads(request, core.settings.limits, parts=("a", "b"))
        ends |= {upload.part: upload for upload in uploads.pictures}
    if len(ends) < 2:
        raise Problem(422, "Two ends are needed: seeds as parameters a and b, or pictures as files a and b.")

    def work() -> dict[str, object]:
        limits = core.settings.limits.picture
        first, last = (
            end if isinstance(end, int) else load_image(end.data, limits=limits) for end in (ends["a"], ends["b"])
        )
        images = generator.between(first, last, steps, expression=expression, truncation=truncation)
        return _told(generator.card.id, None, images, [expression] * len(images))

    return answer(await core.work(work))


@router.post(
    "/v1/edit",
    openapi_extra=upload_of(),
    responses=answers_with(
        {
            "schema": EDIT,
            "model": "expression-vae-48-1-0123abcd",
            "embedder": "sface-resnet27-1-8ed90a76",
            "shown": "neutral",
            "strength": 1.0,
            "edits": [{"expression": "happiness", "identity": 0.93, "reconstruction": 0.8}],
        },
        problems=(408, 413, 415, 422),
    ),
)
async def edit(
    request: Request,
    tenant: Reader,
    expression: Annotated[str, Query(max_length=40, description="What the face shall show; all: each in turn.")],
    strength: Annotated[float, Query(ge=0, le=4, allow_inf_nan=False)] = 1.0,
    model: Model = None,
) -> Response:
    """Give the face of a picture another expression, and say how far it stays who it is."""
    core = tenant.core
    name = model or await run_in_threadpool(_editor, core.generator_names())
    generator = await core.read(lambda: core.generator(name))
    upload = one_picture((await read_uploads(request, core.settings.limits)).pictures)

    def work() -> dict[str, object]:
        image = load_image(upload.data, limits=core.settings.limits.picture)
        names = generator.edits if expression == "all" and generator.edits else (expression,)
        edits: list[Edit] = [generator.edit(image, expression=one, strength=strength) for one in names]
        told = [
            {
                "expression": done.wanted,
                "identity": done.identity,
                "reconstruction": done.reconstruction,
                "after": data_uri(done.after),
                "picture": data_uri(done.picture, ".jpg"),
            }
            for done in edits
        ]
        first = edits[0]
        head = {"schema": EDIT, "model": generator.card.id, "embedder": first.embedder, "shown": first.shown}
        return {**head, "strength": strength, "before": data_uri(first.before), "edits": told}

    return answer(await core.work(work))


def _editor(names: Sequence[str]) -> str | None:
    """Return the first generator that can edit expressions, the default one if it can."""
    able = []
    for name in names:
        convention = GeneratorConvention.of(zoo.card(name))
        if convention.encoder is not None and len(convention.edits or convention.labels) > 1:
            able.append(name)
    default = zoo.defaults().get("generator")
    return default if default in able else able[0] if able else None


def _told(model: str, seed: int | None, images: np.ndarray, labels: Sequence[str | None]) -> dict[str, Any]:
    pictures = [
        {"number": number, "label": label, "image": data_uri(image)}
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return {"schema": GENERATED, "model": model, "seed": seed, "pictures": pictures}
