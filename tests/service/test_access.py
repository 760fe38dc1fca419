import pytest

from mien.service.access import Rates

from .conftest import picture, problem


def test_without_keys_loopback_is_open_and_with_one_it_asks(service):
    assert service.get("/v1/subjects").status_code == 200
    admin = service.key(**{"*": "admin"})

    told = service.get("/v1/subjects")
    assert "asks for a key" in problem(told, 401) and told.headers["www-authenticate"].startswith("Bearer")
    assert service.get("/v1/subjects", headers=admin).status_code == 200
    assert service.get("/healthz").status_code == 200 and service.get("/").status_code == 200
    session = service.get("/v1/session").json()
    assert (session["keys_required"], session["collections"], session["key"]) == (True, [], None)


def test_revoking_the_last_key_opens_nothing(service):
    key, text = service.core.keys.create({"*": "admin"})
    service.core.keys.revoke(key.id)

    assert "was revoked" in problem(service.get("/v1/subjects", headers={"Authorization": f"Bearer {text}"}), 401)
    problem(service.get("/v1/subjects"), 401)


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer mien_000000000000_" + "A" * 43, "Basic YTpi", "Bearer \u00e9"])
def test_wrong_keys_are_refused_alike(service, sent):
    service.key(default="read")

    assert "not known here" in problem(
        service.get("/v1/subjects", headers={"Authorization": sent.encode("latin-1")}), 401
    )


def test_many_wrong_keys_are_slowed_down(service):
    service.key(default="read")
    answers = [service.get("/v1/subjects", headers={"Authorization": "Bearer x"}) for _ in range(8)]

    assert answers[-1].status_code == 429 and "retry-after" in answers[-1].headers


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [("read", (200, 403, 403, 403)), ("enrol", (200, 201, 403, 403)), ("admin", (200, 201, 200, 403))],
)
def test_a_scope_includes_those_before_it_and_no_more(service, people, scope, statuses):
    key = service.key(default=scope)
    answers = (
        service.post("/v1/identify", picture(1), headers=key),
        service.post("/v1/subjects", picture(5), params={"name": "eve"}, headers=key),
        service.http.delete(f"/v1/subjects/{people['ada']}", headers=key),
        service.get("/v1/keys", headers=key),
    )

    assert tuple(answer.status_code for answer in answers) == statuses


def test_one_collection_s_keys_cannot_tell_whether_another_one_is_there(service, people):
    admin = service.key(**{"*": "admin"})
    assert service.post("/v1/collections", json={"name": "other"}, headers=admin).status_code == 201
    key = service.key(other="admin")

    assert service.get("/v1/subjects", headers=key).json()["subjects"] == []
    assert service.post("/v1/identify", picture(1), headers=key).json()["pictures"][0]["faces"][0]["subject"] is None
    there, nowhere = (
        problem(service.get("/v1/subjects", params={"collection": name}, headers=key), 404)
        for name in ("default", "nowhere")
    )
    assert there == nowhere
    assert problem(service.get("/v1/subjects/1", headers=key), 404)
    mine = service.post("/v1/subjects", picture(1), params={"name": "ada"}, headers=key).json()
    assert mine["subject"]["id"] == 1 and mine["pictures"][0]["duplicates"] == []
    names = [one["name"] for one in service.get("/v1/collections", headers=key).json()["collections"]]
    assert names == ["other"]
    assert service.http.delete("/v1/collections/other", headers=key).status_code == 403
    erased = service.http.delete("/v1/collections/other", headers=admin).json()
    assert erased["subjects"] == 1 and not list(service.core.settings.data.glob("collections/other*"))
    assert service.get("/v1/stats", headers=admin).json()["subjects"] == 3


def test_keys_are_made_listed_and_revoked_over_http(service):
    admin = service.key(**{"*": "admin"})
    made = service.post("/v1/keys", json={"grants": {"default": "read"}, "expires_days": 1}, headers=admin).json()
    listed = service.get("/v1/keys", headers=admin).json()["keys"]

    assert made["key"].startswith("mien_") and "key" not in listed[1] and listed[1]["id"] == made["id"]
    assert service.http.delete(f"/v1/keys/{made['id']}", headers=admin).json()["revoked"]
    problem(service.http.delete("/v1/keys/none", headers=admin), 404)
    problem(service.post("/v1/keys", json={"grants": {"default": "owner"}}, headers=admin), 400)


def test_the_rate_of_a_key_is_limited(start):
    service = start(rate=1.0)
    key = service.key(default="read")
    answers = [service.get("/v1/stats", headers=key) for _ in range(4)]

    assert answers[0].status_code == 200 and answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"] == "1" or answers[-1].headers["retry-after"] == "2"


def test_a_bucket_fills_again_at_its_rate():
    rates = Rates(10.0)

    assert all(rates.take("a", at=0.0) == 0 for _ in range(20))
    assert rates.take("a", at=0.0) == pytest.approx(0.1)
    assert rates.take("b", at=0.0) == 0
    assert rates.take("a", at=0.11) == 0
