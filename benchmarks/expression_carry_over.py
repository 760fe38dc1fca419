"""How expression networks do on data that they never learned from, and for which class shares faces are to be read.

    MIEN_DATA=... python benchmarks/expression_carry_over.py choose RAFDB
    MIEN_DATA=... python benchmarks/expression_carry_over.py measure RAFDB MODEL [MODEL ...]
    MIEN_DATA=... python benchmarks/expression_carry_over.py left-out RAFDB RUN
    python benchmarks/expression_carry_over.py card

RAFDB is what `rafdb_split.py` makes. `choose` asks the network that learned from FER2013's pictures alone about
3,000 training pictures of RAF-DB: which shares to assume, how far to soften, what to call uncertain. `measure` measures
what `mien analyze` tells, and what the heads answer that learned such labels: on FER2013's and RAF-DB's validation
parts and on CK+, from which nobody learned and where nothing was chosen. `left-out` asks a RUN that was trained as the
shipped model, but without RAF-DB, about RAF-DB's training pictures, with the shipped shares and softening. `card`
writes the shipped model's card.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result

from mien import zoo
from mien.data.crops import cut_crops
from mien.data.samples import Samples, read_samples
from mien.evaluation.expression import Figures, measure_expression
from mien.evaluation.records import plain
from mien.types import EXPRESSIONS
from mien.vision.expression import ExpressionReader

ALONE = "expression-resnet27"  # learned from FER2013's pictures only
PICTURES = 3_000
EQUAL = "expression-resnet27-equal"  # the same weights, as was chosen
UNION = "expression-resnet27-union"  # trained on with RAF-DB
SOFTENED = (1.0, 1.2, 1.3, 1.4, 1.5)
_SAME = "Test splits of FER2013 and FER+ by head: as of `expression-resnet27`, whose weights these are."
CONTEMPT = (1.0, 0.5, 0.25, 0.1)  # its share beside 1 of each other class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "measure", "left-out", "card"])
    parser.add_argument("rafdb", type=Path, nargs="?")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "mien-benchmark")
    options = parser.parse_args()
    if options.what == "card":
        write_card()
        return
    if options.rafdb is None:
        parser.error("RAFDB is missing: make it with rafdb_split.py")
    part = {"choose": choose, "measure": measure, "left-out": left_out}[options.what](options)
    result = read_result("expression_carry_over")
    if options.what == "measure":  # models that are not asked for keep their figures
        known = result.get("measure", {})
        part = {
            key: known.get(key, {}) | value if isinstance(value, dict) and key != "machine" else value
            for key, value in part.items()
        }
    write_result("expression_carry_over", plain(result | {options.what: part}))


def choose(options: argparse.Namespace) -> dict[str, Any]:
    samples = read_samples(options.rafdb)
    train = np.flatnonzero(samples.splits == "train")
    picked = samples.take(np.sort(np.random.default_rng(0).choice(train, PICTURES, replace=False)))
    faces = cut_crops(picked, cache=options.cache).rgb()
    card = zoo.card(ALONE)
    told = {"shares": {"ferplus": learned_by(card.name)}}
    rows = {}
    logits = ExpressionReader(card, threads=1)._logits(faces, ("ferplus",))
    for softened in SOFTENED:
        for name, assume in [("learned", "learned"), *((f"contempt {c:g}", with_contempt(c)) for c in CONTEMPT)]:
            facts = dict(card.convention) | told | {"softened": softened, "assume": assume}
            reader = ExpressionReader(replace(card, convention=facts), threads=1)
            reader._logits = lambda *_: logits  # type: ignore[method-assign] # once is enough
            figures = as_told(reader, faces, picked)
            rows[f"softened {softened:g}, {name}"] = brief(figures)
    return {"machine": machine(), "model": card.id, "pictures": len(picked), **told, "settings": rows}


def learned_by(name: str) -> list[float]:
    """Return the shares of FER+'s classes as the last training of a shipped network was shown them."""
    from mien.data.transforms import Order

    assert name == ALONE, "its second recipe balances by 0.2"
    samples = read_samples(data_folder() / "fer2013plus")
    target = samples.targets["ferplus"]
    kept = (samples.splits == "train") & ~samples.leaks
    kept &= (target.labels >= 0) | (samples.targets["fer2013"].labels >= 0)
    weights = Order(target.labels[kept], seed=0, balance=0.2).weights
    shares = target.shares[kept]
    known = ~np.isnan(shares[:, 0])
    return ((shares[known] * weights[known, None]).sum(axis=0) / weights[known].sum()).round(5).tolist()


def with_contempt(share: float) -> dict[str, float]:
    return {label: share if label == "contempt" else 1.0 for label in EXPRESSIONS}


def left_out(options: argparse.Namespace) -> dict[str, Any]:
    samples = read_samples(options.rafdb)
    train = samples.take(np.flatnonzero(samples.splits == "train"))
    card, shipped = zoo.named(options.models[0]), zoo.card(UNION).convention
    facts = {name: shipped[name] for name in ("softened", "assume", "uncertain_above")}
    reader = ExpressionReader(replace(card, convention={**card.convention, **facts}), threads=1)
    faces = cut_crops(train, side=reader.side, cache=options.cache).rgb()
    return {"machine": machine(), "pictures": len(train), "told": whole(as_told(reader, faces, train))}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    data = data_folder()
    fer, raf, ck = (read_samples(folder) for folder in (data / "fer2013plus", options.rafdb, data / "ck48"))
    sets = {
        "fer2013plus valid": fer.take(np.flatnonzero(fer.splits == "valid")),
        "rafdb valid": raf.take(np.flatnonzero(raf.splits == "valid")),
        "ckplus": ck,
    }
    readers = {}
    for model in options.models:
        card = zoo.named(model)
        readers[card.name] = ExpressionReader(card, threads=1)
    result: dict[str, Any] = {"machine": machine(), "models": {name: r.card.id for name, r in readers.items()}}
    for place, samples in sets.items():
        answered: dict[str, dict[str, np.ndarray]] = {}  # by the file: two cards may be of one network
        result[place] = {}
        for name, reader in readers.items():
            faces = cut_crops(samples, side=reader.side, cache=options.cache).rgb()
            heads = tuple(reader.heads)
            file = reader.card.source.sha256 or name
            if file not in answered:
                answered[file] = dict(zip(heads, ExpressionReader._logits(reader, faces, heads), strict=True))
            known = answered[file]
            reader._logits = lambda _, heads, known=known: [known[h] for h in heads]  # type: ignore[method-assign]
            rows = {"told": whole(as_told(reader, faces, samples))}
            rows["told, classes of the data"] = whole(as_told(reader, faces, samples, classes="data"))
            reader.shares, assumed = "learned", reader.shares
            rows["told, learned shares"] = whole(as_told(reader, faces, samples))
            rows["told, learned shares, classes of the data"] = whole(as_told(reader, faces, samples, classes="data"))
            reader.shares = assumed
            for head, wanted in (("ferplus", "ferplus"), ("fer2013", "fer2013"), ("rafdb", "expression")):
                if head in reader.heads and wanted in samples.targets and (head == "rafdb") == (place == "rafdb valid"):
                    rows |= by_head(reader, faces, samples, head, wanted)
            result[place][name] = rows
            print(place, name, {key: (row["accuracy"], row["macro_f1"], row["ece"]) for key, row in rows.items()})
    return result


def as_told(reader: ExpressionReader, faces: np.ndarray, samples: Samples, *, classes: str = "model") -> Figures:
    """Measure what `analyze` tells against the first labels of a data set."""
    target = next(iter(samples.targets.values()))
    present = [target.classes[k] for k in np.unique(target.labels[target.labels >= 0])]
    chosen = [label for label in reader.labels if classes == "model" or label in present]
    return measured(reader, reader.probabilities(faces), reader.labels, samples, target, chosen)


def by_head(
    reader: ExpressionReader, faces: np.ndarray, samples: Samples, head: str, wanted: str
) -> dict[str, dict[str, Any]]:
    target, labels = samples.targets[wanted], reader.heads[head]
    answers = reader.probabilities(faces, head=head)
    rows = {head: whole(measured(reader, answers, labels, samples, target, list(labels)))}
    if target.agreed is not None:
        rows[f"{head}, agreed"] = whole(
            measured(reader, answers, labels, samples, target, list(labels), kept=target.agreed)
        )
    return rows


def measured(
    reader: ExpressionReader,
    answers: np.ndarray,
    labels: tuple[str, ...],
    samples: Samples,
    target: Any,
    chosen: list[str],
    kept: np.ndarray | None = None,
) -> Figures:
    number = np.array([chosen.index(label) if label in chosen else -1 for label in target.classes])
    truth = np.where(target.labels >= 0, number[target.labels], -1)
    kept = (truth >= 0) & (True if kept is None else kept)
    return measure_expression(
        truth[kept],
        answers[kept][:, [labels.index(label) for label in chosen]],
        chosen,
        subjects=None if samples.subjects is None else samples.subjects[kept],
        uncertain_below=reader.uncertain_below,
        uncertain_above=reader.uncertain_above,
    )


def brief(figures: Figures) -> dict[str, Any]:
    likely = figures.probabilities[np.arange(len(figures.labels)), figures.labels]
    return {
        "n": len(figures.labels),
        "accuracy": figures.accuracy,
        "macro_f1": figures.macro_f1,
        "ece": figures.reliability.error,
        "surprise": float(-np.log(np.maximum(likely, 1e-12)).mean()),
        "error_at_80": figures.error_at_80,
        "uncertain": figures.uncertain,
        "accuracy_of_certain": figures.accuracy_of_certain,
    }


def whole(figures: Figures) -> dict[str, Any]:
    limits = figures.intervals
    return brief(figures) | {
        "accuracy_interval": limits.accuracy,
        "macro_f1_interval": limits.macro_f1,
        "ece_interval": limits.ece,
        "f1": {name: score.f1 for name, score in zip(figures.classes, figures.per_class, strict=True)},
    }


def write_card() -> None:
    """Write what is said beside the weights of the shipped models: words of recipes/, figures of the results."""
    result = read_result("expression_carry_over")["measure"]
    places = {
        EQUAL: {
            "ckplus": "CK+, never trained on, nothing chosen",
            "rafdb valid": "RAF-DB, never trained on, settings chosen on other pictures of it",
            "fer2013plus valid": "FER+, validation split of its own data",
        },
        UNION: {
            "ckplus": "CK+, never trained on; softening was looked at here",
            "rafdb valid": "RAF-DB, validation part of its own data",
            "fer2013plus valid": "FER+, validation split of its own data",
        },
    }
    for model, beside, last in (
        (EQUAL, ALONE, _SAME),
        (UNION, EQUAL, _by_head_in_words(result)),
    ):
        lines = [(Path(__file__).parent / f"recipes/{model}.md").read_text(encoding="utf-8"), "## Measured", ""]
        lines += [f"What `analyze` tells, all eight classes allowed; intervals are 95 %. Second rows: `{beside}`.", ""]
        lines += ["| data | pictures | accuracy | macro-F1 | calibration error | error left at 80 % |"]
        lines += [f"|{' --- |' * 6}"]
        for place, name in places[model].items():
            for which in (model, beside):
                row = result[place][which]["told"]
                low, high = row["accuracy_interval"]
                lines.append(
                    f"| {name if which == model else ''} | {row['n']:,} | {100 * row['accuracy']:.1f} % "
                    f"[{100 * low:.1f}, {100 * high:.1f}] | {row['macro_f1']:.3f} | {row['ece']:.3f} | "
                    f"{100 * row['error_at_80']:.1f} % |"
                )
        lines += ["", last]
        text = "\n".join(lines) + "\n"
        (Path(__file__).parent.parent / f"src/mien/weights/{model}.md").write_text(text, encoding="utf-8")


def _by_head_in_words(result: dict[str, Any]) -> str:
    rows = result["fer2013plus valid"]
    told = [
        f"{name} {100 * rows[UNION][head]['accuracy']:.1f} % (`{EQUAL}`: {100 * rows[EQUAL][head]['accuracy']:.1f})"
        for head, name in (("fer2013", "FER2013's labels"), ("ferplus, agreed", "FER+ where raters agree"))
    ]
    return f"By head, for the shares that were learned, validation split: {'; '.join(told)}."


if __name__ == "__main__":
    main()
