"""docs/layout.md is enough to attach: a member, a producer and an observer written from it work beside ours."""

from __future__ import annotations

import os
import random

import pytest
from foreign_consumer import ForeignConsumer, ForeignObserver, ForeignProducer, ForeignRing

import shmring


@pytest.fixture(params=["multi", "single"])
def producers(request):
    return request.param


@pytest.fixture(params=[16, 64])
def both(request, tmp_path, producers):
    """A live ring of ours, and what the foreign reader makes of the same file."""
    path = tmp_path / "ring"
    with shmring.create(path, "4 KiB", align=request.param, producers=producers) as ring:
        foreign = ForeignRing(str(path))
        yield ring, foreign
        foreign.close()


def test_a_reader_of_the_document_finds_every_record(both):
    ring, foreign = both
    messages = [os.urandom(size) for size in (0, 1, 15, 16, 17, 100, 1000)]
    with ring.producer() as tx:
        tx.send_many(messages)
        position, found = foreign.head(foreign.group("default")), []
        while position != foreign.tail:
            _, message, _, position = foreign.record(position)
            found.append(message)
    assert found == messages


def test_a_reader_of_the_document_reads_across_the_end(both):
    ring, foreign = both
    with ring.producer() as tx, ring.consumer() as rx:
        for size in (1500, 1500, 1500, 900, 2000, 4080 - ring.align):
            message = os.urandom(size)
            tx.send(message)
            assert foreign.record(foreign.head(foreign.group("default")))[1] == message
            rx.recv()


def test_a_consumer_of_the_document_gates_our_producer_and_is_seen(both):
    ring, foreign = both
    consumer = ForeignConsumer(foreign, "default")
    with ring.producer() as tx:
        assert [each.pid for each in ring.stats().participants if each.role == "consumer"] == [os.getpid()]
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


def test_a_consumer_of_the_document_shares_a_group_with_ours(both):
    ring, foreign = both
    with ring.producer() as tx, ring.consumer() as rx:
        consumer = ForeignConsumer(foreign, "default")
        choose, sent, received = random.Random(8), [], []
        for number in range(500):
            while not tx.try_send(b"%d" % number):
                received.append(choose.choice([rx.try_recv, consumer.recv])())
            sent.append(b"%d" % number)
        while (message := choose.choice([rx.try_recv, consumer.recv])()) is not None:
            received.append(message)
        consumer.leave()
    assert received == sent


def test_what_a_consumer_of_the_document_holds_is_not_written_over(both):
    ring, foreign = both
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"held", b"other"])
        consumer = ForeignConsumer(foreign, "default")
        assert consumer.claim() == b"held"
        assert rx.recv(timeout=0) == b"other"
        while tx.try_send(bytes(400)):
            rx.recv()
        consumer.release()
        assert tx.try_send(bytes(400))
        consumer.leave()


def test_our_consumer_takes_over_from_one_that_died(both):
    ring, foreign = both
    with ring.producer() as tx:
        tx.send_many([b"one", b"two", b"three"])
    consumer = ForeignConsumer(foreign, "default")
    assert consumer.recv() == b"one"
    assert consumer.claim() == b"two"
    os.close(consumer.life)  # what the kernel does when its process dies
    with ring.consumer() as rx:
        with rx.peek(timeout=0) as view:
            assert bytes(view.data) == b"two" and view.redelivered
        assert rx.recv(timeout=0) == b"three"
    assert ring.stats().groups[0].repaired == 1


@pytest.mark.parametrize("producers", ["multi"], indirect=True)
def test_a_producer_of_the_document_sends_beside_ours(both):
    ring, foreign = both
    producer = ForeignProducer(foreign)
    choose = random.Random(9)
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer(lossy=True) as observer:
        sent, received, seen = [], [], []
        for number in range(500):
            message = b"%d " % number + bytes(choose.randrange(300))
            while not choose.choice([tx.try_send, producer.send])(message):
                received.append(rx.recv(timeout=0))
            sent.append(message)
            seen.append(observer.recv(timeout=0))
        received += [rx.recv(timeout=0) for _ in range(len(sent) - len(received))]
    producer.leave()
    assert received == seen == sent


@pytest.mark.parametrize("producers", ["multi"], indirect=True)
def test_the_gap_of_a_producer_of_the_document_is_closed(both):
    ring, foreign = both
    producer = ForeignProducer(foreign)
    with ring.producer() as tx, ring.consumer() as rx:
        assert producer.reserve([10, 20, 30])
        producer.stamp(b"0123456789")
        tx.send(b"behind it")
        assert rx.recv(timeout=0) == b"0123456789"
        assert rx.try_recv() is None
        os.close(producer.life)  # what the kernel does when its process dies
        assert ring.repair() == 1
        assert rx.recv(timeout=0) == b"behind it"
        assert ring.stats().aborted == 2


def test_an_observer_of_the_document_reads_all_or_counts_it(both):
    ring, foreign = both
    ring.remove_group("default")
    choose = random.Random(10)
    only_read = ForeignRing(foreign.path, readonly=True)
    with ring.producer() as tx:
        observer, sent, received = ForeignObserver(only_read), 0, 0
        for _ in range(300):
            for _ in range(choose.randrange(30)):
                tx.send(b"%d " % sent + bytes(choose.randrange(200)))
                sent += 1
            for _ in range(choose.randrange(30)):
                message = observer.recv()
                if message is None:
                    break
                received += 1
                assert int(message.split()[0]) == received + observer.lost - 1
    while observer.recv() is not None:
        received += 1
    assert received + observer.lost == sent and observer.lost
    only_read.close()
