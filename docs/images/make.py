"""Make hero.png, the picture of the README, from drawn people: no picture of a real person is in this repository.

Everything on it is what the analyzer and a gallery answered while it was made:

    python docs/images/make.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien import Analyzer, Face, Gallery
from mien.demo import ENROLLED, STRANGERS, degradations
from mien.drawing import draw_face, draw_scene
from mien.images import digest
from mien.matching import operating_point
from mien.reporting import annotate

WIDTH, GAP, RADIUS = 1200, 14, 14
HERO, CROWD = 392, 236
SHOWN = ("face of 20 px", "out of focus", "a tenth of the light", "noise", "JPEG, quality 5", "leaning by 32°")
SHOWN += ("mouth covered", "eyes covered")
SITTER = "drawn one"
GROUND, INK, FAINT, YES, NO = (15, 23, 42), (241, 245, 249), (148, 163, 184), (45, 212, 191), (251, 113, 133)


def main() -> None:
    """Enrol, degrade, identify, draw."""
    analyzer = Analyzer()
    point = operating_point(analyzer.card, 1e-3)
    portrait = draw_face(ENROLLED[SITTER], side=512, expression="happiness").image
    with tempfile.TemporaryDirectory() as folder, Gallery(Path(folder) / "g.mien", model=analyzer.card.id) as gallery:
        (face,) = analyzer.analyze(portrait)
        gallery.enrol(SITTER, face, source_hash=digest(portrait))
        for name, subject in ENROLLED.items():
            drawn = draw_face(subject, side=320).image
            gallery.enrol(name, analyzer.analyze(drawn)[0], source_hash=digest(drawn))

        def named(found: Face) -> tuple[str, float, bool]:
            assert found.embedding is not None, "analyze embeds"
            best = gallery.search(found.embedding, 1)[0]
            return best.subject, best.score, best.score >= point.threshold

        sheet = Image.new("RGB", (WIDTH, 2 * GAP + HERO + GAP + CROWD), GROUND)
        pen = ImageDraw.Draw(sheet)

        big = np.asarray(Image.fromarray(portrait).resize((HERO, HERO), Image.Resampling.LANCZOS))
        paste(sheet, annotate(big, analyzer.analyze(big), [f"{SITTER}, enrolled"]), GAP, GAP)

        # The same picture, spoilt in eight ways.
        side = int(face.box.side * 2.5)
        x = max(int((face.box.left + face.box.right - side) / 2), 0)
        y = max(int((face.box.top + face.box.bottom - side) / 2), 0)
        close, marks = portrait[y : y + side, x : x + side].copy(), face.landmarks - np.array([x, y], np.float32)
        ways = degradations(face.box.side, marks)
        wide, high = (WIDTH - HERO - 2 * GAP) // 4 - GAP, (HERO - GAP) // 2
        picture = high - 26
        for i, title in enumerate(SHOWN):
            probe = ways[title](close)
            name, score, match = named(analyzer.analyze(probe)[0])
            assert name == SITTER, "the portrait is nearest to itself"
            left, row = 2 * GAP + HERO + (i % 4) * (wide + GAP), GAP + (i // 4) * (high + GAP)
            part = (0, 0, probe.shape[1], probe.shape[0] * picture / wide)
            small = Image.fromarray(probe).resize((wide, picture), Image.Resampling.BICUBIC, box=part)
            paste(sheet, np.asarray(small), left, row)
            below = row + picture + 14
            pen.text((left + 2, below), title, FAINT, font(13), anchor="lm")
            pen.text((left + wide - 2, below), f"{score:.2f}", YES if match else NO, font(14), anchor="rm")

        # A crowd, five of whom are known.
        cast = [*ENROLLED.values(), *STRANGERS.values()]
        crowd = draw_scene(cast, width=WIDTH - 2 * GAP, height=326, seed=5).image
        faces = analyzer.analyze(crowd)
        labels = [f"{name}  {score:.2f}" if match else "unknown" for name, score, match in map(named, faces)]
        names = list(ENROLLED)
        colours = [names.index(name) if match else 6 for name, _, match in map(named, faces)]
        paste(sheet, annotate(crowd, faces, labels, colours=colours)[-CROWD:], GAP, 2 * GAP + HERO)

    out = Path(__file__).with_name("hero.png")
    sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


def paste(sheet: Image.Image, image: np.ndarray, left: int, top: int) -> None:
    """Paste with round corners."""
    mask = Image.new("L", (image.shape[1] * 2, image.shape[0] * 2), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius=2 * RADIUS, fill=255)
    sheet.paste(Image.fromarray(image), (left, top), mask.resize((image.shape[1], image.shape[0])))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
