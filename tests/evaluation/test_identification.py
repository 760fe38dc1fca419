import json

import numpy as np
import pytest

from evaluation.fake import CARD, FakeAnalyzer, write_faces
from mien.errors import EvaluationError
from mien.evaluation.identification import identify_folders, scan
from mien.metrics.identification import fpir_from_fmr


@pytest.fixture
def folders(tmp_path):
    """Ten enrolled subjects with two references; two probes each of them and of five strangers."""
    gallery, probes = tmp_path / "gallery", tmp_path / "probes"
    write_faces(gallery, 10, 2)
    write_faces(probes, 15, 2, start=3)
    return gallery, probes


def gallery_score(probe, references):
    """The mean of the best sample's score and that of one template of all samples."""
    directions = np.mean([r[:-1] / np.linalg.norm(r[:-1]) for r in references], axis=0)
    crowding = np.mean([r[-1] / np.linalg.norm(r[:-1]) for r in references])
    template = np.append(directions / np.linalg.norm(directions), crowding)
    return (max(probe @ r for r in references) + probe @ template / np.linalg.norm(template)) / 2


def identify_by_brute_force(gallery, probes, noise):
    """Compare every probe with every subject, one at a time."""
    analyzer = FakeAnalyzer(noise)

    def vectors(tree):
        return {
            folder.name: [analyzer.picture(p).faces[0].embedding.vector for p in sorted(folder.iterdir())]
            for folder in sorted(tree.iterdir())
        }

    enrolled, found, best = vectors(gallery), [], []
    for subject, probe in ((s, p) for s, all_ in vectors(probes).items() for p in all_):
        scores = {name: gallery_score(probe, references) for name, references in enrolled.items()}
        if subject in enrolled:
            rank = sorted(scores, key=scores.get, reverse=True).index(subject) + 1
            found.append((rank, scores[subject]))
        else:
            best.append(max(scores.values()))
    return np.array([r for r, _ in found]), np.array([s for _, s in found]), np.array(best)


def test_agrees_with_comparing_one_by_one(folders):
    report = identify_folders(FakeAnalyzer(2.5), *folders)
    ranks, scores, best = identify_by_brute_force(*folders, 2.5)

    assert report.cmc.tolist() == [np.mean(ranks <= k) for k in range(1, 11)]
    assert 0 < report.rank1 < 1
    fnir = min(
        np.mean((ranks > 1) | (scores < t))
        for t in np.nextafter(np.concatenate([scores, best]).astype(np.float32), np.float32(2))
        if np.mean(best >= t) <= 0.1
    )
    assert report.fnir_at_fpir["1e-1"].value == pytest.approx(fnir)
    for point in report.operating_points:
        assert point.fpir == pytest.approx(np.mean(best >= point.threshold))
        assert point.fnir == pytest.approx(np.mean((ranks > 1) | (scores < point.threshold)))
        assert point.expected_fpir == fpir_from_fmr(point.target_fmr, 10)


def test_the_report_as_json(folders):
    seen = []
    report = identify_folders(FakeAnalyzer(), *folders, progress=lambda: seen.append(1))
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))

    assert record["schema"] == "mien/evaluation-identification/1"
    assert (record["n_subjects"], record["n_references"]) == (10, 20)
    assert (record["n_mated"], record["n_nonmated"]) == (20, 10)
    assert (record["embedder"], record["detector"]) == (CARD.id, "drawn")
    assert record["rank1"] == record["cmc"][0] == 1.0
    assert set(record["fnir_at_fpir"]) == {"1e-1", "1e-2", "1e-3", "1e-4"}
    assert record["fnir_at_fpir"]["1e-2"] is None
    assert "needs at least 100 non-mated searches, got 10" in record["fnir_at_fpir_reason"]["1e-2"]
    assert record["rank1_interval"][0] < 1.0
    assert record["smallest_fpir"] == pytest.approx(0.3)
    assert len(seen) == 50


def test_failures_are_misses_and_are_listed(folders):
    gallery, probes = folders
    for picture in (gallery / "subject_0").iterdir():
        picture.write_text("empty")
    (gallery / "nobody").mkdir()
    (probes / "subject_1" / "subject_1_0003.jpg").write_text("empty")
    (probes / "subject_12" / "subject_12_0003.jpg").write_text("empty")
    (probes / "subject_2" / "subject_2_0003.jpg").write_text("text")

    report = identify_folders(FakeAnalyzer(0.1), gallery, probes)

    assert report.fte == ("nobody", "subject_0")
    assert set(report.fta) == {
        "subject_0/subject_0_0001.jpg",
        "subject_0/subject_0_0002.jpg",
        "subject_1/subject_1_0003.jpg",
        "subject_12/subject_12_0003.jpg",
    }
    assert list(report.unreadable) == ["subject_2/subject_2_0003.jpg"]
    # Two probes of the subject who could not be enrolled, one without a face, one unreadable.
    assert report.rank1 == report.cmc[-1] == pytest.approx(16 / 20)
    assert report.fnir_at_fpir["1e-1"].reason.endswith("larger FPIR.")  # Nine strangers are left.
    assert report.num_nonmated == 10


def test_unknown_probes_are_strangers_even_where_nobody_else_is(tmp_path):
    write_faces(tmp_path / "gallery", 3, 1)
    write_faces(tmp_path / "probes", 3, 1, start=2)
    (tmp_path / "probes" / "unknown").mkdir()
    for k in range(12):
        (tmp_path / "probes" / "unknown" / f"{k}.jpg").write_text(f"face {50 + k} {k}")

    report = identify_folders(FakeAnalyzer(), tmp_path / "gallery", tmp_path / "probes")

    assert (report.num_mated, report.num_nonmated) == (3, 12)
    assert report.fnir_at_fpir["1e-1"].value == 0.0


def test_without_strangers_fpir_is_not_measured_and_says_so(tmp_path):
    write_faces(tmp_path / "gallery", 3, 1)
    write_faces(tmp_path / "probes", 3, 1, start=2)

    record = identify_folders(FakeAnalyzer(), tmp_path / "gallery", tmp_path / "probes").to_json()

    assert record["n_nonmated"] == 0 and record["smallest_fpir"] is None
    assert "got 0" in record["fnir_at_fpir_reason"]["1e-1"]
    assert record["operating_points"][0]["fpir"] is None


def test_a_probe_that_is_the_enrolled_picture_is_reported(folders):
    gallery, probes = folders
    (probes / "subject_4" / "copy.jpg").write_bytes((gallery / "subject_4" / "subject_4_0001.jpg").read_bytes())

    assert identify_folders(FakeAnalyzer(), gallery, probes).repeated == ("subject_4/copy.jpg",)


def test_many_probes_are_searched_in_blocks(folders, monkeypatch):
    whole = identify_folders(FakeAnalyzer(2.5), *folders)
    monkeypatch.setattr("mien.evaluation.identification.BLOCK", 7)

    assert identify_folders(FakeAnalyzer(2.5), *folders).to_json() == whole.to_json()


def test_folders_that_cannot_be_compared_are_refused(folders, tmp_path):
    gallery, probes = folders
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.jpg").write_text("face 0 0")
    write_faces(tmp_path / "others", 2, 1, first=90)

    for wrong in (tmp_path / "flat", tmp_path / "none"):
        with pytest.raises(EvaluationError, match="Expected one folder of pictures a subject"):
            identify_folders(FakeAnalyzer(), wrong, probes)
    with pytest.raises(EvaluationError, match="No folder of probes has the name"):
        identify_folders(FakeAnalyzer(), gallery, tmp_path / "others")
    (gallery / "subject_0").rename(gallery / "unknown")
    with pytest.raises(EvaluationError, match="kept for strangers"):
        identify_folders(FakeAnalyzer(), gallery, probes)


def test_hidden_folders_are_no_subjects(folders):
    gallery, _ = folders
    (gallery / ".cache").mkdir()

    assert len(scan(gallery).subjects) == 10
