import pytest

from mien.data.clips import read_clips
from mien.errors import DataError


def touch(root, *names):
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return root


def told(clips):
    return {clip.name: (clip.label, clip.subject, clip.split, len(clip.frames)) for clip in clips.clips}


def test_a_folder_or_a_video_below_an_expression_is_a_clip(tmp_path):
    touch(tmp_path, "train/Happy/a/1.png", "train/Happy/a/2.png", "train/Sad/b.mp4", "test/Sad/c.avi", "Sad/notes.txt")

    clips = read_clips(tmp_path)

    assert told(clips) == {
        "train/Happy/a": ("happiness", "", "train", 2),
        "train/Sad/b": ("sadness", "", "train", 1),
        "test/Sad/c": ("sadness", "", "test", 1),
    }
    assert clips.classes == ("happiness", "sadness") and clips.notes == ()


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    touch(tmp_path, "joy/x/frame10.png", "joy/x/frame2.png", "joy/x/frame1.png")

    (clip,) = read_clips(tmp_path).clips

    assert [frame.stem for frame in clip.frames] == ["frame1", "frame2", "frame10"]


def test_the_folder_of_a_subject_may_hold_its_expressions(tmp_path):
    touch(tmp_path, "NI/Strong/P001/Anger/000.jpeg", "NI/Strong/P001/Anger/001.jpeg", "NI/Strong/P002/Fear/000.jpeg")

    assert set(told(read_clips(tmp_path)).values()) == {("anger", "P001", "", 2), ("fear", "P002", "", 1)}


def test_sequences_of_ck_plus_are_told_apart_by_their_frames_names(tmp_path):
    touch(tmp_path, *(f"happy/S010_00{k}_0000001{i}.png" for k in (2, 6) for i in range(3)))

    assert told(read_clips(tmp_path)) == {
        "happy/S010_002": ("happiness", "S010", "", 3),
        "happy/S010_006": ("happiness", "S010", "", 3),
    }


def test_a_list_of_sequences_says_what_they_show(tmp_path):
    touch(tmp_path, "all/S005_001_00000009.png", "all/S005_001_00000010.png", "all/S006_001_00000010.png")
    (tmp_path / "sequences.csv").write_text("subject,sequence,label\nS005,001,disgust\n")

    clips = read_clips(tmp_path)

    assert told(clips) == {"all/S005_001": ("disgust", "S005", "", 2)}
    assert "1 clips have no label and are left out: all/S006_001" in clips.notes[0]


def test_the_original_layout_of_ck_plus_is_read_with_its_text_files(tmp_path):
    touch(tmp_path, *(f"images/S005/001/S005_001_0000000{i}.png" for i in range(1, 5)))
    text = tmp_path / "Emotion/S005/001/S005_001_00000004_emotion.txt"
    text.parent.mkdir(parents=True)
    text.write_text("   3.0000000e+00\n")

    (clip,) = read_clips(tmp_path).clips

    assert (clip.label, clip.subject, len(clip.frames)) == ("disgust", "S005", 4)


def test_a_list_may_name_clips_labels_subjects_and_splits(tmp_path):
    touch(tmp_path, "x/1.png", "y.mp4", "z/1.png")
    (tmp_path / "clips.csv").write_text(
        "path,label,subject,split\nx,joy,Ann,train\ny.mp4,fear,Bob,val\nz,boredom,,\ngone,joy,,\n"
    )

    clips = read_clips(tmp_path)

    assert told(clips) == {"x": ("happiness", "Ann", "train", 1), "y.mp4": ("fear", "Bob", "valid", 1)}
    assert any("such as 'gone'" in note for note in clips.notes)
    assert any("such as 'boredom'" in note for note in clips.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [((), "holds no labelled clips"), (("boredom/a/1.png",), "holds no labelled clips"), (None, "There is no folder")],
)
def test_what_is_no_set_of_clips_is_said_in_a_line(tmp_path, files, message):
    root = tmp_path / "missing" if files is None else touch(tmp_path, *files)

    with pytest.raises(DataError, match=message):
        read_clips(root)


def test_a_list_that_lacks_a_column_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("path\nx\n")

    with pytest.raises(DataError, match="says no label in some row"):
        read_clips(tmp_path)


def test_the_fingerprint_changes_with_a_file_and_with_a_label(tmp_path):
    touch(tmp_path, "joy/x/1.png", "fear/y/1.png")
    before = read_clips(tmp_path).fingerprint()

    assert read_clips(tmp_path).fingerprint() == before
    (tmp_path / "joy/x/1.png").write_bytes(b"other")
    changed = read_clips(tmp_path).fingerprint()
    (tmp_path / "joy").rename(tmp_path / "sad")
    assert len({before, changed, read_clips(tmp_path).fingerprint()}) == 3
