"""Expressions measured on pictures whose grey says what they show, by a reader that sees the grey."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mien.data.samples import read_samples
from mien.errors import EvaluationError
from mien.evaluation.expression import evaluate_expression, measure_expression
from mien.evaluation.plots import plot_confusion, plot_reliability
from mien.types import Box
from mien.vision.detector import Detection

GREYS = {"anger": 20, "fear": 60, "happiness": 120, "neutral": 180, "sadness": 240}


class Nobody:
    """A detector that finds a face in pictures of 40 px, and in no other."""

    def detect(self, image):
        if image.shape[0] != 160:  # 40 px, enlarged to 96, and 32 px of border on each side
            return []
        points = np.array([[66, 68], [94, 68], [80, 82], [69, 94], [91, 94]], np.float32)
        return [Detection(Box(50, 50, 110, 110), points, 0.9)]


class Greys:
    """Answers the class whose grey is nearest, with confidence 0.8; further arguments are swapped classes."""

    def __init__(self, heads=None, uncertain_below=0.0, **mistakes):
        self.card = SimpleNamespace(id="greys-1-00000000")
        self.heads = heads or {"": tuple(GREYS)}
        self.labels = next(iter(self.heads.values()))
        self.side, self.template, self.grey = 16, "fer-48", True
        self.uncertain_below, self.uncertain_above = uncertain_below, 0.0
        self.mistakes = mistakes

    def probabilities(self, crops, *, head=None):
        assert crops.shape[1:] == (16, 16, 3) and crops.dtype == np.uint8
        labels = self.labels if head is None else self.heads[head]
        rows = []
        for crop in crops:
            seen = min(GREYS, key=lambda label: abs(GREYS[label] - int(crop[8, 8, 0])))
            said = self.mistakes.get(seen, seen)
            row = np.full(len(labels), 0.2 / (len(labels) - 1))
            if said in labels:
                row[labels.index(said)] = 0.8
            rows.append(row / row.sum())
        return np.array(rows)


def paint(path, label, number=0, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((side, side), GREYS[label], np.uint8)
    image[0, 0] = number  # no two pictures of a class are the same
    Image.fromarray(image).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes: 6, 4 and 2 pictures, in the test split; one each in train."""
    for label, count in (("happiness", 6), ("anger", 4), ("neutral", 2)):
        for number in range(count):
            paint(tmp_path / "mood" / "test" / label / f"{number}.png", label, number)
        paint(tmp_path / "mood" / "train" / label / "a.png", label, 99)
    return tmp_path / "mood"


def evaluate(reader, folder, **options):
    return evaluate_expression(reader, read_samples(folder), detector=Nobody(), **options)


def test_every_figure_of_a_small_case(folder):
    report = evaluate(Greys(neutral="anger"), folder)

    figures = report.figures
    assert (report.dataset, report.split, report.target, report.head) == ("mood", "test", "expression", "")
    assert figures.classes == ("anger", "happiness", "neutral")
    assert figures.confusion.tolist() == [[4, 0, 0], [0, 6, 0], [2, 0, 0]]
    assert figures.accuracy == pytest.approx(10 / 12)
    assert figures.macro_f1 == pytest.approx((8 / 10 + 1 + 0) / 3)
    # Of the model's five classes three are in the choice: 0.8 against 0.05 each is 8 to 9.
    np.testing.assert_allclose(figures.probabilities.max(axis=1), 8 / 9)
    assert figures.reliability.error == pytest.approx(abs(8 / 9 - 10 / 12))
    assert report.not_found == 0


def test_the_model_may_choose_from_all_that_it_knows(folder):
    report = evaluate(Greys(neutral="fear"), folder, classes="model")

    assert report.figures.classes == tuple(GREYS)
    assert report.figures.per_class[1].n == 0 and report.figures.confusion[3].tolist() == [0, 2, 0, 0, 0]
    assert report.figures.macro_f1 == pytest.approx(2 / 3)


def test_classes_that_the_data_lacks_are_no_choice(folder):
    assert evaluate(Greys(), folder).figures.accuracy == 1
    left = evaluate(Greys(neutral="fear"), folder).figures  # fear cannot be said: of the rest none is likelier
    assert left.classes == ("anger", "happiness", "neutral") and left.accuracy <= 1


def test_pictures_of_classes_that_the_model_does_not_know_are_left_out_and_counted(folder):
    report = evaluate(Greys(heads={"": ("happiness", "neutral")}), folder)

    assert report.left_out == {"anger": 4} and len(report.figures.labels) == 8


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("test", 12), ("all", 15), (None, 12)])
def test_a_split_is_measured_alone(folder, split, count):
    assert len(evaluate(Greys(), folder, split=split).figures.labels) == count


def test_without_a_face_the_whole_picture_is_read_and_counted(folder):
    paint(folder / "test" / "anger" / "large.png", "anger", side=300)

    report = evaluate(Greys(), folder)

    assert report.not_found == 1 and report.figures.accuracy == 1 and len(report.figures.labels) == 13


def test_a_picture_that_cannot_be_read_is_left_out_and_named(folder):
    (folder / "test" / "anger" / "0.png").write_text("no picture")

    report = evaluate(Greys(), folder)

    assert list(report.unreadable) == ["test/anger/0.png"] and len(report.figures.labels) == 11


def test_leaks_are_found_pixel_for_pixel_and_left_out(folder):
    copy = folder / "test" / "neutral" / "copy.png"
    paint(copy, "neutral", 99)
    samples = read_samples(folder)

    assert [samples.names[i] for i in np.flatnonzero(samples.standing_elsewhere())] == [
        "test/neutral/copy.png",
        "train/neutral/a.png",
    ]
    report = evaluate(Greys(), folder, leaks=False)
    assert report.leaks == 1 and len(report.figures.labels) == 12
    assert evaluate(Greys(), folder).leaks is None


def votes(folder):
    """A data set with two opinions: FER2013's labels, and FER+ votes, one row without a majority for any face."""
    names = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
    rows = [",".join(["split", "file", "fer2013_label", *(f"fp_{n}" for n in names), "leaks_into"])]
    for number, (fer, plus) in enumerate([("angry", "anger"), ("angry", "sadness"), ("happy", "happiness")] * 3):
        paint(folder / f"{number}.png", plus, number)
        rows.append(",".join(["test", f"{number}.png", fer, *("8" if n == plus else "1" for n in names), ""]))
    paint(folder / "x.png", "fear", 0)
    rows.append(",".join(["test", "x.png", "fear", *("9" if n == "NF" else "0" for n in names), ""]))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


HEADS = {"ferplus": tuple(GREYS), "fer2013": ("anger", "happiness", "fear")}


def test_the_head_that_learned_from_a_target_answers_for_it(tmp_path):
    report = evaluate(Greys(heads=HEADS), votes(tmp_path / "fer"))

    assert (report.target, report.head, report.figures.accuracy) == ("ferplus", "ferplus", 1.0)
    assert report.unlabelled == 1
    other = evaluate(Greys(heads=HEADS, sadness="anger"), tmp_path / "fer", target="fer2013")
    assert other.head == "fer2013" and other.figures.classes == ("anger", "happiness", "fear")
    assert len(other.figures.labels) == 10 and other.unlabelled == 0


def test_pictures_that_raters_dispute_can_be_left_out(tmp_path, folder):
    data = votes(tmp_path / "fer")
    lines = (data / "labels.csv").read_text().splitlines()
    lines[1] = ",".join(["test", "0.png", "angry", "4", "0", "0", "0", "5", "0", "0", "0", "1", "0", ""])  # 5 of 9
    lines[2] = ",".join(["test", "1.png", "angry", "5", "0", "0", "4", "1", "1", "0", "0", "2", "0", ""])  # 5 of 11
    (data / "labels.csv").write_text("\n".join(lines) + "\n")

    report = evaluate(Greys(heads=HEADS), data, agreed=True)

    assert (report.disputed, len(report.figures.labels)) == (1, 8)
    assert evaluate(Greys(heads=HEADS), data).disputed is None
    with pytest.raises(EvaluationError, match="no votes of single raters"):
        evaluate(Greys(), folder, agreed=True)


def test_without_such_a_head_the_first_that_knows_the_classes_answers(folder):
    heads = {"few": ("anger", "fear"), "many": tuple(GREYS)}

    assert evaluate(Greys(heads=heads), folder).head == "many"


def test_subjects_are_resampled_where_they_are_known(tmp_path):
    for subject in range(4):
        for number in range(3):
            label = "anger" if number else "happiness"
            paint(tmp_path / "p" / f"{subject}-{number}.png", label, 10 * subject + number)
    rows = [
        f"{p.name},{'happiness' if p.stem.endswith('0') else 'anger'},s{p.stem[0]}" for p in (tmp_path / "p").iterdir()
    ]
    (tmp_path / "p" / "list.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n")

    report = evaluate(Greys(), tmp_path / "p" / "list.csv")

    assert report.by_subject and "over subjects" in report.to_json()["intervals"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": "valid"}, "has no split 'valid', it has test, train"),
        ({"target": "ferplus"}, "no labels 'ferplus', it has expression"),
    ],
)
def test_what_the_data_lacks_is_said(folder, options, match):
    with pytest.raises(EvaluationError, match=match):
        evaluate(Greys(), folder, **options)


def test_a_choice_needs_two_classes(folder):
    with pytest.raises(EvaluationError, match="knows 1 of the classes of this data"):
        evaluate(Greys(heads={"": ("happiness", "fear")}), folder)


def test_certain_answers_are_counted_by_the_operating_point():
    probabilities = np.array([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7], [0.45, 0.55]])

    figures = measure_expression(np.array([0, 1, 1, 1]), probabilities, ["anger", "fear"], uncertain_below=0.6)

    assert (figures.uncertain, figures.accuracy_of_certain) == (0.5, 1.0)


def test_json_has_what_a_reader_needs(folder):
    record = evaluate(Greys(neutral="anger"), folder).to_json()

    text = json.loads(json.dumps(record, allow_nan=False))
    assert text["schema"] == "mien/evaluation-expression/1" and text["n"] == 12
    assert text["accuracy_interval"][0] < text["accuracy"] < text["accuracy_interval"][1]
    assert set(text["per_class"]) == {"anger", "happiness", "neutral"}
    assert text["per_class"]["neutral"] == {"n": 2, "precision": None, "recall": 0.0, "f1": 0.0, "f1_interval": [0, 0]}
    assert text["not_found"] == 0 and text["leaks_left_out"] is None


def near(path, colour):
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int).reshape(-1, 3)
    return int((np.abs(pixels - np.array(colour)).max(axis=1) < 25).sum())


def test_plots_show_the_diagonal_and_the_curve(folder, tmp_path):
    report = evaluate(Greys(neutral="anger", uncertain_below=0.5), folder)

    plot_confusion(report, tmp_path / "confusion.png")
    plot_reliability(report, tmp_path / "reliability.png")

    assert near(tmp_path / "confusion.png", (8, 48, 107)) > 10_000  # three full cells
    assert near(tmp_path / "reliability.png", (0x25, 0x63, 0xAB)) > 100
    assert near(tmp_path / "reliability.png", (0xC8, 0x50, 0x1E)) > 100
