"""Records as JSON, and pictures and pages for people: annotated photographs, contact sheets, self-contained reports.

The names below are imported when they are first used: JSON needs neither Pillow nor OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.lazy import attributes

__all__ = [
    "Album",
    "Name",
    "animation",
    "annotate",
    "colour_of",
    "contact_sheet",
    "group_page",
    "person_sheet",
    "thumbnail",
    "write_text",
]

if TYPE_CHECKING:
    from mien.reporting.groups import Album, Name, group_page, person_sheet
    from mien.reporting.html import write_text
    from mien.reporting.pictures import animation, annotate, colour_of, contact_sheet, thumbnail
else:
    __getattr__ = attributes(
        "mien.reporting",
        {
            "groups": ("Album", "Name", "group_page", "person_sheet"),
            "html": ("write_text",),
            "pictures": ("animation", "annotate", "colour_of", "contact_sheet", "thumbnail"),
        },
    )
