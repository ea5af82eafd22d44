"""What a ring tells of itself: stalls in the counters, deaths and laps in the log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import pytest

import shmring


def counters(ring, role):
    return next(each for each in ring.stats().participants if each.role == role)


def fill(tx, size=48):
    while tx.try_send(bytes(size)):
        pass


@pytest.fixture(params=["single", "multi"])
def ring(request):
    with shmring.anonymous("4 KiB", producers=request.param) as made:
        yield made


# ---- stalls ------------------------------------------------------------------------------------------------


def test_a_producer_that_finds_room_has_no_stalls(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        for _ in range(1000):
            tx.send(b"message")
            rx.recv()
        fill(tx)  # refused at once: it did not wait
        assert (counters(ring, "producer").stalls, counters(ring, "producer").stalled_ns) == (0, 0)


@pytest.mark.parametrize("wait", ["spin", "adaptive", "park"])
def test_each_wait_for_room_is_a_stall_of_at_least_its_length(ring, wait):
    with ring.producer(wait=wait) as tx, ring.consumer():
        fill(tx)
        for number in 1, 2:
            with pytest.raises(TimeoutError):
                tx.send(bytes(48), timeout=0.1)
            seen = counters(ring, "producer")
            assert seen.stalls == number and seen.stalled_ns >= number * 50_000_000  # it looked before, which may take a while
        with pytest.raises(TimeoutError):
            tx.send(bytes(48), timeout=0)
        assert counters(ring, "producer").stalls == 2


def test_a_stall_is_counted_while_it_lasts(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        fill(tx)
        waiter = threading.Thread(target=tx.send, args=(bytes(48),))
        waiter.start()
        while counters(ring, "producer").stalls == 0:
            time.sleep(0.001)
        assert counters(ring, "producer").stalled_ns == 0
        rx.recv_many(10)
        waiter.join()
        assert counters(ring, "producer").stalls == 1 and counters(ring, "producer").stalled_ns > 0


def test_a_slot_forgets_the_stalls_of_its_owner_before(ring):
    with ring.producer() as tx, ring.consumer():
        fill(tx)
        with pytest.raises(TimeoutError):
            tx.send(bytes(48), timeout=0.001)
        slot = counters(ring, "producer").slot
    with ring.producer():
        seen = counters(ring, "producer")
        assert (seen.slot, seen.stalls, seen.stalled_ns) == (slot, 0, 0)


def test_a_producer_that_is_closed_while_it_waits_leaves_its_slot_to_the_next_one(ring):
    """Its last thread notes nothing where somebody else counts by then."""
    tx = ring.producer()
    with ring.consumer():
        fill(tx)
        ended = []

        def send():
            with pytest.raises(ValueError, match="closed"):
                tx.send(bytes(48))
            ended.append(True)

        waiter = threading.Thread(target=send)
        waiter.start()
        while counters(ring, "producer").parks == 0:
            time.sleep(0.001)
        tx.close()
        waiter.join()
        assert ended
        with ring.producer():
            assert counters(ring, "producer").stalls == 0


# ---- the log -----------------------------------------------------------------------------------------------


def test_the_log_has_the_facts_of_a_death(named, peer, caplog):
    caplog.set_level(logging.INFO, logger="shmring")
    with named.create(4096) as ring, ring.producer() as tx:
        tx.send(b"message")
        doomed = peer("rx = shmring.open(sys.argv[1]).consumer('work'); view = rx.peek(); say('holds'); hear()", named.name)
        doomed.expect("holds")
        doomed.kill()
        assert ring.repair() == 1
        (record,) = [each for each in caplog.records if each.name == "shmring"]
        assert record.levelno == logging.INFO and f"'work' with pid {doomed.pid}" in record.getMessage()
        facts = dict(record.shmring)
        assert facts.pop("slot") >= 0
        who = {"pid": doomed.pid, "role": "consumer", "group": "work"}
        assert facts == {"event": "died", "ring": ring.name, **who, "missing": 0, "orphaned": True}


def test_a_lapped_observer_is_logged_at_most_once_a_second(caplog):
    caplog.set_level(logging.INFO, logger="shmring")
    with shmring.anonymous("4 KiB") as ring, ring.producer() as tx, ring.consumer(lossy=True) as observer:
        ring.remove_group("default")
        began = time.monotonic()
        for _ in range(5):
            for _ in range(500):
                tx.send(bytes(48))
            while observer.try_recv() is not None:
                pass
        records = [each for each in caplog.records if each.name == "shmring"]
        assert 1 <= len(records) <= 1 + (time.monotonic() - began)  # five laps; more than one record only if it took seconds
        assert records[0].shmring["event"] == "lapped" and 0 < records[0].shmring["lost"] == records[0].shmring["total"]
        assert observer.lost > records[0].shmring["total"]
        assert "lapped out of" in records[0].getMessage()


def test_a_lap_does_not_load_logging():
    code = """
import sys, shmring
with shmring.anonymous("4 KiB") as ring, ring.producer() as tx, ring.consumer(lossy=True) as observer:
    ring.remove_group("default")
    for _ in range(500):
        tx.send(bytes(48))
    observer.recv()
    assert observer.lost and "logging" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=240)
