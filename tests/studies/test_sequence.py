"""The study of order, on faces that are bars: everything runs, in seconds, and nothing is shown by it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mien.errors import DataError, UsageError
from mien.studies import engine, sequence
from mien.studies.motion import Motion, Still
from mien.studies.report import draw_plot, page, table
from mien.studies.sequence import SequenceStudy

SIDE = 16
SOME = ("best", "mean", "attention", "difference", "gru", "gru-shuffled", "gru-reversed")
HEIGHTS = {"neutral": 2, "happiness": 8, "surprise": 14}


def face(label, number):
    image = np.full((SIDE, SIDE, 3), 30 + number % 3, np.uint8)
    image[: HEIGHTS[label]] += 150
    return image


class Fades:
    """One face fades into the other, or a neutral one into the face."""

    def __init__(self, power):
        self.power = power

    def between(self, pair):
        start, end = (pair.a.face if pair.a else face("neutral", 0)), pair.b.face
        return lambda at: np.stack([(1 - t) * start + t * end for t in at**self.power]).astype(np.float32)


class Rows:
    """Reads the brightness of each row."""

    def of(self, images, faces):
        return np.stack([image.mean(axis=(1, 2)) for image in images]).astype(np.float32) / 100


@dataclass(frozen=True)
class Bars(SequenceStudy):
    subjects: int = 8

    def _by_subject(self):
        return {
            (f"S{n}", label): [Still(face(label, n), label, f"S{n}")] * 3 for n in range(self.subjects)
            for label in ("happiness", "surprise")
        }  # fmt: skip

    def _renderers(self, stills):
        return {"latent": Fades(1.0), "warp": Fades(1.5)}

    def _reader(self, kind):
        return Rows()


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "_RATE", 0.02)
        patch.setattr(sequence, "_NETS", {name: replace(net, units=8) for name, net in sequence._NETS.items()})
        yield


@pytest.fixture(scope="module")
def settings():
    motion = Motion(frames=5, least=0.9, noise=0.0, flicker=0.0, drift=0.0)
    return {"seeds": 1, "images": 1280, "clips": 3, "motion": motion}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, settings):
    out = tmp_path_factory.mktemp("study")
    study = Bars(data=(out,), arms=SOME, **settings)
    return study, out, engine.run_cells(study, out)


def accuracies(study, out):
    return {(row["arm"], row["setting"]): row["accuracy"] for row in engine.summarise(study, out)["rows"]}


def test_every_arm_is_tested_both_ways_on_the_clips_of_all_subjects(finished):
    study, out, failed = finished
    figures = engine.summarise(study, out)

    assert failed == [] and figures["unfinished"] == 0
    assert {row["setting"] for row in figures["rows"]} == {"latent-to-warp", "warp-to-latent"}
    assert [row["arm"] for row in figures["rows"]][: len(SOME)] == list(SOME)
    assert figures["test_items"] == 8 * 2 * 3 * 2 and figures["test_groups"] == 8
    assert {one["against"] for one in figures["verdicts"]} == {"gru-shuffled", "difference"}


def test_without_order_a_clip_and_its_reverse_are_one_and_the_same(finished):
    found = accuracies(*finished[:2])

    for setting in ("latent-to-warp", "warp-to-latent"):
        assert found["mean", setting] == found["attention", setting] == found["best", setting] == 0.5


def test_with_order_they_are_told_apart_and_backwards_taken_for_one_another(finished):
    found = accuracies(*finished[:2])

    for setting in ("latent-to-warp", "warp-to-latent"):
        assert found["gru", setting] > 0.8
        assert found["gru-reversed", setting] == pytest.approx(1 - found["gru", setting])


def test_arms_that_test_one_network_share_it(finished):
    _, out, _ = finished

    names = {file.name for file in (out / "material").glob("latent-to-warp-*.npz")}

    assert "latent-to-warp-gru-0-0.npz" in names and not any("reversed" in name for name in names)


def test_page_and_table_speak_of_clips_and_subjects(finished):
    study, out, _ = finished
    figures = engine.summarise(study, out)

    text = page(figures, draw_plot(figures))

    assert "96 clips of 8 subjects" in text and "macro-F1" not in table(figures)[-1]


def test_which_came_first_is_asked_of_two_expressions_of_one_subject(settings, tmp_path):
    study = Bars(data=(tmp_path,), task="first", arms=("mean", "gru", "gru-shuffled"), **settings)

    assert engine.run_cells(study, tmp_path) == []
    found = accuracies(study, tmp_path)

    assert found["mean", "latent-to-warp"] <= 0.5 < found["gru", "latent-to-warp"]


def test_stills_ask_whether_a_sequence_is_worse_than_its_last_frame(settings, tmp_path):
    study = Bars(data=(tmp_path,), task="stills", arms=("last", "mean", "gru"), **settings)

    assert engine.run_cells(study, tmp_path) == []
    verdicts = engine.summarise(study, tmp_path)["verdicts"]

    assert [one["wanted"] for one in verdicts] == [-0.01, -0.01]
    assert all("not worse than 'last' by 1" in one["sentence"] for one in verdicts)


def test_too_few_subjects_are_said(settings, tmp_path):
    failed = engine.run_cells(Bars(data=(tmp_path,), arms=("gru",), subjects=3, **settings), tmp_path)

    assert "rendered of 3 subjects, fewer than 4" in engine.failures(failed)[0]


def test_data_without_subjects_are_refused(tmp_path):
    (tmp_path / "happy").mkdir()
    (tmp_path / "happy" / "a.png").write_bytes(b"")

    with pytest.raises(DataError, match="says no subjects or no expressions"):
        SequenceStudy(data=(tmp_path,))._by_subject()


@pytest.mark.parametrize(
    "wrong",
    [{"task": "mood"}, {"arms": ("best-of",)}, {"features": ("pixels",)}, {"features": ()}, {"folds": 1}],
)
def test_settings_out_of_range_are_refused(wrong, tmp_path):
    with pytest.raises(UsageError):
        SequenceStudy(**{"data": (tmp_path,)} | wrong)


@pytest.mark.parametrize("page", ["sequences.md", "sequences.zh-CN.md"])
def test_the_page_says_what_the_results_say(page):
    root = Path(__file__).resolve().parents[2]
    tasks = json.loads((root / "benchmarks/results/sequence.json").read_text(encoding="utf-8"))["tasks"]
    text = (root / "docs" / page).read_text(encoding="utf-8")

    for one in tasks["onset"]["verdicts"]:
        low, high = (100 * end for end in one["interval"])
        assert f"{100 * one['difference']:.1f}" in text and f"[{low:.1f}, {high:.1f}]" in text.replace("\n  ", " ")
    for name in ("onset", "stills"):
        for arm in {row["arm"] for row in tasks[name]["rows"]}:
            rows = [row for row in tasks[name]["rows"] if row["arm"] == arm]
            said = " | ".join(
                f"{100 * row['accuracy']:.1f} [{100 * row['accuracy_interval'][0]:.1f}, "
                f"{100 * row['accuracy_interval'][1]:.1f}]"
                for row in rows
            )
            assert f"| `{arm}` | {said} |" in text, f"{page} says something else of {arm} at {name}"
