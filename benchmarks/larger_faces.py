"""What latents that keep their place bring: faces encoded and drawn again, how the runs of a model went, and critics.

    MIEN_DATA=... python benchmarks/larger_faces.py --cache crops [--runs STEP=RUN ...] [--samples NAME=RUN ...]

Reconstructions are of held-out faces of celeba_identities (test split), each model's at its own side: error and
sharpness there, cosine to the photograph at that side and matches (FMR 1e-2 of the embedder's card) by two embedders
that stood in no loss. `--runs` notes settings and last figures of trainings. `--samples` draws from finished models and
compares with half of the same held-out faces; the other half is the floor. `--critics` shows photographs and what a run
makes of them to three critics, for as many steps each: how soon each tells them apart, and what it costs. `--sides`
says how many px the aligned faces of each data set have before they are cut. `--enlarged` compares what a smaller model
draws, enlarged to 128 px and restored there, or one of that side as it is, with photographs of the one data set that
has them. What was measured before stands.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import data_folder, machine, read_result, write_result
from comparison import Comparison

from mien import zoo
from mien.alignment import TEMPLATES, similarity_transform
from mien.data.pictures import read_pictures
from mien.evaluation.spaces import recut
from mien.images import find_images, load_image
from mien.matching import operating_point
from mien.metrics.generation import sharpness
from mien.metrics.intervals import wilson
from mien.vision.embedder import Embedder
from mien.vision.finding import find_face, patient_detector
from mien.vision.generator import Generator
from mien.vision.restorer import Restorer

MODELS = ("face-vae-64", "face-gan-64")
EMBEDDERS = ("sface", "dlib-resnet29")
DATA, FACES, FMR = "celeba_identities", 500, 1e-2
KEPT = (
    "images",
    "batch_size",
    "perceptual",
    "adversarial",
    "discriminator_gamma",
    "adversarial_ramp",
    "keep_encoder",
    "init",
    "learning_rate",
    "seed",
)
WAY = ("images", "loss_critic", "valid_psnr", "valid_sharpness", "distance", "spread", "seen")
SEED = 3
LARGE, LARGE_DATA = 128, "utkface128"
STEPS, BATCH = 160, 32
LOOKS = 40  # at a flow's losses that are noted, about
SETS, SIDES, LOOKED_AT = ("celeba10k", DATA, "utkface128"), (64, 96, 128), 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--runs", nargs="*", default=[], metavar="STEP=RUN")
    parser.add_argument("--samples", nargs="*", default=[], metavar="NAME=RUN")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="Whose reconstructions.")
    parser.add_argument("--critics", type=Path, metavar="RUN")
    parser.add_argument("--sides", action="store_true", help="How large the faces of the data sets are.")
    parser.add_argument(
        "--enlarged", nargs="*", default=[], metavar="MODEL", help="Whose faces of 128 px, or enlarged to it."
    )
    parser.add_argument("--stored", type=Path, metavar="RUN", help="Its size in 8 bits, and what that costs.")
    args = parser.parse_args()
    before = read_result("larger_faces")
    result = {
        "machine": machine(),
        "data": DATA,
        "split": "test",
    }
    for key, new in (
        ("reconstructions", {**before.get("reconstructions", {}), **reconstructions(args.models, args.cache)}),
        ("samples", {**before.get("samples", {}), **samples(args.samples, args.cache)}),
        ("runs", {**before.get("runs", {}), **dict(map(run, args.runs))}),
        ("enlarged", {**before.get("enlarged", {}), **enlarged(args.enlarged, args.cache)}),
        ("sides", dict(map(sides, SETS)) if args.sides else before.get("sides")),
        ("stored", stored(args.stored) if args.stored else before.get("stored")),
        ("critics", critics(args.critics, args.cache) if args.critics else before.get("critics")),
    ):
        result |= {key: new} if new else {}
    result |= {key: before[key] for key in ("samples_as_of",) if key in before}
    write_result("larger_faces", result)


def samples(named: list[str], cache: Path | None) -> dict[str, Any]:
    """Return how faces drawn by some models compare with held-out ones, at each model's side."""
    told = {}
    for name, _, folder in (text.partition("=") for text in named):
        generator = Generator(folder, threads=1)
        template = generator.convention.template
        pictures = read_pictures(
            [data_folder() / DATA], template=template, side=generator.side, colour=True, splits=("test",), cache=cache
        )
        ours, others = halves(pictures.rgb())
        comparison = Comparison(ours, template)
        drawn, seconds = draw_timed(generator, len(ours))
        told[name] = {
            "model": generator.card.id,
            "side": generator.side,
            "faces": len(ours),
            "floor": comparison.frechet(others),
            **comparison.of(drawn),
            "samples_per_s": len(ours) / seconds,
        }
        print(name, told[name], flush=True)
    return told


def draw_timed(generator: Generator, count: int) -> tuple[np.ndarray, float]:
    """Return some faces, and the seconds of CPU that they took."""
    generator.generate(8)  # opens the network
    began = time.process_time()
    return generator.generate(count, seed=SEED), time.process_time() - began


def halves(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of held-out faces: to compare with, and for the floor."""
    order = np.random.default_rng(SEED).permutation(len(faces))
    return faces[order[: len(faces) // 2]], faces[order[len(faces) // 2 :]]


def enlarged(models: list[str], cache: Path | None) -> dict[str, Any]:
    """Return how faces of 128 px, or smaller ones enlarged and restored, compare with held-out ones of 128 px."""
    told: dict[str, Any] = {}
    for name in models:
        generator = Generator(name, threads=1)
        template = generator.convention.template
        pictures = read_pictures(
            [data_folder() / LARGE_DATA], template=template, side=LARGE, colour=True, splits=("test",), cache=cache
        )
        ours, others = halves(pictures.rgb())
        comparison = Comparison(ours, template)
        drawn, seconds = draw_timed(generator, len(ours))
        arms, facts = {"photographs": others[: len(ours)]}, {"model": generator.card.id}
        if generator.side == LARGE:
            arms["as drawn"] = drawn
        else:
            restorer = Restorer(gate=0, weight=1, threads=1)
            facts["restorer"] = restorer.card.id
            arms["enlarged"] = larger = np.stack(
                [cv2.resize(x, (LARGE, LARGE), interpolation=cv2.INTER_CUBIC) for x in drawn]
            )
            arms["enlarged and restored"] = np.stack([restorer.restore(face).after for face in larger])
        rows = {arm: comparison.of(shown) for arm, shown in arms.items()}
        print(name, rows, flush=True)
        told[Path(name).name] = {
            **facts,
            "data": LARGE_DATA,
            "side": LARGE,
            "faces": len(ours),
            "samples_per_s": len(ours) / seconds,
            "arms": rows,
        }
    return told


def reconstructions(models: list[str], cache: Path | None) -> dict[str, Any]:
    """Return what each model makes of held-out faces."""
    told = {}
    for name in models:
        generator = Generator(name, threads=1)
        template = generator.convention.template
        pictures = read_pictures(
            [data_folder() / DATA], template=template, side=generator.side, colour=True, splits=("test",), cache=cache
        )
        some = np.linspace(0, len(pictures) - 1, min(FACES, len(pictures))).round().astype(int)
        real = pictures.take(some).rgb()
        began = time.process_time()
        drawn = generator.decode(generator.encode(real))
        seconds = time.process_time() - began
        errors = np.square(real.astype(float) - drawn).reshape(len(real), -1).mean(axis=1)
        told[Path(name).name] = {
            "model": generator.card.id,
            "side": generator.side,
            "faces": len(real),
            "psnr": float((10 * np.log10(255**2 / errors)).mean()),
            "sharpness": float(sharpness(drawn) / sharpness(real)),
            "kept": {key: kept(key, real, drawn, template) for key in EMBEDDERS},
            "ms_a_face": 1000 * seconds / len(real),
        }
        print(name, told[Path(name).name], flush=True)
    return told


def sides(name: str) -> tuple[str, dict[str, Any]]:
    """Return by a data set's name how many px of its pictures the side of an aligned face has."""
    files = find_images([data_folder() / name])
    points, detector, found = TEMPLATES["face-64"].points_at(64), patient_detector(), []
    for place in np.linspace(0, len(files) - 1, LOOKED_AT).round().astype(int):
        face = find_face(load_image(files[place]), detector)
        if face is not None:
            matrix = similarity_transform(face.landmarks, points)
            found.append(64 / float(np.hypot(matrix[0, 0], matrix[1, 0])))
    told = {"faces": len(found), "median": float(np.median(found))}
    told |= {f"at_least_{side}": float(np.mean([px >= side for px in found])) for side in SIDES}
    print(name, told, flush=True)
    return name, told


def kept(name: str, before: np.ndarray, after: np.ndarray, template: str) -> dict[str, Any]:
    """Return how many faces still match themselves."""
    embedder = Embedder(zoo.card(name), threads=1)
    wanted, threshold = embedder.convention.template, operating_point(embedder.card, FMR).threshold
    one, other = (embedder.embed(recut(faces, template, wanted, embedder.side)) for faces in (before, after))
    scores = (one * other).sum(axis=1)
    match = int((scores >= threshold).sum())
    return {
        "cosine_median": float(np.median(scores)),
        "match": {"share": match / len(scores), "interval": list(wilson(match, len(scores)))},
    }


def run(text: str) -> tuple[str, dict[str, Any]]:
    """Return a training's settings and its last figures, by the name of the step."""
    step, _, folder = text.partition("=")
    place = Path(folder)
    if (place / "prior.json").exists() and not (place / "config.json").exists():
        prior = json.loads((place / "prior.json").read_text())
        every = max(len(prior["losses"]) // LOOKS, 1)
        last = {key: prior[key] for key in ("flow_images", "flow_valid_loss", "flow_train_loss")}
        return step, {**last, "losses": prior["losses"][::every]}
    config = json.loads((place / "config.json").read_text())
    rows = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    way = [{key: row[key] for key in WAY if key in row} for row in rows]
    settings = {key: Path(config[key]).name if key == "init" and config[key] else config.get(key) for key in KEPT}
    judge = {"discriminator": config["discriminator"]} if config.get("adversarial", True) else {}
    net = {"net": config["net"]} if "net" in config else {"decoder": Path(config["decoder"]).name}  # of a GAN
    return step, {"settings": settings | judge | net, "last": rows[-1], "way": way}


def stored(folder: Path) -> dict[str, Any]:
    """Return what a generator with its encoder comes to with weights in 8 bits."""
    from mien.training.storage import store_generator

    with tempfile.TemporaryDirectory() as place:
        report = store_generator(folder, Path(place) / "small", "int8")
    return {"bytes": report.bytes, "bytes_before": report.bytes_before, "grey_levels": report.difference}


def critics(folder: Path, cache: Path | None) -> dict[str, Any]:
    """Return how soon each critic tells photographs from what a run makes of them, and its cost."""
    import torch

    from mien.networks.gan import Discriminator, DiscriminatorConfig, Sizes
    from mien.training.adversarial import discriminator_loss, exact_penalty

    torch.set_num_threads(1)
    generator = Generator(folder, threads=1)
    pictures = read_pictures(
        [data_folder() / DATA], template="face-64", side=generator.side, colour=True, splits=("train",), cache=cache
    )
    real = pictures.take(np.random.default_rng(0).permutation(len(pictures))[:2000]).rgb()
    both = [
        torch.from_numpy(np.ascontiguousarray(faces.transpose(0, 3, 1, 2)))
        for faces in (real, generator.decode(generator.encode(real)))
    ]
    arms = {
        "residual, penalty 1": ({"widths": (16, 32, 64, 128, 128)}, 4e-4, 1.0),
        "residual, penalty 0.02": ({"widths": (16, 32, 64, 128, 128)}, 1e-3, 0.02),
        "dcgan, no penalty": ({"arch": "dcgan", "widths": (32, 64, 128, 192)}, 5e-4, 0.0),
    }
    told = {}
    for name, (config, rate, gamma) in arms.items():
        torch.manual_seed(0)
        critic = Discriminator(DiscriminatorConfig(**config), Sizes(generator.side, 3)).to(
            memory_format=torch.channels_last
        )
        optimizer = torch.optim.AdamW(critic.parameters(), rate, betas=(0.0, 0.99), weight_decay=0.0)
        right, gaps, began = [], [], time.process_time()
        for step in range(STEPS):
            some, penalise = torch.randint(0, len(real), (BATCH,)), gamma > 0 and step % 4 == 0
            x, y = (part[some].float().requires_grad_(penalise) for part in both)
            with torch.autocast("cpu", torch.bfloat16):
                of_x, of_y = critic(x), critic(y)
            loss = discriminator_loss("relativistic", of_x, of_y)
            if penalise:
                loss = loss + 4 * gamma / 2 * (exact_penalty(of_x, x) + exact_penalty(of_y, y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right.append(float((of_x > of_y).float().mean()))
            gaps.append(float((of_x - of_y).detach().mean()))
        cost = 1000 * (time.process_time() - began) / STEPS / BATCH
        last = slice(-STEPS // 4, None)
        told[name] = {"right": float(np.mean(right[last])), "gap": float(np.mean(gaps[last])), "ms_a_pair": cost}
        print(name, told[name], flush=True)
    return {"steps": STEPS, "batch": BATCH, "arms": told}


if __name__ == "__main__":
    main()
