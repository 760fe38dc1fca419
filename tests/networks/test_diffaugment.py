import numpy as np
import pytest
import torch

from mien.errors import UsageError
from mien.networks.diffaugment import DiffAugment, diff_augment

STILL = DiffAugment(translation=0, brightness=0, contrast=0, saturation=0)
ALL = DiffAugment(cutout=0.5)


def pictures(count=6, channels=3, side=8):
    return 255 * torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def varied(pixels, how, probability=1.0, seed=0):
    torch.manual_seed(seed)
    return diff_augment(pixels, how, probability)


@pytest.mark.slow
def test_nothing_changes_where_nothing_is_to():
    x = pictures()
    assert varied(x, ALL, 0.0) is x
    torch.testing.assert_close(varied(x, STILL), x)


def test_a_moved_picture_has_its_border_mirrored():
    x = pictures(40)
    moved = varied(x, DiffAugment(translation=0.25, brightness=0, contrast=0, saturation=0))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    shifts = set()
    for before, after in zip(padded, moved.numpy(), strict=True):
        (found,) = [
            (y, x) for y in range(5) for x in range(5) if np.array_equal(before[:, y : y + 8, x : x + 8], after)
        ]
        shifts.add(found)
    assert len(shifts) > 10  # each picture goes its own way


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (DiffAugment(0, 25, 0, 0), lambda x: x - x.mean((1, 2, 3), keepdim=True)),
        (DiffAugment(0, 0, 0.5, 0), lambda x: x.mean((1, 2, 3))),
        (DiffAugment(0, 0, 0, 0.5), lambda x: x.mean(1)),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_each_variation_changes_what_its_name_says_and_keeps_the_rest(how, kept):
    x = pictures()
    y = varied(x, how)
    assert (y - x).abs().amax((1, 2, 3)).min() > 0.01
    torch.testing.assert_close(kept(y), kept(x), rtol=1e-4, atol=1e-3)


def test_a_square_of_each_picture_is_blanked():
    x = pictures(20, side=16)
    y = varied(x, DiffAugment(0, 0, 0, 0, cutout=0.5))
    blank = (y == x.mean((1, 2, 3), keepdim=True)).all(1)
    assert all(0 < area <= 64 for area in blank.sum((1, 2)).tolist())
    assert torch.equal(y.movedim(1, 3)[~blank], x.movedim(1, 3)[~blank])


def test_about_as_many_pictures_are_varied_as_the_probability_says():
    x = pictures(400, 1, 4)
    changed = (varied(x, DiffAugment(0, 25, 0, 0), 0.25) != x).any((1, 2, 3)).float().mean()
    assert 0.18 < changed < 0.32


def test_another_probability_leaves_the_training_s_chance_alone():
    varied(pictures(), ALL, 0.0)
    first = torch.rand(3)
    varied(pictures(), ALL, 1.0)
    assert torch.equal(first, torch.rand(3))


def test_gradients_pass_and_pass_twice():
    x = pictures(2, 3, 6).double().requires_grad_()
    y = varied(x, ALL)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_strengths_out_of_range_are_refused():
    with pytest.raises(UsageError, match=r"Translation lies in \[0, 0.5\]"):
        DiffAugment(translation=0.7)
    with pytest.raises(UsageError, match="0 or more"):
        DiffAugment(brightness=-1)
