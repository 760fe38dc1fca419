import numpy as np
import pytest

from mien.errors import TrainingError
from mien.training.material import FEW, Pinned, few_pictures, keep_large_classes


class Data(Pinned):
    def __init__(self, digest, count):
        self._digest, self._count = digest, count

    @property
    def digest(self):
        return self._digest

    @property
    def count(self):
        return self._count


def test_classes_of_too_few_pictures_to_learn_from_are_left_out_and_the_rest_renumbered():
    labels = np.array([0, 0, 1, 2, 2, -1, 1])
    kept, classes, notes = keep_large_classes(labels, ("a", "b", "c"), learned=np.arange(6), fewest=2)
    assert classes == ("a", "c") and kept.tolist() == [0, 0, -1, 1, 1, -1, -1]
    assert notes == [
        "Only 1 training picture shows 'b', fewer than 2: left out.",
        "1 training picture has no label and is left out.",
    ]


def test_few_pictures_are_warned_of_and_many_are_not():
    assert few_pictures(FEW) == []
    assert few_pictures(335, "Begin.") == [
        "335 pictures are few: what is drawn may be one of them. Run mien audit before you give it away. Begin."
    ]


def test_a_checkpoint_of_other_data_is_refused():
    Data("x", 3).load_state_dict(Data("x", 3).state_dict())
    with pytest.raises(TrainingError, match="learned from other data: 2,000 pictures then, 3 now"):
        Data("x", 3).load_state_dict(Data("y", 2000).state_dict())
