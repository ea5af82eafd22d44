"""shmring.examine names every impossible word, and what the dead left; it finds nothing wrong with rings at work."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import threading

import layout_bytes as places
import pytest
from shmring.examine import IDENTITY_BYTES, examine, examine_identity

import shmring

GROUP, CONTENT_BYTES, LOCK_REGISTRY = places.GROUPS, 1024, 0
F_OFD_SETLK = 37
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
    assert any(each.kind == "damaged" and words in each.text and each.offset == offset for each in found), found
    assert findings(path) == []


def judged(path, offset, value, form):
    """The places of damage that are named once `value` stands at `offset`; it is as it was afterwards."""
    before = places.read(path, offset, form)
    places.write(path, offset, value, form)
    found = {each.offset for each in findings(path) if each.kind == "damaged"}
    places.write(path, offset, before, form)
    return found


# label -> (offset or how to find it, last value that can be, first that cannot, struct format); of 8 participants and
# 4 groups, with three messages of 32 bytes each
LIMITS = {
    "shutdown": (places.SHUTDOWN, 1, 2, "I"),
    "sole": (places.SOLE, 8, 9, "I"),
    "slots used": (places.SLOTS_USED, 8, 9, "I"),
    "asleep for messages": (places.DATA_BELL + places.PARKED, 1 << 7, 1 << 8, "Q"),
    "armed for messages": (places.DATA_BELL + places.ARMED, 1 << 7, 1 << 8, "Q"),
    "asleep for room": (places.ROOM_BELL + places.PARKED, 1 << 7, 1 << 8, "Q"),
    "armed for room": (places.ROOM_BELL + places.ARMED, 1 << 7, 1 << 8, "Q"),
    "group flags": (GROUP + places.GROUP_FLAGS, 7, 8, "I"),
    "group attention": (GROUP + places.GROUP_ATTENTION, 7, 8, "I"),
    "group head": (GROUP + places.GROUP_HEAD, 96 << 12, 112 << 12, "Q"),
    "slot state": (lambda path: places.participant(path, 1) + places.SLOT_STATE, 3, 4, "I"),
    "slot group": (lambda path: places.participant(path, 1) + places.SLOT_GROUP, 3, 4, "I"),
    "slot hold": (lambda path: places.participant(path, 1) + places.SLOT_HOLD, 96, 112, "Q"),
    "slot hold between records": (lambda path: places.participant(path, 1) + places.SLOT_HOLD, 32, 40, "Q"),
    "boundary": (places.BOUNDARIES, 96, 100, "Q"),
    "record length": (lambda path: places.identity(path, "data_offset") + 8, 80, 81, "I"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_last_possible_value_passes_and_the_next_one_is_named(used, what):
    path, *_ = used
    offset, possible, impossible, form = LIMITS[what]
    offset = offset(path) if callable(offset) else offset
    assert offset not in judged(path, offset, possible, form)
    assert offset in judged(path, offset, impossible, form)


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


def judge_limits(path, offset, possible, impossible, form):
    assert offset not in judged(path, offset, possible, form)
    assert offset in judged(path, offset, impossible, form)


def test_what_a_single_producer_alone_decides_has_limits(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096, producers="single") as ring, ring.producer() as tx:
        tx.send_many([b"one", b"two", b"three"])
        judge_limits(path, places.TAIL, 96, 100, "Q")
        judge_limits(path, places.RESERVE, 96 + 2 * 4096, 97 + 2 * 4096, "Q")


def test_what_many_producers_decide_has_limits(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx:
        tx.send_many([b"one", b"two", b"three"])
        judge_limits(path, places.participant(path, 0) + places.SLOT_INTENT_START, 16, 8, "Q")
        judge_limits(path, places.BOUNDARIES, 96, 112, "Q")  # no place lies beyond the tail


@pytest.mark.parametrize("bell", [places.DATA_BELL, places.ROOM_BELL])
@pytest.mark.parametrize("word", [places.PARKED, places.ARMED])
def test_bits_of_participants_beyond_the_last_one_are_named_in_every_word(tmp_path, bell, word):
    path = tmp_path / "ring"
    with shmring.create(path, 4096, max_participants=70):
        judge_limits(path, bell + word + 8, 1 << 5, 1 << 6, "Q")
        assert judged(path, bell + word, 1 << 63, "Q") == set()


def test_nothing_is_held_from_before_the_last_lap(used):
    path, ring, tx, rx = used
    while ring.stats().tail < 3 * 4096:
        tx.send(b"again")
        rx.recv(0)
    tail = ring.stats().tail
    offset = places.participant(path, 1) + places.SLOT_HOLD
    judge_limits(path, offset, tail - 4096, tail - 4096 - 32, "Q")


def test_what_lies_behind_an_open_reservation_is_looked_at(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as first, ring.producer() as second, first.reserve(3) as claim:
        second.send_many([b"two", b"three"])
        assert findings(path) == []
        offset = places.identity(path, "data_offset") + 64
        assert offset in judged(path, offset, 12345, "Q")
        claim.abort()


def test_reservations_that_are_neighbours_are_told_apart(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as one, ring.producer() as two:
        first, second = one.reserve(3), two.reserve(3)
        assert findings(path) == []
        second.abort()
        first.abort()


def test_a_message_that_nobody_reserved_is_named(tmp_path):
    path = tmp_path / "ring"
    with shmring.create(path, 4096) as ring, ring.producer() as tx:
        tx.send_many([b"one", b"two", b"three"])
        offset = places.identity(path, "data_offset") + 32
        places.write(path, offset, 0)
        (found,) = findings(path)
    assert (found.kind, found.offset) == ("damaged", offset) and "reserved by nobody" in found.text


def test_the_largest_ring_is_no_damage(used):
    path, *_ = used
    page, size = bytearray(path.read_bytes()[:IDENTITY_BYTES]), path.stat().st_size
    for field, most in ("max_participants", 1024), ("max_groups", 64), ("capacity", 1 << 46):
        offset, form = places.IDENTITY[field]
        before = page[offset : offset + 8]
        for value, is_wrong in (most, False), (2 * most, True), (0, True):
            struct.pack_into("<" + form, page, offset, value)
            assert (offset in {each.offset for each in examine_identity(bytes(page), size)}) is is_wrong, (field, value)
        page[offset : offset + 8] = before
    assert examine_identity(bytes(page), size) == []
    assert [each.offset for each in examine_identity(bytes(page), size - 1)] == [size - 1]


@pytest.mark.parametrize("content, words", [(b"\xff", "no UTF-8"), (b"x" * CONTENT_BYTES, "no end"), (b"array <f8", None)])
def test_what_a_ring_says_of_its_messages_is_text_with_an_end(used, content, words):
    path, *_ = used
    page = bytearray(path.read_bytes()[:IDENTITY_BYTES])
    page[128 : 128 + len(content)] = content
    found = examine_identity(bytes(page), path.stat().st_size)
    assert [each.offset for each in found] == ([128] if words else []) and all(words in each.text for each in found)


def test_two_groups_of_one_name_are_named(used):
    path, ring, *_ = used
    ring.consumer("another").close()
    offset = GROUP + places.GROUP_BYTES + places.GROUP_NAME
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"default\0")
        file.flush()
        (found,) = findings(path)
        file.seek(offset)
        file.write(b"another\0")
    assert (found.kind, found.offset) == ("damaged", offset) and "groups 0 and 1 are both called 'default'" in found.text


def test_a_group_that_nobody_finishes_is_named_and_one_in_the_making_is_not(used):
    path, *_ = used
    offset = GROUP + places.GROUP_BYTES
    places.write(path, offset, 1, "I")  # JOINING
    (found,) = findings(path)
    assert (found.kind, found.offset) == ("dead", offset) and "half made" in found.text
    with open(path, "r+b") as file:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, LOCK_REGISTRY, 1, 0)
        fcntl.fcntl(file, F_OFD_SETLK, lock)
        assert findings(path) == []
    places.write(path, offset, 0, "I")


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
