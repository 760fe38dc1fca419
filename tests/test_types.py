import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mien.errors import UsageError
from mien.images import save_image
from mien.types import (
    EXPRESSIONS,
    Box,
    Candidate,
    Comparison,
    Embedding,
    Expression,
    Face,
    OperatingPoint,
    Picture,
    Quality,
    Reason,
    Records,
    Side,
    as_unit,
)


def test_a_box_knows_its_size():
    box = Box(10, 20, 40, 100)

    assert (box.width, box.height, box.area) == (30, 80, 2400)
    assert box.side == pytest.approx(math.sqrt(2400))
    assert box.as_tuple() == (10, 20, 40, 100)


@pytest.mark.parametrize("corners", [(5, 0, 4, 9), (0, 5, 9, 4)], ids=["left of left", "above top"])
def test_a_box_has_its_corners_in_order(corners):
    with pytest.raises(UsageError, match="corners in order"):
        Box(*corners)


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan])
def test_quality_lies_between_zero_and_one(score):
    with pytest.raises(UsageError):
        Quality(score)


def test_an_embedding_is_a_unit_vector_that_nobody_can_change():
    embedding = Embedding("model", as_unit(np.array([3.0, 4.0])))

    np.testing.assert_allclose(embedding.vector, [0.6, 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        embedding.vector[0] = 1
    with pytest.raises(UsageError, match="unit length"):
        Embedding("model", np.array([3, 4], np.float32))
    with pytest.raises(UsageError, match="float32 vector"):
        Embedding("model", np.array([1.0, 0.0]))
    with pytest.raises(UsageError, match="float32 vector"):
        Embedding("model", np.eye(2, dtype=np.float32))


def test_a_face_has_five_landmarks():
    with pytest.raises(UsageError, match="five landmarks"):
        Face(Box(0, 0, 1, 1), np.zeros((4, 2), np.float32), 0.5)


def test_probabilities_of_an_expression_sum_to_one_and_hold_its_label():
    Expression("anger", {"anger": 0.7, "fear": 0.3})

    with pytest.raises(UsageError, match="sum to one"):
        Expression("anger", {"anger": 0.7, "fear": 0.7})
    with pytest.raises(UsageError, match="one of the classes"):
        Expression("joy", {"anger": 0.7, "fear": 0.3})


def test_the_eight_classes_stand_in_the_order_of_fer_plus():
    assert EXPRESSIONS[0] == "neutral" and EXPRESSIONS[-1] == "contempt" and len(set(EXPRESSIONS)) == 8


def test_rates_of_an_operating_point_lie_between_zero_and_one_or_are_unknown():
    rest = {"fmr_interval": (0, 1), "fnmr_interval": (0, 1), "num_genuine": 0, "num_impostor": 0}
    OperatingPoint(0.1, 0.5, 0.1, math.nan, **rest)

    with pytest.raises(UsageError):
        OperatingPoint(0.1, 0.5, 1.1, 0.2, **rest)
    with pytest.raises(UsageError):
        OperatingPoint(0.1, 0.5, 0.1, -0.2, **rest)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Box(0, 0, 1, 1).left = 5


def test_a_reason_is_its_code():
    assert Reason("too_small") is Reason.TOO_SMALL and f"{Reason.TOO_SMALL}" == "too_small"


def test_as_unit_scales_along_the_last_axis_and_leaves_zero_alone(rng):
    vectors = rng.normal(size=(2, 3, 5))
    vectors[1, 1] = 0

    unit = as_unit(vectors)

    norms = np.linalg.norm(unit, axis=-1)
    assert unit.dtype == np.float32 and norms[1, 1] == 0
    np.testing.assert_allclose(np.delete(norms.ravel(), 4), 1, rtol=1e-6)
    np.testing.assert_allclose(unit[0, 0] * np.linalg.norm(vectors[0, 0]), vectors[0, 0], rtol=1e-5)


@pytest.fixture
def face():
    vector = as_unit(np.arange(1.0, 129.0))
    return Face(
        Box(10, 20, 40, 100),
        np.zeros((5, 2), np.float32),
        0.875,
        quality=Quality(0.5, (Reason.BLURRED, Reason.TOO_DARK)),
        embedding=Embedding("model-1", vector),
        expression=Expression("anger", {"anger": 0.75, "fear": 0.25}),
        crop=np.full((8, 8, 3), 7, np.uint8),
    )


def test_a_face_as_a_row_has_no_embedding_and_no_pixels(face):
    assert face.to_record() == {
        "left": 10.0,
        "top": 20.0,
        "right": 40.0,
        "bottom": 100.0,
        "score": 0.875,
        "quality": 0.5,
        "reasons": "blurred, too_dark",
        "expression": "anger",
        "probability": 0.75,
        "uncertain": False,
    }


def test_notebooks_show_a_face_with_its_crop_and_without_its_embedding(face):
    html = face._repr_html_()

    assert html.count("data:image/png;base64,") == 1 and "anger" in html
    assert not any(f"{value:.4g}" in html for value in face.embedding.vector)
    assert "<img" not in dataclasses.replace(face, crop=None)._repr_html_()


def test_notebooks_show_a_picture_with_its_faces(face, tmp_path):
    path = tmp_path / "a <b>.png"
    save_image(path, np.zeros((120, 60, 3), np.uint8))
    picture = Picture(str(path), width=60, height=120, faces=(face, face))

    html = picture._repr_html_()

    assert html.count("data:image/png;base64,") == 1 and html.count("<tr>") == 3
    assert "a &lt;b&gt;.png: 2 faces" in html and "http" not in html


def test_notebooks_say_why_a_picture_is_not_shown(face, tmp_path):
    moved = Picture(str(tmp_path / "moved.png"), width=60, height=120, faces=(face,))._repr_html_()

    assert "<img" not in moved and "1 face. The file cannot be read." in moved and "anger" in moved
    assert "is no picture" in Picture("a.txt", error="'a.txt' is no picture.")._repr_html_()


def test_notebooks_show_the_notes_on_a_picture_escaped():
    html = Picture(None, width=60, height=120, notes=("Turned by <90> degrees.",))._repr_html_()

    assert "a picture from memory: 0 faces. Turned by &lt;90&gt; degrees." in html


def test_rows_of_a_picture_name_its_path_and_number_its_faces(face):
    rows = Picture("a.png", width=60, height=120, faces=(face, face)).to_records()

    assert [(row["path"], row["face"], row["left"]) for row in rows] == [("a.png", 1, 10.0), ("a.png", 2, 10.0)]


def test_a_comparison_as_a_row_claims_no_rate_that_was_not_measured():
    measured = OperatingPoint(1e-3, 0.9, 1e-3, 0.25, (0, 0.01), (0.2, 0.3), 100, 1000)
    bare = OperatingPoint(1.0, 0.9, 1.0, math.nan, (0, 1), (0, 1), 0, 0)

    assert Comparison(0.95, True, 0.99, measured).to_record() == {
        "match": True,
        "score": 0.95,
        "threshold": 0.9,
        "probability": 0.99,
        "fmr": 1e-3,
        "fnmr": 0.25,
    }
    row = Comparison(0.95, True, 0.99, bare).to_record()
    assert row["fmr"] is None and row["fnmr"] is None
    assert "<td>yes</td>" in Comparison(0.95, True, 0.99, measured)._repr_html_()


def test_records_are_a_tuple_that_shows_itself_as_a_table():
    found = Records([Candidate("Ada & Bo", 1, 2, 0.75), Candidate("Cy", 3, 4, 0.5)])

    assert found == (Candidate("Ada & Bo", 1, 2, 0.75), Candidate("Cy", 3, 4, 0.5))
    assert found.to_records()[1] == {"subject": "Cy", "subject_id": 3, "sample_id": 4, "score": 0.5}
    assert "Ada &amp; Bo" in found._repr_html_() and found._repr_html_().count("<tr>") == 3
    assert repr(Records()) == "()" and "none" in Records()._repr_html_()


def test_records_cross_processes():
    (back,) = pickle.loads(pickle.dumps(Records([Candidate("Cy", 3, 4, 0.5)])))

    assert back == Candidate("Cy", 3, 4, 0.5)


POINT = OperatingPoint(0.1, 0.5, 0.1, math.nan, (0, 1), (0, 1), 0, 0)
FACE = Face(
    Box(0, 0, 9, 9),
    np.zeros((5, 2), np.float32),
    0.9,
    quality=Quality(0.5, (Reason.BLURRED,), {"side": 9.0}),
    embedding=Embedding("mine-1", as_unit(np.arange(1, 5))),
    expression=Expression("anger", {"anger": 0.7, "fear": 0.3}),
)


@pytest.mark.parametrize(
    "record",
    [FACE, Picture("a.jpg", 9, 9, (FACE,)), Comparison(0.5, True, 0.9, POINT, (Side(1, 1, FACE.box),) * 2)],
    ids=["face", "picture", "comparison"],
)
def test_records_can_be_pickled_copied_and_turned_into_dictionaries(record):
    for other in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record), copy.copy(record)):
        assert repr(other) == repr(record) and type(other) is type(record)
    assert set(dataclasses.asdict(record)) == {field.name for field in dataclasses.fields(record)}


def test_a_copied_embedding_cannot_be_changed_either():
    with pytest.raises(ValueError, match="read-only"):
        pickle.loads(pickle.dumps(FACE)).embedding.vector[0] = 1


def test_measures_and_probabilities_cannot_be_changed_and_are_json():
    given = {"anger": 0.7, "fear": 0.3}
    expression = Expression("anger", given)
    given["anger"] = 0
    assert json.loads(json.dumps(expression.probabilities)) == {"anger": 0.7, "fear": 0.3}
    for change in (
        lambda facts: facts.update(anger=0),
        lambda facts: facts.__setitem__("anger", 0),
        lambda facts: facts.pop("anger"),
        lambda facts: facts.__ior__({"anger": 0}),
    ):
        with pytest.raises(TypeError, match="frozen record"):
            change(expression.probabilities)


def test_vectors_that_users_bring_are_refused_also_where_python_removes_asserts():
    code = (
        "import numpy as np\nfrom mien.types import Box, Embedding\nfrom mien.errors import MienError\n"
        "for vector in (np.full(4, np.nan, np.float32), np.full(4, 9, np.float32), [1.0], np.eye(2)):\n"
        "    try: Embedding('mine-1', vector)\n"
        "    except MienError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert ["NaN" in lines[0], "unit length" in lines[1], "float32" in lines[2], "float32" in lines[3]] == [True] * 4
