"""The work of `mien features`: faces of labelled pictures, cut and encoded."""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

import mien
from mien import evaluation
from mien.alignment import TEMPLATES
from mien.cli.common import counted, progress
from mien.data.crops import cut_crops
from mien.data.samples import read_samples
from mien.errors import ModelError, UsageError
from mien.files import printable


def write_latents(
    data: Path, out: Path, *, model: str, kind: str, labels: str | None, without_face: bool, cache: Path | None
) -> None:
    """Write the latent means that a VAE gives to the faces of labelled pictures."""
    evaluation.check_format(out)
    generator = mien.Generator(model)
    if not generator.has_encoder:
        raise ModelError(f"'{generator.card.name}' has no encoder, so it has no features. Name a VAE.")
    convention = generator.convention
    # Cut as `mien train vae` does: smaller faces are made of those of the template's own size.
    size = max(generator.side, TEMPLATES[convention.template].side)
    samples = read_samples(data, kind=kind, labels=labels)
    with progress(len(samples)) as advance:
        crops = cut_crops(
            samples,
            template=convention.template,
            side=size,
            colour=not convention.grey,
            frame=size,
            canvas=size,
            cache=cache,
            progress=advance,
        )
    kept = np.flatnonzero(crops.readable & (crops.found | without_face))
    if not len(kept):
        raise UsageError(
            f"No face was found in the {len(samples)} pictures of '{printable(data)}'. Try --keep-without-face."
        )
    faces = crops.canvas[kept]
    faces = faces if faces.ndim == 4 else np.repeat(faces[..., None], 3, axis=3)
    if size != generator.side:
        faces = np.stack([cv2.resize(face, (generator.side,) * 2, interpolation=cv2.INTER_AREA) for face in faces])
    some = samples.take(kept)
    target = next(iter(some.targets.values()), None)
    told = [] if target is None else [target.classes[k] if k >= 0 else "" for k in target.labels]
    blank = ("",) * len(kept)
    table = evaluation.FeatureTable(
        features=generator.encode(faces),
        files=some.names,
        labels=tuple(told) or blank,
        subjects=blank if some.subjects is None else tuple(map(str, some.subjects)),
        splits=tuple(map(str, some.splits)),
    )
    evaluation.save_features(table, out)
    left = len(samples) - len(kept)
    click.echo(
        f"{printable(out)}: {counted(len(kept), 'picture')}, {table.features.shape[1]} latent means each"
        + (f"; {left} without a face or unreadable are left out" if left else "")
    )
