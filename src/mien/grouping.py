"""Sort faces by person: average linkage, cut where the mean similarity of two groups falls below a threshold.

Average linkage asks for agreement of whole groups, not of one lucky pair, so a single look-alike does not chain two
people into one. It is computed exactly, in memory that grows with the faces and not with their square.

Sources: average linkage, R. Sokal and C. Michener, 1958; nearest-neighbour chains, J. Benzécri, 1982, and why they
are exact, F. Murtagh, The Computer Journal 26(4), 1983.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Int64

from mien.errors import UsageError
from mien.types import as_unit

__all__ = ["Grouping", "Person", "cluster", "group_faces"]

Vectors = Float32[np.ndarray, "faces dimension"]
_BLOCK = 512  # rows of the similarity matrix that exist at once


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """The faces of one person, as far as can be told.

    Attributes:
        id: From 1; who is seen most often comes first.
        faces: Numbers of the faces, most typical first.
        pictures: Numbers of the pictures, in order, each once.
        centre: Mean embedding, unit length.
        agreement: Mean similarity of the person's faces to ``centre``; 1 for a single face.
    """

    id: int
    faces: tuple[int, ...]
    pictures: tuple[int, ...]
    centre: Float32[np.ndarray, " dimension"]
    agreement: float


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Who is in which pictures.

    Attributes:
        people: Largest first; a person may have one face.
        unassigned: Numbers of the faces that were too poor to be told apart.
        together: Pictures that two people (ids, smaller first) share, most often first; pairs that never meet are
            left out.
    """

    people: tuple[Person, ...]
    unassigned: tuple[int, ...]
    together: tuple[tuple[int, int, int], ...]

    def person_of(self) -> dict[int, int]:
        """Return the person's id for each face that has one."""
        return {face: person.id for person in self.people for face in person.faces}

    def companions(self, person: int) -> list[tuple[int, int]]:
        """Return (id, shared pictures) of those whom a person is seen with, most often first."""
        return [(b if a == person else a, count) for a, b, count in self.together if person in (a, b)]


def group_faces(
    vectors: Vectors,
    pictures: Sequence[int],
    *,
    threshold: float,
    quality: Sequence[float] | None = None,
    min_quality: float = 0.0,
) -> Grouping:
    """Sort the faces of many pictures by person.

    Two faces of one picture may be one person: think of collages, mirrors and screens.

    Args:
        vectors: Unit embeddings of one model, shape (faces, dimension).
        pictures: The picture that each face is of, as a number that grows with time or file name.
        threshold: Least mean cosine similarity of two groups that are one person; see the model's operating points.
        quality: Of each face, in [0, 1].
        min_quality: Faces below it are left unassigned: they match anybody.

    Raises:
        UsageError: The arguments don't fit together.
    """
    if len(vectors) != len(pictures):
        raise UsageError(f"Expected one picture a face, got {len(pictures)} for {len(vectors)} faces.")
    if quality is not None and len(quality) != len(pictures):
        raise UsageError(f"Expected one quality a face, got {len(quality)} for {len(pictures)} faces.")
    vectors = _checked(vectors)
    fit = np.ones(len(pictures), bool) if quality is None else np.asarray(quality) >= min_quality
    chosen = np.flatnonzero(fit).tolist()
    labels = cluster(vectors[chosen], threshold=threshold)
    members: dict[int, list[int]] = defaultdict(list)
    for face, label in zip(chosen, labels.tolist(), strict=True):
        members[label].append(face)
    people = tuple(_person(label + 1, faces, vectors, pictures) for label, faces in sorted(members.items()))
    return Grouping(people, tuple(np.flatnonzero(~fit).tolist()), _together(people))


def cluster(vectors: Vectors, *, threshold: float) -> Int64[np.ndarray, " faces"]:
    """Cluster unit vectors by average linkage, cut at a mean cosine similarity.

    Args:
        vectors: Shape (faces, dimension), unit length.
        threshold: Two clusters merge while their mean similarity is at least this, the most similar pair first.

    Returns:
        A label for each face: 0 is the largest cluster; equal sizes in the order of their first faces.
    """
    vectors = _checked(vectors)
    labels = np.empty(len(vectors), np.int64)
    groups: list[list[int]] = []
    for members in _components(vectors, threshold):
        if len(members) == 1:
            groups.append([int(members[0])])
            continue
        for part in _average_linkage(vectors[members], threshold):
            groups.append(sorted(int(members[i]) for i in part))
    for label, part in enumerate(sorted(groups, key=lambda g: (-len(g), g[0]))):
        labels[part] = label
    return labels


def _checked(vectors: Vectors) -> Vectors:
    """Return vectors as float32, and refuse what is no unit vector: their products would be no similarities."""
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2:
        raise UsageError(f"Expected an array of shape (faces, dimension), got {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise UsageError("Embeddings are made of finite numbers, got NaN or infinity. Leave these faces out.")
    lengths = np.linalg.norm(vectors, axis=1)
    if len(lengths) and np.abs(lengths - 1).max() > 1e-3:
        raise UsageError(
            f"Embeddings are of unit length, got lengths from {lengths.min():.3g} to {lengths.max():.3g}. "
            "Scale them with mien.types.as_unit."
        )
    return vectors


def _components(vectors: Vectors, threshold: float) -> list[Int64[np.ndarray, " members"]]:
    """Split faces so that similarities across the parts are all below the threshold.

    A mean is at most the largest of its terms, so no cluster of average linkage ever spans two parts.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels = np.arange(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # Rounding must not cut a link that the linkage would still make.
        first, second = np.nonzero(vectors[rows] @ vectors[start:].T >= threshold - 1e-5)
        a, b = labels[first + start], labels[second + start]
        graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(vectors), len(vectors)))
        labels = connected_components(graph, directed=False)[1][labels]
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _average_linkage(vectors: Vectors, threshold: float) -> list[list[int]]:
    """Merge by nearest-neighbour chains; return the members of each cluster.

    The mean similarity of two clusters of unit vectors is the product of their means, so clusters need no
    similarity matrix, only their sums: SciPy's linkage holds 8 bytes a pair, twice, which is 7 GB for 30,000 faces.
    A cluster that nobody is similar to is final and leaves the table: what others merge into can only be less
    similar to it.
    """
    table = _Table(vectors.copy())
    done: list[list[int]] = []
    chain: list[int] = []
    first = 0
    while True:
        if not chain:
            while first < len(table.alive) and not table.alive[first]:
                first += 1
            if first == len(table.alive):
                return done
            chain = [first]
        tip = chain[-1]
        similarity = table.similarity(tip)
        nearest = int(np.argmax(similarity))
        # On a tie the chain must close, or it would run in circles.
        if len(chain) > 1 and similarity[chain[-2]] >= similarity[nearest] - 1e-6:
            nearest = chain[-2]
        if similarity[nearest] < threshold:
            done.append(table.members[tip])
            table.drop(tip)
            chain.pop()
        elif len(chain) > 1 and nearest == chain[-2]:
            del chain[-2:]
            table.merge(nearest, tip)
        else:
            chain.append(nearest)
            continue
        if table.sparse:
            moved = table.compact()
            chain, first = [int(moved[i]) for i in chain], 0


class _Table:
    """The clusters that may still merge: the sum of each one's vectors, its size and its members."""

    def __init__(self, sums: Vectors) -> None:
        self.sums = sums
        self.sizes = np.ones(len(sums), np.float32)
        self.alive = np.ones(len(sums), bool)
        self.members = [[i] for i in range(len(sums))]
        self.num_dead = 0

    def similarity(self, place: int) -> Float32[np.ndarray, " clusters"]:
        """Return the mean similarity of one cluster to each; minus infinity where there is none to merge with."""
        values = self.sums @ (self.sums[place] / self.sizes[place]) / self.sizes
        values[~self.alive] = -np.inf
        values[place] = -np.inf
        return np.asarray(values, np.float32)

    def merge(self, into: int, place: int) -> None:
        self.sums[into] += self.sums[place]
        self.sizes[into] += self.sizes[place]
        self.members[into] += self.members[place]
        self.drop(place)

    def drop(self, place: int) -> None:
        self.alive[place] = False
        self.num_dead += 1

    @property
    def sparse(self) -> bool:
        """Whether more than half of the rows are dead weight."""
        return self.num_dead > 64 and 2 * self.num_dead > len(self.alive)

    def compact(self) -> Int64[np.ndarray, " clusters"]:
        """Squeeze the dead rows out; return the new place of each old one."""
        keep = np.flatnonzero(self.alive)
        moved = np.full(len(self.alive), -1)
        moved[keep] = np.arange(len(keep))
        self.sums, self.sizes, self.alive = self.sums[keep], self.sizes[keep], self.alive[keep]
        self.members = [self.members[i] for i in keep]
        self.num_dead = 0
        return moved


def _person(number: int, faces: list[int], vectors: Vectors, pictures: Sequence[int]) -> Person:
    centre = as_unit(vectors[faces].sum(axis=0))
    typical = vectors[faces] @ centre
    order = np.argsort(-typical, kind="stable")
    where = tuple(sorted({pictures[face] for face in faces}))
    return Person(number, tuple(faces[i] for i in order), where, centre, float(typical.mean()))


def _together(people: Sequence[Person]) -> tuple[tuple[int, int, int], ...]:
    present: dict[int, list[int]] = defaultdict(list)
    for person in people:
        for picture in person.pictures:
            present[picture].append(person.id)
    counts = Counter(pair for ids in present.values() for pair in combinations(sorted(ids), 2))
    return tuple((a, b, n) for (a, b), n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
