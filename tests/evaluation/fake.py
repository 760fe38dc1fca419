"""An analyzer that reads what it should see from the file: `face SUBJECT SEED`, `empty` or anything else."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mien.alignment import TEMPLATES, align
from mien.types import Box, Embedding, Face, OperatingPoint, Picture, as_unit
from mien.zoo import Card, Source

DIMENSION = 64


def shipped(threshold, target_fmr):
    return OperatingPoint(target_fmr, threshold, target_fmr, 0.1, (0.0, 1.0), (0.0, 1.0), 10, 10, "drawn")


CARD = Card(
    name="fake",
    role="embedder",
    version="1",
    summary="Reads the subject from the file.",
    licence="Apache-2.0",
    training_data="",
    source=Source(kind="file", sha256="0" * 64),
    convention={"template": "dlib-150", "side": 150},
    operating_points=(shipped(0.3, 1e-1), shipped(0.5, 1e-2)),
    probability=(20.0, -8.0),
)


class FakeAnalyzer:
    """Embeds a subject as a fixed direction with some noise, so that genuine scores are near 1 / (1 + noise^2)."""

    def __init__(self, noise=0.5):
        self.embedder = SimpleNamespace(card=CARD, crop=self._crop)
        self.detector = "drawn"
        self.noise = noise
        self.seen = []

    def pictures(self, paths, *, embed=True, digests=False):
        for path in paths:
            self.seen.append(Path(path).name)
            yield self.picture(Path(path))

    def picture(self, path):
        kind, *rest = path.read_text().split()
        if kind == "empty":
            return Picture(str(path), 100, 100)
        if kind != "face":
            return Picture(str(path), error=f"{path.name} is no picture.")
        subject, seed = map(int, rest)
        vector = as_unit(self._direction(subject) + self.noise * self._direction(1000 + seed))
        landmarks = np.array([[40, 40], [60, 40], [50, 50], [42, 65], [58, 65]], dtype=np.float32)
        face = Face(Box(20, 20, 80, 90), landmarks, 0.9, embedding=Embedding(CARD.id, vector))
        return Picture(str(path), 100, 100, (face,), digest=f"{subject}-{seed}")

    def embed_crops(self, crops):
        """Embed by the colour of the centre."""
        assert crops.shape[1:] == (150, 150, 3)
        return as_unit(crops[:, 70:80, 70:80].mean(axis=(1, 2)) - 127)

    @staticmethod
    def _crop(image, landmarks):
        side, points = TEMPLATES["dlib-150"]
        return align(image, landmarks, points=np.array(points), side=side)

    @staticmethod
    def _direction(seed):
        return as_unit(np.random.default_rng(seed).normal(size=DIMENSION))


def write_faces(root, subjects, pictures, *, first=0, suffix=".jpg", start=1):
    """Write `subject_k/subject_k_0001.jpg`, ... in LFW's manner; return the subjects' names."""
    names = [f"subject_{k}" for k in range(first, first + subjects)]
    for k, name in enumerate(names, start=first):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + pictures):
            (root / name / f"{name}_{number:04d}{suffix}").write_text(f"face {k} {100 * k + number}")
    return names


def write_lfw(root, *, folds=10, per_kind=6, subjects=30):
    """Write faces and a `pairs.txt` over them; return the list's path."""
    names = write_faces(root, subjects, 2)
    lines = [f"{folds}\t{per_kind}"]
    for fold in range(folds):
        for k in range(per_kind):
            lines.append(f"{names[(fold * per_kind + k) % subjects]}\t1\t2")
        for k in range(per_kind):
            a, b = names[(fold * per_kind + k) % subjects], names[(fold * per_kind + 2 * k + fold + 1) % subjects]
            lines.append(f"{a}\t1\t{b if a != b else names[0]}\t2")
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root / "pairs.txt"
