import json
import time

import pytest

from mien.service.settings import Limits

from .conftest import picture, problem, zipped

ZIP = {"Content-Type": "application/zip"}


def submit(service, files, kind="jobs", **query):
    answer = service.post(f"/v1/{kind}", content=zipped(files), headers=ZIP, params=query)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finished(service, job_id, **query):
    for _ in range(400):
        told = service.get(f"/v1/jobs/{job_id}", params=query).json()
        if told["state"] not in ("queued", "running"):
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def test_folders_of_a_zip_name_the_subjects_and_each_picture_says_what_became_of_it(service):
    files = {
        "people/ada/1.png": picture(1, seed=1),
        "people/ada/2.png": picture(1, seed=2),
        "people/bob/1.png": picture(),
        "people/bob/2.png": b"broken",
        "people/notes.txt": b"no picture",
        "top.png": picture(3),
    }
    job = submit(service, files)
    told = finished(service, job)

    assert (told["state"], told["total"], told["done"]) == ("done", 5, 5)
    assert told["counts"] == {"added": 2, "already": 0, "refused": 1, "failed": 2}
    items = service.get(f"/v1/jobs/{job}/items").json()["items"]
    assert [one["status"] for one in items] == ["added", "added", "refused", "failed", "failed"]
    assert "Whose picture is 'top.png'" in items[4]["error"]
    assert [one["name"] for one in service.get("/v1/subjects").json()["subjects"]] == ["ada"]
    assert not list(service.core.settings.data.glob("jobs/*/upload.zip"))


def test_a_zip_of_one_subject_needs_no_folders(service):
    job = submit(service, {"1.png": picture(1), "2.png": picture(1, seed=2)}, subject="ada")

    assert finished(service, job)["counts"]["added"] == 2


def test_events_tell_each_picture_once_and_go_on_after_one(service):
    job = submit(service, {f"ada/{n}.png": picture(1, seed=n) for n in range(3)})
    finished(service, job)
    text = service.get(f"/v1/jobs/{job}/events").text
    rest = service.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "2"}).text

    assert [line for line in text.splitlines() if line.startswith("id: ")] == ["id: 1", "id: 2", "id: 3"]
    last = text.strip().split("\n\n")[-1].split("\n")
    assert last[0] == "event: end" and json.loads(last[1].removeprefix("data: "))["state"] == "done"
    assert rest.count("event: item") == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../ada/1.png": b"x"}, "leads out of it"),
        ({"/etc/1.png": b"x"}, "leads out of it"),
        ({"a\\..\\..\\1.png": b"x"}, "leads out of it"),
        ({"C:/1.png": b"x"}, "leads out of it"),
        ({"ada/notes.txt": b"x"}, "holds no picture"),
    ],
)
def test_zips_that_lead_out_or_hold_nothing_are_refused_at_once(service, files, words):
    assert words in problem(service.post("/v1/jobs", content=zipped(files), headers=ZIP), 422)
    assert not list(service.core.settings.data.glob("jobs/*"))


def test_what_is_no_zip_and_what_is_a_bomb_is_refused(service):
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ada/1.png", bytes(20 << 20))

    assert "zip bomb" in problem(service.post("/v1/jobs", content=file.getvalue(), headers=ZIP), 422)
    assert "no zip" in problem(service.post("/v1/jobs", content=b"PK\x03\x04 and so on", headers=ZIP), 422)
    assert "takes a zip" in problem(service.post("/v1/jobs", content=b"x", headers={"Content-Type": "text/plain"}), 415)


def test_a_zip_beyond_the_limits_is_refused(start):
    service = start(limits=Limits(archive_bytes=2000, archive_pictures=2, unpacked_bytes=1000))
    small = picture(1)

    three = zipped({f"ada/{n}.png": small for n in range(3)})
    assert "limit is 2" in problem(service.post("/v1/jobs", content=three, headers=ZIP), 422)
    two = zipped({f"ada/{n}.png": small + bytes(500) for n in range(2)})
    assert "unpacked" in problem(service.post("/v1/jobs", content=two, headers=ZIP), 422)
    assert "larger than the limit" in problem(service.post("/v1/jobs", content=bytes(3000), headers=ZIP), 413)


def test_a_job_that_a_restart_broke_off_goes_on_where_it_was(start):
    service = start()
    held = service.core.engine
    real, done = held.run_when_idle, []

    def slowly(work):
        done.append(1)
        if len(done) == 3:
            service.core.closing.set()  # as SIGTERM does
        return real(work)

    held.run_when_idle = slowly
    job = submit(service, {f"ada/{n}.png": picture(1, seed=n) for n in range(6)})
    for _ in range(200):
        if service.core.closing.is_set():
            break
        time.sleep(0.01)
    service.http.__exit__(None, None, None)
    again = start()
    told = finished(again, job)

    assert (told["state"], told["done"], told["counts"]["added"]) == ("done", 6, 6)
    assert len(done) == 3


def test_a_job_is_cancelled_and_what_is_over_is_removed(service):
    service.core.engine.run_when_idle = lambda work: (
        time.sleep(0.05) or type("Done", (), {"result": staticmethod(work)})
    )
    job = submit(service, {f"ada/{n}.png": picture(1, seed=n) for n in range(50)})
    told = service.http.delete(f"/v1/jobs/{job}").json()

    assert told["state"] == "cancelled" and told["done"] < 50
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 204
    problem(service.get(f"/v1/jobs/{job}"), 404)


def test_a_grouping_finds_people_and_names_those_that_the_gallery_knows(service, people):
    files = {
        "1.png": picture(1, 7, seed=1),
        "2.png": picture(7, seed=2),
        "3.png": b"broken",
        "4.png": picture(7, seed=2),
    }
    job = submit(service, files, kind="group", threshold=0.6)
    assert finished(service, job)["counts"] == {"read": 3, "failed": 1}
    told = service.get(f"/v1/jobs/{job}/result").json()

    assert told["schema"] == "mien/groups/1" and told["counts"]["copies"] == 1
    assert [(one["name"], len(one["faces"])) for one in told["people"]] == [(None, 2), ("ada", 1)]
    assert service.get(f"/v1/jobs/{job}/faces/0").headers["content-type"] == "image/jpeg"
    problem(service.get(f"/v1/jobs/{job}/faces/9"), 404)
    named = service.post(f"/v1/jobs/{job}/people/1", json={"name": "gus"}).json()
    assert [one["status"] for one in named["pictures"]] == ["added", "added"]
    again = service.get(f"/v1/jobs/{job}/result").json()
    assert [one["name"] for one in again["people"]] == ["gus", "ada"]


def test_a_few_pictures_are_grouped_without_a_zip(service):
    job = service.post("/v1/group", picture(1, seed=1), picture(1, seed=2), params={"threshold": 0.6}).json()["id"]

    assert finished(service, job)["state"] == "done"
    assert service.get(f"/v1/jobs/{job}/result").json()["counts"]["people"] == 1


def test_jobs_of_another_collection_are_not_there(service):
    job = submit(service, {"ada/1.png": picture(1)})
    service.post("/v1/collections", json={"name": "other"})

    problem(service.get(f"/v1/jobs/{job}", params={"collection": "other"}), 404)
    assert service.get("/v1/jobs", params={"collection": "other"}).json()["jobs"] == []
    problem(service.get(f"/v1/jobs/{job}/result"), 409)


def test_with_a_collection_go_the_pictures_and_faces_of_its_jobs(service):
    service.http.post("/v1/collections", json={"name": "staff"})
    mine = submit(service, {"ada/1.png": picture(1)})
    theirs = submit(service, {"1.png": picture(1), "2.png": picture(1, seed=9)}, "group", collection="staff")
    finished(service, mine)
    finished(service, theirs, collection="staff")
    folder = service.core.settings.data / "jobs"
    assert any((folder / theirs).iterdir())

    assert service.http.delete("/v1/collections/staff").status_code == 200

    assert not (folder / theirs).exists() and (folder / mine).exists()


def test_an_erasure_reaches_the_results_of_jobs(service):
    job = submit(service, {"ada/1.png": picture(1), "bob/1.png": picture(2)})
    finished(service, job)
    ada = service.get("/v1/subjects", params={"q": "ada"}).json()["subjects"][0]["id"]
    service.http.delete(f"/v1/subjects/{ada}")

    assert [one["subject"] for one in service.get(f"/v1/jobs/{job}/items").json()["items"]] == ["bob"]
