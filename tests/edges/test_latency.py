"""`shmring.latency`: what is timed, what is not, and that nobody else notices."""

from __future__ import annotations

import array
import pickle
import threading
import time

import pytest
from peer import descriptors_travel

import shmring
from shmring import latency


@pytest.fixture
def ring():
    with shmring.anonymous("64 KiB") as made:
        yield made


def test_one_message_in_n_is_timed_and_all_arrive(ring):
    with latency.Meter(ring, every=10) as meter, meter.producer() as tx, meter.consumer() as rx:
        assert meter.stats() == {}
        for number in range(95):
            tx.send(b"%d" % number)
            assert rx.recv(0) == b"%d" % number
        seen = meter.stats()["default"]
        assert (seen.group, seen.count) == ("default", 9)
        assert 0 < seen.min_ns <= seen.p50_ns <= seen.p90_ns <= seen.p99_ns <= seen.p999_ns <= seen.max_ns


def test_a_message_that_lay_in_the_ring_took_at_least_that_long(ring):
    with latency.Meter(ring, every=1) as meter, meter.producer() as tx, meter.consumer() as rx:
        tx.send(b"message")
        until = time.monotonic() + 0.03
        with pytest.raises(TimeoutError):
            meter.consumer("later", start="latest").recv(max(0, until - time.monotonic()))
        rx.recv()
        assert meter.stats()["default"].min_ns >= 25_000_000


def test_waiting_for_room_is_in_it(ring):
    with latency.Meter(ring, every=1) as meter, meter.producer() as tx, meter.consumer() as rx:
        while tx._inner.try_send(bytes(1000)):
            pass
        assert not tx.try_send(bytes(1000))
        with pytest.raises(TimeoutError):
            tx.send(bytes(1000), timeout=0.001)
        assert len(rx.recv_many(1000)) > 10 and meter.stats() == {}  # they were sent past the meter
        tx.send(b"room")
        assert rx.recv() == b"room" and meter.stats()["default"].count == 1
        while tx._inner.try_send(bytes(1000)):
            pass
        waiter = threading.Thread(target=tx.send, args=(bytes(1000),))
        waiter.start()
        while not any(each.parks for each in ring.stats().participants if each.role == "producer"):
            pass
        assert not threading.Event().wait(0.03)
        while meter.stats()["default"].count < 2:
            rx.recv()
        waiter.join()
        assert meter.stats()["default"].max_ns >= 25_000_000


def test_bytes_are_the_same_for_who_takes_no_part(ring):
    messages = [b"", b"x", bytes(1000), b"\0" * 17]
    with latency.Meter(ring, every=1) as meter, meter.producer() as timed, ring.producer() as plain:
        with ring.consumer() as rx, meter.consumer("timed") as timed_rx:
            for message in messages:
                timed.send(message)
                plain.send(message)
            timed.send(array.array("I", [1, 2]))
            expected = [each for message in messages for each in (message, message)] + [b"\1\0\0\0\2\0\0\0"]
            assert [rx.recv(0) for _ in expected] == expected == [timed_rx.recv(0) for _ in expected]
        assert {group: each.count for group, each in meter.stats().items()} == {"timed": 5}


def test_groups_members_and_observers_are_told_apart(ring):
    with latency.Meter(ring, every=2) as meter, meter.producer() as tx:
        members = [meter.consumer("work"), meter.consumer("work")]
        audit, observer = meter.consumer("audit"), meter.consumer(lossy=True)
        ring.remove_group("default")
        for number in range(20):
            tx.send(b"%d" % number)
            assert members[number // 3 % 2].recv(0) == b"%d" % number
            assert observer.recv(0) == b"%d" % number
        assert len(audit.recv_many(100)) == 20
        assert {group: each.count for group, each in meter.stats().items()} == {"work": 10, "audit": 10, "": 10}
        for each in (*members, audit, observer):
            each.close()


@pytest.mark.parametrize("producers", ["single", "multi"])
def test_a_batch_is_timed_by_the_message_that_it_is_due_at(producers):
    batch = [b"%d" % number for number in range(8)]
    with (
        shmring.anonymous("64 KiB", producers=producers) as ring,
        latency.Meter(ring, every=10) as meter,
        meter.producer() as tx,
        meter.consumer() as rx,
    ):
        assert [tx.send_many(batch) for _ in range(10)] == [8] * 10
        assert tx.send_many([]) == 0
        assert rx.recv_many(1000) == batch * 10
        assert 4 <= meter.stats()["default"].count <= 8


def test_a_batch_that_does_not_fit_tells_how_many_went(ring):
    with latency.Meter(ring, every=1) as meter, meter.producer() as tx, meter.consumer() as rx:
        sent = tx.send_many([bytes(5000)] * 20, timeout=0)
        assert 10 < sent < 20
        with pytest.raises(TimeoutError):
            tx.send_many([bytes(5000)], timeout=0)
        assert len(rx.recv_many(100)) == sent
        with pytest.raises(shmring.MessageTooLarge) as caught:
            tx.send_many([b"a", b"b", bytes(100_000)])
        assert caught.value.sent == 2


def test_a_ring_that_is_shut_down_ends_timed_ends(ring):
    with latency.Meter(ring) as meter, meter.producer() as tx, meter.consumer() as rx:
        tx.send(b"last")
        ring.shutdown()
        assert list(rx) == [b"last"]
        with pytest.raises(shmring.ShutDown):
            rx.try_recv()
        with pytest.raises(shmring.ShutDown):
            tx.send(b"late")


def test_a_named_ring_has_its_times_beside_it(unique_name):
    other = f"{unique_name}.latency"
    with shmring.create(unique_name, "64 KiB") as ring, latency.Meter(ring, every=1) as meter:
        with meter.producer() as tx, meter.consumer() as rx:
            tx.send(b"message")
            rx.recv()
            with shmring.open(unique_name) as again, latency.Meter(again) as anywhere:
                assert anywhere.stats()["default"].count == 1
        with shmring.open(other) as side:
            assert side.content == "latency" and side.stats().groups == []
        meter.unlink()
    shmring.unlink(unique_name)


def test_a_meter_travels_with_its_ring(ring):
    """As to a child that multiprocessing starts: both rings go along."""
    with latency.Meter(ring, every=2) as meter, meter.producer() as tx:
        with descriptors_travel():
            there = pickle.loads(pickle.dumps(meter))
        with there.ring, there, there.consumer() as rx:
            tx.send_many([b"a", b"b"])
            assert rx.recv_many(2) == [b"a", b"b"]
            assert there.every == 2 and there.stats() == meter.stats() and meter.stats()["default"].count == 1


def test_nothing_is_kept_of_what_is_never_received_here(ring):
    """Another member took it: what was noted of it goes, oldest first."""
    with latency.Meter(ring, every=1) as meter, meter.producer() as tx:
        mine, others = meter.consumer("work"), ring.consumer("work")
        ring.remove_group("default")
        for _ in range(3000):
            tx.send(b"")
            others.recv(0)
        tx.send(b"mine")
        assert mine.recv(0) == b"mine"
        assert 0 < len(mine._sent) <= latency._OPEN_NOTES
        assert meter.stats()["work"].count == 1  # the newest note was there
        mine.close()
        others.close()


def test_every_is_a_number_of_messages(ring):
    with pytest.raises(ValueError, match="at least 1"):
        latency.Meter(ring, every=0)


def test_percentiles_are_of_the_times_in_order():
    seen = latency._summary("work", list(range(1000, 0, -1)))
    assert seen == latency.LatencyStats("work", 1000, 1, 501, 901, 991, 1000, 1000)
    assert latency._summary("", [7]) == latency.LatencyStats("", 1, 7, 7, 7, 7, 7, 7)


def test_a_refused_message_is_none_of_the_n(ring):
    with latency.Meter(ring, every=3) as meter, meter.producer() as tx, meter.consumer() as rx:
        while tx._inner.try_send(bytes(1000)):
            pass
        assert not any(tx.try_send(bytes(1000)) for _ in range(5))
        rx.recv_many(1000)
        for timed in 0, 0, 1:
            assert tx.try_send(b"room") and rx.recv(0) == b"room"
            assert sum(each.count for each in meter.stats().values()) == timed
