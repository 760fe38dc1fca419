"""Compare first looks on small faces: group photographs shrunk onto a 640x480 canvas. How the default was chosen.

MIEN_DATA=... python benchmarks/detectors.py
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
from common import data_folder, machine, write_result

from mien import zoo
from mien.images import load_image
from mien.types import Box
from mien.vision.detector import Detector

SHRINK = (1, 1.5, 2, 3)


def photographs() -> list[tuple[np.ndarray, list[Box]]]:
    """Return the pictures with marked faces, and the marks."""
    folder, found = data_folder() / "groups", {}
    for name in ("training.xml", "testing.xml"):
        for entry in ElementTree.parse(folder / name).getroot().iter("image"):
            marks = [mark for mark in entry.iter("box") if mark.get("ignore") != "1"]
            sizes = [[int(mark.get(key)) for key in ("left", "top", "width", "height")] for mark in marks]
            found[entry.get("file")] = [Box(x, y, x + w, y + h) for x, y, w, h in sizes]
    return [(load_image(folder / name), boxes) for name, boxes in found.items()]


def agree(face: Box, mark: Box) -> bool:
    """Return whether both are round the same middle."""
    across = (face.left + face.right - mark.left - mark.right) / 2
    down = (face.top + face.bottom - mark.top - mark.bottom) / 2
    return abs(across) < 0.35 * mark.width and abs(down) < 0.45 * mark.width


def main() -> None:
    centerface, blazeface = zoo.card("centerface"), zoo.card("blazeface-back")
    second = Detector(centerface, threads=1)
    detectors = {f"centerface x {scale:g}": Detector(centerface, threads=1, scale=scale) for scale in (0.5, 0.75, 1.0)}
    for scale in (0.3, 0.4, 0.5, 0.75):
        name = f"blazeface x {scale:g}, centerface on each face"
        detectors[name] = Detector(blazeface, threads=1, scale=scale, second=second)
    pictures = photographs()
    rows = []
    for name, detector in detectors.items():
        for shrink in SHRINK:
            found = false = 0
            times, sides = [], []
            for image, marks in pictures:
                small = cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
                canvas = np.full((max(480, small.shape[0]), max(640, small.shape[1]), 3), 120, np.uint8)
                canvas[: small.shape[0], : small.shape[1]] = small
                wanted = [Box(*(side / shrink for side in mark.as_tuple())) for mark in marks]
                start = time.perf_counter()
                faces = [face.box for face in detector.detect(canvas)]
                times.append((time.perf_counter() - start) * 1e3)
                found += sum(any(agree(face, mark) for face in faces) for mark in wanted)
                false += sum(not any(agree(face, mark) for mark in wanted) for face in faces)
                sides += [mark.width for mark in wanted]
            rows.append(
                {
                    "detector": name,
                    "median_face_px": float(np.median(sides)),
                    "faces": len(sides),
                    "found": found,
                    "false": false,
                    "p50_ms": float(np.median(times)),
                }
            )
            print(rows[-1])
    write_result("detectors", {"machine": machine(), "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
