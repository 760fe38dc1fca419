"""Networks as ONNX files: the same answers, smaller or faster, and a true account of what that costs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession

from mien import zoo
from mien.cli.export import export as command
from mien.drawing import draw_face
from mien.errors import MienError, TrainingError, UsageError
from mien.images import save_image
from mien.networks import ExpressionNetConfig, expression_net
from mien.networks.tracing import onnx_bytes
from mien.training import export as exporting
from mien.training.export import export, quantised
from mien.training.expression import ExpressionConfig, train
from mien.training.storage import half_weights
from mien.vision.expression import ExpressionReader

HEADS = {"ferplus": 8, "fer2013": 7}
NET = ExpressionNetConfig(side=24, stem=8, widths=(16, 32), blocks=(1, 1))


@pytest.fixture(scope="module")
def model():
    """A small network that has seen some faces, so that its normalisation is no identity, as ONNX."""
    torch.manual_seed(0)
    net = expression_net(NET, HEADS)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)  # blocks begin as mere shortcuts
    for _ in range(30):
        net(torch.rand(16, 1, 24, 24) * 255)
    return onnx.load_from_string(onnx_bytes(net, torch.zeros(2, 1, 24, 24), outputs=list(HEADS)))


def answers(model, faces):
    session = InferenceSession(model.SerializeToString())
    return dict(zip(HEADS, session.run(list(HEADS), {"image": faces}), strict=True))


def faces(rng, count=5):
    return (rng.random((count, 1, 24, 24)) * 255).astype(np.float32)


def test_eight_bits_take_little_room_and_keep_the_answers_near(model, rng):
    small = quantised(model, faces(rng, 64))

    weights = {weight.name: weight.data_type for weight in small.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in weights.values()) >= 8  # all convolutions and both heads
    assert small.ByteSize() < 0.6 * model.ByteSize()  # of a real network less: scales and names take room, too
    shown = faces(rng)
    exact, got = answers(model, shown), answers(small, shown)
    for name in HEADS:
        assert 0 < np.abs(got[name] - exact[name]).max() < 0.5 * exact[name].std()


def test_layers_can_be_kept_in_float(model, rng):
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")

    kept = quantised(model, faces(rng, 32), keep_float=(first,))

    made_by = {node.output[0]: node.op_type for node in kept.graph.node}
    of = {node.name: node for node in kept.graph.node}
    assert made_by.get(of[first].input[1]) != "DequantizeLinear"


# A run as a whole


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A toy that has learned a little from drawn faces; the folder of its data beside it."""
    place = tmp_path_factory.mktemp("export")
    for label in ("happiness", "surprise", "anger"):
        for subject in range(12):
            folder = place / "data" / ("valid" if subject < 4 else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            save_image(folder / f"{subject}.png", draw_face(subject, side=48, expression=label).image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.data.crops.patient_detector", lambda: _Nothing())
        config = ExpressionConfig(
            data=place / "data", out=place / "run", images=320, batch_size=16, report_every=160, device="cpu",
            net=NET, frame=32, canvas=48, warmup=32,
        )  # fmt: skip
        train(config)
    return place / "run"


class _Nothing:
    def detect(self, image):
        return []


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(exporting, "ROUNDS", 3)
    monkeypatch.setattr(exporting, "RUNS", 3)


@pytest.mark.parametrize(("quantize", "file"), [("fp16", "model-fp16.onnx"), ("int8", "model-int8.onnx")])
def test_a_run_is_written_with_its_card_and_costs(trained, quantize, file):
    report = export(trained, quantize=quantize)

    assert report.file == trained / file and report.bytes == (trained / file).stat().st_size
    assert 0 < report.difference < 1e-4 and report.bytes < report.bytes_float
    assert (report.n, report.changed <= 0.25) == (12, True)
    card = zoo.named(trained / file)
    assert card.name == f"run-{quantize}" and card.metrics["export"]["speedup"] == report.speedup
    assert card.convention == zoo.named(trained).convention
    crops = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    exact = ExpressionReader(zoo.named(trained)).probabilities(crops)
    np.testing.assert_allclose(ExpressionReader(card).probabilities(crops), exact, atol=0.1)


def test_the_mean_of_two_runs_is_one_file_that_is_calibrated_anew(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: _Nothing())
    train(replace(_config(trained), out=tmp_path / "second", seed=1, images=160))

    report = export(trained, tmp_path / "both.onnx", others=[tmp_path / "second"])

    face = {"image": np.random.default_rng(0).integers(0, 256, (1, 1, 24, 24)).astype(np.float32)}
    answers = [
        InferenceSession(file).run(None, face)[0]
        for file in (trained / "model.onnx", tmp_path / "second" / "model.onnx", report.file)
    ]
    np.testing.assert_allclose(answers[2], (answers[0] + answers[1]) / 2, atol=1e-4)
    card, single = zoo.named(report.file), zoo.named(trained)
    assert card.convention["temperature"] != single.convention["temperature"]
    assert {**card.convention, **{name: single.convention[name] for name in ("temperature", "uncertain_below")}} == (
        single.convention
    )
    assert 0 < report.difference < 1e-4 and card.metrics["validation"]


def test_runs_that_see_other_crops_are_not_averaged(trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    card = json.loads((other / "card.json").read_text())
    card["convention"]["template"] = "face-64"
    (other / "card.json").write_text(json.dumps(card))

    with pytest.raises(TrainingError, match=r"'.*other' cannot be averaged with '.*run'"):
        export(trained, tmp_path / "both.onnx", others=[other])


def test_accuracies_are_those_of_the_files(trained):
    report = export(trained, quantize="int8")

    labels = exporting.learned_faces(_config(trained)).labels
    for model, accuracy in ((trained / "model-int8.onnx", report.accuracy), (trained, report.accuracy_float)):
        shown = exporting.learned_faces(_config(trained)).valid
        told = ExpressionReader(zoo.named(model)).probabilities(np.repeat(shown[..., None], 3, axis=3)).argmax(axis=1)
        assert accuracy == np.mean(told == labels)
    assert report.lost == report.accuracy_float - report.accuracy


def _config(run):
    return exporting.load_config(ExpressionConfig, run / "config.json")


def test_a_file_elsewhere_works_without_the_run(trained, tmp_path):
    export(trained, tmp_path / "smile.onnx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["smile.json", "smile.onnx"]
    assert zoo.named(tmp_path / "smile.onnx").convention == zoo.named(trained).convention


def test_layers_stay_in_float_where_eight_bits_cost_too_much(trained, monkeypatch):
    monkeypatch.setattr(exporting, "SPARED", -1.0)  # nothing is good enough
    tried = []
    monkeypatch.setattr(
        exporting, "quantised", lambda model, faces, *, keep_float: tried.append(keep_float) or half_weights(model)
    )

    report = export(trained, quantize="int8")

    assert [len(kept) for kept in tried] == [0, 1, 2] and report.kept_float == ()  # equal ones: the first


def test_calibration_sees_training_faces_only(trained, monkeypatch):
    seen = []
    monkeypatch.setattr(
        exporting, "quantised", lambda model, faces, *, keep_float: seen.append(faces) or half_weights(model)
    )

    export(trained, quantize="int8")

    train = exporting.learned_faces(_config(trained)).train[:, None].astype(np.float32)
    assert all((face == train).all(axis=(1, 2, 3)).any() for face in seen[0]) and len(seen[0]) == 24


def test_what_is_no_run_is_refused(tmp_path, trained):
    with pytest.raises(TrainingError, match="is no expression network"):
        export(tmp_path)
    with pytest.raises(UsageError, match=r"ends in \.onnx, not to"):
        export(trained, tmp_path / "model.pt")
    with pytest.raises(TrainingError, match="Cannot write"):
        export(trained, tmp_path / "none" / "model.onnx")
    with pytest.raises(MienError):
        export(trained, quantize="int8", data=[tmp_path])


def test_the_command_prints_what_it_cost(trained, tmp_path):
    from click.testing import CliRunner

    result = CliRunner().invoke(command, [str(trained), "--quantize", "int8", "-o", str(tmp_path / "m.onnx")])
    assert result.exit_code == 0, result.output
    assert "a logit differs by" in result.output and "times as fast as in float32" in result.output

    record = json.loads(CliRunner().invoke(command, [str(trained), "--json"]).stdout)
    assert record["schema"] == "mien/export/1" and record["quantize"] is None and record["accuracy"] >= 0
