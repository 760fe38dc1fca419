import numpy as np
import pytest

from mien.gallery.records import UnreachableError
from mien.types import Candidate
from mien.video.evidence import Evidence, Mood, Naming, expression_of
from mien.video.options import Options
from video.fakes import LABELS, FakeEyes, vector


class FakeGallery:
    """Knows people by their vectors, exactly."""

    def __init__(self, **people):
        self.people, self.searches = people, 0

    def search(self, embedding, k, *, per_subject):
        self.searches += 1
        scores = {name: float(embedding.vector @ vector(who)) for name, who in self.people.items()}
        best = sorted(scores, key=lambda name: -scores[name])[:k]
        return tuple(Candidate(name, 1, 1, scores[name]) for name in best)

    def subject(self, name):
        from mien.errors import GalleryError

        if name not in self.people:
            raise GalleryError("no such subject")


def mixed(who, other, share):
    """Somebody seen so badly that they look like somebody else by a share."""
    made = (1 - share) * vector(who) + share * vector(other)
    return (made / np.linalg.norm(made)).astype(np.float32)


def evidence(**options):
    return Evidence(Options(**options), lambda vectors: vectors)


def naming(gallery=None, threshold=0.7):
    return Naming(gallery, model="fake", threshold=threshold, same=0.8)


def take(known, names, *views, quality=0.9, start=0.0):
    """Take views one after the other; return what changed."""
    changes = []
    for i, view in enumerate(views):
        known.take(view, quality, start + i / 5)
        if known.decide(names):
            changes.append(known.identity.label)
    return changes


def test_somebody_known_is_named_by_the_second_face_and_not_by_the_first():
    known, names = evidence(), naming(FakeGallery(ada=1))
    assert take(known, names, vector(1)) == [] and known.identity.state == "pending"
    assert take(known, names, vector(1)) == ["ada"] and known.identity.score == pytest.approx(1.0)


def test_one_bad_face_does_not_take_a_name_away():
    known, names = evidence(), naming(FakeGallery(ada=1))
    take(known, names, vector(1), vector(1))
    assert take(known, names, vector(9), quality=0.4) == [] and known.identity.subject == "ada"


def test_a_name_is_taken_back_when_better_faces_say_so_again_and_again():
    known, names = evidence(), naming(FakeGallery(ada=1, bob=2))
    take(known, names, vector(1), vector(1), quality=0.4)
    assert take(known, names, *[vector(2)] * 6) == ["bob"]


def test_a_stranger_is_unknown_only_after_several_faces():
    known, names = evidence(), naming(FakeGallery(ada=1))
    assert take(known, names, *[vector(7)] * 4) == []
    assert take(known, names, vector(7)) == ["unknown-1"]


def test_who_is_near_the_threshold_is_not_hurried():
    known, names = evidence(crops=8), naming(FakeGallery(ada=1), threshold=0.7)
    near = mixed(1, 5, 0.5)
    score = float(near @ vector(1))
    assert 0.67 < score < 0.8
    names.threshold = score + 0.01
    assert take(known, names, *[near] * 7) == []
    assert take(known, names, near) == ["unknown-1"]


def test_the_same_stranger_has_the_same_number_and_another_one_the_next():
    names = naming()
    labels = [take(evidence(), names, vector(who), vector(who)) for who in (5, 6, 5)]
    assert labels == [["unknown-1"], ["unknown-2"], ["unknown-1"]]


def test_the_template_is_the_weighted_mean_of_the_best_faces():
    known = evidence(crops=2)
    known.take(vector(3), 0.1, 0.0)
    known.take(vector(1), 0.9, 0.2)
    known.take(vector(2), 0.6, 0.4)
    expected = 0.9 * vector(1) + 0.6 * vector(2)
    assert known.template == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6) and known.votes == 3


def test_faces_together_find_who_no_single_one_does(rng):
    gallery = FakeGallery(ada=1)
    views = []
    for _ in range(5):
        noise = rng.standard_normal(64)
        view = vector(1) + 1.2 * noise / np.linalg.norm(noise)
        views.append((view / np.linalg.norm(view)).astype(np.float32))
    alone = [float(view @ vector(1)) for view in views]
    assert max(alone) < 0.8
    known = evidence()
    assert take(known, naming(gallery, threshold=0.8), *views) == ["ada"]


def test_a_template_that_did_not_move_is_not_searched_again():
    gallery = FakeGallery(ada=1)
    known, names = evidence(), naming(gallery)
    take(known, names, *[vector(1)] * 9)
    assert gallery.searches == 1


def test_a_subject_who_is_erased_while_watching_is_a_name_no_more():
    gallery = FakeGallery(ada=1)
    known, names = evidence(), naming(gallery)
    take(known, names, vector(1), vector(1))
    del gallery.people["ada"]
    assert take(known, names, *[vector(1)] * 3) == ["unknown-1"]


def test_a_name_goes_to_the_more_similar_of_two_who_are_there_at_once():
    names = naming(FakeGallery(ada=1), threshold=0.7)
    known, other = evidence(), evidence()
    near = mixed(1, 5, 0.3)
    for view in (near, near):
        other.take(view, 0.9, 0.0)
        known.take(vector(1), 0.9, 0.0)
    assert known.decide(names) and known.identity.subject == "ada"
    taken = {"ada": known.identity.score}
    assert not other.decide(names, taken=taken) and other.identity.state == "pending"
    # Somebody who had the name first loses it, once that is said twice.
    early = evidence()
    take(early, names, near, near)
    assert early.identity.subject == "ada" and not early.decide(names, taken=taken)
    assert early.decide(names, taken=taken) and early.identity.label == "unknown-1"
    assert not known.decide(names, taken={"ada": early.identity.score or 0.0})


def test_who_comes_back_and_looks_the_same_keeps_what_is_known():
    known, names = Evidence(Options(), lambda vectors: vectors, same=0.8), naming(FakeGallery(ada=1))
    take(known, names, vector(1), vector(1))
    known.come_back()
    assert [known.take(mixed(1, 5, 0.2), 0.5, 9.0 + i) for i in range(3)] == [False] * 3
    assert known.identity.subject == "ada" and known.votes == 5 and known.template @ vector(1) > 0.97


def test_somebody_else_in_the_place_of_one_who_left_is_decided_anew():
    known, names = Evidence(Options(), lambda vectors: vectors, same=0.8), naming(FakeGallery(ada=1, bob=2))
    take(known, names, *[vector(1)] * 5)
    known.come_back()
    assert not known.take(vector(2), 0.5, 9.0) and known.identity.subject == "ada"
    assert known.take(vector(2), 0.5, 9.2) and known.identity.state == "pending"
    assert known.decide(names) and known.identity.subject == "bob"


def test_a_track_that_ends_is_decided_by_what_there_is():
    known, names = evidence(), naming(FakeGallery(ada=1))
    known.take(vector(1), 0.9, 0.0)
    assert not known.decide(names) and known.decide(names, final=True) and known.identity.subject == "ada"
    assert not evidence().decide(names, final=True)


SAD, GLAD = np.array([0.9, 0.1]), np.array([0.1, 0.9])


def readings(rng, seconds=40.0, every_s=0.2, wrong=0.2):
    """Two moods that change every ten seconds, a share of the readings wrong."""
    times = np.arange(0, seconds, every_s)
    truth = [LABELS[int(t // 10) % 2] for t in times]
    told = [np.array([0.75, 0.25] if label == "neutral" else [0.25, 0.75]) for label in truth]
    flipped = [row[::-1] if rng.uniform() < wrong else row for row in told]
    return times, truth, flipped


def run(mood, times, rows):
    told, changes = [], 0
    for time_s, row in zip(times, rows, strict=True):
        changes += mood.take(np.asarray(row), 0.8, float(time_s))
        told.append(mood.label)
    return told, changes - 1


def test_smoothing_removes_flips_and_follows_what_lasts(rng):
    times, truth, rows = readings(rng)
    raw, raw_flips = run(Mood(Options(smoothing_s=0), LABELS), times, rows)
    smooth, flips = run(Mood(Options(), LABELS), times, rows)
    right = [np.mean([a == b for a, b in zip(told, truth, strict=True)]) for told in (raw, smooth)]
    assert flips <= raw_flips / 4 and flips >= 3 and right[1] > right[0]


def test_a_poor_reading_counts_for_less():
    moods = [Mood(Options(), LABELS) for _ in range(2)]
    for mood, quality in zip(moods, (0.9, 0.1), strict=True):
        mood.take(SAD, 0.9, 0.0)
        mood.take(GLAD, quality, 0.2)
    assert moods[0].smoothed[1] > moods[1].smoothed[1]


def test_one_sure_mistake_does_not_outweigh_a_second():
    mood = Mood(Options(), LABELS)
    for i in range(5):
        mood.take(SAD, 0.9, i / 5)
    mood.take(np.array([0.0, 1.0]), 0.3, 1.0)
    assert mood.smoothed[0] > 0.5


def told_after(reading, quality=0.9):
    """Return how many such readings it takes until another expression is told; 99: never."""
    mood = Mood(Options(), LABELS)
    for i in range(5):
        mood.take(SAD, 0.9, i / 5)
    return next((i + 1 for i in range(60) if mood.take(np.array(reading), quality, 1 + i / 5)), 99)


def test_sure_readings_change_what_is_told_at_once_and_unsure_ones_slowly():
    assert told_after([0.02, 0.98]) == 1 < told_after([0.2, 0.8]) < told_after([0.45, 0.55]) < 99
    assert told_after([0.5, 0.5]) == 99 and told_after([0.3, 0.7], quality=0.1) > told_after([0.3, 0.7])


def test_times_of_expressions_add_up_and_leave_gaps_out():
    mood = Mood(Options(), LABELS)
    for time_s in (0.0, 0.5, 1.0, 60.0, 60.5):
        mood.take(SAD, 0.9, time_s)
    assert mood.seconds == {"neutral": pytest.approx(1.5)}


def test_a_day_of_readings_takes_no_more_memory_than_an_hour():
    mood = Mood(Options(), LABELS)
    for i in range(20_000):
        mood.take(SAD, 0.9, i * 0.2)
    assert 200 < len(mood.series) <= 801
    assert mood.series[0][0] == 0.0 and mood.series[-1][0] > 3900


def test_what_is_told_is_the_label_that_lasts_with_the_probabilities_of_now():
    mood, eyes = Mood(Options(), LABELS), FakeEyes()
    assert expression_of(mood, eyes.outcome) is None
    mood.take(SAD, 0.9, 0.0)
    assert expression_of(mood, eyes.outcome) is None
    mood.take(SAD, 0.9, 0.4)
    mood.smoothed = np.array([0.4, 0.6])
    told = expression_of(mood, eyes.outcome)
    assert told.label == "neutral" and told.probabilities["happiness"] == 0.6


def test_a_gallery_out_of_reach_leaves_names_as_they_are_and_is_said_once(monkeypatch):
    gallery = FakeGallery(ada=1, bob=2)
    known, names, said = evidence(), naming(gallery), []
    names.notify = lambda what, text: said.append((what, text))
    take(known, names, vector(1), vector(1))
    there = gallery.search

    def gone(*_, **__):
        gallery.searches += 1
        raise UnreachableError("The server does not answer.")

    gallery.search = gallery.subject = gone
    asked = gallery.searches
    assert take(known, names, vector(2), vector(2), vector(2), start=1) == [] and known.identity.label == "ada"
    assert gallery.searches == asked + 1, "it is not asked again at once"
    assert [what for what, _ in said] == ["gallery lost"] and "does not answer" in said[0][1]

    gallery.search = there
    del gallery.subject
    monkeypatch.setattr("mien.video.evidence.time.monotonic", lambda: 1e12)
    assert take(known, names, *[vector(2)] * 12, start=2) == ["bob"]
    assert [what for what, _ in said] == ["gallery lost", "gallery back"]
