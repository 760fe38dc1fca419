"""Our VAE and GAN beside pythae's, DCGAN and lightweight-gan: the same faces, one thread, equal time of it.

    pip install --target peers --no-deps pythae lightweight-gan cloudpickle imageio scikit-learn joblib threadpoolctl \\
        narwhals pydantic pydantic-core annotated-types typing-inspection kornia kornia-rs einops retry decorator py \\
        adabelief-pytorch colorama tabulate tqdm  # without their torch, which would be another one
    MIEN_DATA=... PYTHONPATH=peers python benchmarks/generative_peers.py --seeds 0 1 2 --cache crops --work runs

Each candidate trains in a process of its own for as many seconds of one CPU thread (wall time, where the machine has
nothing else to do), then draws as many faces as the test split has. Ours anneal their rates over the images that fit
into that time, measured first; their cpu_seconds count that measurement, reading data and publishing too.

- pythae: its own networks for 64 px pictures, its trainers and their settings, rates ten times their default, which
  is meant for long trainings. Those networks are too large for a CPU, so also around our encoder and decoder, with
  its discriminator an eighth as wide. Drawn from N(0, I) and, the VAE, from its Gaussian mixture sampler too.
- DCGAN: the original losses and layers, `mien train gan --variant dcgan`, batches of 64 and no momentum.
- lightweight-gan: refuses to import without CUDA; here that check is passed over, and its networks and losses are
  trained as its own trainer does, on the CPU.
- Ours ask for bf16, which a processor that lacks it answers with fp32.
- From a VAE: half of the time goes to `mien train vae`, half to the GAN that begins as it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from common import data_folder, machine, read_result, write_result

SIDE, TEMPLATE = 64, "face-64"
OURS = {
    "mien VAE": ("vae", []),
    "mien VAE, no perceptual term": ("vae", ["perceptual=0"]),
    "mien GAN": ("gan", []),
    "mien GAN from a VAE": ("both", []),
    "DCGAN": ("gan", ["variant=dcgan"]),
}
PEERS = (
    "pythae VAE",
    "pythae VAE, our networks",
    "pythae VAE-GAN",
    "pythae VAE-GAN, our networks",
    "lightweight-gan",
)
FOUND = 300  # faces that the detector is shown
ALONE = ("dlib-resnet29", "expression-resnet27")
Draw = Callable[[int], np.ndarray]


class TimeOverError(Exception):
    """The time is over."""


def faces(cache: Path, split: str) -> np.ndarray:
    from mien.data.pictures import read_pictures

    folder = data_folder()
    sources = [folder / "celeba10k", folder / "utkface128"] if split == "train" else [folder / "celeba10k"]
    return read_pictures(sources, template=TEMPLATE, side=SIDE, colour=True, splits=(split,), cache=cache).images


# Ours -----------------------------------------------------------------------------------------------------------------


def ours(name: str, seed: int, seconds: float, cache: Path, out: Path) -> tuple[Draw, dict[str, Any]]:
    from mien.training import gan, vae
    from mien.training.config import load_config
    from mien.vision.generator import Generator, Request

    kind, sets = OURS[name]
    recipe = Path(__file__).parent / "recipes" / "face-vae-64.toml"
    folder = data_folder()
    common = {
        "data": (folder / "celeba10k", folder / "utkface128"), "template": TEMPLATE, "cache": cache, "seed": seed,
        "precision": "bf16", "device": "cpu",
    }  # fmt: skip
    seen: dict[str, int] = {}

    def learn(kind: str, seconds: float, sets: list[str], **more: Any) -> Path:
        run = out / kind
        variant = next((text.split("=")[1] for text in sets if text.startswith("variant=")), "default")
        sets = [text for text in sets if not text.startswith("variant=")]
        given = common | {"out": run} | more
        if kind == "vae":

            def make(images: int) -> Any:
                last = {"images": images, "report_every": images, "ema_half_life": min(10_000, images / 10)}
                return load_config(vae.VAEConfig, recipe, sets, given | last)

            story: Any = vae
        else:
            sets = ["side=64", "colour=true", "conditional=false", "health.images=0", *sets]

            def make(images: int) -> Any:
                each = max(images // 4, 1)
                return gan.configured(variant, None, [*sets, f"report_every={each}"], given | {"images": images})

            story = gan
        trial = make(1_000_000)
        with mock.patch("time.monotonic", time.process_time):  # as if the thread had a core of its own
            rate = story.dry_run(trial, steps=max(512 // trial.batch_size, 8)).images_per_second
        images = max(int(rate * seconds), 512)
        story.train(make(images))
        seen[kind] = images
        return run

    began = time.process_time()
    if kind == "both":
        before = learn("vae", seconds / 2, [])
        run = learn(
            "gan", seconds / 2, ["batch_size=32", "learning_rate_generator=2e-4", "learning_rate_discriminator=5e-4",
            "anchor=4",
            "discriminator.widths=16,32,64,128"], init=before,
        )  # fmt: skip
    else:
        run = learn(kind, seconds, sets)
    spent = time.process_time() - began
    generator = Generator(run)

    def draw(count: int) -> np.ndarray:
        return np.concatenate([batch.images for batch in generator.batches(count, Request(seed=seed))])

    return draw, {"images": seen, "cpu_seconds": round(spent, 1)}


# Peers ----------------------------------------------------------------------------------------------------------------


def drawn(decode: Callable[[int], Any]) -> Draw:
    def draw(count: int) -> np.ndarray:
        parts = [decode(min(100, count - start)) for start in range(0, count, 100)]
        pictures = np.concatenate([part.detach().clamp(0, 1).numpy() for part in parts])
        return np.rint(pictures * 255).astype(np.uint8).transpose(0, 2, 3, 1)

    return draw


def pythae(name: str, seed: int, seconds: float, cache: Path, out: Path) -> tuple[dict[str, Draw], dict[str, Any]]:
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEGAN, VAEConfig, VAEGANConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.models.nn.benchmarks.celeba import (
        Decoder_Conv_AE_CELEBA,
        Discriminator_Conv_CELEBA,
        Encoder_Conv_VAE_CELEBA,
    )
    from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig
    from pythae.trainers import (
        BaseTrainer,
        BaseTrainerConfig,
        CoupledOptimizerAdversarialTrainer,
        CoupledOptimizerAdversarialTrainerConfig,
    )
    from pythae.trainers.training_callbacks import TrainingCallback

    from mien.networks import vae as networks

    torch.manual_seed(seed)
    pixels = torch.from_numpy(faces(cache, "train"))
    steps = 0

    class Pixels(BaseDataset):
        """Photographs 0 to 1 as they are asked for: whole, they would take a gigabyte."""

        def __init__(self) -> None:
            super().__init__(data=pixels, labels=torch.zeros(len(pixels)))

        def __getitem__(self, index: int) -> Any:
            return {"data": self.data[index].float() / 255, "labels": self.labels[index]}

    class Clock(TrainingCallback):
        def on_train_step_end(self, training_config: Any, **_: Any) -> None:
            nonlocal steps
            steps += 1
            if time.process_time() - began > seconds:
                raise TimeOverError

    class Encoder(BaseEncoder):
        def __init__(self, net: networks.VAE) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            mean, log_variance = self.net.encode(x * 255)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, net: networks.VAE) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.net.decode(z) / 255)

    folder = {"output_dir": str(out), "num_epochs": 1000}
    small = name.endswith("our networks")
    ready = networks.VAE(networks.VAENetConfig(side=SIDE, colour=True, latents=128)) if small else None

    def halves(config: Any) -> tuple[Any, Any]:
        if ready is not None:
            return Encoder(ready), Decoder(ready)
        return Encoder_Conv_VAE_CELEBA(config), Decoder_Conv_AE_CELEBA(config)

    if name.startswith("pythae VAE-GAN"):
        config = VAEGANConfig(input_dim=(3, SIDE, SIDE), latent_dim=128, reconstruction_layer=3)
        config.discriminator_input_dim = (3, SIDE, SIDE)
        critic = Discriminator_Conv_CELEBA(config)
        if small:  # the same layers, an eighth as wide
            critic.layers = torch.nn.ModuleList(
                torch.nn.Sequential(torch.nn.Conv2d(a, b, 4, 2, 1), torch.nn.BatchNorm2d(b), torch.nn.ReLU())
                for a, b in ((3, 16), (16, 32), (32, 64), (64, 128))
            ).append(torch.nn.Sequential(torch.nn.Linear(128 * 4 * 4, 1), torch.nn.Sigmoid()))
        model = VAEGAN(config, *halves(config), critic)
        trainer = CoupledOptimizerAdversarialTrainer(
            model, Pixels(), training_config=CoupledOptimizerAdversarialTrainerConfig(
                **folder, encoder_learning_rate=1e-3, decoder_learning_rate=1e-3, discriminator_learning_rate=1e-3
            ), callbacks=[Clock()],
        )  # fmt: skip
    else:
        config = VAEConfig(input_dim=(3, SIDE, SIDE), latent_dim=128, reconstruction_loss="mse")
        model = VAE(config, *halves(config))
        trainer = BaseTrainer(
            model, Pixels(), training_config=BaseTrainerConfig(**folder, learning_rate=1e-3), callbacks=[Clock()]
        )
    began = time.process_time()
    with contextlib.suppress(TimeOverError):
        trainer.train()
    spent = time.process_time() - began
    model.eval()

    @torch.no_grad()
    def normal(count: int) -> Any:
        return model.decoder(torch.randn(count, 128))["reconstruction"]

    draws = {"": drawn(normal)}
    if not name.startswith("pythae VAE-GAN"):
        sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))
        sampler.fit(pixels[:10_000].float() / 255)
        draws[", mixture sampler"] = drawn(lambda count: sampler.sample(count, batch_size=count, return_gen=True))
    return draws, {"images": {"steps of 64": steps}, "cpu_seconds": round(spent, 1)}


def lightweight(seed: int, seconds: float, cache: Path) -> tuple[Draw, dict[str, Any]]:
    import torch

    # It imports torchvision for reading files only, and asks for CUDA as it is imported and built.
    vision = types.ModuleType("torchvision")
    vision.transforms = types.ModuleType("torchvision.transforms")  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": vision, "torchvision.transforms": vision.transforms}  # type: ignore[attr-defined]
    has, move = torch.cuda.is_available, torch.nn.Module.cuda
    torch.cuda.is_available = lambda: True
    torch.nn.Module.cuda = lambda self, *_: self  # type: ignore[assignment, method-assign]
    from lightweight_gan.lightweight_gan import LightweightGAN, gen_hinge_loss, hinge_loss

    torch.manual_seed(seed)
    gan = LightweightGAN(latent_dim=256, image_size=SIDE)
    torch.cuda.is_available, torch.nn.Module.cuda = has, move  # type: ignore[method-assign]
    pixels = torch.from_numpy(faces(cache, "train"))
    variation = {"prob": min(0.5, (1e5 - len(pixels)) * 3e-6), "types": ["translation", "cutout"]}
    batch, steps, began = 4, 0, time.process_time()  # its default
    while time.process_time() - began < seconds:
        gan.D_opt.zero_grad()
        real = pixels[torch.randint(len(pixels), (batch,))].float() / 255
        with torch.no_grad():
            fake = gan.G(torch.randn(batch, 256))
        steep = steps % 4 == 0
        real.requires_grad_(steep)
        fake, (fake_score, fake_small, _) = gan.D_aug(
            fake, detach=True, input_requires_grad=steep, return_discr_input=True, **variation
        )
        real_score, real_small, rebuilt = gan.D_aug(real, calc_aux_loss=True, **variation)
        loss = hinge_loss(real_score, fake_score) + hinge_loss(real_small, fake_small) + rebuilt
        if steep:
            slopes = [
                torch.autograd.grad(scores, x, [torch.ones_like(s) for s in scores], create_graph=True)[0]
                for scores, x in (([real_score, real_small], real), ([fake_score, fake_small], fake))
            ]
            loss = loss + 10 * (torch.cat(slopes).flatten(1).norm(2, dim=1) ** 2).mean()
        loss.backward()
        gan.D_opt.step()
        gan.G_opt.zero_grad()
        score, small, _ = gan.D_aug(gan.G(torch.randn(batch, 256)), **variation)
        (gen_hinge_loss(score, None) + gen_hinge_loss(small, None)).backward()
        gan.G_opt.step()
        steps += 1
    spent = time.process_time() - began
    gan.eval()

    @torch.no_grad()
    def decode(count: int) -> Any:
        return gan.G(torch.randn(count, 256))  # its average is a copy of these weights before 20,000 steps

    return drawn(decode), {"images": {"steps of 4": steps}, "cpu_seconds": round(spent, 1)}


# Side by side ---------------------------------------------------------------------------------------------------------


def one(name: str, seed: int, seconds: float, cache: Path, out: Path, count: int) -> None:
    """Train a candidate and leave its faces as `faces*.npy` in a folder."""
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    if name in OURS:
        draw, told = ours(name, seed, seconds, cache, out)
        draws = {"": draw}
    elif name == "lightweight-gan":
        draw, told = lightweight(seed, seconds, cache)
        draws = {"": draw}
    else:
        draws, told = pythae(name, seed, seconds, cache, out)
    for sampler, draw in draws.items():
        np.save(out / f"faces{sampler}.npy", draw(count))
    (out / "told.json").write_text(json.dumps({"seconds": seconds, **told}))


class Measure:
    """Faces against those of a split, as many of each."""

    def __init__(self, cache: Path, split: str = "test") -> None:
        from mien import zoo
        from mien.evaluation.spaces import feature_space
        from mien.vision.finding import patient_detector

        self.real = np.ascontiguousarray(faces(cache, split).transpose(0, 2, 3, 1))
        self.spaces = {name: feature_space(zoo.card(name), TEMPLATE).features for name in ALONE}
        self.features = {name: space(self.real) for name, space in self.spaces.items()}
        self.detector = patient_detector()

    def of(self, images: np.ndarray) -> dict[str, Any]:
        """Return the figures of drawn faces, RGB uint8, shape (faces, side, side, 3)."""
        from mien.metrics.generation import frechet_distance, sharpness, spread_ratio
        from mien.vision.finding import find_face

        images = images[: len(self.real)]
        seen = {name: space(images) for name, space in self.spaces.items()}
        alike = np.zeros(len(images), int)
        return {
            "frechet": {name: float(frechet_distance(base, seen[name])) for name, base in self.features.items()},
            "spread": {
                name: float(spread_ratio(base, seen[name], alike, alike)) for name, base in self.features.items()
            },
            "sharpness": float(sharpness(images) / sharpness(self.real)),
            "face_found": float(np.mean([find_face(image, self.detector) is not None for image in images[:FOUND]])),
        }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and interval over seeds of what was measured after the same time."""
    from mien.metrics.intervals import mean_interval

    told = []
    for seconds, name in sorted({(row["seconds"], row["name"]) for row in rows}):
        same = [row for row in rows if (row["seconds"], row["name"]) == (seconds, name)]
        figures = {space: [row["frechet"][space] for row in same] for space in ALONE}
        figures |= {key: [row[key] for row in same] for key in ("sharpness", "face_found")}
        over_seeds = {
            key: {"mean": float(np.mean(values)), "interval": mean_interval(values) if len(values) > 1 else None}
            for key, values in figures.items()
        }
        told.append({"name": name, "seconds": seconds, "seeds": len(same), **over_seeds})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="To train each.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--cache", type=Path, required=True, help="Where cut faces are kept.")
    parser.add_argument(
        "--work", type=Path, required=True, help="Where runs are kept, not to be repeated; all are compared."
    )
    parser.add_argument("--jobs", type=int, default=1, help="Trainings at once, one thread each.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, seed = args.one.split("@")
        one(name, int(seed), args.seconds, args.cache, args.work, 1100)
        return
    waiting = [(name, seed) for seed in args.seeds for name in args.only]
    running: list[subprocess.Popen[bytes]] = []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MIEN_THREADS": "1"}
    for name, seed in waiting:
        out = args.work / f"{name}@{seed}@{args.seconds:g}"
        if (out / "told.json").exists():
            continue
        while len([job for job in running if job.poll() is None]) >= args.jobs:
            time.sleep(1)
        command = [sys.executable, __file__, "--one", f"{name}@{seed}", "--seconds", str(args.seconds)]
        command += ["--cache", str(args.cache), "--work", str(out)]
        running.append(subprocess.Popen(command, env=environment))
    if any(job.wait() for job in running):
        print("Not every training came to its end; those that did are compared.", file=sys.stderr)
    measure = Measure(args.cache)
    rows = []
    for file in sorted(args.work.glob("*@*@*/told.json")):
        name, seed, _ = file.parent.name.split("@")
        told = json.loads(file.read_text())
        for drawn in sorted(file.parent.glob("faces*.npy")):
            sampler = drawn.stem.removeprefix("faces")
            kept = drawn.with_suffix(".json")
            if not kept.exists():
                kept.write_text(json.dumps(measure.of(np.load(drawn))))
            rows.append({"name": name + sampler, "seed": int(seed), **told, **json.loads(kept.read_text())})
            print(json.dumps(rows[-1]))
    kept = args.work / "photographs.json"
    if not kept.exists():  # as many of those that were learned from: what a perfect generator would come to
        learned = faces(args.cache, "train").transpose(0, 2, 3, 1)
        chosen = np.random.default_rng(0).permutation(len(learned))[: len(measure.real)]
        kept.write_text(json.dumps(measure.of(np.ascontiguousarray(learned[chosen]))))
    # Rows that are not from here are what another machine did in its seconds: not to be compared with these.
    before = read_result("generative_peers")
    earlier = before.pop("earlier", [])
    trained = {(row["name"], row["seed"], row["seconds"]) for row in rows}
    if any((row["name"], row["seed"], row["seconds"]) not in trained for row in before.get("rows", [])):
        earlier = [before, *earlier]
    write_result(
        "generative_peers",
        {
            "machine": machine(),
            "threads": 1,
            "faces": len(measure.real),
            "summary": summary(rows),
            "intervals": "95 %, Student's t over seeds",
            "photographs": json.loads(kept.read_text()),
            "rows": rows,
            "earlier": earlier,
        },
    )


if __name__ == "__main__":
    main()
