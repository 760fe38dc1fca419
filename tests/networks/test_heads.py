import math

import pytest
import torch
from torch.nn import functional

from mien.networks.heads import MARGINS, MarginHead, additive_angle


def head_of(directions, **options):
    head = MarginHead(len(directions[0]), len(directions), **options)
    with torch.no_grad():
        head.directions.copy_(torch.tensor(directions))
    return head


def test_logits_are_those_worked_out_by_hand():
    # An embedding at 30 degrees from its subject's direction and at 60 degrees from the other one.
    embedding, right = torch.tensor([[math.sqrt(3), 1.0]]), torch.tensor([0])
    directions = [[1.0, 0.0], [0.0, 5.0]]
    cos30, cos60 = math.sqrt(3) / 2, 0.5

    expected = {
        "softmax": cos30,
        "cosface": cos30 - 0.35,
        "arcface": cos60,  # 30 degrees and a margin of 30
    }
    for margin, lowered in expected.items():
        size = math.pi / 6 if margin == "arcface" else 0.35
        logits = head_of(directions, margin=margin, size=size, scale=10.0)(embedding, right)
        assert logits.tolist() == [pytest.approx([10 * lowered, 10 * cos60], abs=1e-5)]


def test_arcface_equals_the_angle_computed_the_slow_way():
    cosine = torch.linspace(-math.cos(0.5) + 1e-3, 0.999, 200, dtype=torch.float64)

    assert torch.allclose(additive_angle(cosine, 0.5), torch.cos(torch.acos(cosine) + 0.5), atol=1e-9)


@pytest.mark.parametrize("size", [0.1, 0.5, 1.2])
def test_arcface_falls_with_the_angle_all_the_way_to_opposite(size):
    logits = additive_angle(torch.linspace(-1, 1, 10_001, dtype=torch.float64), size)

    assert (logits.diff() > 0).all()


@pytest.mark.parametrize("margin", MARGINS)
def test_gradients_are_finite_where_an_embedding_lies_on_its_direction_or_opposite(margin):
    embeddings = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]], requires_grad=True)
    head = head_of([[1.0, 0.0], [0.0, 1.0]], margin=margin, size=0.5, scale=64.0)

    functional.cross_entropy(head(embeddings, torch.tensor([0, 0, 0])), torch.tensor([0, 0, 0])).backward()

    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.directions.grad).all()


def test_a_margin_raises_the_loss_of_the_right_subject_only():
    embeddings, subjects = functional.normalize(torch.randn(8, 4)), torch.arange(8) % 3
    plain = MarginHead(4, 3, margin="softmax", scale=1.0)
    for margin in ("cosface", "arcface"):
        head = MarginHead(4, 3, margin=margin, size=0.3, scale=1.0)
        head.load_state_dict(plain.state_dict())
        changed = head(embeddings, subjects) - plain(embeddings)
        is_right = functional.one_hot(subjects, 3).bool()
        assert (changed[is_right] < 0).all()
        assert (changed[~is_right] == 0).all()


def test_without_subjects_no_margin_is_taken():
    head = MarginHead(4, 3, margin="cosface", scale=7.0)
    embeddings = torch.randn(2, 4)

    cosines = functional.normalize(embeddings) @ functional.normalize(head.directions).T
    assert torch.allclose(head(embeddings), 7 * cosines)


def test_cosines_are_taken_in_full_precision_under_autocast():
    head = MarginHead(16, 5, margin="arcface")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(torch.randn(4, 16).bfloat16(), torch.zeros(4, dtype=torch.int64))

    assert logits.dtype == torch.float32
