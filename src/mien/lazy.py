"""Packages whose names are imported when they are first used, so that importing a package costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def attributes(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package: it finds each name in its module, importing that then.

    Args:
        package: The package, such as `mien.zoo`.
        modules: Modules below it, such as `catalogue`, and the names that the package takes from each.
    """
    places = {name: f"{package}.{module}" for module, names in modules.items() for name in names}

    def attribute(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute {name!r}")
        found: object = getattr(importlib.import_module(places[name]), name)
        return found

    return attribute
