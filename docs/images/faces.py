"""Make anonymized.png, restored.webp, filled.png and edited.webp of drawn and generated people.

They are for privacy.md, restoration.md and generation.md.

python docs/images/faces.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mien import Analyzer
from mien.alignment import TEMPLATES
from mien.anonymizer import Anonymizer
from mien.data.degradation import add_noise, compress
from mien.drawing import draw_face
from mien.images import save_image
from mien.reporting.pictures import contact_sheet
from mien.vision.generator import Generator
from mien.vision.restorer import Restorer, cover_from_landmarks
from mien.zoo import default

COLUMNS, SIDE, LARGE, ROOM = 8, 136, 160, 40
EXPRESSIONS = ("neutral", "happiness", "surprise", "neutral")
EDITS = ("happiness", "surprise", "sadness", "anger", "fear", "disgust")
ROWS = 3
MASK = (60, 140, 180)
HERE = Path(__file__).parent


def generated(generator: Generator, count: int, *, seed: int) -> list[np.ndarray]:
    """Return generated faces with room around them."""
    faces = generator.generate(count, seed=seed, truncation=0.7)
    large = [cv2.resize(face, (LARGE, LARGE), interpolation=cv2.INTER_CUBIC) for face in faces]
    return [
        np.asarray(cv2.copyMakeBorder(face, ROOM, ROOM, ROOM, ROOM, cv2.BORDER_REPLICATE), np.uint8) for face in large
    ]


def anonymized(generator: Generator) -> np.ndarray:
    """Return people above what was made of them."""
    analyzer = Analyzer()
    drawn = [draw_face(18 + 10 * k, side=320, expression=name).image for k, name in enumerate(EXPRESSIONS)]
    found = [face for face in generated(generator, 24, seed=11) if len(analyzer.analyze(face, embed=False)) == 1]
    people = [*drawn, *found[: COLUMNS - len(drawn)]]
    worker = Anonymizer(analyzer, generator, secret=b"the picture of the page")
    done = [worker.anonymize(picture, name=str(number)) for number, picture in enumerate(people)]
    shown = [*people, *(picture.image for picture in done)]
    # The room around a generated face is its border repeated.
    shown = [picture if len(picture) > LARGE + 2 * ROOM else picture[34:-34, 34:-34] for picture in shown]
    return contact_sheet(shown, columns=COLUMNS, side=SIDE)


def restored(generator: Generator) -> np.ndarray:
    """Return noisy and covered faces, what non-local means and what the network makes of them, and as they were."""
    ways = [Restorer(method="denoise"), Restorer(gate=0)]
    rng, rows = np.random.default_rng(0), [list[np.ndarray]() for _ in range(4)]
    side = ways[1].side
    for number, face in enumerate(generated(generator, COLUMNS, seed=7)):
        crop = ways[1].crop(face, TEMPLATES["face-64"].points_at(LARGE) + ROOM)
        spoilt = crop.copy()
        if number >= COLUMNS - 2:
            spoilt[side // 2 : side // 2 + 26, 30 + 20 * (number % 2) : 66 + 20 * (number % 2)] = MASK
        spoilt = add_noise(spoilt, (40, 40, 25, 25, 25, 25, 0, 10)[number], rng)
        spoilt = compress(spoilt, 20) if number in (3, 5) else spoilt
        for row, shown in zip(
            rows, (spoilt, ways[0].restore(spoilt).after, ways[1].restore(spoilt).after, crop), strict=True
        ):
            row.append(shown if len(shown) == side else cv2.resize(shown, (side, side)))
    return contact_sheet([face[9:-9, 9:-9] for row in rows for face in row], columns=COLUMNS, side=SIDE)


def filled(generator: Generator) -> np.ndarray:
    """Return covered faces, filled in from the border, and by the generator."""
    ways = [Restorer(method="telea"), Restorer(method="vae")]
    rows: list[list[np.ndarray]] = [[], [], []]
    for face in generated(generator, COLUMNS, seed=5):
        crop = ways[0].crop(face, TEMPLATES["face-64"].points_at(LARGE) + ROOM)
        covered = cover_from_landmarks(ways[0].points, len(crop), "mouth")
        crop = np.where(covered[..., None], np.array(MASK), crop).astype(np.uint8)
        rows[0].append(crop)
        for row, way in zip(rows[1:], ways, strict=True):
            row.append(way.restore(crop, covered=covered).after)
    return contact_sheet([face[8:-8, 8:-8] for row in rows for face in row], columns=COLUMNS, side=SIDE)


def edited(generator: Generator) -> np.ndarray:
    """Return generated people, and what edits make of them."""
    people = generated(generator, ROWS, seed=12)
    shown = []
    for person in people:
        done = [generator.edit(person, expression=name).picture for name in EDITS]
        shown += [picture[34:-34, 34:-34] for picture in (person, *done)]
    words = ["as it was", *EDITS]
    return contact_sheet(shown, columns=len(words), side=SIDE, captions=words * ROWS)


def main() -> None:
    """Draw, change, lay out."""
    generator = Generator(default("generator"))
    save_image(HERE / "restored.webp", restored(generator))
    save_image(HERE / "filled.png", filled(generator))
    save_image(HERE / "anonymized.png", anonymized(generator))
    save_image(HERE / "edited.webp", edited(generator))


if __name__ == "__main__":
    main()
