import json

import pytest
import torch
from torch import nn

from mien.errors import TrainingError
from mien.networks.tracing import onnx_bytes
from mien.training.publishing import check_difference, check_parity, publish_network


def test_a_file_that_answers_as_pytorch_does_passes_and_another_is_refused():
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 2).eval(), {"x": torch.ones(2, 3)}
    network = onnx_bytes(model, inputs["x"], inputs=["x"], outputs=["y"])
    assert check_parity(model, network, inputs, tolerance=1e-4, unit="units") < 1e-4

    with torch.no_grad():
        model.bias += 1
    with pytest.raises(TrainingError, match=r"answers otherwise than PyTorch, by 1 units, more than 0\.0001"):
        check_parity(model, network, inputs, tolerance=1e-4, unit="units")


def test_a_difference_that_is_no_number_does_not_pass():
    with pytest.raises(TrainingError, match="by nan units"):
        check_difference(float("nan"), tolerance=1.0, unit="units")


@pytest.mark.parametrize(("file", "card"), [("model.onnx", "card.json"), ("encoder.onnx", "encoder.json")])
def test_the_card_stands_beside_its_network_and_keeps_odd_names(tmp_path, file, card):
    publish_network(
        tmp_path / file, b"onnx", role="classifier", summary="s", training_data="d", convention={"labels": ["Zoë"]},
        metrics={}, name="n",
    )  # fmt: skip
    facts = json.loads((tmp_path / card).read_text(encoding="utf-8"))
    assert (tmp_path / file).read_bytes() == b"onnx"
    assert facts["name"] == "n" and facts["version"] == "1" and facts["convention"]["labels"] == ["Zoë"]
    assert facts["licence"].startswith("Yours")
