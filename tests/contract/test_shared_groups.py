"""Several members of one group: each message to one of them, in the order of the ring, whoever comes, goes, or holds on."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading

import pytest
from shared_groups import TOPOLOGIES, WAYS, drain, receive, ring  # noqa: F401 (fixtures)

import shmring

# ---- each to one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2, 5])
def test_each_message_goes_to_one_member_in_the_order_of_the_ring(ring, members):
    rng = random.Random(members)
    with ring.producer() as tx:
        consumers = [ring.consumer() for _ in range(members)]
        sent = received = 0
        for _ in range(2000):
            if rng.random() < 0.5 and tx.try_send(b"%d " % sent + bytes(rng.randrange(400))):
                sent += 1
            elif received < sent:
                for message in receive(rng.choice(consumers), rng.choice(WAYS)):
                    assert message.startswith(b"%d " % received)
                    received += 1
        assert consumers[0].lag == sent - received
        while received < sent:
            received += len(rng.choice(consumers).recv_many(9, timeout=0))
        assert [each.try_recv() for each in consumers] == [None] * members
        assert received == sent > 500
        counts = [each.messages for each in ring.stats().participants if each.role == "consumer"]
        assert sum(counts) == sent and all(counts)
        assert ring.stats().groups[0].members == [os.getpid()] * members


@pytest.mark.parametrize("members, groups", [(2, 2), (3, 3)])
def test_each_group_shares_every_message_among_its_own_members(ring, members, groups):
    rng = random.Random(groups)
    with ring.producer() as tx:
        table = [[ring.consumer(f"g{group}") for _ in range(members)] for group in range(groups)]
        ring.remove_group("default")
        received = [0] * groups
        sent = 0
        for _ in range(2000):
            if tx.try_send(b"%d " % sent + bytes(rng.randrange(600))):
                sent += 1
            for group in range(groups):
                if received[group] < sent and rng.random() < 0.6:
                    for message in receive(rng.choice(table[group]), rng.choice(WAYS)):
                        assert message.startswith(b"%d " % received[group])
                        received[group] += 1
                assert table[group][0].lag == sent - received[group]
        assert sent > 500


def test_members_in_threads_get_each_message_once_and_each_in_order(ring):
    count, members = 6000, 4
    received = [[] for _ in range(members)]
    with ring.producer() as tx:
        consumers = [ring.consumer() for _ in range(members)]

        def read(number):
            for message in consumers[number]:
                received[number].append(int(message))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(members)]
        for each in threads:
            each.start()
        for number in range(count):
            tx.send(b"%d" % number)
        ring.shutdown()
        for each in threads:
            each.join()
    assert sorted(itertools.chain(*received)) == list(range(count))
    assert all(each == sorted(each) for each in received)


MEMBER = """
    rx = shmring.open(sys.argv[1]).consumer(wait=sys.argv[2])
    say("attached")
    got = []
    for i in range(1 << 60):
        try:
            if i % 3 == 0:
                got += rx.recv_many(5)
            elif i % 3 == 1:
                with rx.peek() as view: got.append(bytes(view.data))
            else:
                got.append(rx.recv())
        except shmring.ShutDown:
            break
    assert got == sorted(got, key=int)
    for each in got: print(each.decode())
    say("done")
"""


@pytest.mark.parametrize("producers", TOPOLOGIES)
@pytest.mark.parametrize("wait", ["adaptive", "park"])
def test_members_in_unrelated_processes_get_each_message_once(named, peer, producers, wait):
    count = 4000
    with named.create(4096, producers=producers) as ring, ring.producer(wait=wait) as tx:
        members = [peer(MEMBER, named.name, wait) for _ in range(3)]
        for each in members:
            each.expect("attached")
        for number in range(count):
            tx.send(b"%d" % number)
        ring.shutdown()
        received = []
        for each in members:
            received += list(iter(each.hear, "done"))
            each.finish()
        assert sorted(map(int, received)) == list(range(count))


# ---- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_a_batch_leaves_the_others_their_share(ring, members):
    count = 48
    with ring.producer() as tx:
        consumers = [ring.consumer() for _ in range(members)]
        for _ in range(5):
            assert tx.send_many([b"%d" % number for number in range(count)], timeout=0) == count
            left = count
            first = True
            while left:
                got = len(consumers[left % members].recv_many(1000, timeout=0))
                assert 1 <= got <= max(1, -(-left // members))
                if first and members > 1:
                    assert got >= left // members - 1  # a share, not a crumb
                first = False
                left -= got


def test_a_batch_of_the_only_member_left_takes_everything(ring):
    with ring.producer() as tx, ring.consumer() as rx:
        with ring.consumer() as other:
            tx.send_many([b"x"] * 10)
            assert len(rx.recv_many(1000, timeout=0)) <= 5
            drain(other)
        ring.repair()
        tx.send_many([b"x"] * 10)
        assert len(rx.recv_many(1000, timeout=0)) == 10


# ---- coming and going --------------------------------------------------------------------------------------


def test_a_second_member_may_join_while_the_first_holds_views(ring):
    with ring.producer() as tx, ring.consumer() as first:
        tx.send_many([b"%d" % number for number in range(6)])
        views = [first.peek(0), first.peek(0)]
        with ring.consumer() as second:
            assert second.recv(0) == b"2"
            views.append(first.peek(0))
            with second.peek(0) as view:
                assert [bytes(each.data) for each in (*views, view)] == [b"0", b"1", b"3", b"4"]
            assert first.recv(0) == b"5"
            for each in views:
                each.release()
        assert first.try_recv() is None
        tx.send(b"alone again")
        assert first.recv(0) == b"alone again"
        assert ring.stats().used == 0


def test_members_come_and_go_in_the_middle_of_a_stream(ring):
    """The first streams in a thread, without exchanges until the second one comes; the others join and leave all the time."""
    count = 30_000
    received = [[], []]
    with ring.producer() as tx, ring.consumer() as first:

        def read():
            received[0] += [int(message) for message in first]

        def write():
            for number in range(count):
                tx.send(b"%d" % number)
            ring.shutdown()

        threads = [threading.Thread(target=read), threading.Thread(target=write)]
        for each in threads:
            each.start()
        rng = random.Random(4)
        while threads[1].is_alive():
            with ring.consumer() as rx, contextlib.suppress(shmring.ShutDown):
                for _ in range(rng.randrange(12)):
                    if (message := rx.try_recv()) is not None:
                        received[1].append(int(message))
        for each in threads:
            each.join()
    assert all(each == sorted(each) for each in received)
    assert sorted(received[0] + received[1]) == list(range(count))


GUEST = """
    ring = shmring.open(sys.argv[1])
    say("here")
    joined = got = 0
    while joined < 300 or got < 100:
        with ring.consumer() as rx:
            joined += 1
            for _ in range(joined % 7):
                message = rx.try_recv()
                if message is not None:
                    got += 1
                    print(int(message))
    say("done")
"""


@pytest.mark.parametrize("producers", TOPOLOGIES)
def test_members_of_other_processes_come_and_go_in_the_middle_of_a_stream(named, peer, producers):
    """The kernel's membarrier is what tells the first member, in the middle of a claim, that it is not alone."""
    received, theirs = [], []
    with named.create(4096, producers=producers) as ring, ring.producer() as tx:
        first = ring.consumer()
        guest = peer(GUEST, named.name)
        guest.expect("here")
        listener = threading.Thread(target=lambda: theirs.extend(map(int, iter(guest.hear, "done"))))
        listener.start()
        sent = 0
        while listener.is_alive():
            while tx.try_send(b"%d" % sent):
                sent += 1
            if sent % 3 == 0:  # alone again, and without exchanges
                first.close()
                first = ring.consumer()
            while (message := first.try_recv()) is not None:
                received.append(int(message))
        guest.finish()
        received += map(int, drain(first))
    assert theirs == sorted(theirs) and received == sorted(received)
    assert sorted(received + theirs) == list(range(sent))


def test_leaving_with_a_view_that_was_not_released_gives_the_message_to_another(ring):
    with ring.producer() as tx, ring.consumer() as stays:
        leaves = ring.consumer()
        tx.send_many([b"%d" % number for number in range(4)])
        kept = [leaves.peek(0)]
        assert stays.recv(0) == b"1"
        kept.append(leaves.peek(0))
        leaves.close()
        ring.repair()
        got = []
        for _ in range(3):
            with stays.peek(0) as view:
                got.append((bytes(view.data), view.redelivered))
        assert sorted(got) == [(b"0", True), (b"2", True), (b"3", False)]
        assert stays.try_recv() is None and ring.stats().used == 0
        assert (ring.stats().groups[0].redelivered, ring.stats().groups[0].repaired) == (2, 0)
        del kept
