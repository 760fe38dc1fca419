"""Draw the pictures that the page offers to those who have none at hand: people who do not exist.

python docs/images/examples.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from mien.demo import ENROLLED, STRANGERS
from mien.drawing import draw_face, draw_scene

FOLDER = Path(__file__).parents[2] / "src/mien/service/static/examples"
# Chosen so that each is found again among the others, and nobody else is taken for one of them.
PORTRAITS = {
    "one": ("drawn two", "happiness", 0),
    "two": ("drawn one", "neutral", 1),
    "three": ("drawn five", "surprise", 0),
}


def main() -> None:
    """Write three portraits, and a picture of all three among others, one of whom nobody knows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (who, expression, seed) in PORTRAITS.items():
        drawn = draw_face(ENROLLED[who], side=360, expression=expression, seed=seed).image
        Image.fromarray(drawn).save(FOLDER / f"{name}.webp", quality=74, method=6)
    cast = [*ENROLLED.values(), *STRANGERS.values()]
    Image.fromarray(draw_scene(cast, width=800, height=480, seed=2).image).save(
        FOLDER / "crowd.webp", quality=72, method=6
    )


if __name__ == "__main__":
    main()
