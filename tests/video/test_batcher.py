from mien.types import Box, Quality
from mien.video.batcher import Batcher
from mien.video.evidence import Naming
from mien.video.options import Options
from mien.video.records import Entered, Identity, Left
from mien.video.vision import Followed, Request, Step
from video.fakes import FakeEyes, detection, frame, picture
from video.test_evidence import FakeGallery

BOX = Box(10.0, 10.0, 50.0, 50.0)


def batcher(eyes=None, **people):
    return Batcher(eyes or FakeEyes(), Options(), Naming(FakeGallery(**people), model="fake", threshold=0.7, same=0.8))


def step(number, who, *events, key=1, track=1):
    crop = picture((0, 0, 8, who, 0), width=4, height=4)
    request = Request(key, detection(10, 10, 40), Quality(0.9), crop, crop, crop)
    return Step(frame(number, fps=5), (Followed(key, track, BOX, True),), (request,), events)


def left(number, track=1, since=0.0):
    return Left(number / 5, number, track, since, number / 5, Identity())


def test_steps_come_out_in_order_with_one_run_of_the_networks():
    eyes = FakeEyes()
    told = list(batcher(eyes, ada=1).process([step(number, 1) for number in range(4)]))
    assert [one.frame.number for one in told] == [0, 1, 2, 3] and eyes.batches == [4]
    assert [one.faces[0].identity.label for one in told] == ["", "ada", "ada", "ada"]


def test_a_track_in_which_somebody_else_came_back_is_told_of_as_two_people():
    made = batcher(ada=1, bob=2)
    list(made.process([step(number, 1) for number in range(5)]))
    list(made.process([Step(frame(8, fps=5), (), (), (left(8),))]))
    back = Entered(4.0, 20, 1, BOX, True)
    list(made.process([step(20, 2, back), step(21, 2), step(22, 2), Step(frame(23), (), (), (left(23, since=4.0),))]))
    first, second = made.summaries()
    assert (first.track, first.identity.subject, first.visits) == (1, "ada", ((0.0, 1.6),))
    assert (second.track, second.identity.subject, second.visits) == (1, "bob", ((4.0, 4.6),))


def test_who_came_back_as_themselves_is_one_person_with_two_visits():
    made = batcher(ada=1)
    list(made.process([step(number, 1) for number in range(5)]))
    list(made.process([Step(frame(8, fps=5), (), (), (left(8),))]))
    list(made.process([step(20, 1, Entered(4.0, 20, 1, BOX, True)), step(21, 1), step(22, 1)]))
    list(made.process([Step(frame(23), (), (), (left(23, since=4.0),))]))
    (only,) = made.summaries()
    assert only.identity.subject == "ada" and len(only.visits) == 2 and only.seconds > 2


def test_two_who_are_equally_like_a_subject_both_have_the_name():
    made = batcher(ada=1)
    both = [step(number, 1, key=key, track=key) for number in range(6) for key in (1, 2)]
    told = list(made.process(both))
    assert [one.faces[0].identity.label for one in told[-2:]] == ["ada", "ada"]


def test_memory_does_not_grow_with_those_who_left_long_ago():
    made = batcher()
    for number in range(40):
        list(made.process([step(200 * number, 1, key=number, track=number + 1)]))
        list(made.process([Step(frame(200 * number + 1, fps=5), (), (), (left(200 * number + 1, number + 1),))]))
    assert len(made._people) <= 3 and len(made._by_number) <= 3 and len(made.summaries()) == 40
