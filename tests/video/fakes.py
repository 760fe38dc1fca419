"""Pictures whose pixels say who is where and what they show, and networks that read them."""

import threading
import time

import cv2
import numpy as np

from mien.types import Box, Expression, Quality
from mien.video.frames import Frame
from mien.vision.detector import Detection

LABELS = ("neutral", "happiness")
POINTS = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]], np.float32)


def picture(*people, width=160, height=120):
    """Draw people (x, y, side, who, mood) as squares; the last one stands in front. A mood is 0 or 1."""
    image = np.full((height, width, 3), 90, np.uint8)
    for x, y, side, who, mood in people:
        left, top, right, bottom = round(x), round(y), round(x + side), round(y + side)
        image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = (255, 40 * mood, 10 * who)
    return image


def frame(number, *people, fps=30.0, **size):
    return Frame(picture(*people, **size), number=number, time_s=number / fps, arrived_s=time.monotonic())


def detection(x, y, side, score=0.9):
    box = Box(float(x), float(y), float(x + side), float(y + side))
    return Detection(box, POINTS * side + np.float32([x, y]), score)


def vector(who):
    """A direction of its own for everybody."""
    values = np.random.default_rng(who).standard_normal(64)
    return (values / np.linalg.norm(values)).astype(np.float32)


class FakeEyes:
    """Finds coloured squares; the blue is the identity, the green the mood. `slow_s` is slept with each search."""

    maybe, same, surely_same, labels = 0.6, 0.8, 0.8, LABELS

    def __init__(self, *, slow_s=0.0, can_look=True, quality=0.9):
        self.slow_s, self.can_look, self.quality = slow_s, can_look, quality
        self.searches, self.looks, self.embedded, self.read_faces, self.batches = 0, 0, 0, 0, []

    def find(self, image):
        self.searches += 1
        if self.slow_s:
            time.sleep(self.slow_s)
        found = []
        colours = image.reshape(-1, 3)
        for colour in np.unique(colours[colours[:, 0] == 255], axis=0):
            mask = (image == colour).all(axis=2).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            # Half of a square that somebody covers is no face.
            found += [(x, y, w, h) for x, y, w, h, _ in stats[1:].tolist() if 0.7 < w / h < 1.43 and w > 5]
        return sorted((detection(x, y, (w + h) / 2) for x, y, w, h in found), key=lambda one: -one.box.area)

    def look_again(self, image, boxes):
        if not self.can_look:
            return None
        self.looks += len(boxes)
        found = self.find(image)
        self.searches -= 1
        return [
            next((f for f in found if np.hypot(*(middle(f.box) - middle(box))) < box.side / 2), None) for box in boxes
        ]

    def judge(self, image, one):
        x, y = middle(one.box).round().astype(int)
        return np.full((4, 4, 3), image[min(y, image.shape[0] - 1), min(x, image.shape[1] - 1)]), Quality(self.quality)

    def embed(self, crops):
        self.embedded += len(crops)
        self.batches.append(len(crops))
        return np.stack([vector(round(int(crop[0, 0, 2]) / 10)) for crop in crops])

    def comparable(self, vectors):
        return vectors

    def expression_crop(self, image, one):
        return self.judge(image, one)[0]

    def read(self, crops):
        self.read_faces += len(crops)
        moods = [int(crop[0, 0, 1]) > 20 for crop in crops]
        return np.array([[0.1, 0.9] if mood else [0.9, 0.1] for mood in moods])

    def outcome(self, row):
        return Expression(LABELS[int(row.argmax())], dict(zip(LABELS, row.tolist(), strict=True)))


def middle(box):
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])


class FakeSource:
    """Gives frames that are there already, as fast as they are taken, or one every `every_s`."""

    def __init__(self, frames, *, live=False, every_s=0.0, notices=()):
        self.live, self.name = live, "a fake"
        self._frames, self._every_s, self._notices = frames, every_s, dict(notices)
        self._stopped = threading.Event()

    def frames(self, notify):
        for one in self._frames:
            if one.number in self._notices:
                notify(*self._notices[one.number])
            one.arrived_s = time.monotonic()
            yield one
            if self._stopped.wait(self._every_s):
                return

    def stop(self):
        self._stopped.set()


class Collector:
    """A sink that keeps everything."""

    needs_pixels = False

    def __init__(self):
        self.watched, self.summary, self.closed = [], None, 0

    def write(self, watched):
        self.watched.append(watched)

    def close(self, summary):
        self.summary, self.closed = summary, self.closed + 1

    @property
    def events(self):
        return [event for watched in self.watched for event in watched.events]

    def of(self, kind):
        return [event for event in self.events if event.kind == kind]
