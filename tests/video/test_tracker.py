import numpy as np
import pytest

from mien.types import Box
from mien.video.options import Options
from mien.video.tracker import Tracker, overlaps
from video.fakes import detection, vector


class Looks:
    """Knows who each detection is; templates are there once a track was seen three times."""

    maybe, same = 0.6, 0.8

    def __init__(self, people, tracker, known):
        self.people, self.tracker, self.known, self.asked = people, tracker, known, 0

    def describe(self, detections):
        self.asked += len(detections)
        return np.stack([vector(self.people[id(one)]) for one in detections])

    def template(self, key):
        return vector(self.known[key]) if key in self.known else None


def follow(paths, *, seconds=4.0, fps=15, by_overlap=False, options=None, hidden=lambda t: ()):
    """Follow people on paths, {who: t -> (x, y) or None}; return who had which numbers, in order, and the tracker."""
    tracker = Tracker(options or Options(), by_overlap=by_overlap)
    numbers, known = {who: [] for who in paths}, {}
    for i in range(round(seconds * fps)):
        t = i / fps
        people, detections = {}, []
        for who, path in paths.items():
            where = path(t)
            if where is not None and who not in hidden(t):
                detections.append(detection(*where, 40))
                people[id(detections[-1])] = who
        tracker.predict(t)
        tracker.search(detections, t, Looks(people, tracker, known))
        for track in tracker.present:
            who = people.get(id(track.detection))
            if who is not None and track.seen_s == t:
                if not numbers[who] or numbers[who][-1] != track.number:
                    numbers[who].append(track.number)
                if track.hits >= 3:
                    known.setdefault(track.key, who)
    return numbers, tracker


STANDING = {1: lambda t: (50, 50), 2: lambda t: (200, 50)}


def test_people_who_stand_apart_keep_their_numbers_and_nobody_is_embedded():
    numbers, tracker = follow(STANDING)
    assert numbers == {1: [1], 2: [2]} and len(tracker.tracks) == 2


def bounce(t):
    """Two who walk towards each other, meet at 2 s, and turn back: by motion alone they seem to have crossed."""
    return 100 - abs(t - 2.0) * 40


PEOPLE = {1: lambda t: (bounce(t), 50), 2: lambda t: (212 - bounce(t), 52)}


def test_who_turns_back_where_paths_meet_keeps_the_number_by_looks_and_not_by_overlap():
    def covered(t):
        return (2,) if 1.6 < t < 2.4 else ()

    by_looks, _ = follow(PEOPLE, hidden=covered)
    assert by_looks == {1: [1], 2: [2]}


def test_who_crosses_behind_somebody_keeps_the_number():
    crossing = {1: lambda t: (20 + 60 * t, 50), 2: lambda t: (260 - 60 * t, 52)}
    numbers, _ = follow(crossing, hidden=lambda t: (2,) if 1.75 < t < 2.25 else ())
    assert numbers == {1: [1], 2: [2]}


def away(t):
    return None if 1.5 < t < 3.5 else (50 + 10 * t, 50)


def test_who_comes_back_has_the_same_number_by_looks_and_another_by_overlap():
    back = {1: away, 2: lambda t: (200, 50)}
    assert follow(back, seconds=5)[0] == {1: [1], 2: [2]}
    assert follow(back, seconds=5, by_overlap=True)[0] == {1: [1, 3], 2: [2]}


def test_somebody_else_who_comes_to_the_same_place_has_a_number_of_their_own():
    others = {1: lambda t: (50, 50) if t < 1.5 else None, 3: lambda t: (50, 50) if t > 3.5 else None}
    assert follow(others, seconds=5)[0] == {1: [1], 3: [2]}


def test_who_is_away_too_long_is_a_new_track():
    numbers, _ = follow({1: away}, seconds=5, options=Options(revive_s=1.0))
    assert numbers == {1: [1, 2]}


def test_leaving_and_coming_back_are_told_once_each():
    tracker, told = Tracker(Options()), []
    for i in range(75):
        t, where = i / 15, away(i / 15)
        detections = [detection(*where, 40)] if where else []
        tracker.predict(t)
        told += [("left", round(track.seen_s, 1)) for track in tracker.left]
        tracker.search(detections, t, Looks({id(one): 1 for one in detections}, tracker, {1: 1}))
        told += [("entered", round(t, 1)) for track in tracker.entered]
    assert told == [("entered", 0.1), ("left", 1.5), ("entered", 3.5)]


def test_one_sight_alone_never_counts():
    tracker = Tracker(Options())
    for i in range(10):
        tracker.predict(i / 10)
        tracker.search([detection(10 + 60 * i, 10, 30)] if i % 2 else [], i / 10, Looks({}, tracker, {}))
    assert tracker.present == [] and len(tracker.tracks) <= 1


def test_a_fast_face_that_overlaps_with_nothing_is_still_the_same():
    numbers, _ = follow({1: lambda t: (10 + 400 * t, 50)}, seconds=1.2, fps=10)
    assert numbers == {1: [1]}


def test_second_looks_move_a_track_and_a_failed_one_makes_it_missing():
    tracker = Tracker(Options(confirm=1))
    tracker.search([detection(10, 10, 40)], 0.0, Looks({}, tracker, {}))
    (track,) = tracker.tracks
    tracker.search([detection(10, 10, 40)], 0.0, Looks({}, tracker, {}))
    tracker.predict(0.1)
    tracker.looked([(track, detection(14, 10, 40))], 0.1)
    assert track.box.left == pytest.approx(14, abs=2) and not track.missing
    tracker.predict(0.2)
    tracker.looked([(track, None)], 0.2)
    assert track.missing and track.seen_s == 0.1


def test_faces_touch_where_their_boxes_overlap():
    tracker = Tracker(Options())
    tracker.search([detection(0, 0, 40), detection(100, 0, 40)], 0.0, Looks({}, tracker, {}))
    assert not tracker.touching()
    tracker.search([detection(0, 0, 40), detection(30, 0, 40)], 1.0, Looks({}, tracker, {}))
    assert tracker.touching()


def test_overlaps_agree_with_counting_px(rng):
    boxes = rng.integers(0, 20, (6, 2, 2)).astype(float)
    boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1) + 1], axis=1)
    masks = [np.zeros((30, 30), bool) for _ in boxes]
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    counted = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    assert overlaps(boxes, boxes) == pytest.approx(np.array(counted))
    assert Box(0, 0, 1, 1).area == 1
