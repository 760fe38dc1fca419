import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery, GalleryProtocol, sqlite
from mien.gallery.crops import decode_crop, encode_crop
from mien.gallery.records import Entry
from mien.types import Box, Embedding, Face, OperatingPoint, Reason, as_unit
from mien.vision.cohort import pooled

from .made_up import MODEL, People, enrol


def brute_force(people_by_sample, probe, k):
    """Score everything and sort; slow, and obviously right."""
    scores = {
        sample: float(vector.astype(np.float16).astype(np.float32) @ probe) for sample, vector in people_by_sample
    }
    return sorted(scores.items(), key=lambda item: -item[1])[:k]


def unit(*values):
    """A unit vector of these values and a last one of 0."""
    return as_unit(np.array([*values, 0.0]))


class TestEnrolment:
    def test_a_face_is_found_again_with_its_subject_and_sample(self, gallery, people):
        enrolment = gallery.enrol("ada", people.face("ada"), source_hash="a" * 64)

        (found,) = gallery.search(people.embedding("ada"))

        assert enrolment.status == "added"
        assert (found.subject, found.subject_id, found.sample_id) == ("ada", enrolment.subject_id, enrolment.sample_id)
        assert found.score == pytest.approx(0.9, abs=1e-3)

    def test_the_same_picture_twice_is_one_sample(self, gallery, people):
        first = gallery.enrol("ada", people.face("ada"), source_hash="a" * 64)
        second = gallery.enrol("ada", people.face("ada"), source_hash="a" * 64)

        assert (second.status, second.sample_id) == ("already", first.sample_id)
        assert gallery.stats().samples == 1

    def test_one_picture_may_be_a_sample_of_two_subjects(self, gallery, people):
        gallery.enrol("ada", people.face("ada"), source_hash="a" * 64)
        assert gallery.enrol("bob", people.face("bob"), source_hash="a" * 64).status == "added"

    def test_the_quality_gate_refuses_and_says_why(self, gallery, people):
        face = people.face("ada", quality=0.2, reasons=("blurred", "too_small"))

        refused = gallery.enrol("ada", face, source_hash="a", min_quality=0.3)

        assert (refused.status, refused.sample_id) == ("refused", None)
        assert refused.reasons == (Reason.BLURRED, Reason.TOO_SMALL)
        assert len(gallery) == 0

    def test_a_refusal_without_a_reason_is_given_one(self, gallery, people):
        refused = gallery.enrol("ada", people.face("ada", quality=0.2), source_hash="a", min_quality=0.3)
        assert refused.reasons == (Reason.LOW_QUALITY,)

    def test_unmeasured_quality_passes_the_gate(self, gallery, people):
        face = people.face("ada", quality=None)
        assert gallery.enrol("ada", face, source_hash="a", min_quality=0.9).status == "added"
        assert gallery.samples("ada")[0].quality is None

    def test_a_match_with_another_subject_is_reported_as_duplicate(self, gallery, people):
        enrol(gallery, people, "ada")
        same_person = people.face("ada")

        enrolment = gallery.enrol("countess", same_person, source_hash="b", duplicate_threshold=0.5)
        own = gallery.enrol("ada", people.face("ada"), source_hash="c", duplicate_threshold=0.5)

        assert [candidate.subject for candidate in enrolment.duplicates] == ["ada"]
        assert [candidate.subject for candidate in own.duplicates] == ["countess"]

    def test_a_face_without_embedding_is_refused_in_words(self, gallery, people):
        with pytest.raises(GalleryError, match="embed=True"):
            gallery.enrol("ada", replace(people.face("ada"), embedding=None), source_hash="a")

    def test_many_in_one_transaction_are_all_or_none(self, gallery, people):
        good = Entry("ada", people.face("ada"), "a")
        bad = Entry("bob", People(model="other").face("bob"), "b")

        with pytest.raises(GalleryError, match="other"):
            gallery.enrol_many([good, bad])

        assert len(gallery) == 0
        assert [e.status for e in gallery.enrol_many([good, Entry("ada", people.face("ada"), "a")])] == [
            "added",
            "already",
        ]

    @pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 201, "bad\udcff"])
    def test_a_name_that_is_no_name_is_refused(self, gallery, people, name):
        with pytest.raises(GalleryError, match="name"):
            gallery.enrol(name, people.face("ada"), source_hash="a")

    def test_one_name_in_two_spellings_is_one_subject(self, gallery, people):
        gallery.enrol("Zoe\u0308", people.face("zoe"), source_hash="a")
        gallery.enrol(" Zo\u00eb ", people.face("zoe"), source_hash="b")
        assert [subject.samples for subject in gallery.subjects()] == [2]

    def test_a_crop_comes_back_to_the_last_bit(self, gallery, people):
        face = people.face("ada")
        sample = gallery.enrol("ada", face, source_hash="a").sample_id
        assert np.array_equal(gallery.crop(sample), face.crop)
        assert gallery.crop(sample + 1) is None

    def test_a_sample_remembers_where_it_is_from(self, gallery, people):
        face = people.face("ada", quality=0.25, reasons=("too_dark",))
        gallery.enrol("ada", face, source_hash="cafe")
        (sample,) = gallery.samples("ada")
        assert (sample.source_hash, sample.box, sample.quality) == ("cafe", face.box, 0.25)
        assert (sample.reasons, sample.models) == ((Reason.TOO_DARK,), (MODEL,))
        assert sample.crop_bytes > 0


class TestModels:
    def test_another_embedder_is_refused_with_both_ids(self, gallery, people):
        enrol(gallery, people, "ada")
        probe = Embedding("other-2-11111111", people.vector("ada"))
        for action in (
            lambda: gallery.search(probe),
            lambda: gallery.identify(probe, 0.5),
            lambda: gallery.enrol("bob", People(model="other-2-11111111").face("bob"), source_hash="b"),
            lambda: Gallery(gallery.path, model="other-2-11111111"),
        ):
            with pytest.raises(GalleryError, match=f"{MODEL}.*other-2-11111111"):
                action()

    def test_a_vector_of_another_length_is_refused(self, gallery, people):
        enrol(gallery, people, "ada")
        with pytest.raises(GalleryError, match="32 values, got 16"):
            gallery.search(People(dimension=16).embedding("ada"))
        with pytest.raises(GalleryError, match="32 values, got 16"):
            gallery.enrol("bob", People(dimension=16).face("bob"), source_hash="b")

    def test_an_empty_gallery_takes_any_model_and_finds_nobody(self, gallery, people):
        assert gallery.model is None
        assert gallery.search(people.embedding("ada")) == ()
        assert gallery.identify(people.embedding("ada"), 0.0) == ()
        assert gallery.index() is None


class TestSearch:
    def test_agrees_with_brute_force(self, gallery, people):
        stored = []
        for name in "abcdefgh":
            for number in range(3):
                face = people.face(name)
                sample = gallery.enrol(name, face, source_hash=f"{name}{number}").sample_id
                stored.append((sample, face.embedding.vector))
        probe = people.embedding("c", cosine=0.6)

        found = gallery.search(probe, k=7)

        expected = brute_force(stored, probe.vector, 7)
        assert [candidate.sample_id for candidate in found] == [sample for sample, _ in expected]
        assert np.allclose([candidate.score for candidate in found], [score for _, score in expected], atol=1e-6)

    def test_per_subject_names_each_once_by_its_best_sample(self, gallery, people):
        enrol(gallery, people, "ada", count=6)
        enrol(gallery, people, "bob", count=6)
        enrol(gallery, people, "cyd")

        found = gallery.search(people.embedding("ada"), k=3, per_subject=True)

        assert sorted(candidate.subject for candidate in found) == ["ada", "bob", "cyd"]
        best = max(candidate.score for candidate in gallery.search(people.embedding("ada"), k=13))
        together = float(pooled(gallery.vectors("ada")) @ people.embedding("ada").vector)
        assert found[0].score == pytest.approx((best + together) / 2, abs=1e-3)

    def test_without_pooling_a_subject_scores_as_its_best_sample(self, gallery, people):
        enrol(gallery, people, "ada", count=6)
        probe = people.embedding("ada")
        gallery.pool = False

        (found,) = gallery.search(probe, k=1, per_subject=True)

        assert found.score == gallery.search(probe, k=1)[0].score

    def test_a_subject_of_one_sample_scores_as_that_sample(self, gallery, people):
        enrol(gallery, people, "cyd")
        probe = people.embedding("cyd")

        assert gallery.search(probe, k=1, per_subject=True)[0].score == gallery.search(probe, k=1)[0].score

    def test_who_is_alike_in_all_samples_comes_before_who_is_in_one(self, gallery):
        steady = [unit(1, 0.75, 0.0), unit(1, 0.75, 0.1), unit(1, 0.75, -0.1)]
        for name, vectors in (("steady", steady), ("once", [unit(1, 0.7, 0), unit(0, 0, 1), unit(0, -1, 0)])):
            for number, vector in enumerate(vectors):
                face = Face(Box(0, 0, 50, 50), np.zeros((5, 2), np.float32), 0.9, embedding=Embedding("tiny", vector))
                gallery.enrol(name, face, source_hash=f"{name}-{number}")
        probe = Embedding("tiny", unit(1, 0, 0))

        order = [[one.subject for one in gallery.search(probe, k=2, per_subject=True)]]
        gallery.pool = False
        order.append([one.subject for one in gallery.search(probe, k=2, per_subject=True)])

        assert order == [["steady", "once"], ["once", "steady"]]

    def test_identify_names_whoever_reaches_the_threshold_and_nobody_else(self, gallery, people):
        enrol(gallery, people, "ada", cosine=0.8)
        enrol(gallery, people, "bob")
        probe = people.embedding("ada")
        score = gallery.search(probe)[0].score
        assert [c.subject for c in gallery.identify(probe, score, k=5)] == ["ada"]
        assert gallery.identify(probe, np.nextafter(score, 2.0), k=5) == ()

    def test_many_probes_give_what_each_gives_alone(self, gallery, people):
        for name in "abcd":
            enrol(gallery, people, name, count=2)
        probes = [people.embedding(name, cosine=0.7) for name in "abcdx"]
        assert gallery.search_many(probes, 3) == [gallery.search(probe, 3) for probe in probes]
        assert gallery.search_many([], 3) == []

    def test_asking_for_no_candidate_is_an_error(self, gallery, people):
        with pytest.raises(GalleryError, match="at least 1"):
            gallery.search(people.embedding("ada"), 0)

    def test_a_face_enrolled_by_another_process_is_found_at_the_next_search(self, gallery, path, people):
        enrol(gallery, people, "ada")
        assert [c.subject for c in gallery.search(people.embedding("bob"), 5)] == ["ada"]
        with Gallery(path) as elsewhere:
            enrol(elsewhere, people, "bob")
        assert gallery.search(people.embedding("bob"), 5)[0].subject == "bob"

    def test_a_subject_erased_by_another_process_is_not_found_any_more(self, gallery, path, people):
        enrol(gallery, people, "ada")
        enrol(gallery, people, "bob")
        gallery.search(people.embedding("ada"))
        with Gallery(path) as elsewhere:
            elsewhere.erase("ada")
        assert [c.subject for c in gallery.search(people.embedding("ada"), 5)] == ["bob"]

    def test_threads_may_share_a_gallery(self, gallery, people):
        faces = {name: people.face(name) for name in "abcdefgh"}
        wrong = []

        def work(name):
            gallery.enrol(name, faces[name], source_hash=name)
            if gallery.search(faces[name].embedding)[0].subject != name:
                wrong.append(name)

        threads = [threading.Thread(target=work, args=(name,)) for name in faces]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == [] and len(gallery) == 8


class TestSubjects:
    def test_rename_keeps_samples_and_frees_the_old_name(self, gallery, people):
        enrol(gallery, people, "ada", count=2)
        gallery.rename("ada", "countess")
        assert [(s.name, s.samples) for s in gallery.subjects()] == [("countess", 2)]
        assert gallery.search(people.embedding("ada"))[0].subject == "countess"
        with pytest.raises(GalleryError, match="no subject"):
            gallery.subject("ada")

    def test_rename_to_a_name_in_use_is_refused(self, gallery, people):
        enrol(gallery, people, "ada")
        enrol(gallery, people, "bob")
        with pytest.raises(GalleryError, match="merge"):
            gallery.rename("ada", "bob")
        gallery.rename("ada", "ada")

    def test_merge_moves_samples_and_keeps_a_shared_picture_once(self, gallery, people):
        enrol(gallery, people, "ada", count=2)
        enrol(gallery, people, "countess", count=3)
        for name in ("ada", "countess"):
            gallery.enrol(name, people.face(name), source_hash="shared")

        assert gallery.merge("ada", "countess") == 3

        assert [(s.name, s.samples) for s in gallery.subjects()] == [("ada", 6)]
        assert {c.subject for c in gallery.search(people.embedding("countess"), 10)} == {"ada"}
        assert gallery.check().ok

    def test_merging_a_subject_with_itself_is_refused(self, gallery, people):
        enrol(gallery, people, "ada")
        with pytest.raises(GalleryError, match="nothing to merge"):
            gallery.merge("ada", "ada")

    def test_vectors_are_those_enrolled_up_to_float16(self, gallery, people):
        face = people.face("ada")
        gallery.enrol("ada", face, source_hash="a")
        assert np.array_equal(gallery.vectors("ada")[0], face.embedding.vector.astype(np.float16).astype(np.float32))

    def test_stats_count_what_is_there(self, gallery, people):
        enrol(gallery, people, "ada", count=3)
        enrol(gallery, people, "bob", crop=False)
        stats = gallery.stats()
        assert (stats.subjects, stats.samples, stats.templates, stats.crops) == (2, 4, 4, 3)
        assert (stats.model, stats.dimension, stats.encrypted, stats.erasures) == (MODEL, 32, False, 0)
        assert dict(stats.samples_a_subject) == {1: 1, 3: 1}
        assert stats.database_bytes > 0 and stats.index_bytes == 0

    def test_ids_of_the_erased_are_never_used_again(self, gallery, people):
        (first,) = enrol(gallery, people, "ada")
        gone = gallery.subject("ada").id
        gallery.erase("ada")
        (second,) = enrol(gallery, people, "bob")
        assert second > first and gallery.subject("bob").id > gone


class TestFile:
    def test_what_was_enrolled_is_there_after_reopening(self, path, people):
        with Gallery(path) as gallery:
            enrol(gallery, people, "ada")
        with Gallery(path, create=False, model=MODEL) as gallery:
            assert gallery.search(people.embedding("ada"))[0].subject == "ada"

    @pytest.mark.on("sqlite")
    def test_only_its_owner_may_read_it(self, gallery, path):
        assert path.stat().st_mode & 0o077 == 0

    @pytest.mark.on("sqlite")
    def test_commits_wait_for_the_disk_and_deletions_overwrite(self, path, monkeypatch):
        monkeypatch.undo()
        with Gallery(path) as gallery:
            pragma = {
                name: gallery.rows.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
            }
        assert pragma == {
            "journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1, "busy_timeout": 30_000,
        }  # fmt: skip

    @pytest.mark.on("sqlite")
    def test_a_missing_gallery_is_not_made_unasked(self, path):
        with pytest.raises(GalleryError, match="mien enroll"):
            Gallery(path, create=False)
        assert not path.exists()

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(GalleryError, match="does not exist"):
            Gallery(tmp_path / "nowhere" / "people.mien")

    def test_a_folder_is_no_gallery(self, tmp_path):
        with pytest.raises(GalleryError, match="is a folder"):
            Gallery(tmp_path)

    @pytest.mark.on("sqlite")
    def test_a_file_of_another_kind_is_refused_and_left_alone(self, path):
        path.write_bytes(b"no database at all, but long enough to look at" * 100)
        before = path.read_bytes()
        with pytest.raises(GalleryError, match="not a mien gallery"):
            Gallery(path)
        assert path.read_bytes() == before

    @pytest.mark.on("sqlite")
    def test_another_sqlite_database_is_refused_and_left_alone(self, path):
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE t (x)")
        other.close()
        before = path.read_bytes()
        with pytest.raises(GalleryError, match="not a mien gallery"):
            Gallery(path)
        assert path.read_bytes() == before

    @pytest.mark.on("sqlite")
    def test_a_gallery_of_a_newer_version_is_refused(self, path):
        Gallery(path).close()
        with sqlite3.connect(path) as other:
            other.execute(f"PRAGMA user_version = {sqlite.VERSION + 1}")
        other.close()
        with pytest.raises(GalleryError, match=r"newer mien.*pip install --upgrade"):
            Gallery(path)

    @pytest.mark.on("sqlite")
    def test_a_damaged_gallery_is_called_damaged(self, path, people):
        with Gallery(path) as gallery:
            enrol(gallery, people, "ada", count=20)
        data = bytearray(path.read_bytes())
        data[8192 : 20 * 8192] = b"\xa5" * len(data[8192 : 20 * 8192])
        path.write_bytes(data)
        with pytest.raises(GalleryError, match="damaged"), Gallery(path) as gallery:
            gallery.subjects()

    def test_a_gallery_locked_for_too_long_is_called_locked_and_loses_nothing(self, path, people):
        with Gallery(path) as gallery:
            enrol(gallery, people, "ada")
        with Gallery(path) as holder, Gallery(path, timeout_s=0.05) as waiting, holder.rows.write():
            with pytest.raises(GalleryError, match=r"locked.*0\.05 s"):
                enrol(waiting, people, "bob")
            assert [s.name for s in waiting.subjects()] == ["ada"]

    @pytest.mark.on("sqlite")
    def test_a_full_disk_loses_nothing_that_was_acknowledged(self, path, people):
        with Gallery(path) as gallery:
            pages = gallery.rows.connection.execute("PRAGMA page_count").fetchone()[0]
            gallery.rows.connection.execute(f"PRAGMA max_page_count = {pages + 3}")
            acknowledged = []
            with pytest.raises(GalleryError, match="disk is full"):
                for number in range(100):
                    acknowledged += enrol(gallery, people, f"subject {number}")
            assert 0 < len(acknowledged) < 100
        with Gallery(path) as gallery:
            assert gallery.stats().samples == len(acknowledged)
            assert gallery.check().ok

    def test_read_only_reads_and_refuses_to_write(self, path, people):
        with Gallery(path) as gallery:
            enrol(gallery, people, "ada")
        with Gallery(path, read_only=True) as gallery:
            assert gallery.search(people.embedding("ada"))[0].subject == "ada"
            with pytest.raises(GalleryError, match="read-only"):
                enrol(gallery, people, "bob")

    def test_read_only_never_makes_a_gallery(self, path):
        with pytest.raises(GalleryError, match="no gallery"):
            Gallery(path, read_only=True)

    def test_it_implements_the_protocol(self, gallery):
        missing = [name for name in vars(GalleryProtocol) if not name.startswith("_") and not hasattr(gallery, name)]
        assert missing == []


class TestPoints:
    POINT = OperatingPoint(1e-3, 0.41, 9e-4, 0.02, (5e-4, 2e-3), (0.01, 0.03), 300, 40_000, "gallery of 9 subjects")

    def test_a_kept_point_comes_back_with_the_size_of_the_gallery(self, gallery, path, people):
        enrol(gallery, people, "ada", count=2)
        gallery.keep_point(self.POINT)
        with Gallery(path) as again:
            stored = again.operating_point(1e-3)
        assert stored.point == self.POINT
        assert (stored.model, stored.subjects, stored.templates) == (MODEL, 1, 2)

    def test_a_point_for_the_same_rate_replaces_the_old_one(self, gallery, people):
        enrol(gallery, people, "ada")
        gallery.keep_point(self.POINT)
        gallery.keep_point(replace(self.POINT, threshold=0.5))
        assert [stored.point.threshold for stored in gallery.points()] == [0.5]
        assert gallery.operating_point(1e-4) is None

    def test_an_empty_gallery_has_no_point(self, gallery):
        with pytest.raises(GalleryError, match="Enrol first"):
            gallery.keep_point(self.POINT)


def test_crops_survive_encoding_without_loss(rng):
    crop = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert np.array_equal(decode_crop(encode_crop(crop)), crop)


def test_a_crop_that_is_none_is_called_damaged():
    with pytest.raises(GalleryError, match="damaged"):
        decode_crop(b"RIFF----WEBP")


class TestMisuse:
    """What a newcomer gets wrong is one line that says what was expected."""

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda g, f: g.search(f), "Embedding, got Face. Pass its embedding"),
            (lambda g, f: g.search(f.embedding.vector), "Embedding, got ndarray"),
            (lambda g, f: g.search(f.embedding, k="3"), "at least 1 candidate, got k = '3'"),
            (lambda g, f: g.search(f.embedding, k=2.0), "at least 1 candidate"),
            (lambda g, f: g.enrol(None, f, source_hash="a"), "name is text, got NoneType"),
            (lambda g, f: g.enrol("x", [f], source_hash="a"), "expected a Face, got list of 1"),
            (lambda g, f: g.enrol("x", None, source_hash="a"), "expected a Face, got NoneType"),
            (lambda g, f: g.enrol("x", f, source_hash=None), "source_hash is printable text"),
            (lambda g, f: g.enrol("x", f, source_hash=""), "source_hash is printable text"),
            (lambda g, f: g.enrol("x", f, source_hash="\x1b[2J"), "source_hash is printable text"),
            (lambda g, f: g.enrol("x", f, source_hash="a", min_quality="high"), "min_quality is a number"),
            (lambda g, f: g.enrol("x", f, source_hash="a", duplicate_threshold="0.5"), "threshold is a number"),
            (lambda g, f: g.enrol_many([("x", f, "a")]), "expected an Entry, got tuple of 3"),
            (lambda g, f: g.identify(f.embedding, None), "threshold is a number, got None"),
            (lambda g, f: g.identify(f.embedding, float("nan")), "threshold is a number, got nan"),
            (lambda g, f: g.subject(7), "name is text, got int"),
            (lambda g, f: g.erase(None), "name is text, got NoneType"),
            (lambda g, f: g.crop("1"), "whole number, got str"),
            (lambda g, f: g.calibrate("1e-3"), "fmr is a number"),
            (lambda g, f: g.audit(None), "threshold is a number"),
            (lambda g, f: Gallery(None), "expected its path, got NoneType"),
        ],
    )
    def test_an_argument_of_another_kind_is_refused_and_nothing_is_kept(self, gallery, people, call, message):
        enrol(gallery, people, "ada")
        with pytest.raises(GalleryError, match=message):
            call(gallery, people.face("ada"))
        assert gallery.stats().samples == 1

    def test_a_closed_gallery_says_so_and_closes_twice(self, gallery, people):
        face = people.face("ada")
        gallery.enrol("ada", face, source_hash="a")
        gallery.close()
        gallery.close()
        verbs = (
            lambda: gallery.search(face.embedding), lambda: gallery.identify(face.embedding, 0.5),
            lambda: gallery.enrol("x", face, source_hash="b"), lambda: len(gallery), lambda: gallery.model,
            gallery.subjects, lambda: gallery.samples("ada"), gallery.stats, gallery.check, gallery.points,
            gallery.index,
            lambda: gallery.erase("ada"), gallery.rebuild, lambda: gallery.operating_point(0.1),
        )  # fmt: skip
        for verb in verbs:
            with pytest.raises(GalleryError, match="was closed"):
                verb()

    @pytest.mark.parametrize("scale", [20.0, float("nan"), 0.0, 1.01])
    def test_a_vector_that_is_not_of_unit_length_is_refused_at_every_door(self, gallery, people, scale):
        enrol(gallery, people, "ada")
        face = people.face("bob")
        # As under `python -O`, where the record's own assertions are gone.
        raw = object.__new__(Embedding)
        object.__setattr__(raw, "model", MODEL)
        object.__setattr__(raw, "vector", (face.embedding.vector * scale).astype(np.float32))
        for call in (
            lambda: gallery.search(raw),
            lambda: gallery.identify(raw, 0.5),
            lambda: gallery.enrol("bob", replace(face, embedding=raw), source_hash="b"),
            lambda: gallery.enrol_many([Entry("bob", replace(face, embedding=raw), "b")]),
        ):
            with pytest.raises(GalleryError, match=r"unit length.*as_unit"):
                call()
        assert [s.name for s in gallery.subjects()] == ["ada"]


class TestSameFace:
    def test_the_very_same_face_under_a_second_name_is_reported_with_the_first(self, gallery, people):
        face = people.face("ada")
        first = gallery.enrol("ada", face, source_hash="a")
        second = gallery.enrol("countess", face, source_hash="a")
        assert (first.same_face, second.same_face) == ((), ("ada",))
        assert gallery.enrol("ada", face, source_hash="a").same_face == ("countess",)

    def test_another_face_of_the_same_picture_is_somebody_else(self, gallery, people):
        gallery.enrol("ada", people.face("ada"), source_hash="a")
        beside = replace(people.face("bob"), box=Box(300, 20, 350, 80))
        assert gallery.enrol("bob", beside, source_hash="a").same_face == ()

    def test_another_picture_is_another_picture(self, gallery, people):
        face = people.face("ada")
        gallery.enrol("ada", face, source_hash="a")
        assert gallery.enrol("countess", face, source_hash="b").same_face == ()


def test_samples_are_split_off_to_another_subject_and_found_under_it(gallery, people):
    first, second = enrol(gallery, people, "ada", count=2)

    assert gallery.split([second], "bob") == (second,) and gallery.split([second], "bob") == ()
    assert gallery.holder(second) == gallery.subject("bob") == gallery.subject_by_id(gallery.holder(second).id)
    assert [sample.id for sample in gallery.samples("ada")] == [first]
    (found,) = gallery.search(Embedding(people.model, gallery.vectors("bob")[0]), k=1)
    assert (found.subject, found.sample_id) == ("bob", second)
    assert gallery.holder(99) is None and gallery.subject_by_id(99) is None
    with pytest.raises(GalleryError, match="no sample 99"):
        gallery.split([first, 99], "cyd")
    assert [subject.name for subject in gallery.subjects()] == ["ada", "bob"]


def test_a_picture_that_both_have_stays_where_it_is(gallery, people):
    face = people.face("ada")
    sample = gallery.enrol("ada", face, source_hash="one").sample_id
    gallery.enrol("bob", face, source_hash="one")

    assert gallery.split([sample], "bob") == ()


def test_the_state_differs_once_anything_was_written(gallery, people):
    before = gallery.state()
    assert gallery.state() == before
    enrol(gallery, people, "ada")

    assert gallery.state() != before
