"""Many producers: batches, a full ring, a full table."""

from __future__ import annotations

import itertools
import os
import random
import threading

import pytest
from many_producers import HEADER, PATIENT, assert_complete, drain, topology  # noqa: F401 (fixtures)

import shmring

# ---- batches -----------------------------------------------------------------------------------------------

BATCHES = """
    tx = shmring.open(sys.argv[1]).producer()
    say("attached")
    hear()
    for batch in range(int(sys.argv[3])):
        assert tx.send_many([b"%s %d %d" % (sys.argv[2].encode(), batch, i) for i in range(20)]) == 20
    say("done")
"""


def test_batches_of_bytes_are_contiguous(named, peer):
    producers, batches = 3, 200
    with named.create(1 << 20) as ring, ring.consumer() as rx:
        writers = [peer(BATCHES, named.name, who, batches) for who in range(producers)]
        for each in writers:
            each.expect("attached")
        for each in writers:
            each.say()
        for each in writers:
            each.expect("done")
        received = [tuple(map(int, message.split())) for message in drain(rx)]
        assert len(received) == producers * batches * 20
        for start in range(0, len(received), 20):
            who, batch, _ = received[start]
            assert received[start : start + 20] == [(who, batch, i) for i in range(20)]
        for who in range(producers):
            assert [batch for each, batch, i in received if (each, i) == (who, 0)] == list(range(batches))


def test_batches_larger_than_the_ring_keep_their_order(ring):
    rx = ring.consumer()
    threads = [
        threading.Thread(target=ring.producer().send_many, args=([b"%d %d" % (who, i) for i in range(2000)],))
        for who in range(3)
    ]
    for each in threads:
        each.start()
    received = []
    while len(received) < 6000:
        received += rx.recv_many(11)
    for each in threads:
        each.join()
    assert_complete(received, 3, 2000)


@pytest.mark.parametrize("sizes", [(700,) * 3, (2032, 2033), (0,) * 200, (4080, 0), (16, 4000, 16)], ids=len)
def test_batches_of_bytes_and_others_arrive_in_order(ring, sizes):
    kinds = itertools.cycle([bytes, bytearray, bytes, bytes, lambda body: memoryview(body)[:]])
    with ring.producer() as tx, ring.consumer() as rx:
        for _ in range(5):
            bodies = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
            batch = [next(kinds)(body) for body in bodies]
            received = []
            while len(received) < len(bodies):
                sent = tx.send_many(batch[len(received) :], timeout=0)
                assert sent >= 1
                received += rx.recv_many(1000, timeout=0)
            assert received == bodies


def test_more_messages_than_one_reservation_can_count(backing):
    """16 bits of a reservation count its messages."""
    count = (1 << 16) + 10
    with backing.create(1 << 22) as ring, ring.producer() as tx, ring.consumer() as rx, ring.producer() as other:
        assert tx.send_many([b""] * count, timeout=0) == count
        assert other.send_many([b"end"], timeout=0) == 1
        received = 0
        while received < count:
            received += rx.recv_many(count).count(b"")
        assert rx.recv(0) == b"end"


def test_the_last_reference_to_a_message_may_send_in_the_middle_of_a_batch(ring):
    """While send_many waits, somebody takes the message out of the list, and its finalizer sends."""
    with ring.producer() as tx, ring.consumer() as rx:

        class Message(bytearray):
            def __del__(self):
                tx.try_send(b"last words" * 9)

        tx.send(bytes(4080))
        batch = [Message(b"0"), b"1", b"2", b"3"]
        thread = threading.Thread(target=tx.send_many, args=(batch,))
        thread.start()
        while not any(each.role == "producer" and each.waits for each in ring.stats().participants):
            pass
        batch[0] = None
        rx.recv(0)
        thread.join()
        assert [message for message in drain(rx) if message != b"last words" * 9] == [b"0", b"1", b"2", b"3"]


# ---- room --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [16, 64])
def test_one_record_of_any_producer_fills_the_ring(backing, align):
    with backing.create(4096, align=align) as ring, ring.consumer() as rx:
        producers = [ring.producer() for _ in range(3)]
        for number in range(9):
            body = random.Random(number).randbytes(ring.max_message)
            tx = producers[number % 3]
            with pytest.raises(shmring.MessageTooLarge, match=rf"{len(body) + 1}.*{len(body)}"):
                tx.reserve(len(body) + 1)
            tx.send(body, timeout=0)
            assert not any(each.try_send(b"") for each in producers)
            assert rx.recv(0) == body


@pytest.mark.parametrize("past_seam", [-128, -64, -16, 0, 1, 16, 700])
def test_records_of_several_producers_are_whole_at_the_seam(ring, past_seam):
    with ring.producer() as a, ring.producer() as b, ring.consumer() as rx:
        a.send(bytes(2048 - HEADER))
        rx.recv(0)
        body = random.Random(past_seam).randbytes(2048 - HEADER + past_seam)
        claim = b.reserve(len(body), timeout=0)
        a.send(b"behind", timeout=0)
        claim.view[:] = body
        claim.commit()
        assert drain(rx) == [body, b"behind"]


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_full_ring_names_who_is_how_far_behind(named, peer, timeout):
    with named.create(4096) as ring, ring.producer() as tx, ring.producer() as other, ring.consumer("mine") as mine:
        reader = peer(
            """
            rx = shmring.open(sys.argv[1]).consumer("theirs")
            say("reading")
            hear()
            view = rx.peek()
            while rx.try_recv() is not None: pass
            say("looking")
            hear()
        """,
            named.name,
        )
        reader.expect("reading")
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4
        with pytest.raises(TimeoutError) as caught:
            other.send(b"x", timeout=timeout)
        text = str(caught.value)
        assert f"'theirs' is 4096 bytes behind, read by consumer with pid {reader.pid}" in text
        assert f"'mine' is 4096 bytes behind, read by consumer with pid {os.getpid()}" in text
        assert "'default' is 4096 bytes behind, read by nobody" in text
        ring.remove_group("default")
        assert len(drain(mine)) == 4
        reader.say()
        reader.expect("looking")
        with pytest.raises(TimeoutError, match=rf"pid {reader.pid}\b.* has not released .*4096 bytes") as caught:
            other.send(b"x", timeout=timeout)
        assert "bytes behind" not in str(caught.value) and f"pid {os.getpid()}" not in str(caught.value)


@pytest.mark.parametrize("sizes", [(0,) * 5, (4080,) * 5, (3000, 10, 2000, 10, 4080)], ids=str)
def test_producers_that_sleep_for_room_are_all_served(ring, sizes):
    """None of them has another chance but to be woken."""
    rounds = 20
    with ring.consumer() as rx:
        producers = [ring.producer(wait=PATIENT) for _ in sizes]
        producers[0].send(bytes(4080))

        def write(tx, size):
            for _ in range(rounds):
                tx.send(bytes(size))

        threads = [
            threading.Thread(target=write, args=each) for each in zip(producers, sizes, strict=True)
        ]
        for each in threads:
            each.start()
        while sum(each.parks > 0 for each in ring.stats().participants if each.role == "producer") < len(sizes):
            pass
        lengths = [len(rx.recv()) for _ in range(1 + rounds * len(sizes))]
        for each in threads:
            each.join()
        assert sorted(lengths) == sorted([4080, *sizes * rounds])
        assert rx.try_recv() is None


# ---- tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 4, 64, 65])
def test_one_participant_too_many_is_told_the_limit_and_who_is_there(backing, limit):
    with backing.create(4096, max_participants=limit) as ring:
        there = [ring.producer() for _ in range(limit)]
        for join in (ring.producer, ring.consumer, lambda: ring.consumer(lossy=True), lambda: ring.consumer("new")):
            with pytest.raises(shmring.TooManyParticipants, match=rf"{limit} participants.*{os.getpid()}") as caught:
                join()
            assert isinstance(caught.value, OSError)
        assert [group.name for group in ring.stats().groups] == ["default"]
        there[limit // 2].close()
        with ring.consumer() as rx:
            assert [each.slot for each in ring.stats().participants if each.role == "consumer"] == [limit // 2]
            for number, tx in enumerate(there):
                if not tx.closed:
                    tx.send(b"%d" % number, timeout=0)
            assert drain(rx) == [b"%d" % number for number in range(limit) if number != limit // 2]


def test_joining_and_leaving_leaves_nothing_but_the_messages(ring):
    with ring.consumer() as rx:
        for number in range(300):
            with ring.producer() as a, ring.producer() as b:
                a.send(b"a%d" % number, timeout=0)
                b.send(b"b%d" % number, timeout=0)
            if number % 2:
                assert rx.recv_many(9) == [b"%s%d" % (who, i) for i in (number - 1, number) for who in (b"a", b"b")]
        assert ring.stats().participants[0].role == "consumer" and len(ring.stats().participants) == 1
