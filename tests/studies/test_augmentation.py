"""The study of generated faces, on faces that are bars: everything runs, in seconds, and nothing is shown by it."""

import json
import shutil

import numpy as np
import pytest

from mien.data.pictures import Pictures
from mien.errors import DataError, UsageError
from mien.evaluation.synthetic import Limits
from mien.studies import augmentation, engine
from mien.studies.augmentation import ARMS, AugmentationStudy
from mien.studies.report import draw_plot, page, table

CLASSES = ("anger", "fear", "sadness")


def bars(count, split):
    """Faces of one class have a bright bar at one place."""
    rng = np.random.default_rng(len(split))
    labels = np.arange(count) % len(CLASSES)
    images = rng.integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 1 + 5 * label : 4 + 5 * label] += 150
    return Pictures(
        images, labels, CLASSES, np.empty((count, 0), np.uint8), (), np.full(count, split),
        tuple(f"{split}/{i}" for i in range(count)),
    )  # fmt: skip


def read_bars(data, *, splits, **_):
    """As data sets are read: the splits that were asked for and no other."""
    parts = [bars(count, split) for split, count in (("train", 180), ("valid", 30), ("test", 30)) if split in splits]
    images, labels, attributes, splits = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels", "attributes", "splits")
    )
    return Pictures(images, labels, CLASSES, attributes, (), splits, sum((part.names for part in parts), ()))


@pytest.fixture(scope="module", autouse=True)
def data_sets_of_bars():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "read_pictures", read_bars)
        yield


@pytest.fixture(scope="module")
def settings():
    return {
        "side": 16,
        "perceptual": 0.0,
        "prior": "mixture",
        "images": 2560,
        "generator_images": 128,
        "per_class": 4,
        "seeds": 1,
        "limits": Limits(least=0.0),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, settings):
    out = tmp_path_factory.mktemp("study")
    study = AugmentationStudy(data=out, shares=(100.0,), **settings)
    told = []
    failed = engine.run_cells(study, out, told=lambda cell, done, of: told.append((cell.arm, done, of)))
    return study, out, failed, told


def test_every_arm_runs_to_an_answer_for_every_test_face(finished):
    study, out, failed, told = finished
    figures = engine.summarise(study, out)

    assert failed == [] and told[-1] == (ARMS[-1].name, len(ARMS), len(ARMS))
    assert [row["arm"] for row in figures["rows"]] == [arm.name for arm in ARMS]
    assert figures["test_items"] == 30 and figures["unfinished"] == 0
    assert {one["arm"] for one in figures["verdicts"]} == {"vae-filtered", "gan-filtered", "duplicates", "shuffled"}


def test_bars_are_learned(finished):
    study, out, *_ = finished
    found = {row["arm"]: row["accuracy"] for row in engine.summarise(study, out)["rows"]}

    assert found["real"] > 0.6


def test_a_finished_study_is_not_run_again_and_one_cut_short_goes_on(finished):
    study, out, *_ = finished
    cell = study.protocol.cells()[2]
    file = out / "cells" / f"{cell.name}.npz"
    before = file.read_bytes()
    file.unlink()
    ran = []

    engine.run_cells(study, out, told=lambda cell, done, of: ran.append((cell, done, of)))

    assert ran == [(cell, len(ARMS), len(ARMS))]
    with np.load(file) as now:
        file.write_bytes(before)
        with np.load(file) as then:
            assert np.array_equal(now["answers"], then["answers"])


def test_other_settings_other_code_and_other_folders_are_refused(finished, settings, monkeypatch, tmp_path):
    study, out, *_ = finished

    with pytest.raises(UsageError, match="was begun with another per_class"):
        engine.run_cells(AugmentationStudy(data=out, shares=(100.0,), **settings | {"per_class": 5}), out)
    with pytest.raises(UsageError, match="holds no finished run"):
        engine.summarise(study, tmp_path)
    facts = json.loads((out / "protocol.json").read_text())
    (tmp_path / "protocol.json").write_text(json.dumps(facts | {"code": "0" * 16}))
    with pytest.raises(UsageError, match="begun by other code"):
        engine.run_cells(study, tmp_path)
    (tmp_path / "protocol.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        engine.run_cells(study, tmp_path)


def test_a_cell_that_fails_is_named_and_the_others_are_run(settings, tmp_path):
    study = AugmentationStudy(data=tmp_path, shares=(1.0, 100.0), arms=("real", "balanced"), **settings)

    failed = engine.run_cells(study, tmp_path)

    assert [(cell.arm, cell.setting) for cell, _ in failed] == [("real", "1%"), ("balanced", "1%")]
    assert "leaves 1 of 'anger', fewer than 10" in engine.failures(failed)[0]
    assert {row["setting"] for row in engine.summarise(study, tmp_path)["rows"]} == {"100%"}


@pytest.mark.parametrize("wrong", [{"arms": ("best",)}, {"shares": (0.0,)}, {"shares": ()}, {"seeds": 0}])
def test_settings_out_of_range_are_refused(wrong, settings, tmp_path):
    with pytest.raises(UsageError):
        AugmentationStudy(data=tmp_path, **settings | wrong)


def test_generator_and_filter_learn_from_the_share_alone(finished):
    _, out, *_ = finished

    run = json.loads((out / "material" / "100" / "run-vae" / "summary.json").read_text())

    assert run["pictures"] == {"train": 162, "valid": 18}


def test_the_page_says_what_the_figures_say(finished):
    study, out, *_ = finished
    figures = engine.summarise(study, out)

    text = page(figures, draw_plot(figures))

    assert all(one["sentence"].replace("'", "&#39;") in text for one in figures["verdicts"])
    assert table(figures)[0] == study.protocol.question and "unfinished" not in text


def test_a_generator_none_of_whose_faces_pass_the_filter_is_said(settings, finished, tmp_path):
    study = AugmentationStudy(
        data=tmp_path, shares=(100.0,), arms=("vae-filtered",), **settings | {"limits": Limits(least=1.0)}
    )
    shutil.copytree(finished[1] / "material" / "100" / "run-vae", tmp_path / "material" / "100" / "run-vae")

    ((cell, why),) = engine.run_cells(study, tmp_path)

    assert cell.arm == "vae-filtered" and "No generated face passes the filter" in why


def test_a_judge_that_has_learned_too_little_does_not_judge(settings, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(augmentation, "_KNOWS", 3.5)  # times chance, of three classes: nobody knows so much
    study = AugmentationStudy(data=tmp_path, shares=(100.0,), arms=("vae-filtered",), **settings)
    shutil.copytree(finished[1] / "material" / "100" / "run-vae", tmp_path / "material" / "100" / "run-vae")

    ((_, why),) = engine.run_cells(study, tmp_path)

    assert "has learned too little" in why and "--images" in why


def test_a_judge_that_cannot_be_checked_does_not_judge(settings, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(augmentation, "read_pictures", lambda data, **_: read_bars(data, splits=("train", "test")))
    study = AugmentationStudy(data=tmp_path, shares=(100.0,), arms=("vae-filtered",), **settings)
    shutil.copytree(finished[1] / "material" / "100" / "run-vae", tmp_path / "material" / "100" / "run-vae")

    ((_, why),) = engine.run_cells(study, tmp_path)

    assert "No face is set aside" in why and "valid" in why


def test_too_few_faces_of_a_class_are_no_share(settings, tmp_path):
    with pytest.raises(DataError, match="leaves 3 of"):
        AugmentationStudy(data=tmp_path, **settings)._share(bars(180, "train"), "5%")
