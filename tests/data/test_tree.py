import os
from pathlib import Path

import pytest

from data.layouts import packed, write
from mien.data.tree import open_tree
from mien.errors import DataError, ImageError

FILES = {
    "a/1.png": b"one",
    "a/deep/2.png": b"two",
    "list.csv": b"x",
    "empty": None,
    ".hidden/3.png": b"3",
    "a/.x.png": b"",
}


@pytest.fixture(params=["folder", "zip", "zip with one folder"])
def tree(request, tmp_path):
    if request.param == "folder":
        return open_tree(write(tmp_path / "set", FILES))
    return open_tree(packed(tmp_path / "set.zip", FILES, below="set/" if "one" in request.param else ""))


def test_a_zip_and_a_folder_show_the_same(tree):
    assert tree.files == ("a/1.png", "a/deep/2.png", "list.csv")
    assert tree.folders == ("a", "a/deep", "empty")
    assert tree.has("a/1.png") and not tree.has("a/9.png")
    assert tree.read("a/deep/2.png") == b"two"
    assert tree.stamp("a/1.png") != tree.stamp("a/deep/2.png") and not any(tree.stamp("missing"))
    with pytest.raises(ImageError, match=r"missing\.png"):
        tree.read("missing.png")


def test_a_split_is_not_taken_for_the_folder_around_everything(tmp_path):
    tree = open_tree(packed(tmp_path / "set.zip", {"train/happy/1.png": b"", "train/sad/1.png": b""}))
    assert tree.files[0] == "train/happy/1.png"


def test_members_that_point_out_of_the_zip_are_nobodys(tmp_path):
    tree = open_tree(
        packed(tmp_path / "set.zip", {"../out.png": b"", "/abs.png": b"", "a/in.png": b"", "b/in.png": b""})
    )
    assert tree.files == ("a/in.png", "b/in.png")


def test_links_that_go_round_are_walked_once(tmp_path):
    write(tmp_path, {"a/1.png": b"one"})
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert open_tree(tmp_path).files == ("a/1.png",)


def test_a_damaged_member_is_an_error_of_that_picture(tmp_path):
    path = packed(tmp_path / "set.zip", {"a/1.png": b"first" * 9, "a/2.png": b"second" * 9})
    path.write_bytes(path.read_bytes().replace(b"firstfirst", b"fiRSTfirst"))
    tree = open_tree(path)
    with pytest.raises(ImageError, match=r"'a/1\.png' cannot be read from the zip"):
        tree.read("a/1.png")
    assert tree.read("a/2.png").startswith(b"second")


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path):
    write(tmp_path, {"set.zip": b"no zip", "set.txt": b""})
    for name, why in (
        ("set.zip", "no zip that can be read"),
        ("set.txt", "Expected a folder"),
        ("gone", "There is no"),
    ):
        with pytest.raises(DataError, match=why):
            open_tree(tmp_path / name)


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    write(tmp_path, {"a/1.png": b"one", "b/2.png": b"two"})
    real = os.scandir

    def scandir(place):
        if Path(place).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"b' may not be read\. Check its permissions"):
        _ = open_tree(tmp_path).files
