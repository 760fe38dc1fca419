import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mien.errors import TrainingError
from mien.training.weights import UNREADABLE, fill, read_network, write_network


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("precision", "kind", "off"),
    [(None, torch.float32, 0.0), ("fp16", torch.float16, 1e-3), ("int8", torch.int8, 1e-2)],
)
def test_a_network_comes_back_with_what_was_said_of_it(network, precision, kind, off, tmp_path):
    file = tmp_path / "weights.safetensors"
    size = write_network(network, json.dumps({"net": 1}), file, kind="mien-vae", precision=precision)

    facts, state = read_network(file, "mien-vae")
    again = torch.nn.Linear(3, 2)
    fill(again, file, state)

    assert size == file.stat().st_size and facts == {"net": 1}
    assert load_file(file)["weight"].dtype == kind
    assert again.weight.dtype == torch.float32
    torch.testing.assert_close(again.weight, network.weight, rtol=0, atol=off)


def test_a_file_of_another_kind_or_none_is_not_read(network, tmp_path):
    file = tmp_path / "weights.safetensors"
    write_network(network, "{}", file, kind="mien-expression")
    for source in (file, tmp_path / "nothing", tmp_path / "nothing.safetensors"):
        with pytest.raises(UNREADABLE):
            read_network(source, "mien-vae")


def test_weights_of_another_network_are_refused_in_one_line(network, tmp_path):
    save_file({"weight": torch.zeros(5)}, tmp_path / "w.safetensors", {"mien-vae": "{}"})
    _, state = read_network(tmp_path / "w.safetensors", "mien-vae")
    with pytest.raises(TrainingError, match=r"'.*w\.safetensors' do not fit the network.*Write them anew"):
        fill(network, tmp_path / "w.safetensors", state)
