import base64

import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery
from mien.gallery.crops import encode_crop
from mien.gallery.crypto import Plain, Sealed, read_key, write_key

from .made_up import enrol


@pytest.fixture
def key_file(tmp_path):
    write_key(tmp_path / "gallery.key")
    return tmp_path / "gallery.key"


@pytest.fixture
def sealed(path, key_file):
    with Gallery(path, key_file=key_file) as gallery:
        yield gallery


class TestKeyFiles:
    def test_a_key_is_private_and_random(self, tmp_path, key_file):
        write_key(tmp_path / "other.key")
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert len(read_key(key_file)) == 32 and read_key(key_file) != read_key(tmp_path / "other.key")

    def test_a_key_is_never_overwritten(self, key_file):
        before = key_file.read_bytes()
        with pytest.raises(GalleryError, match="exists"):
            write_key(key_file)
        assert key_file.read_bytes() == before

    def test_a_key_that_cannot_be_written_is_an_error(self, tmp_path):
        with pytest.raises(GalleryError, match="cannot be written"):
            write_key(tmp_path / "nowhere" / "gallery.key")

    def test_a_missing_key_file_is_named(self, tmp_path):
        with pytest.raises(GalleryError, match=r"none\.key cannot be read"):
            read_key(tmp_path / "none.key")

    @pytest.mark.parametrize("text", [b"", b"not base64!", base64.b64encode(bytes(16))], ids=["empty", "text", "short"])
    def test_a_file_that_is_no_key_is_refused(self, tmp_path, text):
        (tmp_path / "bad.key").write_bytes(text)
        with pytest.raises(GalleryError, match="no key file"):
            read_key(tmp_path / "bad.key")


class TestSealing:
    CIPHER = Sealed(bytes(range(32)))

    def test_opens_what_it_sealed_at_its_place_only(self):
        stored = self.CIPHER.seal(b"value", "crop", 7)
        assert self.CIPHER.open(stored, "crop", 7) == b"value"
        for place in (("crop", 8), ("template", 7), ("crop", 7, 7), ("crop7",)):
            with pytest.raises(GalleryError, match="does not open"):
                self.CIPHER.open(stored, *place)

    def test_one_changed_bit_is_noticed(self):
        stored = bytearray(self.CIPHER.seal(b"value", "crop", 7))
        stored[-1] ^= 1
        with pytest.raises(GalleryError, match="altered"):
            self.CIPHER.open(bytes(stored), "crop", 7)

    def test_cut_off_bytes_are_noticed(self):
        with pytest.raises(GalleryError, match="altered"):
            self.CIPHER.open(b"short", "crop", 7)

    def test_one_value_never_looks_alike_twice_but_its_fingerprint_does(self):
        assert self.CIPHER.seal(b"value", "crop", 7) != self.CIPHER.seal(b"value", "crop", 7)
        assert self.CIPHER.fingerprint(b"value", "a") == self.CIPHER.fingerprint(b"value", "a")
        assert self.CIPHER.fingerprint(b"value", "a") != self.CIPHER.fingerprint(b"value", "b")

    def test_a_fingerprint_needs_the_key(self):
        assert self.CIPHER.fingerprint(b"value", "a") != Sealed(bytes(32)).fingerprint(b"value", "a")
        assert self.CIPHER.fingerprint(b"value", "a") != Plain().fingerprint(b"value", "a")


class TestEncryptedGallery:
    def test_works_like_any_other(self, sealed, path, key_file, people):
        face = people.face("ada", reasons=("blurred",))
        sample = sealed.enrol("ada", face, source_hash="a" * 64).sample_id
        assert sealed.enrol("ada", face, source_hash="a" * 64).status == "already"
        enrol(sealed, people, "bob", count=2)
        sealed.rename("bob", "rob")
        with Gallery(path, key_file=key_file) as again:
            assert again.search(people.embedding("ada"))[0].subject == "ada"
            assert np.array_equal(again.crop(sample), face.crop)
            assert again.samples("ada")[0].source_hash == "a" * 64
            assert [s.name for s in again.subjects()] == ["ada", "rob"]
            assert again.check().ok and again.stats().encrypted

    @pytest.mark.on("sqlite")
    def test_the_file_shows_no_name_crop_vector_or_source(self, sealed, path, people):
        face = people.face("Adalovelace")
        sealed.enrol("Adalovelace", face, source_hash="c0ffee" * 10)
        sealed.close()
        data = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".key")
        vector = face.embedding.vector
        for secret in (
            b"Adalovelace",
            b"c0ffee",
            encode_crop(face.crop)[64:96],
            vector.astype("<f2").tobytes()[:16],
            vector.astype("<f4").tobytes()[:16],
        ):
            assert secret not in data

    def test_two_blobs_cannot_change_places_unnoticed(self, sealed, people):
        one, two = (enrol(sealed, people, name)[0] for name in ("ada", "bob"))
        vectors = dict(sealed.rows.connection.execute("SELECT sample_id, vector FROM template"))
        with sealed.rows.write():
            for sample, other in ((one, two), (two, one)):
                sealed.rows.connection.execute(
                    "UPDATE template SET vector = ? WHERE sample_id = ?", (vectors[other], sample)
                )
        with pytest.raises(GalleryError, match="does not open"):
            sealed.search(people.embedding("ada"))
        assert any("templates do not open" in problem for problem in sealed.check().problems)

    def test_without_its_key_it_stays_shut(self, sealed, path):
        with pytest.raises(GalleryError, match=r"is encrypted.*--key"):
            Gallery(path)

    def test_with_another_key_it_stays_shut(self, sealed, path, tmp_path):
        write_key(tmp_path / "other.key")
        with pytest.raises(GalleryError, match="key is not that of"):
            Gallery(path, key_file=tmp_path / "other.key")

    def test_a_key_for_a_plain_gallery_is_an_error(self, path, key_file):
        Gallery(path).close()
        with pytest.raises(GalleryError, match="not encrypted"):
            Gallery(path, key_file=key_file)

    def test_its_index_never_touches_the_disk(self, sealed, people, monkeypatch):
        monkeypatch.setattr("mien.gallery.index.FLAT_LIMIT", 5)
        for name in "abcdefgh":
            enrol(sealed, people, name)
        assert sealed.search(people.embedding("c"))[0].subject == "c"
        assert type(sealed.index()).__name__ == "CodedIndex"
        sealed.close()
        assert sealed.live.files() == []
