import pytest

from mien.errors import GalleryError
from mien.gallery.names import clean_name, folded_name, shown

from .made_up import enrol


@pytest.mark.parametrize(
    "spelling",
    [
        " Ada L.", "Ada L. ", "Ada\u00a0L.", "Ada  L.", "Ada\u2003L.", "Ada\u200b L.", "\ufeffAda L.", "A\u202eda L.",
        "\uff21da L.", "Ada\u00ad L.", "Ada \u2800L.", "Ada\u3164L.", "Ada L\uff0e", "Ada\u200d L.", "Ada\u2060 L.",
    ],
)  # fmt: skip
def test_what_looks_the_same_is_one_subject(gallery, people, spelling):
    enrol(gallery, people, "Ada L.")
    enrol(gallery, people, spelling)
    assert [(s.name, s.samples) for s in gallery.subjects()] == [("Ada L.", 2)]
    assert gallery.subject(spelling).samples == 2


def test_the_first_spelling_is_kept_without_what_cannot_be_seen(gallery, people):
    enrol(gallery, people, "A\u202eda\u200b  L. ")
    assert [s.name for s in gallery.subjects()] == ["Ada L."]


def test_joiners_that_shape_letters_stay_and_tell_nobody_apart(gallery, people):
    persian = "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"
    assert clean_name(persian) == persian
    enrol(gallery, people, persian)
    enrol(gallery, people, persian.replace("\u200c", ""))
    assert [(s.name, s.samples) for s in gallery.subjects()] == [(persian, 2)]
    assert gallery.check().ok


def test_names_that_differ_in_what_can_be_seen_stay_apart():
    names = ["Ada", "ada", "Ad a", "\u00c1da", "\u5b89", "\u5b89\u5b89", "Ada-", "Ada \U0001f469\u200d\U0001f680"]
    assert len({folded_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u3164", "\u200d\u200c", "x" * 201, "a\nb", "a\x1bb", "a\udc80"])
def test_a_name_that_nobody_can_read_is_refused(name):
    with pytest.raises(GalleryError, match=r"1 to 200 characters|control characters"):
        clean_name(name)


def test_a_rename_to_a_name_that_looks_like_anothers_is_refused(gallery, people):
    enrol(gallery, people, "Ada")
    enrol(gallery, people, "Bob")
    with pytest.raises(GalleryError, match="merge"):
        gallery.rename("Bob", "\uff21da\u200b")


def test_what_is_shown_moves_no_cursor():
    assert shown("net\x1b[2J\u202e\ud800 \u5b89") == r"net\x1b[2J\u202e\ud800 " + "\u5b89"
