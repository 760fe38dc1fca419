import cv2
import numpy as np
import pytest

from mien import demo
from mien.demo import Trial, degradations, run, summary
from mien.drawing import draw_face
from mien.types import Box, Embedding, Face, as_unit

from gallery.fake_analyzer import card  # isort: skip


class ColourAnalyzer:
    """Finds one face in the middle of every picture that is not nearly black, and tells people by their colours."""

    def __init__(self):
        self.card = card()

    def analyze(self, image, *, embed=True, crops=False):
        if image.mean() < 25:
            return ()
        height, width = image.shape[:2]
        side = min(height, width)
        box = Box(width / 2 - side / 4, height / 2 - side / 4, width / 2 + side / 4, height / 2 + side / 4)
        points = [[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]
        marks = np.float32([[box.left + x * box.width, box.top + y * box.height] for x, y in points])
        part = image[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
        small = cv2.resize(part, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32)
        vector = as_unit((small - small.mean()).ravel()[:64])
        crop = cv2.resize(part, (112, 112)) if crops else None
        return (Face(box, marks, 0.9, embedding=Embedding(self.card.id, vector), crop=crop),)


@pytest.fixture
def shown(tmp_path):
    return run(tmp_path, analyzer=ColourAnalyzer(), portrait=draw_face(2, side=400).image, fmr=1e-2)


def test_everything_is_written(shown, tmp_path):
    names = {"report.html", "portrait.png", "crowd.png", "trials.png", "gallery.mien"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    page = shown.report.read_text("utf-8")
    assert "the astronaut" in page and "drawn five" in page and "a stranger" in page
    assert "made up" in page and 'src="http' not in page


def test_the_enrolled_picture_itself_is_recognised(shown):
    first = shown.trials[0]
    assert first.title == "as it is" and first.named == "the astronaut" and first.right
    assert first.score > 0.9 and first.probability > 0.99


def test_a_face_that_is_not_found_counts_as_a_failure(shown):
    (dark,) = [trial for trial in shown.trials if trial.title == "a tenth of the light"]
    assert not dark.found and not dark.right and dark.score is None
    assert "no face found" in shown.report.read_text("utf-8")


def test_the_gallery_may_be_there_from_last_time(shown, tmp_path):
    again = run(tmp_path, analyzer=ColourAnalyzer(), portrait=draw_face(2, side=400).image, fmr=1e-2)
    assert [t.score for t in again.trials] == [t.score for t in shown.trials]


def test_the_summary_has_a_line_a_trial(shown):
    lines = summary(shown)
    assert len(lines) == len(shown.trials)
    assert "is the astronaut" in lines[0] and "> 99.9 %" in lines[0]
    assert any("no face found" in line for line in lines)


@pytest.mark.parametrize(
    ("expected", "match", "right"),
    [("ada", True, True), ("bob", True, False), (None, False, True), (None, True, False)],
)
def test_a_trial_is_right_when_the_right_name_or_rightly_none_was_given(expected, match, right):
    trial = Trial("t", np.zeros((2, 2, 3), np.uint8), expected, True, "ada", 0.9, 0.9, match)
    assert trial.right is right


def test_degradations_change_what_they_say():
    face = draw_face(1, side=240)
    changes = degradations(face.box.side, face.landmarks)
    results = {name: change(face.image) for name, change in changes.items()}
    assert np.array_equal(results["as it is"], face.image)
    assert results["face of 20 px"].shape[0] == round(240 * 20 / face.box.side)
    assert results["a tenth of the light"].mean() < 0.2 * face.image.mean()
    x, y = face.landmarks[:2].mean(0).astype(int)
    assert (results["eyes covered"][y, x] < 30).all()
    sharpness = {name: cv2.Laplacian(picture, cv2.CV_64F).std() for name, picture in results.items()}
    assert sharpness["out of focus"] < 0.5 * sharpness["as it is"] < sharpness["noise"]
    assert all(picture.dtype == np.uint8 for picture in results.values())


def test_a_probability_never_reads_as_certain():
    assert [demo.format_chance(p) for p in (0.99999, 0.5, 0.0)] == ["> 99.9 %", "50.0 %", "< 0.1 %"]
