import json

import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery
from mien.gallery.crypto import write_key
from mien.gallery.records import Transfer
from mien.images import digest, save_image

from .made_up import MODEL, People, enrol


@pytest.fixture
def exported(gallery, people, tmp_path):
    enrol(gallery, people, "ada", count=2, reasons=("blurred",))
    enrol(gallery, people, "Zoë 安", crop=False, quality=None)
    folder = tmp_path / "out" / "export"
    assert gallery.export(folder) == Transfer(2, 3)
    return folder


@pytest.fixture
def other(tmp_path):
    with Gallery(tmp_path / "other.mien") as opened:
        yield opened


def lines(folder):
    return [json.loads(line) for line in (folder / "gallery.jsonl").read_text(encoding="utf-8").splitlines()]


def rewrite(folder, change):
    """Apply a change to the list of records and write them back."""
    records = lines(folder)
    change(records)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "gallery.jsonl").write_text(text, encoding="utf-8")


def test_an_import_equals_what_was_exported(gallery, exported, other, people):
    assert other.import_(exported) == Transfer(2, 3)
    for name in ("ada", "Zoë 安"):
        assert np.array_equal(other.vectors(name), gallery.vectors(name))
        for one, two in zip(other.samples(name), gallery.samples(name), strict=True):
            assert (one.source_hash, one.box, one.quality, one.reasons, one.created, one.models) == (
                two.source_hash, two.box, two.quality, two.reasons, two.created, two.models,
            )  # fmt: skip
            crop, expected = other.crop(one.id), gallery.crop(two.id)
            assert (crop is None and expected is None) or np.array_equal(crop, expected)
    assert other.model == MODEL and other.check().ok


def test_importing_twice_changes_nothing(exported, other):
    other.import_(exported)
    assert other.import_(exported) == Transfer(0, 0, already=3)


def test_crops_are_png_files_anybody_can_open(exported):
    crops = sorted((exported / "crops").iterdir())
    assert len(crops) == 2 and all(crop.read_bytes().startswith(b"\x89PNG") for crop in crops)


def test_an_encrypted_gallery_can_take_over_a_plain_one_and_give_it_back(gallery, exported, tmp_path):
    write_key(tmp_path / "key")
    with Gallery(tmp_path / "sealed.mien", key_file=tmp_path / "key") as sealed:
        sealed.import_(exported)
        sealed.export(tmp_path / "again")
    assert {r.get("source_hash") for r in lines(tmp_path / "again")} == {r.get("source_hash") for r in lines(exported)}


def test_an_empty_gallery_goes_out_and_in(gallery, other, tmp_path):
    gallery.export(tmp_path / "empty")
    assert other.import_(tmp_path / "empty") == Transfer(0, 0)


def test_a_folder_in_use_is_not_overwritten(gallery, exported):
    before = lines(exported)
    with pytest.raises(GalleryError, match="not an empty folder"):
        gallery.export(exported)
    assert lines(exported) == before


def test_an_export_that_cannot_be_written_leaves_nothing(gallery, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="cannot be written"):
        gallery.export(tmp_path / "file" / "export")


def test_a_folder_without_export_is_an_error(other, tmp_path):
    with pytest.raises(GalleryError, match=r"no export.*mien gallery export"):
        other.import_(tmp_path)


def test_templates_of_another_embedder_are_refused(exported, other):
    enrol(other, People(model="other"), "bob")
    with pytest.raises(GalleryError, match=f"other.*{MODEL}"):
        other.import_(exported)
    assert [s.name for s in other.subjects()] == ["bob"]


def set_in(index, **values):
    return lambda records: records[index].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in(0, format="zip"), "header"),
        (set_in(0, version=2), "version 2.*upgrade"),
        (set_in(0, dimension="32"), "names no model"),
        (set_in(0, dimension=16), "32 values"),
        (set_in(2, kind="face"), "Line 3.*neither subject nor sample"),
        (set_in(2, subject=99), "Line 3"),
        (set_in(2, vector="AAAA"), "Line 3.*values of norm"),
        (set_in(2, vector="?"), "Line 3.*not base64"),
        (set_in(2, quality=1.5), "Line 3.*quality"),
        (set_in(2, box=[1, 2, 3]), "Line 3"),
        (set_in(2, box=[9, 9, 1, 1]), "Line 3.*corners"),
        (set_in(2, box=[0, 0, float("nan"), 1]), "Line 3"),
        (set_in(2, reasons=["ugly"]), "Line 3.*ugly"),
        (set_in(2, crop="../../etc/passwd"), "Line 3.*crops folder"),
        (set_in(2, crop="/etc/passwd"), "Line 3.*crops folder"),
        (set_in(2, crop="crops/../gallery.jsonl"), "Line 3.*crops folder"),
        (set_in(2, crop="crops/77.png"), "Line 3"),
        (set_in(5, crop_digest="0" * 64), "Line 6.*digest"),
        (set_in(1, name=""), "Line 2.*name"),
        (lambda records: records[2].pop("vector"), "Line 3.*vector"),
        (set_in(0, model="\x1b[2Jnet"), "header.*model has characters that cannot be printed"),
        (set_in(0, model=["net"]), "header.*model is no text"),
        (set_in(0, version="\x1b[2J"), r"version \\x1b"),
        (set_in(0, dimension=True), "header.*dimension is no whole number"),
        (set_in(1, id="1"), "Line 2.*id is no whole number"),
        (set_in(1, id=True), "Line 2.*id is no whole number"),
        (set_in(1, name=7), "Line 2.*name is no text"),
        (set_in(1, name="a\x1b[31m"), "Line 2.*control characters"),
        (set_in(1, name="\ud800"), "Line 2.*control characters"),
        (set_in(1, created="\x1b]0;x\x07"), "Line 2.*created has characters"),
        (set_in(1, created="yesterday"), "Line 2.*created is no time"),
        (lambda records: records.insert(2, {**records[1], "name": "bob"}), "Line 3.*id 2 is another"),
        (lambda records: records.insert(2, {**records[1], "id": 9, "name": "a\u200bda"}), "Line 5.*looks like.*line 3"),
        (set_in(2, created="\x1b[2J2026"), "Line 3.*created has characters"),
        (set_in(2, created=5), "Line 3.*created is no text"),
        (set_in(2, source_hash="\x1b[2J"), "Line 3.*source_hash has characters"),
        (set_in(2, source_hash=None), "Line 3.*source_hash is no text"),
        (set_in(2, source_hash="\ud800"), "Line 3.*source_hash has characters"),
        (set_in(2, quality="0.5"), "Line 3.*quality is no number"),
        (set_in(2, quality=10**400), "Line 3.*quality is no number"),
        (set_in(2, box="1234"), "Line 3.*box is no list"),
        (set_in(2, box=[0, 0, "1", 1]), "Line 3.*box is no number"),
        (set_in(2, box=[0, 0, 1e300, 1]), "Line 3.*box is no number"),
        (set_in(2, reasons="blurred"), "Line 3.*reasons is no list"),
        (set_in(2, reasons=[["blurred"]]), "Line 3.*reasons is no list"),
        (set_in(2, crop=["crops/1.png"]), "Line 3.*crops folder"),
        (set_in(2, vector=[1, 2]), "Line 3.*no vector"),
        (set_in(2, vector="\u00e9"), "Line 3"),
        (set_in(2, kind=["sample"]), "Line 3.*neither"),
        (lambda records: records.insert(2, [1]), "Line 3.*not JSON"),
        (lambda records: records.clear(), "header"),
    ],
)
def test_a_bad_record_is_named_and_nothing_is_imported(exported, other, change, message):
    rewrite(exported, change)
    with pytest.raises(GalleryError, match=f"(?i){message}"):
        other.import_(exported)
    assert len(other) == 0 and other.model is None


def test_a_crop_that_is_a_link_is_refused(exported, other, tmp_path):
    crop = next((exported / "crops").iterdir())
    crop.rename(tmp_path / crop.name)
    crop.symlink_to(tmp_path / crop.name)
    with pytest.raises(GalleryError, match=r"crops folder|a link"):
        other.import_(exported)


def test_a_line_that_is_not_json_is_named(exported, other):
    with (exported / "gallery.jsonl").open("a") as file:
        file.write("{")
    with pytest.raises(GalleryError, match=r"Line 7 .*not JSON"):
        other.import_(exported)
    assert len(other) == 0


def test_a_line_nested_too_deeply_is_named(exported, other):
    with (exported / "gallery.jsonl").open("a") as file:
        file.write("[" * 200_000)
    with pytest.raises(GalleryError, match=r"Line 7 .*not JSON"):
        other.import_(exported)
    assert len(other) == 0


def test_a_crop_that_is_not_square_is_refused(exported, other):
    name = lines(exported)[4]["crop"]
    crop = np.zeros((24, 20, 3), np.uint8)
    save_image(exported / name, crop)
    rewrite(exported, set_in(4, crop_digest=digest(crop)))
    with pytest.raises(GalleryError, match=r"Line 5 .*not square: 20 x 24 px"):
        other.import_(exported)
    assert len(other) == 0
