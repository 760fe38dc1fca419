"""How well expression models tell what raters saw, end to end, how fast, and beside what can be installed.

    MIEN_DATA=... python benchmarks/expression.py RUN [RUN ...]              # on the validation split, printed
    MIEN_DATA=... python benchmarks/expression.py RUN [RUN ...] --split test # the figures that count, written

Each RUN is a run folder, an ONNX file with its card, or a name of the catalogue; several are the seeds of one recipe,
the first is the one to ship. Every model and the peer see the same pictures; faces are cut once, as run time does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mini_xception
import numpy as np
from common import data_folder, machine, write_result

from mien import zoo
from mien.analyzer import Analyzer, main_face
from mien.data.crops import cut_crops
from mien.data.samples import Samples, read_samples
from mien.evaluation.expression import Figures, measure_expression
from mien.evaluation.records import plain
from mien.images import load_image
from mien.metrics.expression import area_under_roc
from mien.metrics.intervals import mcnemar, paired_bootstrap, percentile_interval, subject_weights
from mien.types import Box
from mien.vision.detector import Detection
from mien.vision.expression import ExpressionReader

SMILES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--split", choices=["valid", "test"], default="valid")
    parser.add_argument("--smiles", type=int, default=SMILES, help="pictures of celeba10k")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "mien-benchmark")
    options = parser.parse_args()
    data = data_folder()
    cards = [zoo.named(model) for model in options.models]
    # Results name models, not the places where they lie on this machine.
    names = [f"{number}-{card.name}" if len(cards) > 1 else card.name for number, card in enumerate(cards)]
    readers = {name: ExpressionReader(card, threads=1) for name, card in zip(names, cards, strict=True)}
    peer = mini_xception.MiniXception()
    with tempfile.TemporaryDirectory() as folder:
        small, quantised = int8(Path(options.models[0]), Path(folder))
        shown = readers | ({"int8": small} if small else {})
        result = {
            "machine": machine(),
            "split": options.split,
            "models": {name: reader.card.id for name, reader in readers.items()},
            **fer(data / "fer2013plus", options.split, shown, peer, options.cache),
            "ckplus": ckplus(data / "ck48", shown, peer, options.cache, taught(data / "fer2013plus")),
            "smiles": smiles(data / "celeba10k", options.models[0], readers, peer, options.smiles),
            "speed": speed(readers[names[0]], small, peer),
            "int8": quantised,
        }
    result["headline"] |= {
        "ckplus.accuracy": spread([result["ckplus"]["models"][name]["accuracy"] for name in names]),
        "smiles.auc": spread([result["smiles"]["models"][name]["auc"] for name in names]),
    }
    result = plain(result)
    print(json.dumps(result["headline"], indent=1))
    if options.split == "test":
        write_result("expression", result)
    else:
        print(json.dumps(result, indent=1))


def fer(
    folder: Path, split: str, readers: dict[str, ExpressionReader], peer: mini_xception.MiniXception, cache: Path
) -> dict[str, Any]:
    """FER2013's labels and FER+ majorities, on the whole split and without pictures that stand in another one."""
    samples = read_samples(folder)
    elsewhere = samples.standing_elsewhere()
    chosen = np.flatnonzero(samples.splits == split)
    part, clean = samples.take(chosen), ~elsewhere[chosen]
    result: dict[str, Any] = {"pictures": len(part), "also_in_another_split": int((~clean).sum())}
    answered = {}  # by target and model
    for target, classes in (("fer2013", list(mini_xception.CLASSES)), ("ferplus", None)):
        labels = part.targets[target].labels
        classes = classes or list(part.targets[target].classes)
        assert list(part.targets[target].classes) == classes
        rows = {}
        for name, reader in readers.items():
            answers, found = read(reader, part, target, classes, cache)
            rows[name] = by_subset(answers, labels, classes, clean, part.targets[target].agreed, reader.uncertain_below)
            rows[name]["not_found"] = int((~found[labels >= 0]).sum())
            answered[target, name] = answers
        result[target] = rows
    pictures = [part.picture(i) for i in range(len(part))]
    labels = part.targets["fer2013"].labels
    theirs = peer.probabilities(pictures)
    result["fer2013"]["mini_xception"] = by_subset(theirs, labels, list(mini_xception.CLASSES), clean, None, 0.0)
    known = labels >= 0
    right = theirs[known].argmax(axis=1) == labels[known]
    beside = {}
    for (target, name), answers in answered.items():
        if target == "fer2013":
            ours = answers[known].argmax(axis=1) == labels[known]
            ahead = paired_bootstrap(ours, right, np.arange(len(ours)))
            beside[name] = {
                "ahead": ahead.estimate,
                "interval": ahead.interval,
                "mcnemar_p": mcnemar(ours, right).p_value,
            }
    result["against_mini_xception"] = beside
    seeds = [name for name in readers if name != "int8"]
    result["headline"] = {
        f"{target}.{subset}.{figure}": spread([result[target][name][subset][figure] for name in seeds])
        for target in ("fer2013", "ferplus")
        for subset in ("all", "no_leaks", "agreed")
        for figure in ("accuracy", "macro_f1", "ece")
        if subset in result[target][seeds[0]]
    } | {"ahead_of_mini_xception": spread([beside[name]["ahead"] for name in seeds])}
    return result


def taught(folder: Path) -> dict[str, dict[str, float]]:
    """Return the share of each class in what the networks learned from, by head."""
    samples = read_samples(folder)
    train = samples.take(samples.splits == "train")
    return {
        name: dict(zip(target.classes, np.nanmean(target.shares, axis=0).tolist(), strict=True))
        for name, target in train.targets.items()
    }


def ckplus(
    folder: Path,
    readers: dict[str, ExpressionReader],
    peer: mini_xception.MiniXception,
    cache: Path,
    shares: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """CK+ without having learned from it: the classes that it has, intervals over subjects.

    Beside the plain answers, those of a user who takes all classes for equally likely, as in a posed data set, and
    divides by the shares that the network learned from; of both heads, since FER2013's labels differ from FER+ votes.
    """
    samples = read_samples(folder)
    (target,) = samples.targets.values()
    labels, subjects = target.labels, samples.subjects
    rows = {}
    for name, reader in readers.items():
        answers, found = read(reader, samples, "ferplus", list(target.classes), cache)
        rows[name] = told(measure_expression(labels, answers, target.classes, subjects=subjects))
        rows[name]["not_found"] = int((~found).sum())
    # The peer knows no contempt: its classes alone, and ours on the same pictures.
    shared = [label for label in target.classes if label in mini_xception.CLASSES]
    number = np.array([shared.index(label) if label in shared else -1 for label in target.classes])[labels]
    kept = number >= 0
    theirs = peer.probabilities([samples.picture(i) for i in np.flatnonzero(kept)])
    theirs = theirs[:, [mini_xception.CLASSES.index(label) for label in shared]]
    equal: dict[str, Any] = {}
    for name, reader in readers.items():
        equal[name] = {}
        for head, classes in (("ferplus", list(target.classes)), ("ferplus", shared), ("fer2013", shared)):
            answers, _ = read(reader, samples, head, classes, cache)
            known = np.isin(labels, [target.classes.index(label) for label in classes])
            order = np.array([classes.index(label) if label in classes else -1 for label in target.classes])[labels]
            for how, weighed in (
                ("learned", answers),
                ("equal", answers / np.array([shares[head][label] for label in classes])),
            ):
                right = weighed[known].argmax(axis=1) == order[known]
                equal[name][f"{head}.{len(classes)}_classes.{how}_shares"] = float(right.mean())
    among = {"mini_xception": told(measure_expression(number[kept], theirs, shared, subjects=subjects[kept]))}
    for name, reader in readers.items():
        answers, _ = read(reader, samples, "ferplus", shared, cache)
        among[name] = told(measure_expression(number[kept], answers[kept], shared, subjects=subjects[kept]))
    return {
        "pictures": len(samples),
        "classes": list(target.classes),
        "models": rows,
        "without_contempt": among,
        "accuracy_by_head_and_shares": equal,
    }


def smiles(
    folder: Path, model: str, readers: dict[str, ExpressionReader], peer: mini_xception.MiniXception, count: int
) -> dict[str, Any]:
    """Happiness against CelebA's attribute Smiling; a picture without a face counts as 0.

    The first model answers through `analyze`, the others are shown the same faces.
    """
    import csv

    with (folder / "attributes.csv").open() as file:
        rows = list(csv.DictReader(file))[:count]
    paths = [folder / "img" / row["file"] for row in rows]
    smiling = np.array([int(row["Smiling"]) > 0 for row in rows])
    who = np.array([row["identity"] for row in rows])
    first, *others = readers
    scores = {key: np.zeros(len(paths)) for key in (*readers, "mini_xception")}
    found = np.zeros(len(paths), dtype=bool)
    for i, picture in enumerate(Analyzer(expression=model).pictures(paths, embed=False)):
        face = main_face(picture.faces, picture.width, picture.height)
        if face is None or face.expression is None:
            continue
        found[i] = True
        scores[first][i] = face.expression.probabilities["happiness"]
        image = load_image(paths[i])
        for key in others:  # What the analyzer does once it has found a face.
            (told_,) = readers[key].read(image, [Detection(face.box, face.landmarks, face.score)])
            scores[key][i] = told_.probabilities["happiness"]
        happiness = mini_xception.CLASSES.index("happiness")
        scores["mini_xception"][i] = peer.probabilities([widened(image, face.box)])[0, happiness]
    areas = {}
    for key, values in scores.items():
        area = area_under_roc(values, smiling)
        areas[key] = {"auc": area, "auc_interval": resampled_area(values, smiling, who)}
    return {"pictures": len(paths), "smiling": int(smiling.sum()), "not_found": int((~found).sum()), "models": areas}


def widened(image: np.ndarray, box: Box) -> np.ndarray:
    """Cut the square that `fer` shows its network: the box made square, 10 px wider on each side."""
    x, y, half = (box.left + box.right) / 2, (box.top + box.bottom) / 2, max(box.width, box.height) / 2 + 10
    pad = 80
    framed = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left, side = int(y - half) + pad, int(x - half) + pad, int(2 * half)
    return framed[max(top, 0) : top + side, max(left, 0) : left + side]


def resampled_area(scores: np.ndarray, positive: np.ndarray, who: np.ndarray) -> tuple[float, float]:
    """Return the interval of the area under the ROC curve, resampling subjects."""
    order = np.argsort(scores, kind="stable")
    up = positive[order].astype(np.float64)
    areas = []
    for (weights,) in subject_weights(who, replicates=200):
        w = weights[:, order].astype(np.float64)
        below = np.cumsum(w * (1 - up), axis=1)
        areas.append((w * up * below).sum(axis=1) / ((w * up).sum(axis=1) * (w * (1 - up)).sum(axis=1)))
    return percentile_interval(np.concatenate(areas))


def speed(
    reader: ExpressionReader, small: ExpressionReader | None, peer: mini_xception.MiniXception
) -> dict[str, float]:
    """Return ms a face of one thread: networks alone, and with cutting, mirror image and all."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)
    points = np.array([[95, 100], [145, 100], [120, 128], [100, 155], [140, 155]], np.float32)
    detection = Detection(Box(60, 50, 180, 190), points, 0.9)
    crop = reader.crop(image, detection)[None]
    whole = np.zeros((1, peer.reader.side, peer.reader.side, 3), np.uint8)
    jobs: dict[str, Callable[[], Any]] = {
        "network": run_alone(reader, crop),
        "face_from_picture": lambda: reader.read(image, [detection]),
        "mini_xception": run_alone(peer.reader, whole),
    }
    if small is not None:
        jobs["int8_network"] = run_alone(small, crop)
        jobs["int8_face_from_picture"] = lambda: small.read(image, [detection])
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(31):
        for name, job in jobs.items():
            start = time.perf_counter()
            for _ in range(20):
                job()
            times[name].append((time.perf_counter() - start) / 20 * 1e3)
    return {f"{name}_ms": float(np.median(values[1:])) for name, values in times.items()}


def run_alone(reader: ExpressionReader, crop: np.ndarray) -> Callable[[], Any]:
    x = reader._feed(crop)
    return lambda: reader.session.run(None, {reader._input: x})


def int8(run: Path, folder: Path) -> tuple[ExpressionReader | None, dict[str, Any] | None]:
    """Quantise a run on the spot; None where only its ONNX file is there."""
    if not (run / "best.safetensors").is_file():
        return None, None
    from mien.training.export import export

    report = export(run, folder / "int8.onnx", quantize="int8")
    figures = {
        "on": "the run's validation pictures",
        "n": report.n,
        "accuracy": report.accuracy,
        "accuracy_float": report.accuracy_float,
        "lost": report.lost,
        "changed": report.changed,
        "speedup": report.speedup,
        "bytes": report.bytes,
        "bytes_float": report.bytes_float,
        "difference_from_pytorch": report.difference,
        "kept_float": len(report.kept_float),
    }
    return ExpressionReader(zoo.named(folder / "int8.onnx"), threads=1), figures


def read(
    reader: ExpressionReader, samples: Samples, head: str, classes: list[str], cache: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of these classes for every sample, and in which a face was found."""
    crops = cut_crops(
        samples, template=reader.template or "fer-48", side=reader.side, colour=not reader.grey, cache=cache / "crops"
    )
    faces = crops.faces if crops.faces.ndim == 4 else np.repeat(crops.faces[..., None], 3, axis=3)
    head = head if head in reader.heads else next(iter(reader.heads))
    labels = list(reader.heads[head])
    answers = reader.probabilities(faces, head=head)
    chosen = np.stack([answers[:, labels.index(c)] if c in labels else np.zeros(len(faces)) for c in classes], axis=1)
    return chosen, crops.found


def by_subset(
    answers: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    clean: np.ndarray,
    agreed: np.ndarray | None,
    uncertain_below: float,
) -> dict[str, Any]:
    subsets = {"all": labels >= 0, "no_leaks": (labels >= 0) & clean}
    if agreed is not None:  # FER+'s published protocol
        subsets["agreed"] = agreed
    return {
        name: told(measure_expression(labels[kept], answers[kept], classes, uncertain_below=uncertain_below))
        for name, kept in subsets.items()
    }


def told(figures: Figures) -> dict[str, Any]:
    limits = figures.intervals
    return {
        "n": len(figures.labels),
        "accuracy": figures.accuracy,
        "accuracy_interval": limits.accuracy,
        "macro_f1": figures.macro_f1,
        "macro_f1_interval": limits.macro_f1,
        "ece": figures.reliability.error,
        "ece_interval": limits.ece,
        "f1": {name: score.f1 for name, score in zip(figures.classes, figures.per_class, strict=True)},
        "classes": list(figures.classes),
        "confusion": figures.confusion.tolist(),
        "uncertain": figures.uncertain,
        "accuracy_of_certain": figures.accuracy_of_certain,
    }


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "seeds": values,
    }


if __name__ == "__main__":
    main()
