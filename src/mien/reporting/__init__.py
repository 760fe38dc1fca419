"""Records as JSON, and pictures and pages for people: annotated photographs, contact sheets, self-contained reports.

What draws is imported when it is first used: JSON needs neither Pillow nor OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["annotate", "colour_of", "contact_sheet", "thumbnail"]

if TYPE_CHECKING:
    from mien.reporting.pictures import annotate, colour_of, contact_sheet, thumbnail


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mien.reporting import pictures

        return getattr(pictures, name)
    raise AttributeError(f"module 'mien.reporting' has no attribute {name!r}")
