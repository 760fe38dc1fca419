"""The study of restoring before recognition, on drawn people and with a recogniser that sees colours alone."""

import json
import pickle
import shutil
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from mien.alignment import TEMPLATES
from mien.drawing import draw_face
from mien.errors import DataError, EvaluationError, ModelError, UsageError
from mien.images import save_image
from mien.studies import engine
from mien.studies.protocol import Cell, resampled_counts
from mien.studies.report import draw_plot, page, table
from mien.studies.restoration import AS_IS, FMR, RestorationStudy, _resampled
from mien.studies.spoilt import CONDITIONS, COVERED, Listed, Pair, Shown, find_pairs, list_pairs, packed, unpacked
from mien.types import as_unit
from mien.vision.finding import cut_face
from vision.generators import save_generator
from vision.restorers import ADDED, save_restorer

PEOPLE, SIDE, NOISE = 12, 80, "noise 40"
MARKS = draw_face(0, side=SIDE).landmarks


class Embedder:
    """Sees the colours of a face, coarsely."""

    cohort = None

    def crop(self, image, landmarks):
        return cut_face(image, landmarks, points=TEMPLATES["arcface-112"].points_at(32), side=32)

    def describe(self, crops):
        seen = np.stack([cv2.resize(crop, (4, 4), interpolation=cv2.INTER_AREA).ravel() for crop in crops])
        return as_unit(seen.astype(np.float32) - 110)


class Networks:
    def __init__(self, count):
        self.embedders = [Embedder()] * count

    def expressions(self, faces):
        return np.array(["neutral" if face.image.mean() < 250 else "surprise" for face in faces])


def find(image):
    return MARKS if image.std() > 1 else None


@dataclass(frozen=True)
class MadeUp(RestorationStudy):
    @property
    def _networks(self):
        return Networks(max(len(self.embedders), 1))

    @property
    def _finder(self):
        return find


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Twelve people with two pictures, one with a single picture, one of whom a picture shows no face."""
    folder = tmp_path_factory.mktemp("people")
    for person in range(PEOPLE + 2):
        (folder / f"p{person:02}").mkdir()
        for seed in range(1 if person == PEOPLE else 2):
            save_image(folder / f"p{person:02}" / f"{seed}.png", draw_face(person, side=SIDE, seed=seed).image)
    save_image(folder / f"p{PEOPLE + 1}" / "0.png", np.full((SIDE, SIDE, 3), 90, np.uint8))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_restorer(tmp_path_factory.mktemp("restorer") / "run", gate=ADDED - 1))


@pytest.fixture(scope="module")
def finished(people, model, tmp_path_factory):
    out, lines = tmp_path_factory.mktemp("study"), []
    arms = (AS_IS, "unsharp", "telea", "network-gated")
    study = MadeUp(people, model=model, conditions=("clean", NOISE, COVERED), seeds=2, arms=arms)
    assert engine.run_cells(study, out, noted=lines.append) == []
    return study, out, lines


@pytest.fixture(scope="module")
def figures(finished):
    study, out, _ = finished
    return json.loads(json.dumps(engine.summarise(study, out), allow_nan=False))


def rows_of(figures, setting):
    return {row["arm"]: row for row in figures["rows"] if row["setting"] == setting}


def test_every_arm_is_measured_where_it_can_do_something(figures):
    assert set(rows_of(figures, NOISE)) == {a["name"] for a in figures["study"]["arms"]} - {"telea"}
    assert set(rows_of(figures, COVERED)) == {a["name"] for a in figures["study"]["arms"]}
    assert figures["unfinished"] == 0 and figures["test_items"] == PEOPLE and figures["settings"]["fmr"] == FMR
    assert all(row["seeds"] == 2 and 0 <= row["harmed"] <= 1 and -1 <= row["ssim"] <= 1 for row in figures["rows"])


def test_unspoilt_pictures_as_they_are_are_the_ideal(figures):
    row = rows_of(figures, "clean")[AS_IS]
    assert row["gain"] == 0 and row["won_back"] is None and row["harmed"] == 0 and row["impostor_drift"] == 0
    assert row["cosine_to_clean"] == pytest.approx(1, abs=1e-5) and row["psnr_db"] == 60 and row["left_alone"] == 1
    assert row["value"] == row["tar_unspoilt"] and row["expression_kept"] == 1
    assert row["tar_at_fmr_1e-3"] is None, "132 comparisons say nothing of one in a thousand"


def test_the_tool_is_asked_for_a_gain_and_on_clean_pictures_for_no_loss(figures):
    asked = {(one["arm"], one["setting"]): one["wanted"] for one in figures["study"]["planned"]}
    assert asked == {
        (arm, setting): -0.02 if setting == "clean" else 0.02
        for arm in ("network-gated", "unsharp")
        for setting in ("clean", NOISE, COVERED)
    }
    assert len(figures["verdicts"]) == 6


def test_a_gate_leaves_faces_alone_and_then_nothing_changes(people, model, tmp_path):
    closed = str(save_restorer(tmp_path / "run", gate=ADDED + 1))
    study = MadeUp(
        people, model=closed, conditions=(NOISE,), arms=(AS_IS, "bicubic", "network-whole", "network", "network-gated")
    )
    engine.run_cells(study, tmp_path / "out")
    rows = rows_of(engine.summarise(study, tmp_path / "out"), NOISE)
    assert rows["network-gated"]["left_alone"] == 1 and rows["network"]["left_alone"] == 0
    assert rows["network-gated"] | {"arm": AS_IS} == rows[AS_IS]


def test_seeds_differ_in_the_damage_and_not_in_the_pairs(finished):
    study, out, _ = finished
    one, other = (study.run(Cell(AS_IS, NOISE, seed), out / "material") for seed in (0, 1))
    assert not np.array_equal(one["scores"], other["scores"]) and np.array_equal(one["clean"], other["clean"])


def test_what_has_no_pair_is_said_in_a_line_each(finished):
    *_, lines = finished
    assert lines[0] == "1 of 14 subjects have one picture and so no pair: left out."
    assert "0.png' shows no face: its pair is left out." in lines[1]
    assert lines[2] == "There are 12 pairs of different subjects with faces, of the 200 asked for."


def test_a_finished_study_is_told_in_words_and_pictures(figures):
    assert any("network-gated  TAR at FMR 0.01" in line for line in table(figures))
    html = page(figures, draw_plot(figures))
    assert "12 mated pairs" in html and "PSNR, dB" in html and "clip" not in html


def test_two_recognisers_share_what_was_restored(people, tmp_path, monkeypatch):
    for name in ("one", "other"):
        card = {"role": "embedder", "convention": {"template": "arcface-112", "side": 112, "dimension": 48}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"")
        (tmp_path / name / "card.json").write_text(json.dumps({**card, "name": name}))
    names = tuple(str(tmp_path / name) for name in ("one", "other"))
    study = MadeUp(people, embedders=names, conditions=(NOISE,), arms=(AS_IS, "unsharp"))
    made = []
    real = RestorationStudy._restore
    monkeypatch.setattr(RestorationStudy, "_restore", lambda *given: made.append(given[2]) or real(*given))
    assert engine.run_cells(study, tmp_path / "out") == []
    assert study.protocol.settings == ("noise 40, one", "noise 40, other") and len(made) == 2
    assert len(engine.summarise(study, tmp_path / "out")["rows"]) == 4


def test_pictures_may_be_deleted_once_their_faces_were_found(people, tmp_path):
    data, out = shutil.copytree(people, tmp_path / "data"), tmp_path / "out"
    study = MadeUp(data, conditions=(NOISE,), arms=(AS_IS, "unsharp"))
    assert engine.run_cells(study, out) == []
    shutil.rmtree(data)
    (out / "cells" / f"{NOISE}-unsharp-0.npz").unlink()
    (out / "material" / f"{NOISE}-unsharp-0.npz").unlink()
    assert engine.run_cells(MadeUp(data, conditions=(NOISE,), arms=(AS_IS, "unsharp")), out) == []


def test_a_damaged_file_of_the_study_is_named(people, tmp_path):
    study = MadeUp(people, conditions=(NOISE,), arms=(AS_IS,))
    study.prepare(tmp_path / "material", lambda line: None)
    (tmp_path / "material" / "pairs.npz").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"pairs.npz' is damaged. Delete it"):
        engine.run_cells(study, tmp_path)


def test_too_few_pairs_claim_no_folder(people, tmp_path):
    data = tmp_path / "few"
    for person in range(5):
        shutil.copytree(people / f"p{person:02}", data / f"p{person:02}")
    with pytest.raises(DataError, match=r"takes 100 non-mated comparisons, which 11 mated pairs .* there are 5"):
        engine.run_cells(MadeUp(data), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=r"has no folder a subject\. Name one, a CSV"):
        list_pairs(data / "p00")
    with pytest.raises(UsageError, match="there are 10"):
        RestorationStudy(data, most=10)


def test_a_model_that_changed_between_runs_is_noticed(people, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    study = MadeUp(people, model=str(save_restorer(run)), conditions=(NOISE,), arms=(AS_IS, "network-gated"))
    engine.run_cells(study, out)
    shutil.rmtree(run)
    save_restorer(run, added=5)
    with pytest.raises(UsageError, match="begun with another model"):
        engine.run_cells(replace(study), out)
    with pytest.raises(UsageError, match="begun with another"):
        engine.run_cells(replace(study, conditions=("blurred",)), out)


def test_what_a_study_cannot_do_is_refused_in_one_line(people, tmp_path):
    generator = save_generator(tmp_path / "generator")
    for study, error, told in (
        (lambda: RestorationStudy(people, arms=(AS_IS, "gan")), UsageError, "no arm 'gan'"),
        (lambda: RestorationStudy(people, arms=("unsharp",)), UsageError, "'as-is' is what all others"),
        (lambda: RestorationStudy(people, conditions=("rain",)), UsageError, "no condition 'rain'"),
        (lambda: RestorationStudy(), UsageError, "Name pictures with --data"),
        (lambda: RestorationStudy(people, arms=(AS_IS, "network")), UsageError, "'network' needs a network"),
        (
            lambda: RestorationStudy(people, arms=(AS_IS, "telea"), conditions=(NOISE,)),
            UsageError,
            "Add the condition '30 % covered'",
        ),
        (lambda: RestorationStudy(people, model=str(generator)), ModelError, "expected a model of role restorer"),
        (lambda: RestorationStudy(people, model="nothing"), ModelError, "nothing"),
        (lambda: RestorationStudy(people, embedders=("sface", "sface")), UsageError, "Two recognisers have one name"),
    ):
        with pytest.raises(error, match=told):
            study().facts()


def test_a_study_travels_without_the_networks_it_opened(people):
    study = RestorationStudy(people, conditions=(NOISE,))
    object.__setattr__(study, "_networks", lambda: None)  # cannot be pickled
    assert pickle.loads(pickle.dumps(study)) == study


# Figures, by hand


def scores_of(own, others=()):
    """Scores of 11 pairs: non-mated ones are 0 but for the named."""
    scores = np.zeros((11, 11), np.float32)
    scores[0, 1 : 1 + len(others)] = others
    scores[np.diag_indices(11)] = own
    return scores


def run_of(scores, **more):
    eleven = {name: np.ones(11) for name in ("cosine", "psnr_db", "ssim", "expression_kept", "left_alone")}
    return {"scores": scores, **eleven, **more}


def test_figures_worked_by_hand(people):
    # 110 non-mated comparisons: one may match, so the threshold lies just above the second highest.
    clean = scores_of([0.9] * 11, (0.8, 0.3))
    spoilt = scores_of([0.9] * 5 + [0.2] * 6, (0.8, 0.3))
    better = scores_of([0.2] + [0.9] * 7 + [0.2] * 3, (0.8, 0.1))
    study = RestorationStudy(people, conditions=(NOISE,), arms=(AS_IS, "denoise"))
    measured = study.measure({
        Cell(AS_IS, NOISE, 0): run_of(spoilt, clean=clean), Cell("denoise", NOISE, 0): run_of(better),
    })  # fmt: skip
    as_is, denoise = measured.rows
    assert (as_is["value"], as_is["won_back"], as_is["tar_unspoilt"]) == (pytest.approx(5 / 11), 0, 1)
    assert denoise["value"] == 1.0, "its own threshold is lower"
    assert denoise["gain"] == pytest.approx(6 / 11) and denoise["won_back"] == pytest.approx(1)
    assert denoise["harmed"] == 0 and denoise["fmr_at_clean_threshold"] == pytest.approx(1 / 110)
    assert (as_is["rank1"], denoise["rank1"]) == (1, pytest.approx(10 / 11))
    assert 0 < as_is["eer"] <= 2 / 110 and 0 < denoise["eer"] <= 1 / 110
    worse = run_of(scores_of([0.05] + [0.9] * 4 + [0.2] * 6, (0.8, 0.3)))
    (_, row) = study.measure({
        Cell(AS_IS, NOISE, 0): run_of(spoilt, clean=clean), Cell("denoise", NOISE, 0): worse
    }).rows  # fmt: skip
    assert row["harmed"] == pytest.approx(1 / 11) and row["gain"] == pytest.approx(-1 / 11)


def test_an_arm_without_its_control_has_no_row(people):
    study = RestorationStudy(people, conditions=(NOISE,), arms=(AS_IS, "denoise"))
    assert study.measure({Cell("denoise", NOISE, 0): run_of(scores_of([1] * 11))}).rows == []


def test_resampling_finds_each_threshold_anew_as_brute_force_does(rng):
    scores = rng.normal(0, 1, (14, 14)).round(1).astype(np.float32)
    scores[np.diag_indices(14)] += 2
    found = _resampled(scores)
    for replicate in range(0, 2000, 250):
        drawn = np.repeat(np.arange(14), resampled_counts(14)[replicate])
        table_ = scores[np.ix_(drawn, drawn)]
        others = table_[drawn[:, None] != drawn]
        refused = np.sort(others)[::-1][int(FMR * len(others) + 1e-9)]
        assert found[replicate] == pytest.approx((np.diag(table_) > refused).mean())


# Pairs


def test_every_condition_spoils_and_says_where_the_face_then_is(rng):
    drawn = draw_face(1, side=120)
    shown = Shown(drawn.image, drawn.landmarks)
    for name, spoil in CONDITIONS.items():
        done = spoil(shown, rng)
        factor = len(done.image) / len(shown.image)
        assert np.abs(done.landmarks - (shown.landmarks + 0.5) * factor + 0.5).max() < 0.5
        assert name == "clean" or done.image.shape != shown.image.shape or (done.image != shown.image).any()
        assert (done.covered is not None) == (name == COVERED)


def test_large_faces_are_reduced_before_they_are_spoilt(tmp_path):
    drawn = draw_face(1, side=700)
    save_image(tmp_path / "a.png", drawn.image)
    listed = Listed((("a", tmp_path / "a.png", tmp_path / "a.png"),))
    (pair,), _ = find_pairs(listed, 1, lambda image: drawn.landmarks)
    assert np.hypot(*(pair.probe.landmarks[1] - pair.probe.landmarks[0])) == pytest.approx(64, abs=1)


def test_pairs_come_out_of_a_file_as_they_went_in():
    shown = [Shown(draw_face(n, side=40 + n).image, draw_face(n, side=40 + n).landmarks) for n in range(4)]
    back = unpacked(packed([Pair(*shown[:2]), Pair(*shown[2:])]))
    for one, other in zip(shown, [side for pair in back for side in (pair.probe, pair.reference)], strict=True):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.landmarks, other.landmarks)


def test_a_csv_names_subjects_as_well_as_folders_do(people, tmp_path):
    lines = [f"{people}/p0{person}/{seed}.png,someone{person}" for person in range(4) for seed in (0, 1)]
    (tmp_path / "people.csv").write_text("\n".join(["path,subject", *lines]))
    assert [pair[0] for pair in list_pairs(tmp_path / "people.csv").pairs] == [f"someone{n}" for n in range(4)]


def test_no_subject_of_a_list_is_in_two_pairs_and_another_pair_stands_in_for_one_without_a_face(people, tmp_path):
    blank = np.full((SIDE, SIDE, 3), 90, np.uint8)
    lines = ["1\t6"]
    for person in range(6):
        folder = tmp_path / f"p{person}"
        folder.mkdir()
        for number in range(1, 4):
            face = draw_face(person, side=SIDE, seed=number).image
            save_image(folder / f"p{person}_{number:04}.png", blank if number == 3 and person < 3 else face)
        lines += [f"p{person}\t1\t2", f"p{person}\t1\t3"]
    lines = ["1\t12", *lines[1:], *(f"p{a}\t1\tp{b}\t1" for a in range(6) for b in range(2) if a != b), "p5\t2\tp4\t2"]
    lines += ["p5\t2\tp3\t2"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    listed = list_pairs(tmp_path, tmp_path / "pairs.txt")
    assert len(listed.pairs) == 12 and listed.central
    pairs, left_out = find_pairs(listed, 10, find)
    assert len(pairs) == 6 and all("shows no face" in line for line in left_out)


def test_a_list_without_pictures_in_files_and_one_whose_pictures_are_elsewhere_are_refused(people, tmp_path):
    coded = [(people / f"p{n:02}" / "0.png").read_bytes() for n in (0, 0, 1, 2)]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((coded, [True, False])))
    with pytest.raises(DataError, match="cut out already"):
        list_pairs(None, tmp_path / "set.bin")
    (tmp_path / "pairs.csv").write_text("a,b,same\nx.png,y.png,1\nx.png,z.png,0\n")
    with pytest.raises(EvaluationError, match="Name the folder that its paths start from"):
        list_pairs(people, tmp_path / "pairs.csv")


def test_many_pictures_without_a_face_are_told_in_ten_lines(people):
    pictures = sorted(people.glob("p0*/*.png"))
    listed = Listed(tuple((str(n), one, one) for n, one in enumerate(pictures)))
    pairs, lines = find_pairs(listed, 50, lambda image: None)
    assert pairs == [] and len(lines) == 10 and lines[-1] == "11 more pictures were left out as well."
