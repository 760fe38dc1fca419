"""`mien train vae` and `mien train gan`: networks that draw faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mien.cli.common import counted, needs_torch
from mien.cli.train import check_resume, duration, name_dry_run, run_story, training_options
from mien.files import printable
from mien.training.config import DRAWN, PictureConfig

if TYPE_CHECKING:
    from mien.training.gan import DryRun as GANDryRun
    from mien.training.vae import DryRun

generative_options = partial(training_options, several=True)

_KIND = click.option("--kind", metavar="LAYOUT", help="How all DATA are laid out; default: found out.")
_LABELS = click.option("--labels", metavar="SET", help="What class numbers mean: fer2013, ferplus, affectnet8, ...")
_LEARNED_FROM = "What it learned from."
_SIDES = ", ".join(f"{side} for {name}" for name, (side, _) in DRAWN.items())
_IN_GREY = " and ".join(name for name, (_, colour) in DRAWN.items() if not colour)
_TEMPLATE = click.option(
    "--template", metavar="NAME", help=f"How faces are cut: {', '.join(DRAWN)}, ...; default: {PictureConfig.template}."
)
_SIDE = click.option("--side", type=int, metavar="PX", help=f"Of the pictures; default: the template's, {_SIDES}.")
_GREY = click.option(
    "--grey/--colour", default=None, help=f"Grey pictures, or in colour; default: grey for {_IN_GREY}, else in colour."
)
_CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep cut faces here, for several runs; default: in the run folder.",
)


@click.command()
@generative_options
@click.option("--variant", type=click.Choice(["sigma", "classic"]), help="sigma (default), or the tutorials' VAE.")
@click.option("--condition", type=click.Choice(["auto", "labels", "none"]), help="Whether to draw by label.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="Draw by this, of attributes.csv.")
@click.option("--prior", type=click.Choice(["flow", "mixture"]), help="What samples are drawn from; default: a flow.")
@_TEMPLATE
@_SIDE
@_GREY
@_KIND
@_LABELS
@_CACHE
def vae(
    file: Path | None,
    sets: tuple[str, ...],
    resume: str,
    dry_run: bool,
    data: tuple[Path, ...],
    attributes: tuple[str, ...],
    side: int | None,
    grey: bool | None,
    **settings: Any,
) -> None:
    """Train a VAE: an encoder that describes a face by latents, and a decoder that draws faces from them.

    A folder of pictures is enough; with a folder for each expression it draws by expression. RUN gets model.onnx (the
    generator) and encoder.onnx, which need no PyTorch.
    """
    with needs_torch():
        from mien.training import vae as story

    name_dry_run(settings, dry_run)
    given = {
        **settings,
        "data": data or None,
        "attributes": attributes or None,
        "net.side": side,
        "net.colour": None if grey is None else not grey,
    }
    config = story.configured(file, sets, given)
    if dry_run:
        for line in _foreseen(story.dry_run(config), config.end):
            click.echo(line)
        return
    check_resume(resume, config.out)
    trained = run_story(story.train, config)
    if not trained.summary:
        return  # only the main process measures
    facts = trained.summary
    click.echo(
        f"{counted(facts['pictures']['valid'], 'picture')} held out: ELBO {facts['elbo']:,.0f} nats, "
        f"PSNR {facts['psnr']:.2f} dB, sharpness {facts['sharpness']:.2f}, {facts['active_units']} of "
        f"{config.net.latents} latents used"
    )
    click.echo(f"fitted mixture: {facts['prior_gain']:+.1f} nats against N(0, I), {facts['prior_components']} parts")
    if "flow_valid_loss" in facts:
        click.echo(flow_line(facts))
    elif config.prior == "flow":
        click.echo(f"flow: that of {printable(config.init or '')}, whose encoder was kept")
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien generate --model {config.out} -n 64 -o grid.png")


def flow_line(facts: Mapping[str, Any]) -> str:
    """Return what is said of a flow that was fitted; far apart, the two losses say that it learned faces by heart."""
    return (
        f"flow: loss {facts['flow_valid_loss']:.3f} on faces held out, {facts['flow_train_loss']:.3f} on faces learned "
        f"from, after {facts['flow_images']:,} latents"
    )


def _foreseen(dry: DryRun, images: int) -> list[str]:
    told = [f"labels: {', '.join(dry.classes)}"] if dry.classes else []
    told += [f"attributes: {', '.join(dry.attributes)}"] if dry.attributes else []
    return [
        *told,
        f"{counted(dry.train, 'picture')} to learn from, {dry.valid:,} to check with",
        f"{dry.parameters / 1e6:.2f} million parameters, {dry.macs / 1e6:.0f} million multiplications a picture",
        *duration(dry.images_per_second, images),
    ]


def _finished_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of whatever is added to a finished generator."""
    for option in reversed(
        (
            click.option(
                "--model",
                metavar="MODEL",
                required=True,
                help="A generator with an encoder: a run folder, or its name.",
            ),
            click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help=_LEARNED_FROM),
            click.option(
                "--out",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Default: the run folder itself.",
            ),
            click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random."),
            click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps."),
            click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings as TOML."),
            click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as images=5000."),
            _KIND,
            _LABELS,
            click.option(
                "--cache",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Keep cut faces here, for several runs.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@_finished_options
def prior(file: Path | None, sets: tuple[str, ...], data: tuple[Path, ...], **settings: Any) -> None:
    """Fit a flow to the latents of a finished MODEL, from which it then draws its samples.

    Its decoder stays as it is, and so does its mixture (mien generate --prior mixture). The data are those that the
    model learned from; what they hold out ends the fitting. Audit the model again before it is given away.
    """
    with needs_torch():
        from mien.training.config import load_config
        from mien.training.vae.refit import PriorConfig, refit

    done = refit(load_config(PriorConfig, file, sets, {**settings, "data": data}))
    click.echo(flow_line(done.summary))
    click.echo(f"Use: mien generate --model {done.out} -n 64 -o grid.png")


@click.command()
@_finished_options
def mapper(file: Path | None, sets: tuple[str, ...], data: tuple[Path, ...], **settings: Any) -> None:
    """Teach a finished MODEL to give a face another expression: mien edit, generate --clip.

    What it draws stays as it is. Expression networks and a face recogniser look at edited photographs while it learns,
    and may not judge its edits afterwards. The data are those that the model learned from.
    """
    with needs_torch():
        from mien.training.config import load_config
        from mien.training.vae.mapping import MapperConfig, train_mapper

    done = train_mapper(load_config(MapperConfig, file, sets, {**settings, "data": data}))
    facts = done.summary
    alike = f", cosine {facts['valid_cosine']:.3f} to the face before" if "valid_cosine" in facts else ""
    click.echo(f"faces held out: {facts['valid_read']:.0%} read as asked{alike}, by the networks that it learned from")
    click.echo(f"Use: mien edit somebody.jpg --model {done.out} --expression happiness -o edited.png")


@click.command()
@generative_options
@click.option(
    "--variant",
    type=click.Choice(["default", "r3", "hinge", "dcgan"]),
    default="default",
    show_default=True,
    help="r3 compares pairs under a gradient penalty, as --init does unless told; hinge has spectral normalisation, "
    "dcgan is the original.",
)
@click.option("--identity/--no-identity", default=None, help="Draw a given face, from its embedding.")
@click.option(
    "--init",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="VAE",
    help="Begin as this VAE: a run folder, or one that mien ships.",
)
@_TEMPLATE
@_SIDE
@_GREY
@_KIND
@_LABELS
@_CACHE
def gan(
    file: Path | None,
    sets: tuple[str, ...],
    resume: str,
    dry_run: bool,
    data: tuple[Path, ...],
    variant: str,
    grey: bool | None,
    **settings: Any,
) -> None:
    """Train a GAN: a generator that draws faces from noise, from an expression, or from a face's embedding.

    A folder of pictures is enough; with a folder for each expression it draws by expression. RUN gets model.onnx, which
    needs no PyTorch, and a sheet of samples for each report.
    """
    with needs_torch():
        from mien.training import gan as story

    name_dry_run(settings, dry_run)
    given = {**settings, "data": data or None, "colour": None if grey is None else not grey}
    config = story.configured(variant, file, sets, given)
    if dry_run:
        for line in _drawn(story.dry_run(config), config.end):
            click.echo(line)
        return
    check_resume(resume, config.out)
    trained = run_story(story.train, config)
    if not trained.summary:
        return  # only the main process measures
    facts = trained.summary
    click.echo(
        f"best at {facts['images']:,} images, {facts['pictures']:,} to learn from: samples of a class spread "
        f"{facts['spread']:.2f} times as widely as photographs, sharpness {facts['sharpness']:.2f}"
    )
    click.echo(f"{config.out / 'card.html'}")
    click.echo(f"Use: mien generate --model {config.out} -n 64 -o grid.png")


def _drawn(dry: GANDryRun, images: int) -> list[str]:
    generator, discriminator = dry.parameters
    return [
        *([f"labels: {', '.join(dry.classes)}"] if dry.classes else []),
        f"{counted(dry.pictures, 'picture')} to learn from",
        f"{generator / 1e6:.2f} million parameters draw, {discriminator / 1e6:.2f} million judge; "
        f"{dry.macs / 1e6:.0f} million multiplications a picture",
        *duration(dry.images_per_second, images),
    ]
