from dataclasses import replace

import pytest

from mien.gallery.naming import name_faces, repeated_names
from mien.types import Embedding, Picture, as_unit

from .made_up import enrol


@pytest.fixture
def mirror(gallery, people):
    """A picture with ada, somebody much like ada, and bob, who is the second most like ada, as sets go."""
    people.vectors["ada's brother"] = people.like(people.vector("ada"), 0.8)
    for name in ("ada", "ada's brother", "bob"):
        enrol(gallery, people, name, cosine=1.0, crop=False)
    face = people.face("ada", cosine=1.0, crop=False)
    near = as_unit(0.98 * people.vector("ada") + 0.02 * people.vector("ada's brother"))
    other = replace(face, embedding=Embedding(people.model, near))
    return Picture("mirror.png", 100, 100, (other, face, people.face("bob", crop=False)))


def test_a_name_may_stand_at_several_faces_and_that_is_found(gallery, mirror):
    named = name_faces(gallery, mirror, threshold=0.5)
    assert [one.subject for one in named] == ["ada", "ada", "bob"]
    assert repeated_names(named) == {"ada": 2}


def test_once_a_picture_the_most_similar_face_keeps_the_name_and_the_other_takes_its_next(gallery, mirror):
    named = name_faces(gallery, mirror, threshold=0.5, once=True)
    assert [one.subject for one in named] == ["ada's brother", "ada", "bob"]
    assert repeated_names(named) == {} and [len(one.candidates) for one in named] == [1, 1, 1]


def test_once_a_picture_a_face_without_another_match_is_unknown(gallery, mirror):
    named = name_faces(gallery, mirror, threshold=0.85, once=True)
    assert [one.subject for one in named] == [None, "ada", "bob"]


def test_a_picture_without_faces_or_with_an_error_names_nobody(gallery):
    assert name_faces(gallery, Picture("a.png", error="broken"), threshold=0.5, once=True) == ()
    assert name_faces(gallery, Picture("a.png", 10, 10), threshold=0.5) == ()
