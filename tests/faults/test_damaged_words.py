"""Words that made somebody crash, loop, wait for ever or raise what nobody expects, before they were checked, by symptom."""

from __future__ import annotations

import layout_bytes as at
import pytest

import shmring
from shmring import WaitPolicy

HASTE = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=1)

# What a look at damaged memory may end in; the rest of each program is about its ending at all.
CALLS = """
    wait = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=1)
    def attempt(label, call):
        try: say(label, "ok", repr(call())[:60])
        except (shmring.Error, TimeoutError) as error: say(label, type(error).__name__)
"""


def lapped_twice(path):
    """A ring for one producer, whose table of boundaries tells of two laps."""
    ring = shmring.create(path, 4096, producers="single", max_participants=6, max_groups=2)
    with ring.producer() as tx, ring.consumer() as rx:
        for _ in range(200):
            tx.send(bytes(100))
            rx.recv(0)
    return ring


@pytest.mark.parametrize("damage", [-4096, -8192, 4096 * 100, 1 << 62, -(1 << 62)])
def test_an_observer_looped_for_ever_when_the_announced_end_was_wrong(tmp_path, peer, damage):
    with lapped_twice(tmp_path / "ring"):
        watcher = peer(
            CALLS
            + """
    ring = shmring.open(sys.argv[1])
    rx = ring.consumer(lossy=True, wait=wait)
    hear()
    for label, call in (("try", rx.try_recv), ("recv", lambda: rx.recv(0.01)), ("latest", lambda: rx.latest(0)),
                        ("many", lambda: rx.recv_many(9, 0)), ("into", lambda: rx.recv_into(bytearray(5000), 0))):
        attempt(label, call)
    new = ring.consumer(lossy=True, start="latest", wait=wait)
    attempt("new", lambda: new.latest(0))
    attempt("new", new.try_recv)
        """,
            tmp_path / "ring",
        )
        at.write(tmp_path / "ring", at.RESERVE, at.read(tmp_path / "ring", at.RESERVE) + damage)
        watcher.say()
        watcher.finish()


@pytest.mark.parametrize("damage", [-4096, 4096 * 2, 1 << 62])
def test_a_new_producer_believed_an_announced_end_that_cannot_be(tmp_path, damage):
    """Observers would then have waited until it got there."""
    with lapped_twice(tmp_path / "ring") as ring:
        bad = (at.read(tmp_path / "ring", at.RESERVE) + damage) % 2**64
        at.write(tmp_path / "ring", at.RESERVE, bad)
        with pytest.raises(shmring.CorruptRing, match=f"{bad:#x} at offset {at.RESERVE:#x}"):
            ring.producer()


@pytest.mark.parametrize("role", [0, 3, 77])
def test_repair_crashed_on_a_member_whose_role_was_damaged(tmp_path, peer, role):
    """What it held was counted, as its group drops that, in a data area that was not mapped."""
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=4, max_groups=2) as ring:
        with ring.producer() as tx, ring.consumer("dropping", redeliver=False) as rx:
            tx.send_many([b"one", b"two"])
            number = next(each.slot for each in ring.stats().participants if each.role == "consumer")
            rx.recv(0)
        slot = at.participant(path, number)
        at.write(path, slot + at.SLOT_CLAIMS + 16, 0)
        at.write(path, slot + at.SLOT_CLAIMS + 24, 32)
        at.write(path, slot + at.SLOT_HOLD, 0)
        for offset, value in ((at.SLOT_ROLE, role), (at.SLOT_GROUP, 1), (at.SLOT_STATE, 2)):
            at.write(path, slot + offset, value, "I")
    peer("shmring.open(sys.argv[1]).repair()", path).finish()


@pytest.mark.parametrize("pid", [0, 1 << 31, 0xFFFFFFFF])
def test_a_pid_that_cannot_be_overflowed(tmp_path, pid):
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=4) as ring, ring.producer() as tx:
        at.write(path, at.participant(path, 0) + at.SLOT_PID, pid, "I")
        assert len(ring.stats().participants) == 1
        tx.try_send(b"x")
        assert ring.repair() in (0, 1)


@pytest.mark.parametrize("start, end", [(0, 1 << 40), (1 << 40, (1 << 40) + 32), (64, 32)])
def test_a_second_member_waited_for_ever_for_a_claim_that_cannot_be(tmp_path, peer, start, end):
    """The first one's slot says that it is in the middle of claiming, but not of anything that is in the ring."""
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=4, max_groups=2) as ring, ring.consumer(wait=HASTE):
        slot = at.participant(path, 0)
        for offset, value in ((at.SLOT_CLAIMS, start), (at.SLOT_CLAIMS + 8, end | 1), (at.SLOT_HOLD, start)):
            at.write(path, slot + offset, value)
        peer("shmring.open(sys.argv[1]).consumer().close()", path).finish()


@pytest.mark.parametrize("producers", ["single", "multi"])
@pytest.mark.parametrize("damage", [1, 8])
def test_an_observer_read_a_header_across_two_words_when_a_boundary_was_damaged(tmp_path, producers, damage):
    """Some processors do not do that: SIGBUS. On others it found damage, though the next older boundary is right."""
    path = tmp_path / "ring"
    with shmring.create(path, 4096, producers=producers) as ring, ring.producer() as tx, ring.consumer() as rx:
        for number in range(300):
            tx.send(b"%d" % number)
            rx.recv(0)
        places = {at.read(path, offset): offset for offset in range(at.BOUNDARIES, at.BOUNDARIES + 512, 16)}
        newest = max(place for place in places if place <= ring.stats().tail)
        at.write(path, places[newest], newest + damage)
        with ring.consumer(lossy=True) as observer:
            assert observer.latest(0) == b"299"
