"""What the examples look at when they are given nothing else: drawn people, in files."""

from pathlib import Path

from mien.drawing import draw_face, draw_scene
from mien.images import save_image

CAST = {"amber": 1115, "basil": 175, "cedar": 531, "dune": 568, "elm": 1038}
"""Drawn subjects whom the default embedder tells apart. Many look alike to it: it learned from photographs."""


def people(folder: Path, subjects: dict[str, int] | None = None, samples: int = 3) -> Path:
    """Draw a folder a subject, a few pictures each, turned this way and that."""
    for name, subject in (subjects or CAST).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(samples):
            drawn = draw_face(subject, side=240, seed=i, yaw=8.0 * (i - 1))
            save_image(folder / name / f"{i}.jpg", drawn.image)
    return folder


def photos(folder: Path) -> Path:
    """Draw some photographs with several people; one of them, number 887, is nobody of the cast."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, group in enumerate(
        [[1115, 175, 531], [1115, 175], [531, 568, 1038], [887, 1115], [175, 531, 1038], [568, 1038]]
    ):
        save_image(folder / f"{i}.jpg", draw_scene(group, width=1000, height=560, seed=i).image)
    return folder
