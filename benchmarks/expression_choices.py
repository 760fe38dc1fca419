"""What the runs on the way to the shipped expression model reached on validation, and what the mirrored look brings.

    MIEN_DATA=... python benchmarks/expression_choices.py NAME=RUN [NAME=RUN ...]

The test split plays no part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from common import data_folder, machine, write_result

from mien.data.crops import cut_crops
from mien.data.samples import read_samples
from mien.training.expression import load_expression_net, predict

LEARNED = 9  # every ninth training picture shows how well a run knows what it learned


def main() -> None:
    samples = read_samples(data_folder() / "fer2013plus")
    fer, plus = (samples.targets[name] for name in ("fer2013", "ferplus"))
    both = (plus.labels >= 0) & (fer.labels >= 0)
    names = np.array([*fer.classes]), np.array([*plus.classes])
    same = names[0][fer.labels[both]] == names[1][plus.labels[both]]
    parts = {
        "train": samples.take(np.flatnonzero((samples.splits == "train") & ~samples.leaks)[::LEARNED]),
        "valid": samples.take(np.flatnonzero(samples.splits == "valid")),
    }
    faces = {split: cut_crops(part) for split, part in parts.items()}
    runs = {}
    for word in sys.argv[1:]:
        name, run = word.split("=", 1)
        model, _ = load_expression_net(Path(run))
        runs[name] = {}
        for split, flip in (("train", False), ("valid", False), ("valid", True)):
            answers = predict(model, faces[split].faces, flip=flip)
            for head, logits in answers.items():
                labels = parts[split].targets[head].labels
                right = logits.argmax(axis=1)[labels >= 0] == labels[labels >= 0]
                runs[name][f"{head}.{split}{'.mirrored' if flip else ''}"] = float(right.mean())
        print(name, runs[name])
    write_result(
        "expression_choices",
        {
            "machine": machine(),
            "labellings": {"pictures": int(both.sum()), "agree": float(same.mean())},
            "aligned": {split: float(crops.found.mean()) for split, crops in faces.items()},
            "accuracy": runs,
        },
    )


if __name__ == "__main__":
    main()
