"""Producer.drain: waiting until everybody is done with everything."""

from __future__ import annotations

import threading

import pytest

import shmring


def test_drain_returns_at_once_from_an_empty_ring(pair):
    tx, _ = pair
    tx.drain()
    tx.drain(timeout=0)


def test_drain_waits_for_every_group_and_every_view(ring, pair):
    tx, rx = pair
    tx.send(b"message")
    with ring.consumer("other") as other:
        for timeout in 0, 0.01:
            with pytest.raises(TimeoutError, match="group 'default' is"):
                tx.drain(timeout)
        rx.recv()
        with pytest.raises(TimeoutError, match="group 'other' is"):
            tx.drain(0)
        view = other.peek()
        with pytest.raises(TimeoutError, match="has not released"):
            tx.drain(0)
        view.release()
        tx.drain()


def test_drain_is_woken_by_whoever_is_last(ring, pair):
    tx, rx = pair
    for _ in range(100):
        tx.send(b"message")
        thread = threading.Thread(target=rx.recv)
        thread.start()
        tx.drain()
        thread.join()
    assert ring.stats().used == 0


def test_drain_works_after_shutdown(ring, pair):
    tx, rx = pair
    tx.send(b"last")
    ring.shutdown()
    with pytest.raises(TimeoutError):
        tx.drain(0.01)
    assert rx.recv() == b"last"
    tx.drain()


def test_drain_refuses_to_wait_for_its_own_claim(pair):
    tx, _ = pair
    with tx.reserve(10), pytest.raises(shmring.ClaimOpen):
        tx.drain()


def test_a_closed_producer_does_not_drain(pair):
    tx, _ = pair
    tx.close()
    with pytest.raises(ValueError, match="closed"):
        tx.drain()


def test_closing_ends_the_drain_of_another_thread(ring, pair):
    tx, _ = pair
    tx.send(b"message")
    ended = []

    def wait():
        with pytest.raises(ValueError, match="closed"):
            tx.drain()
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    while not any(each.parks for each in ring.stats().participants if each.role == "producer"):
        pass
    tx.close()
    thread.join()
    assert ended


def test_drain_does_not_wait_for_what_a_killed_consumer_held(peer, named):
    with named.create(4096) as shared, shared.producer() as tx:
        other = peer("rx = shmring.open(sys.argv[1]).consumer(); view = rx.peek(); say('held'); hear()", named.name)
        tx.send(b"message")
        other.expect("held")
        other.kill()
        with shared.consumer() as rx:
            assert rx.recv() == b"message"
            tx.drain()
