import json
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest

from evaluation.fake import CARD, FakeAnalyzer, write_lfw
from mien.errors import EvaluationError
from mien.evaluation.acquisition import Samples
from mien.evaluation.pairs import PairSet, read_pairs
from mien.evaluation.verification import measure_pairs, verify_pairs
from mien.images import encode_image
from mien.metrics.intervals import wilson


def drawn_pairs(rng, *, per_kind=300, subjects=100, noise=1.0, failures=()):
    """Two pictures a subject on random directions, and random pairs of them."""
    centres = rng.normal(size=(subjects, 32))
    vectors = np.repeat(centres, 2, axis=0) + noise * rng.normal(size=(2 * subjects, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owner = np.repeat(np.arange(subjects), 2)
    a = rng.integers(subjects, size=per_kind)
    b = (a + rng.integers(1, subjects, size=per_kind)) % subjects
    first, second = np.concatenate([2 * a, 2 * a]), np.concatenate([2 * a + 1, 2 * b + 1])
    same = np.repeat([True, False], per_kind)
    acquired = np.ones(len(vectors), dtype=bool)
    acquired[list(failures)] = False
    names = tuple(f"{i}.jpg" for i in range(len(vectors)))
    folds = np.tile(np.arange(per_kind) * 10 // per_kind, 2)
    pairs = PairSet("drawn", names, names, first, second, same, folds, owner)
    return Samples(vectors, acquired, (None,) * len(vectors), tuple(failures), {}), pairs


def test_a_whole_protocol_from_files_to_json(tmp_path):
    analyzer, seen = FakeAnalyzer(noise=0.8), []
    pairs = read_pairs(write_lfw(tmp_path))

    report = verify_pairs(analyzer, pairs, progress=lambda: seen.append(1))
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))

    assert record["schema"] == "mien/evaluation-verification/1"
    assert (record["n_pairs"], record["n_genuine"], record["n_impostor"]) == (120, 60, 60)
    assert (record["embedder"], record["detector"], record["dataset"]) == (CARD.id, "drawn", "pairs.txt")
    assert 0.5 < record["accuracy"] <= 1.0 and len(record["folds"]) == 10
    assert record["accuracy_interval"][0] <= record["accuracy"] <= record["accuracy_interval"][1]
    assert set(record["tar_at_fmr"]) == {"1e-1", "1e-2", "1e-3", "1e-4"}
    assert record["tar_at_fmr"]["1e-1"] > 0.5
    assert record["tar_at_fmr"]["1e-3"] is None
    assert "needs at least 1000 impostor scores, got 60" in record["tar_at_fmr_reason"]["1e-3"]
    assert record["fta"] == [] and record["unreadable"] == {}
    assert [point["threshold"] for point in record["operating_points"]] == [0.3, 0.5]
    assert record["smallest_fmr"] == {"rule_of_three": 0.05, "rule_of_thirty": 0.5}
    assert 0 < record["cllr"] < 1
    assert len(seen) == record["n_pictures"]


def test_each_picture_is_analysed_once(tmp_path):
    analyzer = FakeAnalyzer()
    verify_pairs(analyzer, read_pairs(write_lfw(tmp_path)))

    assert len(analyzer.seen) == len(set(analyzer.seen)) == 60


def test_a_picture_without_a_face_is_listed_and_its_pairs_are_errors(tmp_path):
    path = write_lfw(tmp_path)
    whole = verify_pairs(FakeAnalyzer(noise=0.1), read_pairs(path))
    (tmp_path / "subject_0" / "subject_0_0001.jpg").write_text("empty")
    (tmp_path / "subject_1" / "subject_1_0001.jpg").write_text("text that is no picture")

    pairs = read_pairs(path)
    report = verify_pairs(FakeAnalyzer(noise=0.1), pairs)

    lost = [
        i for i, p in enumerate(pairs.pictures) if p in ("subject_0/subject_0_0001.jpg", "subject_1/subject_1_0001.jpg")
    ]
    touched = np.isin(pairs.first, lost) | np.isin(pairs.second, lost)
    assert whole.accuracy.mean == 1.0
    assert report.fta == ("subject_0/subject_0_0001.jpg",)
    assert report.unreadable == {"subject_1/subject_1_0001.jpg": "subject_1_0001.jpg is no picture."}
    assert report.num_pairs == 120
    assert report.accuracy.mean == pytest.approx(1 - touched.sum() / 120)
    assert np.array_equal(np.isneginf(report.scores), touched)
    # A lost mated pair is refused at every threshold; a lost non-mated pair does not lower FMR.
    assert report.tar_at_fmr["1e-1"].value == pytest.approx(1 - touched[pairs.same].mean())
    assert report.operating_points[0].num_impostor == 60 - touched[~pairs.same].sum()


def test_scores_are_the_cosines_of_the_pairs(rng):
    samples, pairs = drawn_pairs(rng)
    report = measure_pairs(samples, pairs, card=CARD)

    slow = [float(samples.vectors[a] @ samples.vectors[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert report.scores == pytest.approx(slow, abs=1e-6)
    genuine, impostor = report.scores[pairs.same], report.scores[~pairs.same]
    for point in report.operating_points:
        assert point.fmr == np.mean(impostor >= point.threshold)
        assert point.fnmr == np.mean(genuine < point.threshold)


def test_intervals_hold_their_rates_and_are_repeatable(rng):
    samples, pairs = drawn_pairs(rng, noise=1.6)

    report, again = (measure_pairs(samples, pairs, card=CARD) for _ in range(2))

    assert report.to_json() == again.to_json()
    assert report.accuracy_interval[0] < report.accuracy.mean < report.accuracy_interval[1]
    assert report.eer_interval[0] < report.eer < report.eer_interval[1]
    for rate in report.tar_at_fmr.values():
        if rate.value is not None:
            assert rate.interval[0] <= rate.value <= rate.interval[1]
    assert np.all((report.det.low <= report.det.fnmr + 1e-9) | (report.det.fnmr == 0))
    assert np.all(np.diff(report.det.fmr) < 0) and np.all(np.diff(report.det.fnmr) >= 0)


def test_few_subjects_make_wider_intervals_than_pairs_alone_suggest(rng):
    samples, pairs = drawn_pairs(rng, per_kind=2000, subjects=15, noise=1.6)

    report = measure_pairs(samples, pairs, card=CARD)

    naive = wilson(int(report.accuracy.correct.sum()), len(pairs))
    assert np.ptp(report.accuracy_interval) > 2 * np.ptp(naive)


def test_a_perfect_result_is_still_uncertain(rng):
    samples, pairs = drawn_pairs(rng, noise=0.01)

    report = measure_pairs(samples, pairs, card=CARD)

    assert (report.accuracy.mean, report.eer, report.tar_at_fmr["1e-2"].value) == (1.0, 0.0, 1.0)
    assert report.accuracy_interval == wilson(600, 600)
    assert report.eer_interval == wilson(0, 300)
    assert report.tar_at_fmr["1e-2"].interval == wilson(300, 300)


def test_a_set_of_lfws_size_is_measured_in_seconds(rng):
    samples, pairs = drawn_pairs(rng, per_kind=3000, subjects=4000)

    start = time.process_time()
    measure_pairs(samples, pairs, card=CARD)

    assert time.process_time() - start < 10


def test_a_card_without_calibration_has_no_cllr(rng):
    samples, pairs = drawn_pairs(rng)
    bare = replace(CARD, probability=None, operating_points=())

    report = measure_pairs(samples, pairs, card=bare)

    assert report.cllr is None and report.operating_points == ()


def test_without_any_face_there_is_nothing_to_report(tmp_path):
    path = write_lfw(tmp_path)
    for picture in tmp_path.glob("*/*.jpg"):
        picture.write_text("empty")

    with pytest.raises(EvaluationError, match="No face was found in any of 60 pictures"):
        verify_pairs(FakeAnalyzer(), read_pairs(path))


def test_without_a_compared_impostor_fmr_is_not_invented(rng):
    samples, pairs = drawn_pairs(rng)
    samples.acquired[pairs.second[~pairs.same]] = False
    samples.acquired[[0, 1]] = True
    pairs.first[pairs.same], pairs.second[pairs.same] = 0, 1
    pairs.second[~pairs.same] = 3
    samples.acquired[3] = False

    with pytest.raises(EvaluationError, match="No non-mated pair has a face in both"):
        measure_pairs(samples, pairs, card=CARD)


def test_an_aligned_set_is_warped_to_the_embedders_template_and_not_detected(tmp_path, rng):
    def crop(colour, side=112):
        image = np.full((side, side, 3), 127, dtype=np.uint8)
        image[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = colour
        return encode_image(image, suffix=".png")

    pictures, labels = [], []
    for k in range(20):
        base = rng.choice([0, 255], size=3)
        other = 255 - base
        near = np.abs(base.astype(int) - 5 - k).astype(np.uint8)
        pictures += [crop(base), crop(near, side=112 if k % 2 else 224), crop(base), crop(other)]
        labels += [True, False]
    pictures[4] = b"no picture at all"
    (tmp_path / "set.bin").write_bytes(pickle.dumps((pictures, labels)))
    seen = []

    pairs = read_pairs(tmp_path / "set.bin")
    report = verify_pairs(FakeAnalyzer(), pairs, progress=lambda: seen.append(1))

    assert report.detector == "" and report.to_json()["detector"] is None
    assert len(report.unreadable) == 1 and report.fta == ()
    assert len(seen) == len(pairs.pictures)
    assert report.accuracy.mean == pytest.approx(39 / 40)
    assert np.nanmin(report.scores[pairs.same][np.isfinite(report.scores[pairs.same])]) > 0.9
