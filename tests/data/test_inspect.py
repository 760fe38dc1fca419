import json

import numpy as np
import pytest

from data.layouts import CLASSES, picture, table, write
from mien.data.inspect import inspect
from mien.data.samples import read_samples
from mien.errors import DataError
from mien.images import encode_image, load_image


def report_on(tmp_path, files, **options):
    return inspect(read_samples(write(tmp_path, files), **options))


def test_a_sound_data_set_has_counts_sizes_and_no_problems(tmp_path):
    report = report_on(tmp_path, CLASSES)

    assert report.classes == {"expression": {"happiness": {"": 2}, "anger": {"": 2}}}
    assert report.sizes == {(40, 40): 4} and report.grey == 0 and not report.problems
    report.refuse_problems()
    text = "\n".join(report.lines())
    assert "happiness" in text and "40 x 40 px (4)" in text and "To mend" not in text


def split_set(train, test):
    return {f"train/happy/{k}.png": data for k, data in enumerate(train)} | {
        f"test/happy/{k}.png": data for k, data in enumerate(test)
    }


def altered(data):
    """The same picture, a little darker, noisier and compressed."""
    image = load_image(data)
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    return encode_image((image * 0.9 + noise).clip(0, 255).astype(np.uint8), suffix=".jpg", quality=70)


def test_copies_across_splits_are_found_exact_or_nearly(tmp_path):
    train, test = [picture(k) for k in range(6)], [picture(2), altered(picture(4)), picture(9)]
    report = report_on(tmp_path, split_set(train, test))

    named = {(report.samples.names[c.first], report.samples.names[c.second], c.likeness == 1) for c in report.copies}
    assert {frozenset(pair[:2]) for pair in named} == {
        frozenset({"train/happy/2.png", "test/happy/0.png"}),
        frozenset({"train/happy/4.png", "test/happy/1.png"}),
    }
    assert sum(exact for *_, exact in named) == 1
    assert report.num_copied == {"train": 2, "test": 2} and report.repeated == 1
    assert any("exactly (1 pairs) or nearly (1 pairs): 2 of train, 2 of test" in line for line in report.problems)
    with pytest.raises(DataError, match=r"The data has problems: .* and 1 more"):
        report.refuse_problems()
    listed = report.to_json()["copies"]
    assert {row["first_split"] for row in listed} | {row["second_split"] for row in listed} == {"train", "test"}


def test_copies_beside_each_other_are_counted_but_no_problem(tmp_path):
    files = {**CLASSES, "happy/c.png": picture(0, "happiness"), "happy/d.png": altered(picture(1, "happiness"))}
    report = report_on(tmp_path, files)
    assert report.repeated == 1 and report.near == 2 and not report.copies and not report.problems


def test_identical_pictures_with_other_labels_contradict_each_other(tmp_path):
    report = report_on(tmp_path, {**CLASSES, "Angry/c.png": picture(0, "happiness")})
    assert report.conflicts == 1 and "contradict" in report.problems[0]


def test_blank_pictures_are_like_nothing_else(tmp_path):
    blank = {f"happy/b{k}.png": encode_image(np.full((40, 40, 3), k, np.uint8), suffix=".png") for k in (9, 200)}
    assert report_on(tmp_path, {**CLASSES, **blank}).near == 0


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({**CLASSES, "sad": None}, "expression: no picture of sadness."),
        ({**CLASSES, "sad/a.png": picture(0, "sadness")}, "expression: a single picture of sadness."),
        (
            {**CLASSES, "sad/a.png": picture(0, "sadness"), "sad/b.png": b"x"},
            "expression: a single readable picture of sadness to learn from.",
        ),
        (
            {**CLASSES, "sad/a.png": b"x", "sad/b.png": b"y"},
            "expression: no readable picture of sadness to learn from.",
        ),
        (
            {f"train/{n}": d for n, d in CLASSES.items()}
            | {"train/sad/a.png": picture(0, "sadness")}
            | {f"test/{n}": picture(7) for n in (*CLASSES, "sad/q.png")},
            "expression: a single readable picture of sadness to learn from.",
        ),
        ({"happy/a.png": picture(0), "happy/b.png": picture(1)}, "one class only"),
        ({"happy/a.png": picture(0)}, "There is one picture"),
        ({**CLASSES, "happy/x.png": b"x"}, "1 pictures cannot be read, as 'happy/x.png'"),
        ({**CLASSES, "stray.png": picture(0)}, "1 pictures stand in no folder"),
        (
            {f"train/{n}": d for n, d in CLASSES.items()} | {"test/happy/q.png": picture(7)},
            "no picture of anger in test",
        ),
    ],
)
def test_what_spoils_training_is_a_problem_in_one_line(tmp_path, files, problem):
    report = report_on(tmp_path, files)
    assert any(problem in line for line in report.problems)
    assert not any("\n" in line for line in report.problems)


def test_subjects_in_two_splits_are_counted_without_their_names(tmp_path):
    files = {f"{split}/{name}/{k}.png": picture(3, seed=k) for k, (split, name) in enumerate(
        [("train", "ann"), ("test", "ann"), ("train", "bob"), ("test", "cid")]
    )}  # fmt: skip
    report = report_on(tmp_path, files, kind="subjects")
    assert report.shared_subjects == 1 and "1 subjects stand in more than one split." in report.problems
    assert not any("ann" in problem for problem in report.problems)


def test_the_json_is_plain_and_complete(tmp_path):
    rows = [["path", "label", "split"], ["a.png", "happy", "train"], ["b.png", "hapy", "test"], ["c.png", "sad", "x"]]
    rows += [["a.png", "happy", "train"], ["a.png", "happy", "train"]]
    files = {"a.png": picture(0), "b.png": b"x", "c.png": picture(1), "list.csv": table(rows)}
    record = json.loads(json.dumps(report_on(tmp_path, files).to_json(), allow_nan=False))

    assert record["schema"] == "mien/data-inspection/1" and record["n"] == 5
    assert record["classes"]["expression"]["happiness"] == {"train": 3, "test": 0, "": 0}
    assert record["unlabelled"] == {"expression": 1} and record["unreadable"][0]["name"] == "b.png"
    assert record["splits"] == {"train": 3, "test": 1, "": 1}


def test_many_classes_are_shortened_to_the_largest_and_smallest(tmp_path):
    report = report_on(tmp_path, {f"c{k}/{i}.png": picture(k % 3) for k in range(30) for i in range(1 + k % 2)})
    lines = report.lines()
    assert any(line.startswith("... 12 more") for line in lines)
    assert len(lines) < 45
