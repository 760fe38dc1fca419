"""Faces that need no weights: red squares found by their colour, embedded by a tiny ONNX network.

A square's blue says whose it is. `store` puts the network, called `tiny`, into a store of its own.
"""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from mien.types import Box, OperatingPoint
from mien.vision.detector import Detection
from mien.zoo.adding import add
from zoo.nets import embedder

POINTS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)
POINT_1 = OperatingPoint(1e-1, 0.80, 0.1, 0.01, (0.09, 0.11), (0.0, 0.02), 100, 1000, "squares")
POINT_2 = OperatingPoint(1e-3, 0.9999, 1e-3, 0.1, (1e-4, 2e-3), (0.05, 0.2), 100, 1000, "squares")


def scene(*squares, width=160, height=120):
    """Draw squares (left, top, side, blue) on grey."""
    image = np.full((height, width, 3), 90, np.uint8)
    for left, top, side, blue in squares:
        image[top : top + side, left : left + side] = (255, 0, blue)
        # A mark of its own place and colour in each square, so that crops of two subjects differ in more than one way.
        third = side // 3
        image[top + 2 : top + third, left + 2 : left + third] = (255, 0, 255 - blue)
    return image


def save(path, *squares, **size):
    """Write a scene without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", scene(*squares, **size)[..., ::-1])
    assert done
    path.write_bytes(bytes(data))
    return path


class SquareDetector:
    """Stands in for `mien.vision.detector.Detector`."""

    def detect(self, image):
        mask = ((image[..., 0] == 255) & (image[..., 1] == 0)).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found = [
            Detection(Box(float(x), float(y), float(x + w), float(y + h)), POINTS * (w, h) + np.float32([x, y]), 0.9)
            for x, y, w, h, _ in stats[1:].tolist()
        ]
        return sorted(found, key=lambda detection: -detection.box.area)


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory):
    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_HOME", str(home))
        add(embedder().save(home / "tiny.onnx"), name="tiny", role="embedder", convention_name="arcface-112")
    facts = {"operating_points": [asdict(POINT_1), asdict(POINT_2)], "probability": [10.0, -8.0]}
    (home / "measured").mkdir()
    (home / "measured" / "tiny.json").write_text(json.dumps(facts))
    return home


@pytest.fixture
def store(filled_store, monkeypatch):
    """A store with the embedder `tiny`; every detector finds red squares."""
    monkeypatch.setenv("MIEN_HOME", str(filled_store))
    monkeypatch.setenv("MIEN_OFFLINE", "1")
    monkeypatch.setattr("mien.analyzer.Detector", lambda card, **_: SquareDetector())
    return filled_store
