import numpy as np
import pytest

import postgres_server
from mien.gallery import Gallery
from mien.gallery import index as indexes
from mien.gallery.crypto import write_key
from mien.gallery.index import CodedIndex, FlatIndex
from mien.gallery.postgres.database import Database
from mien.gallery.records import Entry

from ..made_up import enrol

SUBJECTS = 60


def server_scores(gallery):
    """Whether the database holds the vectors that its server scores."""
    return gallery.rows.connection.execute("SELECT to_regclass('embedding')").fetchone()[0] is not None


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make galleries large at fifty templates."""
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 50)
    monkeypatch.setattr(indexes, "DEPTH", 16)


@pytest.fixture(params=["with pgvector", "plain"])
def gallery(request, address, monkeypatch):
    """A gallery whose templates the server scores, and one on a server that cannot."""
    if request.param == "plain":
        monkeypatch.setattr(Database, "install_extension", lambda self: False)
    with Gallery(address) as opened:
        yield opened


@pytest.fixture
def large(gallery, people):
    gallery.enrol_many(
        Entry(f"s{number}", people.face(f"s{number}", crop=False), f"{number}") for number in range(SUBJECTS)
    )
    return gallery


def test_candidates_are_scored_where_they_are_and_as_exactly_as_in_memory(large, people):
    index = large.index()
    assert isinstance(index, CodedIndex) and len(index._base) == len(index._tail.rows) == 0
    stored = {name: large.vectors(name)[0] for name in ("s0", "s7", "s59")}
    for name, vector in stored.items():
        probe = people.embedding(name)
        (first, *_) = large.search(probe, 3)
        assert first.subject == name
        assert first.score == pytest.approx(float(np.einsum("d,d->", vector, probe.vector)), abs=1e-6)


def test_an_encrypted_gallery_is_scored_in_the_replica(address, people, tmp_path):
    write_key(tmp_path / "key")
    with Gallery(address, key_file=tmp_path / "key") as gallery:
        gallery.enrol_many(Entry(f"s{n}", people.face(f"s{n}", crop=False), f"{n}") for n in range(SUBJECTS))
        index = gallery.index()
        assert isinstance(index, CodedIndex) and gallery.rows.remote(gallery.rows.active_model()) is None
        assert not server_scores(gallery)
        assert gallery.search(people.embedding("s7"))[0].subject == "s7"
        gallery.erase("s7")
        assert "s7" not in {c.subject for c in gallery.search(people.embedding("s7"), SUBJECTS)}


def test_the_server_scores_where_it_has_the_type_for_it(large):
    assert server_scores(large) == large.rows.database.install_extension()
    if server_scores(large):
        assert large.rows.connection.execute("SELECT count(*) FROM embedding").fetchone() == (SUBJECTS,)


def test_check_compares_what_is_scored_with_what_is_stored(large):
    assert large.check(probes=50).ok
    if server_scores(large):
        with large.rows.write():
            large.rows.connection.execute(
                "UPDATE embedding SET vector = (SELECT vector FROM embedding WHERE template_id = 7) "
                "WHERE template_id = 8"
            )
        report = large.check(probes=50)
        assert report.ok and "made anew" in report.notes[-1]
        assert "made anew" not in large.check(probes=50).notes[-1]


def test_a_write_on_one_replica_is_seen_by_the_next_search_of_another(large, address, people):
    with Gallery(address) as replica:
        assert replica.search(people.embedding("s3"))[0].subject == "s3"
        enrol(large, people, "late", crop=False)
        assert replica.search(people.embedding("late"))[0].subject == "late"
        large.rename("late", "later")
        assert replica.search(people.embedding("late"))[0].subject == "later"
        large.merge("s0", "later")
        assert replica.search(people.embedding("late"))[0].subject == "s0"


def test_an_erased_subject_is_returned_by_no_replica(large, address, people):
    with Gallery(address) as replica:
        assert replica.search(people.embedding("s3"))[0].subject == "s3"
        large.erase("s3")
        assert "s3" not in {c.subject for c in replica.search(people.embedding("s3"), SUBJECTS)}


def test_even_an_index_that_missed_an_erasure_cannot_return_the_erased(large, address, people, monkeypatch):
    """As in the moment between looking at the revision and scoring."""
    with Gallery(address) as replica:
        stale = replica.index()
        large.erase("s3")
        monkeypatch.setattr(replica.live, "fresh", lambda: stale)
        found = replica.search(people.embedding("s3"), 20)
        assert len(stale) == SUBJECTS and len(found) == 20 and "s3" not in {c.subject for c in found}


def test_a_small_gallery_that_missed_an_erasure_cannot_return_the_erased_either(address, people, monkeypatch):
    with Gallery(address) as one, Gallery(address) as replica:
        enrol(one, people, "ada")
        enrol(one, people, "bob")
        stale = replica.index()
        one.erase("ada")
        monkeypatch.setattr(replica.live, "fresh", lambda: stale)
        assert isinstance(stale, FlatIndex)
        assert [c.subject for c in replica.search(people.embedding("ada"), 5)] == ["bob"]


def test_an_erasure_leaves_no_row_and_says_which_tables_were_searched(gallery, people):
    enrol(gallery, people, "ada", count=2)
    enrol(gallery, people, "bob")
    erased = gallery.erase("ada")
    assert (erased.samples, erased.shared, erased.name_searched) == (2, 0, True)
    assert set(erased.files) >= {"subject", "sample", "crop", "template", "work"} and erased.bytes_searched > 0
    ask = gallery.rows.connection.execute
    counts = [ask(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("subject", "sample", "crop", "template")]
    assert counts == [1, 1, 1, 1]
    if server_scores(gallery):
        assert ask("SELECT count(*) FROM embedding").fetchone() == (1,)


def test_a_rebuild_gives_the_server_something_to_score(address, people, monkeypatch):
    with monkeypatch.context() as plain:
        plain.setattr(Database, "install_extension", lambda self: False)
        with Gallery(address) as gallery:
            enrol(gallery, people, "ada", count=3)
            assert not server_scores(gallery)
    with Gallery(address) as gallery, Gallery(address) as other:
        if not gallery.rows.database.install_extension():
            pytest.skip("the server has no pgvector")
        gallery.rebuild()
        enrol(other, people, "bob")
        assert gallery.rows.connection.execute("SELECT count(*) FROM embedding").fetchone() == (4,)


def test_scoring_asks_for_vectors_where_the_server_has_no_type_for_them(large):
    scorer = large.rows.remote(large.rows.active_model())
    ids, vectors = scorer.vectors(np.array([5, 2, 9999]))
    assert ids.tolist() == [2, 5] and vectors.dtype == np.float16
    found, scores = scorer.best(np.array([2, 5, 9999]), vectors[1].astype(np.float32), 3)
    assert found.tolist() == [5, 2, -1] and scores[0] == pytest.approx(1, abs=2e-3)


def test_a_replica_that_follows_takes_in_what_is_announced_before_anybody_searches(address, people):
    with Gallery(address) as writer, Gallery(address) as replica:
        enrol(writer, people, "ada")
        replica.follow()
        postgres_server.wait_for(lambda: replica.live._index is not None and len(replica.live._index) == 1)
        enrol(writer, people, "bob")
        postgres_server.wait_for(lambda: len(replica.live._index) == 2)


def test_what_it_takes_on_the_server_is_counted(large):
    assert large.stats().database_bytes > 50_000
