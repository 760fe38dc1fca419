"""A model by whatever name the user has for it: of the catalogue, a run folder, or an ONNX file with its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mien.errors import ModelError
from mien.zoo import catalogue
from mien.zoo.catalogue import Card

__all__ = ["companion", "named"]

MODEL, CARD = "model.onnx", "card.json"


def named(model: str | Path, *, role: str | None = None) -> Card:
    """Return the card of a model.

    Args:
        model: A name of the catalogue, or `fast` or `accurate` of a role; a run folder (``model.onnx`` and
            ``card.json`` in it); or an ONNX file, its card beside it as ``NAME.json`` or ``card.json``.
        role: That the model should have; None: any.

    Raises:
        ModelError: It is none of these, its card is damaged, or its role is another.
    """
    card = _found(model if role is None else catalogue.choice(str(model), role))
    if role is not None and card.role != role:
        raise ModelError(
            f"'{card.name}' is of role {card.role}, expected a model of role {role}. `mien models list` says which "
            "there are."
        )
    return card


def _found(model: str | Path) -> Card:
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


def companion(card: Card, part: str) -> Card:
    """Return the card of a model that belongs to another one: beside it in a run, an entry of its own in the catalogue.

    Args:
        card: Such as a generator's.
        part: What its card calls the companion, such as `encoder`.

    Raises:
        KeyError: It has none.
        ModelError: It is not there.
    """
    name, source = str(card.convention[part]), card.source
    return named(Path(source.member).with_name(name) if source.kind == "run" else name)


def _from_files(network: Path, card: Path) -> Card:
    for file, what in ((network, "network"), (card, "card")):
        if not file.is_file():
            raise ModelError(
                f"'{file}' is missing: a {what} is expected there. `mien train` and `mien export` write it."
            )
    try:
        entry: dict[str, object] = json.loads(card.read_text(encoding="utf-8"))
        facts: dict[str, object] = {"version": "1", "summary": "", "licence": "", "training_data": "", **entry}
        name = str(facts.get("name") or network.resolve().parent.name)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The card '{card}' is damaged ({error}). Write it anew with `mien export`.") from None
    with network.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    # The file is the user's own and may change from run to run: its digest goes into the id, nothing pins it.
    facts["source"] = {"kind": "run", "sha256": sha256, "member": str(network.resolve())}
    return catalogue.make_card(name, facts, measured=facts)
