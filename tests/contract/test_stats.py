"""What stats() says beyond counters: who sleeps, who holds what, and lags that cost little to know."""

from __future__ import annotations

import random
import threading

import pytest

import shmring


def user_of(ring, role):
    return next(user for user in ring.stats().participants if user.role == role)


def wait_until(condition):
    pause = threading.Event()
    while not condition():
        pause.wait(0.002)


def test_a_lag_is_counted_or_told_to_be_a_guess_near_the_truth(topology):
    sizes = random.Random(3)
    with shmring.anonymous("2 MiB", producers=topology) as ring, ring.producer() as tx:
        sent = 0
        while tx.try_send(bytes(sizes.choice([0, 8, 64, 500]))):
            sent += 1
        assert sent > 4096
        (exact,), (quick,) = ring.stats().groups, ring.stats(exact=False).groups
        assert (exact.lag, exact.lag_is_exact) == (sent, True)
        assert not quick.lag_is_exact and 0.9 * sent < quick.lag < 1.1 * sent
        assert quick.lag_bytes == exact.lag_bytes


def test_a_small_lag_is_always_counted(ring):
    with ring.producer() as tx:
        for _ in range(7):
            tx.send(b"x")
        (group,) = ring.stats(exact=False).groups
        assert (group.lag, group.lag_is_exact) == (7, True)


def test_what_a_member_has_not_released_is_told_with_its_distance(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        tx.send(b"first")
        tx.send(b"second")
        assert user_of(ring, "consumer").held_bytes == 0
        with rx.peek():
            stats = ring.stats()
            assert user_of(ring, "consumer").held_bytes == stats.used > 0
        assert user_of(ring, "consumer").held_bytes == 0


@pytest.fixture
def many():
    with shmring.anonymous(4096) as ring:
        yield ring


def test_an_open_reservation_is_told_with_its_distance(many):
    with many.producer() as tx:
        assert user_of(many, "producer").open_bytes == 0
        with tx.reserve(100) as claim:
            assert user_of(many, "producer").open_bytes >= 100
            claim.abort()
        assert user_of(many, "producer").open_bytes == 0


@pytest.mark.parametrize("role", ["producer", "consumer", "observer"])
def test_who_sleeps_is_told_while_it_sleeps(ring, role):
    tx, rx = ring.producer(wait="park"), ring.consumer(lossy=role == "observer", wait="park")
    if role == "producer":
        while tx.try_send(bytes(500)):
            pass
        sleeper = threading.Thread(target=tx.send, args=(bytes(500),))
    else:
        sleeper = threading.Thread(target=rx.recv)
    assert not user_of(ring, role).parked
    sleeper.start()
    wait_until(lambda: user_of(ring, role).parked)
    if role == "producer":
        rx.recv()
    else:
        tx.send(b"x")
    sleeper.join()
    assert not user_of(ring, role).parked
