"""Embeddings of the data sets' main faces, kept between benchmarks, and who is on UTKFace's and London's pictures.

Set MIEN_VECTORS to a folder: what was embedded once is read from there. What is kept are the vectors of the network
alone, before any cohort.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import data_folder

from mien.analyzer import Analyzer, central_face, main_face

EMBEDDERS = ("sface-resnet27", "sface", "face-resnet27", "dlib-resnet29")
ORIGINS = ("white", "black", "asian", "indian", "other")
CHILD, ADULT = 10, 18  # years: at most, at least


@dataclass(frozen=True)
class Faces:
    """One embedding a picture, NaN where no face was found."""

    files: tuple[str, ...]
    vectors: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Return where a face was found."""
        return ~np.isnan(self.vectors[:, 0])


def pictures(dataset: str) -> list[Path]:
    """Return a data set's pictures in order of their names."""
    folder = data_folder() / dataset
    kinds = {".jpg", ".png", ".webp", ".pgm"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds)


def embedded(dataset: str, embedder: str) -> Faces:
    """Return the embeddings of a data set's main faces (LFW: the central ones), as the network alone gives them."""
    folder = data_folder() / dataset
    paths = pictures(dataset)
    files = tuple(str(path.relative_to(folder)) for path in paths)
    kept = Path(os.environ["MIEN_VECTORS"]) / f"{dataset}-{embedder}.npz" if "MIEN_VECTORS" in os.environ else None
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            if tuple(stored["files"]) == files:
                return Faces(files, stored["vectors"])
    analyzer = Analyzer(embedder=embedder, expression=None)
    meant = central_face if dataset == "lfw_pairs" else main_face
    rows: list[np.ndarray | None] = []
    for start in range(0, len(paths), 64):
        crops = []
        for picture in analyzer.pictures(paths[start : start + 64], embed=False, crops=True):
            face = meant(picture.faces, picture.width, picture.height)
            rows.append(None)
            if face is not None:
                crops.append((len(rows) - 1, face.crop))
        for i in range(0, len(crops), 8):
            part = crops[i : i + 8]
            for (row, _), vector in zip(part, analyzer.embedder.describe(np.stack([c for _, c in part])), strict=True):
                rows[row] = vector
    dimension = next(len(row) for row in rows if row is not None)
    vectors = np.stack([np.full(dimension, np.nan, np.float32) if row is None else row for row in rows])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, files=np.array(files), vectors=vectors)
    return Faces(files, vectors)


@dataclass(frozen=True)
class UTKFace:
    """What the file names of UTKFace say: age in years, sex, origin; -1 or an empty string where they don't."""

    age: np.ndarray
    sex: np.ndarray
    origin: np.ndarray
    in_cohort: np.ndarray  # the half that cohorts are made of; the other half measures

    def groups(self) -> dict[str, np.ndarray]:
        """Return the pictures of adults by origin and sex, and those of children."""
        adult = self.age >= ADULT
        found = {
            f"{origin} {sex}": adult & (self.origin == origin) & (self.sex == sex)
            for origin in ORIGINS
            for sex in ("female", "male")
        }
        return found | {f"children up to {CHILD}": (self.age >= 0) & (self.age <= CHILD)}


def utkface(files: tuple[str, ...]) -> UTKFace:
    """Read the names `age_sex_origin_date`; the halves are a seeded draw."""
    ages, sexes, origins = [], [], []
    for file in files:
        age, sex, origin, *_ = [*Path(file).name.split("_"), "", "", ""]
        ages.append(int(age) if age.isdigit() else -1)
        sexes.append({"0": "male", "1": "female"}.get(sex, ""))
        origins.append(ORIGINS[int(origin)] if origin in set("01234") else "")
    half = np.random.default_rng(1).permutation(len(files)) < len(files) // 2
    return UTKFace(np.array(ages), np.array(sexes), np.array(origins), half)


def london(files: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return subject and group (ethnicity and sex) of each picture of the Face Research Lab London Set."""
    with (data_folder() / "london_dev" / "labels.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    known = [rows[file.removeprefix("img/")] for file in files]
    subjects = np.array([row["subject"] for row in known])
    return subjects, np.array([f"{row['face_eth']} {row['face_gender']}" for row in known])


def same_people(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return a number for each face, the same where two independent networks both take two pictures for one person.

    UTKFace repeats some pictures, under other ages even. Both must be sure: the best impostors of either stay.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = [], []
    for start in range(0, len(vectors), 1000):
        part = slice(start, start + 1000)
        near = (vectors[part] @ vectors.T >= SURE[0]) & (others[part] @ others.T >= SURE[1])
        i, j = np.nonzero(near)
        first.append(i + start)
        second.append(j)
    pairs = np.concatenate(first), np.concatenate(second)
    size = len(vectors)
    return connected_components(coo_matrix((np.ones(len(pairs[0])), pairs), (size, size)), directed=False)[1]


SURE = (0.7, 0.96)
"""Cosine of SFace's and of dlib's network above which two pictures of UTKFace count as one person: of the 12.3 million
pairs of strangers in half B of CelebA two lie there."""
