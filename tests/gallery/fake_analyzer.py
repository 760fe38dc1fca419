"""An analyzer for tests: a picture says in its pixels who is in it, and how well that is to be seen."""

import zlib

import numpy as np
from PIL import Image

from mien.errors import ImageError
from mien.images import digest, load_image
from mien.types import Box, Embedding, Face, OperatingPoint, Picture, Quality, Reason, as_unit
from mien.vision.cohort import with_cohort
from mien.zoo.catalogue import Card, Source

DIMENSION = 64


def point(fmr, threshold):
    return OperatingPoint(fmr, threshold, fmr, 0.02, (fmr / 2, fmr * 2), (0.01, 0.03), 100, 100_000, "made up")


def card(name="fake", template="arcface-112"):
    return Card(
        name, "embedder", "1", "A fake.", "none", "none", Source("file", f"{zlib.crc32(name.encode()):064x}"),
        convention={"template": template, "side": 112, "dimension": DIMENSION},
        operating_points=(point(1e-2, 0.5), point(1e-3, 0.6), point(1e-4, 0.7)),
        probability=(20.0, -10.0),
    )  # fmt: skip


def write_picture(path, *people, quality=0.9, seed=0):
    """Write a picture of people, known by numbers up to 250, largest first; `seed` tells pictures apart."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[0, : len(people), 0] = [person + 1 for person in people]
    pixels[0, : len(people), 1] = round(quality * 100)
    pixels[1, 0] = seed
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


class FakeAnalyzer:
    """Sees in pictures of `write_picture` who they say is there."""

    def __init__(self, of=None, cohort=None):
        self.card = (of or card()) if cohort is None else with_cohort(of or card(), cohort)
        self.cohort = cohort

    def for_gallery(self, gallery):
        return self if gallery.cohort is None else FakeAnalyzer(self.card, gallery.cohort)

    def vector(self, person, noise_seed):
        subject = np.random.default_rng([person, zlib.crc32(self.card.plain_id.encode())]).standard_normal(DIMENSION)
        noise = np.random.default_rng(noise_seed).standard_normal(DIMENSION)
        plain = as_unit(as_unit(subject) + 0.5 * as_unit(noise))
        return plain if self.cohort is None else self.cohort.normalise(plain[None])[0]

    def analyze(self, image, *, embed=True, crops=False):
        marks = image[0][image[0, :, 0] > 0]
        faces = []
        for place, (number, quality, _) in enumerate(marks.tolist()):
            size = 30 - 5 * place
            crop = np.full((112, 112, 3), number, np.uint8)
            crop[0, :, 1] = np.arange(112)
            crop[1, 0] = image[1, 0]
            faces.append(
                Face(
                    Box(place * 30, 10, place * 30 + size, 10 + size),
                    np.zeros((5, 2), np.float32),
                    0.9,
                    quality=Quality(quality / 100, (Reason.BLURRED,) if quality < 50 else ()),
                    embedding=Embedding(self.card.id, self.vector(number, [number, int(image[1, 0, 0])])),
                    crop=crop if crops else None,
                )
            )
        return tuple(faces)

    def pictures(self, paths, *, embed=True, crops=False, digests=False):
        for path in paths:
            try:
                image = load_image(path)
            except ImageError as error:
                yield Picture(str(path), error=str(error))
                continue
            faces = self.analyze(image, crops=crops)
            yield Picture(str(path), 80, 60, faces, digest=digest(image) if digests else None)

    @property
    def embedder(self):
        return self

    side = 112

    def embed_crops(self, crops):
        numbers = [(int(crop[56, 56, 0]), int(crop[1, 0, 0])) for crop in crops]
        return np.stack([self.vector(number, [number, seed]) for number, seed in numbers])
