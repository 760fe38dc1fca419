"""One archive with all models of this machine, for machines that reach no package index.

A plain tar file: manifest.json, models/<file>, and for users' models models.d/<name>.toml and measured/<name>.json. The
same models give the same bytes. Nothing is unpacked by its path: each member is read, checked and stored by name.

What an archive says of itself proves nothing. A model of the catalogue is taken only if its graph and weights are those
that the catalogue names; a user's model is marked as one that came in an archive, and replaces no other unasked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mien.errors import ModelError
from mien.types import Facts
from mien.zoo import catalogue, store
from mien.zoo.catalogue import NAME, Card, human_size
from mien.zoo.convert import REVISION, content_digest

__all__ = ["bundle", "unbundle"]

FORMAT = "mien-models-1"
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_MODEL_BYTES = 1 << 30


def bundle(out: Path, names: Iterable[str] | None = None) -> tuple[list[str], str]:
    """Write models of this machine into one archive.

    Args:
        out: The archive, replaced if it is there.
        names: Which models; by default all that are here.

    Returns:
        The models' names and the archive's SHA-256, to compare on the other machine.

    Raises:
        ModelError: A model is not here or altered, or the archive cannot be written.
    """
    states = store.verify(names)
    if bad := [f"{name} ({state})" for name, state in states.items() if state != "ok"]:
        raise ModelError(f"Not fit to be bundled: {', '.join(bad)}. Run `mien models pull` first.")
    cards = [catalogue.card(name) for name in sorted(states)]
    cards = [card for card in cards if card.source.kind != "weights"]  # Those come with mien itself.
    if not cards:
        raise ModelError("There is no model on this machine to bundle. Run `mien models pull` first.")
    manifest: dict[str, Any] = {"format": FORMAT, "models": []}
    members: dict[str, bytes] = {}
    for card in cards:
        receipt = store.receipt(card)
        assert receipt is not None, "a verified model has a receipt"
        data = (store.folder() / card.filename).read_bytes()
        if card.source.kind == "package":
            _expect_pinned(card, data)
        files = {f"models/{card.filename}": data}
        if card.source.kind != "package":
            for path in store.user_files(card):
                if path.is_file():
                    files[f"{path.parent.name}/{path.name}"] = path.read_bytes()
        manifest["models"].append(
            {
                "name": card.name,
                "source_sha256": card.source.sha256,
                "revision": receipt.revision,
                "files": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
            }
        )
        members |= files
    members = {"manifest.json": json.dumps(manifest, indent=1).encode()} | members
    digest = _write(out, members)
    return [card.name for card in cards], digest


def unbundle(file: Path, *, replace: bool = False) -> list[Card]:
    """Check an archive that `bundle` wrote, wholly, then store its models.

    Args:
        file: The archive.
        replace: Let a user's model in it take the place of another one of that name.

    Returns:
        Cards of the models that were stored.

    Raises:
        ModelError: The archive is damaged, holds what it should not, or is of another release of mien; or a user's
            model in it would replace another one unasked.
    """
    try:
        with file.open("rb") as stream:
            archived = hashlib.file_digest(stream, "sha256").hexdigest()
        with tarfile.open(file, "r:") as archive:
            manifest = _manifest(archive)
            checked = [_checked(archive, entry) for entry in manifest["models"]]
    except (tarfile.TarError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file.name} is not a whole archive of `mien models bundle` ({error}).") from None
    except OSError as error:
        raise ModelError(f"{file.name} cannot be read ({error.strerror}).") from None
    if not replace:
        _expect_no_other(checked)
    with store.writing():
        for card, data, extras in checked:
            with store.lock(card):
                store.put(card, data, archive="" if card.source.kind == "package" else archived)
                for path, content in extras.items():
                    store.write_atomically(catalogue.home() / path, content)
    return [card for card, _, _ in checked]


def _expect_pinned(card: Card, data: bytes) -> None:
    """Check that a file is what the catalogue's conversion makes of the catalogue's source."""
    source = card.source
    wanted = source.converted if source.convert else source.sha256
    if not wanted:
        raise ModelError(
            f"The card of {card.name} does not say what its conversion gives ('converted'), so that no archive can be "
            f"trusted with it. Pull it from an index: mien models pull {card.name}."
        )
    if content_digest(source.convert, data) != wanted:
        raise ModelError(
            f"The file of {card.name} is not the network that mien knows by this name; nothing was stored. Pull it "
            f"anew on the machine with an index (mien models remove {card.name}, then pull) and bundle again; if it is "
            "meant to be another network, give it a name of its own: mien models add."
        )


def _expect_no_other(checked: list[tuple[Card, bytes, dict[str, bytes]]]) -> None:
    """Refuse archives that would put another network under the name of a user's model that is here."""
    here = {card.name for card in catalogue.cards() if card.source.kind in ("file", "url")}
    for card, data, extras in checked:
        if card.name not in here:
            continue
        old = store.receipt(card)
        file = catalogue.home() / "models.d" / f"{card.name}.toml"
        same = old is not None and old.sha256 == hashlib.sha256(data).hexdigest()
        if not same or file.read_bytes() != extras[f"models.d/{card.name}.toml"]:
            raise ModelError(
                f"The archive holds another model {card.name} than the one that is here; nothing was stored. Give "
                f"--replace to have the archive's, or remove the one that is here: mien models remove {card.name}."
            )


def _write(out: Path, members: dict[str, bytes]) -> str:
    """Write a tar file without times, owners and modes of this machine; return its SHA-256."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
        temporary.replace(out)
        with out.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{out} cannot be written ({error.strerror}).") from None
    finally:
        temporary.unlink(missing_ok=True)


def _manifest(archive: tarfile.TarFile) -> Facts:
    try:
        manifest = json.loads(_member(archive, "manifest.json", _MAX_MANIFEST_BYTES))
    except ValueError:
        raise KeyError("no manifest") from None
    if manifest["format"] != FORMAT:
        raise ModelError(f"The archive has format {manifest['format']!r}, this mien reads {FORMAT!r}.")
    return dict(manifest)


def _member(archive: tarfile.TarFile, path: str, limit: int) -> bytes:
    info = archive.getmember(path)
    if not info.isreg() or info.size > limit:
        raise ModelError(f"{path} in the archive is not a file of at most {human_size(limit)}.")
    stream = archive.extractfile(info)
    assert stream is not None, "a regular member can be read"
    return stream.read()


def _checked(archive: tarfile.TarFile, entry: Facts) -> tuple[Card, bytes, dict[str, bytes]]:
    """Return card, model and further files of one entry, after checking every name and digest."""
    name = str(entry["name"])
    if not NAME.fullmatch(name):
        raise ModelError(f"The archive names a model {name!r}, which is no name for one.")
    files = {path: _member(archive, path, _MAX_MODEL_BYTES) for path in entry["files"]}
    for path, data in files.items():
        if hashlib.sha256(data).hexdigest() != entry["files"][path]:
            raise ModelError(f"{path} in the archive is damaged: its SHA-256 is not the manifest's. Copy it again.")
    own = {card.name: card for card in catalogue.cards() if card.source.kind not in ("file", "url")}
    card_file = f"models.d/{name}.toml"
    if name in own:
        card, extras = own[name], []
        if card.source.kind == "weights":
            raise ModelError(f"The archive holds {name}, which is shipped inside mien and never bundled.")
    elif card_file in files:
        try:
            measured = json.loads(files.get(f"measured/{name}.json", b"{}"))
            card = catalogue.make_card(name, tomllib.loads(files[card_file].decode()), measured=measured)
        except (ValueError, AttributeError) as error:  # Both decoders' errors are ValueErrors.
            raise ModelError(f"Card or measured facts of {name} in the archive are damaged ({error}).") from None
        if card.source.kind not in ("file", "url") or card.role == "asset":
            raise ModelError(f"{card_file} in the archive is not the card of a user's model.")
        extras = [card_file, f"measured/{name}.json"]
    else:
        raise ModelError(
            f"This mien does not know {name}: the archive is of another release. Use the same on both sides."
        )
    if (entry["source_sha256"], entry["revision"]) != (card.source.sha256, REVISION):
        raise ModelError(f"{name} in the archive is of another release of mien. Use the same release on both sides.")
    model = f"models/{card.filename}"
    if unwanted := set(files) - {model, *extras}:
        raise ModelError(f"The archive holds {', '.join(sorted(unwanted))}, which does not belong to {name}.")
    if card.source.kind == "package":
        _expect_pinned(card, files[model])
    return card, files[model], {path: files[path] for path in extras if path in files}
