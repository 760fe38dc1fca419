"""Write the card of the shipped expression model from results/expression.json.

    python benchmarks/expression_card.py

What is said in words is in recipes/expression-resnet27.md. The card goes beside the weights, so that it comes with
the package; `mien models card` prints it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NAME = "expression-resnet27"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def row(name: str, figures: dict[str, Any]) -> str:
    low, high = figures["accuracy_interval"]
    return (
        f"| {name} | {figures['n']:,} | {percent(figures['accuracy'])} [{100 * low:.1f}, {100 * high:.1f}] | "
        f"{figures['macro_f1']:.3f} [{figures['macro_f1_interval'][0]:.3f}, {figures['macro_f1_interval'][1]:.3f}] | "
        f"{figures['ece']:.3f} |"
    )


def text(result: dict[str, Any], run: dict[str, Any]) -> str:
    first = next(iter(result["models"]))
    words = (
        (Path(__file__).parent / f"recipes/{NAME}.md")
        .read_text(encoding="utf-8")
        .format(
            parameters=run["parameters"] / 1e6,
            macs=run["macs"] / 1e6,
            train=run["pictures"]["train"],
            valid=run["pictures"]["valid"],
        )
    )
    lines = [words, "## Measured", ""]
    lines += ["On test splits that were never looked at before; intervals are 95 %.", ""]
    lines += ["| data | pictures | accuracy | macro-F1 | calibration error |", "| --- | --- | --- | --- | --- |"]
    fer, plus = result["fer2013"][first], result["ferplus"][first]
    lines += [
        row("FER2013 labels, 7 classes", fer["all"]),
        row("the same, no leaks", fer["no_leaks"]),
        row("FER+, 8 classes, where raters agree (as published)", plus["agreed"]),
        row("FER+, 8 classes, most frequent label", plus["all"]),
        row("CK+, 7 classes, never trained on", result["ckplus"]["models"][first]),
    ]
    smiles = result["smiles"]["models"][first]
    lines += [
        "",
        f"Happiness through `analyze` against CelebA's `Smiling`, {result['smiles']['pictures']:,} pictures: area "
        f"under the ROC curve {smiles['auc']:.3f} [{smiles['auc_interval'][0]:.3f}, {smiles['auc_interval'][1]:.3f}]. "
        f"One face takes one thread {result['speed']['network_ms']:.1f} ms.",
        "",
        f'Outcomes below the operating point of "uncertain" on FER+: {percent(plus["all"]["uncertain"])}; '
        f"the others are right {percent(plus['all']['accuracy_of_certain'])} of the time.",
        "",
        "F1 by class and confusion matrix, FER+ most frequent label; rows: what raters saw; columns: answers.",
        "",
    ]
    classes = plus["all"]["classes"]
    lines += [f"| | F1 | {' | '.join(classes)} |", "| --- " * (len(classes) + 2) + "|"]
    for name, counts in zip(classes, plus["all"]["confusion"], strict=True):
        lines.append(f"| {name} | {plus['all']['f1'][name]:.2f} | {' | '.join(str(round(c)) for c in counts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    result = json.loads((Path(__file__).parent / "results/expression.json").read_text(encoding="utf-8"))
    run = json.loads((Path(__file__).parent / f"recipes/{NAME}.json").read_text(encoding="utf-8"))
    (ROOT / f"src/mien/weights/{NAME}.md").write_text(text(result, run), encoding="utf-8")


if __name__ == "__main__":
    main()
