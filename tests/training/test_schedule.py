import pytest
from torch import nn

from mien.training.schedule import decayed, warmup_cosine


def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine():
    rates = [warmup_cosine(images, 100, 20, 2.0) for images in (0, 10, 20, 60, 100, 120)]

    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0, 0.0])


def test_the_rate_ends_where_it_is_told():
    assert warmup_cosine(100, 100, 0, 2.0, final=0.5) == pytest.approx(0.5)
    assert warmup_cosine(50, 100, 0, 2.0, final=0.5) == pytest.approx(1.25)


def test_without_a_warm_up_the_first_rate_is_the_highest():
    assert warmup_cosine(0, 100, 0, 2.0) == 2.0


def test_a_warm_up_longer_than_the_training_only_rises():
    assert warmup_cosine(100, 100, 200, 2.0) == 1.0


def test_filters_and_matrices_that_learn_decay_and_nothing_else_does():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    model[2].weight.requires_grad_(False)

    filters, rest = decayed(model, 0.1)

    assert filters["weight_decay"] == 0.1 and [w.shape for w in filters["params"]] == [(2, 1, 3, 3)]
    assert rest["weight_decay"] == 0 and len(rest["params"]) == 4
