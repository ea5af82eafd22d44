"""Rings that are bounded in messages: exactly as many are in flight as are allowed, whoever dies, and nobody oversleeps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pytest
from many_producers import PATIENT

import shmring
from shmring import counted

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def ring():
    with shmring.anonymous("64 KiB") as made:
        yield made


def number_of(message: bytes) -> int:
    return int.from_bytes(message[-counted.TRAILER :], "little")


def by_role(ring, role):
    return next(each for each in ring.stats().participants if each.role == role)


def test_as_many_are_in_flight_as_are_allowed(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        assert [counted.try_send(tx, 3, b"%d" % i) for i in range(5)] == [True, True, True, False, False]
        assert counted.count(ring) == 3
        assert counted.recv(rx, None)[: -counted.TRAILER] == b"0"
        assert counted.count(ring) == 2
        assert counted.try_send(tx, 3, b"5")
        assert not counted.try_send(tx, 3, b"6")
        assert [m[: -counted.TRAILER] for m in counted.recv_many(rx, None, 9)] == [b"1", b"2", b"5"]
        assert counted.count(ring) == 0
        assert counted.try_recv(rx, None) is None


def test_messages_are_numbered_from_one_on_however_they_are_sent(ring):
    with ring.producer() as one, ring.producer() as two, ring.consumer() as rx:
        counted.send(one, 0, b"a")
        assert counted.send_many(two, 0, [b"b", b"c", b"d"]) == 3
        assert counted.try_send(one, 0, b"e")
        assert counted.send_many(one, 0, [b"f"]) == 1
        assert [number_of(m) for m in counted.recv_many(rx, None, 99)] == [1, 2, 3, 4, 5, 6]


def test_a_batch_is_cut_where_the_limit_is(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        assert counted.send_many(tx, 4, [b"x"] * 10, timeout=0) == 4
        assert counted.count(ring) == 4
        with pytest.raises(TimeoutError, match=r"4 messages in flight, as many as are allowed") as caught:
            counted.send_many(tx, 4, [b"x"], timeout=0)
        assert caught.value.sent == 0
        assert len(counted.recv_many(rx, None, 99)) == 4


def test_a_full_ring_still_holds_back_who_may_send_more_messages(ring):
    with ring.producer() as tx:
        while counted.try_send(tx, 1 << 30, bytes(1000)):
            pass
        with pytest.raises(TimeoutError, match="is full: no room for 1008 bytes"):
            counted.send(tx, 1 << 30, bytes(1000), timeout=0)


@pytest.mark.parametrize("many", [False, True])
def test_who_waits_for_the_limit_is_woken(ring, many):
    sent = []

    def work():
        for batch in range(50):
            if many:
                counted.send_many(tx, 2, [b"x"] * 3)
            else:
                counted.send(tx, 2, b"x")
            sent.append(batch)

    with ring.producer(wait=PATIENT) as tx, ring.consumer(wait=PATIENT) as rx:
        sender = threading.Thread(target=work)
        sender.start()
        while not by_role(ring, "producer").parks:
            pass  # it sends two, and sleeps
        for _ in range(150 if many else 50):
            counted.recv(rx, None)
        sender.join()
        assert by_role(ring, "consumer").wakes  # else it woke to look for the dead
    assert len(sent) == 50


def _hammer(ring, peer, limit):
    with ring.producer() as tx:
        peer.send("ready")
        peer.recv()
        peer.send(sum(counted.try_send(tx, limit, b"x") for _ in range(2000)))


def test_producers_that_race_keep_the_limit_exactly(ring):
    for limit in (1, 2, 7):
        pipes = [FORK.Pipe() for _ in range(4)]
        children = [FORK.Process(target=_hammer, args=(ring, theirs, limit)) for _, theirs in pipes]
        for child in children:
            child.start()
        assert [ours.recv() for ours, _ in pipes] == ["ready"] * 4
        for ours, _ in pipes:
            ours.send("go")
        assert sum(ours.recv() for ours, _ in pipes) == limit
        for child in children:
            child.join()
        for ends in pipes:
            for end in ends:
                end.close()
        assert counted.count(ring) == limit
        with ring.consumer() as rx:
            assert len(counted.recv_many(rx, None, 99)) == limit


def _take_and_die(ring):
    ring.consumer().recv()  # without a note: as if it was killed before it
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_member_killed_before_its_note_costs_no_place(ring):
    """Nobody else received, so a queue that had room was Full, and put waited for ever."""
    with ring.producer() as tx:
        assert counted.send_many(tx, 3, [b"a", b"b", b"c"]) == 3
        child = FORK.Process(target=_take_and_die, args=(ring,))
        child.start()
        child.join()
        assert counted.count(ring) == 3  # who does not look at messages counts one more
        counted.send(tx, 3, b"d", timeout=0)
        assert not counted.try_send(tx, 3, b"e")
        ring.repair()
        with ring.consumer() as rx:
            assert [m[: -counted.TRAILER] for m in counted.recv_many(rx, None, 9)] == [b"b", b"c", b"d"]
        assert counted.count(ring) == 0


def test_a_member_killed_before_its_note_with_the_last_message_costs_nothing(ring):
    with ring.producer() as tx:
        counted.send(tx, 1, b"a")
        child = FORK.Process(target=_take_and_die, args=(ring,))
        child.start()
        child.join()
        ring.repair()
        assert counted.count(ring) == 0
        assert counted.try_send(tx, 1, b"b")


def test_messages_that_never_came_cost_no_place(ring):
    with ring.producer() as tx, ring.consumer():
        tx.reserve(10).abort()
        assert counted.try_send(tx, 1, b"a")
        assert not counted.try_send(tx, 1, b"b")


@pytest.mark.parametrize("lie", [0, 7, 1 << 63, (1 << 64) - 1])
def test_a_first_message_that_lies_about_its_number_is_not_believed(ring, lie):
    with ring.producer() as tx:
        tx.send(b"payload" + lie.to_bytes(8, "little"))
        assert [counted.try_send(tx, 3, b"x") for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("distance", [-(1 << 40), 1 << 40])
def test_a_head_that_cannot_be_does_not_lift_the_limit(unique_name, distance):
    """It lies further from the tail than the ring is large: nothing was claimed, as far as anybody can tell."""
    with shmring.create(unique_name, "64 KiB") as ring, ring.producer() as tx:
        ring.consumer().close()
        counted.send_many(tx, 2, [b"a", b"b"])
        with open(f"/dev/shm/{unique_name}", "r+b") as file:
            head = 8192 + 128  # of the first group: docs/layout.md
            file.seek(head)
            word = int.from_bytes(file.read(8), "little")
            file.seek(head)
            file.write(((word + distance) & ((1 << 64) - 1)).to_bytes(8, "little"))
        assert not counted.try_send(tx, 2, b"c")


def test_what_was_sent_without_a_number_is_told(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"short")
        with pytest.raises(shmring.CorruptRing, match="a message of 5 bytes has no number"):
            counted.recv(rx, None)


def test_a_number_that_was_never_given_does_not_lift_the_limit(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"payload" + (1 << 62).to_bytes(8, "little"))
        with pytest.raises(shmring.CorruptRing, match=f"says that it is number {1 << 62}, of 1 that were sent"):
            counted.recv(rx, None)
        assert [counted.try_send(tx, 3, b"x") for _ in range(4)] == [True, True, True, False]


def test_wrong_arguments_are_refused(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        with pytest.raises(ValueError, match="a limit is at least 0, not -1"):
            counted.send(tx, -1, b"")
        with pytest.raises(TypeError, match="messages are bytes, not str"):
            counted.send_many(tx, 0, [b"a", "b"])
        with pytest.raises(TypeError):
            counted.send(tx, 0, None)
        with pytest.raises(ValueError, match="timeout"):
            counted.recv(rx, None, timeout=-1)
    with (
        shmring.anonymous(4096, producers="single") as single,
        single.producer() as tx,
        pytest.raises(ValueError, match="is for a single producer"),
    ):
        counted.send(tx, 1, b"a")
    with pytest.raises(shmring.MessageTooLarge), ring.producer() as tx:
        counted.send(tx, 0, bytes(64 << 10))
    with ring.producer() as tx:
        ring.shutdown()
        with pytest.raises(shmring.ShutDown):
            counted.send(tx, 0, b"a")
