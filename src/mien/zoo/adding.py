"""Take in a user's own ONNX file: check that it fits its convention by running it, then store it with a card.

What is stored is the file with its batch axis freed and its outputs in the convention's order, so that adapters need
no special cases.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float, Float32
from onnx import ModelProto, helper
from onnx.external_data_helper import uses_external_data

from mien.errors import ModelError
from mien.types import Facts
from mien.zoo import catalogue, fetch, store
from mien.zoo.catalogue import NAME, Card, as_toml, human_size
from mien.zoo.conventions import Convention, convention
from mien.zoo.foreign.onnxfile import dequantise_blocks, model_bytes, parse_model
from mien.zoo.session import runtime_errors

__all__ = ["add"]

MAX_FILE_BYTES = 1 << 30
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_STRIDES = (8, 16, 32)
_TRIAL_SIZES = ((128, 160), (192, 128))  # Two free sizes, not square: a height taken for a width shows.


def add(
    file: str | Path,
    *,
    name: str,
    role: str,
    convention_name: str,
    licence: str = "",
    training_data: str = "",
    sha256: str | None = None,
    replace: bool = False,
) -> Card:
    """Check an ONNX file, copy it into the store and register it.

    Args:
        file: Path, or an https address, for which ``sha256`` is needed.
        name: What the model will be called.
        role: `detector`, `embedder` or `expression`.
        convention_name: One of `conventions.CONVENTIONS`.
        licence: Of the weights, in words.
        training_data: What they were trained on, in words.
        sha256: Expected digest of the file.
        replace: Let the new file take the place of an earlier one of that name.

    Returns:
        The new model's card. Its operating points are still to be measured.

    Raises:
        ModelError: The file does not fit, or the name is taken.
    """
    chosen = convention(convention_name, role)
    _check_name(name, replace)
    data, source = _obtain(file, sha256)
    fitted = _fit(data, chosen)
    entry: dict[str, object] = {
        "role": role,
        "version": "1",
        "summary": f"Added by the user: {chosen.summary}.",
        "licence": licence,
        "training_data": training_data,
        "source": source,
        "convention": {**chosen.facts, **fitted.facts},
    }
    card = catalogue.make_card(name, entry)
    with store.writing(), store.lock(card):
        store.put(card, fitted.data)
        store.write_atomically(catalogue.home() / "models.d" / f"{name}.toml", as_toml(entry).encode())
    return card


def _check_name(name: str, replace: bool) -> None:
    if not NAME.fullmatch(name):
        raise ModelError(f"A model's name has lower-case letters, digits, '.', '_', '-', at most 64; got {name!r}.")
    taken = {card.name: card for card in catalogue.cards()}
    if name in taken and taken[name].source.kind not in ("file", "url"):
        raise ModelError(f"{name} is a model of mien's own. Choose another name.")
    if name in taken and not replace:
        raise ModelError(f"There is a model {name} already. Choose another name, or give --replace.")


def _obtain(file: str | Path, sha256: str | None) -> tuple[bytes, dict[str, object]]:
    """Return a file's bytes and the entry of its source."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ModelError(f"A SHA-256 has 64 hexadecimal digits, got {len(sha256)} characters.")
    if "://" in str(file):
        if sha256 is None:
            raise ModelError("A model from an address needs --sha256, so that it is the one you mean.")
        data, source = fetch.download_url(str(file), MAX_FILE_BYTES), {"kind": "url", "url": str(file)}
    else:
        path = Path(file)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ModelError(f"{path.name} is {human_size(path.stat().st_size)}; the limit is 1 GiB.")
            data, source = path.read_bytes(), {"kind": "file", "member": path.name}
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read ({error.strerror}).") from None
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise ModelError(f"The file has SHA-256 {digest}, expected {sha256.lower()}; nothing was kept.")
    return data, {**source, "sha256": digest, "size_bytes": len(data)}


# Fitting ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A file that fits: as it is stored, and what the trial showed that the convention leaves open."""

    data: bytes
    facts: Facts


def _fit(data: bytes, chosen: Convention) -> _Fitted:
    model = _channels_first(_parsed(data), chosen)
    _check_input(model, chosen)
    match chosen.role:
        case "detector":
            return _fit_detector(model, chosen)
        case "embedder":
            return _fit_embedder(model, chosen)
        case _:
            return _fit_expression(model, chosen)


def _parsed(data: bytes) -> onnx.ModelProto:
    """Parse a file and refuse what cannot or should not be run from one file."""
    model = parse_model(data)
    if not model.graph.node or not model.graph.output:
        raise ModelError("This is not an ONNX file, or one without a network in it.")
    if any(uses_external_data(tensor) for tensor in _tensors(model.graph)):
        raise ModelError("The weights are in a second file (external data). Export the model as a single file.")
    foreign = sorted({entry.domain for entry in model.opset_import} - set(_DOMAINS))
    if foreign:
        raise ModelError(f"The model needs custom operators ({', '.join(foreign)}), which mien does not load.")
    dequantise_blocks(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                yield from _tensors(inner)


def _channels_first(model: onnx.ModelProto, chosen: Convention) -> onnx.ModelProto:
    """Put a Transpose before a network that takes (batch, height, width, channels), as exports of TensorFlow do."""
    inputs = list(model.graph.input)
    shape = _shape(inputs[0]) if len(inputs) == 1 else []
    if len(shape) != 4 or shape[3] != chosen.channels or shape[1] == chosen.channels:
        return model
    (old,) = inputs
    batch, height, width, channels = (dimension for dimension in old.type.tensor_type.shape.dim)
    new = type(old)()
    new.CopyFrom(old)
    new.name = f"{old.name}.nchw"
    del new.type.tensor_type.shape.dim[:]
    new.type.tensor_type.shape.dim.extend([batch, channels, height, width])
    turned = helper.make_node("Transpose", [new.name], [old.name], name=f"{old.name}.nhwc", perm=[0, 2, 3, 1])
    nodes = [turned, *model.graph.node]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    model.graph.input.append(new)
    return model


def _check_input(model: onnx.ModelProto, chosen: Convention) -> None:
    """Check number, type, rank, channels and fixed size of the input against the convention."""
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        raise ModelError(f"{chosen.name} has one input, the picture; this file has {len(inputs)}.")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelError(f"{chosen.name} takes float32, this file takes {kind}. Export it with a float32 input.")
    shape = _shape(inputs[0])
    channels = chosen.channels
    side = chosen.facts.get("side")
    wanted = f"(batch, {channels}, {side or 'height'}, {side or 'width'})"
    if len(shape) != 4:
        raise ModelError(f"{chosen.name} takes {wanted}, this file takes {_words(shape)}.")
    if shape[1] not in (None, channels):
        raise ModelError(f"{chosen.name} takes {wanted}, this file takes {_words(shape)}.")
    if side and any(extent not in (None, side) for extent in shape[2:]):
        raise ModelError(f"{chosen.name} takes {wanted}, this file takes {_words(shape)}.")


def _fit_embedder(model: onnx.ModelProto, chosen: Convention) -> _Fitted:
    model, facts, outputs = _batched(model, chosen)
    if any(_is_column(output) for output in outputs):
        model = _flattened(model, outputs)
        outputs = [output.reshape(len(output), -1) if _is_column(output) else output for output in outputs]
    flat = [index for index, output in enumerate(outputs) if output.ndim == 2 and output.shape[1] >= 32]
    if not flat:
        found = ", ".join(_words(output.shape) for output in outputs)
        raise ModelError(f"An embedder answers (batch, dimension) with a dimension of at least 32; this gives {found}.")
    vectors = outputs[flat[0]]
    if np.allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-6):
        raise ModelError("The file gives the same embedding for different pictures: the export is broken.")
    # Some files add a norm or a map beside the embedding.
    return _Fitted(_with_outputs(model, [flat[0]]), {**facts, "dimension": int(vectors.shape[1])})


def _is_column(output: np.ndarray) -> bool:
    """Whether an output is (batch, dimension, 1, 1), as MobileFaceNet's last convolution gives it."""
    return output.ndim == 4 and output.shape[2:] == (1, 1)


def _flattened(model: onnx.ModelProto, outputs: Sequence[np.ndarray]) -> onnx.ModelProto:
    """Return a copy that answers (batch, dimension) where it answered (batch, dimension, 1, 1)."""
    flat = ModelProto()
    flat.CopyFrom(model)
    for value, output in zip(flat.graph.output, outputs, strict=True):
        if _is_column(output):
            flat.graph.node.append(helper.make_node("Flatten", [value.name], [f"{value.name}.flat"], axis=1))
            value.name = f"{value.name}.flat"
            value.type.tensor_type.ClearField("shape")
    return flat


def _fit_expression(model: onnx.ModelProto, chosen: Convention) -> _Fitted:
    labels = chosen.facts["labels"]
    model, facts, outputs = _batched(model, chosen)
    # A multi-task network adds valence and arousal to the classes.
    widths = {len(labels): list(labels), len(labels) + 2: [*labels, "valence", "arousal"]}
    if outputs[0].ndim != 2 or outputs[0].shape[1] not in widths:
        raise ModelError(
            f"{chosen.name} answers (batch, {len(labels)}), or 2 more with valence and arousal; this gives "
            f"{_words(outputs[0].shape)}."
        )
    answer = outputs[0][:, : len(labels)]
    sums_to_one = bool((answer >= 0).all()) and np.allclose(answer.sum(axis=1), 1, atol=1e-3)
    kind = "probabilities" if sums_to_one else "logits"
    return _Fitted(_with_outputs(model, [0]), {**facts, "labels": widths[outputs[0].shape[1]], "answers": kind})


def _batched(model: onnx.ModelProto, chosen: Convention) -> tuple[onnx.ModelProto, dict[str, object], list[np.ndarray]]:
    """Free the batch axis if the network stands it; return model, facts, and outputs for two different pictures."""
    side = int(chosen.facts["side"])
    pixels = np.random.default_rng(0).uniform(0, 255, (2, chosen.channels, side, side))
    pixels[1] *= np.linspace(0, 1, side)  # Two kinds of noise: pictures that a working network tells apart.
    pictures = _fed(pixels, chosen)
    alone = [_run(model, picture[None]) for picture in pictures]
    single = [np.concatenate(pair) if pair[0].ndim else np.stack(pair) for pair in zip(*alone, strict=True)]
    free = model if _shape(model.graph.input[0])[0] is None else _freed(model, (0,))
    try:
        together = _run(free, pictures)
    except ModelError:
        return model, {"batch": 1}, single
    for one, two in zip(single, together, strict=True):
        if one.shape != two.shape or not np.allclose(
            one, two, rtol=1e-2, atol=1e-2 * max(float(np.abs(one).max()), 1e-6)
        ):
            return model, {"batch": 1}, single
    return free, {}, together


def _fit_detector(model: onnx.ModelProto, chosen: Convention) -> _Fitted:
    model = _reordered(model, chosen.name)
    height, width = _shape(model.graph.input[0])[2:]
    try:
        free = _freed(model, (0, 2, 3))
        for size in _TRIAL_SIZES:
            _check_detection(_run(free, _noise(size, chosen)), size, chosen.name)
        return _Fitted(model_bytes(free), {})
    except ModelError:
        if height is None or width is None:
            raise
    # Made for one size. Adapters know square ones.
    if height != width or height % 32:
        raise ModelError(
            f"The file takes {width} x {height} px only; expected any size, or a square of a multiple of 32."
        )
    model = _freed(model, (0,))
    _check_detection(_run(model, _noise((height, width), chosen)), (height, width), chosen.name)
    return _Fitted(model_bytes(model), {"side": height})


def _noise(size: tuple[int, int], chosen: Convention) -> Float32[np.ndarray, "1 3 height width"]:
    return _fed(np.random.default_rng(0).uniform(0, 255, (1, chosen.channels, *size)), chosen)


def _fed(
    pixels: Float[np.ndarray, "batch channels height width"], chosen: Convention
) -> Float32[np.ndarray, "b c h w"]:
    mean, scale = (np.reshape(chosen.facts[key], (-1, 1, 1)) for key in ("mean", "scale"))
    return np.asarray((pixels - mean) * scale, dtype=np.float32)


def _reordered(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Put the outputs into the order that the decoder expects: by name for YuNet, by shape for the others."""
    names = [value.name for value in model.graph.output]
    count = {"centerface": 4, "retinaface": 3, "scrfd": 9, "yunet": 12}[kind]
    if len(names) != count:
        # Without landmarks no face can be aligned; such files are common.
        lacking = " It finds no landmarks; export one that does." if (kind, len(names)) == ("scrfd", 6) else ""
        raise ModelError(f"{kind} has {count} outputs, this file has {len(names)}: {', '.join(names[:12])}.{lacking}")
    if kind == "yunet":
        wanted = [f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in _STRIDES]
        if set(names) != set(wanted):
            raise ModelError(f"yunet has outputs {', '.join(wanted)}; this file has {', '.join(names)}.")
        return _parsed(_with_outputs(model, [names.index(name) for name in wanted]))
    if kind in ("scrfd", "retinaface"):
        size = tuple(extent or 640 for extent in _shape(model.graph.input[0])[2:])
        shapes = [output.shape for output in _run(model, np.zeros((1, 3, *size), np.float32))]
        # Scores, boxes, landmarks have 1, 4, 10 columns (RetinaFace: 2, after boxes); finer strides have more rows.
        columns = (1, 4, 10) if kind == "scrfd" else (4, 2, 10)
        if strange := {shape[-1] for shape in shapes} - set(columns):
            raise ModelError(f"{kind} has outputs of {_words(columns)} columns; this file has one of {min(strange)}.")
        order = sorted(
            range(count), key=lambda index: (columns.index(shapes[index][-1]), -int(np.prod(shapes[index][:-1])))
        )
        return _parsed(_with_outputs(model, order))
    return model


def _check_detection(outputs: Sequence[np.ndarray], size: tuple[int, int], kind: str) -> None:
    """Compare shapes with what the strides make of the size, and see that scores are probabilities."""
    height, width = size
    expected: list[tuple[int, ...]]
    if kind == "centerface":
        expected = [(1, channels, height // 4, width // 4) for channels in (1, 2, 2, 10)]
        found = [output.shape for output in outputs]
        scores = outputs[:1]
    elif kind == "retinaface":
        rows = sum(height // s * (width // s) * 2 for s in _STRIDES)
        expected = [(rows, column) for column in (4, 2, 10)]
        found = [output.shape[1:] for output in outputs]
        scores = outputs[1:2]
    else:
        anchors, columns = (2, (1, 4, 10)) if kind == "scrfd" else (1, (1, 1, 4, 10))
        expected = [(height // s * (width // s) * anchors, column) for column in columns for s in _STRIDES]
        found = [output.shape[1:] if output.ndim == 3 else output.shape for output in outputs]
        scores = outputs[: 3 * columns.count(1)]
    if found != expected:
        raise ModelError(
            f"{kind} at {width} x {height} px answers {', '.join(map(_words, expected))}; this file answers "
            f"{', '.join(map(_words, found))}."
        )
    if any(float(score.min()) < 0 or float(score.max()) > 1 for score in scores):
        raise ModelError(
            f"The scores of {kind} lie in [0, 1]; this file gives others. Export it with its last sigmoid or softmax."
        )


# ONNX ---------------------------------------------------------------------------------------------------------------


def _run(model: onnx.ModelProto, picture: Float32[np.ndarray, "batch channels height width"]) -> list[np.ndarray]:
    """Run a model once on the CPU; its answers must be finite."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What goes wrong is said in our one line.
    options.intra_op_num_threads = min(os.cpu_count() or 1, 2)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
        outputs = session.run(None, {session.get_inputs()[0].name: picture})
    except runtime_errors() as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot run the file: {reason}") from None
    if not all(isinstance(output, np.ndarray) and np.isfinite(output).all() for output in outputs):
        raise ModelError("The file answers a random picture with values that are not finite numbers.")
    return list(outputs)


def _freed(model: onnx.ModelProto, axes: tuple[int, ...]) -> onnx.ModelProto:
    """Return a copy whose given input axes are free and whose outputs promise no shape."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for axis in axes:
        dimension = free.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.Clear()
        dimension.dim_param = ("batch", "channels", "height", "width")[axis]
    for value in free.graph.output:
        value.type.tensor_type.ClearField("shape")
    del free.graph.value_info[:]
    return free


def _with_outputs(model: onnx.ModelProto, order: Sequence[int]) -> bytes:
    """Return the file with only these outputs, in this order."""
    outputs = [model.graph.output[index] for index in order]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model_bytes(model)


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return the shape with None for a free axis; exporters write those as a name, as 0 or as -1."""
    return [dimension.dim_value if dimension.dim_value > 0 else None for dimension in value.type.tensor_type.shape.dim]


def _words(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("free" if extent is None else str(extent) for extent in shape) + ")"
