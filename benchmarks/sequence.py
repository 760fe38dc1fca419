"""Does the order of frames tell anything about expressions? The study `sequence`, all of its tasks.

    MIEN_DATA=... python benchmarks/sequence.py --out studies --cache crops

Clips are rendered from the stills of ck48 (118 subjects, no neutral faces) and london_dev (51 subjects, neutral and
smiling); the task "stills" takes the last three frames of ck48's own clips. What each task asks was written down before
it ran (`protocol.json`). A finished part is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from common import RESULTS, data_folder, machine, write_result

from mien.studies import engine
from mien.studies.report import draw_plot, page
from mien.studies.sequence import SequenceStudy

_EXPRESSIONS = {"neutral": "neutral", "smiling": "happiness"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("studies"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--task", action="append", help="Only this one; may be repeated.")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ck48, both = data_folder() / "ck48", (data_folder() / "ck48", london(args.out))
    cache = args.cache or args.out / "crops"
    studies = {
        "onset": SequenceStudy(data=both, seeds=args.seeds, images=25_600, cache=cache),
        # The same, learned for a quarter as long: how far the verdict hangs on that.
        "onset-short": SequenceStudy(data=both, seeds=args.seeds, images=6_400, cache=cache),
        "stills": SequenceStudy(
            data=(ck48,), task="stills", features=("vae", "expression"), seeds=args.seeds, folds=3, images=6_400,
            arms=("last", "best", "mean", "attention", "gru", "gru-shuffled"), cache=cache,
        ),
        "first": SequenceStudy(data=both, task="first", seeds=args.seeds, clips=1, images=12_800, cache=cache),
    }  # fmt: skip
    for name, study in studies.items():
        if args.task and name not in args.task:
            continue
        out = args.out / f"sequence-{name}"
        failed = engine.run_cells(study, out, told=lambda cell, done, of: print(cell.name, done, of, flush=True))
        assert not failed, failed
        figures = engine.summarise(study, out)
        plot = draw_plot(figures)
        (out / "study.png").write_bytes(plot)
        (out / "study.html").write_text(page(figures, plot))
        file = RESULTS / "sequence.json"
        told = json.loads(file.read_text(encoding="utf-8"))["tasks"] if file.is_file() else {}
        told[name] = figures
        for one in figures["verdicts"]:
            print(one["sentence"])
        write_result("sequence", {"machine": machine(), "tasks": told})


def london(folder: Path) -> Path:
    """Write the list of london_dev with subjects and our names of expressions; return it."""
    source, file = data_folder() / "london_dev", folder / "london_dev.csv"
    with (source / "labels.csv").open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    with file.open("w", newline="", encoding="utf-8") as text:
        table = csv.writer(text)
        table.writerow(["path", "label", "subject"])
        for row in rows:
            path = (source / "img" / row["file"]).resolve()
            table.writerow([path, _EXPRESSIONS[row["expression"]], f"london-{row['subject']}"])
    return file


if __name__ == "__main__":
    main()
