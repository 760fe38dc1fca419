import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

import postgres_server
from mien.errors import GalleryError
from mien.gallery import Gallery, stores
from mien.gallery.postgres import database
from mien.gallery.records import UnreachableError

from ..made_up import enrol


def ask(server, query, *values):
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def schema(address):
    return "mien_" + address.rpartition("=")[2]


def cut_all(server):
    """Close every connection from the server's side, as a restart or a failover does."""
    ask(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mien'")


def test_a_gallery_that_is_not_there_is_not_made_unasked(address, server):
    with pytest.raises(GalleryError, match=r"There is no gallery postgresql://postgres@/postgres\?coll.*mien enroll"):
        Gallery(address, create=False)
    with pytest.raises(GalleryError, match="no gallery"):
        Gallery(address, read_only=True)
    assert ask(server, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema(address)) == []


def test_collections_cannot_see_each_other(address, people):
    with Gallery(address) as one, Gallery(address + "-b") as other:
        enrol(one, people, "ada")
        assert len(other) == 0 and other.search(people.embedding("ada")) == ()
        assert other.model is None


def test_many_may_make_one_gallery_at_once(address):
    galleries = []
    threads = [threading.Thread(target=lambda: galleries.append(Gallery(address))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({gallery.rows.meta("gallery") for gallery in galleries}) == 1 and len(galleries) == 4
    for gallery in galleries:
        gallery.close()


def test_a_gallery_of_a_newer_version_is_refused(address, server):
    Gallery(address).close()
    ask(server, f"INSERT INTO \"{schema(address)}\".migration (number, name) VALUES (99, 'later') RETURNING 1")
    with pytest.raises(GalleryError, match=r"newer mien.*version 99.*pip install --upgrade"):
        Gallery(address)


def test_an_older_gallery_is_brought_up_to_date_when_it_is_opened_for_writing(address, monkeypatch, people):
    steps = database.migrations()
    monkeypatch.setattr(database, "migrations", lambda: steps[:1])
    with Gallery(address) as gallery:
        enrol(gallery, people, "ada")
    monkeypatch.setattr(database, "migrations", lambda: steps)
    with pytest.raises(GalleryError, match="Open it once for writing"):
        Gallery(address, read_only=True)
    with Gallery(address) as gallery:
        assert len(gallery) == 1 and gallery.rows.connection.execute("SELECT count(*) FROM work").fetchone() == (0,)


def test_a_schema_of_something_else_is_left_alone(address, server):
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema(address)}" CREATE TABLE theirs (x int)')
    with pytest.raises(GalleryError, match="holds something else than a gallery"):
        Gallery(address)


def test_a_connection_that_was_cut_is_noticed_by_nobody(address, server, people):
    with Gallery(address) as gallery:
        enrol(gallery, people, "ada")
        cut_all(server)
        assert [c.subject for c in gallery.search(people.embedding("ada"))] == ["ada"]
        cut_all(server)
        enrol(gallery, people, "bob")
        assert len(gallery) == 2


def test_a_write_that_is_cut_in_the_middle_is_one_line_and_keeps_nothing_of_it(address, server, people):
    with Gallery(address) as gallery:
        with (
            pytest.raises(UnreachableError, match="does not answer"),
            gallery.rows.errors_in_words(),
            gallery.rows.write(),
        ):
            gallery.rows.add_subject("ada")
            cut_all(server)
            gallery.rows.add_subject("bob")
        assert len(gallery) == 0
        enrol(gallery, people, "ada")
        assert len(gallery) == 1


def test_a_server_that_is_down_is_one_line_and_all_goes_on_when_it_is_back(people, monkeypatch):
    monkeypatch.setattr(database, "CONNECT_S", 1)
    try:
        with postgres_server.temporary(fsync=False) as server:
            gallery = Gallery(server.url())
            enrol(gallery, people, "ada")
            server.stop()
            with pytest.raises(UnreachableError, match=r"The database postgresql://.* does not answer: "):
                gallery.search(people.embedding("ada"))
            with pytest.raises(UnreachableError, match="does not answer"):
                Gallery(server.url())
            server.start()
            assert gallery.search(people.embedding("ada"))[0].subject == "ada"
            enrol(gallery, people, "bob")
            assert len(gallery) == 2
            gallery.close()
    except postgres_server.NoServerError as error:
        pytest.skip(f"SKIPPED, no PostgreSQL server: {error}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("postgresql://postgres@", "postgresql://nobody@"), 'role "nobody" does not exist'),
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("host=", "nonsense=1&host="), "no address that can be used"),
        (("host=", "port=1&host="), "does not answer"),
    ],
)
def test_a_wrong_address_is_one_line(address, change, told):
    with pytest.raises(GalleryError, match=told) as caught:
        Gallery(address.replace(*change))
    assert "\n" not in str(caught.value)


def test_a_password_is_in_no_message(address):
    with pytest.raises(GalleryError) as caught:
        Gallery(address.replace("postgres@/", "nobody:s3cret@/"))
    assert "s3cret" not in str(caught.value) and "nobody@" in str(caught.value)


def test_a_user_without_the_right_to_make_it_is_told_so(address, server):
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    with pytest.raises(GalleryError, match=r"does not let this user do that.*permission denied"):
        Gallery(address.replace("postgres@", "guest@"))


def test_without_psycopg_the_cure_is_named(address, monkeypatch):
    monkeypatch.setitem(sys.modules, "mien.gallery.postgres.rows", None)
    with pytest.raises(GalleryError, match=r"need psycopg.*mien\[postgres\]"):
        stores.open_rows(address, create=True, read_only=False, timeout_s=1)


def test_a_path_made_of_an_address_is_told_from_one(address):
    with pytest.raises(GalleryError, match="given as text"):
        Gallery(Path(address))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs to become another user")
def test_the_server_of_the_tests_runs_as_somebody_who_may_not_do_everything(server):
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner == postgres_server.NOBODY and shutil.which("setpriv")


HOLD = """
import sys
from mien.gallery import Gallery
with Gallery(sys.argv[1]) as gallery, gallery.rows.write():
    gallery.rows.add_subject("half")
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_writer_that_is_killed_lets_others_go_on(address, people):
    with Gallery(address) as gallery:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        enrol(gallery, people, "ada")
        assert [subject.name for subject in gallery.subjects()] == ["ada"]
