from dataclasses import replace

import numpy as np
import pytest
import torch

from data.layouts import picture, write
from data.test_crops import Planted
from mien.data.crops import cut_crops
from mien.data.samples import read_samples
from mien.data.transforms import Augment, Order, Variation, class_weights, mixup, plain_crops
from mien.drawing import draw_face

STILL = Variation(
    flip=0,
    rotate=0,
    scale=0,
    shift=0,
    unaligned=0,
    contrast=0,
    brightness=0,
    colour=0,
    noise=0,
    blur=0,
    jpeg=0,
    erase=0,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    files = {f"happy/{k}.png": picture(k, side=48) for k in range(6)}
    samples = read_samples(write(tmp_path_factory.mktemp("set"), files))
    return cut_crops(samples, detector=Planted(draw_face(0, side=48).landmarks, 48))


@pytest.fixture
def canvas(crops):
    return torch.from_numpy(np.array(crops.canvas))[:, None]


def changed(canvas, count=1, **settings):
    """Augment with nothing but the named variations."""
    variation = Variation(**{**STILL.__dict__, **settings})
    return Augment(frame=64, side=48, variation=variation)(canvas.repeat(count, 1, 1, 1), seeded())


def test_nothing_varied_is_the_plain_crop(canvas, crops):
    plain = plain_crops(canvas, frame=64, side=48)

    assert torch.equal(changed(canvas), plain)
    assert (plain[:, 0] - torch.from_numpy(crops.faces).float()).abs().mean() < 3


def test_gamma_keeps_black_and_white_and_the_order_of_greys():
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).repeat(8, 1, 64, 1)
    x = Augment(frame=64, side=64, variation=Variation(**{**STILL.__dict__, "gamma": 0.5}))(ramp, seeded())

    assert (x[:, :, :, 0] == 0).all() and (x.diff(dim=3) >= 0).all()
    assert len({round(float(row), 2) for row in x[:, 0, 32, 32]}) == 8


def test_shade_lights_one_side_and_dims_the_other():
    flat = torch.full((64, 1, 96, 96), 100, dtype=torch.uint8)
    x = changed(flat, shade=1.0)[:, 0]

    lit = (x - 100).abs().amax(dim=(1, 2)) > 1
    assert 16 < int(lit.sum()) < 48  # a half of them
    # Opposite sides change by inverse factors.
    assert torch.allclose(x * x.flip(1).flip(2), torch.tensor(10_000.0), rtol=1e-3)


def test_grey_takes_the_colours_out_of_a_share_of_the_pictures():
    canvas = torch.randint(0, 256, (64, 3, 96, 96), dtype=torch.uint8, generator=seeded(1))
    spread = changed(canvas, grey=0.5).std(dim=1).amax(dim=(1, 2))

    assert 16 < int((spread < 1e-3).sum()) < 48


def test_the_unaligned_view_is_the_picture_as_it_came(canvas, crops):
    variation = Variation(**{**STILL.__dict__, "unaligned": 1.0})
    x = Augment(frame=64, side=48, variation=variation)(canvas, seeded(), torch.from_numpy(crops.whole))

    from mien.images import load_image

    raw = torch.from_numpy(np.stack([load_image(picture(k, side=48))[..., 0] for k in range(6)])).float()
    # What lies outside of the canvas is gone; the middle is all there.
    assert (x[:, 0] - raw)[:, 8:-8, 8:-8].abs().mean() < 4


def test_the_generator_alone_decides(canvas):
    augment = Augment(frame=64, side=48)
    once, again, other = (augment(canvas, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert once.shape == (6, 1, 48, 48) and once.dtype == torch.float32 and once.min() >= 0 and once.max() <= 255


def test_a_mirrored_crop_is_the_crop_mirrored(canvas):
    assert torch.allclose(changed(canvas, flip=1.0), plain_crops(canvas, frame=64, side=48).flip(3), atol=1e-2)


def test_a_turn_keeps_the_middle_and_moves_the_rim():
    canvas = torch.zeros(1, 1, 96, 96, dtype=torch.uint8)
    canvas[:, :, 46:50, 46:50] = 255
    turned = changed(canvas, 20, rotate=180.0)
    middle = turned[:, 0, 22:26, 22:26].sum(dim=(1, 2))
    assert torch.all(middle > 0.9 * turned.sum(dim=(1, 2, 3)))

    canvas = torch.zeros(1, 1, 96, 96, dtype=torch.uint8)
    canvas[:, :, 20:28, 46:50] = 255
    rows = changed(canvas, 20, rotate=180.0)[:, 0].sum(dim=2).argmax(dim=1)
    assert len(set(rows.tolist())) > 5


def test_bicubic_sampling_keeps_more_detail_of_a_moved_picture():
    stripes = torch.tensor([0, 128, 255, 128] * 8, dtype=torch.uint8).expand(64, 1, 32, 32)
    moved = replace(STILL, shift=0.05)

    spread = {
        mode: Augment(frame=32, side=32, variation=moved, mode=mode)(stripes, seeded()).std()
        for mode in ("bilinear", "bicubic")
    }

    assert spread["bicubic"] > 1.05 * spread["bilinear"]


def test_shift_and_scale_stay_in_their_limits():
    canvas = torch.zeros(1, 1, 96, 96, dtype=torch.uint8)
    canvas[:, :, 44:52, 44:52] = 255
    place = torch.arange(48).float()

    moved = changed(canvas, 200, shift=0.1)[:, 0]
    centre = (moved.sum(dim=1) * place).sum(dim=1) / moved.sum(dim=(1, 2)) - 23.5
    assert 3.0 < centre.abs().max() <= 5.2

    zoomed = changed(canvas, 200, scale=0.2)[:, 0].sum(dim=(1, 2)).sqrt()
    factor = zoomed / changed(canvas)[0].sum().sqrt()
    assert factor.min() > np.exp(-0.23) and factor.max() < np.exp(0.23) and factor.std() > 0.08


def test_light_changes_brightness_and_contrast_about_the_mean(canvas):
    canvas = (canvas.float() * 0.4 + 70).to(torch.uint8)
    plain = plain_crops(canvas, frame=64, side=48)
    lit = changed(canvas, brightness=20.0)
    shift = (lit - plain).flatten(1)
    assert torch.all(shift.std(dim=1) < 0.01) and shift.abs().max() <= 20 and shift.abs().max() > 1

    ratio = changed(canvas, contrast=0.3).flatten(1).std(dim=1) / plain.flatten(1).std(dim=1)
    assert torch.all((ratio.log().abs() <= 0.31) & (ratio.log().abs() > 1e-4))


def test_noise_blur_and_jpeg_change_some_pictures_a_little(canvas):
    plain = plain_crops(canvas, frame=64, side=48).repeat(20, 1, 1, 1)
    for share, settings in ((0.5, {"noise": 8.0}), (0.2, {"blur": 0.2}), (0.3, {"jpeg": 0.3})):
        difference = (changed(canvas, 20, **settings) - plain).abs().mean(dim=(1, 2, 3))
        assert abs((difference > 0.02).float().mean() - share) < 0.12 and difference.max() < 20


def test_a_rectangle_of_one_level_is_erased(canvas):
    plain = plain_crops(canvas, frame=64, side=48)
    erased = changed(canvas, erase=1.0)
    for before, after in zip(plain, erased, strict=True):
        inside = before != after
        assert len(after[inside].unique()) <= 1 and inside.sum() <= 18 * 18


def test_colour_pictures_stay_in_three_channels(tmp_path):
    samples = read_samples(write(tmp_path, {"happy/a.png": picture(0), "sad/b.png": picture(1)}))
    crops = cut_crops(samples, colour=True, detector=Planted(draw_face(0, side=40).landmarks, 40))
    canvas = torch.from_numpy(crops.canvas).permute(0, 3, 1, 2)

    assert Augment(frame=64, side=48)(canvas, seeded()).shape == (2, 3, 48, 48)
    # JPEG keeps red red: the channels come back in the order they went.
    back = changed(canvas, jpeg=1.0) - plain_crops(canvas, frame=64, side=48)
    assert back.abs().mean() < 12


def test_mixup_blends_pictures_and_labels_alike_and_keeps_what_is_unlabelled_open():
    x = torch.eye(8)
    targets = {"a": torch.eye(8), "b": torch.full((8, 2), torch.nan)}
    mixed, blended = mixup(x, targets, seeded(), alpha=0.4)

    assert torch.equal(mixed, blended["a"]) and torch.allclose(mixed.sum(dim=1), torch.ones(8))
    assert blended["b"].isnan().all() and not torch.equal(mixed, x)
    again, _ = mixup(x, targets, seeded(), alpha=0.4)
    assert torch.equal(mixed, again)
    assert mixup(x, targets, seeded(), alpha=0)[0] is x


def test_weights_of_classes_even_out_their_counts():
    labels = np.repeat([0, 1, -1], [30, 10, 5])
    weights = class_weights(labels, 3)
    assert weights[0] * 30 == pytest.approx(float(weights[1] * 10)) and weights[2] == 0
    assert (weights[0] * 30 + weights[1] * 10) / 40 == pytest.approx(1.0)
    assert class_weights(labels, 2, power=0).tolist() == [1, 1]


def test_an_epoch_shows_each_sample_once_and_any_batch_can_be_named_alone():
    labels = np.arange(10) % 3
    order = Order(labels, seed=4)
    run = [order.batch(position, 4) for position in range(0, 40, 4)]

    assert sorted(np.concatenate(run)[:10]) == sorted(np.concatenate(run)[10:20]) == list(range(10))
    assert Order(labels, seed=4).batch(24, 4).tolist() == run[6].tolist()
    assert Order(labels, seed=5).batch(0, 10).tolist() != order.batch(0, 10).tolist()


def test_a_balanced_order_shows_rare_classes_as_often_as_common_ones():
    labels = np.repeat([0, 1], [2000, 20])
    shown = labels[Order(labels, seed=0, balance=1.0).batch(0, 2020)]
    assert 0.45 < shown.mean() < 0.55
    half = labels[Order(labels, seed=0, balance=0.5).batch(0, 2020)]
    assert 0.05 < half.mean() < 0.15
