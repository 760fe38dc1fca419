"""A model by whatever name the user has for it: of the catalogue, a run folder, or an ONNX file with its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mien.errors import ModelError
from mien.zoo import catalogue
from mien.zoo.catalogue import Card

__all__ = ["encoder_of", "named"]

MODEL, CARD = "model.onnx", "card.json"


def named(model: str | Path) -> Card:
    """Return the card of a model.

    Args:
        model: A name of the catalogue; a run folder (``model.onnx`` and ``card.json`` in it); or an ONNX file, its
            card beside it as ``NAME.json`` or ``card.json``.

    Raises:
        ModelError: It is none of these, or the card does not say what a network of its role is fed.
    """
    if str(model) in {card.name for card in catalogue.cards()}:
        return catalogue.card(str(model))
    path = Path(model)
    if path.is_dir():
        return _from_files(path / MODEL, path / CARD)
    if path.is_file() and path.suffix == ".onnx":
        own = path.with_suffix(".json")
        return _from_files(path, own if own.is_file() else path.with_name(CARD))
    if path.suffix == ".onnx" or len(path.parts) > 1:
        raise ModelError(f"There is no run folder or ONNX file '{model}'. Check the path.")
    return catalogue.card(str(model))  # Says which names there are.


def encoder_of(generator: Card) -> Card:
    """Return the card of a generator's encoder: beside it in a run, an entry of its own in the catalogue.

    Raises:
        KeyError: The generator has none.
        ModelError: It is not there.
    """
    name, source = str(generator.convention["encoder"]), generator.source
    return named(Path(source.member).with_name(name) if source.kind == "run" else name)


def _from_files(network: Path, card: Path) -> Card:
    for file, what in ((network, "network"), (card, "card")):
        if not file.is_file():
            raise ModelError(
                f"'{file}' is missing: a {what} is expected there. `mien train` and `mien export` write it."
            )
    try:
        entry: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        facts: dict[str, Any] = {"version": "1", "summary": "", "licence": "", "training_data": "", **entry}
        name = str(facts.get("name") or network.resolve().parent.name)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The card '{card}' is damaged ({error}). Write it anew with `mien export`.") from None
    with network.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    # The file is the user's own and may change from run to run: its digest goes into the id, nothing pins it.
    facts["source"] = {"kind": "run", "sha256": sha256, "member": str(network.resolve())}
    return catalogue.make_card(name, facts, measured=facts)
