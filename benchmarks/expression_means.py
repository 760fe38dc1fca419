"""What averaging runs of an expression training, and being taught by them, brings on the validation pictures.

    python benchmarks/expression_means.py RUN [RUN ...]

The first run's `config.json` names the data. Accuracy by head of each run and of the mean logits of every set of them.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import machine, write_result

from mien.training.config import load_config
from mien.training.expression import ExpressionConfig, learned_faces, load_expression_net, predict


def main() -> None:
    runs = [Path(run) for run in sys.argv[1:]]
    config = load_config(ExpressionConfig, runs[0] / "config.json")
    faces = learned_faces(replace(config, out=runs[0]))
    logits = {
        run.name: predict(load_expression_net(run)[0].eval(), faces.valid, precision=config.precision) for run in runs
    }
    rows = {}
    for count in range(1, len(runs) + 1):
        for chosen in itertools.combinations(logits, count):
            rows[" + ".join(chosen)] = {
                head: float(
                    (np.mean([logits[name][head] for name in chosen], axis=0).argmax(1) == labels)[labels >= 0].mean()
                )
                for head, labels in faces.by_head.items()
            }
    write_result("expression_means", {"machine": machine(), "pictures": len(faces.labels), "accuracy": rows})
    for name, row in rows.items():
        print(f"{name:<40}", {head: round(100 * value, 2) for head, value in row.items()})


if __name__ == "__main__":
    main()
