"""The models that mien knows, where each comes from, how it is checked and converted.

The names below are imported when they are first used: a command that only prints its help needs no NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.lazy import attributes

__all__ = [
    "CONVENTIONS",
    "Card",
    "Source",
    "add",
    "card",
    "cards",
    "choice",
    "companion",
    "default",
    "defaults",
    "home",
    "human_size",
    "index_reachable",
    "is_present",
    "make_session",
    "named",
    "offline",
    "path",
    "providers",
    "pull",
    "receipt",
    "remove",
    "thread_count",
    "unbundle",
    "verify",
]

if TYPE_CHECKING:
    from mien.zoo.adding import add
    from mien.zoo.bundle import unbundle
    from mien.zoo.catalogue import Card, Source, card, cards, choice, default, defaults, home, human_size
    from mien.zoo.conventions import CONVENTIONS
    from mien.zoo.fetch import index_reachable, offline
    from mien.zoo.lookup import companion, named
    from mien.zoo.session import make_session, providers, thread_count
    from mien.zoo.store import is_present, path, pull, receipt, remove, verify
else:
    __getattr__ = attributes(
        "mien.zoo",
        {
            "adding": ("add",),
            "bundle": ("unbundle",),
            "catalogue": ("Card", "Source", "card", "cards", "choice", "default", "defaults", "home", "human_size"),
            "conventions": ("CONVENTIONS",),
            "fetch": ("index_reachable", "offline"),
            "lookup": ("companion", "named"),
            "session": ("make_session", "providers", "thread_count"),
            "store": ("is_present", "path", "pull", "receipt", "remove", "verify"),
        },
    )
