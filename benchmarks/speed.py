"""Time `analyze` against `face_recognition` on the same pictures and cores, and find where the time goes.

The peer runs in a virtual environment of its own, made on first use (dlib-bin has no build step). Both see the same
pictures, 640x480 with one face, already decoded; both are warm; calls alternate in blocks so that a busy machine slows
both. Ratios are the result, milliseconds depend on the machine.

    python benchmarks/speed.py [--blocks 5]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from common import machine, write_result

from mien import zoo
from mien.analyzer import Analyzer
from mien.images import load_image, save_image
from mien.vision.embedder import Embedder
from mien.zoo.session import make_session, session_options

PEER = """
import sys, json, time
import numpy as np, face_recognition
pictures = np.load(sys.argv[1])
for line in sys.stdin:
    times = []
    for picture in pictures:
        start = time.perf_counter()
        found = face_recognition.face_encodings(picture, face_recognition.face_locations(picture))
        times.append([time.perf_counter() - start, len(found)])
    print(json.dumps(times), flush=True)
"""


EMBEDDER, FAST = "sface-resnet27", "face-resnet27"
NETWORKS = {"blazeface-back": (1, 3, 256, 320), "centerface": (1, 3, 128, 128), EMBEDDER: (1, 3, 112, 112)}
"""What one 640x480 picture with one face is shown to, and at which size."""


def pictures() -> np.ndarray:
    """Return 640x480 pictures with one face each: the astronaut portrait at several sizes and places."""
    portrait = load_image(zoo.path("astronaut"))
    made = []
    for scale, left, top in (
        (0.6, 40, 60),
        (0.7, 200, 20),
        (0.8, 100, 30),
        (0.9, 130, 10),
        (0.75, 10, 90),
        (0.65, 280, 50),
    ):
        small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.full((480, 640, 3), 96, np.uint8)
        height, width = min(small.shape[0], 480 - top), min(small.shape[1], 640 - left)
        canvas[top : top + height, left : left + width] = small[:height, :width]
        made.append(canvas)
    return np.stack(made)


def peer_python(folder: Path) -> Path:
    """Make the peer's environment."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*pip, "setuptools<81", "numpy", "pillow", "click", "dlib-bin==20.0.1.post1", "face-recognition-models"],
            check=True,
        )
        subprocess.run([*pip, "--no-deps", "face_recognition==1.3.0"], check=True)
    return python


def summary(seconds: list[float]) -> dict[str, float]:
    """Return milliseconds: least, median, 95th percentile."""
    ms = np.array(seconds) * 1e3
    return {"min_ms": float(ms.min()), "p50_ms": float(np.median(ms)), "p95_ms": float(np.percentile(ms, 95))}


def parts() -> dict[str, dict[str, float]]:
    """Time each network alone at the size that `analyze` uses."""
    result = {}
    for name, shape in NETWORKS.items():
        session = make_session(zoo.path(name), options=session_options(threads=None if name == EMBEDDER else 1))
        blob = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        times = []
        for _ in range(60):
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: blob})
            times.append(time.perf_counter() - start)
        result[name] = summary(times[10:])
    return result


def one_face() -> dict[str, dict[str, float]]:
    """Time the embedding of one aligned face on one thread, all that belongs to it included."""
    result = {}
    for name in (EMBEDDER, FAST):
        embedder = Embedder(zoo.card(name), threads=1)
        crop = np.random.default_rng(0).integers(0, 256, (1, embedder.side, embedder.side, 3), dtype=np.uint8)
        times = []
        for _ in range(110):
            start = time.perf_counter()
            embedder.embed(crop)
            times.append(time.perf_counter() - start)
        result[name] = summary(times[10:])
    return result


def throughput(folder: Path, count: int = 1000) -> dict[str, float]:
    """Compare pictures a second from files with what the networks alone reach on the same cores."""
    shots = pictures()
    paths = []
    for i in range(count):
        path = folder / f"{i:04d}.jpg"
        if i < len(shots):
            save_image(path, shots[i])
        else:
            os.link(folder / f"{i % len(shots):04d}.jpg", path)
        paths.append(path)
    analyzer = Analyzer(expression=None)
    list(analyzer.pictures(paths[:8]))
    workers = analyzer.threads
    # What `analyze` runs for one face, one thread each, on blobs that are ready.
    rng = np.random.default_rng(0)
    runs = []
    for name, shape in NETWORKS.items():
        session = make_session(zoo.path(name), options=session_options(threads=1))
        runs.append((session, {session.get_inputs()[0].name: rng.uniform(0, 255, shape).astype(np.float32)}))

    def networks(_: int) -> None:
        for session, feed in runs:
            session.run(None, feed)

    rates: dict[str, list[float]] = {"networks": [], "files": []}
    for _ in range(3):
        with ThreadPoolExecutor(workers) as pool:
            start = time.perf_counter()
            list(pool.map(networks, range(count // 2)))
            rates["networks"].append(count / 2 / (time.perf_counter() - start))
        start = time.perf_counter()
        found = sum(len(picture.faces) for picture in analyzer.pictures(paths))
        rates["files"].append(count / (time.perf_counter() - start))
        assert found == count
    shares = [a / b for a, b in zip(rates["files"], rates["networks"], strict=True)]
    return {
        "pictures": count,
        "networks_per_s": float(np.median(rates["networks"])),
        "files_per_s": float(np.median(rates["files"])),
        "share": float(np.median(shares)),
        "shares": shares,
    }


def cold() -> dict[str, float]:
    """Time whole processes: the help page, and one picture."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        save_image(path, pictures()[0])
        for name, command in (
            ("help", ["--help"]),
            ("analyze", ["analyze", str(path), "--json"]),
            ("verify", ["verify", str(path), str(path), "--json"]),
        ):
            times = []
            for _ in range(7):
                start = time.perf_counter()
                subprocess.run([Path(sys.executable).parent / "mien", *command], check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            result[name] = float(np.median(times))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "mien-peer-face-recognition")
    arguments = parser.parse_args()
    shots = pictures()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pictures.npy", shots)
        peer = subprocess.Popen(
            [peer_python(arguments.peer), "-c", PEER, Path(folder) / "pictures.npy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def ask_peer() -> list[list[float]]:
            peer.stdin.write("go\n")
            peer.stdin.flush()
            return json.loads(peer.stdout.readline())

        # What the peer does, too: find and embed. By default expressions are read on top of that.
        analyzers = {name: Analyzer(detector=name, expression=None) for name in ("auto", "fast", "accurate")}
        analyzers[f"auto_with_{FAST}"] = Analyzer(embedder=FAST, expression=None)
        analyzers["auto_with_expression"] = Analyzer()
        times: dict[str, list[float]] = {name: [] for name in ("face_recognition", *analyzers)}
        found: dict[str, int] = dict.fromkeys(times, 0)
        for block in range(arguments.blocks + 1):
            rows = ask_peer()
            ours: dict[str, list[float]] = {}
            for name, analyzer in analyzers.items():
                ours[name] = []
                for _ in range(5):
                    for shot in shots:
                        start = time.perf_counter()
                        faces = analyzer.analyze(shot)
                        ours[name].append(time.perf_counter() - start)
                        found[name] += len(faces) if block else 0
            if block:  # the first block warms up
                times["face_recognition"] += [row[0] for row in rows]
                found["face_recognition"] += int(sum(row[1] for row in rows))
                for name in analyzers:
                    times[name] += ours[name]
        peer.stdin.close()
        peer.wait()
        result = {
            "machine": machine(),
            "pictures": "640x480, one face, decoded",
            "times": {name: summary(values) for name, values in times.items()},
            "faces_a_picture": {name: found[name] / len(values) for name, values in times.items()},
            "ratio_p50": {
                name: float(np.median(times["face_recognition"]) / np.median(times[name])) for name in analyzers
            },
            "networks_alone": parts(),
            "embed_one_face_one_thread": one_face(),
            "throughput": throughput(Path(folder)),
            "cold_s": cold(),
        }
    write_result("speed", result)
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=1))


if __name__ == "__main__":
    main()
