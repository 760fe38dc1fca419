"""Made-up subjects: random unit vectors for faces, noise for crops."""

import numpy as np

from mien.types import Box, Embedding, Face, Quality, Reason, as_unit

MODEL = "net-1-00000000"
DIMENSION = 32


class People:
    """Subjects with a vector each, and samples of them at a given cosine."""

    def __init__(self, seed=0, dimension=DIMENSION, model=MODEL):
        self.rng = np.random.default_rng(seed)
        self.dimension, self.model = dimension, model
        self.vectors = {}

    def vector(self, name):
        if name not in self.vectors:
            self.vectors[name] = as_unit(self.rng.standard_normal(self.dimension))
        return self.vectors[name]

    def like(self, vector, cosine):
        """A unit vector at exactly this cosine, in a random direction."""
        away = self.rng.standard_normal(self.dimension)
        away -= (away @ vector) * vector
        return as_unit(cosine * vector + np.sqrt(1 - cosine**2) * as_unit(away))

    def embedding(self, name, cosine=1.0):
        vector = self.vector(name)
        return Embedding(self.model, vector.copy() if cosine == 1.0 else self.like(vector, cosine))

    def pixels(self):
        """Noise of a random strength, so that no two crops compress alike."""
        return self.rng.integers(0, self.rng.integers(40, 256), (24, 24, 3), dtype=np.uint8)

    def face(self, name, cosine=0.9, quality=0.8, reasons=(), crop=True):
        box = Box(*np.array([10.0, 20.0, 60.0, 80.0]) + self.rng.integers(0, 9))
        pixels = self.pixels() if crop else None
        return Face(
            box=box,
            landmarks=np.zeros((5, 2), np.float32),
            score=0.9,
            quality=None if quality is None else Quality(quality, tuple(Reason(code) for code in reasons)),
            embedding=self.embedding(name, cosine),
            crop=pixels,
        )


def enrol(gallery, people, name, count=1, **face):
    """Enrol new pictures of one subject; return the sample ids."""
    return [
        gallery.enrol(name, people.face(name, **face), source_hash=people.rng.bytes(32).hex()).sample_id
        for _ in range(count)
    ]
