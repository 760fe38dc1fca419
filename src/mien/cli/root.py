"""The `mien` command and its list of sub-commands: parse, call one library function, print.

Commands are imported when they are called, so that `mien --help` needs neither NumPy nor ONNX Runtime.
"""

from __future__ import annotations

import importlib
import os

import click
from click.shell_completion import CompletionItem

from mien import zoo

COMMANDS = {
    # command: (module:attribute, one line of help)
    "analyze": ("mien.cli.analyze:analyze", "Find the faces of pictures: boxes, landmarks, quality, expression."),
    "expression": ("mien.cli.expression:expression", "Read what faces show, and how sure that is."),
    "verify": ("mien.cli.verify:verify", "Compare two pictures: are they one subject? (1:1)"),
    "enroll": ("mien.cli.enroll:enroll", "Add subjects to a gallery from pictures, folders or a CSV."),
    "ingest": ("mien.cli.ingest:ingest", "Enrol a folder with several workers, on one machine or on many."),
    "identify": ("mien.cli.identify:identify", "Name the faces of pictures from a gallery. (1:N)"),
    "search": ("mien.cli.identify:search", "Find the k most similar samples of a gallery."),
    "watch": ("mien.cli.watch:watch", "Follow the faces of a video, stream or camera: who, when, what they show."),
    "challenge": (
        "mien.cli.challenge:challenge",
        "Ask who is before a camera to blink, turn or smile: a cue of life.",
    ),
    "classify": ("mien.cli.classify:classify", "Name the faces of pictures by a classifier trained on known subjects."),
    "group": ("mien.cli.group:group", "Sort a folder of photographs by person: who, how often, with whom."),
    "gallery": (
        "mien.cli.gallery:gallery",
        "List, show, rename, merge, erase, check, audit, copy, export, import, migrate.",
    ),
    "calibrate": ("mien.cli.gallery:calibrate", "Derive a gallery's own threshold for a false match rate."),
    "generate": ("mien.cli.generate:generate", "Make faces and expressions with a trained VAE or GAN."),
    "encode": ("mien.cli.generate:encode", "Write the latents that a VAE gives to faces."),
    "decode": ("mien.cli.generate:decode", "Make pictures of latents."),
    "edit": ("mien.cli.generate:edit", "Give a face another expression, with a VAE."),
    "restore": ("mien.cli.restore:restore", "Restore small, blurred, noisy or covered faces in photographs."),
    "enhance": ("mien.cli.restore:enhance", "Make photographs larger, evenly lit, sharper; their faces restored."),
    "anonymize": ("mien.cli.anonymize:anonymize", "Replace the faces of photographs by generated ones, and prove it."),
    "evaluate": ("mien.cli.evaluate:evaluate", "Measure verification, identification and expressions, with intervals."),
    "features": ("mien.cli.features:features", "Write the features that a VAE gives to pictures, as a table."),
    "augment": ("mien.cli.augment:augment", "Fill rare classes of a training set with generated faces."),
    "study": ("mien.cli.study:study", "Run and read studies of what generative models bring."),
    "audit": ("mien.cli.audit:audit", "Check that a generator does not draw the people it learned from."),
    "publish": ("mien.cli.audit:publish", "Write a generator with card and samples, if its audit was passed."),
    "export": ("mien.cli.export:export", "Write a trained run as ONNX: in half precision, or quantised to 8 bits."),
    "train": ("mien.cli.train:train", "Train an expression network, an embedder or a classifier."),
    "data": ("mien.cli.data:data", "Look at labelled pictures before learning from them."),
    "serve": ("mien.cli.serve:serve", "Serve a page and an HTTP interface for a gallery."),
    "keys": ("mien.cli.serve:keys", "Make, list and revoke the keys of a service."),
    "models": ("mien.cli.models:models", "List, pull, verify, add and bundle models; show their cards."),
    "demo": ("mien.cli.demo:demo", "Show all of it on a public-domain portrait and drawn faces."),
    "doctor": ("mien.cli.doctor:doctor", "Check versions, models, providers, threads and speed."),
    "completion": ("mien.cli.completion:completion", "Print a script that completes commands in bash, zsh or fish."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when one of them runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the guide."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands from the table above, importing nothing, and options as any command does."""
        names = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table above, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"mien {version('mien')}")
        for role, name in zoo.defaults().items():
            click.echo(f"{role}: {zoo.card(name).id}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print it, with the ids of the default models, and end.",
)
@click.option("--offline", is_flag=True, help="Never touch the network; same as MIEN_OFFLINE=1.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a network; default: the CPU quota and affinity.")
@click.option("--device", help="auto, cpu, cuda, coreml, ... ; same as MIEN_DEVICE.")
def cli(offline: bool, threads: int | None, device: str | None) -> None:
    """Recognise faces and facial expressions, offline, and say how sure you are."""
    # Settings travel as environment variables, so that worker processes see them too.
    if offline:
        os.environ["MIEN_OFFLINE"] = "1"
    if threads:
        os.environ["MIEN_THREADS"] = str(threads)
    if device:
        os.environ["MIEN_DEVICE"] = device
