"""Observers: they never hold a producer back, read whole messages or none, and count exactly what they missed."""

from __future__ import annotations

import random
import threading

import pytest
from observing import TOPOLOGIES, drain, number_of, watch  # noqa: F401 (fixtures)

import shmring
from shmring import creation

# ---- never in the way --------------------------------------------------------------------------------------


def test_an_observer_never_holds_a_producer_back(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as idle, watched.observer() as looking:
        tx.send(bytes(100))
        view = looking.peek(0)
        for _ in range(100):
            tx.send(bytes(watched.ring.max_message), timeout=0)
        assert watched.ring.stats().used == 0
        view.release()
        assert drain(idle) == [bytes(watched.ring.max_message)]
        assert idle.lost == 100


def test_an_observer_beside_groups_leaves_them_their_messages(ring):
    with ring.producer() as tx, ring.consumer() as rx, ring.consumer(lossy=True) as observer:
        sent = [b"%d" % number for number in range(50)]
        tx.send_many(sent)
        assert drain(observer) == rx.recv_many(99) == sent
        assert (observer.lost, observer.lag, rx.lag) == (0, 0, 0)
        assert [group.name for group in ring.stats().groups] == ["default"]
        assert sorted(each.role for each in ring.stats().participants) == ["consumer", "observer", "producer"]


def test_a_fast_observer_sees_everything(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        rng = random.Random(1)
        for number in range(3000):
            message = b"%d " % number + bytes(rng.randrange(300))
            tx.send(message, timeout=0)
            assert observer.recv(0) == message
        assert observer.lost == 0 and observer.try_recv() is None


# ---- lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "capacity, smallest, largest",
    [
        (4096, 0, 8),
        (4096, 30, 300),
        (4096, 900, 1100),
        (4096, 1900, 4070),
        (4096, 4080, 4080),
        (1 << 16, 0, 200),
        (1 << 16, 3000, 9000),
        (1 << 16, 8, 65000),
    ],
    ids=str,
)
def test_lost_is_exact_at_any_moment(watch, capacity, smallest, largest):
    """After message number n, received + lost is n + 1; at the end it is what was sent."""
    watched = watch(capacity)
    rng = random.Random(capacity + smallest)
    with watched.ring.producer() as tx, watched.observer() as observer:
        sent = received = 0
        last = -1
        for _ in range(250):
            burst = rng.choice([1, 2, 5, 20, 60, 2 + 3 * capacity // (largest + 40)])
            bodies = [b"%d " % (sent + each) for each in range(burst)]
            bodies = [body + bytes(max(0, rng.randint(smallest, largest) - len(body))) for body in bodies]
            if rng.random() < 0.5:
                tx.send_many(bodies, timeout=0)
            else:
                for body in bodies:
                    with tx.reserve(len(body), timeout=0) as claim:
                        claim.view[:] = body
            sent += burst
            for _ in range(rng.randrange(40)):
                message = observer.try_recv()
                if message is None:
                    break
                received += 1
                assert number_of(message) > last
                last = number_of(message)
                assert received + observer.lost == last + 1
        received += len(drain(observer))
        assert received + observer.lost == sent
        assert observer.lost > 0


@pytest.mark.parametrize("producers", TOPOLOGIES)
@pytest.mark.parametrize("origin", [(1 << 32) - 5000, (1 << 52) - 5000, (1 << 64) - 5000], ids=hex)
def test_lost_is_exact_where_positions_pass_a_power_of_two(producers, origin):
    shape = creation._Shape(4096, producers, 8, 4, 64, origin=origin // 64 * 64)
    rng = random.Random(origin)
    with creation._make_anonymous(shape, True) as ring, ring.producer() as tx:
        ring.remove_group("default")
        with ring.consumer(lossy=True) as observer:
            received = sent = 0
            for _ in range(60):
                for _ in range(rng.randrange(20)):
                    tx.send(b"%d " % sent + bytes(rng.randrange(500)), timeout=0)
                    sent += 1
                for _ in range(rng.randrange(8)):
                    if (message := observer.try_recv()) is not None:
                        received += 1
                        assert received + observer.lost == number_of(message) + 1
            received += len(drain(observer))
            assert received + observer.lost == sent


def test_what_is_given_up_is_not_lost_to_who_keeps_up(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        for number in range(200):
            tx.reserve(100, timeout=0).abort()
            tx.send(b"%d" % number, timeout=0)
            claim = tx.reserve(200, timeout=0)
            claim.commit(3)
            assert drain(observer) == [b"%d" % number, bytes(3)]
        assert observer.lost == 0


def test_several_producers_are_counted_together(backing):
    with backing.create(4096) as ring, ring.consumer(lossy=True) as observer:
        ring.remove_group("default")
        producers = [ring.producer() for _ in range(4)]
        rng = random.Random(9)
        received = 0
        for number in range(3000):
            rng.choice(producers).send(b"%d " % number + bytes(rng.randrange(200)), timeout=0)
            if rng.random() < 0.05:
                for message in drain(observer):
                    received += 1
                    assert received + observer.lost == number_of(message) + 1
        received += len(drain(observer))
        assert received + observer.lost == 3000 and observer.lost
        lost = [each.lost for each in ring.stats().participants if each.role == "observer"]
        assert lost == [observer.lost]


# ---- where it begins, the newest ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 50, 400, 1000, 3000])
@pytest.mark.parametrize("sent", [0, 1, 3, 40, 200])
def test_an_observer_begins_at_the_oldest_or_behind_the_newest(watch, size, sent):
    watched = watch()
    with watched.ring.producer() as tx:
        for number in range(sent):
            tx.send(b"%d " % number + bytes(size), timeout=0)
        with watched.observer("earliest") as early, watched.observer("latest") as late:
            assert late.try_recv() is None and late.lag == 0
            seen = [number_of(message) for message in drain(early)]
            assert seen == list(range(sent - len(seen), sent))
            fits = min(sent, 4096 // (size + 32))
            assert len(seen) >= fits // 2  # producers note one place in each sixteenth of the capacity
            if sent * (size + 32) <= 4096:
                assert len(seen) == sent
            tx.send(b"next")
            assert drain(early) == drain(late) == [b"next"]
            assert early.lost == late.lost == 0


@pytest.mark.parametrize("size", [0, 50, 250, 400, 1000, 3000, 4000])
def test_latest_jumps_to_the_newest_message(watch, size):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        sent = 0
        for burst in (1, 2, 3, 7, 30) * 12:
            for _ in range(burst):
                tx.send(b"%d " % sent + bytes(size), timeout=0)
                sent += 1
            assert number_of(observer.latest(timeout=0)) == sent - 1
            with pytest.raises(TimeoutError):
                observer.latest(timeout=0)
            assert observer.try_recv() is None
        tx.send(b"end")
        assert observer.recv(0) == b"end"


@pytest.mark.parametrize("ending", ["abort", "shorten"])
def test_latest_times_out_behind_records_that_are_not_to_be(backing, ending):
    """It once took them for news, over and over, and saw neither the time-out nor a signal."""
    with backing.create(4096) as ring, ring.producer() as tx, ring.consumer(lossy=True) as observer:
        claim = tx.reserve(500)
        if ending == "shorten":
            claim.commit(10)
            assert observer.latest(timeout=0) == bytes(10)
        else:
            claim.abort()
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError):
                observer.latest(timeout=timeout)
        tx.send(b"news")
        assert observer.latest(timeout=0) == b"news"


@pytest.mark.parametrize("size", [0, 50, 400])
def test_what_latest_skips_is_not_lost(watch, size):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        for number in range(40):
            for _ in range(3):
                tx.send(bytes(size), timeout=0)
            tx.send(b"%d" % number, timeout=0)
            assert observer.latest(timeout=0) == b"%d" % number
        assert observer.lost == 0


def test_latest_passes_what_was_given_up(backing):
    with backing.create(4096) as ring, ring.producer() as tx, ring.producer() as other:
        ring.remove_group("default")
        with ring.consumer(lossy=True) as observer:
            for number in range(100):
                tx.send(b"%d" % number, timeout=0)
                other.reserve(100, timeout=0).abort()
                assert observer.latest(timeout=0) == b"%d" % number
                open_claim = other.reserve(30, timeout=0)
                tx.send(b"behind it", timeout=0)
                # An open claim hides what is behind it, unless a boundary lies in between.
                seen = []
                for commit in (lambda: None, lambda claim=open_claim: claim.commit(5)):
                    commit()
                    try:
                        seen.append(observer.latest(timeout=0))
                    except TimeoutError:
                        pass
                assert seen == [b"behind it"]
            assert observer.lost == 0


def test_latest_waits_for_a_message(watch):
    watched = watch()
    with watched.ring.producer() as tx, watched.observer() as observer:
        tx.send(b"old")
        assert observer.latest() == b"old"
        thread = threading.Thread(target=tx.send, args=(b"new",))
        thread.start()
        assert observer.latest() == b"new"
        thread.join()


# ---- lapped, and what it still gets ------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [4080, 3500, 2100])
@pytest.mark.parametrize("behind", [0, 1, 3])
@pytest.mark.parametrize("offset", range(0, 512, 64))
def test_a_lapped_observer_gets_the_newest_message(backing, largest, behind, offset):
    """It once went to the tail, past small messages that follow one that took the whole last lap."""
    with backing.create(4096) as ring, ring.producer() as tx, ring.consumer(lossy=True) as observer:
        ring.remove_group("default")
        tx.reserve(0, timeout=0).abort()
        for _ in range(offset // 64):
            tx.send(bytes(48), timeout=0)
        for lap in range(3):
            tx.send(b"0 " + bytes(largest - 2), timeout=0)
            tx.send(b"1 " + bytes(largest - 2), timeout=0)
            for number in range(2, 2 + behind):
                tx.send(b"%d %d" % (number, lap), timeout=0)
            assert number_of(drain(observer)[-1]) == 1 + behind
        ring.shutdown()
        assert list(observer) == []


@pytest.mark.parametrize("size", [0, 100, 3900, 4080])
@pytest.mark.parametrize("producers", [1, 3])
def test_a_lapped_observer_waits_for_a_claim_that_is_open(backing, size, producers):
    with backing.create(4096) as ring, ring.consumer(lossy=True) as observer:
        ring.remove_group("default")
        writers = [ring.producer() for _ in range(producers)]
        for number in range(1, 60):
            for each in range(number % 50 + 80):
                writers[each % producers].send(bytes(48), timeout=0)
            claim = writers[number % producers].reserve(size, timeout=0)
            drain(observer)
            claim.view[:] = b"x" * size
            claim.commit()
            assert drain(observer)[-1:] == [b"x" * size]
        assert observer.lost > 0


@pytest.mark.parametrize("redeliver", [True, False])
def test_an_observer_with_redeliver_is_refused(redeliver):
    """False used to be taken without a word, and meant nothing."""
    with shmring.anonymous(4096) as ring, pytest.raises(ValueError, match="for groups"):
        ring.consumer(lossy=True, redeliver=redeliver)
