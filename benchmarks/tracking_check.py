"""Compare `mien.metrics.tracking` with the reference code, TrackEval, on made-up tracks.

TrackEval asks for packages that fight with ours, so it is installed beside them, alone:

    pip install --target /tmp/trackeval --no-deps trackeval==1.3.0
    PYTHONPATH=/tmp/trackeval python benchmarks/tracking_check.py
"""

from __future__ import annotations

import numpy as np

from mien.metrics.tracking import _overlaps, score_tracking
from mien.types import Box


def made_up(seed: int) -> tuple[list[dict[int, Box]], list[dict[int, Box]]]:
    """Return people who walk about, and a tracker that loses, swaps and invents some."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(0, 400, (5, 2)), rng.uniform(-6, 6, (5, 2))
    names = dict(enumerate(range(1, 6)))
    truth, found = [], []
    for _ in range(80):
        places = places + speeds
        there = [i for i in range(5) if rng.uniform() > 0.05]
        truth.append({i: Box(*places[i], *(places[i] + 60)) for i in there})
        if rng.uniform() < 0.05:
            a, b = rng.choice(5, 2, replace=False).tolist()
            names[a], names[b] = names[b], names[a]
        if rng.uniform() < 0.03:
            names[int(rng.integers(5))] = 10 + len(found)
        seen = {}
        for i in there:
            if rng.uniform() > 0.1:
                corner = places[i] + rng.normal(0, 6, 2)
                seen[names[i]] = Box(*corner, *(corner + rng.uniform(50, 70)))
        if rng.uniform() < 0.1:
            corner = rng.uniform(0, 400, 2)
            seen[900] = Box(*corner, *(corner + 60))
        found.append(seen)
    return truth, found


def reference(truth: list[dict[int, Box]], found: list[dict[int, Box]]) -> dict[str, float]:
    """Return what TrackEval says."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    people = {k: i for i, k in enumerate(sorted({k for boxes in truth for k in boxes}))}
    tracks = {k: i for i, k in enumerate(sorted({k for boxes in found for k in boxes}))}
    data = {
        "num_timesteps": len(truth),
        "num_gt_ids": len(people),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": [np.array([people[k] for k in boxes], int) for boxes in truth],
        "tracker_ids": [np.array([tracks[k] for k in boxes], int) for boxes in found],
        "similarity_scores": [_overlaps(a, b) for a, b in zip(truth, found, strict=True)],
    }
    quiet = {"PRINT_CONFIG": False}
    hota, clear, identity = HOTA().eval_sequence(data), CLEAR(quiet).eval_sequence(data), Identity(quiet)
    return {
        "hota": float(np.mean(hota["HOTA"])),
        "deta": float(np.mean(hota["DetA"])),
        "assa": float(np.mean(hota["AssA"])),
        "idf1": float(identity.eval_sequence(data)["IDF1"]),
        "switches": float(clear["IDSW"]),
        "fragments": float(clear["Frag"]),
        "missed": float(clear["CLR_FN"]),
        "false": float(clear["CLR_FP"]),
    }


def main() -> None:
    worst = 0.0
    for seed in range(20):
        truth, found = made_up(seed)
        ours, theirs = score_tracking(truth, found), reference(truth, found)
        worst = max(worst, *(abs(getattr(ours, name) - value) for name, value in theirs.items()))
    print(f"largest difference over 20 sequences: {worst:.2e}")
    assert worst < 1e-9


if __name__ == "__main__":
    main()
