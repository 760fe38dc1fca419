import os
from pathlib import Path

import pytest

from mien.errors import ImageError
from mien.files import find_images, find_subjects, local_path, search_images, walk, write_whole


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def below(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.fixture
def locked(monkeypatch):
    """``locked(folder)`` makes a folder that may not be read, also for root, who may read all."""
    real = os.scandir

    def lock(folder):
        def scandir(place):
            if Path(place) == folder:
                raise PermissionError(13, "Permission denied", str(place))
            return real(place)

        monkeypatch.setattr(os, "scandir", scandir)
        return folder

    return lock


def test_a_folder_that_may_not_be_read_fails_alone_and_is_not_passed_over(tmp_path, locked):
    root = make(tmp_path, "a.jpg", "private/b.jpg", "z/c.jpg")
    locked(root / "private")
    assert below(root, find_images([root])) == ["a.jpg", "private", "z/c.jpg"]
    with pytest.raises(ImageError, match=r"private' may not be read\. Check its permissions"):
        find_images([root / "private"])


def test_what_is_no_picture_by_its_name_is_counted(tmp_path):
    root = make(tmp_path, "a.jpg", "b.jpg_orig", "noext", "c.NEF", "deep/d.nef", "e.mp4", ".hidden", "deep/.x.mp4")
    found = search_images([root])
    assert below(root, found.paths) == ["a.jpg"]
    assert found.others == {".nef": 2, "": 1, ".jpg_orig": 1, ".mp4": 1}
    (line,) = found.left_out()
    assert line.startswith("5 other files left out, by their names no pictures: 2 .nef, ")
    assert search_images([make(tmp_path / "all", "a.jpg")]).left_out() == []


def test_thumbnails_that_other_programs_keep_are_no_photographs(tmp_path):
    root = make(tmp_path, "a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "__MACOSX/a.jpg", "$RECYCLE.BIN/a.jpg")
    assert below(root, find_images([root])) == ["a.jpg"]


def test_what_mien_wrote_is_no_photograph(tmp_path):
    root = make(tmp_path, "a.jpg", "a.faces.jpg", "a.face-1.png", "b.face-2.png")
    make(root, "who/groups.json", "who/person-0001.png", "who/holiday.jpg", "shown/x.faces.jpg", "mine/person-0001.png")
    found = search_images([root])
    assert below(root, found.paths) == ["a.jpg", "b.face-2.png", "mine/person-0001.png", "who/holiday.jpg"]
    assert found.own == 4 and not found.others
    assert "4 pictures left out that mien itself wrote" in found.left_out()[0]


def test_a_folder_of_crops_that_is_named_is_meant(tmp_path):
    root = make(tmp_path / "crops", "a.face-1.png", "a.face-2.png")
    assert below(root, find_images([root])) == ["a.face-1.png", "a.face-2.png"]


def test_where_results_will_go_nothing_is_read(tmp_path):
    root = make(tmp_path, "a.jpg", "out/anything.png", "out/deep/more.png", "out/notes.txt")
    found = search_images([root], results=[root / "out", None])
    assert below(root, found.paths) == ["a.jpg"] and found.own == 2 and not found.others
    assert len(search_images([root / "out"], results=[root / "out"]).paths) == 2


def test_folders_deeper_than_the_interpreter_calls_are_walked(tmp_path):
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.jpg").write_bytes(b"")
    import sys

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        assert find_images([tmp_path]) == [deep / "a.jpg"]
    finally:
        sys.setrecursionlimit(limit)


def test_folders_are_walked_in_sorted_order_each_once(tmp_path):
    root = make(tmp_path, "b/1.txt", "a/2.txt", "c.txt")
    (root / "a" / "again").symlink_to(root)
    assert [(place.name, [e.name for e in files]) for place, files in walk(root)][1:] == [
        ("a", ["2.txt"]),
        ("b", ["1.txt"]),
    ]


def test_each_folder_is_a_subject(tmp_path):
    root = make(tmp_path, "ada/1.jpg", "ada/2.jpg", "bob/3.jpg", ".x/4.jpg", "empty/notes.txt", "loose.jpg")
    found = find_subjects(root)
    assert [(path.name, name) for path, name in found.pictures] == [
        ("1.jpg", "ada"),
        ("2.jpg", "ada"),
        ("3.jpg", "bob"),
    ]
    assert "1 picture directly in" in found.notes[0] and "1 .txt" in found.notes[1] and not found.failures


def test_people_below_people_are_not_mixed_into_one_subject(tmp_path):
    root = make(tmp_path, "amber/0.jpg", "family/cedar/0.jpg", "family/cedar/1.jpg", "family/dune/0.jpg", "zoe/0.jpg")
    found = find_subjects(root)
    assert [name for _, name in found.pictures] == ["amber", "zoe"]
    (failure,) = found.failures
    assert "family' holds folders of pictures ('cedar', 'dune') and none of its own" in failure


def test_folders_below_a_subjects_own_pictures_are_the_subjects_with_a_note(tmp_path):
    root = make(tmp_path, "ada/0.jpg", "ada/2019/1.jpg", "bob/2020/1.jpg")
    found = find_subjects(root)
    assert [name for _, name in found.pictures] == ["ada", "ada", "bob"]
    assert len(found.notes) == 1 and "ada' has sub-folders ('2019')" in found.notes[0]


def test_a_subjects_folder_that_may_not_be_read_is_kept_as_a_failure(tmp_path, locked):
    root = make(tmp_path, "ada/0.jpg", "bob/1.jpg")
    locked(root / "bob")
    assert [(below(root, [path])[0], name) for path, name in find_subjects(root).pictures] == [
        ("ada/0.jpg", "ada"),
        ("bob", "bob"),
    ]


def test_a_file_url_is_a_path(tmp_path):
    path = tmp_path / "a b é.jpg"
    assert local_path(path.as_uri()) == path
    assert local_path("C://odd") == Path("C://odd")
    assert find_images([path.as_uri(), make(tmp_path, "x.jpg") / "x.jpg"])[0] == path


def test_a_file_is_written_with_its_folders_or_not_at_all(tmp_path):
    with pytest.raises(OSError):
        write_whole(tmp_path / "no" / "such.txt", b"x")
    write_whole(tmp_path / "no" / "such.txt", b"x", parents=True, sync=True)
    assert (tmp_path / "no" / "such.txt").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "no").iterdir()] == ["such.txt"]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"old")

    def interrupt(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", b"new", sync=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"old"}
