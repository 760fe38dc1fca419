import numpy as np
import onnxruntime
import pytest
import torch

from mien.errors import UsageError
from mien.networks import RestorationNetConfig, Restorer
from mien.networks.tracing import onnx_bytes

NET = RestorationNetConfig(side=32, widths=(8, 16), blocks=(1, 1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Restorer(NET).eval()


def test_before_it_learns_it_leaves_every_picture_as_it_is(model):
    images = 255 * torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        restored, found = model(images, torch.zeros(2, 1, 32, 32))
    assert torch.equal(restored, images) and found.shape == (2, 1, 32, 32) and (found == 0).all()


def test_one_network_restores_faces_of_several_sides_in_a_file_too():
    torch.manual_seed(1)
    model = Restorer(NET).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    network = onnx_bytes(
        model, torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32), inputs=["image", "covered"],
        outputs=["restored", "found"], any_side=True,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    for batch, side in ((1, 32), (3, 64)):
        x, told = 255 * torch.rand(batch, 3, side, side), (torch.rand(batch, 1, side, side) < 0.2).float()
        with torch.no_grad():
            ours = model(x, told)
        theirs = session.run(None, {"image": x.numpy(), "covered": told.numpy()})
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b, atol=0.02)


def test_being_told_of_a_cover_changes_the_answer():
    torch.manual_seed(2)
    model = Restorer(NET).eval()
    torch.nn.init.normal_(model.last.weight, std=0.1)
    x = torch.full((1, 3, 32, 32), 90.0)
    with torch.no_grad():
        assert not torch.equal(model(x, torch.zeros(1, 1, 32, 32))[0], model(x, torch.ones(1, 1, 32, 32))[0])


def test_a_side_or_widths_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="multiple of 16"):
        RestorationNetConfig(side=40)
    with pytest.raises(UsageError, match="as many numbers"):
        RestorationNetConfig(widths=(8, 16), blocks=(1,))
