"""Galleries: enrol, search, identify, erase.

The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.lazy import attributes

__all__ = [
    "Gallery",
    "GalleryProtocol",
    "chance",
    "name_faces",
    "repeated_names",
]

if TYPE_CHECKING:
    from mien.gallery.gallery import Gallery
    from mien.gallery.naming import chance, name_faces, repeated_names
    from mien.gallery.protocol import GalleryProtocol
else:
    __getattr__ = attributes(
        "mien.gallery",
        {
            "gallery": ("Gallery",),
            "naming": ("chance", "name_faces", "repeated_names"),
            "protocol": ("GalleryProtocol",),
        },
    )
