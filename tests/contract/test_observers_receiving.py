"""Observers: every way to receive, views, and waiting."""

from __future__ import annotations

import threading

import numpy
import pytest
from observing import PATIENT, TOPOLOGIES, drain, number_of, watch  # noqa: F401 (fixtures)

import shmring

# ---- other ways to receive ---------------------------------------------------------------------------------


def test_recv_many_takes_what_is_there_up_to_the_limit(watch):
    watched = watch()
    sent = [b"%d" % number for number in range(10)]
    with watched.ring.producer() as tx, watched.observer() as observer:
        tx.send_many(sent)
        assert observer.recv_many(4) == sent[:4]
        assert observer.recv_many(1, timeout=0) == sent[4:5]
        assert observer.recv_many(10**9) == sent[5:]
        for limit in (0, -1):
            with pytest.raises(ValueError, match="limit"):
                observer.recv_many(limit)
        with pytest.raises(TimeoutError):
            observer.recv_many(3, timeout=0)


def test_recv_many_goes_on_after_being_lapped(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        received = 0
        for lap in range(20):
            tx.send_many([b"%d" % each for each in range(lap * 500, lap * 500 + 500)])
            got = observer.recv_many(1000, timeout=0)
            received += len(got)
            assert number_of(got[-1]) == lap * 500 + 499
            assert received + observer.lost == (lap + 1) * 500


@pytest.mark.parametrize("make", [bytearray, numpy.zeros], ids=["bytearray", "numpy"])
def test_recv_into_copies_or_leaves_the_message(watch, make):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        for _ in range(200):
            tx.send(b"sixteen bytes ok", timeout=0)
            with pytest.raises(ValueError, match=r"16.*8"):
                observer.recv_into(make(1) if make is numpy.zeros else bytearray(8), timeout=0)
            buffer = make(2) if make is numpy.zeros else bytearray(16)
            assert observer.recv_into(buffer, timeout=0) == 16
            assert bytes(buffer) == b"sixteen bytes ok"
            assert observer.try_recv() is None
        with pytest.raises((TypeError, BufferError)):
            observer.recv_into(b"readonly", timeout=0)
        for number in range(300):
            tx.send(b"%9d" % number, timeout=0)
        buffer = bytearray(9)
        assert observer.recv_into(buffer, timeout=0) == 9
        assert observer.lost == int(buffer) > 0


def test_iteration_ends_with_shutdown_when_all_was_seen(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        tx.send_many([b"a", b"b"])
        watched.ring.shutdown()
        assert list(observer) == [b"a", b"b"]
        for call in (observer.recv, observer.try_recv, observer.latest, observer.peek, lambda: observer.recv_many(2)):
            with pytest.raises(shmring.ShutDown):
                call()


def test_lag_counts_what_is_still_to_be_seen(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        assert observer.lag == 0
        tx.send_many([b"a", b"", bytes(1000)])
        assert observer.lag == 3
        observer.recv(0)
        assert observer.lag == 2
        drain(observer)
        assert observer.lag == 0


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_an_observer_that_times_out_names_the_writer(watch, timeout):
    import os

    watched = watch()
    with watched.ring.producer(), watched.observer() as observer:
        for call in (observer.recv, observer.peek, observer.latest, lambda timeout: observer.recv_many(2, timeout)):
            with pytest.raises(TimeoutError, match=rf"pid {os.getpid()}"):
                call(timeout=timeout)


def test_groups_options_are_refused(ring):
    for options in ({"ephemeral": True}, {"redeliver": True}, {"start": "middle"}):
        with pytest.raises(ValueError):
            ring.consumer(lossy=True, **options)


# ---- views -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, 4080])
def test_a_view_tells_when_it_was_overtaken(watch, size):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        last = -1
        for number in range(10):
            body = bytes([number]) * size
            tx.send(body, timeout=0)
            view = observer.peek(0)
            assert view.valid and view.redelivered is False and len(view) == size
            assert view.data.readonly and bytes(view.data) == body
            assert view.valid and view.sequence > last
            last = view.sequence
            if size:
                with pytest.raises(TypeError):
                    view.data[0] = 1
            sent = 0
            while view.valid:
                tx.send(b"x", timeout=0)
                sent += 1
            assert sent <= 4096 // 32
            with pytest.raises(shmring.Lapped) as caught:
                view.data  # noqa: B018
            assert isinstance(caught.value, shmring.Error)
            assert not view.valid
            view.release()
            view.release()
            with pytest.raises(ValueError):
                view.data  # noqa: B018
            observer.close()
            observer = watched.observer("latest")
        observer.close()


def test_a_view_of_an_open_ring_is_valid_to_the_last_byte_of_room(backing):
    """Of many producers it is exactly when a reservation reaches the record that it is overtaken."""
    with backing.create(4096) as ring, ring.producer() as tx, ring.consumer(lossy=True) as observer:
        ring.remove_group("default")
        tx.send(bytes(1008), timeout=0)
        with observer.peek(0) as view:
            tx.send_many([bytes(1008)] * 3, timeout=0)
            assert view.valid and bytes(view.data) == bytes(1008)
            claim = tx.reserve(0, timeout=0)
            assert not view.valid
            claim.abort()
            assert not view.valid


def test_a_views_array_stays_mapped(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        tx.send(b"12345678")
        with observer.peek(0) as view:
            array = numpy.frombuffer(view.data, "u1")
            assert view.valid
        assert array.sum() == sum(b"12345678")
        with pytest.raises(BufferError):
            watched.through.close()
        del array


# ---- waiting -----------------------------------------------------------------------------------------------


def when_parked(ring, then):
    def watch():
        while not any(each.role == "observer" and each.parks for each in ring.stats().participants):
            pass
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("producers", TOPOLOGIES)
@pytest.mark.parametrize("event", ["message", "shutdown"])
def test_a_sleeping_observer_is_woken(backing, producers, event):
    with (
        backing.create(4096, producers=producers) as ring,
        ring.producer() as tx,
        ring.consumer(lossy=True, wait=PATIENT) as observer,
    ):
        thread = when_parked(ring, ring.shutdown if event == "shutdown" else lambda: tx.send(b"wake"))
        assert list(observer) == [] if event == "shutdown" else observer.recv() == b"wake"
        thread.join()


@pytest.mark.parametrize("producers", TOPOLOGIES)
def test_every_sleeping_observer_is_woken_by_every_message(backing, producers):
    rounds, watchers = 100, 3
    seen = threading.Barrier(watchers + 1)
    got = [[] for _ in range(watchers)]

    def look(observer, mine):
        for message in observer:
            mine.append(message)
            seen.wait()

    with backing.create(4096, producers=producers) as ring, ring.producer() as tx, ring.consumer(wait=PATIENT) as rx:
        threads = [
            threading.Thread(target=look, args=(ring.consumer(lossy=True, wait=PATIENT), mine)) for mine in got
        ]
        for each in threads:
            each.start()
        for number in range(rounds):
            tx.send(b"%d" % number)
            assert rx.recv() == b"%d" % number
            seen.wait()
        ring.shutdown()
        for each in threads:
            each.join()
    assert got == [[b"%d" % number for number in range(rounds)]] * watchers


def test_a_readonly_observer_that_nobody_can_wake_looks_by_itself(named):
    with named.create(4096) as ring, shmring.open(named.name, readonly=True) as through, ring.producer() as tx:
        with through.consumer(lossy=True, wait=PATIENT) as observer:
            thread = threading.Thread(target=lambda: (tx.send(b"seen"), ring.shutdown()))
            thread.start()
            assert list(observer) == [b"seen"]
            thread.join()
        assert all(each.role == "producer" for each in ring.stats().participants)  # it takes no slot


@pytest.mark.parametrize("what", ["observer", "ring"])
def test_closing_a_readonly_observer_ends_the_wait_of_another_thread(unique_name, peer, what):
    """In a process of its own, which must not crash."""
    with shmring.create(unique_name, 4096):
        waiter = peer(
            """
            ring = shmring.open(sys.argv[1], readonly=True)
            observer = ring.consumer(lossy=True)
            begun = threading.Event()
            def wait():
                begun.set()
                try: observer.recv()
                except ValueError: say("told")
            thread = threading.Thread(target=wait)
            thread.start()
            begun.wait()
            while open(f"/proc/self/task/{thread.native_id}/wchan").read() in ("", "0") and thread.is_alive():
                if open(f"/proc/self/task/{thread.native_id}/stat").read().rpartition(")")[2].split()[0] == "S": break
            (observer if sys.argv[2] == "observer" else ring).close()
            thread.join()
            say("closed")
        """,
            unique_name,
            what,
        )
        waiter.expect("told")
        waiter.expect("closed")
        waiter.finish()
