import numpy as np
import pytest

from evaluation.fake import write_faces, write_lfw
from mien.errors import EvaluationError
from mien.evaluation.pairs import read_pairs


def write(folder, text, name="list.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_lfw_pairs_by_hand(tmp_path):
    write_faces(tmp_path, 2, 2)
    path = write(
        tmp_path,
        "2\t1\nsubject_0\t1\t2\nsubject_0\t1\tsubject_1\t2\nsubject_1\t2\t1\nsubject_1\t1\tsubject_0\t2\n",
        "pairs.txt",
    )

    pairs = read_pairs(path)

    names = [(pairs.pictures[a], pairs.pictures[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert names[0] == ("subject_0/subject_0_0001.jpg", "subject_0/subject_0_0002.jpg")
    assert names[1] == ("subject_0/subject_0_0001.jpg", "subject_1/subject_1_0002.jpg")
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    assert len(pairs.pictures) == 4  # Each is listed once, however many pairs name it.
    assert [pairs.subjects[i] for i in (pairs.first[1], pairs.second[1])] == [0, 1]
    assert pairs.sources[0].read_text() == "face 0 1"
    assert len(pairs) == 4 and not pairs.aligned


def test_lfw_pairs_may_be_separated_by_spaces_and_pictures_be_png(tmp_path):
    write_faces(tmp_path / "images", 2, 2, suffix=".png")
    text = "1 1\n\nsubject_0 1 2\nsubject_0  1 subject_1 2\n"

    pairs = read_pairs(write(tmp_path, text, "pairs.txt"), images=tmp_path / "images")

    assert pairs.pictures[0] == "subject_0/subject_0_0001.png"


def test_names_with_spaces_are_read_where_tabs_separate(tmp_path):
    (tmp_path / "two words").mkdir()
    for number in (1, 2):
        (tmp_path / "two words" / f"two words_{number:04d}.jpg").write_text("face 0 0")
    write_faces(tmp_path, 1, 1)
    text = "1\t1\ntwo words\t1\t2\ntwo words\t1\tsubject_0\t1\n"

    assert read_pairs(write(tmp_path, text, "pairs.txt")).pictures[0] == "two words/two words_0001.jpg"


def test_a_view_1_list_has_one_number_and_gets_ten_folds(tmp_path):
    write_faces(tmp_path, 11, 2)
    lines = ["10"] + [f"subject_{k}\t1\t2" for k in range(10)] + [f"subject_{k}\t1\tsubject_10\t2" for k in range(10)]

    pairs = read_pairs(write(tmp_path, "\n".join(lines), "pairsDevTest.txt"))

    assert sorted(pairs.folds.tolist()) == sorted([*range(10), *range(10)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with ''"),
        ("hello world\n", "starts with 'hello world'. Expected LFW's header"),
        ("1\t1\nsubject_0\t1\t2\n", "announces 1 mated and as many non-mated pairs, but holds 1 and 0"),
        ("1\t1\nsubject_0\t1\n", "line 2: expected 'name i j'"),
        ("1\t1\nsubject_0\tone\t2\n", "line 2: expected 'name i j'"),
        ("1 2 3\n", "line 1: expected folds and pairs a kind"),
        ("0\t1\n", "line 1: expected folds and pairs a kind"),
    ],
)
def test_a_broken_lfw_list_is_refused_in_one_line(tmp_path, text, message):
    write_faces(tmp_path, 2, 2)

    with pytest.raises(EvaluationError, match=message) as caught:
        read_pairs(write(tmp_path, text, "pairs.txt"))

    assert "\n" not in str(caught.value)


def test_missing_pictures_are_counted_and_shown(tmp_path):
    path = write_lfw(tmp_path)
    gone = sorted(tmp_path.glob("*/*_0002.jpg"))[:7]
    for picture in gone:
        picture.unlink()

    with pytest.raises(EvaluationError, match=r"7 pictures that pairs\.txt names are not in") as caught:
        read_pairs(path)

    assert str(caught.value).count("subject_") == 10  # Five of them, each folder and file.
    assert "..." in str(caught.value) and "--images" in str(caught.value)


def test_a_csv_by_hand(tmp_path):
    write_faces(tmp_path, 2, 2)
    a, b, c = "subject_0/subject_0_0001.jpg", "subject_0/subject_0_0002.jpg", "subject_1/subject_1_0001.jpg"
    text = f"\ufeffa, b, same, fold\n{a},{b},1,3\n{a},{c},FALSE,4\n{b},{c},0,3\n"

    pairs = read_pairs(write(tmp_path, text))

    assert pairs.pictures == (a, b, c)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0, 1], [1, 2, 2])
    assert pairs.same.tolist() == [True, False, False]
    assert pairs.folds.tolist() == [3, 4, 3]
    assert pairs.subjects[0] == pairs.subjects[1] != pairs.subjects[2]


def test_without_folders_subjects_are_what_mated_pairs_tie_together(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.jpg").write_text("face 0 0")
    text = "a,b,same\na.jpg,b.jpg,true\nb.jpg,c.jpg,true\na.jpg,d.jpg,false\nd.jpg,e.jpg,true\n"

    pairs = read_pairs(write(tmp_path, text))

    tied = {name: pairs.subjects[pairs.pictures.index(f"{name}.jpg")] for name in "abcde"}
    assert tied["a"] == tied["b"] == tied["c"] != tied["d"] == tied["e"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,same\nx.jpg,y.jpg,maybe\n", "line 2: expected two paths and 0, 1, true or false, got 'maybe'"),
        ("a,b,same\nx.jpg,,1\n", "line 2: expected two paths"),
        ("a,b,same\nx.jpg\n", "line 2: expected two paths"),
        ("a,b,same,fold\nx.jpg,y.jpg,1,first\n", "line 2: expected a whole number as the fold"),
        ("a,b,same\nx.jpg,y.jpg,1\n", "2 pictures that list.csv names are not in"),
        ("a,b,same\n", "holds 0 mated and 0 non-mated pairs. Both are needed"),
        ("left,right,same\n", "CSV header 'a,b,same'"),
    ],
)
def test_a_broken_csv_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(EvaluationError, match=message):
        read_pairs(write(tmp_path, text))


def test_pairs_of_one_kind_measure_nothing(tmp_path):
    write_faces(tmp_path, 1, 2)
    text = "a,b,same\nsubject_0/subject_0_0001.jpg,subject_0/subject_0_0002.jpg,1\n"

    with pytest.raises(EvaluationError, match="holds 1 mated and 0 non-mated"):
        read_pairs(write(tmp_path, text))


def test_what_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="no list of pairs"):
        read_pairs(tmp_path / "none.txt")
    path = write_lfw(tmp_path)
    with pytest.raises(EvaluationError, match="no folder of pictures"):
        read_pairs(path, images=tmp_path / "none")
    (tmp_path / "noise.txt").write_bytes(b"\xff\xfe\xfa noise")
    with pytest.raises(EvaluationError, match="is no text"):
        read_pairs(tmp_path / "noise.txt")


def test_folds_follow_the_file(tmp_path):
    pairs = read_pairs(write_lfw(tmp_path, folds=10, per_kind=6))

    assert np.array_equal(pairs.folds, np.repeat(np.arange(10), 12))


@pytest.mark.parametrize("form", ["{a},{b},1\n{a},{c},0\n", "A;B;Same\n{a};{b};1\n{a};{c};0\n"])
def test_pairs_without_a_header_or_of_another_delimiter_are_read(tmp_path, form):
    write_faces(tmp_path, 2, 2)
    names = {
        "a": "subject_0/subject_0_0001.jpg",
        "b": r"subject_0\subject_0_0002.jpg",
        "c": "subject_1/subject_1_0001.jpg",
    }
    pairs = read_pairs(write(tmp_path, form.format(**names)))
    assert pairs.same.tolist() == [True, False] and pairs.pictures[1] == "subject_0/subject_0_0002.jpg"
