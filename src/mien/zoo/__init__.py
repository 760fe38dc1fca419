"""The models that mien knows, where each comes from, how it is checked and converted."""

from mien.zoo.catalogue import Card, Source, card, cards, default, defaults, home
from mien.zoo.fetch import offline
from mien.zoo.named import companion, named
from mien.zoo.store import is_present, path, pull, remove, verify

__all__ = [
    "Card",
    "Source",
    "card",
    "cards",
    "companion",
    "default",
    "defaults",
    "home",
    "is_present",
    "named",
    "offline",
    "path",
    "pull",
    "remove",
    "verify",
]
