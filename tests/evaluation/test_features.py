"""Probes on features whose worth is known."""

import csv

import numpy as np
import pytest
from scipy.optimize import check_grad

from mien.errors import EvaluationError, UsageError
from mien.evaluation import features as module
from mien.evaluation.features import (
    FeatureTable,
    compare_features,
    labelled_share,
    linear_probe,
    nearest_neighbours,
    principal_components,
    save_features,
)

CLASSES = ("a", "b", "c")


@pytest.fixture
def labelled(rng):
    """Labels, splits, and features that tell the classes well, badly, and not at all."""
    labels = rng.integers(3, size=900)
    splits = np.repeat(["train", "valid", "test"], [500, 200, 200])
    centres = rng.normal(size=(3, 12))
    good = 2.0 * centres[labels] + rng.normal(size=(900, 12))
    bad = 0.5 * centres[labels] + rng.normal(size=(900, 12))
    kinds = {"good": good, "bad": bad, "noise": rng.normal(size=(900, 12))}
    return {name: x.astype(np.float32) for name, x in kinds.items()}, labels, splits


def test_better_features_and_more_labels_score_higher(labelled):
    report = compare_features(*labelled, CLASSES, shares=(0.02, 1.0), seeds=3)

    found = {(s.features, s.method, s.share): s for s in report.scores}
    for method in ("linear", "neighbours"):
        good, bad, noise = (found[name, method, 1.0].accuracy for name in ("good", "bad", "noise"))
        assert good > 0.95 > bad > noise + 0.1
        assert found["noise", method, 1.0].interval[0] < 1 / 3 < found["noise", method, 1.0].interval[1] + 0.02
        assert found["bad", method, 0.02].accuracy < bad
    assert report.counts == {"train": 500, "valid": 200, "test": 200}
    assert found["good", "linear", 0.02].seeds == 3 and found["good", "linear", 1.0].seeds == 1
    assert found["good", "linear", 0.02].labels == pytest.approx(10, abs=1)


def test_a_table_of_scores_is_json_and_words(labelled):
    report = compare_features(*labelled, CLASSES, shares=(0.05,), seeds=2)

    record = report.to_json()
    assert record["schema"] == "mien/features/1" and len(record["scores"]) == 6 and record["dimensions"]["good"] == 12
    assert report.text().splitlines()[0] == "| features | classifier | 5% |"
    assert report.text().count("| linear |") == 3


def test_labels_of_test_pictures_change_no_answer(labelled):
    kinds, labels, splits = labelled
    parts = [np.flatnonzero(splits == name) for name in ("train", "valid", "test")]
    x, y = [kinds["bad"][rows] for rows in parts], [labels[rows] for rows in parts]

    for method in (linear_probe, nearest_neighbours):
        answers = method(x[0], y[0], x[1], y[1], x[2], classes=3)
        report = compare_features({"bad": kinds["bad"]}, labels, splits, CLASSES, shares=(1.0,))
        assert answers.shape == (200,) and len(report.scores) == 2


def test_the_probe_follows_its_gradient(rng, monkeypatch):
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(3, size=40)
    seen = []
    monkeypatch.setattr("scipy.optimize.minimize", lambda f, start, **_: seen.append(f) or type("R", (), {"x": start}))
    module.fit_logistic(x, y, 0.1, np.zeros((4, 3)))
    (function,) = seen

    error = check_grad(lambda w: function(w)[0], lambda w: function(w)[1], rng.normal(size=12), epsilon=1e-3)

    assert error < 5e-3  # products are in single precision


def test_a_share_has_every_class_and_smaller_shares_are_inside_larger_ones(rng):
    labels = np.repeat([0, 1, 2], [100, 40, 3])

    small, large = (labelled_share(labels, share, seed=4) for share in (0.05, 0.5))

    assert np.bincount(labels[small]).tolist() == [5, 2, 1] and set(small) <= set(large)
    assert set(labelled_share(labels, 0.05, seed=5)) != set(small)


def test_votes_go_to_the_nearest_by_angle():
    train = np.array([[1, 0], [0.9, 0.1], [0, 9], [0, 1]], np.float32)
    labels = np.array([0, 0, 1, 1])

    answers = nearest_neighbours(train, labels, train, labels, np.array([[5, 1], [1, 5]], np.float32), classes=2)

    assert answers.tolist() == [0, 1]


def test_principal_components_are_those_of_a_singular_value_decomposition(rng):
    x = (rng.normal(size=(80, 6)) * [5, 4, 3, 1, 1, 1]).astype(np.float32)

    projected = principal_components(x, 3)(x)

    _, lengths, _ = np.linalg.svd(x - x.mean(axis=0))
    np.testing.assert_allclose(np.linalg.norm(projected, axis=0), lengths[:3], rtol=1e-4)


def test_intervals_are_wider_where_few_subjects_have_many_pictures():
    subjects = np.array([f"s{i % 5}" for i in range(200)])

    # Of one subject every answer is right or wrong together.
    right = np.repeat([[1, 0, 1, 1, 0]], 40, axis=0).ravel().astype(bool)[None]
    few = module.accuracy_interval(right, subjects)
    many = module.accuracy_interval(right, np.arange(200))

    assert few[1] - few[0] > 3 * (many[1] - many[0])


def test_a_missing_split_is_refused(labelled):
    kinds, labels, splits = labelled
    with pytest.raises(EvaluationError, match="train, valid and test; there is no valid"):
        compare_features(kinds, labels, np.where(splits == "valid", "train", splits), CLASSES)


def test_features_of_other_pictures_are_refused(labelled):
    kinds, labels, splits = labelled
    with pytest.raises(EvaluationError, match="There are 900 labels, got 899 rows of features 'good'"):
        compare_features({"good": kinds["good"][1:]}, labels, splits, CLASSES)


@pytest.fixture
def table(rng):
    values = rng.normal(size=(2, 3)).astype(np.float32)
    return FeatureTable(values, ("a,1.png", "b.png"), ("happiness", ""), ("", "s1"), ("train", "test"))


def test_a_csv_gives_the_features_back_to_the_last_bit(table, tmp_path):
    save_features(table, tmp_path / "f.csv")

    with open(tmp_path / "f.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["a,1.png", "b.png"] and rows[1]["subject"] == "s1"
    read = np.array([[row[f"z{i:03}"] for i in range(3)] for row in rows], np.float32)
    np.testing.assert_array_equal(read, table.features)


def test_an_npz_needs_no_pickle(table, tmp_path):
    save_features(table, tmp_path / "f.npz")

    with np.load(tmp_path / "f.npz", allow_pickle=False) as read:
        np.testing.assert_array_equal(read["features"], table.features)
        assert read["label"].tolist() == ["happiness", ""] and set(read) == {
            *("features", "path", "label", "subject", "split")
        }


def test_parquet_is_written_or_its_absence_named(table, tmp_path):
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        with pytest.raises(UsageError, match=r"Parquet needs pyarrow. Install it with: pip install pyarrow"):
            save_features(table, tmp_path / "f.parquet")
        return
    save_features(table, tmp_path / "f.parquet")
    np.testing.assert_array_equal(
        np.array(parquet.read_table(tmp_path / "f.parquet")["features"].to_pylist(), np.float32), table.features
    )


def test_another_kind_of_file_is_refused(table, tmp_path):
    with pytest.raises(UsageError, match=r"written as .parquet, .csv, .npz, not as '.pkl'"):
        save_features(table, tmp_path / "f.pkl")
    assert not list(tmp_path.iterdir())
