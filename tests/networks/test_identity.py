import pytest
import torch

from mien.networks.identity import Projection, SmallResNet


@pytest.mark.parametrize("hidden", [0, 32], ids=["linear", "with a hidden layer"])
def test_a_projection_changes_nothing_before_it_learns(hidden):
    vectors, projection = torch.randn(5, 16), Projection(16, hidden=hidden)

    assert torch.equal(projection(vectors), vectors)
    assert projection.distance_from_identity().item() == 0


def test_distance_from_identity_counts_every_weight_that_changes_the_answer():
    projection = Projection(4, hidden=3)
    with torch.no_grad():
        projection.linear.weight[0, 1] += 2
        projection.linear.bias[0] += 1
        projection.outer.weight[0, 0] += 3

    assert projection.distance_from_identity().item() == pytest.approx(4 + 1 + 9)


def test_small_resnet_embeds_crops_of_its_side():
    network = SmallResNet(side=32, widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1), dimension=12)

    assert network(torch.zeros(3, 3, 32, 32)).shape == (3, 12)


def test_small_resnet_tells_where_on_the_face_something_is():
    torch.manual_seed(0)
    network = SmallResNet(side=32, widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1), dimension=12).eval()
    pictures = torch.full((2, 3, 32, 32), 128.0)
    pictures[0, :, 4:12, 4:12] = 255
    pictures[1, :, 20:28, 20:28] = 255

    first, second = network(pictures)
    assert not torch.allclose(first, second, atol=1e-3)
