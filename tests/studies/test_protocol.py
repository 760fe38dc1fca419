import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.studies.protocol import Arm, Comparison, Protocol, compare, holm

ARMS = (Arm("plain", "as it is"), Arm("new", "with something"), Arm("same", "with nothing"))


def protocol(**changed):
    facts = {
        "name": "toy", "question": "Does it help?", "measure": "macro-F1", "arms": ARMS, "settings": ("all",),
        "seeds": 3, "planned": (Comparison("new", "plain", "all"),),
    }  # fmt: skip
    return Protocol(**{**facts, **changed})


def figures(rng, **gains):
    """Every run of an arm: a noisy value, and 400 resampled test sets around it that the arms share."""
    values, measured = {}, {}
    for seed in range(5):
        luck = rng.normal(0, 0.02, 400)
        for arm, gain in {"plain": 0.0, **gains}.items():
            value = 0.5 + gain + rng.normal(0, 0.002)
            values[arm, "all", seed] = value
            measured[arm, "all", seed] = value + luck + rng.normal(0, 0.002, 400)
    return measured, values


def test_one_seed_of_everything_comes_before_the_next():
    cells = protocol(settings=("10%", "100%"), planned=()).cells()

    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6 + [2] * 6
    assert len({cell.name for cell in cells}) == 18


def test_an_arm_is_run_at_its_own_settings_and_one_without_any_at_all_of_them():
    arms = (ARMS[0], Arm("fill", "fills in", settings=("covered",)))
    cells = protocol(arms=arms, settings=("blurred", "covered"), seeds=1, planned=()).cells()

    assert [(cell.arm, cell.setting) for cell in cells] == [
        ("plain", "blurred"),
        ("plain", "covered"),
        ("fill", "covered"),
    ]


def test_an_arm_that_is_compared_but_not_run_is_refused():
    with pytest.raises(EvaluationError, match="compares new with gone at all"):
        protocol(planned=(Comparison("new", "gone", "all"),))


def test_a_gain_is_shown_and_what_is_no_gain_is_not(rng):
    asked = [Comparison("new", "plain", "all", wanted=0.01), Comparison("same", "plain", "all", wanted=0.01)]

    better, equal = compare(asked, *figures(rng, new=0.03, same=0.0))

    assert better.holds and better.sentence().startswith("Yes: at all, 'new' beats 'plain' by +")
    assert not equal.holds and equal.sentence().startswith("Not shown")
    assert better.interval[0] > 0 > equal.interval[0]


def test_a_gain_that_is_real_but_smaller_than_wanted_does_not_switch_anything_on(rng):
    (one,) = compare([Comparison("new", "plain", "all", wanted=0.05)], *figures(rng, new=0.03))

    assert not one.holds and "less than wanted" in one.sentence()


def test_harm_is_called_harm(rng):
    (one,) = compare([Comparison("new", "plain", "all")], *figures(rng, new=-0.03))

    assert one.sentence().startswith("No, it hurts")


def test_runs_are_paired_by_seed_and_those_without_a_partner_are_left_out(rng):
    measured, values = figures(rng, new=0.03)
    del values["plain", "all", 4]

    (one,) = compare([Comparison("new", "plain", "all")], measured, values)

    assert one.seeds == 4
    with pytest.raises(EvaluationError, match="No seed has runs of both"):
        compare([Comparison("new", "plain", "10%")], measured, values)


def test_a_loss_that_is_borne_is_what_the_p_value_is_about(rng):
    (borne,) = compare([Comparison("new", "plain", "all", wanted=-0.05)], *figures(rng, new=0.0))
    (asked,) = compare([Comparison("new", "plain", "all", wanted=0.05)], *figures(rng, new=0.0))

    assert borne.holds and borne.p_value < 0.01 and asked.p_value > 0.05


def test_p_values_are_corrected_by_holms_method():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
