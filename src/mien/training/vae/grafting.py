"""A flow and a mapper put into the graph of a generator, beside its mixture: still one file."""

from __future__ import annotations

from collections.abc import Collection, MutableSequence, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from mien import zoo
from mien.errors import ModelError
from mien.networks.flow import LatentFlow
from mien.networks.mapper import LatentMapper
from mien.networks.tracing import onnx_bytes
from mien.networks.vae import condition_vector
from mien.training.publishing import check_parity
from mien.training.vae.config import VAEConfig
from mien.zoo.session import make_session, session_options

__all__ = [
    "DonorFlow",
    "PublishedFlow",
    "flow_convention",
    "flow_donor",
    "flow_network",
    "graft",
    "has_flow",
    "inherit",
    "transplant",
    "with_flow",
    "with_mapper",
]

_PARITY = 0.01  # standard deviations of a latent that pass as rounding between PyTorch and ONNX

_PREFIX = "flow/"  # of every name that a flow brings into a graph
_DRAWN, _MIXTURE, _LATENTS = f"{_PREFIX}drawn", f"{_PREFIX}mixture", "latents"
_MAPPER, _EDITED = "mapper/", "edited"  # prefix of every name that a mapper brings, and what it answers
_SWITCH, _NONE, _AXIS = (f"{_PREFIX}switch", f"{_PREFIX}switches"), f"{_PREFIX}none", f"{_PREFIX}axis"


class PublishedFlow(nn.Module):
    """What is published of a flow: noise, and what a face shall show, to latents."""

    def __init__(self, flow: LatentFlow, classes: int, attributes: int) -> None:
        super().__init__()
        self.flow, self.classes, self.attributes = flow, classes, attributes

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it takes, in order."""
        drawn = ("noise", "restarts") if self.flow.restarts.count else ("noise",)
        told = (*(("label",) if self.classes else ()), *(("attributes",) if self.attributes else ()))
        return (*drawn, *told, "guidance") if self.flow.net.condition else drawn

    def forward(self, *given: Tensor) -> Tensor:
        """Return latents of what it takes, in the order of `inputs`."""
        named = dict(zip(self.inputs, given, strict=True))
        condition = condition_vector(named.get("label"), self.classes, named.get("attributes"))
        latents: Tensor = self.flow(given[0], condition, named.get("guidance"), named.get("restarts"))
        return latents

    def examples(self, count: int = 4) -> dict[str, Tensor]:
        """Return some of each input, by name."""
        chance = torch.Generator().manual_seed(0)
        given = {"noise": torch.randn(count, self.flow.net.latents, generator=chance)}
        if self.flow.restarts.count:
            shape = (count, self.flow.restarts.count, self.flow.net.latents)
            given["restarts"] = torch.randn(shape, generator=chance)
        if self.classes:
            given["label"] = torch.arange(count) % self.classes
        if self.attributes:
            given["attributes"] = (torch.rand(count, self.attributes, generator=chance) < 0.5).float()
        if "guidance" in self.inputs:
            given["guidance"] = torch.linspace(0.5, 2.0, count)
        return given


def flow_network(flow: PublishedFlow) -> bytes:
    """Return a flow as an ONNX file of its own."""
    return onnx_bytes(flow, *flow.examples().values(), inputs=list(flow.inputs), outputs=["drawn"])


def flow_convention(flow: LatentFlow, guidance: float) -> dict[str, Any]:
    """Return what a card says of a generator's flow."""
    restarts = {"restarts": flow.restarts.count} if flow.restarts.count else {}
    return {"flow": flow.steps, **restarts, **({"guidance": guidance} if flow.net.condition else {})}


def with_flow(generator: bytes, flow: PublishedFlow) -> tuple[bytes, float]:
    """Return a generator's network that draws from a flow, and the largest difference of a latent from PyTorch.

    Raises:
        ModelError: The generator has no place for it.
        TrainingError: The written flow answers otherwise than the fitted one.
    """
    flow = flow.eval()
    stem = flow_network(flow)
    difference = check_parity(flow, stem, flow.examples(), tolerance=_PARITY, unit="standard deviations of a latent")
    return graft(generator, stem), difference


def graft(generator: bytes, flow: bytes) -> bytes:
    """Return a generator's network that draws from a flow where the component is below 0; from 0 on it is as it was.

    Args:
        generator: ONNX file with the input `component` and the output `latents`; its own flow, if any, is replaced.
        flow: ONNX file of `flow_network`.

    Raises:
        ModelError: The generator has no prior that a flow could stand beside.
    """
    stem = onnx.load_from_string(flow).graph
    _mark(stem, _PREFIX, {item.name for item in stem.input})  # what it is fed is what the generator is fed
    return _joined(generator, stem.node, stem.initializer, stem.input)


def transplant(donor: bytes, generator: bytes, *, mapper: bool = True) -> bytes:
    """Return a generator's network with flow and mapper of another one of the same latents, as far as it has them."""
    graph = onnx.load_from_string(donor).graph
    switch = {*_SWITCH, _LATENTS}
    nodes = [node for node in graph.node if _is_of_flow(node) and not switch & set(node.output)]
    if nodes:
        weights = [
            item for item in graph.initializer if item.name.startswith(_PREFIX) and item.name not in (_NONE, _AXIS)
        ]
        wanted = {name for node in nodes for name in node.input}
        generator = _joined(generator, nodes, weights, [item for item in graph.input if item.name in wanted])
    mapped = mapper and any(_is_of_mapper(node) for node in graph.node)
    return _with_mapper_of(graph, generator) if mapped else generator


def has_flow(model: Path) -> bool:
    """Return whether this is a model, of a finished run or of the catalogue, that draws from a flow."""
    try:
        return bool(zoo.named(model).convention.get("flow"))
    except ModelError:  # weights to train on, or an unfinished run
        return False


def flow_donor(config: VAEConfig) -> Path | None:
    """Return the VAE whose encoder a training keeps, where it has a flow, which comes along; None where not."""
    return config.init if config.keep_encoder and config.init is not None and has_flow(config.init) else None


class DonorFlow:
    """Draws latents from the flow of a VAE that has one, told what the decoder is told.

    Args:
        model: A run folder, or a name.
        classes: Labels that it takes, the first part of a condition; attributes are the rest.
    """

    def __init__(self, model: Path, classes: int) -> None:
        card = zoo.named(model)
        self.classes, self.guidance = classes, card.convention.get("guidance", 1.0)
        self.session = make_session(zoo.path(card), options=session_options(threads=1))
        self.inputs = {item.name for item in self.session.get_inputs()}
        self.restarts = card.convention.get("restarts", 0)

    def __call__(self, noise: Tensor, condition: Tensor | None) -> Tensor:
        """Return latents, shape (batch, latents), on the device of the noise."""
        fed = {
            "noise": noise.float().cpu().numpy(),
            "component": np.full(len(noise), -1),
            "guidance": np.full(len(noise), self.guidance, np.float32),
        }
        if self.restarts:
            more = torch.randn(len(noise), self.restarts, noise.shape[1])
            fed["restarts"] = more.numpy()
        if "label" in self.inputs:  # a mapper's, where the decoder takes none
            fed["label"] = np.zeros(len(noise), np.int64)
        if condition is not None:
            told = condition.float().cpu().numpy()
            fed["attributes"] = told[:, self.classes :]
            if self.classes:
                fed["label"] = told[:, : self.classes].argmax(axis=1)
        (latents,) = self.session.run(["latents"], {name: fed[name] for name in self.inputs})
        return torch.from_numpy(latents).to(noise.device)


def inherit(init: Path, network: bytes, labels: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
    """Return a generator's network with flow and mapper of the VAE whose latents it draws, and what its card says then.

    Where that has neither, nothing changes. A mapper to other expressions than the decoder is told stays behind.

    Args:
        init: The VAE: a run folder, or a name.
        network: The generator's ONNX file.
        labels: What its decoder is told; none where it is not.
    """
    card = zoo.named(init)
    mapped = bool(card.convention.get("edits")) and (not labels or [*labels] == [*card.convention["edits"]])
    names = ("flow", "restarts", "guidance", *(("edits", "edit_losses") if mapped else ()))
    facts = {key: card.convention[key] for key in names if key in card.convention}
    if facts.get("flow") or mapped:
        network = transplant(zoo.path(card).read_bytes(), network, mapper=mapped)
    return network, facts


def with_mapper(generator: bytes, mapper: LatentMapper) -> tuple[bytes, float]:
    """Return a generator's network that also answers edited latents, and the largest difference of one from PyTorch.

    The expression that is wanted is the input `label`, which comes with it where the decoder takes none. A mapper that
    the network has is replaced.

    Raises:
        ModelError: The network answers no latents.
        TrainingError: The written mapper answers otherwise than the trained one.
    """
    chance = torch.Generator().manual_seed(0)
    examples = {
        _LATENTS: mapper.mean + mapper.deviation * torch.randn(4, len(mapper.mean), generator=chance),
        "label": torch.arange(4) % mapper.expressions,
    }
    network = onnx_bytes(mapper, *examples.values(), inputs=list(examples), outputs=[_EDITED])
    difference = check_parity(mapper, network, examples, tolerance=_PARITY, unit="standard deviations of a latent")
    stem = onnx.load_from_string(network).graph
    _mark(stem, _MAPPER, {_LATENTS, "label", _EDITED})
    return _with_mapper_of(stem, generator), difference


def _with_mapper_of(donor: onnx.GraphProto, generator: bytes) -> bytes:
    """Return a generator's network with the mapper of another one, in place of its own."""
    model = onnx.load_from_string(generator)
    graph = model.graph
    if not any(_LATENTS in node.output for node in graph.node):
        raise ModelError("This generator answers no latents. Expected a VAE, or a GAN that began as one (--init).")
    for whole, theirs in (
        (graph.node, donor.node),
        (graph.initializer, donor.initializer),
        (graph.output, donor.output),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in whole if not _is_of_mapper(item)]
        del whole[:]
        whole.extend([*kept, *(item for item in theirs if _is_of_mapper(item))])
    known = {item.name for item in graph.input}
    graph.input.extend(item for item in donor.input if item.name == "label" and "label" not in known)
    return bytes(model.SerializeToString())


def _is_of_mapper(item: onnx.NodeProto | onnx.TensorProto | onnx.ValueInfoProto) -> bool:
    names = item.output if isinstance(item, onnx.NodeProto) else [item.name]
    return any(name == _EDITED or name.startswith(_MAPPER) for name in names)


def _mark(graph: onnx.GraphProto, prefix: str, connected: Collection[str]) -> None:
    """Put a prefix before every name of a graph but those that connect it with another one."""
    for node in graph.node:
        node.name = f"{prefix}{node.name}"
        for names in (node.input, node.output):
            names[:] = [name if name in connected or not name else f"{prefix}{name}" for name in names]
    for weight in graph.initializer:
        weight.name = f"{prefix}{weight.name}"


def _joined(
    generator: bytes,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    inputs: Sequence[onnx.ValueInfoProto],
) -> bytes:
    model = onnx.load_from_string(generator)
    graph = model.graph
    _strip(graph)
    known = {item.name for item in graph.input}
    own = list(graph.node)
    place = next((number for number, node in enumerate(own) if _LATENTS in node.output), None)
    if place is None or "component" not in known:
        raise ModelError(
            "This generator draws from no fitted prior, so that a flow has no place in it. Expected a VAE, or a GAN "
            "that began as one (--init)."
        )
    _rename(own[place].output, _LATENTS, _MIXTURE)
    switch = [
        helper.make_node("Less", ["component", _NONE], [_SWITCH[0]]),
        helper.make_node("Unsqueeze", [_SWITCH[0], _AXIS], [_SWITCH[1]]),
        helper.make_node("Where", [_SWITCH[1], _DRAWN, _MIXTURE], [_LATENTS]),
    ]
    every = [*nodes, *own[: place + 1], *switch, *own[place + 1 :]]
    del graph.node[:]
    graph.node.extend(every)
    graph.initializer.extend(weights)
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), _NONE))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _AXIS))
    graph.input.extend(item for item in inputs if item.name not in known)
    return bytes(model.SerializeToString())


def _strip(graph: onnx.GraphProto) -> None:
    """Take a flow out of a graph, with what it alone was fed."""
    kept = [node for node in graph.node if not _is_of_flow(node)]
    if len(kept) == len(graph.node):
        return
    for node in kept:
        _rename(node.output, _MIXTURE, _LATENTS)
    used = {name for node in kept for name in node.input}
    weights = [item for item in graph.initializer if not item.name.startswith(_PREFIX)]
    inputs = [item for item in graph.input if item.name in used]
    for whole, part in ((graph.node, kept), (graph.initializer, weights), (graph.input, inputs)):
        copies = [type(item).FromString(item.SerializeToString()) for item in part]
        del whole[:]
        whole.extend(copies)


def _is_of_flow(node: onnx.NodeProto) -> bool:
    return any(name.startswith(_PREFIX) and name != _MIXTURE for name in node.output) or _DRAWN in node.input


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    names[:] = [new if name == old else name for name in names]
