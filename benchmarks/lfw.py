"""Run LFW's protocol with the default models, ten folds, failures to acquire counted as errors. LFW is test only.

    MIEN_DATA=... python benchmarks/lfw.py [--embedder NAME]

Figures of another embedder than the default one are kept under its name.
"""

from __future__ import annotations

import argparse
import json

from common import data_folder, machine, write_result

import mien.zoo
from mien.analyzer import Analyzer
from mien.evaluation import read_pairs, verify_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", default=mien.zoo.default("embedder"))
    name = parser.parse_args().embedder
    folder = data_folder() / "lfw_pairs"
    report = verify_pairs(
        Analyzer(embedder=name, expression=None), read_pairs(folder / "pairs.txt", images=folder)
    ).to_json()
    write_result("lfw" if name == mien.zoo.default("embedder") else f"lfw_{name}", {"machine": machine(), **report})
    print(json.dumps({key: report[key] for key in ("accuracy", "accuracy_stderr", "eer", "tar_at_fmr")}))


if __name__ == "__main__":
    main()
