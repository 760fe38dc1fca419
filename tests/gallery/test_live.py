"""The index of a gallery stays in step with its database, across processes, restarts and accidents."""

import shutil

import numpy as np
import pytest

from mien.gallery import Gallery, live
from mien.gallery import index as indexes
from mien.gallery.index import CodedIndex, FlatIndex
from mien.gallery.records import Entry

from .made_up import People, enrol

SUBJECTS = 300


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make galleries large at 200 templates."""
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 200)
    monkeypatch.setattr(indexes, "DEPTH", 64)


@pytest.fixture
def large(gallery, people):
    gallery.enrol_many(
        Entry(f"s{number}", people.face(f"s{number}", crop=False), f"{number}") for number in range(SUBJECTS)
    )
    gallery.search(people.embedding("s0"))
    return gallery


def names(gallery, people, *wanted):
    return [gallery.search(people.embedding(name))[0].subject for name in wanted]


def test_a_growing_gallery_changes_from_flat_to_coded_and_finds_everybody(gallery, people):
    enrol(gallery, people, "first", count=200, crop=False)
    gallery.search(people.embedding("first"))
    assert isinstance(gallery.index(), FlatIndex)
    enrol(gallery, people, "ada", crop=False)
    assert names(gallery, people, "ada", "first") == ["ada", "first"]
    assert isinstance(gallery.index(), CodedIndex)


def test_everybody_is_found_in_a_large_gallery(large, people):
    everybody = [f"s{number}" for number in range(SUBJECTS)]
    assert names(large, people, *everybody) == everybody


@pytest.mark.on("sqlite")
def test_a_restart_loads_the_stored_index_without_reading_templates(large, path, people, monkeypatch):
    large.close()
    monkeypatch.setattr(CodedIndex, "build", lambda *_: pytest.fail("built again"))
    with Gallery(path) as again:
        assert names(again, people, "s7") == ["s7"]


@pytest.mark.on("sqlite")
def test_a_deleted_index_is_made_again(large, path, people):
    large.close()
    shutil.rmtree(path.with_name("people.mien.index"))
    with Gallery(path) as again:
        assert names(again, people, "s7", "s299") == ["s7", "s299"]
    assert path.with_name("people.mien.index").is_dir()


@pytest.mark.parametrize("name", ["index.json", "codes.u8", "vectors.f16"])
@pytest.mark.on("sqlite")
def test_a_damaged_index_is_made_again(large, path, people, name):
    large.close()
    (path.with_name("people.mien.index") / name).write_bytes(b"{}")
    with Gallery(path) as again:
        assert names(again, people, "s7", "s299") == ["s7", "s299"]


@pytest.mark.on("sqlite")
def test_late_templates_are_stored_at_closing(large, path, people, monkeypatch):
    enrol(large, people, "late", crop=False)
    assert names(large, people, "late") == ["late"]
    large.close()
    stored = CodedIndex.load(path.with_name("people.mien.index"))
    assert len(stored) == SUBJECTS + 1
    with Gallery(path) as again:
        assert names(again, people, "late") == ["late"]


@pytest.mark.on("sqlite")
def test_many_late_templates_are_stored_at_once(large, people, monkeypatch):
    monkeypatch.setattr(live, "APPEND_ROWS", 5)
    enrol(large, people, "late", count=5, crop=False)
    large.search(people.embedding("late"))
    assert len(CodedIndex.load(large.live.folder)) == SUBJECTS + 5


@pytest.mark.on("sqlite")
def test_two_processes_append_to_one_index_without_harm(large, path, people):
    with Gallery(path) as other:
        enrol(other, people, "one", crop=False)
        other.search(people.embedding("one"))
        enrol(large, people, "two", crop=False)
        large.search(people.embedding("two"))
    large.close()
    stored = CodedIndex.load(path.with_name("people.mien.index"))
    assert stored.spot_checks(5) and len(stored) == SUBJECTS + 2
    with Gallery(path) as again:
        assert again.check().ok
        assert names(again, people, "one", "two", "s5") == ["one", "two", "s5"]


@pytest.mark.on("sqlite")
def test_an_erasure_the_stored_index_missed_is_blotted_out_at_opening(large, path, people):
    vector = large.vectors("s7").astype(np.float16)[0].tobytes()
    large.close()
    hidden = path.with_name("aside")
    folder = path.with_name("people.mien.index")
    folder.rename(hidden)
    with Gallery(path) as again:
        again.erase("s7")
    hidden.rename(folder)
    assert vector in (folder / "vectors.f16").read_bytes()
    with Gallery(path) as again:
        assert names(again, people, "s7") != ["s7"]
        assert again.check().ok
    assert vector not in (folder / "vectors.f16").read_bytes()


@pytest.mark.on("sqlite")
def test_the_index_of_a_restored_backup_is_made_again(large, path, people):
    large.close()
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    with Gallery(path) as later:
        enrol(later, people, "after the backup", crop=False)
        later.search(people.embedding("s1"))
    shutil.copy(backup, path)
    with Gallery(path) as restored:
        enrol(restored, people, "another one", crop=False)
        assert names(restored, people, "another one", "s3") == ["another one", "s3"]
        assert "after the backup" not in {c.subject for c in restored.search(people.embedding("after the backup"), 50)}


@pytest.mark.on("sqlite")
def test_the_index_of_a_backup_from_before_an_erasure_is_made_again(large, path, people):
    large.close()
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    with Gallery(path) as later:
        later.erase("s3")
    shutil.copy(backup, path)
    with Gallery(path) as restored:
        assert names(restored, people, "s3") == ["s3"]


@pytest.mark.on("sqlite")
def test_many_erased_rows_make_a_new_index_worth_while(large, path, people):
    for number in range(0, 160, 2):
        large.merge("s299", f"s{number}")
    gone = [f"s{number}" for number in range(1, 160, 2)]
    for name in gone:
        large.erase(name)
    large.close()
    with Gallery(path) as again:
        assert names(again, people, "s200", "s298") == ["s200", "s298"]
        assert again.check().ok
        assert CodedIndex.load(again.live.folder).wasted == 0


@pytest.mark.on("sqlite")
def test_read_only_uses_a_stored_index_and_writes_none(large, path, people):
    large.close()
    folder = path.with_name("people.mien.index")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with Gallery(path) as writer:
        enrol(writer, people, "late", crop=False)
    with Gallery(path, read_only=True) as reader:
        assert names(reader, people, "late", "s5") == ["late", "s5"]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    shutil.rmtree(folder)
    with Gallery(path, read_only=True) as reader:
        assert names(reader, people, "late", "s5") == ["late", "s5"]
    assert not folder.exists()


@pytest.mark.on("sqlite")
def test_an_index_that_cannot_be_written_lives_in_memory(gallery, people, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexes.tempfile, "mkdtemp", full)
    gallery.enrol_many(Entry(f"s{number}", people.face(f"s{number}", crop=False), "a") for number in range(SUBJECTS))
    assert names(gallery, people, "s7") == ["s7"]
    assert gallery.live.files() == []


@pytest.mark.on("sqlite")
def test_a_search_does_not_wait_for_a_writer_to_store_templates(large, path, people, monkeypatch):
    monkeypatch.setattr(live, "APPEND_ROWS", 1)
    enrol(large, people, "late", crop=False)
    with Gallery(path) as writer, writer.rows.write():
        assert names(large, people, "late") == ["late"]
    assert large.rows.connection.execute("PRAGMA busy_timeout").fetchone()[0] == 30_000


def test_per_subject_search_looks_past_many_samples_of_one(large, people):
    large.enrol_many(Entry("twin", people.face("s0", crop=False), f"t{number}") for number in range(40))
    found = large.search(people.embedding("s0"), k=2, per_subject=True)
    assert {candidate.subject for candidate in found} == {"s0", "twin"}


@pytest.mark.on("sqlite")
def test_a_large_gallery_of_vectors_that_no_sub_quantiser_divides_finds_everybody(path):
    people = People(dimension=129)
    with Gallery(path) as gallery:
        gallery.enrol_many(Entry(f"s{n}", people.face(f"s{n}", crop=False), f"{n}") for n in range(SUBJECTS))
        everybody = [f"s{number}" for number in range(SUBJECTS)]
        assert names(gallery, people, *everybody) == everybody
        assert isinstance(gallery.index(), CodedIndex)
        enrol(gallery, people, "late", crop=False)
        assert names(gallery, people, "late") == ["late"]
        assert gallery.check(probes=100).ok
    with Gallery(path) as again:
        assert names(again, people, "s7", "late") == ["s7", "late"]


@pytest.mark.on("sqlite")
class TestLinks:
    """One gallery by several paths: the index lies beside the file, and what lies elsewhere goes with an erasure."""

    @pytest.fixture
    def link(self, tmp_path, path):
        (tmp_path / "app").mkdir()
        link = tmp_path / "app" / "club.mien"
        link.symlink_to(path)
        return link

    @staticmethod
    def kept(folder, vector):
        return [file for file in sorted(folder.rglob("*")) if file.is_file() and vector in file.read_bytes()]

    @pytest.mark.parametrize("by", ["file", "link"])
    def test_an_erasure_by_a_link_leaves_no_vector_beside_the_file(self, large, tmp_path, path, link, people, by):
        vector = large.vectors("s7").astype(np.float16)[0].tobytes()
        large.close()
        opened_by = {"file": (path, link), "link": (link, path)}[by]
        with Gallery(opened_by[0]) as one:
            assert names(one, people, "s7") == ["s7"]
            assert self.kept(tmp_path, vector)
        with Gallery(opened_by[1]) as other:
            other.erase("s7")
            assert self.kept(tmp_path, vector) == []
            assert other.check().ok and names(other, people, "s8") == ["s8"]

    def test_an_index_that_an_older_mien_kept_beside_the_link_goes_too(self, large, tmp_path, path, link):
        vector = large.vectors("s7").astype(np.float16)[0].tobytes()
        large.close()
        shutil.copytree(path.with_name("people.mien.index"), tmp_path / "app" / "club.mien.index")
        with Gallery(link) as gallery:
            gallery.erase("s7")
        assert self.kept(tmp_path, vector) == []

    def test_the_index_that_a_moved_file_left_behind_goes_too(self, large, tmp_path, path, link):
        vector = large.vectors("s7").astype(np.float16)[0].tobytes()
        large.close()
        link.unlink()
        path.rename(link)
        with Gallery(link) as gallery:
            gallery.erase("s7")
        assert self.kept(tmp_path, vector) == []

    def test_the_index_of_a_backup_is_the_backups(self, large, tmp_path, path, people):
        large.close()
        shutil.copytree(tmp_path, tmp_path.with_name("backup"))
        with Gallery(tmp_path.with_name("backup") / path.name) as backup:
            backup.erase("s7")
        assert (path.with_name("people.mien.index") / "index.json").exists()
        with Gallery(path) as gallery:
            assert names(gallery, people, "s7") == ["s7"]

    def test_a_place_that_cannot_be_looked_into_is_named(self, large, path):
        elsewhere = "/nowhere/mounted/people.mien.index"
        with large.rows.write():
            large.rows.set_meta("index_folders", f'["{elsewhere}"]')
        assert large.erase("s7").out_of_reach == (elsewhere,)
