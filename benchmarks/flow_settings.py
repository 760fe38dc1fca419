"""How finished flows may be followed: restarts, autoguidance, grading; and a model that is given other settings.

    MIEN_DATA=... python benchmarks/flow_settings.py measure expression-gan-48 --data fer2013plus --cache crops
    python benchmarks/flow_settings.py write expression-gan-48 --restarts 2 --out DIR

`measure` draws as many faces as half of the validation split has, of each class as many, with every way below, and
compares them with that half; arms are chosen among, so that the test split is not looked at. `write` takes the flow
out of the model's file, and puts it back with other settings; weights stay as they are stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common import data_folder, machine, read_result, write_result
from comparison import Comparison
from onnx import numpy_helper

from mien import zoo
from mien.data.pictures import read_pictures
from mien.networks.flow import LatentFlow, Restarts, VelocityNet, VelocityNetConfig
from mien.networks.vae import condition_vector
from mien.training.vae.refit import write_flow
from mien.vision.generator import Generator

SEED, PART = 3, 512
FLOW = "flow/flow."
WAYS: Mapping[str, dict[str, Any]] = {
    "none": {},
    "none, no autoguidance": {"autoguidance": 1.0},
    "2 from 0.7 to 0.3": {"restarts": Restarts(2)},
    "4 from 0.7 to 0.3": {"restarts": Restarts(4)},
    "2 from 0.7 to 0.3, no autoguidance": {"restarts": Restarts(2), "autoguidance": 1.0},
    "2 from 0.9 to 0.5": {"restarts": Restarts(2, late=0.9, early=0.5)},
    "2 from 0.5 to 0.1": {"restarts": Restarts(2, late=0.5, early=0.1)},
    "2 from 0.7 to 0.3, noise 0.9": {"restarts": Restarts(2), "noise": 0.9},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measured = commands.add_parser("measure")
    measured.add_argument("model")
    measured.add_argument("--data", nargs="+", required=True, help="Data sets, by name.")
    measured.add_argument("--cache", type=Path)
    measured.add_argument("--autoguidance", type=float, help="Of a shipped model, whose card does not say it.")
    measured.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    written = commands.add_parser("write")
    written.add_argument("model")
    written.add_argument("--restarts", type=int, default=0)
    written.add_argument("--late", type=float, default=0.7)
    written.add_argument("--early", type=float, default=0.3)
    written.add_argument("--autoguidance", type=float)
    written.add_argument("--grading", type=float)
    written.add_argument("--guidance", type=float)
    written.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "write":
        write(args)
        return
    generator = Generator(args.model, threads=1)
    rows = measure(generator, args)
    before = read_result("flow_settings")
    of = {"data": args.data, "split": "valid", "autoguidance": args.autoguidance, **rows}
    known = before.get("models", {}).get(generator.card.id, {})
    of["ways"] = {**known.get("ways", {}), **of["ways"]}
    write_result("flow_settings", {"machine": machine(), "models": {**before.get("models", {}), generator.card.id: of}})


def measure(generator: Generator, args: argparse.Namespace) -> dict[str, Any]:
    convention = generator.convention
    pictures = read_pictures(
        [data_folder() / name for name in args.data], template=convention.template, side=generator.side,
        colour=not convention.grey, splits=("valid",), cache=args.cache,
    )  # fmt: skip
    if generator.labels:
        assert generator.labels == pictures.classes
        pictures = pictures.take(pictures.labels >= 0)
    order = np.random.default_rng(SEED).permutation(len(pictures))
    half = len(order) // 2
    faces, labels = pictures.take(order).rgb(), pictures.labels[order] if generator.labels else None
    asked = None if labels is None else labels[:half]
    comparison = Comparison(faces[:half], convention.template, labels=asked)
    chance = torch.Generator().manual_seed(SEED)
    noise = torch.randn(half, generator.latents, generator=chance)
    more = torch.randn(half, 8, generator.latents, generator=chance)
    rows: dict[str, Any] = {}
    for way in args.ways:
        settings = {"autoguidance": args.autoguidance, **WAYS[way]}
        scale = settings.pop("noise", 1.0)
        flow = flow_of(generator, **settings)
        restarts = scale * more[:, : flow.restarts.count] if flow.restarts.count else None
        latents = drawn(flow, noise, restarts, asked, generator)
        names = None if asked is None else [generator.labels[label] for label in asked]
        rows[way] = comparison.of(generator.decode(latents, expression=names))
        print(way, rows[way], flush=True)
    return {"faces": half, "floor": comparison.frechet(faces[half : 2 * half]), "ways": rows}


@torch.no_grad()
def drawn(
    flow: LatentFlow, noise: torch.Tensor, restarts: torch.Tensor | None, asked: np.ndarray | None, generator: Generator
) -> np.ndarray:
    """Return latents that a flow makes of noise, with the model's guidance."""
    condition = condition_vector(
        None if asked is None else torch.from_numpy(asked), len(generator.labels) if asked is not None else 0, None
    )
    guidance = None if condition is None else torch.full((len(noise),), float(generator.convention.guidance or 1.0))
    parts = []
    for start in range(0, len(noise), PART):
        rows = slice(start, start + PART)
        given = (None if one is None else one[rows] for one in (condition, guidance, restarts))
        parts.append(flow(noise[rows], *given).numpy())
    return np.concatenate(parts)


def write(args: argparse.Namespace) -> None:
    generator = Generator(args.model, threads=1)
    flow = flow_of(
        generator,
        restarts=Restarts(args.restarts, late=args.late, early=args.early),
        **{name: getattr(args, name) for name in ("autoguidance", "grading") if getattr(args, name) is not None},
    )
    guidance = generator.convention.guidance if args.guidance is None else args.guidance
    prior = dict(generator.card.metrics.get("prior", {}))
    prior |= {"flow_autoguidance": flow.autoguidance} if flow.weak is not None else {}
    prior |= {"flow_grading": flow.grading} if flow.grading is not None else {}
    args.out.mkdir(parents=True, exist_ok=True)
    written = write_flow(generator, args.out, flow, 1.0 if guidance is None else guidance, prior)
    print(f"wrote {args.out}, largest difference {written['onnx_difference']:.2g}")


def flow_of(generator: Generator, **settings: Any) -> LatentFlow:
    """Return the flow that a published file draws from, of perceptrons, with settings of `LatentFlow` that differ."""
    held = weights_of(zoo.path(generator.card))
    nets = {}
    for name in ("net", "weak"):
        mine = {key.removeprefix(f"{name}."): value for key, value in held.items() if key.startswith(f"{name}.")}
        if not mine:
            continue
        # Until attributes and expressions were one condition, time stood alone.
        mine = {f"told.{key}" if key.startswith("time.") else key: value for key, value in mine.items()}
        width, latents = mine["first.weight"].shape
        code = len(mine["told.time.2.weight"])
        if (told := held.get(f"told {code}")) is not None:
            mine["told.told.weight"] = told
        blocks = 1 + max(int(key.split(".")[1]) for key in mine if key.startswith("blocks."))
        net = VelocityNet(
            VelocityNetConfig(width=width, blocks=blocks, code=code),
            latents,
            0 if told is None else told.shape[1] - 1,
        )
        net.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in mine.items()})
        nets[name] = net.eval()
    known = generator.card.metrics.get("prior", {})
    given = {"weak": nets.get("weak"), **settings}
    if given.get("autoguidance") is None:
        if "weak" in nets and "flow_autoguidance" not in known:
            raise SystemExit(f"The card of '{generator.card.name}' does not say how far: give --autoguidance.")
        given["autoguidance"] = known.get("flow_autoguidance", 1.0)
    if nets["net"].condition == 1 + len(generator.labels):  # the last part is a grade
        given.setdefault("grading", known.get("flow_grading", 0.0))
    centre, scale = (torch.from_numpy(held[name].copy()).flatten() for name in ("centre", "scale"))
    return LatentFlow(nets["net"], centre, scale, steps=generator.convention.flow, **given)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Return a file's weights of its flow by name in full precision; what a condition becomes by its length."""
    stored_as = {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    found: dict[str, np.ndarray] = {}
    for name, values in stored_as.items():
        if not name.startswith("flow/") or name.endswith(".step"):
            continue
        full = values.astype(np.float32)
        if name.endswith(".byte"):
            full = full * stored_as[name.removesuffix("byte") + "step"].astype(np.float32)
        name = name.removesuffix(".byte").removesuffix(".half")
        if name.startswith(FLOW):
            found[name.removeprefix(FLOW)] = full
        elif "MatMul" in name and full.ndim == 2:  # without a bias: its name is lost, and it is turned over
            found[f"told {full.shape[1]}"] = full.T
    return found


if __name__ == "__main__":
    main()
