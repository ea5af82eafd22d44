"""shmring.examine names every impossible word, and what the dead left; it finds nothing wrong with rings at work."""

from __future__ import annotations

import os
import signal
import threading

import layout_bytes as places
import pytest
from shmring.examine import IDENTITY_BYTES, examine, examine_identity

import shmring

GROUP = places.GROUPS
# label -> (offset or how to find it, value, struct format, words of the finding)
DAMAGE = {
    "shutdown": (places.SHUTDOWN, 7, "I", "what the producers share"),
    "sole": (places.SOLE, 999, "I", "what the producers share"),
    "data bell": (places.DATA_BELL + places.PARKED, 1 << 63, "Q", "who waits for messages"),
    "room bell": (places.ROOM_BELL + places.ARMED, 1 << 63, "Q", "who waits for room"),
    "group state": (GROUP + places.GROUP_STATE, 9, "I", "group 0"),
    "group flags": (GROUP + places.GROUP_FLAGS, 0x80, "I", "group 0"),
    "group attention": (GROUP + places.GROUP_ATTENTION, 0x80, "I", "group 0"),
    "group name": (GROUP + places.GROUP_NAME, 0xFF, "B", "no UTF-8"),
    "group without a name": (GROUP + places.GROUP_NAME, 0, "B", "no name"),
    "group head": (GROUP + places.GROUP_HEAD, 1 << 40, "Q", "group 0"),
    "boundary": (places.TAIL + 512, 8, "Q", "places for observers"),
    "slot state": (lambda path: places.participant(path, 3) + places.SLOT_STATE, 9, "I", "participant 3"),
    "slot role": (lambda path: places.participant(path, 0) + places.SLOT_ROLE, 9, "I", "participant 0"),
    "slot group": (lambda path: places.participant(path, 1) + places.SLOT_GROUP, 99, "I", "participant 1"),
    "slot hold": (lambda path: places.participant(path, 1) + places.SLOT_HOLD, 8, "Q", "participant 1"),
    "record stamp": (lambda path: places.identity(path, "data_offset"), 12345, "Q", "the message at position"),
    "record length": (lambda path: places.identity(path, "data_offset") + 8, 1 << 30, "I", "the message at position"),
}


@pytest.fixture(params=["single", "multi"])
def used(request, tmp_path):
    """A ring in a file that somebody uses, with messages in it."""
    path = tmp_path / "ring"
    how = {"producers": request.param, "max_participants": 8, "max_groups": 4}
    with shmring.create(path, 4096, **how) as ring, ring.producer() as tx, ring.consumer() as rx:
        tx.send_many([b"one", b"two", b"three"])
        yield path, ring, tx, rx


def findings(path):
    with shmring.open(path, readonly=True) as ring:
        return examine(ring)


def test_nothing_is_wrong_with_a_ring_in_use(used):
    path, _, tx, rx = used
    assert findings(path) == []
    with tx.reserve(10) as claim, rx.peek():
        assert findings(path) == []
        claim.abort()


@pytest.mark.parametrize("what", DAMAGE)
def test_each_impossible_word_is_named_with_its_place(used, what):
    path, *_ = used
    offset, value, form, words = DAMAGE[what]
    offset = offset(path) if callable(offset) else offset
    before = places.read(path, offset, form)
    places.write(path, offset, value, form)
    found = findings(path)
    places.write(path, offset, before, form)  # before anybody leaves
    assert any(each.kind == "damaged" and words in each.text for each in found), found
    assert findings(path) == []


@pytest.mark.parametrize("field", [field for field in places.IDENTITY if field != "ready"])
def test_each_damaged_field_of_the_first_page_is_named(used, field):
    path, *_ = used
    offset, form = places.IDENTITY[field]
    page = bytearray(path.read_bytes()[:IDENTITY_BYTES])
    size = path.stat().st_size
    assert examine_identity(bytes(page), size) == []
    width = {"I": 4, "Q": 8}[form]
    page[offset : offset + width] = b"\xf1" * width
    assert offset in {each.offset for each in examine_identity(bytes(page), size)}


def test_several_damaged_fields_are_all_named_and_a_cut_too(used):
    path, *_ = used
    page = bytearray(path.read_bytes()[:IDENTITY_BYTES])
    page[40:44], page[32:33] = b"\x11\0\0\0", b"\x01"
    found = examine_identity(bytes(page), 8192)
    assert {each.offset for each in found} == {32, 40, 8192}
    assert "cut" in found[-1].text


def test_nothing_is_wrong_while_everybody_works():
    with shmring.anonymous("64 KiB") as ring:
        ending = threading.Event()

        def write():
            with ring.producer() as tx:
                while not ending.is_set():
                    tx.send_many([b"x" * 50] * 20, timeout=60)

        def read():
            with ring.consumer() as rx:
                while not ending.is_set():
                    rx.recv_many(7, timeout=60)

        threads = [threading.Thread(target=work) for work in (write, write, read, read)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(100):
                assert examine(ring) == []
        finally:
            ending.set()
            with ring.producer() as tx, ring.consumer() as rx:
                while any(thread.is_alive() for thread in threads):
                    tx.try_send(b"for who waits for a message")
                    rx.try_recv()
            for thread in threads:
                thread.join()


def test_the_dead_and_what_they_left_are_named_until_they_are_buried(unique_name):
    with shmring.create(unique_name, 4096) as ring:
        with ring.producer() as tx:
            tx.send(b"x")
        child = os.fork()
        if child == 0:
            rx = shmring.open(unique_name).consumer()
            view = rx.peek()  # noqa: F841
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        (dead,) = examine(ring)
        assert dead.kind == "dead" and str(child) in dead.text
        assert ring.repair() == 1
        (orphaned,) = examine(ring)
        assert orphaned.kind == "orphaned" and "default" in orphaned.text
        with ring.consumer() as rx:
            assert rx.recv(timeout=0) == b"x"
        assert examine(ring) == []
