"""Galleries: enrol, search, identify, erase. `Gallery` is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Gallery", "GalleryProtocol"]

if TYPE_CHECKING:
    from mien.gallery.gallery import Gallery as Gallery
    from mien.gallery.protocol import GalleryProtocol as GalleryProtocol


def __getattr__(name: str) -> Any:
    if name == "Gallery":
        from mien.gallery.gallery import Gallery

        return Gallery
    if name == "GalleryProtocol":
        from mien.gallery.protocol import GalleryProtocol

        return GalleryProtocol
    raise AttributeError(f"module 'mien.gallery' has no attribute {name!r}")
