import numpy as np
import pytest

from mien.errors import GalleryError
from mien.gallery import Gallery, health
from mien.gallery import index as indexes
from mien.gallery.health import measure_recall
from mien.gallery.index import CodedIndex
from mien.gallery.records import Entry
from mien.types import as_unit

from .made_up import People, enrol


def damage(gallery, sql, *values):
    with gallery.rows.write():
        gallery.rows.connection.execute(sql, values)


class TestCheck:
    @pytest.fixture
    def enrolled(self, gallery, people):
        for name in "abcde":
            enrol(gallery, people, name, count=2)
        return gallery

    def test_a_sound_gallery_has_no_problem(self, enrolled):
        report = enrolled.check()
        assert report.ok and report.notes == ()
        assert (report.subjects, report.samples, report.templates, report.index) == (5, 10, 10, "exact")

    def test_an_empty_gallery_is_sound(self, gallery):
        assert gallery.check().ok and gallery.check().index == "empty"

    @pytest.mark.parametrize(
        ("sql", "value", "problem"),
        [
            ("UPDATE crop SET image = ? WHERE sample_id = 3", b"\0", "1 crops differ from their digest (row 3)"),
            (
                "UPDATE template SET vector = ? WHERE sample_id = 3",
                bytes(64),
                "1 templates are not of unit length (row 3)",
            ),
            ("UPDATE template SET vector = ?", b"\0\x7e" + bytes(62), "10 templates are not of unit length"),
            ("UPDATE template SET vector = ? WHERE sample_id = 3", b"\0", "1 templates have a wrong length (row 3)"),
            ("UPDATE subject SET name = ? WHERE id = 2", b"x", "1 subject names differ from their fingerprint (row 2)"),
            (
                "UPDATE sample SET source = ? WHERE id = 2",
                b"x",
                "1 source hashes differ from their fingerprint (row 2)",
            ),
            ("DELETE FROM template WHERE sample_id = ?", 3, "1 samples have no template of the model in use"),
        ],
    )
    def test_a_damaged_row_is_named(self, enrolled, sql, value, problem):
        damage(enrolled, sql, value)
        report = enrolled.check()
        assert not report.ok
        assert any(problem in found for found in report.problems), report.problems

    @pytest.mark.parametrize("bit", [0, 9, 200, 32 * 16 - 1])
    def test_one_flipped_bit_of_a_vector_is_found_by_check_and_by_whoever_reads_it(self, enrolled, bit):
        enrolled.index()
        stored = bytearray(enrolled.rows.connection.execute("SELECT vector FROM template").fetchone()[0])
        stored[bit // 8] ^= 1 << bit % 8
        damage(enrolled, "UPDATE template SET vector = ? WHERE sample_id = 1", bytes(stored))
        assert "1 templates differ from their checksum (row 1)" in enrolled.check().problems
        with Gallery(enrolled.path) as again:
            probe = People().embedding("a")
            for read in (lambda: again.search(probe), lambda: again.vectors("a"), lambda: again.audit(0.5)):
                with pytest.raises(GalleryError, match=r"template of sample 1 differs from its checksum"):
                    read()
            assert again.erase("a").templates == 2
            assert again.check().ok and again.search(probe)

    def test_two_swapped_vectors_are_found(self, enrolled):
        one, two = (row[0] for row in enrolled.rows.connection.execute("SELECT vector FROM template LIMIT 2"))
        damage(enrolled, "UPDATE template SET vector = ? WHERE sample_id = 1", two)
        damage(enrolled, "UPDATE template SET vector = ? WHERE sample_id = 2", one)
        assert "2 templates differ from their checksum (row 1, 2)" in enrolled.check().problems

    def test_a_checksum_that_was_taken_away_is_found(self, enrolled):
        damage(enrolled, "UPDATE template SET checksum = NULL WHERE sample_id = 2")
        assert enrolled.check().problems == ("1 templates have no checksum (row 2)",)

    def test_a_crop_that_differs_is_refused_when_read(self, enrolled):
        damage(enrolled, "UPDATE crop SET image = (SELECT image FROM crop WHERE sample_id = 4) WHERE sample_id = 3")
        with pytest.raises(GalleryError, match="crop of sample 3 differs from its digest"):
            enrolled.crop(3)

    @pytest.mark.on("sqlite")
    def test_rows_that_refer_to_nothing_are_counted(self, enrolled):
        enrolled.rows.connection.execute("PRAGMA foreign_keys = OFF")
        damage(enrolled, "DELETE FROM sample WHERE id = 3")
        assert any("rows refer to rows that are not there" in problem for problem in enrolled.check().problems)

    def test_samples_without_crop_are_worth_a_note(self, enrolled, people):
        enrol(enrolled, people, "f", crop=False)
        report = enrolled.check()
        assert report.ok and report.notes == ("1 samples have no crop and could not move to another embedder.",)


class TestRecall:
    def coded(self, rng, rows=3000, dimension=32, depth=64, folder=None):
        vectors = rng.standard_normal((rows, dimension)).astype(np.float32)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        stamp = indexes.Stamp("g", "m", dimension, 0, depth=depth)
        return CodedIndex.build(lambda: [(np.arange(1, rows + 1), vectors)], stamp, folder)

    def test_a_good_index_finds_all_mates(self, rng):
        (moved, others) = measure_recall(self.coded(rng, depth=512), mate_score=0.6, probes=500)
        assert (moved.rate, moved.probes, moved.mate_score) == (1.0, 500, 0.6)
        assert moved.interval[0] < 1.0 == moved.interval[1]
        assert others.mate_score is None and others.rate > 0.99

    @staticmethod
    def spoil(folder, rng):
        """Give every template the code of something else."""
        codes = folder / "codes.u8"
        codes.write_bytes(rng.integers(0, 256, codes.stat().st_size, dtype=np.uint8).tobytes())

    def test_an_index_that_loses_mates_is_found_out(self, rng, tmp_path):
        self.coded(rng, folder=tmp_path / "index")
        self.spoil(tmp_path / "index", rng)
        index = CodedIndex.load(tmp_path / "index")
        (moved, *_) = measure_recall(index, mate_score=0.6, probes=300)
        assert moved.rate < 0.2 and moved.interval[0] < moved.rate < moved.interval[1]

    def test_probes_stand_at_the_asked_cosine(self, rng, monkeypatch):
        index, asked = self.coded(rng, rows=400), []
        search = index.search
        monkeypatch.setattr(index, "search", lambda probes, k: asked.append(probes) or search(probes, k))
        measure_recall(index, mate_score=0.45, probes=400)
        originals = as_unit(np.concatenate([vectors for _, vectors in index.blocks()]))  # each has its probe, in order
        assert np.allclose((asked[0] * originals).sum(axis=1), 0.45, atol=1e-4)

    def test_templates_without_a_match_do_not_count(self, rng):
        assert len(measure_recall(self.coded(rng, rows=300), mate_score=0.99, probes=100)) == 1

    @pytest.fixture
    def large(self, gallery, people, monkeypatch):
        monkeypatch.setattr(indexes, "FLAT_LIMIT", 100)
        monkeypatch.setattr(indexes, "DEPTH", 64)
        gallery.enrol_many(Entry(f"s{n}", people.face(f"s{n}", crop=False), "a") for n in range(400))
        return gallery

    def test_check_reports_the_recall_of_a_large_gallery(self, large):
        report = large.check(mate_score=0.5, probes=100)
        assert report.ok and report.index == "coded"
        assert report.recall[0].probes == 100 and report.recall[0].rate == 1.0

    @pytest.mark.on("sqlite")
    def test_an_index_that_falls_short_is_made_to_look_deeper_for_good(self, large, path, rng, monkeypatch):
        monkeypatch.setattr(health, "DEEPEST", 300)
        folder = large.live.folder
        large.index().deepen(5, folder)
        large.close()
        self.spoil(folder, rng)
        large = Gallery(path)

        report = large.check(mate_score=0.5, probes=100)

        assert report.ok and report.recall[0].rate == 1.0 and report.index == "exact"
        assert "scores every template exactly" in report.notes[-1]
        large.close()
        with Gallery(path) as again:
            assert again.index().stamp.depth == indexes.EVERYTHING

    @pytest.mark.on("sqlite")
    def test_an_index_that_differs_from_the_rows_is_made_anew(self, large):
        index = large.index()
        index.remove(np.array([7]))
        report = large.check(probes=50)
        assert report.ok and "made anew" in report.notes[-1]
        assert len(large.index()) == 400

    @pytest.mark.on("sqlite")
    def test_read_only_says_so_instead(self, large, path):
        with Gallery(path, read_only=True) as reader:
            reader.index().remove(np.array([7]))
            assert "mien gallery rebuild" in reader.check(probes=50).problems[0]


@pytest.fixture(params=["flat", "coded"])
def crowd(request, gallery, people, monkeypatch):
    """Thirty strangers in 128 dimensions, three samples each, before something is wrong."""
    if request.param == "coded":
        monkeypatch.setattr(indexes, "FLAT_LIMIT", 20)
    people = People(dimension=128)
    gallery.enrol_many(
        Entry(f"s{number}", people.face(f"s{number}", crop=False), f"{number} {picture}")
        for number in range(30)
        for picture in range(3)
    )
    return gallery, people


class TestAudit:
    THRESHOLD = 0.5

    def test_a_clean_gallery_has_no_finding(self, crowd):
        assert crowd[0].audit(self.THRESHOLD) == []

    def test_an_empty_gallery_has_no_finding(self, gallery):
        assert gallery.audit(0.5) == []

    def test_one_person_under_two_names_is_found(self, crowd):
        gallery, people = crowd
        people.vectors["alias"] = people.vector("s4")
        samples = enrol(gallery, people, "alias", count=2, crop=False)
        (finding,) = gallery.audit(self.THRESHOLD)
        assert finding.kind == "two_names"
        assert finding.subjects == (gallery.subject("s4").id, gallery.subject("alias").id)
        assert set(samples) < set(finding.samples) and finding.count == 6 and finding.score > self.THRESHOLD

    def test_two_persons_under_one_name_are_found(self, crowd):
        gallery, people = crowd
        wrong = gallery.enrol("s4", people.face("stranger", crop=False), source_hash="x").sample_id
        (finding,) = gallery.audit(self.THRESHOLD)
        assert (finding.kind, finding.subjects, finding.samples) == (
            "two_persons",
            (gallery.subject("s4").id,),
            (wrong,),
        )
        assert finding.count == 1 and finding.score < self.THRESHOLD

    def test_a_template_that_matches_many_is_found_and_names_nobody_twice(self, crowd):
        gallery, people = crowd
        mixture = sum(people.vector(f"s{number}") for number in range(3))
        people.vectors["wolf"] = mixture / np.linalg.norm(mixture)
        (sample,) = enrol(gallery, people, "wolf", cosine=1.0, crop=False)
        (finding,) = gallery.audit(0.45)
        assert (finding.kind, finding.samples, finding.count) == ("matches_many", (sample,), 3)
        assert finding.subjects == tuple(gallery.subject(name).id for name in ("wolf", "s0", "s1", "s2"))


def test_a_gallery_whose_last_subject_was_erased_has_no_findings(gallery, people):
    enrol(gallery, people, "ada")
    gallery.erase("ada")

    assert gallery.audit(0.5) == []
