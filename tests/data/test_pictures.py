from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from mien.data.pictures import read_pictures
from mien.drawing import draw_face
from mien.errors import DataError
from mien.images import save_image


class Blind:
    """Finds no face: every drawn picture is taken as a whole."""

    def detect(self, image):
        return []


@cache
def face(subject, expression="neutral", *, grey=False):
    image = cv2.resize(draw_face(subject, side=96, expression=expression).image, (32, 32), interpolation=cv2.INTER_AREA)
    return np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2) if grey else image


def fill(folder, subjects, expression="neutral", *, grey=False):
    folder.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        save_image(folder / f"{subject}.png", face(subject, expression, grey=grey))
    return folder


def read(*sources, **settings):
    given = {"template": "face-64", "side": 16, "colour": True, "keep_without_face": True, "detector": Blind()}
    return read_pictures(sources, **{**given, **settings})


def names(pictures, split):
    return {name for name, own in zip(pictures.names, pictures.splits, strict=True) if own == split}


ALL = ("train", "valid", "test")


def test_a_folder_of_loose_pictures_is_enough(tmp_path):
    pictures = read(fill(tmp_path / "some", range(20)), splits=ALL)
    assert pictures.images.shape == (20, 3, 16, 16) and pictures.images.dtype == np.uint8
    assert pictures.classes == () and set(pictures.labels.tolist()) == {-1}
    assert [len(names(pictures, split)) for split in ALL] == [17, 1, 2]


def test_who_is_held_out_does_not_depend_on_what_is_learned_beside(tmp_path):
    one, two = fill(tmp_path / "one", range(20)), fill(tmp_path / "two", range(20, 40))
    alone, together = read(one, splits=ALL), read(one, two, splits=ALL)
    assert {name for name in names(together, "test") if name.startswith("one/")} == names(alone, "test")
    assert len(together) == 40


def test_no_subject_stands_in_two_splits(tmp_path):
    for subject in range(12):
        fill(tmp_path / "data" / f"s{subject}", [subject * 10 + i for i in range(3)])
    pictures = read(tmp_path / "data", kind="subjects", splits=ALL)
    seen = {split: {name.split("/")[1] for name in names(pictures, split)} for split in ALL}
    assert seen["valid"] and seen["test"]
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["valid"]


def test_splits_that_the_data_have_are_kept(tmp_path):
    for split, subjects in (("train", range(20)), ("test", range(20, 25))):
        fill(tmp_path / split / "neutral", subjects)
        fill(tmp_path / split / "happiness", subjects, "happiness")
    pictures = read(tmp_path, splits=ALL)
    assert pictures.classes == ("neutral", "happiness")
    assert names(pictures, "test") == {name for name in pictures.names if "/test/" in name}
    assert len(names(pictures, "valid")) == 2  # out of train


def test_a_training_picture_that_is_held_out_elsewhere_is_left_out(tmp_path):
    fill(tmp_path / "a" / "train" / "neutral", range(10))
    fill(tmp_path / "a" / "valid" / "neutral", range(10, 12))
    fill(tmp_path / "b" / "train" / "neutral", range(8, 20))
    fill(tmp_path / "b" / "valid" / "neutral", [30])
    pictures = read(tmp_path / "a", tmp_path / "b")
    assert not {name for name in pictures.names if name.endswith(("/10.png", "/11.png"))}
    assert any("held out too" in note for note in pictures.notes)


def test_a_picture_without_a_face_is_left_out_unless_wanted(tmp_path):
    folder = fill(tmp_path / "some", range(8))
    with pytest.raises(DataError, match=r"No picture is left of some. In 8 pictures no face was found"):
        read(folder, keep_without_face=False)


def test_attributes_come_from_the_list_beside_the_pictures(tmp_path):
    folder = fill(tmp_path / "data" / "img", range(6)).parent
    rows = [f"{i}.png,{1 if i % 2 else -1},{1 if i > 2 else 0}" for i in range(5)]
    (folder / "attributes.csv").write_text("\n".join(["file,Smiling,Young", *rows]))
    pictures = read(folder, attributes=["young", "Smiling"], splits=ALL)
    told = dict(zip(pictures.names, pictures.attributes.tolist(), strict=True))
    assert pictures.attribute_names == ("Young", "Smiling")
    assert told["data/img/3.png"] == [1, 1] and told["data/img/1.png"] == [0, 1] and told["data/img/0.png"] == [0, 0]
    assert any("1 pictures have no row" in note for note in pictures.notes)


def test_an_attribute_that_does_not_exist_is_named_with_the_nearest(tmp_path):
    folder = fill(tmp_path / "img", range(3)).parent
    (folder / "attributes.csv").write_text("file,Smiling\n0.png,1\n")
    with pytest.raises(DataError, match=r"no attribute 'Smilling'. Did you mean 'Smiling'\?"):
        read(folder, attributes=["Smilling"])
    (folder / "attributes.csv").unlink()
    with pytest.raises(DataError, match=r"has no attributes.csv"):
        read(folder, attributes=["Smiling"])


def test_grey_pictures_among_coloured_ones_are_noted(tmp_path):
    mixed = fill(fill(tmp_path / "some", range(10)), range(10, 14), grey=True)
    assert any("4 of 14 pictures are grey" in note for note in read(mixed, splits=ALL).notes)
    assert not any("grey" in note for note in read(mixed, colour=False).notes)
    assert read(mixed, colour=False).images.shape[1] == 1


def test_a_second_reading_takes_the_crops_of_the_first_also_for_a_smaller_side(tmp_path):
    folder = fill(tmp_path / "some", range(6))

    class Never:
        def detect(self, image):
            raise AssertionError("the faces are known")

    first = read(folder, cache=tmp_path / "cache", side=32)
    second = read(folder, cache=tmp_path / "cache", side=16, detector=Never())
    small = cv2.resize(first.images[0].transpose(1, 2, 0), (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - second.images[0].transpose(1, 2, 0)).max() <= 8


def test_other_labels_or_pixels_give_another_digest(tmp_path):
    pictures = read(fill(tmp_path / "some", range(8)))
    other = pictures.images.copy()
    other[0, 0, 0, 0] ^= 1
    assert replace(pictures).digest == pictures.digest != replace(pictures, images=other).digest
