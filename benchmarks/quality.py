"""Fit the quality score on degraded faces of half A of the CelebA identities, and judge it on half B and on LFW.

Each face is degraded at random (size, blur, darkness, glare, contrast, noise, JPEG) or left alone, and compared with an
untouched picture of the same subject. The model predicts whether that comparison is accepted at FMR 1e-3. It is judged
by error-versus-discard curves: FNMR at a fixed threshold as the worst faces are discarded, beside random discarding
and an oracle. LFW is only ever judged, never fitted.

    MIEN_DATA=... python benchmarks/quality.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from common import data_folder, machine, write_result
from operating_points import identities, in_half_a
from scipy.optimize import minimize

import mien.vision.quality as quality
from mien.analyzer import Analyzer, central_face, main_face
from mien.data.degradation import degrade
from mien.images import load_image
from mien.matching import operating_point
from mien.metrics.quality import error_versus_discard

SEED = 0
FACES = 2500
RIDGE = 1e-3


def trials(paths: list[Path], identity: np.ndarray, analyzer: Analyzer, rng: np.random.Generator) -> list[dict]:
    """Compare degraded faces with an untouched mate each; return measures and score."""
    by_identity: dict[int, list[int]] = {}
    for i, subject in enumerate(identity):
        by_identity.setdefault(int(subject), []).append(i)
    chosen = rng.permutation([i for i in range(len(paths)) if len(by_identity[int(identity[i])]) > 1])[:FACES]
    rows, lost = [], 0
    for i in chosen:
        mates = [j for j in by_identity[int(identity[i])] if j != i]
        pictures = degrade(load_image(paths[i]), rng), load_image(paths[int(rng.choice(mates))])
        pair = [main_face(analyzer.analyze(p), p.shape[1], p.shape[0]) for p in pictures]
        if pair[0] is None or pair[1] is None:
            lost += 1
            continue
        score = float(pair[0].embedding.vector @ pair[1].embedding.vector)
        rows.append({"measures": dict(pair[0].quality.measures), "score": score, "subject": int(identity[i])})
    print(f"{len(rows)} comparisons, {lost} without a face")
    return rows


def fit(rows: list[dict], threshold: float) -> dict:
    """Fit costs that are never negative: no measure is rewarded for being away from its best value."""
    names = quality.MEASURES
    values = {name: np.array([row["measures"][name] for row in rows]) for name in names}
    accepted = np.array([row["score"] >= threshold for row in rows])
    good = {name: values[name][accepted] for name in names}
    best = {name: float(np.percentile(good[name], 90)) for name in ("side", "sharpness", "contrast", "score")}
    best |= {"brightness": float(np.median(good["brightness"])), "pitch": float(np.median(good["pitch"])), "yaw": 0.0}
    quality._model.cache_clear()
    quality._model = lambda: {"best": best}  # features() needs only the best values
    x = np.stack([quality.features(row["measures"]).ravel() for row in rows])
    one_sided = np.array([[True, name in ("brightness", "pitch")] for name in names])
    one_sided[names.index("yaw")] = [False, True]
    free = one_sided.ravel()

    def loss(p: np.ndarray) -> float:
        z = p[0] - x @ p[1:]
        return float(np.mean(np.logaddexp(0, np.where(accepted, -z, z))) + RIDGE * (p[1:] ** 2).sum())

    bounds = [(None, None)] + [(0, None) if use else (0, 0) for use in free]
    found = minimize(loss, np.r_[1.0, np.full(len(free), 0.1) * free], bounds=bounds, method="L-BFGS-B")
    cost = found.x[1:].reshape(-1, 2)
    print("loss", loss(found.x), "base rate", accepted.mean())
    return {
        "about": "benchmarks/quality.py: logistic model of acceptance at FMR 1e-3, fitted on degraded faces of half A",
        "intercept": round(float(found.x[0]), 4),
        "best": {name: round(best[name], 4) for name in names},
        "cost": [[round(float(v), 4) for v in row] for row in cost],
    }


def judge(rows: list[dict], threshold: float) -> dict:
    """Return the error-versus-discard curve of the score, and of each measure alone."""
    genuine = np.array([row["score"] for row in rows])

    def curve(values: np.ndarray) -> dict:
        result = error_versus_discard(genuine, values, threshold=threshold)
        picked = {f"{d:.0%}": float(np.interp(d, result.discarded, result.fnmr)) for d in (0, 0.1, 0.2, 0.3)}
        return {
            "fnmr_at_discard": picked,
            "area": result.area,
            "area_random": result.area_random,
            "area_oracle": result.area_oracle,
            "gain": result.gain,
        }

    report = {"quality": curve(np.array([quality.assess(row["measures"]).score for row in rows]))}
    for name in ("side", "sharpness", "score"):
        report[f"{name} alone"] = curve(np.array([row["measures"][name] for row in rows]))
    report["faces"] = len(rows)
    return report


def lfw_rows(analyzer: Analyzer) -> list[dict]:
    """Return the mated LFW pairs as they are: the lower quality of the two sides against their score."""
    from mien.evaluation import read_pairs

    folder = data_folder() / "lfw_pairs"
    pairs = read_pairs(folder / "pairs.txt", images=folder)
    faces = [central_face(p.faces, p.width, p.height) for p in analyzer.pictures(pairs.sources)]
    rows = []
    for a, b, same in zip(pairs.first, pairs.second, pairs.same, strict=True):
        if same and faces[a] is not None and faces[b] is not None:
            worse = min(faces[a], faces[b], key=lambda face: face.quality.score)
            score = float(faces[a].embedding.vector @ faces[b].embedding.vector)
            rows.append({"measures": dict(worse.quality.measures), "score": score})
    return rows


def main() -> None:
    rng = np.random.default_rng(SEED)
    analyzer = Analyzer(expression=None)
    paths, identity = identities()
    half_a = in_half_a(identity)
    threshold = operating_point(analyzer.card, 1e-3).threshold
    halves = {}
    for name, keep in (("A", half_a), ("B", ~half_a)):
        kept = np.nonzero(keep)[0]
        halves[name] = trials([paths[i] for i in kept], identity[kept], analyzer, rng)
    original = quality._model
    model = fit(halves["A"], threshold)
    target = Path(quality.__file__).parents[1] / "weights" / "quality.json"
    target.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    quality._model = original
    quality._model.cache_clear()
    strict = operating_point(analyzer.card, 1e-4).threshold
    result = {
        "machine": machine(),
        "embedder": analyzer.card.id,
        "threshold": "card, FMR 1e-3; LFW: FMR 1e-3 and 1e-4 of the card",
        "half_b_degraded": judge(halves["B"], threshold),
        "lfw_fmr_1e-3": judge(rows := lfw_rows(analyzer), threshold),
        "lfw_fmr_1e-4": judge(rows, strict),
    }
    write_result("quality", result)
    print(json.dumps({key: value for key, value in result.items() if key.startswith(("half", "lfw"))}, indent=1))
    print(json.dumps(model))


if __name__ == "__main__":
    main()
