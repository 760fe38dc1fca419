"""Several data sets that are learned from together: whose labels go where, and what does not go together."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from mien.errors import DataError, UsageError
from mien.images import save_image
from mien.networks import ExpressionNetConfig
from mien.training.config import load_config
from mien.training.expression import ExpressionConfig, dry_run
from mien.training.labelled import load_labelled

SIX = ("neutral", "happiness", "anger")


def paint(folder, classes=SIX, *, seed=0, count=4, split=None, colour=False):
    """A folder a class, of noise."""
    rng = np.random.default_rng(seed)
    for name in classes:
        place = folder / (split or "") / name
        place.mkdir(parents=True, exist_ok=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (20, 20, 3 if colour else 1), dtype=np.uint8)
            save_image(place / f"{k}.png", pixels if colour else np.repeat(pixels, 3, axis=2))
    return folder


@pytest.fixture
def config(tmp_path):
    def make(*data, **settings):
        net = ExpressionNetConfig(side=16, stem=4, widths=(4, 4), blocks=(1, 1), **settings.pop("net", {}))
        return ExpressionConfig(
            data=data, out=tmp_path / "run", net=net, frame=16, canvas=24, valid_share=0.25, batch_size=8, device="cpu",
            whole=(True,) * len(data), **settings,
        )  # fmt: skip

    return make


def test_data_sets_of_the_same_classes_share_a_head(tmp_path, config):
    parts = load_labelled(config(paint(tmp_path / "a"), paint(tmp_path / "b", seed=1)))
    assert list(parts.heads) == ["expression"]
    assert len(parts.targets("expression").labels) == 24 and (parts.targets("expression").labels >= 0).all()
    assert parts.counts() == {"train": 18, "valid": 6}  # each set gives a quarter


def test_a_name_gives_a_data_set_a_head_of_its_own_and_leaves_the_others_unlabelled_in_it(tmp_path, config):
    one, other = paint(tmp_path / "a"), paint(tmp_path / "b", ("neutral", "fear"), seed=1)
    parts = load_labelled(config(one, other, names=("", "street")))
    assert parts.heads == {"expression": SIX, "street": ("neutral", "fear")}
    labels = parts.targets("street").labels
    assert (labels[:12] == -1).all() and (labels[12:] >= 0).all()
    # Sampling tells classes of one set from those of the other.
    assert len(set(parts.strata().tolist())) == 5


def test_classes_that_differ_are_refused_with_what_each_lacks(tmp_path, config):
    one, other = paint(tmp_path / "a"), paint(tmp_path / "b-2", ("neutral", "fear"), seed=1)
    with pytest.raises(DataError, match=r"'.*a' has no fear; '.*b-2' has no happiness, anger") as caught:
        load_labelled(config(one, other))
    assert "\n" not in str(caught.value) and 'names=["", "b_2"]' in str(caught.value)


def test_a_data_set_with_fewer_classes_shares_a_head_where_that_is_asked_for(tmp_path, config):
    fewer, more = paint(tmp_path / "b", SIX[1:], seed=1), paint(tmp_path / "a")
    parts = load_labelled(config(fewer, more, subset_classes=True))

    assert parts.heads == {"expression": SIX}
    shares = parts.targets("expression").shares
    assert (shares[: 4 * len(SIX[1:]), 0] == 0).all() and (shares[4 * len(SIX[1:]) :, 0] > 0).any()
    assert (shares.sum(axis=1) == 1).all()
    with pytest.raises(DataError, match="subset_classes=true"):
        load_labelled(config(fewer, more))
    strange = paint(tmp_path / "c", ("neutral", "disgust"), seed=2)
    with pytest.raises(DataError, match="has no disgust"):
        load_labelled(config(more, strange, subset_classes=True))


def test_the_same_classes_in_another_order_are_the_same(tmp_path, config):
    one, other = paint(tmp_path / "a"), tmp_path / "b"
    paint(other / "img", seed=1)
    with (other / "list.csv").open("w", newline="") as file:
        rows = [(f"img/{name}/{k}.png", name) for name in reversed(SIX) for k in range(4)]
        csv.writer(file).writerows([("path", "label"), *rows])
    parts = load_labelled(config(one, other))
    assert parts.heads == {"expression": SIX}
    assert [SIX[k] for k in parts.targets("expression").labels[12:]] == [label for _, label in rows]


def test_classes_that_are_no_expressions_are_refused_with_their_data_set(tmp_path, config):
    with pytest.raises(DataError, match=r"cat, dog of 'class' in '.*pets' are no expressions"):
        load_labelled(config(paint(tmp_path / "a"), paint(tmp_path / "pets", ("cat", "dog"))))


def test_a_picture_of_one_set_that_validates_in_another_is_left_out(tmp_path, config, capsys):
    one, other = paint(tmp_path / "a", split="train"), paint(tmp_path / "b", split="valid")
    paint(one, seed=5, split="valid")
    paint(other, seed=6, split="train")
    parts = load_labelled(config(one, other))
    assert parts.counts() == {"train": 12, "valid": 24}  # the twelve of the first set are the other's validation
    assert any("12 training pictures stand in another split too" in note for note in parts.notes)


def test_grey_and_colour_do_not_go_into_a_colour_network_unless_colours_are_taken_out(tmp_path, config):
    grey, colour = paint(tmp_path / "a", count=8), paint(tmp_path / "b", count=8, seed=1, colour=True)
    mixed = config(grey, colour, net={"colour": True})
    with pytest.raises(DataError, match=r"'.*a' holds grey pictures and '.*b' colour ones") as caught:
        dry_run(mixed, steps=1)
    assert "\n" not in str(caught.value)
    assert dry_run(replace(mixed, augment=replace(mixed.augment, grey=0.5)), steps=1).train == 36
    assert dry_run(config(grey, colour), steps=1).valid == 12


def test_a_list_of_names_or_whole_crops_has_one_for_each_data_set(tmp_path, config):
    with pytest.raises(UsageError, match="'names' has one value for each of 'data', got 1 for 2"):
        config(tmp_path / "a", tmp_path / "b", names=("x",))
    with pytest.raises(UsageError, match="names a data set twice"):
        config(tmp_path / "a", tmp_path / "a")


def test_settings_of_the_time_when_there_was_one_data_set_are_read(tmp_path):
    old = {"data": str(tmp_path / "a"), "out": str(tmp_path / "run")}
    assert load_config(ExpressionConfig, given=old).data == (tmp_path / "a",)
