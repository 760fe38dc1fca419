import numpy as np
import pytest

from data.layouts import CLASSES, VOTES, packed, picture, table, write
from mien.data.samples import one_hot, read_samples
from mien.errors import DataError, ImageError
from mien.types import EXPRESSIONS


def test_folders_named_like_expressions_become_our_classes_in_our_order(tmp_path):
    samples = read_samples(write(tmp_path, CLASSES))

    assert samples.kind == "classes" and samples.names == tuple(sorted(CLASSES))
    target = samples.targets["expression"]
    assert target.classes == ("happiness", "anger")
    assert target.labels.tolist() == [1, 1, 0, 0] and target.shares.sum(axis=1).tolist() == [1] * 4
    assert samples.picture(0).shape == (40, 40, 3) and not samples.leaks.any() and samples.subjects is None


def test_a_zip_gives_the_same_samples_as_the_folder(tmp_path):
    folder = read_samples(write(tmp_path / "set", CLASSES))
    archive = read_samples(packed(tmp_path / "set.zip", CLASSES, below="set/"))

    assert archive.names == folder.names
    assert (archive.targets["expression"].shares == folder.targets["expression"].shares).all()
    assert (archive.picture(2) == folder.picture(2)).all()


def test_splits_stand_above_the_classes(tmp_path):
    files = {f"{split}/{name}": data for split in ("train", "val", "Test") for name, data in CLASSES.items()}
    samples = read_samples(write(tmp_path, files))
    assert sorted(samples.splits.tolist()) == ["test"] * 4 + ["train"] * 4 + ["valid"] * 4


def test_other_folders_are_classes_of_their_own_in_natural_order(tmp_path):
    samples = read_samples(write(tmp_path, {f"{name}/1.png": picture(0) for name in ("s10", "s2", "happy")}))
    assert samples.targets["class"].classes == ("happy", "s2", "s10")


def test_an_empty_folder_is_a_class_too(tmp_path):
    samples = read_samples(write(tmp_path, {**CLASSES, "fear": None}))
    assert samples.targets["expression"].classes == ("happiness", "anger", "fear")


def test_a_folder_a_subject(tmp_path):
    samples = read_samples(
        write(tmp_path, {f"s{k}/{i}.png": picture(k, seed=i) for k in (1, 2) for i in (0, 1)}), kind="subjects"
    )
    assert samples.subjects.tolist() == ["s1", "s1", "s2", "s2"] and not samples.targets


def test_taking_some_samples_takes_all_that_is_known_about_them(tmp_path):
    samples = read_samples(write(tmp_path, CLASSES)).take(np.array([3, 0]))
    assert samples.names == ("happy/b.png", "Angry/a.png")
    assert samples.targets["expression"].labels.tolist() == [0, 1]
    assert samples.take(np.array([False, True])).names == ("Angry/a.png",)


def test_the_fingerprint_changes_with_a_picture(tmp_path):
    before = read_samples(write(tmp_path, CLASSES)).fingerprint()
    assert read_samples(tmp_path).fingerprint() == before
    (tmp_path / "happy" / "a.png").write_bytes(picture(5))
    assert read_samples(tmp_path).fingerprint() != before


def test_pictures_that_cannot_be_read_are_said_one_by_one(tmp_path):
    samples = read_samples(write(tmp_path, {**CLASSES, "happy/c.png": b"no picture", "happy/d.png": b""}))
    results = dict(samples.pictures())
    broken = {samples.names[i]: str(r) for i, r in results.items() if isinstance(r, ImageError)}
    assert set(broken) == {"happy/c.png", "happy/d.png"} and len(results) == 6
    assert broken["happy/d.png"].startswith("'happy/d.png' is empty")


def ferplus_row(name, split, label, leaks="", **votes):
    return [split, name, label, *(votes.get(vote, 0) for vote in VOTES), leaks]


@pytest.fixture
def ferplus(tmp_path):
    rows = [
        ["split", "file", "fer2013_label", *(f"fp_{name}" for name in VOTES), "leaks_into"],
        ferplus_row("train/happy/a.png", "train", "happy", leaks="test", happiness=8, neutral=1, unknown=1),
        ferplus_row("train/angry/b.png", "train", "angry", unknown=6, anger=4),
        ferplus_row("test/angry/c.png", "test", "angry", NF=10),
        ferplus_row("test/angry/d.png", "test", "angry", anger=5, disgust=5),
    ]
    files = {row[1]: picture(k) for k, row in enumerate(rows[1:])}
    return write(tmp_path, {**files, "labels.csv": table(rows)})


def test_ferplus_votes_are_shares_without_unknown_and_no_face(ferplus):
    samples = read_samples(ferplus)

    assert samples.kind == "ferplus"
    votes, fer2013 = samples.targets["ferplus"], samples.targets["fer2013"]
    assert votes.classes == EXPRESSIONS and votes.labels.tolist() == [1, -1, -1, 4]
    assert votes.shares[0] == pytest.approx([1 / 9, 8 / 9, 0, 0, 0, 0, 0, 0])
    assert np.isnan(votes.shares[1:3]).all()
    # Eight of nine for happiness; five of ten for anger are no majority.
    assert votes.agreed.tolist() == [True, False, False, False] and votes.take(np.array([3])).agreed.tolist() == [False]
    assert fer2013.agreed is None
    assert [fer2013.classes[k] for k in fer2013.labels] == ["happiness", "anger", "anger", "anger"]
    assert samples.splits.tolist() == ["train", "train", "test", "test"]
    assert samples.leaks.tolist() == [True, False, False, False]


def pixels(value, side=48):
    return " ".join([str(value)] * side * side)


def test_fer2013_rows_become_pictures(tmp_path):
    rows = [
        ["emotion", " pixels", " Usage"],
        [3, pixels(7), "Training"],
        [0, pixels(9), "PublicTest"],
        [9, pixels(1), "PrivateTest"],
    ]
    rows += [[6, "1 2 3", "Training"], [6, pixels(256), "Training"], [6, pixels("x"), "Training"]]
    samples = read_samples(write(tmp_path, {"fer2013.csv": table(rows)}) / "fer2013.csv")

    target = samples.targets["fer2013"]
    assert [target.classes[k] if k >= 0 else None for k in target.labels[:3]] == ["happiness", "anger", None]
    assert samples.splits[:3].tolist() == ["train", "valid", "test"]
    assert samples.picture(0).shape == (48, 48, 3) and (samples.picture(0) == 7).all()
    assert "1 labels are none of" in samples.notes[0] and "fer2013.csv:4 has '9'" in samples.notes[0]
    for index, why in ((3, "got 3"), (4, "got 256 to 256"), (5, "no whole number")):
        with pytest.raises(ImageError, match=why):
            samples.picture(index)


def test_published_ferplus_votes_beside_fer2013_are_joined_by_row(tmp_path):
    rows = [["emotion", "pixels", "Usage"], [3, pixels(7), "Training"], [0, pixels(9), "Training"]]
    votes = [["Usage", "Image name", *VOTES], ["Training", "a.png", 4, 6, *[0] * 8], ["Training", "", *[0] * 9, 10]]
    write(tmp_path, {"fer2013.csv": table(rows), "fer2013new.csv": table(votes)})

    assert read_samples(tmp_path).targets["ferplus"].labels.tolist() == [1, -1]

    write(tmp_path, {"fer2013new.csv": table(votes[:2])})
    with pytest.raises(DataError, match=r"has 1 rows and fer2013\.csv 2"):
        read_samples(tmp_path)


def test_ckplus_frames_name_their_subject(tmp_path):
    files = {f"happy/S005_001_0000000{k}.png": picture(k) for k in (1, 2)} | {
        "contempt/S010_002_00000001.png": picture(3)
    }
    samples = read_samples(write(tmp_path, files))
    assert samples.kind == "ckplus" and samples.subjects.tolist() == ["S010", "S005", "S005"]


def manifest(tmp_path, rows, **files):
    pictures = {f"img/{k}.png": picture(k) for k in range(4)}
    return write(tmp_path, {**pictures, "list.csv": table(rows), **files})


def test_a_manifest_names_path_label_split_and_subject(tmp_path):
    rows = [["Path", "Label", "Split", "Subject"], ["img/0.png", "Happy", "train", "a"], ["1.png", "", "val", ""]]
    samples = read_samples(manifest(tmp_path, rows) / "list.csv")

    assert samples.names == ("img/0.png", "img/1.png")
    assert samples.targets["expression"].labels.tolist() == [0, -1]
    assert samples.splits.tolist() == ["train", "valid"] and samples.subjects.tolist() == ["a", ""]
    assert read_samples(tmp_path).kind == "manifest"


def test_mistakes_in_a_manifest_are_noted_with_their_row_and_cost_nothing_else(tmp_path):
    rows = [["path", "label", "split"], *([f"img/{k % 3}.png", "happy", "train"] for k in range(9))]
    rows += [["img/1.png", "hapy", "train"], ["img/9.png", "sad", "later"]]
    samples = read_samples(manifest(tmp_path, rows) / "list.csv")

    notes = "\n".join(samples.notes)
    assert "list.csv:11 has 'hapy' (nearest is 'happy')" in notes
    assert "1 pictures that list.csv names do not exist: list.csv:12" in notes
    assert "none of train, valid, test: 'later'" in notes
    assert "7 rows of list.csv name a picture that another row names too" in notes
    assert samples.targets["expression"].labels.tolist() == [0] * 9 + [-1, 1]


def test_class_numbers_need_the_name_of_their_set(tmp_path):
    path = manifest(tmp_path, [["path", "label"], ["img/0.png", 3], ["img/1.png", 10]]) / "list.csv"

    guessed = read_samples(path)
    assert guessed.targets["class"].classes == ("3", "10") and "name their data set with --labels" in guessed.notes[0]
    named = read_samples(path, labels="fer2013")
    assert named.targets["expression"].labels.tolist() == [3, -1]


def test_a_list_of_classes_decides_their_order_and_what_is_outside(tmp_path):
    samples = read_samples(write(tmp_path, {**CLASSES, "sad/a.png": picture(1, "sadness")}), labels=["angry", "happy"])
    assert samples.targets["expression"].classes == ("anger", "happiness")
    assert samples.targets["expression"].labels.tolist() == [0, 0, 1, 1, -1]
    assert "sad/a.png has 'sad'" in samples.notes[0]


def test_parquet_without_pyarrow_names_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    write(tmp_path, {"list.parquet": b"PAR1"})
    with pytest.raises(DataError, match="pip install pyarrow"):
        read_samples(tmp_path / "list.parquet")


@pytest.mark.parametrize(
    ("files", "kind", "why"),
    [
        ({}, "auto", "holds no folders of pictures"),
        ({"a.png": picture(0)}, "auto", "got 1 pictures without one"),
        (
            {"train/happy/a.png": picture(0), "happy/a.png": picture(0)},
            "auto",
            "either train, valid and test, or the classes",
        ),
        ({"happy": None, "sad": None}, "auto", "holds no folders of pictures"),
        ({"a.csv": "path,label\n"}, "manifest", "has no rows"),
        ({"a.csv": "path,label\nx.png,happy\n"}, "manifest", "None of the 1 pictures"),
        ({"a.csv": "path,label\nx.png\n"}, "manifest", "line 2: expected 2 values"),
        ({"a.csv": "name,label\nx.png,1\n"}, "manifest", "has no column 'path'"),
        ({"a.csv": b"\xff\xfe\x00"}, "manifest", "no text in UTF-8"),
        ({}, "manifest", "holds 0 lists"),
        ({"labels.csv": "file,split\na,b\n"}, "ferplus", "has no column fer2013_label"),
        ({"a/a.png": picture(0)}, "nonsense", "no layout 'nonsense'"),
    ],
)
def test_what_is_not_in_the_layout_is_refused_in_one_line(tmp_path, files, kind, why):
    with pytest.raises(DataError, match=why) as caught:
        read_samples(write(tmp_path, files), kind=kind)
    assert "\n" not in str(caught.value)


def test_labels_that_are_all_outside_of_the_list_are_refused(tmp_path):
    path = manifest(tmp_path, [["path", "label"], ["img/0.png", "joyy"]]) / "list.csv"
    with pytest.raises(DataError, match="no label that can be used"):
        read_samples(path, labels="fer2013")


def test_one_hot_leaves_unlabelled_rows_open():
    target = one_hot(["b", None], ("a", "b"))
    assert target.shares[0].tolist() == [0, 1] and np.isnan(target.shares[1]).all()
    assert target.labels.tolist() == [1, -1]


def test_lists_of_train_and_test_beside_each_other_are_both_read(tmp_path):
    files = {f"DATASET/{split}/1/{split}_{i}.png": b"" for split in ("train", "test") for i in range(3)}
    for split in ("train", "test"):
        files[f"{split}_labels.csv"] = "".join(["image,label\n", *[f"{split}_{i}.png,1\n" for i in range(3)]]).encode()
    samples = read_samples(write(tmp_path, files), labels="rafdb")

    assert len(samples) == 6 and sorted(samples.splits.tolist()) == ["test"] * 3 + ["train"] * 3
    assert all(split in name for split, name in zip(samples.splits, samples.names, strict=True))


def test_lists_of_which_none_can_be_told_to_be_meant_are_refused_by_name(tmp_path):
    write(tmp_path, {"a.png": b"", "train.csv": b"path,label\na.png,happy\n", "other.csv": b"path,label\na.png,sad\n"})
    with pytest.raises(DataError, match=r"holds 2 lists .*: other\.csv, train\.csv; expected one"):
        read_samples(tmp_path)
    (tmp_path / "other.csv").rename(tmp_path / "test.csv")
    with pytest.raises(DataError, match=r"name the same pictures: test\.csv, train\.csv"):
        read_samples(tmp_path)


@pytest.mark.parametrize("others", [("Amber", "Elm"), ()], ids=["among others", "alone"])
def test_people_may_be_called_dev_and_val(tmp_path, others):
    write(tmp_path, {f"{name}/{i}.png": b"" for name in ("Dev", "Val", *others) for i in range(2)})
    samples = read_samples(tmp_path, kind="subjects")

    assert set(samples.subjects.tolist()) == {"Dev", "Val", *others} and set(samples.splits.tolist()) == {""}


def test_folders_of_subjects_below_splits_are_still_known(tmp_path):
    write(tmp_path, {f"{split}/{name}/1.png": b"" for split in ("train", "val") for name in ("Dev", "Elm")})
    samples = read_samples(tmp_path, kind="subjects")
    assert set(samples.subjects.tolist()) == {"Dev", "Elm"} and set(samples.splits.tolist()) == {"train", "valid"}
