"""Measure `mien watch`: speed, latency, tracks, names, expressions, memory, each against the simpler way.

    MIEN_DATA=... python benchmarks/video.py [--part speed latency tracks names expressions memory]

Films are composed of stills of data sets that are no part of the project, so their truth is known to the pixel. Parts
that are not asked for keep their figures. Networks run on one thread each, as a watch runs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import RESULTS, data_folder, machine, write_result
from scipy.optimize import linear_sum_assignment
from speed import peer_python

from mien.analyzer import Analyzer
from mien.images import load_image
from mien.metrics.tracking import score_tracking
from mien.reporting.overlay import draw_watched
from mien.types import Box
from mien.video import Eyes, Naming, Options, open_source, watch
from mien.video.composing import Actor, Composed, Film, Still, mixed, standing
from mien.video.evidence import Evidence, Mood
from mien.video.frames import Frame
from mien.video.records import Watched
from mien.video.sinks import Film as Mp4
from mien.video.tracker import overlaps
from mien.vision.detector import Detection
from mien.vision.quality import assess, measure

PARTS = ("speed", "latency", "tracks", "names", "expressions", "memory")

PEER = """
import sys, time, json
import av, face_recognition, numpy as np
known = [face_recognition.face_encodings(np.load(sys.argv[2]))[0]]
for line in sys.stdin:
    small = line.strip() == "quarter"
    start, cpu, count, found, process = time.perf_counter(), time.process_time(), 0, 0, True
    with av.open(sys.argv[1]) as container:
        for picture in container.decode(video=0):
            image = picture.to_ndarray(format="rgb24")
            count += 1
            if small:
                # facerec_from_webcam_faster.py: a quarter of the size, every other picture.
                image = np.ascontiguousarray(image[::4, ::4])
            if process or not small:
                places = face_recognition.face_locations(image)
                vectors = face_recognition.face_encodings(image, places)
                for vector in vectors:
                    face_recognition.compare_faces(known, vector)
                found += len(places) * (2 if small else 1)
            process = not process
            if count >= int(sys.argv[3]):
                break
    print(json.dumps([count, time.perf_counter() - start, time.process_time() - cpu, found]), flush=True)
"""


class Collector:
    """Keeps what was told of each picture, without the pictures."""

    needs_pixels = False

    def __init__(self) -> None:
        self.faces: dict[int, dict[int, Box]] = {}

    def write(self, watched: Watched) -> None:  # noqa: D102
        if not watched.is_over:
            self.faces[watched.frame.number] = {face.track: face.box for face in watched.faces}

    def close(self, summary: object) -> None:  # noqa: D102
        pass


def people(count: int, *, skip: int = 0, least: int = 3) -> list[tuple[int, list[Still]]]:
    """Return people of the data set with stills whose face a detector has found."""
    analyzer = Analyzer(expression=None, threads=1)
    folders = sorted((data_folder() / "celeba_identities" / "img").iterdir())
    chosen = np.random.default_rng(3).permutation(len(folders))[skip:]
    made: list[tuple[int, list[Still]]] = []
    for place in chosen:
        stills = []
        for path in sorted(folders[place].iterdir()):
            image = load_image(path)
            faces = analyzer.analyze(image, embed=False)
            if len(faces) == 1 and faces[0].quality is not None and faces[0].quality.score > 0.4:
                stills.append(Still(image, faces[0].box))
        if len(stills) >= least:
            made.append((int(folders[place].name), stills))
        if len(made) == count:
            return made
    raise SystemExit("The data set has too few people.")


def written(source: Composed, path: Path) -> Path:
    """Write a composed film as a file."""
    film = Mp4(path, preset="veryfast")
    for frame in source.frames(lambda *_: None):
        film.write(Watched(frame))
    film.close(None)
    return path


def naming(analyzer: Analyzer, eyes: Eyes) -> Naming:
    return Naming(None, model=analyzer.card.id, same=eyes.surely_same)


def interval(values: Sequence[float], rounds: int = 2000) -> list[float]:
    """Return the mean and its 95 % interval, resampling the values."""
    array = np.asarray(values, float)
    rng = np.random.default_rng(0)
    means = array[rng.integers(0, len(array), (rounds, len(array)))].mean(axis=1)
    return [float(array.mean()), *(float(q) for q in np.percentile(means, [2.5, 97.5]))]


# Speed


def speed(folder: Path, *, seconds: float = 6.0, rounds: int = 2) -> dict[str, Any]:
    """Frames a second of one and four faces: as it is, with a film, picture by picture, and of the peer."""
    cast = people(4)
    result: dict[str, Any] = {"picture": "640x480, 30 a second, H.264", "seconds": seconds, "rounds": rounds}
    analyzer = Analyzer()
    eyes = Eyes(analyzer)
    for name, count in (("one_face", 1), ("four_faces", 4)):
        actors = [
            Actor(who, stills, standing((k + 0.5) / count, 0.5, 0.24, sway=0.03, phase=k), hold_s=2.0)
            for k, (who, stills) in enumerate(cast[:count])
        ]
        clip = written(Composed(Film(actors, seconds=seconds)), folder / f"{name}.mp4")
        np.save(folder / "known.npy", cast[0][1][0].image)
        arms: dict[str, Callable[[], tuple[float, float, float]]] = {
            "watch": lambda clip=clip: _watched(clip, analyzer, eyes, folder, save=False),
            "watch_and_film": lambda clip=clip: _watched(clip, analyzer, eyes, folder, save=True),
            "every_picture": lambda clip=clip: _each(clip, analyzer, 30),
        }
        peer = _Peer(folder, clip, 12)
        rates: dict[str, list[float]] = {}
        cpu_rates: dict[str, list[float]] = {}
        faces: dict[str, float] = {}
        for turn in range(rounds + 1):
            for arm, measured in (*arms.items(), ("peer_full", peer.full), ("peer_quarter", peer.quarter)):
                rate, by_cpu, found = measured()
                if turn:  # the first warms up
                    rates.setdefault(arm, []).append(rate)
                    cpu_rates.setdefault(arm, []).append(by_cpu)
                    faces[arm] = found
        peer.close()
        result[name] = {
            "frames_per_s": {arm: float(np.median(values)) for arm, values in rates.items()},
            "frames_per_cpu_s": {arm: float(np.median(values)) for arm, values in cpu_rates.items()},
            "faces_a_picture": faces,
            "watch_times_as_fast_as": _ratios(rates),
            "watch_times_as_fast_as_by_cpu": _ratios(cpu_rates),
        }
    return result


def _ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    others = ("every_picture", "peer_full", "peer_quarter")
    return {other: float(np.median(np.array(rates["watch"]) / np.array(rates[other]))) for other in others}


def _watched(clip: Path, analyzer: Analyzer, eyes: Eyes, folder: Path, *, save: bool) -> tuple[float, float, float]:
    seen, cpu = Collector(), time.process_time()
    sinks: list[Any] = [seen] + ([Mp4(folder / "out.mp4", draw=draw_watched)] if save else [])
    summary = watch(open_source(str(clip)), eyes, naming=naming(analyzer, eyes), sinks=sinks)
    found = float(np.mean([len(faces) for faces in seen.faces.values()]))
    return summary.frames / summary.took_s, summary.frames / (time.process_time() - cpu), found


def _each(clip: Path, analyzer: Analyzer, limit: int) -> tuple[float, float, float]:
    """Analyse picture by picture with the same networks: find, embed, read."""
    found, count, start, cpu = 0, 0, time.perf_counter(), time.process_time()
    for frame in open_source(str(clip)).frames(lambda *_: None):
        found += len(analyzer.analyze(frame.image))
        count += 1
        if count == limit:
            break
    return count / (time.perf_counter() - start), count / (time.process_time() - cpu), found / count


class _Peer:
    """`face_recognition` as its webcam examples use it, in an environment of its own."""

    def __init__(self, folder: Path, clip: Path, limit: int) -> None:
        python = peer_python(Path(tempfile.gettempdir()) / "mien-peer-face-recognition")
        if subprocess.run([python, "-c", "import av"], capture_output=True, check=False).returncode:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "av==18.1.0"], check=True)
        arguments = [str(python), "-c", PEER, str(clip), str(folder / "known.npy"), str(limit)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def full(self) -> tuple[float, float, float]:
        return self._ask("full")

    def quarter(self) -> tuple[float, float, float]:
        return self._ask("quarter")

    def _ask(self, how: str) -> tuple[float, float, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(how + "\n")
        self._process.stdin.flush()
        count, seconds, cpu, found = json.loads(self._process.stdout.readline())
        return count / seconds, count / cpu, found / count

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# Latency


SERVER = """
import io, pickle, socket, sys, time
import cv2, numpy as np
pictures = pickle.load(open(sys.argv[1], "rb"))
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
client.recv(4096)
client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Type: multipart/x-mixed-replace; boundary=frame\\r\\n\\r\\n")
start, fps = time.monotonic(), float(sys.argv[2])
for number in range(int(sys.argv[3])):
    time.sleep(max(start + number / fps - time.monotonic(), 0))
    image = pictures[number % len(pictures)].copy()
    stamp = int(time.monotonic() * 1e4) % (1 << 32)
    for bit in range(32):
        image[:16, 16 * bit : 16 * bit + 16] = 255 * (stamp >> bit & 1)
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    try:
        client.sendall(b"--frame\\r\\nContent-Type: image/jpeg\\r\\n")
        client.sendall(b"Content-Length: %d\\r\\n\\r\\n" % len(data) + data + b"\\r\\n")
    except OSError:
        break
client.close()
"""


class _Stamps:
    """Reads when each picture was made from its first rows, when all that is done with it has been done."""

    needs_pixels = True

    def __init__(self) -> None:
        self.delays: list[float] = []

    def write(self, watched: Watched) -> None:
        if watched.is_over:
            return
        row = watched.frame.image[4:12, :512].mean(axis=(0, 2)).reshape(32, 16)[:, 4:12].mean(axis=1) > 128
        stamp = sum(1 << bit for bit in range(32) if row[bit])
        self.delays.append(((int(time.monotonic() * 1e4) - stamp) % (1 << 32)) / 10)

    def close(self, summary: object) -> None:
        pass


def latency(folder: Path, *, pictures: int = 240) -> dict[str, Any]:
    """Milliseconds from the making of a picture by a camera to the end of everything that is done with it."""
    import pickle

    cast = people(4)
    result: dict[str, Any] = {"source": "MJPEG over HTTP, 127.0.0.1, 640x480, 30 a second", "pictures": pictures}
    analyzer = Analyzer()
    eyes = Eyes(analyzer)
    eyes.warm_up()
    for name, count in (("one_face", 1), ("four_faces", 4)):
        actors = [
            Actor(who, stills, standing((k + 0.5) / count, 0.5, 0.24, sway=0.03, phase=k), hold_s=2.0)
            for k, (who, stills) in enumerate(cast[:count])
        ]
        source = Composed(Film(actors, seconds=4))
        with (folder / "shots.pickle").open("wb") as file:
            pickle.dump([source.picture(i) for i in range(len(source))], file)
        arguments = [sys.executable, "-c", SERVER, str(folder / "shots.pickle"), "30", str(pictures)]
        server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        stamps = _Stamps()
        stream = open_source(f"http://127.0.0.1:{port}/x", timeout_s=2, give_up_s=0.2)
        summary = watch(stream, eyes, naming=naming(analyzer, eyes), sinks=[stamps])
        server.wait()
        late = np.array(stamps.delays[10:])
        result[name] = {
            **{f"p{q}_ms": float(np.percentile(late, q)) for q in (50, 95, 99)},
            "looked_at": summary.frames,
            "dropped": summary.dropped,
        }
    return result


# Tracks


def tracks(*, films: int = 12, seconds: float = 8.0, fps: float = 15.0) -> dict[str, Any]:
    """Identity switches, IDF1 and HOTA of composed films, beside tracking by overlap alone."""
    cast = people(4 * films, skip=200)
    analyzer = Analyzer(expression=None)
    eyes = Eyes(analyzer)
    rows: dict[str, list[dict[str, float]]] = {"by_looks": [], "by_overlap": []}
    for number in range(films):
        film = mixed(cast[4 * number : 4 * number + 4], seed=number, seconds=seconds, fps=fps, sizes=(0.16, 0.26))
        for arm in rows:
            seen, source = Collector(), Composed(film)
            watch(source, eyes, naming=naming(analyzer, eyes), sinks=[seen], by_overlap=arm == "by_overlap")
            scores = score_tracking(*counted(source, seen), overlap=0.3)
            rows[arm].append({name: getattr(scores, name) for name in scores.__dataclass_fields__})
        print(number, {arm: (r[-1]["switches"], round(r[-1]["idf1"], 3)) for arm, r in rows.items()}, flush=True)
    result: dict[str, Any] = {
        "films": films,
        "seconds": seconds,
        "fps": fps,
        "people_a_film": 4,
        "note": "crossings, a pillar, exits and returns, blur, changing light; faces less than half visible neither "
        "have to be found nor count as false; boxes match from an overlap of 0.3 on",
    }
    for arm, found in rows.items():
        result[arm] = {
            name: interval([row[name] for row in found])
            for name in ("idf1", "hota", "assa", "deta", "switches", "fragments", "missed", "false", "faces")
        }
        result[arm]["switches_in_all"] = sum(row["switches"] for row in found)
    fewer = [b["switches"] - a["switches"] for a, b in zip(rows["by_looks"], rows["by_overlap"], strict=True)]
    better = [a["idf1"] - b["idf1"] for a, b in zip(rows["by_looks"], rows["by_overlap"], strict=True)]
    result["fewer_switches_a_film"], result["idf1_gained"] = interval(fewer), interval(better)
    return result


def counted(source: Composed, seen: Collector) -> tuple[list[dict[int, Box]], list[dict[int, Box]]]:
    """Return truth and tracks a picture, without faces that are hardly visible and without boxes that are theirs."""
    truth, found = [], []
    for number in range(len(source)):
        faces, boxes = source.truth(number), dict(seen.faces.get(number, {}))
        keys = list(boxes)
        shared = overlaps(_rows([one.box for one in faces]), _rows([boxes[key] for key in keys]))
        for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[i, j] >= 0.3 and faces[i].visible < 0.5:
                del boxes[keys[j]]
        truth.append({one.identity: one.box for one in faces if one.visible >= 0.5})
        found.append(boxes)
    return truth, found


def _rows(boxes: Sequence[Box]) -> np.ndarray:
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)


# Names


def names(*, mated: int = 120, others: int = 240, views: int = 5) -> dict[str, Any]:
    """Track-level misses at FPIR 1 % of pooled faces, beside the best face alone and the first one."""
    from mien.types import as_unit

    analyzer = Analyzer(expression=None)
    eyes = Eyes(analyzer)
    folders = sorted((data_folder() / "celeba_identities" / "img").iterdir())
    chosen = np.random.default_rng(5).permutation(len(folders))
    rng = np.random.default_rng(6)
    # All pictures of the set are aligned alike: where the faces are is looked up in a few.
    some = [
        face
        for place in chosen[-24:]
        for face in analyzer.analyze(load_image(min(folders[place].iterdir())), embed=False)[:1]
    ]
    corners = np.median([face.box.as_tuple() for face in some], axis=0).tolist()
    points = np.median([face.landmarks for face in some], axis=0).astype(np.float32)
    usual = Detection(Box(*corners), points, 0.9)
    gallery: list[np.ndarray] = []
    probes: list[tuple[int, dict[str, np.ndarray]]] = []
    for place in chosen:
        is_mated = len(gallery) < mated
        if not is_mated and len(probes) >= mated + others:
            break
        paths = sorted(folders[place].iterdir())[:4]
        faces = [eyes.judge(load_image(path), usual)[0] for path in paths]
        if len(faces) < 3:
            continue
        if is_mated:
            gallery.append(eyes.comparable(eyes.embed(faces[:1]))[0])
            faces = faces[1:]
        evidence = Evidence(Options(), eyes.comparable)
        crops, scores = [], []
        for view in range(views):
            crop = spoiled(faces[view % len(faces)], rng)
            crops.append(crop)
            scores.append(assess(measure(crop, usual.landmarks, usual.box, usual.score)).score)
        plain = eyes.embed(crops)
        single = eyes.comparable(as_unit(plain))
        for view in range(views):
            if scores[view] >= 0.3:
                evidence.take(plain[view], scores[view], view / 5)
        pooled = single[int(np.argmax(scores))] if evidence.template is None else evidence.template
        owner = len(gallery) - 1 if is_mated else -1
        probes.append((owner, {"pooled": pooled, "best_face": single[int(np.argmax(scores))], "first_face": single[0]}))
    templates = np.stack(gallery)
    result: dict[str, Any] = {
        "mated_tracks": mated, "tracks_of_strangers": others, "subjects": mated, "faces_a_track": views, "fpir": 0.01,
    }  # fmt: skip
    misses: dict[str, np.ndarray] = {}
    for arm in ("pooled", "best_face", "first_face"):
        scores = np.array([templates @ probe[arm] for _, probe in probes])
        owners = np.array([owner for owner, _ in probes])
        strangers = np.sort(scores[owners < 0].max(axis=1))[::-1]
        threshold = strangers[int(0.01 * len(strangers))] + 1e-6
        rows = np.flatnonzero(owners >= 0)
        right = (scores[rows].argmax(axis=1) == owners[rows]) & (scores[rows].max(axis=1) >= threshold)
        misses[arm] = 1.0 - right
        result[arm] = {"fnir": interval(misses[arm]), "threshold": float(threshold)}
    result["best_face_minus_pooled"] = interval(misses["best_face"] - misses["pooled"])
    return result


def spoiled(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a crop as a camera on a wall would: smaller, blurred, noisy, darker or lighter."""
    side = crop.shape[0]
    small = int(rng.uniform(22, 60))
    image = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    if (sigma := float(rng.uniform(0, 1.1))) > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    image = image * rng.uniform(0.5, 1.25) + rng.uniform(2, 9) * rng.standard_normal(image.shape)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


# Expressions


CK = {"happy": "happiness", **{name: name for name in ("anger", "contempt", "disgust", "fear", "sadness", "surprise")}}


def expressions(*, readings: int = 12) -> dict[str, Any]:
    """Flips a minute and macro-F1 of degraded faces that show one expression for three seconds, then another."""
    import csv

    from mien.alignment import TEMPLATES
    from mien.vision.finding import cut_face, find_face, patient_detector

    analyzer = Analyzer()
    eyes = Eyes(analyzer)
    reader = analyzer.networks.expression
    assert reader is not None
    folder, detector, rng = data_folder() / "ck48", patient_detector(), np.random.default_rng(8)
    points = TEMPLATES[reader.template or "fer-48"].points_at(reader.side)
    subjects: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    with (folder / "sequences.csv").open() as file:
        for row in csv.DictReader(file):
            if int(row["subject"][1:]) % 2:  # on some of the others `Options.evidence` was chosen
                continue
            crops = []
            for frame in row["frames"].split():
                path = next((folder / row["label"]).glob(f"{row['subject']}_{row['sequence']}_{frame}.*"), None)
                if path is None:
                    continue
                image = load_image(path)
                face = find_face(image, detector)
                if face is not None:
                    crops.append(cut_face(image, face.landmarks, points=points, side=reader.side))
            if not crops:
                continue
            shown = [spoiled(crops[int(k * len(crops) / readings)], rng) for k in range(readings)]
            subjects.setdefault(row["subject"], []).append((CK[row["label"]], eyes.read(shown), np.ones(readings)))
    told: dict[str, list[tuple[list[str], list[str], float]]] = {"raw": [], "smoothed": []}
    for sequences in subjects.values():
        for arm, options in (("raw", Options(smoothing_s=0)), ("smoothed", Options())):
            mood, truth, labels, time_s = Mood(options, eyes.labels), [], [], 0.0
            for label, rows, weights in sequences:
                for row, weight in zip(rows, weights, strict=True):
                    mood.take(row, float(weight), time_s)
                    truth.append(label)
                    labels.append(mood.label or "")
                    time_s += 0.2
            told[arm].append((truth, labels, time_s))
    result: dict[str, Any] = {
        "subjects": len(subjects), "sequences": sum(map(len, subjects.values())), "readings_a_second": 5,
        "seconds_a_sequence": readings / 5,
        "note": "CK+ frames, degraded anew for each reading; true changes are no flips",
    }  # fmt: skip
    for arm, rows in told.items():
        flips = [60 * (_changes(labels) - _changes(truth)) / time_s for truth, labels, time_s in rows]
        result[arm] = {
            "extra_flips_a_minute": interval(flips),
            "macro_f1": _macro_f1(rows),
            "accuracy": _accuracy(rows),
        }
    return result


def _accuracy(rows: Sequence[tuple[list[str], list[str], float]]) -> list[float]:
    return interval([float(np.mean(np.array(truth) == np.array(told))) for truth, told, _ in rows])


def _changes(labels: Sequence[str]) -> int:
    # Before the first label is told there is none to change.
    return sum(a != b for a, b in pairwise(label for label in labels if label))


def _macro_f1(rows: Sequence[tuple[list[str], list[str], float]], rounds: int = 500) -> list[float]:
    classes = sorted({label for truth, _, _ in rows for label in truth})

    def score(chosen: Sequence[int]) -> float:
        truth = np.concatenate([rows[i][0] for i in chosen])
        told = np.concatenate([rows[i][1] for i in chosen])
        values = []
        for name in classes:
            hit = ((truth == name) & (told == name)).sum()
            values.append(2 * hit / max((truth == name).sum() + (told == name).sum(), 1))
        return float(np.mean(values))

    rng = np.random.default_rng(0)
    spread = [score(rng.integers(0, len(rows), len(rows)).tolist()) for _ in range(rounds)]
    return [score(range(len(rows))), *(float(q) for q in np.percentile(spread, [2.5, 97.5]))]


# Memory


class _Looped:
    """A clip over and over, as if it were one long film in which people come and go."""

    live, name = False, "a loop"

    def __init__(self, shots: Sequence[np.ndarray], count: int, marks: Sequence[int], sizes: list[float]) -> None:
        self._shots, self._count, self._marks, self._sizes = shots, count, set(marks), sizes

    def frames(self, notify: Callable[[str, str], None]) -> Iterator[Frame]:
        for number in range(self._count):
            if number in self._marks:
                self._sizes.append(resident())
            yield Frame(self._shots[number % len(self._shots)], number=number, time_s=number / 10)

    def stop(self) -> None:
        pass


def resident() -> float:
    """Return MiB that this process holds now."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(*, pictures: int = 1500) -> dict[str, Any]:
    """Resident memory while a clip in which people come and go is watched over and over."""
    film = mixed(people(2, skip=400), seed=3, seconds=12, fps=10, width=320, height=240, sizes=(0.3, 0.4))
    source = Composed(film)
    shots = [source.picture(i) for i in range(len(source))]
    analyzer = Analyzer()
    eyes = Eyes(analyzer)
    sizes: list[float] = []
    marks = [pictures * k // 10 for k in range(1, 10)] + [pictures - 1]
    loop = _Looped(shots, pictures, marks, sizes)
    summary = watch(loop, eyes, naming=naming(analyzer, eyes), sinks=[Nobody()])
    growth = np.polyfit(np.array(marks[2:]) / 36_000, sizes[2:], 1)[0]
    return {
        "pictures": pictures, "video_minutes": pictures / 600, "resident_mib": sizes,
        "mib_an_hour_of_video": float(growth), "tracks": len(summary.tracks),
        "largest_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


class Nobody:
    """Keeps nothing."""

    needs_pixels = False

    def write(self, watched: Watched) -> None:  # noqa: D102
        pass

    def close(self, summary: object) -> None:  # noqa: D102
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--films", type=int, default=5)
    arguments = parser.parse_args()
    path = RESULTS / "video.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result["machine"] = machine()
    with tempfile.TemporaryDirectory() as place:
        for part in arguments.part:
            start, load = time.perf_counter(), os.getloadavg()[0]
            if part in ("speed", "latency"):
                measured = {"speed": speed, "latency": latency}[part](Path(place))
            elif part == "tracks":
                measured = tracks(films=arguments.films)
            else:
                measured = {"names": names, "expressions": expressions, "memory": memory}[part]()
            took = time.perf_counter() - start
            result[part] = {**measured, "took_s": round(took), "load_before_and_after": [load, os.getloadavg()[0]]}
            print(json.dumps(result[part], indent=1))
            write_result("video", result)
    assert threading.active_count() < 50


if __name__ == "__main__":
    main()
