import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from .conftest import picture, problem


def names(service, **query):
    return [one["name"] for one in service.get("/v1/subjects", params=query).json()["subjects"]]


def test_a_picture_twice_is_one_sample_and_another_name_is_said(service, people):
    again = service.post("/v1/subjects", picture(1, seed=50), picture(1, seed=60), params={"name": "ada"}).json()
    other = service.post("/v1/subjects", picture(1, seed=61), params={"name": "ida"}).json()["pictures"][0]

    assert [one["status"] for one in again["pictures"]] == ["already", "added"] and again["subject"]["samples"] == 3
    assert other["duplicates"][0]["subject"] == "ada"


def test_name_and_consent_may_be_fields_of_the_form(service):
    files = [("name", (None, "dan")), ("consent", (None, "signed")), ("picture", ("d.png", picture(4)))]

    assert service.post("/v1/subjects", files=files).json()["subject"]["consent"] == "signed"


@pytest.mark.parametrize(
    ("shown", "words"),
    [((), "no face"), ((1, 2), "It shows 2 faces, expected one"), ((1,), "too poor to be enrolled (blurred)")],
)
def test_what_cannot_be_enrolled_is_a_problem_and_makes_no_subject(service, shown, words):
    query = {"name": "ada", "min_quality": 0.3, "face": "only"}

    assert words in problem(service.post("/v1/subjects", picture(*shown, quality=0.2), params=query), 422)
    assert names(service) == []


@pytest.mark.parametrize("name", ["", "\u202e", "a\x00b", "x" * 300])
def test_names_that_are_none_are_refused(service, name):
    assert problem(service.post("/v1/subjects", picture(1), params={"name": name}), 422)


@pytest.mark.parametrize("name", ["Robert'); DROP TABLE subject;--", "<img src=x onerror=alert(1)>", "张伟"])
def test_any_other_name_is_text(service, name):
    service.enrol(name, picture(1))

    assert names(service, q=name[:4]) == [name]


def test_lists_are_sorted_filtered_and_paged(service, people):
    service.enrol("ada", picture(1, seed=52))
    first = service.get("/v1/subjects", params={"limit": 2, "sort": "samples", "order": "desc"}).json()
    rest = service.get(
        "/v1/subjects", params={"limit": 2, "sort": "samples", "order": "desc", "cursor": first["next"]}
    ).json()

    assert (first["total"], first["subjects"][0]["name"], len(rest["subjects"]), rest["next"]) == (3, "ada", 1, None)
    assert names(service, q="B") == ["bob"]
    problem(service.get("/v1/subjects", params={"cursor": first["next"]}), 400)
    problem(service.get("/v1/subjects", params={"cursor": "%%%"}), 400)


def test_a_subject_is_renamed_and_noted_unless_the_name_is_taken(service, people):
    place = f"/v1/subjects/{people['ada']}"
    changed = service.http.patch(place, json={"name": "Ada L.", "consent": "signed", "retain_until": "2999-01-31"})

    assert changed.json() == service.get(place).json()
    assert (changed.json()["name"], changed.json()["retain_until"]) == ("Ada L.", "2999-01-31")
    assert service.http.patch(place, json={"consent": None}).json()["retain_until"] == "2999-01-31"
    assert "has that name already" in problem(service.http.patch(place, json={"name": "bob"}), 409)
    assert "2027-01-31" in problem(service.http.patch(place, json={"retain_until": "2027-02-31"}), 400)
    problem(service.http.patch(place, json={"nmae": "x"}), 400)
    problem(service.http.patch("/v1/subjects/99", json={"name": "x"}), 404)


def test_a_merge_is_undone_by_a_split(service, people):
    merged = service.post(f"/v1/subjects/{people['ada']}/merge", json={"other": people["bob"]}).json()

    assert (merged["moved"], merged["name"], merged["subject"]["samples"]) == (2, "bob", 4)
    split = service.post("/v1/subjects/split", json={"samples": merged["samples"], "name": "bob"}).json()
    assert (split["subject"]["samples"], split["from"][0]["left"]) == (2, 2)
    found = service.post("/v1/identify", picture(2, seed=9)).json()["pictures"][0]["faces"][0]
    assert found["subject"] == "bob"


def test_a_sample_that_is_not_this_person_moves_and_an_empty_subject_may_go(service, people):
    samples = [one["id"] for one in service.get(f"/v1/subjects/{people['cyd']}/samples").json()["samples"]]
    body = {"samples": samples, "subject": people["bob"], "drop_empty": True}
    moved = service.post("/v1/subjects/split", json=body).json()

    assert moved["moved"] == samples and names(service) == ["ada", "bob"]
    problem(service.post("/v1/subjects/split", json={"samples": [999], "name": "x"}), 404)
    problem(service.post("/v1/subjects/split", json={"samples": samples}), 400)


def test_an_erasure_comes_with_its_proof_and_leaves_nothing_beside_the_gallery(service, people):
    name = "a name that is searched for"
    place = f"/v1/subjects/{people['ada']}"
    headers = {"Idempotency-Key": "one"}
    service.http.patch(place, json={"name": name, "consent": "a ground of its own"}, headers=headers)
    proof = service.http.delete(place).json()

    assert (proof["schema"], proof["samples"], proof["name_searched"]) == ("mien/gallery-erasure/1", 2, True)
    problem(service.get(place), 404)
    service.core.audit.flush()
    for file in service.core.settings.data.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert name.encode() not in data and b"a ground of its own" not in data, file


def test_one_sample_is_erased_with_proof(service, people):
    first, second = (one["id"] for one in service.get(f"/v1/subjects/{people['ada']}/samples").json()["samples"])

    assert service.http.delete(f"/v1/samples/{first}").json()["samples"] == 1
    left = service.get(f"/v1/subjects/{people['ada']}/samples").json()
    assert [one["id"] for one in left["samples"]] == [second] and left["subject"]["cover"] == second
    problem(service.http.delete(f"/v1/samples/{first}"), 404)


def test_the_crop_of_a_sample_is_a_picture(service, people):
    cover = service.get(f"/v1/subjects/{people['ada']}").json()["cover"]
    answer = service.get(f"/v1/samples/{cover}/crop")

    assert answer.headers["content-type"] == "image/jpeg" and answer.content[:2] == b"\xff\xd8"
    problem(service.get("/v1/samples/9999999999999999999999/crop"), 404)


def test_an_export_holds_all_that_is_kept_of_a_subject(service, people):
    service.http.patch(f"/v1/subjects/{people['ada']}", json={"consent": "signed"})
    answer = service.get(f"/v1/subjects/{people['ada']}/export")

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        told = json.loads(archive.read("subject.json"))
        assert len([name for name in archive.namelist() if name.startswith("crops/")]) == 2
    assert told["subject"]["consent"] == "signed" and len(told["templates"]) == len(told["samples"]) == 2


def test_findings_name_one_person_under_two_names(service, people):
    service.enrol("ida", picture(1, seed=70))
    found = service.get("/v1/findings").json()

    assert found["threshold"] == 0.6
    assert [(one["kind"], one["names"]) for one in found["findings"]] == [("two_names", ["ada", "ida"])]


def test_the_curve_of_a_gallery_falls_from_every_stranger_to_none(service, people):
    told = service.get("/v1/operating-points").json()
    curve = told["curve"]

    assert (told["source"], told["genuine"], told["impostor"]) == ("model", 3, 12)
    assert (curve[0]["fmr"], curve[0]["fnmr"], curve[-1]["fmr"], curve[-1]["fnmr"]) == (1.0, 0.0, 0.0, 1.0)
    assert all(one["fmr"] >= other["fmr"] for one, other in pairwise(curve))
    assert service.post("/v1/operating-points", json={"fmr": 0.2}).json()["target_fmr"] == 0.2
    assert service.get("/v1/operating-points").json()["source"] == "gallery"


def test_an_empty_gallery_has_no_curve_and_no_findings(service):
    told = service.get("/v1/operating-points").json()

    assert told["curve"] == [] and "Enrol first" in told["note"]
    assert service.get("/v1/findings").json()["findings"] == []
    service.http.delete(f"/v1/subjects/{service.enrol('ada', picture(1))['id']}")
    assert service.get("/v1/operating-points").json()["curve"] == []
    assert service.get("/v1/findings").json()["findings"] == []
    assert service.get("/v1/stats").json()["subjects"] == 0


def test_subjects_whose_time_is_over_are_erased(service, people):
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    service.http.patch(f"/v1/subjects/{people['bob']}", json={"retain_until": yesterday})

    assert service.core.collections.erase_expired() == 1
    assert names(service) == ["ada", "cyd"]


def test_a_collection_s_retention_erases_old_subjects_only(service, people, monkeypatch):
    service.http.patch("/v1/collections/default", json={"retention_days": 30})

    assert service.core.collections.erase_expired() == 0
    later = datetime.now(UTC) + timedelta(days=31)
    monkeypatch.setattr("mien.service.collections.datetime", _Clock(later))
    assert service.core.collections.erase_expired() == 3


class _Clock:
    def __init__(self, at):
        self._at = at

    def now(self, _):
        return self._at

    fromisoformat = staticmethod(datetime.fromisoformat)
