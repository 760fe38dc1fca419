import asyncio
import json
import threading
import time

import pytest

from mien.service.settings import Limits

from .conftest import WRITE, picture, problem


def test_every_answer_has_the_headers_that_keep_a_browser_safe(service):
    for answer in (service.get("/healthz"), service.get("/nowhere"), service.post("/v1/analyze", picture(1))):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "require-trusted-types-for 'script'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["permissions-policy"].startswith("camera=(self)")
        assert "access-control-allow-origin" not in answer.headers and len(answer.headers["x-request-id"]) == 16


def test_a_name_that_is_not_the_service_s_is_refused_as_in_dns_rebinding(service):
    told = problem(service.get("/healthz", headers={"Host": "attacker.example"}), 403)

    assert "--allow-host" in told
    for host in ("localhost:8400", "127.0.0.1", "[::1]:8400"):
        assert service.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("", "[", "localhost.attacker.example", "127.0.0.1@attacker.example"):
        assert service.get("/healthz", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://attacker.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_foreign_pages_can_neither_write_nor_read(service, headers):
    assert "other sites" in problem(service.post("/v1/identify", picture(1), headers=headers), 403)
    problem(service.get("/v1/subjects", headers=headers), 403)


def test_a_link_on_a_foreign_page_may_lead_to_the_page(service):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

    assert service.get("/", headers=headers).status_code == 200


def test_the_own_page_may_ask(service):
    headers = {"Origin": "http://localhost:8400", "Sec-Fetch-Site": "same-origin"}

    assert service.post("/v1/identify", picture(1), headers=headers).status_code == 200


def test_a_change_without_a_key_needs_a_header_that_no_form_can_send(service):
    del service.http.headers["X-Mien"]

    assert "X-Mien: 1" in problem(service.post("/v1/subjects", picture(1), params={"name": "ada"}), 403)


def test_a_method_that_an_address_does_not_take_is_told_with_those_that_it_does(service):
    answer = service.http.put("/v1/subjects")

    assert "GET, POST" in problem(answer, 405) and answer.headers["allow"] == "GET, POST"
    assert "nothing at this address" in problem(service.get("/v1/nothing"), 404)


def test_a_body_that_says_it_is_too_large_is_not_read(service):
    answer = service.post("/v1/analyze", content=b"x", headers={"Content-Length": str(10**12)})

    assert "64 MiB" in problem(answer, 413)
    problem(
        service.post("/v1/subjects/split", content=b"[" * 100_000, headers={"Content-Type": "application/json"}), 400
    )


def test_a_mistake_of_ours_is_a_problem_without_its_traceback(service, monkeypatch, capsys):
    monkeypatch.setattr("mien.service.faces.analyse", lambda *_, **__: 1 / 0)

    assert problem(service.post("/v1/analyze", picture(1)), 500) == "The service made a mistake. Its log says more."
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_request_with_an_idempotency_key_is_done_once(service):
    headers = {"Idempotency-Key": "a"}
    first, again = (service.post("/v1/subjects", picture(1), params={"name": "ada"}, headers=headers) for _ in range(2))

    # The boundary of a form is random, so that the second one is another body.
    assert first.status_code == 201 and "another body" in problem(again, 422)
    body = {"headers": {**headers, "Content-Type": "image/png"}, "content": picture(2), "params": {"name": "bob"}}
    body["headers"]["Idempotency-Key"] = "b"
    first, again = (service.http.post("/v1/subjects", **body) for _ in range(2))
    assert (first.status_code, first.json(), again.json()) == (201, again.json(), first.json())
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    other = service.http.post("/v1/subjects", **{**body, "params": {"name": "cyd"}})
    assert "another request" in problem(other, 422)


def test_a_failed_request_may_be_made_again_with_its_key(service):
    headers = {"Idempotency-Key": "a", "Content-Type": "image/png"}
    refused = service.http.post("/v1/subjects", params={"name": "ada"}, content=picture(), headers=headers)

    assert refused.status_code == 422
    again = service.http.post("/v1/subjects", params={"name": "ada"}, content=picture(1), headers=headers)
    assert again.status_code == 201


def test_answers_outlive_a_restart(start):
    def ask(service):
        headers = {"Idempotency-Key": "a", "Content-Type": "image/png", **WRITE}
        return service.http.post("/v1/subjects", params={"name": "ada"}, content=picture(1), headers=headers)

    service = start()
    first = ask(service)
    service.stop()
    again = start()

    assert ask(again).json() == first.json() and ask(again).headers["idempotency-replayed"] == "true"


def test_the_log_says_who_what_and_when_and_no_name(service, people):
    service.post("/v1/identify", picture(1))
    service.http.delete(f"/v1/subjects/{people['ada']}")
    entries = service.get("/v1/audit").json()["entries"]

    assert [one["action"] for one in entries[:2]] == ["DELETE /v1/subjects/{subject_id}", "POST /v1/identify"]
    assert (entries[0]["subject_id"], entries[0]["status"], entries[0]["collection"]) == (people["ada"], 200, "default")
    assert "ada" not in json.dumps(entries)


def test_figures_count_answers_by_route_and_name_no_collection(service):
    service.post("/v1/identify", picture(1, 2))
    text = service.get("/metrics").text

    assert 'mien_requests_total{method="POST",route="/v1/identify",status="200"} 1.0' in text
    assert "mien_faces_total 2.0" in text and "collection" not in text


def test_a_service_without_room_refuses_and_says_when_to_come_again(service):
    engine, end = service.core.engine, threading.Event()

    async def crowd():
        await asyncio.gather(*(engine.run(lambda: end.wait(20)) for _ in range(2 * engine.workers)))

    others = threading.Thread(target=lambda: asyncio.run(crowd()))
    others.start()
    for _ in range(2000):
        if engine.running == engine.workers == engine.waiting:
            break
        time.sleep(0.005)
    engine.work_s = 30.0
    answer = service.post("/v1/identify", picture(1))
    end.set()
    others.join()

    assert "busy" in problem(answer, 429) and int(answer.headers["retry-after"]) > 1


def test_work_that_takes_too_long_is_given_up(start, monkeypatch):
    service = start(limits=Limits(answer_s=0.05))
    monkeypatch.setattr("mien.service.faces.analyse", lambda *_, **__: __import__("time").sleep(0.15))

    assert "longer than 0.05 s" in problem(service.post("/v1/analyze", picture(1)), 503)


def test_the_page_s_files_are_revalidated_and_scripts_are_scripts(service):
    answer = service.get("/static/icon.svg")

    assert answer.headers["cache-control"] == "no-cache" and answer.headers["content-type"].startswith("image/svg")
    assert service.get("/static/icon.svg", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert service.http.head("/").status_code == 200
    assert service.get("/static/app.css", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert service.get("/").headers["content-type"].startswith("text/html")
    assert service.get("/static/../app.py").status_code == 404
    assert service.get("/static/%2e%2e/app.py").status_code == 404
