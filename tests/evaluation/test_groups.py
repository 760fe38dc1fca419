"""Rates by group, on vectors whose scores are known."""

from pathlib import Path

import numpy as np
import pytest

from mien.errors import EvaluationError, UsageError
from mien.evaluation.acquisition import Samples
from mien.evaluation.groups import People, measure_groups, rates_within, read_groups
from mien.types import OperatingPoint, as_unit

POINT = OperatingPoint(1e-3, 0.9, 1e-3, 0.1, (5e-4, 2e-3), (0.05, 0.2), 100, 1000, "celebrities")


def brute_force(vectors, subjects, threshold):
    """Compare each pair, one by one."""
    counts = {True: [0, 0], False: [0, 0]}
    for i in range(len(vectors)):
        for j in range(i):
            same = bool(subjects[i] == subjects[j])
            counts[same][0] += 1
            counts[same][1] += bool(vectors[i] @ vectors[j] >= threshold)
    return counts


def test_rates_are_those_of_comparing_each_pair(rng):
    vectors = as_unit(rng.normal(0.5, 1, (60, 6)))
    subjects = rng.integers(0, 25, 60)

    rates = rates_within("somebody", vectors, subjects, 0.6)

    counts = brute_force(vectors, subjects, 0.6)
    assert (rates.num_impostor, rates.num_genuine) == (counts[False][0], counts[True][0])
    assert rates.fmr == pytest.approx(counts[False][1] / counts[False][0])
    assert rates.fnmr == pytest.approx(1 - counts[True][1] / counts[True][0])
    assert rates.fmr_interval[0] < rates.fmr < rates.fmr_interval[1]


def test_pictures_of_more_than_one_part_are_counted_once(rng):
    vectors = as_unit(rng.normal(0.5, 1, (1100, 3)))
    subjects = np.arange(1100)

    rates = rates_within("many", vectors, subjects, 0.9)

    scores = (vectors @ vectors.T)[np.triu_indices(1100, 1)]
    assert rates.num_impostor == len(scores)
    assert rates.fmr == pytest.approx(float((scores >= 0.9).mean()), abs=2e-6)


def test_no_false_match_at_all_leaves_an_interval_and_no_certainty():
    rates = rates_within("alone", np.eye(20, dtype=np.float32), np.arange(20), 0.5)

    assert rates.fmr == 0
    assert rates.fmr_interval[0] == 0 and rates.fmr_interval[1] > 0.1
    assert rates.fnmr is None and rates.fnmr_interval is None


def people(sex, origin):
    paths = tuple(Path(f"{number}.jpg") for number in range(len(sex)))
    return People(paths, tuple(str(path) for path in paths), {"origin": tuple(origin), "sex": tuple(sex)})


def samples(vectors):
    return Samples(vectors.astype(np.float32), np.ones(len(vectors), bool), (None,) * len(vectors), (), {})


def test_groups_are_each_attribute_and_all_together_and_the_worst_comes_first():
    """Twelve people of one origin all look alike; twelve of the other don't."""
    alike, different = np.tile(np.eye(24)[0], (12, 1)), np.eye(24)[12:]
    listed = people(["f"] * 24, ["north"] * 12 + ["south"] * 12)

    report = measure_groups(
        samples(np.concatenate([alike, different])), listed, point=POINT, dataset="list.csv", embedder="e"
    )

    assert next(group.group for group in report.groups) in ("north", "north f")
    assert {group.group: group.fmr for group in report.groups} == {
        "north f": 1.0, "north": 1.0, "south f": 0.0, "south": 0.0, "f": pytest.approx(66 / 276),
    }  # fmt: skip
    assert report.ratio is None  # a group without a false match has no ratio
    assert report.to_json()["worst_fmr"] == 1.0


def test_a_group_of_too_few_people_is_named_and_left_out(rng):
    listed = people(["f"] * 15 + ["m"] * 3, ["north"] * 18)

    report = measure_groups(samples(as_unit(rng.normal(size=(18, 8)))), listed, point=POINT, dataset="l", embedder="e")

    assert report.too_small == {"north m": 3, "m": 3}
    assert "m" not in {group.group for group in report.groups}


def test_only_small_groups_are_an_error(rng):
    listed = people(["f"] * 5, ["north"] * 5)

    with pytest.raises(EvaluationError, match="No group has 10 people"):
        measure_groups(samples(as_unit(rng.normal(size=(5, 8)))), listed, point=POINT, dataset="l", embedder="e")


def test_a_list_names_pictures_subjects_and_attributes(tmp_path):
    (tmp_path / "who.csv").write_text("Path; Subject; Sex\na\\1.jpg; ann; f\nb/2.jpg; bo;\n", encoding="utf-8")

    listed = read_groups(tmp_path / "who.csv")

    assert listed.paths == (tmp_path / "a/1.jpg", tmp_path / "b/2.jpg")
    assert listed.subjects == ("ann", "bo")
    assert listed.attributes == {"sex": ("f", "")}
    assert {name: chosen.tolist() for name, chosen in listed.groups().items()} == {"f": [True, False]}


def test_without_subjects_folders_are_people_and_pictures_of_one_folder_are_strangers(tmp_path):
    file = tmp_path / "who.csv"
    file.write_text("path,age\nann/1.jpg,old\nann/2.jpg,old\nbo/1.jpg,old\n", encoding="utf-8")
    assert len(set(read_groups(file).subjects)) == 2
    file.write_text("path,age\n1.jpg,old\n2.jpg,old\n", encoding="utf-8")
    assert len(set(read_groups(file).subjects)) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,sex\n1.jpg,f\n", "should have the column path"),
        ("path\n1.jpg\n", "one a group's attribute"),
        ("", "no rows"),
    ],
    ids=["no path", "no attribute", "empty"],
)
def test_a_list_without_its_columns_is_refused(tmp_path, text, sentence):
    (tmp_path / "who.csv").write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=sentence):
        read_groups(tmp_path / "who.csv")
