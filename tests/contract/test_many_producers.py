"""Many producers of one ring: one order for all, claims that keep nobody else from sending, batches, and room to the last
byte."""

from __future__ import annotations

import itertools
import os
import random
import threading

import pytest
from many_producers import PATIENT, WRITER, Reader, assert_complete, drain, multi_at, talk, topology  # noqa: F401 (fixtures)

import shmring

# ---- one order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [16, 64])
def test_every_group_sees_the_order_of_the_calls(backing, align):
    with backing.create(4096, align=align) as ring:
        producers = [ring.producer() for _ in range(4)]
        readers = [Reader(ring.consumer(group)) for group in ("default", "b", "c")]
        assert talk(ring, random.Random(align), producers, readers, 3000) > 2000


def test_every_group_sees_the_same_order_of_threads(ring):
    producers, count = 4, 1500
    received = {"default": [], "b": [], "c": []}
    consumers = {group: ring.consumer(group) for group in received}
    start = threading.Barrier(producers)

    def write(who, tx):
        start.wait()
        for number in range(count):
            tx.send(b"%d %d" % (who, number))

    def read(group):
        received[group] += [consumers[group].recv() for _ in range(producers * count)]

    threads = [threading.Thread(target=write, args=(who, ring.producer())) for who in range(producers)]
    threads += [threading.Thread(target=read, args=(group,)) for group in received]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert_complete(received["default"], producers, count)
    assert received["default"] == received["b"] == received["c"]


@pytest.mark.parametrize("wait", ["adaptive", "park"])
def test_unrelated_processes_share_one_order(named, peer, wait):
    producers, count = 3, 1500
    with named.create(4096) as ring, ring.consumer() as a, ring.consumer("b") as b:
        writers = [peer(WRITER, named.name, who, count, wait) for who in range(producers)]
        for each in writers:
            each.expect("attached")
        for each in writers:
            each.say()
        received = {a: [], b: []}
        while min(map(len, received.values())) < producers * count:
            behind = min(received, key=lambda rx: len(received[rx]))  # never the one for whom nothing can come
            received[behind] += behind.recv_many(9)
        for each in writers:
            each.expect("done")
            each.finish()
        assert received[a] == received[b]
        assert_complete(received[a], producers, count)
        assert a.try_recv() is None and b.try_recv() is None
        assert ring.stats().used == 0


@pytest.mark.parametrize(
    "origin",
    [(1 << 32) - 1024, (1 << 48) - 1024, (1 << 52) - 1024, (1 << 52) - 64, (1 << 53) - 2048, (1 << 64) - 1024],
    ids=["2^32", "2^48", "2^48 x 16", "just below 2^48 x 16", "2^53", "2^64"],
)
@pytest.mark.parametrize("align", [16, 64])
def test_positions_pass_powers_of_two_unnoticed(multi_at, origin, align):
    ring = multi_at(origin, align=align)
    producers = [ring.producer() for _ in range(3)]
    readers = [Reader(ring.consumer(group)) for group in ("default", "b")]
    with ring.consumer(lossy=True) as observer:
        sent = talk(ring, random.Random(origin), producers, readers, 400)
        seen = drain(observer)
        assert len(seen) + observer.lost >= sent  # what was given up may count as lost
        with ring.producer() as late, ring.consumer("late", start="latest") as rx:
            late.send(b"after")
            assert [rx.recv(0), *drain(observer)] == [b"after", b"after"]


# ---- open claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_open_claims_hold_readers_back_and_nobody_else(ring, order):
    """Four claims lie between other messages; readers get everything before the oldest that is open, whatever the order in
    which they end."""
    with ring.producer() as other, ring.consumer() as a, ring.consumer("b") as b, ring.consumer(lossy=True) as c:
        producers = [ring.producer() for _ in range(4)]
        claims, expected, ended = [], [], {}
        for number, tx in enumerate(producers):
            other.send(b"before %d" % number, timeout=0)
            claims.append(tx.reserve(20, timeout=0))
        other.send_many([b"behind", b"all"], timeout=0)
        for number in (None, *order):
            if number is not None:
                ended[number] = number in order[:2]  # the first two are committed
                claims[number].view[:7] = b"claim %d" % number
                claims[number].commit(7) if ended[number] else claims[number].abort()
            visible = []
            for each in range(4):
                visible.append(b"before %d" % each)
                if each not in ended:
                    break
                visible += [b"claim %d" % each] * ended[each]
            else:
                visible += [b"behind", b"all"]
            for rx in (a, b, c):
                assert drain(rx) == visible[len(expected) :]
            expected = visible
        assert ring.stats().used == 0


def test_a_time_out_names_the_claim_that_messages_lie_behind(ring):
    """It named all producers alike, although one of them kept everybody waiting."""
    slow, quick = ring.producer(), ring.producer()
    readers = [ring.consumer(), ring.consumer(lossy=True)]
    claim = slow.reserve(1)
    quick.send(b"behind")
    for rx in readers:
        with pytest.raises(TimeoutError, match=f"behind an open claim of producer with pid {os.getpid()}$"):
            rx.recv(timeout=0)
    claim.commit(1)
    for rx in readers:
        assert len(rx.recv_many(2, timeout=0)) == 2
        with pytest.raises(TimeoutError) as caught:
            rx.recv(timeout=0)
        assert "open claim" not in str(caught.value)


def test_a_full_ring_names_the_claim_that_its_groups_are_stuck_behind(ring):
    """It named the group's consumer, who could not get at anything, and not who kept it from that."""
    slow, quick = ring.producer(), ring.producer()
    rx = ring.consumer()
    claim = slow.reserve(1)
    while quick.try_send(bytes(100)):
        pass
    for call in (lambda: quick.send(bytes(100), timeout=0), lambda: quick.drain(timeout=0)):
        with pytest.raises(TimeoutError, match=f"'default' is .* behind an open claim of producer with pid {os.getpid()}$"):
            call()
    claim.commit(1)
    claim = slow.reserve(1) if rx.recv(0) and rx.recv(0) else None      # it is behind everything else now
    while quick.try_send(b""):
        pass
    with pytest.raises(TimeoutError, match="'default' is") as caught:
        quick.send(bytes(100), timeout=0)
    assert "open claim" not in str(caught.value)
    claim.abort()


def test_claims_of_one_producer_are_its_own(ring):
    with ring.producer() as first, ring.producer() as second, ring.consumer() as rx:
        with first.reserve(3) as claim:
            claim.view[:] = b"one"
            with pytest.raises(shmring.ClaimOpen):
                first.send(b"x")
            assert second.try_send(b"two")
            with second.reserve(5) as inner:
                inner.view[:] = b"three"
            assert rx.try_recv() is None
        assert drain(rx) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("align", [16, 64])
def test_commit_may_shorten_to_any_size(backing, align):
    sizes = sorted({0, 1, *(edge + step for edge in (16, 32, 48, 64, 112, 128, 240) for step in (-1, 0, 1))})
    with backing.create(4096, align=align) as ring, ring.producer() as tx, ring.producer() as other:
        rx, observer = ring.consumer(), ring.consumer(lossy=True)
        for asked, kept in itertools.combinations_with_replacement(reversed(sizes), 2):
            claim = tx.reserve(asked, timeout=0)
            assert other.try_send(b"behind")
            claim.view[:kept] = bytes([kept]) * kept
            claim.commit(kept)
            for each in (rx, observer):
                assert drain(each) == [bytes([kept]) * kept, b"behind"], (asked, kept)
            assert ring.stats().used == 0
        assert observer.lost == 0


@pytest.mark.parametrize("how", ["abort", "raise", "drop", "close", "shorten to nothing"])
def test_a_claim_that_is_given_up_leaves_no_message(ring, how):
    with ring.producer() as other, ring.consumer() as rx, ring.consumer("b") as b:
        for _ in range(30):  # more than a capacity
            tx = ring.producer()
            claim = tx.reserve(300, timeout=0)
            claim.view[:] = bytes(300)
            assert other.try_send(b"behind")
            if how == "raise":
                with pytest.raises(KeyError), claim:
                    raise KeyError
            elif how == "drop":
                claim.view.release()
            elif how == "close":
                claim.view.release()
                tx.close()
            elif how == "abort":
                claim.abort()
            else:
                claim.commit(0)
            del claim
            expected = [b"", b"behind"] if how == "shorten to nothing" else [b"behind"]
            assert drain(rx) == drain(b) == expected
            assert (rx.lag, b.lag, ring.stats().used) == (0, 0, 0)
            tx.close()
        assert ring.stats().aborted == 0  # that is for the dead


def test_aborts_never_wedge_a_tiny_ring(ring):
    """Each takes the whole ring until somebody has looked at it; here a reader that sleeps must do so every time."""
    with ring.producer(wait=PATIENT) as tx, ring.producer(wait=PATIENT) as other, ring.consumer(wait=PATIENT) as rx:
        got = []
        thread = threading.Thread(target=lambda: got.extend(iter(rx.recv, b"end")))
        thread.start()
        for number in range(200):
            tx.reserve(ring.max_message).abort()
            if number % 3 == 0:
                other.send(b"%d" % number)
            other.reserve(number * 7).abort()
        tx.send(b"end")
        thread.join()
        assert got == [b"%d" % number for number in range(0, 200, 3)]


def test_aborts_wait_for_a_reader_to_look_and_then_make_room(ring):
    with ring.producer() as tx, ring.producer() as other, ring.consumer() as rx:
        for _ in range(50):
            tx.reserve(ring.max_message, timeout=0).abort()
            assert not other.try_send(b"")
            assert rx.try_recv() is None
            assert other.try_send(b"")
            assert rx.recv(0) == b""


def test_many_readers_pass_given_up_room_and_share_what_lies_behind(ring):
    with ring.producer() as tx, ring.producer() as other:
        members = [ring.consumer() for _ in range(3)]
        for number in range(100):
            for _ in range(3):
                tx.reserve(100, timeout=0).abort()
            other.send(b"%d" % number, timeout=0)
            claim = tx.reserve(8, timeout=0)
            assert members[number % 3].recv(0) == b"%d" % number
            assert members[(number + 1) % 3].try_recv() is None
            claim.abort()
            assert members[(number + 2) % 3].try_recv() is None
        assert ring.stats().used == 0


def test_a_claim_that_is_open_at_shutdown_is_given_up_and_frees_what_lies_behind(ring):
    with ring.producer() as tx, ring.producer() as other, ring.consumer(wait=PATIENT) as rx:
        claim = tx.reserve(10)
        other.send(b"behind")
        ring.shutdown()
        got = []
        thread = threading.Thread(target=lambda: got.extend(rx))
        thread.start()
        while not any(each.role == "consumer" and each.parks for each in ring.stats().participants):
            pass
        with pytest.raises(shmring.ShutDown):
            claim.commit()
        thread.join()
        assert got == [b"behind"]


@pytest.mark.parametrize("how", ["a send after it", "an abort before it"])
def test_what_was_given_up_behind_an_open_claim_keeps_nobody_waiting_after_a_shutdown(ring, how):
    with ring.producer() as tx, ring.producer() as other, ring.consumer() as rx, ring.consumer(lossy=True) as watcher:
        claim = tx.reserve(10)
        if how == "an abort before it":
            other.reserve(100).abort()
        ring.shutdown()
        for _ in range(3):  # each reserves, sees the shutdown and gives up, or sees it first
            with pytest.raises(shmring.ShutDown):
                other.send(b"late")
        for each in (rx, watcher):
            with pytest.raises(shmring.ShutDown):
                each.recv(timeout=0)
        with pytest.raises(shmring.ShutDown):
            claim.commit()
