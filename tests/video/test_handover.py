import threading

from mien.video.handover import Everything, NewestOnly, hand_over


def test_a_file_waits_and_a_live_source_does_not():
    assert isinstance(hand_over(False), Everything) and isinstance(hand_over(True), NewestOnly)


def test_the_newest_thing_replaces_one_that_nobody_took_and_is_counted():
    slot = NewestOnly()
    for number in range(5):
        assert slot.put(number)
    assert (slot.get(), slot.dropped, slot.get_ready()) == (4, 4, None)
    slot.put(5)
    assert (slot.get(), slot.dropped) == (5, 4)


def test_everything_comes_in_order_though_the_room_is_small():
    queue, taken = Everything(2), []

    def take():
        while (thing := queue.get()) is not None:
            taken.append(thing)
            queue.done()

    thread = threading.Thread(target=take)
    thread.start()
    assert all(queue.put(number) for number in range(50))
    queue.settle()
    assert taken == list(range(50)) and queue.dropped == 0
    queue.close()
    thread.join(5)
    assert not thread.is_alive()


def test_settling_waits_until_what_was_taken_is_done_with():
    queue = Everything(2)
    queue.put(1)
    assert queue.get() == 1
    settled = threading.Event()
    thread = threading.Thread(target=lambda: (queue.settle(), settled.set()))
    thread.start()
    assert not settled.wait(0.05)
    queue.done()
    assert settled.wait(5)


def test_closing_wakes_who_waits_for_room_and_who_waits_for_things():
    for queue, wait in ((Everything(1), lambda q: q.put(2)), (NewestOnly(), lambda q: q.get())):
        if isinstance(queue, Everything):
            queue.put(1)
        thread = threading.Thread(target=wait, args=(queue,))
        thread.start()
        queue.close(drain=False)
        thread.join(5)
        assert not thread.is_alive()
        assert queue.put(3) is False and queue.get() is None


def test_what_was_handed_over_before_the_end_can_still_be_taken():
    for queue in (Everything(3), NewestOnly()):
        queue.put("last")
        queue.close()
        assert queue.get() == "last" and queue.get() is None
