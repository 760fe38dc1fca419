import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery, erasure
from mien.gallery.crops import encode_crop
from mien.gallery.crypto import write_key
from mien.gallery.erasure import Needle, remains
from mien.gallery.records import Entry

from .made_up import enrol


@pytest.fixture(params=["plain", "encrypted"])
def gallery(request, path, tmp_path):
    if request.param == "encrypted":
        write_key(tmp_path / "key")
    with Gallery(path, key_file=tmp_path / "key" if request.param == "encrypted" else None) as opened:
        yield opened


def on_disk(gallery):
    files = [*gallery.rows.files(), *gallery.live.files()]
    return b"".join(file.read_bytes() for file in files)


class TestErase:
    def test_rows_of_the_subject_go_and_those_of_others_stay(self, gallery, people):
        enrol(gallery, people, "ada", count=3)
        enrol(gallery, people, "bob", count=2)

        erased = gallery.erase("ada")

        assert (erased.samples, erased.templates, erased.crops) == (3, 3, 3)
        assert erased.bytes_erased > 3 * 2 * 32
        assert [(s.name, s.samples) for s in gallery.subjects()] == [("bob", 2)]
        assert [c.subject for c in gallery.search(people.embedding("ada"), 10)] == ["bob", "bob"]
        assert gallery.check().ok

    def test_no_byte_of_vector_crop_or_name_remains(self, gallery, people):
        for number in range(30):
            enrol(gallery, people, f"somebody {number}")
        faces = [people.face("Adalovelace") for _ in range(5)]
        for number, face in enumerate(faces):
            gallery.enrol("Adalovelace", face, source_hash=f"{number:064x}")

        erased = gallery.erase("Adalovelace")

        data = on_disk(gallery)
        assert erased.name_searched and b"Adalovelace" not in data
        assert erased.bytes_searched >= len(data) - 32768  # shared memory may differ
        for face in faces:
            crop = encode_crop(face.crop)
            pieces = [crop[at : at + 16] for at in range(64, len(crop) - 16, 16)]
            for dtype in ("<f2", "<f4"):
                vector = face.embedding.vector.astype(dtype).tobytes()
                pieces += [vector[at : at + 16] for at in range(0, len(vector), 16)]
            assert not any(piece in data for piece in pieces)

    def test_the_audit_log_has_the_id_and_not_the_name(self, gallery, people):
        enrol(gallery, people, "Adalovelace")
        erased = gallery.erase("Adalovelace")
        rows = gallery.rows.connection.execute("SELECT action, subject_id, detail FROM audit").fetchall()
        assert rows == [("erase", erased.subject_id, "1 samples")]
        assert gallery.stats().erasures == 1

    @pytest.mark.on("sqlite")
    def test_a_coded_index_forgets_too(self, path, people, monkeypatch):
        monkeypatch.setattr("mien.gallery.index.FLAT_LIMIT", 40)
        with Gallery(path) as gallery:
            for number in range(60):
                enrol(gallery, people, f"somebody {number}", crop=False)
            face = people.face("ada")
            gallery.enrol("ada", face, source_hash="a" * 64)
            assert gallery.search(face.embedding)[0].subject == "ada"
            gallery.rebuild()
            half = face.embedding.vector.astype("<f2").tobytes()
            assert half in on_disk(gallery) and half in (gallery.live.folder / "vectors.f16").read_bytes()

            erased = gallery.erase("ada")

            assert half not in on_disk(gallery)
            assert "vectors.f16" in erased.files
            assert "ada" not in {c.subject for c in gallery.search(face.embedding, 50)}
        with Gallery(path) as gallery:
            assert "ada" not in {c.subject for c in gallery.search(face.embedding, 50)}

    def test_a_picture_shared_with_another_subject_stays_theirs(self, gallery, people):
        face = people.face("ada")
        for name in ("ada lovelace", "bob"):
            gallery.enrol(name, face, source_hash=bytes(range(32)).hex())

        erased = gallery.erase("ada lovelace")

        # Vector, crop, source hash and its fingerprint; encrypted, only the fingerprint looks the same twice.
        assert erased.shared == (1 if gallery.encrypted else 4)
        assert gallery.search(face.embedding)[0].subject == "bob"

    def test_a_name_that_is_part_of_anothers_is_no_false_alarm(self, gallery, people):
        enrol(gallery, people, "Adalovelace")
        enrol(gallery, people, "Adalovelace the second")
        assert gallery.erase("Adalovelace").name_searched
        assert [s.name for s in gallery.subjects()] == ["Adalovelace the second"]

    def test_a_name_that_is_a_word_of_the_schema_is_no_false_alarm(self, gallery, people):
        enrol(gallery, people, "template")
        assert gallery.erase("template").name_searched

    @pytest.mark.on("sqlite")
    def test_a_short_name_is_said_not_to_be_searched_for(self, gallery, people):
        enrol(gallery, people, "Ada")
        assert not gallery.erase("Ada").name_searched

    def test_an_unknown_subject_is_an_error(self, gallery):
        with pytest.raises(GalleryError, match="no subject"):
            gallery.erase("nobody")

    @pytest.mark.on("sqlite")
    def test_a_copy_that_remains_is_an_error_that_names_its_kind(self, path, people):
        with Gallery(path) as gallery:
            face = people.face("ada")
            gallery.enrol("ada", face, source_hash="a")
            copy = path.with_name(path.name + ".index.old")
            copy.mkdir()
            (copy / "vectors.f16").write_bytes(b"..." + face.embedding.vector.astype("<f2").tobytes())
            with pytest.raises(GalleryError, match=r"vectors remain.*mien gallery rebuild"):
                gallery.erase("ada")
            gallery.rebuild()
            assert not copy.exists()

    @pytest.mark.on("sqlite")
    def test_a_reader_elsewhere_keeps_the_log_and_that_is_said(self, path, people):
        with Gallery(path, timeout_s=0.05) as gallery, Gallery(path) as reader:
            enrol(gallery, people, "ada")
            enrol(gallery, people, "bob")
            with reader.rows.snapshot():
                reader.rows.connection.execute("SELECT count(*) FROM subject").fetchone()
                with pytest.raises(GalleryError, match=r"log still holds|locked"):
                    gallery.erase("ada")
            gallery.rebuild()
            assert [s.name for s in gallery.subjects()] == ["bob"]

    def test_many_erasures_in_a_row_leave_a_sound_gallery(self, gallery, people):
        names = [f"subject number {number}" for number in range(20)]
        gallery.enrol_many([Entry(name, people.face(name), "a" * 64) for name in names])
        for name in names[::2]:
            gallery.erase(name)
        report = gallery.check()
        assert report.ok and report.subjects == 10


class TestRemains:
    NEEDLE = Needle("secret", bytes(np.random.default_rng(5).integers(0, 256, 300, dtype=np.uint8)))

    def search(self, tmp_path, data):
        (tmp_path / "file").write_bytes(data)
        found = remains([tmp_path / "file"], [Needle("other", bytes(range(200, 250))), self.NEEDLE])
        return list(dict.fromkeys(remain.needle for remain in found))

    @pytest.mark.parametrize("shift", range(9))
    def test_finds_a_fragment_at_any_alignment(self, tmp_path, rng, shift):
        noise = rng.bytes(1000 + shift)
        assert self.search(tmp_path, noise + self.NEEDLE.data[101:133] + noise) == [self.NEEDLE]

    def test_finds_a_fragment_across_two_blocks(self, tmp_path, rng, monkeypatch):
        monkeypatch.setattr(erasure, "BLOCK", 512)
        for at in range(480, 513, 3):
            assert self.search(tmp_path, rng.bytes(at) + self.NEEDLE.data[:32] + rng.bytes(700)) == [self.NEEDLE]

    def test_finds_the_end_of_a_needle_at_the_end_of_a_file(self, tmp_path, rng):
        assert self.search(tmp_path, rng.bytes(77) + self.NEEDLE.data[-32:]) == [self.NEEDLE]

    def test_noise_and_short_coincidences_are_nothing(self, tmp_path, rng):
        noise = rng.bytes(100_000)
        assert self.search(tmp_path, noise + self.NEEDLE.data[:31] + noise) == []

    def test_a_run_of_one_value_is_nothing(self, tmp_path):
        (tmp_path / "file").write_bytes(bytes(1000))
        assert remains([tmp_path / "file"], [Needle("dull", bytes(500))]) == []

    def test_without_needles_nothing_is_found(self, tmp_path):
        (tmp_path / "file").write_bytes(b"x" * 100)
        assert remains([tmp_path / "file"], []) == []
