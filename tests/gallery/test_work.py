import threading
from collections import Counter

import pytest

from mien.gallery import Gallery, work
from mien.gallery.records import UnreachableError
from mien.gallery.work import Left, Work, work_through

from .fake_analyzer import FakeAnalyzer, write_picture

PICTURES = 7


@pytest.fixture
def source(tmp_path):
    for number in range(PICTURES):
        write_picture(tmp_path / "people" / f"s{number % 3}" / f"{number}.png", number % 3 + 1, seed=number)
    return tmp_path / "people"


def listed(source):
    return [(str(path.relative_to(source)), path.parent.name) for path in sorted(source.rglob("*.png"))]


@pytest.fixture
def job(gallery, source):
    found = Work(gallery, "job")
    assert found.offer(listed(source)) == PICTURES
    return found


def run(gallery, found, source, **options):
    return list(work_through(gallery, FakeAnalyzer(), found, source, batch=2, poll_s=0.01, **options))


def test_one_worker_does_it_all_and_each_picture_once(gallery, job, source):
    outcomes = run(gallery, job, source)
    assert Counter(one.status for one in outcomes) == {"added": PICTURES}
    assert job.left() == Left(0, 0, {"added": PICTURES})
    assert gallery.stats().samples == PICTURES and run(gallery, job, source) == []


def test_what_is_offered_again_is_not_done_again(gallery, job, source):
    run(gallery, job, source)
    assert job.offer(listed(source)) == 0
    write_picture(source / "s9" / "new.png", 9)
    assert job.offer(listed(source)) == 1
    assert [one.subject for one in run(gallery, job, source)] == ["s9"]


def test_two_workers_share_and_neither_gets_what_the_other_has(gallery, path, job):
    with Gallery(path) as elsewhere:
        other = Work(elsewhere, "job")
        mine, theirs = job.claim(4), other.claim(4)
        assert len(mine) == 4 and len(theirs) == PICTURES - 4
        assert not {one.id for one in mine} & {one.id for one in theirs} and job.claim(1) == []


def test_two_workers_at_once_do_all_of_it(gallery, path, job, source):
    outcomes = []
    with Gallery(path) as elsewhere:
        threads = [
            threading.Thread(target=lambda g=g, w=w: outcomes.extend(run(g, w, source)))
            for g, w in ((gallery, job), (elsewhere, Work(elsewhere, "job")))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outcomes) == PICTURES == gallery.stats().samples


def test_what_a_killed_worker_had_is_taken_up_when_its_lease_has_run_out(gallery, path, source):
    with Gallery(path) as elsewhere:
        dead = Work(elsewhere, "job", lease_s=0.05)
        dead.offer(listed(source))
        assert len(dead.claim(3)) == 3
        assert len(run(gallery, Work(gallery, "job"), source)) == PICTURES


def test_a_picture_that_was_enrolled_just_before_its_worker_died_is_not_there_twice(gallery, job, source, monkeypatch):
    with monkeypatch.context() as dying:
        dying.setattr(Work, "settle", lambda self, done: None)
        dying.setattr(Work, "release", lambda self: None)
        outcomes = work_through(gallery, FakeAnalyzer(), job, source, batch=2)
        assert next(outcomes).status == "added"
        outcomes.close()
    job.release()
    assert [one.status for one in run(gallery, job, source)] == ["already"] + ["added"] * (PICTURES - 1)
    assert gallery.stats().samples == PICTURES


def test_a_renewed_lease_begins_anew(gallery, source):
    late = Work(gallery, "job")
    late.offer(listed(source))
    late.claim(PICTURES)
    with gallery.rows.side_write():  # as if its time had passed
        gallery.rows.connection.execute("UPDATE work SET lease = 0")
    assert late.left().free == PICTURES
    late.renew()
    assert late.left().taken == PICTURES


def test_a_worker_at_work_renews_its_lease_all_the_while(gallery, monkeypatch):
    renewed = threading.Event()
    monkeypatch.setattr(Work, "renew", lambda self: renewed.set())
    with Work(gallery, "job", lease_s=0.03).heartbeat():
        assert renewed.wait(10)


def test_a_worker_that_is_broken_off_gives_back_what_it_had(gallery, job, source):
    outcomes = work_through(gallery, FakeAnalyzer(), job, source, batch=4)
    next(outcomes)
    outcomes.close()
    assert job.left() == Left(PICTURES - 1, 0, {"added": 1})


def test_a_picture_that_kills_every_worker_is_given_up(gallery, source, monkeypatch):
    deadly = Work(gallery, "job", lease_s=-1)
    deadly.offer(listed(source)[:1])
    for _ in range(work.MOST_TRIES):
        assert len(deadly.claim(1)) == 1
    assert deadly.claim(1) == [] and deadly.left().done == {"failed": 1}


def test_what_was_refused_or_failed_is_tried_anew_when_asked(gallery, job, source):
    (source / "s0" / "bad.png").write_bytes(b"no picture")
    job.offer(listed(source))
    assert Counter(one.status for one in run(gallery, job, source))["failed"] == 1
    assert job.offer(listed(source)) == 0
    assert job.again() == 1 and job.offer(listed(source)) == 1


def test_neither_names_nor_paths_stay_once_a_picture_is_done(gallery, job, source):
    run(gallery, job, source)
    rows = gallery.rows.connection.execute("SELECT item, subject_key FROM work").fetchall()
    assert rows == [(None, None)] * PICTURES


def test_who_is_erased_does_not_come_back_with_what_still_waited(gallery, job, source):
    outcomes = work_through(gallery, FakeAnalyzer(), job, source, batch=1)
    assert next(outcomes).subject == "s0"
    outcomes.close()
    gallery.erase("s0")
    assert {one.subject for one in run(gallery, job, source)} == {"s1", "s2"}


def test_a_database_that_is_away_for_a_while_is_waited_for(gallery, job, source, monkeypatch):
    enrol, said, calls = Gallery.enrol, [], []

    def flaky(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise UnreachableError("The database does not answer.")
        return enrol(self, *args, **options)

    monkeypatch.setattr(Gallery, "enrol", flaky)
    outcomes = run(gallery, job, source, say=said.append)
    assert Counter(one.status for one in outcomes)["added"] == PICTURES == gallery.stats().samples
    assert said == ["The database does not answer. Waiting for it."]


def test_patience_has_an_end(gallery, job, source, monkeypatch):
    def never(self, count):
        raise UnreachableError("away")

    monkeypatch.setattr(Work, "claim", never)
    with pytest.raises(UnreachableError, match="away"):
        run(gallery, job, source, patience_s=0.1, say=lambda line: None)
