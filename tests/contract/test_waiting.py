"""wait() over several rings, wait policies as arguments, and the wake-ups they promise."""

from __future__ import annotations

import os
import re
import threading

import pytest

import shmring
from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)


def when_parked(ring, then):
    """Run `then` in a thread as soon as somebody sleeps on the ring."""

    def watch():
        while not any(each.parks for each in ring.stats().participants):
            pass
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture
def two(backing, tmp_path, unique_name):
    with backing.create(4096) as first, shmring.anonymous(4096) as second:
        yield first, second


def test_wait_gives_the_ready_ones_in_order(two):
    first, second = two
    with first.producer() as tx1, second.producer() as tx2, first.consumer() as rx1, second.consumer() as rx2:
        assert shmring.wait([rx1, rx2], timeout=0) == []
        assert shmring.wait([rx1, rx2], timeout=0.01) == []
        tx2.send(b"x")
        assert shmring.wait([rx1, rx2]) == [rx2]
        tx1.send(b"x")
        assert shmring.wait([rx2, rx1]) == [rx2, rx1]
        assert shmring.wait(iter([rx2, tx1, rx1]), timeout=0) == [rx2, tx1, rx1]


def test_wait_for_a_single_handle_does_not_drain_it(two):
    """A consumer is iterable: a list of it is its messages, taken until the shutdown that may never come."""
    first, _ = two
    with first.producer() as tx, first.consumer() as rx, first.consumer(lossy=True) as observer:
        tx.send(b"kept")
        for handle in (rx, tx, observer):
            with pytest.raises(TypeError, match="list of handles"):
                shmring.wait(handle, timeout=0)
        assert rx.recv(0) == b"kept"


def test_wait_is_woken_by_any_of_its_rings(two):
    for ring in two:
        with (
            two[0].consumer(wait=PATIENT) as rx1,
            two[1].consumer(wait=PATIENT) as rx2,
            ring.producer() as tx,
        ):
            thread = when_parked(ring, lambda tx=tx: tx.send(b"x"))
            ready = shmring.wait([rx1, rx2])
            thread.join()
            assert [each.ring for each in ready] == [ring]
            ready[0].recv(0)


def test_wait_knows_when_the_refused_message_fits(two):
    ring, other = two
    with ring.producer(wait=PATIENT) as tx, ring.consumer() as rx, other.consumer(wait=PATIENT) as idle:
        assert tx.send_many([bytes(1008)] * 9, timeout=0) == 4
        assert not tx.try_send(bytes(2032))
        assert shmring.wait([tx, idle], timeout=0) == []
        rx.recv(0)
        assert shmring.wait([tx, idle], timeout=0) == []
        thread = when_parked(ring, lambda: rx.recv(0))
        assert shmring.wait([tx, idle]) == [tx]
        thread.join()
        assert tx.try_send(bytes(2032))


def test_wait_sees_shutdown(two):
    ring, other = two
    with ring.consumer(wait=PATIENT) as rx, other.consumer(wait=PATIENT) as idle:
        thread = when_parked(ring, ring.shutdown)
        assert shmring.wait([idle, rx]) == [rx]
        thread.join()
    with other.producer() as tx:
        tx.send(bytes(4080))
        other.shutdown()
        assert shmring.wait([tx], timeout=0) == [tx]


def test_wait_refuses_nothing_and_too_many(two):
    with two[0].consumer() as rx:
        for handles in ([], [rx] * 129):
            with pytest.raises(ValueError):
                shmring.wait(handles)
        assert shmring.wait([rx] * 128, timeout=0.001) == []
        for other in (two[0], 3):
            with pytest.raises(TypeError, match=f"takes consumers, observers and producers, not {re.escape(repr(other))}"):
                shmring.wait([rx, other], timeout=0)


@pytest.mark.parametrize(
    "wait", ["spin", "adaptive", "park", WaitPolicy.park, WaitPolicy(parks=False), PATIENT]
)
def test_every_policy_waits_and_times_out(backing, wait):
    with backing.create(4096) as ring, ring.producer(wait=wait) as tx, ring.consumer(wait=wait) as rx:
        with pytest.raises(TimeoutError):
            rx.recv(timeout=0.005)
        tx.send(bytes(4080))
        with pytest.raises(TimeoutError):
            tx.send(b"", timeout=0.005)


@pytest.mark.parametrize(
    "numbers",
    [
        {"held": -1},
        {"yields": -1},
        {"spin_us": -1},
        {"spin_us": float("nan")},
        {"slice_ms": 0},
        {"slice_ms": float("inf")},
    ],
)
def test_impossible_policies_are_value_errors(numbers):
    with pytest.raises(ValueError):
        WaitPolicy(**numbers)


@pytest.mark.parametrize("event", ["message", "shutdown"])
def test_a_parked_consumer_is_woken_and_not_by_its_time_slice(ring, event):
    with ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        thread = when_parked(ring, ring.shutdown if event == "shutdown" else lambda: tx.send(b"wake"))
        assert list(rx) == [] if event == "shutdown" else rx.recv() == b"wake"
        thread.join()


@pytest.mark.parametrize("event", ["room", "shutdown", "group removed"])
def test_a_parked_producer_is_woken_and_not_by_its_time_slice(ring, event):
    ring.consumer("other").close()
    with ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        tx.send(bytes(4080))
        if event != "group removed":
            ring.remove_group("other")
        else:
            rx.recv(0)
        acts = {
            "room": lambda: rx.recv(0),
            "shutdown": ring.shutdown,
            "group removed": lambda: ring.remove_group("other"),
        }
        thread = when_parked(ring, acts[event])
        if event == "shutdown":
            with pytest.raises(shmring.ShutDown):
                tx.send(b"x")
        else:
            tx.send(b"x")
        thread.join()


def test_a_parked_producer_needs_every_group(ring):
    with ring.producer(wait=PATIENT) as tx, ring.consumer() as a, ring.consumer("b") as b:
        tx.send(bytes(4080))
        thread = when_parked(ring, lambda: (a.recv(0), b.recv(0)))
        tx.send(b"x")
        thread.join()
        assert a.recv(0) == b.recv(0) == b"x"


def test_threads_that_wait_for_different_room_are_all_served(ring):
    with ring.producer(wait=PATIENT) as tx, ring.consumer() as rx:
        tx.send_many([bytes(48)] * 64)
        threads = [threading.Thread(target=tx.send, args=(bytes(size),)) for size in (2000, 0, 1000, 100)]
        for number, each in enumerate(threads, 1):
            each.start()
            while sum(each.parks for each in ring.stats().participants) < number:
                pass
        lengths = sorted(len(rx.recv()) for _ in range(68))
        for each in threads:
            each.join()
        assert lengths == sorted([48] * 64 + [2000, 0, 1000, 100])


@pytest.fixture
def confined():
    """To one CPU, for as long as the test lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def parks_of_short_waits(ring, rx):
    for _ in range(50):
        with pytest.raises(TimeoutError):
            rx.recv(timeout=15e-6)  # shorter than an adaptive wait stays awake
    return sum(each.parks for each in ring.stats().participants)


def test_an_adaptive_wait_spins_on_a_cpu_of_its_own(confined):
    with shmring.anonymous(4096) as ring, ring.consumer() as rx:
        assert parks_of_short_waits(ring, rx) == 0


def test_an_adaptive_wait_leaves_a_shared_cpu_to_the_others(confined):
    with shmring.anonymous(4096) as ring, ring.consumer() as rx, ring.producer():
        assert parks_of_short_waits(ring, rx) > 0
