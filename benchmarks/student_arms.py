"""Collect what trainings of students came to, each on the same held-out people: one arm a run.

    python benchmarks/student_arms.py RUN [RUN ...]

`generated-real` learned 40,000 images of 6,000 faces of 1,448 people of CelebA, `generated-with` as many images of
these and 4,000 faces by face-gan-64, each a person of its own; seed 0, zoom 1, the other settings by default.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from common import machine, write_result


def main() -> None:
    arms = {}
    for run in map(Path, sys.argv[1:]):
        card = json.loads((run / "card.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        arms[run.name] = {"faces": summary["faces"], "valid": rows[-1], "test": card["metrics"]["test"]}
    write_result("student_arms", {"machine": machine(), "arms": arms})
    for name, arm in arms.items():
        print(name, arm["faces"], {key: value for key, value in arm["valid"].items() if key.startswith("valid")})
        for place, verdict in arm["test"].items():
            print("  ", place, {key: figure["value"] for key, figure in verdict["new"].items()})


if __name__ == "__main__":
    main()
