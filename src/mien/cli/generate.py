"""`mien generate`, `encode`, `decode`, `edit`: faces from trained VAEs and GANs, and what they make of given ones."""

from __future__ import annotations

from pathlib import Path

import click

from mien.cli.common import counted
from mien.errors import UsageError
from mien.files import printable

_OUT = click.Path(path_type=Path)
_MODEL = click.option(
    "--model", metavar="MODEL", help="A generator's name, a run folder, or an ONNX file with its card; default: ours."
)


@click.command()
@_MODEL
@click.option("-n", "count", type=int, help="How many.  [default: 64]")
@click.option(
    "-o", "--out", type=_OUT, required=True, metavar="FILE|DIR", help="A sheet (.png, .jpg, .webp), or a folder."
)
@click.option("--expression", metavar="NAME", help="What they show: one, several with commas, or all in turn.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="What they have; may be repeated.")
@click.option("--like", type=click.Path(), metavar="PICTURE", help="Faces like the one of this picture.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same pictures.")
@click.option(
    "--truncation", type=float, default=1.0, show_default=True, help="Below 1: more typical faces, less varied."
)
@click.option(
    "--prior",
    type=click.Choice(["flow", "mixture", "normal", "fitted"]),
    help="What a VAE draws from.  [default: fitted: the flow, or the mixture where there is none]",
)
@click.option(
    "--guidance", type=float, metavar="G", help="How far a flow follows what is asked for; 1 as in its training faces."
)
@click.option(
    "--between", nargs=2, metavar="A B", help="The way from one face to another: two seeds, or two pictures (VAE)."
)
@click.option("--steps", type=int, help="Faces on that way, or of a clip.  [default: 8; in a .gif 32]")
@click.option(
    "--clip", is_flag=True, help="A face that begins to show --expression and ceases to; of --like, or drawn by --seed."
)
@click.option("--scores", is_flag=True, help="Into a folder: note the detector's score and the expression seen.")
def generate(
    model: str | None,
    count: int | None,
    out: Path,
    expression: str | None,
    attributes: tuple[str, ...],
    like: str | None,
    seed: int,
    truncation: float,
    prior: str | None,
    guidance: float | None,
    between: tuple[str, str] | None,
    steps: int | None,
    clip: bool,
    scores: bool,
) -> None:
    """Make faces with a trained VAE or GAN: a sheet of them, or a folder of labelled pictures.

    A folder has one below it for each expression, and manifest.csv; mien train expression --data DIR learns from it.
    Started again with the same options, it goes on where it was stopped.
    """
    from mien.cli.work import generate as work
    from mien.vision.generator import Request

    moving = (bool(between) or clip) and out.suffix.lower() == ".gif"
    to_sheet = moving or work.is_sheet(out)
    if scores and to_sheet:
        raise UsageError("--scores stand in the manifest of a folder. Name one with -o.")
    if count is not None and (between or clip):
        raise UsageError("How long a way or a clip is, --steps says. Leave -n out.")
    count = work.FACES if count is None else count
    generator = work.open_generator(model)
    names: str | tuple[str, ...] | None = expression
    if expression == "all":
        names = generator.labels
    elif expression and "," in expression:
        names = tuple(expression.split(","))
    number = (work.FRAMES if moving else work.STEPS) if steps is None else steps
    if clip:
        if between or attributes or prior or guidance is not None or not isinstance(names, str):
            raise UsageError("--clip goes with --expression NAME, --like, --seed, --truncation and --steps only.")
        images = generator.clip(names, number, like=like, seed=seed, truncation=truncation)
        # An animation goes there and back by itself.
        work.save_way(generator, images[: (number + 1) // 2] if moving else images, out, to_sheet)
        click.echo(f"{printable(out)}: {counted(number, 'frame')} of {names} by {generator.card.name}")
        return
    if between:
        if like or attributes or prior or guidance is not None or not (names is None or isinstance(names, str)):
            raise UsageError("--between goes with --expression NAME, --truncation and --steps only.")
        work.walk(generator, between, number, names, truncation, out, to_sheet)
        return
    request = Request(names, attributes, None, like, seed, truncation, prior, guidance=guidance)
    if to_sheet:
        work.save_sheet(generator, count, request, out)
    else:
        work.fill_folder(generator, count, request, out, scores)


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@_MODEL
@click.option("-o", "--out", type=_OUT, required=True, metavar="FILE", help="latents.npz, .csv or .parquet.")
def encode(pictures: tuple[str, ...], model: str | None, out: Path) -> int:
    """Write the latents of the faces of PICTURES: files, folders or patterns; of each its main face.

    The exit status is 1 if a picture could not be read or shows no face; the others are written.
    """
    from mien.cli.work import generate as work

    return work.encode(pictures, model, out)


@click.command()
@click.argument("latents", type=click.Path(path_type=Path, dir_okay=False))
@_MODEL
@click.option(
    "-o", "--out", type=_OUT, required=True, metavar="FILE|DIR", help="A sheet (.png, .jpg, .webp), or a folder."
)
@click.option("--expression", metavar="NAME", help="That all show; default: the ones that were encoded.")
def decode(latents: Path, model: str | None, out: Path, expression: str | None) -> None:
    """Make pictures of LATENTS, a file of mien encode."""
    from mien.cli.work import generate as work

    work.decode(latents, model, out, expression)


@click.command()
@click.argument("picture", type=click.Path())
@_MODEL
@click.option("--expression", required=True, metavar="NAME", help="What the face should show; all: each in turn.")
@click.option("-o", "--out", type=_OUT, required=True, metavar="FILE", help="A picture: .png, .jpg or .webp.")
@click.option("--strength", type=float, help="0 changes nothing, above 1 overdoes it; default: what it takes.")
@click.option("--paste", is_flag=True, help="Write the whole picture with the change in it, not before and after.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON; see docs/json.md.")
def edit(
    picture: str, model: str | None, expression: str, out: Path, strength: float | None, paste: bool, as_json: bool
) -> None:
    """Give the main face of PICTURE another expression, and say how far it stays who it is.

    The cosine of the embeddings before and after is the default embedder's, of faces as small as the VAE's.
    """
    from mien.cli.work import generate as work

    work.edit(picture, model, expression, out, strength=strength, paste=paste, as_json=as_json)
