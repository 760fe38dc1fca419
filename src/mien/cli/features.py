"""`mien features`: what a network says about pictures, as a table to learn from."""

from __future__ import annotations

from pathlib import Path

import click


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
    from mien.cli.work import features as work

    work.write_latents(data, out, model=model, kind=kind, labels=labels, without_face=keep_without_face, cache=cache)
