"""Run every benchmark whose data is there, one after the other, then write the README's table: `make bench`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Without real faces, then with the folder that MIEN_DATA names.
ALWAYS = ("speed", "memory", "bad_input", "search", "crash", "service", "training_speed")
WITH_DATA = ("detectors", "embedding_choices", "operating_points", "quality", "lfw", "grouping", "identity_training")
# By hand: what takes run folders, studies, eyes or long trainings (anonymize, augmentation, degraded, edits,
# expression, expression_choices, expression_means, few_shot, flow_prior, gan_arms, gan_blend, gan_choices,
# generative_peers, generative_training, larger_faces, likeness, malformed, restoration, sequence, student,
# student_arms, synthetic_training, vae_features); each says how.


def main() -> None:
    scripts = ALWAYS + (WITH_DATA if os.environ.get("MIEN_DATA") else ())
    failed = [name for name in scripts if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode]
    subprocess.run([sys.executable, HERE / "readme_table.py"], check=True)
    if not os.environ.get("MIEN_DATA"):
        print(f"not run, as MIEN_DATA names no folder of faces: {', '.join(WITH_DATA)}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
