"""Moving faces: sources of pictures, tracks, who they are and what they show, over time.

A picture goes through four threads: a reader decodes, vision finds and follows faces, a batcher embeds them and reads
their expressions, a writer hands out events and pictures. The names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.lazy import attributes

__all__ = [
    "Eyes",
    "Frame",
    "Naming",
    "Options",
    "Source",
    "Summary",
    "Watched",
    "open_source",
    "watch",
]

if TYPE_CHECKING:
    from mien.video.evidence import Naming
    from mien.video.eyes import Eyes
    from mien.video.frames import Frame
    from mien.video.options import Options
    from mien.video.pipeline import watch
    from mien.video.records import Summary, Watched
    from mien.video.sources import Source, open_source
else:
    __getattr__ = attributes(
        "mien.video",
        {
            "evidence": ("Naming",),
            "eyes": ("Eyes",),
            "frames": ("Frame",),
            "options": ("Options",),
            "pipeline": ("watch",),
            "records": ("Summary", "Watched"),
            "sources": ("Source", "open_source"),
        },
    )
