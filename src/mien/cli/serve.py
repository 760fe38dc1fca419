"""`mien serve` and `mien keys`: the HTTP service, and who may use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien.cli.common import echo_json
from mien.errors import UsageError
from mien.gallery.names import shown

if TYPE_CHECKING:
    from mien.service.keys import Key, Keys

_EXTRA = ("fastapi", "h11", "starlette", "uvicorn", "pydantic", "python_multipart", "multipart", "prometheus_client")
_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    envvar="MIEN_SERVICE",
    help="The service's folder; same as MIEN_SERVICE.  [default: the user's data folder]",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object; see docs/json.md.")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8400, show_default=True, help="Port; 0: any free one.")
@click.option(
    "--gallery", metavar="FILE|URL", envvar="MIEN_GALLERY", help="Of the collection `default`; same as MIEN_GALLERY."
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    envvar="MIEN_GALLERY_KEY",
    help="Key of encrypted galleries; same as MIEN_GALLERY_KEY.",
)
@_DATA
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name it is called by; may be repeated.")
@click.option("--certificate", type=click.Path(path_type=Path), metavar="FILE", help="For TLS: with its chain, PEM.")
@click.option("--private-key", type=click.Path(path_type=Path), metavar="FILE", help="For TLS: of the certificate.")
@click.option("--rate", type=float, default=100.0, show_default=True, help="Requests a second of one key.")
@click.option(
    "--stream", "streams", multiple=True, metavar="NAME=SOURCE",
    help="Watch a camera, stream or film all the time, a SOURCE of mien watch; may be repeated.",
)  # fmt: skip
@click.option("--embedder", metavar="NAME", help="Embedder; default: the catalogue's, see `mien models list`.")
@click.option("--detector", default="auto", show_default=True, metavar="NAME", help="auto, fast, accurate, a model.")
def serve(
    host: str,
    port: int,
    gallery: str | None,
    key: Path | None,
    data: Path | None,
    hosts: tuple[str, ...],
    certificate: Path | None,
    private_key: Path | None,
    rate: float,
    streams: tuple[str, ...],
    embedder: str | None,
    detector: str,
) -> None:
    """Serve a page and an HTTP interface; ends with Ctrl-C or SIGTERM once what was accepted is done.

    On 127.0.0.1 no key is needed until one is made. On any other address the service starts with keys only: see mien
    keys. Pictures come as uploads and are not kept; what is enrolled stays in the gallery.
    """
    with needs_extra():
        from mien.service.server import serve as run
        from mien.service.settings import Settings, default_folder

        settings = Settings(
            data=data or default_folder(),
            gallery=gallery,
            gallery_key=key,
            host=host,
            port=port,
            hosts=hosts,
            embedder=embedder,
            detector=detector,
            rate=rate,
            streams=_sources(streams),
        )
        run(settings, certificate=certificate, private_key=private_key, said=_say_place)


@click.group(short_help="Make, list and revoke the keys of a service.")
def keys() -> None:
    """Manage who may use a service.

    A key is shown once, when it is made, and kept as a keyed hash. Changes count at once, also for a service that runs.
    """


@keys.command()
@click.option(
    "--scope",
    type=click.Choice(["read", "enrol", "admin"]),
    required=True,
    help="read: identify and list; enrol: also add and change; admin: also erase, export, calibrate.",
)
@click.option(
    "--collection", "collections", multiple=True, default=["default"], show_default=True, metavar="NAME",
    help="Where; '*' for all; may be repeated.",
)  # fmt: skip
@click.option("--label", default="", help="Whose or what for.")
@click.option("--expires", metavar="TIME", help="After how long it is refused: 90d, 12h.  [default: never]")
@_JSON
@_DATA
def create(
    scope: str, collections: tuple[str, ...], label: str, expires: str | None, as_json: bool, data: Path | None
) -> None:
    """Make a key and print it, once."""
    until = None if expires is None else _duration(expires)
    with needs_extra(), _keys(data) as known:
        key, text = known.create(dict.fromkeys(collections, scope), label=label, expires=until)
    if as_json:
        echo_json({**_facts(key), "key": text})
        return
    click.echo(text)
    click.echo(f"Key {key.id}. It is shown this once; keep it where passwords are kept.", err=True)


@keys.command("list")
@_JSON
@_DATA
def list_(as_json: bool, data: Path | None) -> None:
    """List keys: what they may do, until when, when last used."""
    with needs_extra(), _keys(data) as known:
        found = known.every()
    if as_json:
        echo_json({"schema": "mien/keys/1", "keys": [_facts(key) for key in found]})
        return
    for key in found:
        grants = ", ".join(f"{collection}={scope}" for collection, scope in key.grants.items())
        state = key.refusal() or (f"until {key.expires[:10]}" if key.expires else "no end")
        used = f"used {key.last_used}" if key.last_used else "never used"
        click.echo(f"{key.id}  {grants:<24}  {state:<16}  {used:<15}  {shown(key.label)}".rstrip())


@keys.command()
@click.argument("key_id", metavar="KEY")
@_DATA
def revoke(key_id: str, data: Path | None) -> None:
    """Refuse a key from now on, by its id."""
    with needs_extra(), _keys(data) as known:
        key = known.revoke(_id(key_id))
    click.echo(f"Key {key.id} was revoked.", err=True)


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option("--grace", metavar="TIME", default="0d", show_default=True, help="How long the old one still works.")
@_JSON
@_DATA
def rotate(key_id: str, grace: str, as_json: bool, data: Path | None) -> None:
    """Make a key with the rights of another one, which goes, and print it, once."""
    after = _duration(grace)
    with needs_extra(), _keys(data) as known:
        old = next((key for key in known.every() if key.id == _id(key_id)), None)
        if old is None or old.refusal() is not None:
            raise UsageError(f"There is no key '{shown(key_id[:40])}' that works. `mien keys list` shows all.")
        key, text = known.create(old.grants, label=old.label)
        known.revoke(old.id, after=after)
    if as_json:
        echo_json({**_facts(key), "key": text})
        return
    click.echo(text)
    click.echo(f"Key {key.id} takes the place of {old.id}. It is shown this once.", err=True)


@contextmanager
def needs_extra() -> Iterator[None]:
    """Import the service within this: where its packages are not installed, that is one line with the cure.

    Raises:
        UsageError: A package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise UsageError("The service needs more packages. Install them with: pip install 'mien[serve]'") from None


@contextmanager
def _keys(data: Path | None) -> Iterator[Keys]:
    from mien.service.keys import Keys
    from mien.service.settings import default_folder
    from mien.service.store import Store

    store = Store(data or default_folder())
    try:
        yield Keys(store)
    finally:
        store.close()


def _sources(given: tuple[str, ...]) -> dict[str, str]:
    """Return sources by name.

    Raises:
        UsageError: One is not NAME=SOURCE, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, source = text.partition("=")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name) or not source or name in found:
            raise UsageError(
                f"--stream is NAME=SOURCE, such as door=rtsp://camera/stream, each name once, in small letters and "
                f"digits; got '{shown(text[:80])}'."
            )
        found[name] = source
    return found


def _say_place(place: str) -> None:
    click.echo(f"mien: serving on {place} - end with Ctrl-C.", err=True)


def _facts(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "label": key.label,
        "grants": dict(key.grants),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "last_used": key.last_used,
    }


def _id(text: str) -> str:
    """Return the id of a key, from itself or from its whole text."""
    return text.removeprefix("mien_").partition("_")[0]


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([dh])", text)
    if match is None:
        raise UsageError(f"A time is a number of days or hours, for instance 90d or 12h, got '{shown(text[:40])}'.")
    return timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})
