import os
from datetime import timedelta

import pytest

from mien.errors import UsageError
from mien.service.keys import Keys, parse_grant
from mien.service.store import Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "service")
    yield opened
    opened.close()


@pytest.fixture
def keys(store):
    return Keys(store)


def test_a_key_is_found_by_its_text_which_is_kept_nowhere(store, keys):
    key, text = keys.create({"default": "read"}, label="door")

    assert keys.find(text) == key and keys.find(text[:-1] + "?") is None
    store.empty_log()
    secret = text.split("_", 2)[2]
    assert not [file for file in store.path.parent.iterdir() if secret.encode() in file.read_bytes()]


def test_the_same_text_under_another_secret_opens_nothing(store, keys):
    _, text = keys.create({"default": "read"})
    (store.path.parent / "secret.key").unlink()

    assert Keys(store).find(text) is None


def test_what_another_process_does_counts_at_once(store, keys, tmp_path):
    key, text = keys.create({"default": "read"})
    other = Store(tmp_path / "service")
    Keys(other).revoke(key.id)
    other.close()

    assert keys.find(text).refusal() == "was revoked"


def test_keys_expire_and_a_rotated_one_works_for_a_while(keys):
    key, _ = keys.create({"default": "read"}, expires=timedelta(seconds=-1) + timedelta(days=1))

    assert key.refusal() is None
    assert keys.revoke(key.id, after=timedelta(hours=1)).refusal() is None
    assert keys.revoke(key.id).refusal() == "was revoked"
    with pytest.raises(UsageError, match="no key 'none'"):
        keys.revoke("none")


@pytest.mark.parametrize(
    ("grants", "words"),
    [({}, "opens nothing"), ({"default": "owner"}, "got 'owner'"), ({"../x": "read"}, "A collection's name")],
)
def test_grants_that_make_no_sense_are_refused(keys, grants, words):
    with pytest.raises(UsageError, match=words):
        keys.create(grants)


def test_files_are_for_their_owner_only(store, keys):
    for name in ("service.db", "secret.key"):
        assert (store.path.parent / name).stat().st_mode & 0o077 == 0
    if os.name == "posix":
        (store.path.parent / "secret.key").chmod(0o644)
        with pytest.raises(UsageError, match="chmod 600"):
            Keys(store)


def test_a_grant_is_a_collection_and_a_scope():
    assert parse_grant("staff=enrol") == ("staff", "enrol") and parse_grant("read") == ("default", "read")
