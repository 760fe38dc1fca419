import pytest

from mien.service.settings import Limits

from .conftest import picture, problem


def test_analyze_answers_with_the_document_of_the_command_line(service):
    told = service.post("/v1/analyze", picture(1, 2), params={"embeddings": True, "crops": True}).json()

    assert told["schema"] == "mien/analysis/1"
    (shown,) = told["pictures"]
    assert (shown["path"], shown["width"], shown["height"], len(shown["faces"])) == ("0.png", 80, 60, 2)
    face = shown["faces"][0]
    assert face["expression"]["label"] == "happiness" and len(face["embedding"]["vector"]) == 64
    assert face["crop"].startswith("data:image/jpeg;base64,")


def test_raw_bytes_are_a_picture_without_a_name(service):
    told = service.post("/v1/analyze", content=picture(1), headers={"Content-Type": "image/png"}).json()

    assert told["pictures"][0]["path"] == "-"


def test_a_broken_picture_among_others_has_its_sentence_and_alone_it_is_a_problem(service):
    both = service.post("/v1/analyze", picture(1), b"").json()

    assert both["pictures"][1] == {"path": "1.png", "error": "'1.png' is empty (0 bytes)."}
    assert "no picture that mien knows" in problem(service.post("/v1/analyze", b"nothing of the kind"), 422)


def test_known_faces_get_their_names_and_strangers_none(service, people):
    told = service.post("/v1/identify", picture(2, 9, seed=7), params={"top": 2}).json()

    assert told["schema"] == "mien/identification/1" and told["threshold"] == 0.6
    assert "not calibrated" in told["notes"][0]
    known, stranger = told["pictures"][0]["faces"]
    assert (known["subject"], stranger["subject"]) == ("bob", None)
    assert known["expression"] is None and known["candidates"][0]["subject_id"] == people["bob"]
    assert [candidate["match"] for candidate in known["candidates"]] == [True, False]


def test_identify_reads_expressions_where_they_are_asked_for(service, people):
    told = service.post("/v1/identify", picture(2), params={"expression": True}).json()

    assert told["pictures"][0]["faces"][0]["expression"]["label"] == "happiness"


def test_search_ranks_samples_whether_they_match_or_not(service, people):
    told = service.post("/v1/search", picture(3, seed=7), params={"k": 3}).json()

    assert [one["subject"] for one in told["candidates"]][:2] == ["cyd", "cyd"] and len(told["candidates"]) == 3


def test_verify_compares_a_file_a_with_a_file_b(service):
    def compare(one, other):
        return service.post("/v1/verify", files={"a": ("x.png", one), "b": ("y.png", other)})

    same, different = (compare(picture(1), picture(number, seed=1)).json() for number in (1, 2))

    assert (same["schema"], same["match"], different["match"]) == ("mien/comparison/1", True, False)
    assert (same["a"]["path"], same["b"]["path"]) == ("x.png", "y.png")
    only_a = service.post("/v1/verify", files={"a": ("x.png", picture(1))})
    assert "two pictures" in problem(only_a, 422)
    assert "No face was found in the first picture" in problem(compare(picture(), picture(1)), 422)


def test_expression_says_what_faces_show(service):
    told = service.post("/v1/expression", picture(4)).json()

    assert told["pictures"][0]["faces"][0]["expression"] == "happiness"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("treshold=0.5", "no parameter 'treshold'"),
        ("threshold=nan", "'threshold'"),
        ("fmr=2", "'fmr'"),
        ("fmr=0.01&threshold=0.5", "fmr or threshold"),
        ("top=0", "'top'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_a_sentence(service, query, words):
    assert words in problem(service.post(f"/v1/identify?{query}", picture(1)), 400)


def test_other_content_types_and_text_in_place_of_a_file_are_refused(service):
    plain = service.post("/v1/analyze", content=b"http://example.org/a.jpg", headers={"Content-Type": "text/plain"})
    path = service.post("/v1/analyze", files={"picture": (None, "/etc/passwd")})

    assert "URLs are not read" in problem(plain, 415)
    assert "Paths are not read" in problem(path, 422)


def test_limits_on_pictures_bytes_pixels_and_faces_hold(start):
    service = start(limits=Limits(pictures=2, request_bytes=4000, pixels=5000, faces=2))

    assert "at most 2 pictures" in problem(service.post("/v1/analyze", *[picture(1)] * 3), 413)
    assert "larger than the limit" in problem(service.post("/v1/analyze", bytes(5000)), 413)
    wide = service.post("/v1/analyze", picture(1, 2, 3)).json()["pictures"][0]
    assert len(wide["faces"]) == 2 and wide["notes"] == ["it shows 3 faces, of which the 2 largest are read"]
    start_small = start(service.core.settings.data.parent / "small", limits=Limits(pixels=4000))
    assert "the limit is" in problem(start_small.post("/v1/analyze", picture(1)), 422)
