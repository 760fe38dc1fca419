import pytest

from mien.data import drawn
from mien.data.drawn import draw_samples
from mien.data.samples import read_samples
from mien.errors import DataError
from mien.types import EXPRESSIONS


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_every_expression_has_as_many_pictures(tmp_path):
    assert draw_samples(tmp_path / "faces", per_class=2, side=48) == 16

    samples = read_samples(tmp_path / "faces")
    target = samples.targets["expression"]
    assert target.classes == EXPRESSIONS
    assert target.labels.tolist().count(3) == 2
    assert samples.picture(0).shape == (48, 48, 3)


def test_no_subject_stands_in_two_splits(tmp_path):
    draw_samples(tmp_path, per_class=5, split=True, side=32)

    samples = read_samples(tmp_path)
    subjects = {split: {n.split("/")[2] for n in samples.names if n.startswith(split)} for split in drawn.SHARES}
    assert {split: len(who) for split, who in subjects.items()} == {"train": 3, "valid": 1, "test": 1}
    assert set.union(*subjects.values()) == {f"subject-00{i}-000.jpg" for i in range(5)}


def test_few_subjects_show_a_class_in_turn(tmp_path):
    draw_samples(tmp_path, per_class=3, subjects=2, side=32)

    names = sorted(path.name for path in (tmp_path / "fear").iterdir())
    assert names == ["subject-000-000.jpg", "subject-000-001.jpg", "subject-001-000.jpg"]


def test_a_class_may_be_a_subject(tmp_path):
    assert draw_samples(tmp_path, per_class=2, subjects=3, layout="subject", side=32) == 6

    samples = read_samples(tmp_path, kind="subjects")
    assert sorted(set(samples.subjects.tolist())) == ["subject-000", "subject-001", "subject-002"]


def test_the_seed_decides_every_byte(tmp_path):
    settings = {"per_class": 1, "subjects": 2, "layout": "subject", "side": 32}
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        draw_samples(tmp_path / name, seed=seed, **settings)

    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not set(files(tmp_path / "a").values()) & set(files(tmp_path / "c").values())


def test_a_split_needs_somebody_for_each_part(tmp_path):
    with pytest.raises(DataError, match="need at least 5 subjects, got 4"):
        draw_samples(tmp_path / "faces", per_class=4, split=True)

    assert not (tmp_path / "faces").exists()


def test_nothing_is_drawn_among_other_files(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"")

    with pytest.raises(DataError, match="holds something already"):
        draw_samples(tmp_path)
    with pytest.raises(DataError, match="Cannot draw into"):
        draw_samples(tmp_path / "mine.jpg")
