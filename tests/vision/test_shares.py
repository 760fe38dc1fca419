"""Class shares: what they do to probabilities, and how they are given."""

import json

import numpy as np
import pytest

from mien.errors import UsageError
from mien.vision.shares import check_shares, log_prior, read_shares

LABELS = ("neutral", "happiness", "fear")
LEARNED = np.array([0.6, 0.3, 0.1])


def told(likelihoods, shares):
    """The posterior of a network that learned LEARNED, moved to other shares."""
    learned = np.log(np.array(likelihoods) * LEARNED)
    moved = np.exp(learned + log_prior(shares, LABELS, LEARNED))
    return moved / moved.sum()


def test_equal_shares_leave_the_likelihoods():
    np.testing.assert_allclose(told([0.2, 0.3, 0.5], "equal"), [0.2, 0.3, 0.5])


def test_other_shares_multiply_the_likelihoods_and_need_not_sum_to_one():
    # 0.2 x 2 : 0.3 x 1 : 0.5 x 2
    np.testing.assert_allclose(
        told([0.2, 0.3, 0.5], {"neutral": 2, "happiness": 1, "fear": 2}), np.array([4, 3, 10]) / 17
    )


def test_learned_shares_change_nothing():
    np.testing.assert_array_equal(log_prior("learned", LABELS, None), np.zeros(3))


def test_a_class_without_a_share_is_never_told():
    assert told([0.2, 0.3, 0.5], {"neutral": 1, "happiness": 1})[2] == 0


def test_a_class_that_was_never_learned_is_never_told():
    moved = log_prior("equal", LABELS, np.array([0.7, 0.3, 0.0]))
    assert np.isneginf(moved[2]) and np.isfinite(moved[:2]).all()


@pytest.mark.parametrize("name", ["shares.json", "shares.toml"])
def test_a_file_holds_a_share_for_each_expression(tmp_path, name):
    shares = {"neutral": 0.5, "happiness": 3.0}
    text = json.dumps(shares) if name.endswith("json") else "neutral = 0.5\nhappiness = 3\n"
    (tmp_path / name).write_text(text)
    assert read_shares(str(tmp_path / name)) == shares
    assert read_shares("equal") == "equal"


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("even", "learned, equal, or a number for each expression; got 'even'"),
        (3, "got 3"),
        ({"joy": 1, "fear": 1}, "got one of 'joy'"),
        ({"neutral": -1, "fear": 1}, "share of neutral is a number from 0, got -1"),
        ({"neutral": True, "fear": 1}, "got True"),
        ({"neutral": 1, "fear": 0}, "at least two"),
    ],
)
def test_what_are_no_shares_is_refused_in_one_line(shares, said):
    with pytest.raises(UsageError, match=said) as caught:
        check_shares(shares)
    assert "\n" not in str(caught.value)


def test_shares_of_classes_that_the_network_lacks_are_refused():
    with pytest.raises(UsageError, match="knows neutral, happiness, fear"):
        log_prior({"anger": 1, "contempt": 1}, LABELS, LEARNED)


@pytest.mark.parametrize(("text", "said"), [("{", "no valid JSON"), ("[1, 2]", "holds no shares")])
def test_a_file_without_shares_is_refused(tmp_path, text, said):
    (tmp_path / "shares.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_shares(str(tmp_path / "shares.json"))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--shares is learned or equal, or a file"):
        read_shares(str(tmp_path / "none.json"))
