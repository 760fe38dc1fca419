"""Run LFW's protocol with the default models, ten folds, failures to acquire counted as errors. LFW is test only.

MIEN_DATA=... python benchmarks/lfw.py
"""

from __future__ import annotations

import json

from common import data_folder, machine, write_result

from mien.analyzer import Analyzer
from mien.evaluation import read_pairs, verify_pairs


def main() -> None:
    folder = data_folder() / "lfw_pairs"
    report = verify_pairs(Analyzer(expression=None), read_pairs(folder / "pairs.txt", images=folder)).to_json()
    write_result("lfw", {"machine": machine(), **report})
    print(json.dumps({key: report[key] for key in ("accuracy", "accuracy_stderr", "eer", "tar_at_fmr")}))


if __name__ == "__main__":
    main()
