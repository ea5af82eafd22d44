"""docs/layout.md is enough to attach: a consumer written from it works beside ours."""

from __future__ import annotations

import os
import random

import pytest
from foreign_consumer import ForeignConsumer, ForeignRing

import shmring


@pytest.fixture(params=[16, 64])
def both(request, tmp_path):
    """A live ring of ours, and what the foreign reader makes of the same file."""
    path = tmp_path / "ring"
    with shmring.create(path, "4 KiB", align=request.param) as ring:
        foreign = ForeignRing(str(path))
        yield ring, foreign
        foreign.close()


def test_a_reader_of_the_document_finds_every_record(both):
    ring, foreign = both
    messages = [os.urandom(size) for size in (0, 1, 15, 16, 17, 100, 1000)]
    with ring.producer() as tx:
        tx.send_many(messages)
        position, found = foreign.get(foreign.group("default") + 128), []
        while position != foreign.tail:
            message, position = foreign.record(position)
            found.append(message)
    assert found == messages


def test_a_reader_of_the_document_reads_across_the_end(both):
    ring, foreign = both
    with ring.producer() as tx, ring.consumer() as rx:
        for size in (1500, 1500, 1500, 900, 2000, 4080 - ring.align):
            message = os.urandom(size)
            tx.send(message)
            assert foreign.record(foreign.get(foreign.group("default") + 128))[0] == message
            rx.recv()


def test_a_consumer_of_the_document_gates_our_producer_and_is_seen(both):
    ring, foreign = both
    consumer = ForeignConsumer(foreign, "default")
    with ring.producer() as tx:
        assert [each.pid for each in ring.stats().participants if each.role == "consumer"] == [os.getpid()]
        with pytest.raises(shmring.MemberTaken):
            ring.consumer()
        choose, sent, received = random.Random(7), [], []
        for _ in range(500):
            message = bytes([choose.randrange(256)]) * choose.randrange(900)
            while not tx.try_send(message):
                received.append(consumer.recv())
            sent.append(message)
        ring.shutdown()
        assert foreign.is_shutdown
        while (message := consumer.recv()) is not None:
            received.append(message)
    consumer.leave()
    assert received == sent
    with ring.consumer() as rx, pytest.raises(shmring.ShutDown):
        rx.recv(timeout=0)


def test_our_consumer_takes_over_from_one_that_died(both):
    ring, foreign = both
    with ring.producer() as tx:
        tx.send_many([b"one", b"two", b"three"])
    consumer = ForeignConsumer(foreign, "default")
    assert consumer.recv() == b"one"
    os.close(consumer.life)  # what the kernel does when its process dies
    with ring.consumer() as rx:
        assert rx.recv(timeout=0) == b"two"
    assert ring.stats().groups[0].repaired == 1
