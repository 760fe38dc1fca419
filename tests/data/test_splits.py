import numpy as np
import pytest

from mien.data.splits import by_subject, fill_valid, split_name, stratified
from mien.errors import DataError

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}


def test_data_sets_name_their_splits_in_several_ways():
    assert [split_name(text) for text in ("Training", "PublicTest", "PrivateTest", "val", "x")] == [
        "train", "valid", "test", "valid", None,
    ]  # fmt: skip


def test_every_class_is_divided_alike(rng):
    labels = rng.permutation(np.repeat([0, 1, -1], [100, 10, 20]))

    splits = stratified(labels, SHARES, seed=0)

    for label, count in ((0, 100), (1, 10), (-1, 20)):
        inside = splits[labels == label]
        assert [(inside == name).sum() for name in SHARES] == [share * count for share in SHARES.values()]


def test_another_seed_divides_otherwise_and_the_same_one_alike():
    labels = np.zeros(50, int)
    once, again, other = (stratified(labels, SHARES, seed=seed) for seed in (1, 1, 2))
    assert (once == again).all() and (once != other).any()


def test_no_subject_stands_in_two_splits_and_shares_are_nearly_kept(rng):
    subjects = np.array([f"s{k}" for k in rng.integers(0, 60, 600)])

    splits = by_subject(subjects, SHARES, seed=0)

    assert all(len(set(splits[subjects == name])) == 1 for name in set(subjects))
    for name, share in SHARES.items():
        assert abs((splits == name).mean() - share) < 0.03


def test_samples_without_a_subject_are_divided_one_by_one():
    splits = by_subject(np.array([""] * 10), SHARES, seed=0)
    assert [(splits == name).sum() for name in SHARES] == [6, 2, 2]


def test_splits_that_exist_are_kept_and_subjects_follow_them():
    given = np.array(["test", "", "", "valid", "", ""])
    subjects = np.array(["a", "a", "b", "c", "c", "d"])

    assert stratified(np.zeros(6, int), SHARES, seed=0, given=given)[[0, 3]].tolist() == ["test", "valid"]
    splits = by_subject(subjects, SHARES, seed=0, given=given)
    assert splits[[0, 1]].tolist() == ["test", "test"] and splits[[3, 4]].tolist() == ["valid", "valid"]


def test_a_missing_valid_is_cut_from_train_and_test_is_left_alone():
    splits = np.array(["train"] * 40 + ["test"] * 10)
    filled = fill_valid(splits, np.arange(50) % 2, share=0.1, seed=0)

    assert (filled[40:] == "test").all() and (filled == "valid").sum() == 4
    assert (fill_valid(filled, np.arange(50) % 2, seed=5) == filled).all()


def test_a_valid_that_is_cut_shares_no_subject_with_train():
    subjects = np.repeat([f"s{k}" for k in range(10)], 4)
    filled = fill_valid(np.full(40, ""), np.zeros(40, int), share=0.2, seed=0, subjects=subjects)

    assert set(filled) == {"train", "valid"}
    assert not set(subjects[filled == "train"]) & set(subjects[filled == "valid"])


def test_one_picture_cannot_be_learnt_from_and_checked():
    with pytest.raises(DataError, match="1 in train and 0 in valid"):
        fill_valid(np.array([""]), np.array([0]), seed=0)


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "test": -0.2}])
def test_shares_that_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(DataError, match="sum to 1"):
        stratified(np.zeros(3, int), shares, seed=0)
