"""Several members of one group: what they hold, and who wakes them."""

from __future__ import annotations

import itertools
import os
import random
import threading

import pytest
from shared_groups import MOST_VIEWS, PATIENT, drain, ring  # noqa: F401 (fixtures)

import shmring

# ---- views -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_room_comes_when_the_oldest_view_of_any_member_goes(ring, order):
    with ring.producer() as tx:
        members = [ring.consumer() for _ in range(3)]
        for number in range(4):
            tx.send(bytes([number]) * 1008, timeout=0)
        views = [members[number % 3].peek(0) for number in range(4)]
        released, sent = set(), 0
        for number in order:
            assert [each.sequence for each in views] == sorted(each.sequence for each in views)
            assert bytes(views[number].data) == bytes([number]) * 1008
            views[number].release()
            released.add(number)
            prefix = next(each for each in range(5) if each not in released)
            while tx.try_send(bytes([9]) * 1008):
                sent += 1
            assert sent == prefix
            assert ring.stats().used == 4096
        for number in range(4):
            assert members[number % 3].recv(0) == bytes([9]) * 1008
        assert ring.stats().used == 0


def test_a_view_holds_its_room_while_the_others_read_on(ring):
    with ring.producer() as tx, ring.consumer() as keeper, ring.consumer() as other:
        for lap in range(5):
            sent = tx.send_many([bytes(240)] * 20, timeout=0)
            assert sent == 16
            view = keeper.peek(0)
            assert len(drain(other)) == 15
            assert not tx.try_send(b"") and other.try_recv() is None
            with pytest.raises(TimeoutError, match=rf"pid {os.getpid()}\b.* has not released .*4096 bytes"):
                tx.send(b"", timeout=0)
            assert bytes(view.data) == bytes(240), lap
            view.release()


def test_a_blocked_producer_is_woken_by_the_release_that_makes_room(ring):
    """It sleeps for an hour unless the last of three views, by three members, wakes it."""
    with ring.producer(wait=PATIENT) as tx:
        members = [ring.consumer() for _ in range(3)]
        for order in itertools.permutations(range(3)):
            tx.send_many([bytes(1008)] * 3)
            views = [each.peek(0) for each in members]
            before = [each.parks for each in ring.stats().participants if each.role == "producer"]
            thread = threading.Thread(target=tx.send, args=(bytes(4080),))
            thread.start()
            while before == [each.parks for each in ring.stats().participants if each.role == "producer"]:
                pass
            for number in order:
                assert thread.is_alive()
                views[number].release()
            thread.join()
            assert members[0].recv(0) == bytes(4080)


def test_a_member_that_holds_too_much_is_told_and_loses_nothing(ring):
    with ring.producer() as tx, ring.consumer() as keeper, ring.consumer() as other:
        tx.send_many([b"%d" % number for number in range(2 * MOST_VIEWS + 4)])
        views = []
        for number in range(MOST_VIEWS):
            views.append(keeper.peek(0))
            assert other.recv(0) == b"%d" % (2 * number + 1)
        for call in (keeper.peek, keeper.recv, lambda timeout: keeper.recv_many(3, timeout)):
            with pytest.raises(shmring.TooManyViews, match=r"'default'.* release some views") as caught:
                call(timeout=0)
            assert isinstance(caught.value, BufferError)
        assert [bytes(each.data) for each in views] == [b"%d" % (2 * number) for number in range(MOST_VIEWS)]
        views.pop(7).release()
        assert keeper.recv(0) == b"30"
        views.append(keeper.peek(0))
        assert bytes(views[-1].data) == b"31"
        assert drain(other) == [b"32", b"33"]
        for each in reversed(views):
            each.release()
        assert ring.stats().used == 0
        tx.send(b"end")
        assert keeper.recv(0) == b"end"


def test_views_in_a_row_count_as_one(ring):
    with ring.producer() as tx, ring.consumer() as keeper, ring.consumer() as other:
        tx.send_many([b"%d" % number for number in range(60)])
        views = [keeper.peek(0) for _ in range(50)]
        assert drain(other) == [b"%d" % number for number in range(50, 60)]
        for each in random.Random(1).sample(views, len(views)):
            each.release()
        assert ring.stats().used == 0


@pytest.mark.parametrize("seed", range(4))
def test_views_are_released_in_any_order_by_any_member(ring, seed):
    rng = random.Random(seed)
    with ring.producer() as tx:
        members = [ring.consumer() for _ in range(3)]
        held = []  # (number, view)
        sent = taken = 0
        for _ in range(1500):
            if rng.random() < 0.5 and tx.try_send(b"%d " % sent + bytes(rng.randrange(200))):
                sent += 1
            elif held and rng.random() < 0.55:
                number, view = held.pop(rng.randrange(len(held)))
                assert bytes(view.data).startswith(b"%d " % number)
                view.release()
            elif taken < sent:
                try:
                    view = rng.choice(members).peek(0)
                except shmring.TooManyViews:
                    continue
                assert bytes(view.data).startswith(b"%d " % taken)
                held.append((taken, view))
                taken += 1
            assert all(bytes(view.data).startswith(b"%d " % number) for number, view in held)
        assert sent > 100
        for _, view in held:
            view.release()


# ---- buffers, lag ------------------------------------------------------------------------------------------


def test_a_small_buffer_leaves_the_message_to_any_member(ring):
    with ring.producer() as tx, ring.consumer() as first, ring.consumer() as second:
        for refuses, takes in ((first, second), (second, first), (first, first)):
            tx.send(b"eight by")
            for _ in range(3):
                with pytest.raises(ValueError, match=r"8.*7"):
                    refuses.recv_into(bytearray(7), timeout=0)
            buffer = bytearray(8)
            assert (takes.recv_into(buffer, timeout=0), bytes(buffer)) == (8, b"eight by")
            assert ring.stats().used == 0


def test_lag_is_the_groups_whoever_asks(ring):
    with ring.producer() as tx, ring.consumer() as first, ring.consumer() as second, ring.consumer("b") as other:
        tx.send_many([b"x"] * 5)
        assert [each.lag for each in (first, second, other)] == [5, 5, 5]
        with first.peek(0):
            assert [each.lag for each in (first, second, other)] == [4, 4, 5]
        second.recv_many(2)
        assert first.lag == second.lag == ring.stats().groups[0].lag < 4
        assert other.lag == 5


# ---- waking ------------------------------------------------------------------------------------------------

MATE = """
    patient = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
    work, back, go = (shmring.open(sys.argv[1] + end) for end in ("work", "back", "go"))
    rx, tx, start = work.consumer(wait=patient), back.producer(), go.consumer(sys.argv[2], wait=patient)
    say("attached")
    for message in rx:
        tx.send(message)
        start.recv()
    say("done")
"""


@pytest.mark.parametrize("burst", ["batch", "one by one", "several producers"])
def test_a_burst_wakes_as_many_sleepers_as_it_has_messages(unique_name, peer, burst):
    """A barrier made of messages: each member takes one and waits for all the others to have taken theirs. They sleep for an
    hour unless they are woken."""
    members, rounds = 4, 150
    work, back, go = (shmring.create(unique_name + end, 4096) for end in ("work", "back", "go"))
    with work, back, go:
        go.remove_group("default")
        mates = [peer(MATE, unique_name, number) for number in range(members)]
        for each in mates:
            each.expect("attached")
        producers = [work.producer() for _ in range(members)]
        arrived, start = back.consumer(wait=PATIENT), go.producer()
        for number in range(rounds):
            messages = [b"%d %d" % (number, each) for each in range(members)]
            if burst == "batch":
                producers[0].send_many(messages)
            else:
                for each, message in enumerate(messages):
                    producers[each if burst == "several producers" else 0].send(message)
            assert sorted(arrived.recv() for _ in range(members)) == messages
            start.send(b"go")
        work.shutdown()
        for each in mates:
            each.expect("done")
            each.finish()


def test_a_burst_wakes_sleepers_in_threads(ring):
    members, rounds = 4, 50
    taken = threading.Barrier(members)
    received = []

    def read(rx):
        for message in rx:
            received.append(message)
            taken.wait()

    with ring.producer() as tx:
        threads = [threading.Thread(target=read, args=(ring.consumer(wait=PATIENT),)) for _ in range(members)]
        for each in threads:
            each.start()
        for number in range(rounds):
            while sum(each.parks for each in ring.stats().participants) < members:  # all slept at least once
                pass
            tx.send_many([b"%d" % number] * members)
        ring.shutdown()
        for each in threads:
            each.join()
    assert sorted(received) == sorted([b"%d" % number for number in range(rounds)] * members)


@pytest.mark.parametrize("members", [1, 5])
def test_shutdown_reaches_every_sleeping_member(ring, members):
    ends = []
    consumers = [ring.consumer(wait=PATIENT) for _ in range(members)]
    threads = [threading.Thread(target=lambda rx=rx: ends.append(list(rx))) for rx in consumers]
    for each in threads:
        each.start()
    while sum(each.parks > 0 for each in ring.stats().participants) < members:
        pass
    ring.shutdown()
    for each in threads:
        each.join()
    assert ends == [[]] * members
