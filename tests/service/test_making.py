import pytest

from .conftest import picture, problem


def test_faces_of_a_seed_are_the_same_each_time(service):
    order = {"n": 2, "seed": 3, "model": "face-vae-64"}
    first, again = (service.post("/v1/generate", json=order).json() for _ in range(2))

    assert first["pictures"] == again["pictures"] and len(first["pictures"]) == 2
    assert first["pictures"][0]["image"].startswith("data:image/png;base64,")


def test_latents_make_a_face_and_another_number_another_one(service):
    latents = [[0.0] * 128, [1.0] * 128]
    told = service.post("/v1/generate", json={"latents": latents, "model": "face-vae-64"}).json()

    assert told["pictures"][0]["image"] != told["pictures"][1]["image"] and told["seed"] is None


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"n": 65}, "'n'"),
        ({"seed": -1}, "'seed'"),
        ({"latents": [[1.0, 2.0]], "model": "face-vae-64"}, "128 numbers"),
        ({"latents": [[1e9] * 128], "model": "face-vae-64"}, "latents"),
        ({"model": "/etc/passwd"}, "no generator"),
        ({"expression": "happiness", "model": "face-vae-64"}, "expression"),
        ({"sead": 1}, "sead"),
    ],
)
def test_orders_that_make_no_sense_are_refused(service, order, words):
    assert words in problem(service.post("/v1/generate", json=order), 400)


def test_the_way_between_two_seeds_has_its_steps(service):
    told = service.post("/v1/between", params={"a": 1, "b": 2, "steps": 3, "model": "face-vae-64"}).json()

    assert len({one["image"] for one in told["pictures"]}) == 3


def test_generators_say_what_they_can_be_told(service):
    known = {one["name"]: one for one in service.get("/v1/generators").json()["generators"]}

    assert known["expression-vae-48"]["edits"] and "happiness" in known["expression-vae-48"]["labels"]
    assert not known["face-vae-64"]["edits"] and sum(one["default"] for one in known.values()) == 1


def test_a_body_of_another_kind_is_refused(service):
    problem(service.post("/v1/encode", content=b"x", headers={"Content-Type": "text/plain"}), 415)
    problem(service.post("/v1/encode", picture(1), picture(2)), 422)
