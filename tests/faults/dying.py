"""Participants that are made to be killed."""

from __future__ import annotations

import os
import signal

import pytest

from shmring import WaitPolicy

pytestmark = pytest.mark.timeout(300, method="signal")  # who hangs is interrupted, and the other tests go on

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)

CLAIMER = """
    tx = shmring.open(sys.argv[1]).producer()
    tx.send(b"sent by %d" % os.getpid())
    claim = tx.reserve(int(sys.argv[2]))
    claim.view[:] = b"h" * len(claim.view)
    say("claimed")
    if hear() == "commit":
        claim.commit()
        say("committed")
        hear()
"""

MEMBER = """
    rx = shmring.open(sys.argv[1]).consumer(sys.argv[2] if len(sys.argv) > 2 else "default")
    say("attached")
    views = []
    for command in iter(hear, "leave"):
        if command == "peek":
            views.append(rx.peek())
            say(bytes(views[-1].data).decode(), views[-1].redelivered)
        elif command == "recv":
            say(rx.recv().decode())
        else:
            views.pop(0).release()
            say("released")
    rx.close()
    say("left")
    hear()
"""


@pytest.fixture
def ring(named):
    with named.create(4096, max_participants=8) as made:
        yield made


def drain(rx) -> list[bytes]:
    got = []
    while (message := rx.try_recv()) is not None:
        got.append(message)
    return got


def peeked(rx) -> list[tuple[bytes, bool]]:
    """What is there, each with whether somebody had it before; all of it is released at the end."""
    views = []
    while True:
        try:
            views.append(rx.peek(timeout=0))
        except TimeoutError:
            break
    got = [(bytes(view.data), view.redelivered) for view in views]
    for view in views:
        view.release()
    return got


def member(peer, ring, group="default"):
    started = peer(MEMBER, ring.name, group)
    started.expect("attached")
    return started


def claimer(peer, ring, size=100):
    started = peer(CLAIMER, ring.name, size)
    started.expect("claimed")
    return started


def stop(other):
    other.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)


def group_of(ring, name="default"):
    return next(group for group in ring.stats().groups if group.name == name)
