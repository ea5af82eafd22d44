"""Signals, thousands in a second, in the middle of everything: handlers that count, that raise, and that use the ring."""

from __future__ import annotations

import os

import pytest

import shmring
from shmring import backing

pytestmark = pytest.mark.timeout(300, method="signal")

# A timer every 0.2 ms. Python runs the handler between two of its instructions, and wherever shmring asks for signals; system
# calls that can be interrupted are, wherever they stand.
STORM = """
    import random
    policies = {"park": "park", "adaptive": "adaptive", "spin": "spin",
                "yield": WaitPolicy(held=0, spin_us=0, yields=50, slice_ms=3_600_000),
                "patient": WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)}
    served = 0
    def count(*_):
        global served
        served += 1
    def storm(handler=count):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    def calm():
        signal.setitimer(signal.ITIMER_REAL, 0)
"""

TALK = (
    STORM
    + """
    there, back = (shmring.open(sys.argv[1] + end) for end in "ab")
    wait = policies[sys.argv[2]]
    many = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=50)
    with there.producer(wait=wait) as tx, back.consumer(wait=wait) as rx, back.consumer("more", wait=wait) as more, \\
            back.consumer(lossy=True, wait=wait) as watcher, back.producer(wait=many) as idle, \\
            there.consumer("idle", wait=many) as nobody:
        say("attached")
        hear()
        storm()
        buffer = bytearray(4096)
        for each in range(300):
            message = b"%d" % each * (1 + each % 700)
            message = message[:2500]
            if each % 4 == 0: tx.send(message)
            elif each % 4 == 1: assert tx.send_many([message[:100], message[100:]]) == 2
            else:
                with tx.reserve(len(message)) as claim: claim.view[:] = message
            nobody.recv_many(9)
            got = []
            while sum(map(len, got)) < len(message):
                how = each % 6
                if how == 0: got.append(rx.recv())
                elif how == 1: got += rx.recv_many(2)
                elif how == 2: got.append(bytes(buffer[:rx.recv_into(buffer)]))
                elif how == 3:
                    with rx.peek() as view: got.append(bytes(view.data))
                elif how == 4: got.append(next(rx))
                else:
                    ready = shmring.wait([rx, nobody])
                    assert ready == [rx], ready
                    got.append(rx.recv(0))
            assert b"".join(got) == message
            seen = [more.recv() for _ in got]
            assert seen == got == [watcher.recv() for _ in got]
        for call in (lambda: rx.recv(0.02), lambda: rx.peek(0.02), lambda: nobody.recv_many(3, 0.02),
                     lambda: watcher.recv(0.02),
                     lambda: idle.send(bytes(4080)) or idle.send(b"x", timeout=0.02), lambda: idle.reserve(4000, timeout=0.02)):
            began = time.monotonic()
            try: call()
            except TimeoutError: assert time.monotonic() - began >= 0.02
            else: raise AssertionError("no time-out")
        assert shmring.wait([nobody], 0.02) == []
        calm()
        say("done", served > 100)
    hear()
"""
)

ECHO = """
    there, back = (shmring.open(sys.argv[1] + end) for end in "ab")
    with there.consumer() as rx, back.producer() as tx:
        for message in rx: tx.send(message)
"""


@pytest.mark.parametrize("wait", ["park", "adaptive", "spin", "yield", "patient"])
def test_every_wait_goes_on_through_a_storm(unique_name, peer, wait):
    with shmring.create(unique_name + "a", 4096) as there, shmring.create(unique_name + "b", 4096):
        talker = peer(TALK, unique_name, wait)
        talker.expect("attached")
        echo = peer(ECHO, unique_name)
        talker.say()
        talker.expect("done True")
        there.shutdown()
        talker.say()
        for each in (talker, echo):
            each.finish()


LIFE = (
    STORM
    + """
    import shmring.consumer, shmring.observer, shmring.producer
    name = sys.argv[1]
    def life(size):
        with shmring.create(name, size, exist_ok=True) as ring:
            with ring.producer() as tx, ring.consumer() as rx, ring.consumer("b", ephemeral=True), \\
                    ring.consumer(lossy=True, start="latest") as seer:
                tx.send(b"x")
                assert (rx.recv(0), seer.recv(0)) == (b"x", b"x")
                ring.stats()
                ring.repair()
                with shmring.open(name) as other, shmring.open(name, readonly=True) as watcher:
                    with other.consumer("b"): pass
                    watcher.stats()
            assert ring.stats().participants == [], ring.stats()
"""
)


def test_making_and_attaching_go_on_through_a_storm(named, peer):
    other = peer(
        LIFE
        + """
    storm()
    for _ in range(60):
        life(4096)
        shmring.unlink(name)
    life("16 MiB")
    calm()
    say(served > 50, len(os.listdir("/proc/self/fd")) < 12)
    """,
        named.name,
    )
    other.expect("True True")
    other.finish()
    shmring.unlink(named.name)


def test_pages_are_allocated_in_pieces_that_fit_between_two_signals(unique_name, monkeypatch):
    """tmpfs undoes an allocation that a signal interrupts: creating a large ring under a timer never came to its end."""
    asked = []
    real = os.posix_fallocate

    def between_signals(fd, offset, length):
        assert length <= 1 << 20, "interrupted, undone, begun again, and so on"
        asked.append((offset, length))
        real(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", between_signals)
    with shmring.create(unique_name, "4 MiB") as ring:
        size = os.stat(f"/dev/shm/{unique_name}").st_size
        assert sum(length for _, length in asked) == size == asked[-1][0] + asked[-1][1]
        assert os.stat(f"/dev/shm/{unique_name}").st_blocks * 512 >= size
        assert len(asked) == -(-size // backing.ALLOCATION_BYTES) and ring.capacity == 4 << 20


RAISES = (
    LIFE
    + """
    class Stop(Exception): pass
    def stop(*_): raise Stop
    sys.unraisablehook = lambda _: None     # a handler that raises inside a finalizer
    signal.signal(signal.SIGALRM, stop)
    chance = random.Random(7)
    def interrupted(call):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.001))
                call()
                return False
            finally:
                calm()
        except Stop:
            return True
"""
)


def test_a_creation_that_a_handler_ends_leaves_a_whole_ring_or_none(named, peer):
    """Whatever a raising handler interrupts: who comes next finds a ring that works, or no name; and no participant."""
    other = peer(
        RAISES
        + """
    stops = 0
    while stops < 300:
        stops += interrupted(lambda: life(4096))
        with shmring.create(name, 4096, exist_ok=True) as ring, ring.producer() as tx:
            assert len(ring.stats().participants) == 1
            tx.send(b"mine")
            with ring.consumer("check") as rx: pass
            with ring.consumer() as rx: assert rx.recv_many(99, 0)[-1] == b"mine"
        if stops % 3: shmring.unlink(name)
    say("done")
    """,
        named.name,
    )
    other.expect("done")
    other.finish()
    shmring.create(named.name, 4096, exist_ok=True).close()
    shmring.unlink(named.name)
    left = os.listdir(os.path.dirname(named.path()))
    assert not [each for each in left if each.startswith(".shmring-")]


def test_a_wait_that_a_handler_ends_loses_and_doubles_nothing(unique_name, peer):
    """recv_into tells by its buffer, and send by what arrives: each number comes once; twice at most if its send was ended."""
    with shmring.create(unique_name, 4096):
        reader = peer(
            RAISES
            + """
    with shmring.open(name) as ring, ring.consumer(wait=policies["park"]) as rx:
        say("attached")
        got, stops, buffer = [], 0, bytearray(8)
        while not got or got[-1] != 1999:
            buffer[:] = bytes(8)
            stops += interrupted(lambda: rx.recv_into(buffer))
            if any(buffer): got.append(int.from_bytes(buffer, "little") - 1)
        say(stops > 20, *got)
    """,
            unique_name,
        )
        reader.expect("attached")
        writer = peer(
            RAISES
            + """
    ended, each = [], 0
    with shmring.open(name) as ring, ring.producer(wait=policies["park"]) as tx:
        while each < 2000:
            if each % 100 == 0:
                while ring.stats().used: pass       # so that both sides wait at times
            if interrupted(lambda: tx.send((each + 1).to_bytes(8, "little"))): ended.append(each)       # and again
            else: each += 1
    say(*ended)
    """,
            unique_name,
        )
        ended = set(map(int, writer.hear().split()))
        stopped, *got = reader.hear().split()
        got = [int(each) for each in got]
        assert stopped == "True"
        assert got == sorted(got) and sorted(set(got)) == list(range(2000))
        assert all(got.count(each) == 1 for each in set(got) - ended)
        for each in (reader, writer):
            each.finish()


def test_handlers_may_use_the_ring_that_they_interrupt(unique_name, peer):
    """All calls, from a handler in the middle of all others, on the same handles. What cannot be done there is a RuntimeError
    (the tables are being changed by this very thread) or ClaimOpen, never a hang; what was sent arrives."""
    with shmring.create(unique_name, 1 << 16, max_participants=8):
        other = peer(
            STORM
            + """
    ring = shmring.open(sys.argv[1])
    tx, rx = ring.producer(wait="park"), ring.consumer(wait="park")
    sent, got, refused, called = [], [], 0, 0       # lists: a count could be stored back over the handler's
    inside = False
    def use(*_):
        global refused, called, inside
        if inside: return
        inside, called = True, called + 1
        try:
            kind = called % 6
            if kind == 0 and tx.try_send(b"handler"): sent.append(1)
            elif kind == 1:
                message = rx.try_recv()
                if message is not None: got.append(message)
            elif kind == 2: ring.stats()
            elif kind == 3: ring.repair()
            elif kind == 4: ring.consumer("other", ephemeral=True).close()
            else:
                with shmring.open(sys.argv[1]) as again: again.producer().close()
        except (RuntimeError, shmring.ClaimOpen):
            refused += 1
        finally:
            inside = False
    ring.consumer("other").close(); ring.remove_group("other"); ring.stats()
    storm(use)
    for each in range(400):
        kind = each % 5
        if kind == 0:
            with tx.reserve(100) as claim: claim.view[:] = b"c" * 100
            sent.append(1)
        elif kind == 1: sent.append(tx.send_many([b"a", b"b"]))
        elif kind == 2: ring.consumer("third", ephemeral=True).close()
        elif kind == 3: ring.repair()
        else:
            try: got.append(rx.recv(0.001))
            except TimeoutError: pass
        more = [] if ring.stats().used < 30000 else rx.recv_many(99, 0)
        got += more
    calm()
    got += iter(rx.try_recv, None)
    say(sum(sent) == len(got), called > 50, [each.group for each in ring.stats().participants])
    """,
            unique_name,
        )
        other.expect("True True [None, 'default']")
        other.finish()
