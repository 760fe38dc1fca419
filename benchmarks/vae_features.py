"""What a VAE's features are worth beside raw pixels, principal components, our expression network and the embedder.

    MIEN_DATA=... python benchmarks/vae_features.py --vae expression-vae-48 --identity-vae face-vae-64

Two questions, each on a split that the VAE did not learn from: expressions by FER+ (fer2013plus, most frequent label;
its training pictures that stand elsewhere too are left out), and who it is among the 40 subjects of ORL (five pictures
of each to learn from, two to choose with, three to test). The expression network saw all labels of FER+'s training
split, and the embedder millions of faces with names: they are no equals of a VAE, they say what labels buy.

Without --vae the others are measured; --most takes fewer pictures of each split, to try things out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import data_folder, machine, write_result

from mien import zoo
from mien.alignment import TEMPLATES
from mien.data.crops import cut_crops
from mien.data.samples import Samples, read_samples
from mien.data.splits import stratified
from mien.evaluation.features import SHARES, compare_features, principal_components
from mien.evaluation.spaces import feature_space
from mien.types import EXPRESSIONS
from mien.vision.generator import Generator

COMPONENTS = 128  # of PCA, as many as our VAEs have latents
ORL_SHARES = {"train": 0.5, "valid": 0.2, "test": 0.3}


def expressions(folder: Path) -> tuple[Samples, np.ndarray, np.ndarray, list[str]]:
    samples = read_samples(folder / "fer2013plus")
    target = samples.targets["ferplus"]
    keep = (target.labels >= 0) & ~(samples.leaks & (samples.splits == "train"))
    known = [EXPRESSIONS.index(name) if name in EXPRESSIONS else -1 for name in target.classes]
    labels = np.array(known)[target.labels]
    keep &= labels >= 0
    return samples.take(keep), labels[keep], samples.splits[keep], list(EXPRESSIONS)


def identities(folder: Path) -> tuple[Samples, np.ndarray, np.ndarray, list[str]]:
    samples = read_samples(folder / "orl", kind="subjects")
    assert samples.subjects is not None
    names, labels = np.unique(samples.subjects, return_inverse=True)
    return samples, labels, stratified(labels, ORL_SHARES, seed=0), names.tolist()


def fewer(splits: np.ndarray, most: int | None) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(splits == name))[:most] for name in ("train", "valid", "test")]
    return np.sort(np.concatenate(rows))


def resized(faces: np.ndarray, side: int) -> np.ndarray:
    return np.stack([cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces])


def measured(task: Any, vae: str | None, args: argparse.Namespace) -> dict[str, Any]:
    samples, labels, splits, classes = task(data_folder())
    rows = fewer(splits, args.most)
    samples, labels, splits = samples.take(rows), labels[rows], splits[rows]
    generator = Generator(vae) if vae else None
    convention = generator.card.convention if generator else {"template": "fer-48", "order": "GRAY"}
    template = str(convention["template"])
    side = TEMPLATES[template][0]
    crops = cut_crops(
        samples, template=template, side=side, colour=convention["order"] != "GRAY", frame=side, canvas=side,
        cache=args.cache,
    )  # fmt: skip
    faces = crops.canvas if crops.canvas.ndim == 4 else np.repeat(crops.canvas[..., None], 3, axis=3)
    pixels = resized(crops.canvas, args.pixels).reshape(len(faces), -1).astype(np.float32) / 255
    features = {f"pixels, {args.pixels} px": pixels}
    # Whoever has no labels may still look at all training pictures, as a VAE does.
    features[f"PCA, {COMPONENTS}"] = principal_components(pixels[splits == "train"], COMPONENTS)(pixels)
    if generator is not None:
        shown = faces if generator.side == side else resized(faces, generator.side)
        features[f"{generator.card.name}, latent means"] = generator.encode(shown)
    for role in () if args.without_networks else ("expression", "embedder"):
        space = feature_space(zoo.card(zoo.default(role)), template)
        features[space.name] = np.concatenate([space.features(faces[i : i + 256]) for i in range(0, len(faces), 256)])
    report = compare_features(features, labels, splits, classes, shares=args.shares, seeds=args.seeds)
    print(report.text())
    return {"data": samples.source.name, "template": template, "vae": vae} | report.to_json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", help="Of the catalogue, or a run folder: for expressions.")
    parser.add_argument("--identity-vae", help="For identities; default the same.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, help="Pictures of each split at most.")
    parser.add_argument("--pixels", type=int, default=32, help="Side of the raw pictures, px.")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--cache", type=Path, help="Where cut faces are kept.")
    parser.add_argument("--without-networks", action="store_true", help="Leave our networks out.")
    parser.add_argument("--name", default="vae_features", help="Of the result.")
    args = parser.parse_args()
    result = {
        "machine": machine(),
        "expression": measured(expressions, args.vae, args),
        "identity": measured(identities, args.identity_vae or args.vae, args),
    }
    write_result(args.name, result)


if __name__ == "__main__":
    main()
