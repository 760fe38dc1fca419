"""All of it in a few seconds, on a public-domain portrait and drawn faces: find, enrol, degrade, identify, group."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien import zoo
from mien.analyzer import Analyzer
from mien.data.degradation import add_noise, blur, change_light, compress, cover, rotate, shrink
from mien.drawing import draw_face, draw_scene
from mien.gallery import Gallery
from mien.grouping import Grouping, Person, group_faces
from mien.images import digest, encode_image, load_image, save_image
from mien.matching import operating_point, probability
from mien.reporting.html import css_colour, data_uri, render, write_text
from mien.reporting.pictures import annotate, contact_sheet, thumbnail
from mien.types import EXPRESSIONS, Expression, Face, OperatingPoint

__all__ = ["Demo", "Trial", "degradations", "run", "summary"]

RGB = UInt8[np.ndarray, "height width 3"]

PORTRAIT = "astronaut"
ENROLLED = {"drawn one": 1115, "drawn two": 175, "drawn three": 531, "drawn four": 568, "drawn five": 1038}
STRANGERS = {"a stranger": 887}
"""Drawn subjects whom the default embedder tells apart. It learned from photographs: many drawings look alike to it."""
MOODY = 78  # the drawn subject of the expressions


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One probe and what came of it.

    Attributes:
        title: What was done to the picture.
        image: The probe.
        expected: Who it is; None for a stranger.
        found: False where no face was found: a failure to acquire.
        candidate: The most similar subject of the gallery.
        score: Its cosine similarity; None where no face was found.
        probability: That both are one subject, at even odds; nan where the model was not calibrated.
        match: Whether the score reaches the threshold.
    """

    title: str
    image: RGB
    expected: str | None
    found: bool
    candidate: str = ""
    score: float | None = None
    probability: float = math.nan
    match: bool = False

    @property
    def named(self) -> str | None:
        """The name that was given; None for nobody."""
        return self.candidate if self.match else None

    @property
    def right(self) -> bool:
        """Whether the name is the right one, or rightly nobody's."""
        return self.found and self.named == self.expected


@dataclass(frozen=True, slots=True, eq=False)
class Demo:
    """What was shown: the trials, where they were decided, and how long it took in seconds."""

    report: Path
    trials: tuple[Trial, ...]
    point: OperatingPoint
    analyze_ms: float
    seconds: float


def degradations(face_side: float, landmarks: np.ndarray) -> dict[str, Callable[[RGB], RGB]]:
    """Return ways to make a portrait worse, by name.

    Args:
        face_side: Side of the face in px, which blur and shrinking are measured by.
        landmarks: Five points of the face in px, which the covers lie on.
    """
    rng = np.random.default_rng(0)
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0) + np.array([0, face_side * 0.03])
    return {
        "as it is": lambda image: image,
        "face of 32 px": lambda image: shrink(image, 32 / face_side),
        "face of 20 px": lambda image: shrink(image, 20 / face_side),
        "out of focus": lambda image: blur(image, face_side / 22),
        "a tenth of the light": lambda image: change_light(image, 0.10, noise=2.5, rng=rng),
        "noise": lambda image: add_noise(image, 42, rng),
        "JPEG, quality 5": lambda image: compress(image, 5),
        "leaning by 32°": lambda image: rotate(image, 32),
        "mouth covered": lambda image: cover(
            image, mouth, width=0.78 * face_side, height=0.36 * face_side, colour=(126, 167, 190)
        ),
        "eyes covered": lambda image: cover(
            image, eyes, width=0.95 * face_side, height=0.22 * face_side, colour=(20, 20, 22)
        ),
    }


def run(out: Path, *, analyzer: Analyzer | None = None, fmr: float = 1e-3, portrait: RGB | None = None) -> Demo:
    """Show everything once; write report.html, pictures and a gallery into a folder.

    Args:
        out: An existing folder.
        analyzer: Default a new one with the default models.
        fmr: False match rate to decide at.
        portrait: A picture with one face; default the public-domain one, pulled at first use.
    """
    portrait = load_image(zoo.path(PORTRAIT)) if portrait is None else portrait
    analyzer = analyzer or Analyzer()
    analyzer.analyze(portrait)  # opens every network: models being pulled is not our time
    start = time.perf_counter()
    point = operating_point(analyzer.card, fmr)
    with Gallery(out / "gallery.mien", model=analyzer.card.id) as gallery:
        face = _only(analyzer.analyze(portrait, crops=True))
        gallery.enrol("the astronaut", face, source_hash=digest(portrait))
        enrolled = {"the astronaut": face}
        for name, subject in ENROLLED.items():
            drawn = draw_face(subject, side=320).image
            enrolled[name] = _only(analyzer.analyze(drawn, crops=True))
            gallery.enrol(name, enrolled[name], source_hash=digest(drawn))

        close, marks = _closer(portrait, face)
        worse = [
            _try(analyzer, gallery, point, title, change(close), "the astronaut")
            for title, change in degradations(face.box.side, marks).items()
        ]
        others = [
            _try(analyzer, gallery, point, title, picture, expected) for title, picture, expected in _other_pictures()
        ]
        scene = _scene(analyzer, gallery, point)
        moods = _moods(analyzer)
    times = []
    for _ in range(5):
        before = time.perf_counter()
        analyzer.analyze(portrait)
        times.append((time.perf_counter() - before) * 1e3)

    hero = annotate(portrait, [face], ["the astronaut"])
    save_image(out / "portrait.png", hero)
    save_image(out / "crowd.png", scene)
    grouping, thumbs, pictures = _grouped(analyzer, point)
    trials = (*worse, *others)
    _save_sheet(out / "trials.png", trials)
    demo = Demo(out / "report.html", trials, point, float(np.median(times)), time.perf_counter() - start)
    _write_page(demo, hero, scene, enrolled, (worse, others), moods, (grouping, thumbs, pictures), analyzer)
    return demo


def _only(faces: tuple[Face, ...]) -> Face:
    assert faces, "the demonstration's own pictures show a face"
    return faces[0]


def _bytes(image: np.ndarray) -> RGB:
    return np.asarray(np.clip(image + 0.5, 0, 255), dtype=np.uint8)


def _closer(image: RGB, face: Face) -> tuple[RGB, np.ndarray]:
    """Cut the head out, with its landmarks in px of the cut."""
    side = int(face.box.side * 2.5)
    x = int(np.clip((face.box.left + face.box.right) / 2 - side / 2, 0, max(image.shape[1] - side, 0)))
    y = int(np.clip((face.box.top + face.box.bottom) / 2 - side / 2, 0, max(image.shape[0] - side, 0)))
    return image[y : y + side, x : x + side].copy(), face.landmarks - np.array([x, y], np.float32)


def _try(
    analyzer: Analyzer, gallery: Gallery, point: OperatingPoint, title: str, image: RGB, expected: str | None
) -> Trial:
    faces = analyzer.analyze(image)
    if not faces or faces[0].embedding is None:
        return Trial(title, image, expected, found=False)
    best = gallery.search(faces[0].embedding, 1)[0]
    chance = probability(analyzer.card, best.score)
    return Trial(title, image, expected, True, best.subject, best.score, chance, best.score >= point.threshold)


def _other_pictures() -> list[tuple[str, RGB, str | None]]:
    moods = ("happiness", "surprise", "anger", "sadness", "happiness")
    rows: list[tuple[str, RGB, str | None]] = []
    for i, (name, subject) in enumerate(ENROLLED.items()):
        turn = (-14.0, 12.0, 0.0, -8.0, 16.0)[i]
        picture = draw_face(subject, side=320, expression=moods[i], yaw=turn, roll=turn / 3, seed=i + 1).image
        rows.append((f"{moods[i]}, turned" if turn else moods[i], picture, name))
    for title, subject in STRANGERS.items():
        rows.append((title, draw_face(subject, side=320, seed=3).image, None))
        rows.append((f"{title}, smiling", draw_face(subject, side=320, expression="happiness", seed=4).image, None))
    return rows


def _moods(analyzer: Analyzer) -> list[tuple[str, RGB, Expression]]:
    """Draw every expression and read it; empty where the analyzer reads none."""
    rows = []
    for name in EXPRESSIONS:
        picture = draw_face(MOODY, side=320, expression=name).image
        rows += [(name, picture, face.expression) for face in analyzer.analyze(picture)[:1] if face.expression]
    return rows


def _scene(analyzer: Analyzer, gallery: Gallery, point: OperatingPoint) -> RGB:
    cast = [*ENROLLED.values(), *STRANGERS.values()]
    image = draw_scene(cast, width=1120, height=640, seed=5).image
    faces = analyzer.analyze(image)
    names = list(ENROLLED)
    labels, colours = [], []
    for face in faces:
        assert face.embedding is not None, "analyze embeds"
        found = gallery.identify(face.embedding, point.threshold)
        labels.append(f"{found[0].subject}  {found[0].score:.2f}" if found else "unknown")
        colours.append(names.index(found[0].subject) if found and found[0].subject in names else 9)
    return annotate(image, faces, labels, colours=colours)


def _grouped(analyzer: Analyzer, point: OperatingPoint) -> tuple[Grouping, list[bytes], int]:
    """Draw some holiday pictures and sort them; return the grouping, a thumb a face, and the number of pictures."""
    rng = np.random.default_rng(7)
    cast = [*ENROLLED.values(), *STRANGERS.values()]
    vectors, where, thumbs = [], [], []
    count = 10
    for number in range(count):
        circle = cast[:4] if rng.uniform() < 0.6 else cast[3:]
        chosen = [int(s) for s in rng.choice(circle, size=int(rng.integers(1, 4)), replace=False)]
        for face in analyzer.analyze(draw_scene(chosen, width=640, height=400, seed=number).image, crops=True):
            assert face.crop is not None and face.embedding is not None, "both were asked for"
            vectors.append(face.embedding.vector)
            where.append(number)
            thumbs.append(encode_image(thumbnail(face.crop, 92), quality=85))
    return group_faces(np.stack(vectors), where, threshold=point.threshold), thumbs, count


def _save_sheet(path: Path, trials: tuple[Trial, ...]) -> None:
    captions = [t.title for t in trials]
    save_image(path, contact_sheet([t.image for t in trials], columns=6, side=150, captions=captions))


def _write_page(
    demo: Demo,
    hero: RGB,
    scene: RGB,
    enrolled: dict[str, Face],
    trials: tuple[list[Trial], list[Trial]],
    moods: list[tuple[str, RGB, Expression]],
    groups: tuple[Grouping, list[bytes], int],
    analyzer: Analyzer,
) -> None:
    point = demo.point
    scores = [t.score for t in demo.trials if t.score is not None]
    low = min([*scores, point.threshold]) - 0.04

    def length(score: float) -> float:
        return round(100 * float(np.clip((score - low) / (1 - low), 0, 1)), 1)

    grouping, thumbs, num_pictures = groups
    several = [p for p in grouping.people if len(p.faces) > 1]
    right = sum(t.right for t in demo.trials)
    tiles = [(f"{demo.analyze_ms:.0f} ms", f"to find and embed a face in {_size(hero)} px")]
    tiles += [(f"{right} of {len(demo.trials)}", "probes decided rightly"), (f"{len(enrolled)}", "subjects enrolled")]
    tiles += [(f"{point.target_fmr:g}", "false match rate chosen")]
    face = next(iter(enrolled.values()))
    assert face.embedding is not None, "enrolled faces are embedded"
    text = render(
        "demo.html",
        title="mien knows a face again",
        seconds=demo.seconds,
        portrait=data_uri(encode_image(hero, quality=90)),
        tiles=tiles,
        dimension=len(face.embedding.vector),
        enrolled=[(name, data_uri(encode_image(f.crop))) for name, f in enrolled.items() if f.crop is not None],
        point=point,
        tick=length(point.threshold),
        worse=[_trial_row(t, length) for t in trials[0]],
        others=[_trial_row(t, length) for t in trials[1]],
        strangers="one" if len(STRANGERS) == 1 else str(len(STRANGERS)),
        moods=[
            {
                "drawn": name,
                "uri": data_uri(encode_image(thumbnail(picture, 160), quality=88)),
                "read": "uncertain" if told.uncertain else told.label,
                "share": f"{100 * told.probabilities[told.label]:.0f} %",
                "right": told.label == name and not told.uncertain,
            }
            for name, picture, told in moods
        ],
        scene=data_uri(encode_image(scene, quality=88)),
        group_line=(
            f"{num_pictures} drawn pictures with {len(thumbs)} faces: {len(several)} people are seen more than once, "
            f"{len(grouping.people) - len(several)} once."
        ),
        people=[_person_row(person, grouping, thumbs) for person in several],
        embedder=analyzer.card.id,
        decision=_decision(point),
    )
    write_text(demo.report, text)


def _trial_row(trial: Trial, length: Callable[[float], float]) -> dict[str, object]:
    """Return what the page shows of a trial; ``length`` is the length of a score's bar, %."""
    tiny = trial.image.shape[0] < 150
    shown = trial.image if tiny else thumbnail(trial.image, 300)
    if not trial.found:
        verdict = "no face found"
    elif trial.named is None:
        verdict = "unknown"
    else:
        verdict = "recognised" if trial.right else "mistaken"
    return {
        "title": trial.title,
        "uri": data_uri(encode_image(shown, suffix=".png" if tiny else ".jpg", quality=88)),
        "tiny": tiny,
        "right": trial.right,
        "verdict": verdict,
        "match": trial.match,
        "score": trial.score,
        "length": length(trial.score) if trial.score is not None else 0,
        "probability": None if math.isnan(trial.probability) else format_chance(trial.probability),
        "candidate": f"{'is' if trial.match else 'nearest:'} {trial.candidate}",
        "note": "counted as a failure to acquire",
    }


def _person_row(person: Person, grouping: Grouping, thumbs: list[bytes]) -> dict[str, object]:
    """Return what the page shows of a person seen more than once."""
    companions = grouping.companions(person.id)[:3]
    return {
        "id": person.id,
        "colour": css_colour(person.id - 1),
        "count": len(person.pictures),
        "companions": ", ".join(f"Person {other} ({count})" for other, count in companions),
        "thumbs": [data_uri(thumbs[face]) for face in person.faces[:7]],
    }


def _size(image: RGB) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def format_chance(probability: float) -> str:
    """A probability never rounds to certainty."""
    return "> 99.9 %" if probability > 0.999 else "< 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"


def _decision(point: OperatingPoint) -> list[tuple[str, str]]:
    def rate(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.2g}  (95 % interval {interval[0]:.2g} to {interval[1]:.2g})"

    rows = [("threshold", f"cosine similarity {point.threshold:.4f}, for a false match rate of {point.target_fmr:g}")]
    if not math.isnan(point.fnmr):
        rows.append(("false matches", rate(point.fmr, point.fmr_interval)))
        rows.append(("false non-matches", rate(point.fnmr, point.fnmr_interval)))
        counts = f"{point.num_genuine:,} mated and {point.num_impostor:,} non-mated comparisons"
        rows.append(("measured on", f"{point.dataset}; {counts}"))
    return rows


def summary(demo: Demo) -> list[str]:
    """Return the trials as lines of text."""
    lines = []
    for trial in demo.trials:
        if trial.score is None:
            lines.append(f"{trial.title:<22} no face found")
            continue
        chance = "" if math.isnan(trial.probability) else f"  probability {format_chance(trial.probability)}"
        verdict = f"is {trial.candidate}" if trial.match else f"unknown (nearest: {trial.candidate})"
        lines.append(f"{trial.title:<22} {trial.score:.3f}  {verdict}{chance}")
    return lines
