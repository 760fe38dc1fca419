"""The audit on faces whose origin is known: drawn anew, copied, changed a little, averaged, blurred."""

import cv2
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from evaluation.memory import LATENTS, faces
from mien.errors import EvaluationError
from mien.evaluation.audit import Space, _chance_of_more_below, audit, compare, nearest, pixel_space, rank_sum
from mien.images import digest


@pytest.fixture
def people(rng):
    """Training faces and others of the same kind."""
    return faces(rng, 600), faces(rng, 200)


def audited(samples, people, **options):
    return audit(samples, *people, spaces=[pixel_space], **options)


# What passes, and what does not


def test_faces_drawn_anew_pass(rng, people):
    report = audited(faces(rng, 400), people)

    assert report.passed and report.to_json()["verdict"] == "passed"
    (space,) = report.spaces
    assert space.near_p_value > 0.01 and abs(space.pull) < 0.2 and space.copied_share == 0
    assert space.authentic == pytest.approx(space.holdout_authentic, abs=0.15)


def test_average_looking_faces_pass_although_they_are_nearer_to_everybody(rng):
    real = rng.normal(size=(800, 20)).astype(np.float32)
    average = 0.3 * rng.normal(size=(1, 400, 20)).astype(np.float32)

    space = compare(Space("s", "", average, real[:600], real[None, 600:]))

    assert space.test.z < -10 and space.closer_share > 0.1  # what knows no surroundings is deceived
    assert space.near_share == 0 and space.pull_p_value > 0.01


@pytest.mark.parametrize(
    "change",
    [
        lambda f, rng: f,
        lambda f, rng: f[:, ::-1],
        lambda f, rng: cv2.GaussianBlur(f, (0, 0), 0.6),
        lambda f, rng: np.clip(f + rng.normal(0, 12, f.shape), 0, 255).astype(np.uint8),
        lambda f, rng: np.clip(0.7 * f + 30.0, 0, 255).astype(np.uint8),
    ],
    ids=["as it is", "mirrored", "blurred", "noisy", "of less contrast"],
)
def test_training_faces_fail_however_they_are_changed(rng, people, change):
    train, _ = people
    copied = np.stack([change(face, rng) for face in train[rng.permutation(600)[:200]]])

    report = audited(copied, people)

    assert not report.passed and "pixels" in " ".join(report.reasons)


def test_a_few_copies_among_new_faces_are_enough_to_fail(rng, people):
    train, _ = people
    noisy = np.clip(train[:8] + rng.normal(0, 10, train[:8].shape), 0, 255).astype(np.uint8)

    report = audited(np.concatenate([faces(rng, 392), noisy]), people)

    assert report.copies == 0 and len(report.reasons) == 1
    assert "2.00% of the samples are copies of a training face but for small changes" in report.reasons[0]
    assert {pair.sample for pair in report.closest[:8]} == set(range(392, 400))
    assert [pair.train for pair in sorted(report.closest[:8], key=lambda p: p.sample)] == list(range(8))


# Cheats


def warped(face, rng):
    turn, (x, y) = rng.uniform(-8, 8), rng.uniform(-1, 1, 2) * len(face) / 16
    matrix = cv2.getRotationMatrix2D((7.5, 7.5), turn, 1.0) + np.array([[0, 0, x], [0, 0, y]])
    return cv2.warpAffine(face, matrix, face.shape[:2], borderMode=cv2.BORDER_REPLICATE)


def test_a_few_portraits_turned_and_shifted_among_new_faces_are_enough_to_fail(rng):
    people = faces(rng, 600), faces(rng, 600)
    copied = np.stack([warped(face, rng) for face in people[0][:32]])

    report = audited(np.concatenate([faces(rng, 768), copied]), people)

    assert not report.passed and report.copies == 0


@pytest.mark.parametrize("noise", [0, 3], ids=["to the pixel", "but for noise"])
def test_a_generator_whose_samples_are_all_one_face_fails(rng, people, noise):
    one = faces(rng, 1) + rng.normal(0, noise, (300, *people[0].shape[1:]))

    report = audited(np.clip(one, 0, 255).round().astype(np.uint8), people)

    reasons = " ".join(report.reasons)
    assert "nearly all one face" in reasons and ("another sample to the pixel" in reasons) == (noise == 0)


def test_an_audit_against_other_data_than_it_learned_from_fails(rng, people):
    forgotten = [digest(face) for face in faces(rng, 50)]
    known = [digest(face) for face in people[0]]

    assert audited(faces(rng, 300), people, learned=known).passed
    report = audited(faces(rng, 300), people, learned=[*known, *forgotten])
    assert report.reasons[0].startswith("50 of 650 pictures that it learned from are not among the training faces")
    assert "no record of what it learned from" in audited(faces(rng, 300), people).warnings[0]


def test_one_copy_to_the_pixel_is_counted_also_mirrored(rng, people):
    train, _ = people

    report = audited(np.concatenate([faces(rng, 298), train[3:4], train[5:6, :, ::-1]]), people)

    assert report.copies == 2 and report.reasons[0].startswith("2 of 300 samples are training faces to the pixel")


def test_averages_of_two_training_faces_are_pulled_to_training(rng, people):
    train, _ = people
    pairs = rng.integers(600, size=(300, 2))
    between = (0.65 * train[pairs[:, 0]] + 0.35 * train[pairs[:, 1]]).round().astype(np.uint8)

    (space,) = audited(between, people).spaces

    assert space.pull > 0.6 and space.pull_p_value < 1e-6


# The parts


def test_chance_covers_a_generator_that_draws_the_same_few_faces(rng, people):
    few = np.repeat(faces(rng, 4), 100, axis=0)

    report = audited(few, people)

    assert report.repeated == 396
    # All samples crowd around a few faces: that most of them are of training proves little.
    assert report.spaces[0].pull_p_value > 1e-3


def test_the_p_value_of_the_pull_is_that_of_exchanging_faces_at_random(rng):
    everyone = rng.normal(size=(60, 3)).astype(np.float32)
    samples = rng.normal(size=(1, 40, 3)).astype(np.float32)
    owner = nearest(samples, everyone, 1)[1][:, 0]
    shares = [np.isin(owner, rng.permutation(60)[:45]).mean() for _ in range(4000)]

    found = [
        compare(Space("s", "", samples, everyone[order[:45]], everyone[None, order[45:]]))
        for order in (rng.permutation(60) for _ in range(20))
    ]

    for one in found:
        assert one.chance == pytest.approx(np.mean(shares), abs=0.01)
        z = (one.nearest_is_training - np.mean(shares)) / np.std(shares)
        higher = np.mean([share >= one.nearest_is_training for share in shares])
        assert one.pull_p_value == pytest.approx(higher, abs=0.12), z


@pytest.mark.parametrize("rank", [1, 3])
def test_the_p_value_of_nearness_is_that_of_two_sets_alike(rng, rank):
    below = [(rng.random(40) < np.sort(rng.random(60))[rank - 1]).sum() for _ in range(4000)]

    for count in (0, 1, 3):
        share = np.mean([b >= count for b in below])
        assert _chance_of_more_below(count, 40, rank, 60) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "few ties"])
def test_the_rank_sum_agrees_with_scipy(rng, decimals):
    first, second = rng.normal(0, 1, 80).round(decimals), rng.normal(0.4, 1, 130).round(decimals)

    test = rank_sum(first, second)
    wanted = mannwhitneyu(first, second, alternative="less", method="asymptotic", use_continuity=False)

    assert test.smaller == pytest.approx(1 - wanted.statistic / (80 * 130))
    assert test.p_value == pytest.approx(wanted.pvalue, rel=1e-9)


def test_nearest_agrees_with_brute_force_over_views(rng):
    queries, reference = rng.normal(size=(2, 30, 5)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)

    distances, numbers = nearest(queries, reference, 4)

    table = np.linalg.norm(queries[:, :, None] - reference, axis=3).min(axis=0)
    np.testing.assert_array_equal(numbers, np.argsort(table, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :4], rtol=1e-4)


def test_a_model_that_knows_its_training_faces_is_told_by_their_reconstruction(rng, people):
    train, _ = people
    known = {face.tobytes() for face in train}

    def reconstruct(some):
        noise = np.where([face.tobytes() in known for face in some], 2.0, 6.0)[:, None, None, None]
        return np.clip(some + noise * rng.normal(size=some.shape), 0, 255).round().astype(np.uint8)

    report = audited(faces(rng, 200), people, reconstruct=reconstruct)

    assert report.membership.auc > 0.95 and report.membership.train_rmse < report.membership.holdout_rmse
    assert report.passed and any("overfitted" in line for line in report.warnings)


def test_a_fair_model_reconstructs_both_alike(rng, people):
    def halved(some):
        return (some // 8) * 8

    assert audited(faces(rng, 200), people, reconstruct=halved).membership.auc == pytest.approx(0.5, abs=0.06)


def test_identity_gives_cosines_of_samples_held_out_faces_and_impostors(rng):
    def unit(n):
        vectors = rng.normal(size=(n, LATENTS))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    space = Space("identity", "judge-1", unit(200)[None], unit(600), unit(200)[None])

    report = audit(*(faces(rng, n) for n in (200, 600, 200)), spaces=[lambda *_: space])

    best = (space.samples[0] @ space.train.T).max(axis=1)
    np.testing.assert_allclose(report.cosines["sample"], best, atol=1e-5)
    histogram = report.to_json()["identity_cosine"]
    assert sum(histogram["sample"]["counts"]) == 200 and sum(histogram["impostors"]["counts"]) == 10_000
    assert abs(histogram["impostors"]["median"]) < 0.02 < histogram["holdout"]["median"]


def test_repeated_training_faces_count_once_and_held_out_copies_of_them_not_at_all(rng, people):
    train, holdout = people

    report = audit(
        faces(rng, 200),
        np.concatenate([train, train[:50]]),
        np.concatenate([holdout, train[:30]]),
        spaces=[pixel_space],
    )

    assert report.counts == {"samples": 200, "train": 600, "holdout": 200, "holdout_left_out": 30}


# Refused


def test_held_out_faces_that_are_the_training_faces_are_refused(rng, people):
    train, _ = people
    with pytest.raises(EvaluationError, match=r"at least 100 held-out faces, got 0. .* 600 were left out: they are"):
        audited(faces(rng, 200), (train, train))


def test_too_few_samples_are_refused(rng, people):
    with pytest.raises(EvaluationError, match=r"at least 100 samples, got 20. Draw more with -n"):
        audited(faces(rng, 20), people)


def test_faces_of_two_sizes_are_refused(rng, people):
    with pytest.raises(EvaluationError, match="compares faces of one size"):
        audited(faces(rng, 200)[:, :8, :8], people)
