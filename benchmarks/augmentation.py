"""Write down what the study of generated faces as training data came to: its figures, the machine, and the plot.

    mien study run augmentation --data $MIEN_DATA/fer2013plus --share 10 --share 100 --generator-images 30000 \\
        --arm balanced --arm duplicates --arm vae-filtered --arm shuffled --out studies/augmentation
    python benchmarks/augmentation.py studies/augmentation
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from common import machine, write_result

PLOT = Path(__file__).parent.parent / "docs" / "images" / "augmentation-study.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    given = parser.parse_args()
    figures = json.loads((given.study / "study.json").read_text(encoding="utf-8"))
    write_result("augmentation", {"machine": machine(), **figures})
    shutil.copyfile(given.study / "study.png", PLOT)


if __name__ == "__main__":
    main()
