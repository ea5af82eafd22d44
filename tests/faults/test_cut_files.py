"""A file that is cut under its users: every kind of participant, in every call, gets RingTruncated, and its process lives.

(test_damage.py has the producers and the consumers of rings with one of each.)
"""

from __future__ import annotations

import os

import pytest

import shmring
from shmring.mapping import Mapping

pytestmark = pytest.mark.timeout(300, method="signal")

USER = """
    ring = shmring.open(sys.argv[1])
    wait = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=5)
    tx, rx = ring.producer(wait=wait), ring.consumer(wait=wait)
    second, group = ring.consumer(wait=wait), ring.consumer("other", wait=wait)
    seer = ring.consumer(lossy=True, wait=wait)
    looks = shmring.open(sys.argv[1], readonly=True)
    watcher = looks.consumer(lossy=True, wait=wait)
    def pump():
        tx.send_many([bytes(500)] * 6)
        for _ in range(3): rx.recv(0); second.recv(0)
        group.recv_many(6, 0)
    target = bytearray(4000)
    def many():
        tx.send_many([bytes(3000)] * 4); rx.recv_many(4); group.recv_many(4)
    def into():
        tx.send(bytes(3000)); second.recv_into(target); group.recv_into(target)
    def reserve():
        with tx.reserve(3000) as claim: claim.view[:] = bytes(3000)
        with rx.peek(0) as view: bytes(view.data)
        with group.peek(0) as view: bytes(view.data)
    def observe(who):
        pump()
        try:
            while True: who.recv(0)
        except TimeoutError: pass
    def attach(how):
        with how(): pass
    calls = {
        "members": pump, "batches": many, "into": into, "in place": reserve,
        "observer": lambda: observe(seer), "observer that may only read": lambda: observe(watcher),
        "observer that waits": lambda: watcher.recv(0.05), "latest": lambda: (pump(), seer.latest()),
        "wait": lambda: shmring.wait([rx, group], 0.05),
        "iteration": lambda: (tx.send(bytes(3000)), next(iter(rx)), group.recv(0)),
        "stats": ring.stats, "repair": ring.repair, "removing": lambda: ring.remove_group("spare"),
        "asking": lambda: ring.is_shutdown, "lag": lambda: (rx.lag, group.lag), "shutdown": ring.shutdown,
        "new producer": lambda: attach(ring.producer), "new member": lambda: attach(ring.consumer),
        "new group": lambda: attach(lambda: ring.consumer("new", ephemeral=True)),
        "opening": lambda: attach(lambda: shmring.open(sys.argv[1])),
    }
    ring.consumer("spare").close()
    call = calls[sys.argv[2]]
    if sys.argv[2] not in ("shutdown", "removing"):
        try: call()
        except TimeoutError: pass
    say("ready")
    hear()
    try:
        for _ in range(20):
            try: call()
            except TimeoutError: pass
        say("nothing")
    except KeyError: say("nothing")         # removed the first time
    except (shmring.RingTruncated, shmring.CorruptRing, shmring.LayoutMismatch) as error:
        say(type(error).__name__)
    for handle in (tx, rx, second, group, seer, watcher, ring, looks):
        try: handle.close()
        except shmring.RingTruncated: pass
        assert handle.closed
    say("alive")
"""

CALLS = ["members", "batches", "into", "in place", "observer", "observer that may only read", "observer that waits", "latest",
         "wait", "iteration", "stats", "repair", "removing", "asking", "lag", "shutdown",
         "new producer", "new member", "new group", "opening"]  # fmt: skip

LOOKS_AT_CONTROL_PAGES = {"observer that waits", "wait", "stats", "repair", "removing", "asking", "lag", "shutdown",
                          "new producer", "new member", "new group"}  # fmt: skip


@pytest.mark.parametrize("left", ["nothing", "control", "half the data"])
@pytest.mark.parametrize("call", CALLS)
def test_a_cut_file_is_an_exception_of_every_call(tmp_path, peer, call, left):
    with shmring.create(tmp_path / "ring", 16384, max_participants=16) as ring:
        control = ring.stats().control_bytes
    user = peer(USER, tmp_path / "ring", call)
    user.expect("ready")
    os.truncate(tmp_path / "ring", {"nothing": 0, "control": control, "half the data": control + 8192}[left])
    user.say()
    expected = {"RingTruncated"}
    if call == "opening":
        expected = {"LayoutMismatch"} if left == "nothing" else {"CorruptRing"}  # it was cut before: no ring any more
    elif left != "nothing" and call in LOOKS_AT_CONTROL_PAGES:
        expected |= {"nothing"}  # all that it looks at is still there
    assert user.hear() in expected
    user.expect("alive")
    user.finish()


@pytest.mark.parametrize("call", ["send", "try_send"])
def test_a_message_in_another_file_that_is_cut_is_no_damage_of_the_ring(tmp_path, call):
    """try_send called the ring damaged, if some other file had been cut since its last message."""
    with shmring.anonymous(4096) as ring, ring.producer() as tx, ring.consumer() as rx:
        for name in ("before", "message"):
            (tmp_path / name).write_bytes(b"x" * 4096)
        with Mapping.file(tmp_path / "before") as before, Mapping.file(tmp_path / "message") as source:
            message = memoryview(source)[:100]
            os.truncate(tmp_path / "before", 0)
            os.truncate(tmp_path / "message", 0)
            assert bytes(memoryview(before)[:1]) == b"\0"  # it is known now, and has the producer look at its own memory
            getattr(tx, call)(message)
            assert source.truncated
            assert rx.recv(0) == bytes(100)
            del message
        tx.send(b"later")
        assert rx.recv(0) == b"later" and ring.stats().used == 0
