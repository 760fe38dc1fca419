import re
from pathlib import Path

from mien.errors import UsageError
from mien.service.problems import of_error

ROOT = Path(__file__).parents[2]


def operations(document):
    return [
        (method.upper(), path, told) for path, methods in document["paths"].items() for method, told in methods.items()
    ]


def test_every_endpoint_documents_an_example_and_its_problems(service):
    document = service.get("/openapi.json").json()

    assert "HTTPValidationError" not in str(document)
    assert len(operations(document)) > 40
    for method, path, told in operations(document):
        good = [answer for code, answer in told["responses"].items() if code.startswith("2")]
        assert told["summary"] and good, f"{method} {path}"
        if path.startswith("/v1/"):
            assert {"400", "401", "404", "429"} <= set(told["responses"]), f"{method} {path}"
        for answer in good:
            content = answer.get("content", {}).get("application/json")
            assert content is None or "example" in content, f"{method} {path}"


def test_every_endpoint_stands_in_the_page_about_http(service):
    page = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`?(GET|POST|PATCH|DELETE) `?(/[\w/{}-]*)", page))

    missing = {(method, path) for method, path, _ in operations(service.get("/openapi.json").json())} - told
    assert not missing, f"docs/http.md does not mention {sorted(missing)}"


def test_options_of_the_command_line_become_parameters_in_a_sentence():
    assert of_error(UsageError("Give --fmr or --min-quality.")).detail == "Give fmr or min_quality."


def test_it_is_ready_once_the_networks_are_open_and_not_when_it_ends(service):
    assert service.get("/readyz").json() == {"ready": True, "models": "ready", "storage": "ready"}
    service.core.ready.clear()
    assert service.get("/readyz").status_code == 503
    service.core.trouble = "The index cannot be reached."
    assert service.get("/readyz").json()["detail"] == "The index cannot be reached."


def test_a_storage_that_does_not_answer_shows_and_comes_back(service, monkeypatch):
    gallery = type(service.core.collections.get("default").gallery)
    with monkeypatch.context() as patch:
        patch.setattr(gallery, "__len__", lambda _: 1 / 0)
        assert "storage does not answer" in service.get("/readyz").json()["detail"]

    assert service.get("/readyz").status_code == 200
