import base64

import numpy as np
import pytest

from mien.drawing import draw_scene
from mien.images import encode_image, load_image

from .conftest import picture, problem


def drawn(subject=3):
    """Return a drawn picture with one face, and the box of it."""
    scene = draw_scene([subject], width=320, height=240)
    return scene.image, scene.faces[0].box


def shown(uri):
    return load_image(base64.b64decode(uri.partition(",")[2]))


def change(before, after, box):
    """Return the mean change inside a box and outside it, grey levels."""
    levels = np.abs(after.astype(float) - before).mean(axis=2)
    inside = np.zeros(levels.shape, dtype=bool)
    inside[round(box.top) : round(box.bottom), round(box.left) : round(box.right)] = True
    return levels[inside].mean(), levels[~inside].mean()


@pytest.mark.integration
def test_a_restored_picture_changes_where_the_face_is(start):
    image, box = drawn()
    spoilt = np.clip(image + np.random.default_rng(0).normal(0, 30, image.shape), 0, 255).astype(np.uint8)

    told = start(real=True).post("/v1/restore", encode_image(spoilt, suffix=".png"), params={"by": "denoise"}).json()

    inside, outside = change(spoilt, shown(told["picture"]), box)
    assert told["method"] == "denoise" and len(told["faces"]) == 1 and inside > 4 * outside
    assert shown(told["faces"][0]["after"]).shape == shown(told["faces"][0]["before"]).shape


@pytest.mark.integration
def test_an_anonymised_picture_matches_nobody_who_was_in_it(start):
    image, box = drawn()
    service = start(real=True)

    told = service.post("/v1/anonymize", encode_image(image, suffix=".png"), params={"mode": "mosaic"}).json()

    inside, outside = change(image, shown(told["picture"]), box)
    assert told["matching"] == 0 and told["faces"][0]["similarity"] < told["threshold"]
    assert inside > 4 * outside


@pytest.mark.parametrize(
    ("path", "wrong", "words"),
    [
        ("restore", {"by": "telea"}, "'mask' is mouth or eyes"),
        ("restore", {"by": "unsharp", "mask": "eyes"}, "fills nothing in"),
        ("restore", {"by": "magic"}, "'by'"),
        ("restore", {"by": "unsharp", "weight": 3}, "'weight'"),
        ("anonymize", {"mode": "moustache"}, "'mode'"),
        ("anonymize", {"fmr": 2}, "'fmr'"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(service, path, wrong, words):
    assert words in problem(service.post(f"/v1/{path}", picture(1), params=wrong), 400)


def test_what_is_no_picture_and_two_pictures_are_refused(service):
    assert "picture" in problem(service.post("/v1/anonymize", b"no picture"), 422)
    problem(service.post("/v1/restore", picture(1), picture(2), params={"by": "unsharp"}), 422)


def test_a_picture_without_faces_comes_back_as_it_is(service):
    told = service.post("/v1/restore", picture(), params={"by": "unsharp"}).json()

    assert told["faces"] == [] and shown(told["picture"]).shape == (60, 80, 3)
