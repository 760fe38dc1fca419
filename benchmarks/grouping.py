"""Compare ways to sort faces by person, and time 10,000 faces.

Every method has one dial. It is set on half A of the CelebA subset's identities (most of them with one or two
pictures) and the figures are those of half B, and of ORL: 40 people with ten pictures each, another camera. Needs
scikit-learn beside mien.

    MIEN_DATA=... [MIEN_VECTORS=...] python benchmarks/grouping.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, write_result
from operating_points import owners
from people import embedded

import mien.zoo
from mien.grouping import cluster, group_faces
from mien.matching import operating_point
from mien.metrics.clustering import bcubed, pairwise
from mien.vision.cohort import cohort_of
from mien.vision.conventions import EmbedderConvention

Method = Callable[[np.ndarray, float], np.ndarray]


def linkage(kind: str) -> Method:
    def run(vectors: np.ndarray, dial: float) -> np.ndarray:
        from scipy.cluster.hierarchy import fcluster
        from scipy.cluster.hierarchy import linkage as tree

        return fcluster(tree(vectors.astype(np.float64), kind, metric="cosine"), 1 - dial, "distance")

    return run


def dbscan(vectors: np.ndarray, dial: float) -> np.ndarray:
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=1 - dial, min_samples=2, metric="cosine").fit_predict(vectors)


def hdbscan(selection: str) -> Method:
    def run(vectors: np.ndarray, dial: float) -> np.ndarray:
        from sklearn.cluster import HDBSCAN

        # Density has no use for a threshold; its dial is how many neighbours make a face's surroundings dense. Of
        # unit vectors Euclidean distance ranks as cosine does, and is what the fast path takes.
        found = HDBSCAN(min_cluster_size=2, min_samples=int(dial), cluster_selection_method=selection, copy=True)
        return found.fit_predict(vectors)

    return run


def chinese_whispers(vectors: np.ndarray, dial: float, rounds: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    first, second = np.nonzero(vectors @ vectors.T >= dial)
    keep = first != second
    first, second = first[keep], second[keep]
    weights = np.einsum("ij,ij->i", vectors[first], vectors[second]) - dial + 1e-6
    starts = np.searchsorted(first, np.arange(len(vectors) + 1))
    labels = np.arange(len(vectors))
    for _ in range(rounds):
        changed = False
        for i in rng.permutation(len(vectors)):
            around = slice(starts[i], starts[i + 1])
            if around.start == around.stop:
                continue
            names, where = np.unique(labels[second[around]], return_inverse=True)
            best = names[np.argmax(np.bincount(where, weights[around]))]
            changed |= bool(best != labels[i])
            labels[i] = best
        if not changed:
            break
    return labels


METHODS: dict[str, Method] = {
    "average linkage (mien)": lambda vectors, dial: cluster(vectors, threshold=dial),
    "complete linkage (scipy)": linkage("complete"),
    "single linkage (scipy)": linkage("single"),
    "DBSCAN (scikit-learn)": dbscan,
    "HDBSCAN, leaves (scikit-learn)": hdbscan("leaf"),
    "HDBSCAN, excess of mass (scikit-learn)": hdbscan("eom"),
    "Chinese whispers": chinese_whispers,
}


def scores(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    b, p = bcubed(truth, found), pairwise(truth, found)
    return {
        "bcubed_f": round(b.f1, 4),
        "bcubed_precision": round(b.precision, 4),
        "bcubed_recall": round(b.recall, 4),
        "pairwise_f": round(p.f1, 4),
        "clusters": len(np.unique(found[found >= 0])) + int((found < 0).sum()),
    }


def shots(identity: np.ndarray, least: int) -> np.ndarray:
    """Return True for the faces of people with at least so many pictures."""
    _, where, counts = np.unique(identity, return_inverse=True, return_counts=True)
    return counts[where] >= least


def vectors_of(card: mien.zoo.Card) -> dict[str, np.ndarray]:
    """Return the embeddings as they are compared, and whose they are."""
    cohort = cohort_of(EmbedderConvention.of(card))
    celeba, orl = embedded("celeba10k", card.name), embedded("orl", card.name)
    owner, half_b = owners(celeba.files)
    as_compared = cohort.normalise if cohort else (lambda vectors: vectors)
    return {
        "celeba": as_compared(celeba.vectors[celeba.found]),
        "celeba_identity": owner[celeba.found],
        "celeba_half_a": ~half_b[celeba.found],
        "orl": as_compared(orl.vectors[orl.found]),
        "orl_identity": np.array([int(Path(file).parent.name[1:]) for file in orl.files])[orl.found],
    }


def main() -> None:
    card = mien.zoo.card(mien.zoo.default("embedder"))
    data = vectors_of(card)
    vectors, identity = data["celeba"], data["celeba_identity"]
    half = data["celeba_half_a"]
    several = shots(identity, 3)
    sets = {
        "half B": (vectors[~half], identity[~half]),
        "half B, people with 3 pictures or more": (vectors[~half & several], identity[~half & several]),
        "ORL": (data["orl"], data["orl_identity"]),
    }
    rates = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    thresholds = {rate: operating_point(card, rate).threshold for rate in rates}
    low, high = thresholds[1e-2] - 0.02, thresholds[1e-4] + 0.02
    result: dict[str, object] = {
        "machine": machine(),
        "embedder": card.id,
        "faces": len(vectors),
        "methods": {},
    }

    for name, method in METHODS.items():
        dials = (1, 2, 3) if name.startswith("HDBSCAN") else np.linspace(low, high, 19)
        trials = {float(d): bcubed(identity[half], method(vectors[half], d)).f1 for d in dials}
        dial = max(trials, key=lambda d: trials[d])
        row: dict[str, object] = {"dial": round(dial, 4), "half A bcubed_f": round(trials[dial], 4)}
        for label, (v, truth) in sets.items():
            start = time.perf_counter()
            labels = method(v, dial)
            row[label] = {**scores(truth, labels), "seconds": round(time.perf_counter() - start, 3)}
        result["methods"][name] = row
        print(name, row)

    # The dial of the command is a rate; which one?
    result["by_rate"] = {}
    for rate, threshold in thresholds.items():
        row = {"threshold": round(threshold, 4)}
        row["half A"] = scores(identity[half], cluster(vectors[half], threshold=threshold))["bcubed_f"]
        for label, (v, truth) in sets.items():
            row[label] = scores(truth, cluster(v, threshold=threshold))["bcubed_f"]
        result["by_rate"][f"{rate:g}"] = row
        print(rate, row)

    threshold = thresholds[1e-4]
    # Time: as many faces as there are, once more with noisy copies up to 10,000 and 30,000.
    result["time"] = []
    rng = np.random.default_rng(0)
    for count in (len(vectors), 10_000, 30_000):
        extra = rng.integers(0, len(vectors), max(count - len(vectors), 0))
        noisy = vectors[extra] + 0.02 * rng.standard_normal((len(extra), vectors.shape[1])).astype(np.float32)
        many = np.concatenate([vectors[:count], noisy / np.maximum(np.linalg.norm(noisy, axis=1, keepdims=True), 1e-9)])
        for label, t in (("1e-4", threshold), ("1e-2", thresholds[1e-2])):
            start = time.perf_counter()
            grouping = group_faces(many.astype(np.float32), list(range(count)), threshold=t)
            seconds = time.perf_counter() - start
            result["time"].append(
                {"faces": count, "fmr": label, "people": len(grouping.people), "seconds": round(seconds, 2)}
            )
            print(result["time"][-1])
    write_result("grouping", result)


if __name__ == "__main__":
    main()
