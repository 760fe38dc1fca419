import pytest

from mien.data.labels import LABEL_SETS, canonical, class_list, nearest, resolve
from mien.errors import DataError
from mien.types import EXPRESSIONS


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("angry", "anger"),
        ("Anger", "anger"),
        (" HAPPY ", "happiness"),
        ("joy", "happiness"),
        ("sad", "sadness"),
        ("fearful", "fear"),
        ("surprised", "surprise"),
        ("disgusted", "disgust"),
        ("contempt", "contempt"),
    ],
)
def test_synonyms_mean_our_classes(word, name):
    assert canonical(word) == name


@pytest.mark.parametrize("word", ["3", "", "smiling dog", "none"])
def test_numbers_and_other_words_are_not_guessed(word):
    assert canonical(word) is None


def test_every_label_set_speaks_our_language_without_repetition():
    for classes in LABEL_SETS.values():
        assert set(classes) <= set(EXPRESSIONS) and len(set(classes)) == len(classes)


@pytest.mark.parametrize(
    ("text", "labels", "name"),
    [
        ("3", "fer2013", "happiness"),
        ("0", "affectnet8", "neutral"),
        ("1", "rafdb", "surprise"),
        ("7", "rafdb", "neutral"),
        ("5", "ckplus", "happiness"),
        ("1", ("sad", "happy"), "happiness"),
        ("Happy", ("sad", "happy"), "happiness"),
    ],
)
def test_a_number_counts_in_the_order_of_its_set(text, labels, name):
    assert resolve(text, labels) == name


@pytest.mark.parametrize(
    ("text", "labels"), [("7", "fer2013"), ("0", "rafdb"), ("contempt", "fer2013"), ("-1", "jaffe")]
)
def test_what_is_outside_of_the_set_means_nothing(text, labels):
    assert resolve(text, labels) is None


def test_an_unknown_set_and_a_repeated_class_are_refused():
    with pytest.raises(DataError, match="no label set 'fer'"):
        class_list("fer")
    with pytest.raises(DataError, match="happiness twice"):
        class_list(["happy", "joy"])


def test_a_typing_mistake_gets_a_suggestion():
    assert nearest("hapy", ("happiness",)) == " (nearest is 'happy')"
    assert nearest("xyz", ("happiness",)) == ""
