import pytest
import torch

from mien.errors import UsageError
from mien.networks.sequence import SequenceNet, SequenceNetConfig

NETS = {
    "gru": SequenceNetConfig(units=6),
    "attention": SequenceNetConfig(order="none", differences=False, units=6),
    "mean": SequenceNetConfig(order="none", pool="mean", differences=False, units=6),
    "last": SequenceNetConfig(order="none", pool="last", differences=False, units=6),
}


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    return request.param, SequenceNet(NETS[request.param], features=4, classes=3).eval()


@pytest.fixture
def clips():
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))


def test_what_fills_a_short_clip_up_changes_nothing(net, clips):
    there = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    filled = clips.clone()
    filled[1, 3:] = 7

    logits, weights = net[1](filled, there)

    assert torch.allclose(logits[1], net[1](clips[1:, :3])[0][0], atol=1e-6)
    assert weights[1, 3:].tolist() == [0, 0]


def test_weights_of_the_frames_sum_to_one(net, clips):
    assert torch.allclose(net[1](clips)[1].sum(dim=1), torch.ones(2), atol=1e-6)


def test_only_a_network_with_order_minds_the_order(net, clips):
    name, model = net
    turned = clips[:, [3, 0, 2, 1, 4]]  # the last one stays

    same = torch.allclose(model(clips)[0], model(turned)[0], atol=1e-6)

    assert same == (name != "gru")


def test_last_looks_at_the_last_frame_alone(clips):
    model = SequenceNet(NETS["last"], features=4, classes=3).eval()

    assert torch.allclose(model(clips)[0], model(clips[:, -1:])[0], atol=1e-6)


def test_mean_and_scale_of_the_features_do_not_matter(clips):
    model = SequenceNet(NETS["gru"], features=4, classes=3).eval()
    model.standardise(clips.reshape(-1, 4))
    before = model(clips)[0]
    model.standardise((100 * clips + 7).reshape(-1, 4))

    assert torch.allclose(model(100 * clips + 7)[0], before, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"units": 0}, {"drop": 1.0}])
def test_sizes_that_make_no_network_are_refused(wrong):
    with pytest.raises(UsageError, match=r"net\.units"):
        SequenceNetConfig(**wrong)
