"""How far off the attributes are: age and apparent gender on UTKFace by group, mouth on CelebA, pose where it is known.

Nothing was fitted on UTKFace. Groups of origin are those that its file names state; mien itself never guesses origin.
The errors by estimated age, which are all that somebody who only has a picture can look up, go onto the models' cards.

    MIEN_DATA=... python benchmarks/attributes.py [--pictures 3000]
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import RESULTS, data_folder, machine, write_result
from operating_points import owners
from people import ORIGINS, pictures, utkface

from mien.analyzer import Analyzer, main_face
from mien.drawing import draw_face
from mien.images import load_image
from mien.metrics.intervals import percentile_interval
from mien.types import Attributes

SEED, REPLICATES = 0, 1000
MEASURED = Path(__file__).parents[1] / "src" / "mien" / "zoo" / "measured"
AGES = ((0, 10), (10, 18), (18, 30), (30, 45), (45, 60), (60, 200))
MOUTHS = 1500  # pictures of each half of CelebA
EYES = 150  # pictures with and without CelebA's `Narrow_Eyes`


def read(paths: list[Path]) -> Iterator[Attributes | None]:
    """Yield the attributes of each picture's main face."""
    analyzer = Analyzer(expression=None, attributes=True)
    for picture in analyzer.pictures(paths, embed=False):
        face = main_face(picture.faces, picture.width, picture.height)
        yield None if face is None else face.attributes


def interval(values: np.ndarray, owner: np.ndarray | None = None) -> list[float]:
    """Return the 95 % interval of a mean, resampling pictures, or people where they have several."""
    rng = np.random.default_rng(SEED)
    owner = np.arange(len(values)) if owner is None else np.unique(owner, return_inverse=True)[1]
    sums, counts = np.bincount(owner, values), np.bincount(owner)
    drawn = rng.integers(len(sums), size=(REPLICATES, len(sums)))
    return [float(end) for end in percentile_interval(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))]


def rate(values: np.ndarray, owner: np.ndarray | None = None) -> dict[str, Any]:
    return {"mean": float(values.mean()), "interval": interval(values, owner), "faces": len(values)}


def guesses(
    age: np.ndarray, female: np.ndarray, found: list[Attributes], owner: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the errors of guesses about faces whose age and sex are known."""
    off = np.array([seen.age.years for seen in found]) - age
    wrong = np.array([seen.gender.label == "female" for seen in found]) != female
    return {
        "age_mean_absolute_error": rate(np.abs(off), owner),
        "age_mean_error": rate(off, owner),
        "gender_wrong": rate(wrong.astype(float), owner),
    }


def on_utkface(count: int) -> dict[str, Any]:
    """Measure a seeded part of UTKFace by age, sex and origin, and by estimated age."""
    folder = data_folder() / "utkface128"
    paths = pictures("utkface128")
    paths = [paths[i] for i in sorted(np.random.default_rng(SEED).permutation(len(paths))[:count])]
    named = utkface(tuple(str(path.relative_to(folder)) for path in paths))
    known = (named.age >= 0) & (named.sex != "") & (named.origin != "")
    read_in = list(read(paths))
    kept = np.array([seen is not None for seen in read_in]) & known
    found = [seen for seen, keep in zip(read_in, kept, strict=True) if keep and seen is not None]
    age, sex, origin = named.age[kept], named.sex[kept], named.origin[kept]
    female, guessed = sex == "female", np.array([seen.age.years for seen in found])
    adult = age >= 18

    def part(chosen: np.ndarray) -> dict[str, Any]:
        return guesses(age[chosen], female[chosen], [found[i] for i in np.nonzero(chosen)[0]])

    bands = {f"{low} to {high - 1}" if high < 200 else f"{low} and over": (low, high) for low, high in AGES}
    report: dict[str, Any] = {
        "pictures": len(paths), "not_found": int(known.sum() - kept.sum()),
        "all": part(age >= 0), "adults": part(adult),
        "by_age": {name: part((age >= low) & (age < high)) for name, (low, high) in bands.items()},
        "by_estimated_age": {name: part((guessed >= low) & (guessed < high)) for name, (low, high) in bands.items()},
        "adults_by_sex": {name: part(adult & (sex == name)) for name in ("female", "male")},
        "adults_by_origin_and_sex": {
            f"{o} {s}": part(adult & (origin == o) & (sex == s)) for o in ORIGINS for s in ("female", "male")
        },
    }  # fmt: skip
    return report


def on_london() -> dict[str, Any]:
    """Measure London's adults, photographed in one studio; their eyes are open and most look into the camera."""
    folder = data_folder() / "london_dev"
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["face_age"] and row["face_gender"] in ("female", "male")]
    read_in = list(read([folder / "img" / row["file"] for row in rows]))
    rows = [row for row, seen in zip(rows, read_in, strict=True) if seen is not None]
    found = [seen for seen in read_in if seen is not None]
    people = np.array([row["subject"] for row in rows])
    age = np.array([float(row["face_age"]) for row in rows])
    female = np.array([row["face_gender"] == "female" for row in rows])
    neutral = np.array([row["expression"] == "neutral" for row in rows])
    eyes = np.array([not (seen.left_eye.open and seen.right_eye.open) for seen in found])
    return {
        **guesses(age, female, found, people),
        "an_open_eye_called_closed": {
            name: rate(eyes[chosen].astype(float)) for name, chosen in (("neutral", neutral), ("smiling", ~neutral))
        },
    }


def on_celeba() -> dict[str, Any]:
    """Choose the mouth's threshold on half A by CelebA's `Mouth_Slightly_Open`, measure it on half B."""
    folder = data_folder() / "celeba10k"
    with (folder / "attributes.csv").open(newline="") as file:
        labels = {row["file"]: row["Mouth_Slightly_Open"] == "1" for row in csv.DictReader(file)}
    paths = pictures("celeba10k")
    owner, in_b = owners(tuple(str(path.relative_to(folder)) for path in paths))
    rng, halves = np.random.default_rng(SEED), {}
    for name, half in (("A", ~in_b), ("B", in_b)):
        chosen = rng.permutation(np.nonzero(half)[0])[:MOUTHS]
        read_in = list(read([paths[i] for i in chosen]))
        kept = [i for i, seen in enumerate(read_in) if seen is not None]
        seen = [read_in[i] for i in kept]
        halves[name] = {
            "open": np.array([labels[paths[chosen[i]].name] for i in kept]),
            "mouth": np.array([s.mouth.openness for s in seen if s is not None]),
            "owner": owner[chosen[kept]],
        }
    a, b = halves["A"], halves["B"]
    tried = np.round(np.arange(0.02, 0.4, 0.01), 2)
    balanced = [balanced_accuracy(a["mouth"] >= t, a["open"]) for t in tried]
    threshold = float(tried[int(np.argmax(balanced))])
    said = b["mouth"] >= threshold
    rng = np.random.default_rng(SEED)
    people, who = np.unique(b["owner"], return_inverse=True)
    members = [np.nonzero(who == i)[0] for i in range(len(people))]
    draws = [np.concatenate([members[i] for i in rng.integers(len(people), size=len(people))]) for _ in range(200)]
    return {
        "mouth_threshold_of_half_a": threshold,
        "mouth_balanced_accuracy": {
            "mean": balanced_accuracy(said, b["open"]),
            "interval": list(percentile_interval(np.array([balanced_accuracy(said[d], b["open"][d]) for d in draws]))),
            "faces": len(said),
        },
        "mouth_area_under_roc": area_under_roc(b["mouth"][b["open"]], b["mouth"][~b["open"]]),
    }


def shut_eyes() -> dict[str, Any]:
    """Count eyes that are called shut among CelebA's `Narrow_Eyes` and others. No data set here labels shut eyes."""
    folder = data_folder() / "celeba10k"
    with (folder / "attributes.csv").open(newline="") as file:
        narrow = {row["file"]: row["Narrow_Eyes"] == "1" for row in csv.DictReader(file)}
    report: dict[str, Any] = {}
    for name, wanted in (("narrow", True), ("others", False)):
        paths = [folder / "img" / file for file, is_narrow in narrow.items() if is_narrow == wanted][:EYES]
        found = [seen for seen in read(paths) if seen is not None]
        shut = np.array([[not seen.left_eye.open, not seen.right_eye.open] for seen in found], float)
        report[name] = {
            "either_shut": rate(shut.max(axis=1)), "both_shut": rate(shut.min(axis=1)),
            "median_openness": float(np.median([seen.left_eye.openness for seen in found])),
        }  # fmt: skip
    return report


def balanced_accuracy(said: np.ndarray, truth: np.ndarray) -> float:
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def area_under_roc(above: np.ndarray, below: np.ndarray) -> float:
    ordered = np.sort(below)
    ranks = np.searchsorted(ordered, above, side="left") + np.searchsorted(ordered, above, side="right")
    return float(ranks.mean() / (2 * len(below)))


def poses() -> dict[str, Any]:
    """Compare with drawn heads of known pose, and photographs with their mirror images and turned copies."""
    analyzer = Analyzer(expression=None, attributes=True, threads=1)

    def attributes(image: np.ndarray) -> Attributes | None:
        face = main_face(analyzer.analyze(image, embed=False), image.shape[1], image.shape[0])
        return None if face is None else face.attributes

    drawn: dict[str, list[list[float]]] = {"yaw": [], "roll": []}
    for subject in range(12):
        for angle in (-40, -30, -20, -10, 0, 10, 20, 30, 40):
            for kind in drawn:
                seen = attributes(draw_face(subject, side=320, seed=subject, **{kind: float(angle)}).image)
                if seen is not None:
                    drawn[kind].append([angle, getattr(seen.pose, kind)])
    mirrored, turned, before = [], {20: [], -20: [], 40: [], -40: []}, []  # type: ignore[var-annotated]
    for path in pictures("london_dev"):
        image = load_image(path)
        straight = attributes(image)
        other = attributes(np.ascontiguousarray(image[:, ::-1]))
        if straight is None or other is None:
            continue
        before.append([straight.pose.yaw, straight.pose.pitch, straight.pose.roll])
        a, b = straight.pose, other.pose
        mirrored.append([a.yaw + b.yaw, a.pitch - b.pitch, a.roll + b.roll])
        for angle, rows in turned.items():
            size = image.shape[1::-1]
            matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), -angle, 0.8)
            seen = attributes(np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)))
            if seen is not None:
                rows.append([seen.pose.yaw - a.yaw, seen.pose.pitch - a.pitch, seen.pose.roll - a.roll - angle])
    fits = {}
    for kind, rows in drawn.items():
        told, seen = np.array(rows).T
        fits[kind] = {
            "faces": len(rows), "mean_absolute_error": float(np.abs(told - seen).mean()),
            "slope": float(np.polyfit(told, seen, 1)[0]), "correlation": float(np.corrcoef(told, seen)[0, 1]),
        }  # fmt: skip
    each = ("yaw", "pitch", "roll")
    return {
        "drawn": fits,
        "london_looks_ahead": dict(zip(each, np.abs(before).mean(axis=0).tolist(), strict=True)),
        "mirrored": {"faces": len(mirrored), **dict(zip(each, np.abs(mirrored).mean(axis=0).tolist(), strict=True))},
        "turned": {
            str(angle): {"faces": len(rows), **dict(zip(each, np.abs(rows).mean(axis=0).tolist(), strict=True))}
            for angle, rows in turned.items()
        },
        "note": "degrees, mean absolute differences; mirrored: yaw and roll change sign; turned: only roll changes",
    }


def speed() -> dict[str, float]:
    """Return the processor time of attributes alone, ms a face on one thread: others work on this machine, too."""
    from mien.vision.attributes import AttributeReader
    from mien.vision.finding import find_face, patient_detector

    image = draw_face(0, side=320).image
    face, reader, times = find_face(image, patient_detector()), AttributeReader(threads=1), []
    assert face is not None
    for _ in range(60):
        start = time.process_time()
        reader.read(image, [face])
        times.append(time.process_time() - start)
    return {"least": 1e3 * min(times), "median": 1e3 * float(np.median(times))}


def write_cards(utk: dict[str, Any]) -> None:
    """Put what was measured onto the cards of the two models."""
    for model, measure in (("age-dlib", "age_mean_absolute_error"), ("gender-dlib", "gender_wrong")):
        bands = [
            [low, high, round(utk["by_estimated_age"][name][measure]["mean"], 3)]
            for (low, high), name in zip(AGES, utk["by_estimated_age"], strict=True)
        ]
        metrics = {
            "measured_on": f"UTKFace, {utk['all'][measure]['faces']} pictures of 128 px",
            measure: round(utk["all"][measure]["mean"], 3),
            f"{measure}_interval": [round(end, 3) for end in utk["all"][measure]["interval"]],
            f"{measure}_of_adults_by_origin_and_sex": {
                name: round(facts[measure]["mean"], 3) for name, facts in utk["adults_by_origin_and_sex"].items()
            },
            "error_by_estimated_age": bands,
        }
        path = MEASURED / f"{model}.json"
        path.write_text(json.dumps({"metrics": metrics}, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=3000, help="Of UTKFace.")
    parser.add_argument("--only", action="append", help="Measure this part anew and keep the others as they are.")
    given = parser.parse_args()
    count = given.pictures
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "utkface": lambda: on_utkface(count), "london": on_london, "celeba": on_celeba, "eyes": shut_eyes,
        "pose": poses, "cpu_ms_a_face": speed,
    }  # fmt: skip
    report: dict[str, Any] = {"machine": machine()}
    if given.only:
        report = json.loads((RESULTS / "attributes.json").read_text(encoding="utf-8"))
    for name, measure in parts.items():
        if given.only and name not in given.only:
            continue
        report[name] = measure()
        print(name, json.dumps(report[name])[:600], flush=True)
    write_cards(report["utkface"])
    write_result("attributes", report)


if __name__ == "__main__":
    main()
