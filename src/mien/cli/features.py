"""`mien features`: what a network says about pictures, as a table to learn from."""

from __future__ import annotations

from pathlib import Path

import click

import mien
from mien import evaluation
from mien.cli.common import counted, progress
from mien.errors import ModelError, UsageError
from mien.files import printable


@click.group()
def features() -> None:
    """Write the features of pictures as a table."""


@features.command()
@click.argument("data", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="NAME|RUN", help="A VAE: a model's name, or a run of mien train vae.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="FILE.parquet, .csv or .npz."
)
@click.option("--kind", default="auto", show_default=True, help="Layout of the data; see mien data inspect --help.")
@click.option("--labels", help="What class numbers mean: fer2013, ferplus, affectnet8, rafdb, ...")
@click.option("--keep-without-face", is_flag=True, help="Take the middle of a picture in which no face is found.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Where cut faces are kept.")
def vae(
    data: Path, model: str, out: Path, kind: str, labels: str | None, keep_without_face: bool, cache: Path | None
) -> None:
    """Write the latent means that a VAE gives to the faces of DIR, with file, label, subject and split.

    The means are no sample: the same picture has the same features every time.
    """
    import cv2
    import numpy as np

    from mien.alignment import TEMPLATES
    from mien.data.crops import cut_crops
    from mien.data.samples import read_samples

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
    kept = np.flatnonzero(crops.readable & (crops.found | keep_without_face))
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
