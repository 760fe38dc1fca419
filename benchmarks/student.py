"""What a student of SFace is worth alone, and added to its teacher: which share is taken, on people held out from it.

    MIEN_DATA=... python benchmarks/student.py RUN [RUN ...] [--share 0.25 --share 0.5 ...]

RUN is of `mien train embedder --arch dlib-trunk` on the list of `embedder_faces.py`; its `config.json` names data and
cache. Its own held-out people: `valid` chooses, `test` has had no say. FNMR at FMR 1e-2 and 1e-3, all faces as they
are, and with every other one spoilt as in training. For the students and what was chosen, intervals of the difference
from SFace on `test`, resampling people.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, write_result

from mien import zoo
from mien.metrics.verification import tar_at_fmr
from mien.training.config import load_config
from mien.training.distillation import DistillationConfig, load_material
from mien.training.verification import comparisons, judge
from mien.types import as_unit
from mien.vision.embedder import Embedder

RATES = (1e-2, 1e-3)
PLACES = ("as they are", "every other spoilt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--share", action="append", type=float)
    options = parser.parse_args()
    shares = options.share or [0.25, 0.5, 0.75, 1.0]
    config = load_config(DistillationConfig, options.runs[0] / "config.json")
    teacher = Embedder(zoo.named(config.teacher), threads=1)
    material = load_material(replace(config, out=options.runs[0]), teacher.card)
    students = {run.name: Embedder(zoo.named(run), threads=1) for run in options.runs}
    result: dict[str, Any] = {"machine": machine(), "teacher": teacher.card.id, "seed": config.seed}
    for split in ("valid", "test"):
        faces = np.flatnonzero(material.splits == split)
        subjects = material.subjects[faces]
        pictures = material.crops.faces[material.found[faces]], material.spoilt_faces(faces[1::2])
        own = seen(teacher, *pictures)
        rows = {"sface": own}
        for name, student in students.items():
            rows[name] = seen(student, *pictures)
            rows |= {
                f"sface + {share:g} {name}": tuple(as_unit(a + share * b) for a, b in zip(own, rows[name], strict=True))
                for share in shares
            }
        result[split] = {"subjects": len(set(subjects.tolist())), "faces": len(faces), "fnmr": {}}
        for name, vectors in rows.items():
            result[split]["fnmr"][name] = row = measured(vectors, subjects)
            print(split, f"{name:<30}", {key: round(100 * value, 2) for key, value in row.items()}, flush=True)
        if split == "valid":
            known = result[split]["fnmr"]
            result["chosen"] = chosen = min(known, key=lambda name: float(np.mean(list(known[name].values()))))
        else:
            result["tar_less_that_of_sface"] = {
                name: differences(own, rows[name], subjects) for name in {chosen, *students} - {"sface"}
            }
    write_result("student", result)


def seen(embedder: Embedder, faces: np.ndarray, spoilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of all faces as they are, and with every other one spoilt."""
    clean = embedder.describe(faces)
    mixed = clean.copy()
    mixed[1::2] = embedder.describe(spoilt)
    return clean, mixed


def measured(vectors: tuple[np.ndarray, ...], subjects: np.ndarray) -> dict[str, float]:
    pairs = comparisons(subjects)
    return {
        f"{name}, {rate:g}": 1 - tar_at_fmr(*pairs.scores(own), fmr=rate)
        for name, own in zip(PLACES, vectors, strict=True)
        for rate in RATES
    }


def differences(
    teacher: tuple[np.ndarray, ...], vectors: tuple[np.ndarray, ...], subjects: np.ndarray
) -> dict[str, Any]:
    found = {}
    for name, base, own in zip(PLACES, teacher, vectors, strict=True):
        verdict = judge(base, own, subjects, built_on="sface")
        found[name] = {
            key: {"value": figure.value, "interval": list(figure.interval)}
            for key, figure in verdict.difference.items()
        }
    return found


if __name__ == "__main__":
    main()
