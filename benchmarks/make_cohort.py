"""Make the cohort of an embedder from one half of UTKFace and print what its card says of it.

Each of its embeddings is the mean of about ten people who look alike. The other half of UTKFace measures (fairness.py).

    MIEN_DATA=... python benchmarks/make_cohort.py --embedder sface
"""

from __future__ import annotations

import argparse
from pathlib import Path

from people import embedded, utkface

import mien
import mien.zoo
from mien.vision.cohort import make_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default=mien.zoo.default("embedder"))
    arguments = parser.parse_args()
    faces = embedded("utkface128", arguments.embedder)
    chosen = utkface(faces.files).in_cohort & faces.found
    cohort = make_cohort(faces.vectors[chosen])
    name = f"{arguments.embedder}-cohort"
    (Path(mien.__file__).parent / "weights" / f"{name}.npy").write_bytes(cohort.to_bytes())
    print(f'cohort = "{name}"')
    print(f'cohort_sha256 = "{cohort.digest}"')
    print(f"neighbours = {cohort.neighbours}")
    print(f"floor = {cohort.floor}")
    print(f"# {chosen.sum()} pictures, {len(cohort.vectors)} centres")


if __name__ == "__main__":
    main()
