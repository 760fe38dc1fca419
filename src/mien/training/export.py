"""A finished expression run as a file for other machines: ONNX, in half precision, or quantised to 8 bits.

What each costs is measured on the spot: how far the answers are from PyTorch's, how much accuracy goes, and how much
faster one thread is.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float32, Int, UInt8
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from mien import zoo
from mien.data.crops import rgb_faces
from mien.errors import TrainingError, UsageError
from mien.images import printable, write_whole
from mien.networks import AveragedNets
from mien.networks.tracing import onnx_bytes
from mien.training.config import load_config
from mien.training.expression import ExpressionConfig, Net, calibrated, learned_faces, load_expression_net, predict
from mien.training.storage import half_weights
from mien.training.vae import load_vae
from mien.training.weights import DESCRIPTION, EXPRESSION, UNREADABLE, VAE, write_network
from mien.vision.expression import ExpressionReader
from mien.zoo.session import session_options

__all__ = ["ExportReport", "export", "quantised", "save_weights"]

INPUT = "image"
_CALIBRATION = 512  # training faces that show how far activations reach
SPARED = 0.002
"""Accuracy that 8 bits may cost before parts of the network are kept in float."""
ROUNDS, RUNS = 15, 20
"""How speed is measured: so many rounds, networks in turn, of so many runs each."""

Faces = Float32[np.ndarray, "faces channel side side"]
Quantize = Literal["fp16", "int8"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and what it costs.

    Attributes:
        file: The network; its card is beside it.
        quantize: fp16, int8, or None.
        difference: Largest difference of a logit between PyTorch and the ONNX file in float32, on validation faces.
        bytes: Size of the file.
        bytes_float: Size in float32.
        n: Validation faces behind the two accuracies.
        accuracy: On them, of the file written.
        accuracy_float: On them, of the network in float32.
        changed: Share of them whose most probable class is another one.
        ms: One face, one thread, in this file.
        ms_float: The same in float32.
        kept_float: Layers that were not quantised, because accuracy fell too far with them.
    """

    file: Path
    quantize: Quantize | None
    difference: float
    bytes: int
    bytes_float: int
    n: int
    accuracy: float
    accuracy_float: float
    changed: float
    ms: float
    ms_float: float
    kept_float: tuple[str, ...] = ()

    @property
    def lost(self) -> float:
        """Accuracy lost against float32; below 0 where it rose."""
        return self.accuracy_float - self.accuracy

    @property
    def speedup(self) -> float:
        """How many times as fast as float32."""
        return self.ms_float / self.ms


def save_weights(run: Path, out: Path, *, precision: Quantize | None = None) -> int:
    """Write a run's network as one file that training can go on from (`init`), and return its size in bytes.

    Args:
        run: Folder of a finished training of an expression network or a VAE.
        out: The file, `.safetensors`.
        precision: fp16 or int8: how weights are stored.

    Raises:
        TrainingError: The run is another or not finished, or the file cannot be written.
    """
    model: torch.nn.Module
    try:
        facts = (run / DESCRIPTION).read_text(encoding="utf-8")
        is_vae = json.loads(facts).get("story") == "vae"
    except UNREADABLE as error:
        raise TrainingError(
            f"'{printable(run)}' is no run of an expression network or a VAE ({error}). Expected a folder of "
            f"`mien train`."
        ) from error
    if is_vae:
        model, kind = load_vae(run)[0], VAE
    else:
        model, kind = load_expression_net(run)[0], EXPRESSION
    return write_network(model, facts, out, kind=kind, precision=precision)


def export(
    run: Path,
    out: Path | None = None,
    *,
    others: Sequence[Path] = (),
    quantize: Quantize | None = None,
    data: Sequence[Path] = (),
) -> ExportReport:
    """Write the network of a run as ONNX, with a card that says what it is fed.

    Args:
        run: Folder of a finished expression training.
        out: The file, `.onnx`; default in the run folder: `model.onnx`, `model-fp16.onnx`, `model-int8.onnx`, with
            others `mean.onnx`, `mean-fp16.onnx`, ...
        others: More runs with the same heads and crops, such as of other seeds: logits are averaged over all of them,
            in one file, and calibrated anew.
        quantize: `fp16` stores weights in half precision and calculates in float32; `int8` does both in 8 bits, with
            scales from training faces.
        data: Where the data of the training are now; default where they were.

    Raises:
        MienError: The run is not finished, its data are gone, or the file cannot be written.
    """
    name = "mean" if others else "model"
    out = out or run / (f"{name}-{quantize}.onnx" if quantize else f"{name}.onnx")
    if out.suffix != ".onnx":
        raise UsageError(f"A network is written to a file that ends in .onnx, not to '{printable(out)}'.")
    single, heads = load_expression_net(run)
    card = zoo.named(run)
    config = load_config(ExpressionConfig, run / "config.json")
    faces = learned_faces(replace(config, out=run, data=tuple(data) or config.data))
    side, channels = config.net.side, config.net.channels
    model: Net | AveragedNets = single
    calibration: dict[str, dict[str, Any]] = {}
    if others:
        model = AveragedNets([single, *(_alike(other, run) for other in others)]).eval()
        answers = predict(model, faces.valid, flip=config.average_mirrored)
        calibration = {
            head: calibrated(
                logits, faces.by_head[head], heads[head], sure_accuracy=None if place else config.sure_accuracy
            )
            for place, (head, logits) in enumerate(answers.items())
        }
        card = replace(card, convention=_recalibrated(card.convention, calibration))
    plain = onnx_bytes(model, torch.zeros(2, channels, side, side), outputs=list(heads))
    difference = _difference(predict(model, faces.valid[:64], flip=False), plain, faces.valid[:64])

    with tempfile.TemporaryDirectory() as folder:
        judge = _Judge(Path(folder), card, faces.valid, faces.labels)
        float_answers = judge.answers(plain)
        data_out, told, kept = plain, float_answers, tuple[str, ...]()
        if quantize == "fp16":
            data_out = half_weights(onnx.load_from_string(plain)).SerializeToString()
            told = judge.answers(data_out)
        elif quantize == "int8":
            some = faces.train[:: max(len(faces.train) // _CALIBRATION, 1)][:_CALIBRATION]
            data_out, told, kept = _least_harm(onnx.load_from_string(plain), _fed(some), judge, float_answers)
        ms, ms_float = judge.times(data_out, plain)
    report = ExportReport(
        file=out,
        quantize=quantize,
        difference=difference,
        bytes=len(data_out),
        bytes_float=len(plain),
        n=len(faces.labels),
        accuracy=judge.accuracy(told),
        accuracy_float=judge.accuracy(float_answers),
        changed=float((told != float_answers).mean()),
        ms=ms,
        ms_float=ms_float,
        kept_float=kept,
    )
    _write(out, data_out, run, report, calibration)
    return report


def _alike(other: Path, run: Path) -> Net:
    """Return the network of a run that is to be averaged with another one.

    Raises:
        TrainingError: It sees other crops or answers otherwise.
    """
    model, heads = load_expression_net(other)
    first_heads = load_expression_net(run)[1]
    here, there = zoo.named(other).convention, zoo.named(run).convention
    facts = ("template", "side", "order", "flip", "shares")
    if heads != first_heads or any(here.get(fact) != there.get(fact) for fact in facts):
        raise TrainingError(
            f"'{printable(other)}' cannot be averaged with '{printable(run)}': heads, classes and their shares, side, "
            f"colour and template must be alike."
        )
    return model


def _recalibrated(convention: Mapping[str, Any], calibration: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a convention with the temperatures, and the uncertainty, of another calibration."""
    return {
        **convention,
        "temperature": {head: figures["temperature"] for head, figures in calibration.items()},
        "uncertain_below": next(iter(calibration.values()))["uncertain_below"],
    }


def _difference(
    expected: Mapping[str, Float32[np.ndarray, "faces classes"]],
    data: bytes,
    faces: UInt8[np.ndarray, "faces side side *colour"],
) -> float:
    """Return the largest difference of a logit between PyTorch and ONNX Runtime."""
    answers = _session(data).run(list(expected), {INPUT: _fed(faces)})
    return max(float(np.abs(a - b).max()) for a, b in zip(answers, expected.values(), strict=True))


def _session(data: bytes) -> onnxruntime.InferenceSession:
    """Open a network for one thread of the CPU."""
    return onnxruntime.InferenceSession(data, session_options(threads=1), providers=["CPUExecutionProvider"])


class _Judge:
    """Asks a network in a file what it sees in validation faces, as run time does."""

    def __init__(
        self,
        folder: Path,
        card: zoo.Card,
        faces: UInt8[np.ndarray, "faces side side *colour"],
        labels: Int[np.ndarray, " faces"],
    ) -> None:
        self.card, self.file, self.labels = card, folder / "model.onnx", labels
        self.faces = rgb_faces(faces)

    def answers(self, data: bytes) -> Int[np.ndarray, " faces"]:
        self.file.write_bytes(data)
        source = replace(self.card.source, member=str(self.file))
        reader = ExpressionReader(replace(self.card, source=source))
        return np.asarray(reader.probabilities(self.faces).argmax(axis=1))

    def accuracy(self, answers: Int[np.ndarray, " faces"]) -> float:
        return float((answers == self.labels).mean())

    def times(self, *networks: bytes) -> list[float]:
        """Return ms a face of each network: one thread, taking turns, so that other work slows all alike."""
        face = {INPUT: _fed(self.faces[:1])[:, : 1 if self.card.convention.get("order") == "GRAY" else 3]}
        sessions = [_session(data) for data in networks]
        rounds = np.empty((ROUNDS, len(sessions)))
        for number in range(ROUNDS):
            for which, session in enumerate(sessions):
                start = time.perf_counter()
                for _ in range(RUNS):
                    session.run(None, face)
                rounds[number, which] = time.perf_counter() - start
        return [float(value) for value in np.median(rounds[1:], axis=0) / RUNS * 1e3]


def _least_harm(
    model: onnx.ModelProto, faces: Faces, judge: _Judge, exact: Int[np.ndarray, " faces"]
) -> tuple[bytes, Int[np.ndarray, " faces"], tuple[str, ...]]:
    """Quantise all layers; where that costs too much, keep the first, then the last ones, too, in float."""
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    last = tuple(node.name for node in model.graph.node if node.op_type == "Gemm")
    tried: list[tuple[float, bytes, Int[np.ndarray, " faces"], tuple[str, ...]]] = []
    for kept in ((), (first,), (first, *last)):
        data = quantised(model, faces, keep_float=kept).SerializeToString()
        answers = judge.answers(data)
        tried.append((judge.accuracy(exact) - judge.accuracy(answers), data, answers, kept))
        if tried[-1][0] <= SPARED:
            break
    _, data, answers, kept = min(tried, key=lambda attempt: attempt[0])
    return data, answers, kept


def _fed(faces: UInt8[np.ndarray, "faces side side *colour"]) -> Faces:
    """Return faces as the network takes them: mean and scale are part of it."""
    x = faces[:, None] if faces.ndim == 3 else faces.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x, dtype=np.float32)


def quantised(model: onnx.ModelProto, faces: Faces, *, keep_float: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Return a model with weights and activations in 8 bits, scales fixed beforehand (static, a scale a channel).

    Args:
        model: In float32.
        faces: What the network is fed, to see how far activations reach: a few hundred training faces, never any that
            it is measured on.
        keep_float: Names of nodes that stay as they are.

    Source: ONNX Runtime's guide to quantisation; unsigned activations with signed weights are what its CPU kernels
    multiply fastest.
    """

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(np.array_split(faces, max(len(faces) // 32, 1)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, done = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "done.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            done,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Seven bits: without VNNI instructions (AVX2) sums of full 8-bit products saturate, and answers drift.
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=list(keep_float),
        )
        return onnx.load(done)


def _write(
    out: Path, data: bytes, run: Path, report: ExportReport, calibration: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write network and card; the card of the run's own `model.onnx` stays as training wrote it."""
    try:
        write_whole(out, data)
        if out.resolve() == (run / "model.onnx").resolve():
            return
        card = json.loads((run / "card.json").read_text(encoding="utf-8"))
        measured = {key: value for key, value in asdict(report).items() if key != "file"}
        card["name"] = str(card.get("name") or run.resolve().name) + (f"-{report.quantize}" if report.quantize else "")
        if calibration:
            card["convention"] = _recalibrated(card["convention"], calibration)
            card["metrics"] = {"validation": dict(calibration)}
        card["metrics"] = {**card.get("metrics", {}), "export": {**measured, "speedup": report.speedup}}
        write_whole(out.with_suffix(".json"), json.dumps(card, indent=1).encode())
    except OSError as error:
        raise TrainingError(f"Cannot write '{printable(out)}': {error.strerror or error}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's advice to developers off the user's terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
