"""A second member joins a group whose only one is in the middle of a claim without exchange (_core/sole.pxd).

The moment is a few instructions long; here a peer that claimed is stopped, and its word is set to what it is at
that moment.
"""

from __future__ import annotations

import os
import signal
import threading

import layout_bytes as at
import pytest
from dying import MEMBER

pytestmark = pytest.mark.timeout(300, method="signal")
SHARED = 1


@pytest.fixture
def moving(named, peer):
    """A ring, the path of its bytes, and a stopped peer of slot 0 that received one message and is about to move
    the head."""
    with named.create(4096, max_participants=8) as ring:
        member = peer(MEMBER, ring.name)
        member.expect("attached")
        with ring.producer() as tx:
            tx.send_many([b"%d" % number for number in range(4)])
            member.say("recv")
            member.expect("0")
            os.kill(member.pid, signal.SIGSTOP)
            path = ring.name if os.sep in ring.name[1:] else f"/dev/shm/{ring.name}"
            at.write(path, at.participant(path, 0) + at.SLOT_MOVING, 1)
            yield ring, path, member
            if member.process.poll() is None:
                os.kill(member.pid, signal.SIGCONT)


def joined_by_a_thread(ring):
    members = []
    thread = threading.Thread(target=lambda: members.append(ring.consumer()), daemon=True)
    thread.start()
    return thread, members


def test_who_is_about_to_move_the_head_by_a_plain_store_is_waited_for(moving):
    ring, path, _ = moving
    thread, members = joined_by_a_thread(ring)
    while not at.read(path, at.GROUPS + at.GROUP_ATTENTION, "I") & SHARED:
        os.sched_yield()
    for _ in range(500):                # time enough to come in, for who would not wait
        os.sched_yield()
    assert thread.is_alive() and not members
    at.write(path, at.participant(path, 0) + at.SLOT_MOVING, 0)
    thread.join()
    with members[0] as rx:
        assert [rx.recv(0) for _ in range(3)] == [b"1", b"2", b"3"]


def test_who_died_about_to_move_the_head_is_not_waited_for(moving):
    ring, _, member = moving
    thread, members = joined_by_a_thread(ring)
    member.kill()
    thread.join()
    with members[0] as rx:
        assert [rx.recv(0) for _ in range(3)] == [b"1", b"2", b"3"]


def test_who_finds_that_it_is_not_alone_any_more_claims_by_exchange(moving):
    ring, path, member = moving
    at.write(path, at.participant(path, 0) + at.SLOT_MOVING, 0)
    thread, members = joined_by_a_thread(ring)
    thread.join()
    with members[0] as rx:
        assert rx.recv(0) == b"1"
        os.kill(member.pid, signal.SIGCONT)
        member.say("recv")
        member.expect("2")
        assert rx.recv(0) == b"3"
