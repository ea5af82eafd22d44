"""Workers of a queue are killed at random moments in put, get and task_done: the others go on, and the books are right. And in
the middle of copying a large object in or out, where the memory refuses to be read on.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import multiprocessing
import os
import random
import resource
import signal
import struct
import threading
import time
from pickle import PickleBuffer

import pytest

import shmring

FORK = multiprocessing.get_context("fork")
LINE = struct.Struct("<cII")  # what a worker notes: what it did, who put the item, and its number
KILLS = int(os.environ.get("SHMRING_QUEUE_KILLS", "120"))
PUTTERS, GETTERS = 2, 3
DAMAGED = 0xFFFFFFFF  # noted for the number of an object that is not as it was put
LARGE = 4 << 20


def put_for_ever(q, size, reading, notes, me):
    os.close(reading)  # so that nobody goes on without the test
    number = 0
    content = bytearray(size)
    may_spill = isinstance(q, shmring.Queue) and not q.maxsize and not isinstance(q, shmring.JoinableQueue)
    while True:
        while may_spill and q.ring.stats(exact=False).fill > 0.5:
            time.sleep(0.0005)  # what the ring has no room for would be lost with us; who was killed, or is slow, may hold room
        content[:] = bytes([number % 256]) * size
        q.put((me, number, PickleBuffer(content)))
        os.write(notes, LINE.pack(b"p", me, number))
        number += 1


def get_for_ever(q, size, reading, notes, me):
    os.close(reading)
    while True:
        who, number, content = q.get()
        os.write(notes, LINE.pack(b"g", who, number if content == bytes([number % 256]) * size else DAMAGED))
        if isinstance(q, shmring.JoinableQueue):
            q.task_done()


class Crew:
    """Workers that are killed and replaced, and what they noted."""

    def __init__(self, q, size):
        self.q, self.size = q, size
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.rest = b""
        self.put, self.got = set(), []
        self.workers = {put_for_ever: [], get_for_ever: []}
        self.numbers = 0
        self.killed = dict.fromkeys(self.workers, 0)

    def hire(self, work):
        self.numbers += 1
        worker = FORK.Process(target=work, args=(self.q, self.size, self.reading, self.writing, self.numbers), daemon=True)
        worker.start()
        self.workers[work].append(worker)

    def kill(self, work, index):
        worker = self.workers[work].pop(index)
        worker.kill()
        worker.join()
        worker.close()
        self.killed[work] += 1

    def read(self):
        try:
            while data := os.read(self.reading, 1 << 16):
                self.rest += data
        except BlockingIOError:
            pass
        whole = len(self.rest) // LINE.size * LINE.size
        for what, who, number in LINE.iter_unpack(self.rest[:whole]):
            if what == b"p":
                self.put.add((who, number))
            else:
                self.got.append((who, number))
        self.rest = self.rest[whole:]

    def wait_until(self, is_so):
        while not is_so():
            self.read()
            time.sleep(0.001)

    def dismiss(self, work):
        while self.workers[work]:
            self.kill(work, 0)

    def end(self):
        for work in self.workers:
            self.dismiss(work)
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def crew_of():
    crews = []

    def make(q, size):
        crews.append(Crew(q, size))
        return crews[-1]

    yield make
    for each in crews:
        each.end()


@pytest.mark.parametrize(
    ("make", "size"),
    [
        pytest.param(lambda: shmring.Queue(capacity="64 KiB"), 0, id="Queue"),
        pytest.param(lambda: shmring.Queue(20), 0, id="bounded"),
        pytest.param(lambda: shmring.SimpleQueue(capacity="4 KiB"), 0, id="SimpleQueue"),
        pytest.param(lambda: shmring.JoinableQueue(capacity="64 KiB"), 0, id="JoinableQueue"),
        pytest.param(lambda: shmring.JoinableQueue(20), 0, id="bounded-JoinableQueue"),
        pytest.param(lambda: shmring.Queue(20, capacity="4 MiB"), 300_000, id="bounded-large"),
        pytest.param(lambda: shmring.JoinableQueue(capacity="4 MiB"), 300_000, id="JoinableQueue-large"),
    ],
)
def test_killed_workers_stop_nobody_and_take_no_more_than_they_had(make, size, crew_of):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    with make() as q:
        crew = crew_of(q, size)
        for work, count in (put_for_ever, PUTTERS), (get_for_ever, GETTERS):
            for _ in range(count):
                crew.hire(work)
        for _ in range(KILLS // 5):
            work = chance.choice([put_for_ever, get_for_ever])
            time.sleep(chance.random() * 0.005)
            crew.kill(work, chance.randrange(len(crew.workers[work])))
            crew.hire(work)
            before = len(crew.got)
            crew.wait_until(lambda before=before: len(crew.got) > before)  # the others go on
        crew.dismiss(put_for_ever)
        if isinstance(q, shmring.JoinableQueue):
            joining = threading.Thread(target=q.join, daemon=True)  # although workers were killed at their task
            joining.start()
            crew.wait_until(lambda: not joining.is_alive())
        crew.wait_until(q.empty)
        at_once = GETTERS  # what they were given last may not be noted yet
        crew.dismiss(get_for_ever)
        crew.read()
        lost, twice = crew.put - set(crew.got), len(crew.got) - len(set(crew.got))
        if isinstance(q, shmring.JoinableQueue):
            assert not lost  # at least once
            assert twice <= crew.killed[get_for_ever]
        else:
            assert not twice
            assert len(lost) <= crew.killed[get_for_ever] + at_once
        assert not [each for each in crew.got if each[1] == DAMAGED]
        assert len(crew.got) >= KILLS // 5


# ---- in the middle of a large object ---------------------------------------------------------------------------------------


def forbid(address, size):
    """From now on whoever touches these bytes dies of it, as by kill -9: nothing of Python runs."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(size), 0) == 0, os.strerror(ctypes.get_errno())


def put_and_die(q, put):
    memory = mmap.mmap(-1, LARGE)
    forbid(ctypes.addressof(ctypes.c_char.from_buffer(memory)) + LARGE // 2, mmap.PAGESIZE)
    put(q, PickleBuffer(memory))


def get_and_die(q, get):
    """Takes the marker, which tells where the large object behind it lies."""
    numpy = pytest.importorskip("numpy")
    q._consume()
    with q._rx.peek() as view:
        behind = numpy.frombuffer(view.data, numpy.uint8).ctypes.data + len(view)
    forbid(behind + LARGE // 2, mmap.PAGESIZE)
    get(q)


def dies_of(target, *arguments):
    child = FORK.Process(target=target, args=arguments, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGSEGV
    child.close()


KINDS = {
    "Queue": lambda: shmring.Queue(),
    "bounded": lambda: shmring.Queue(5),  # what the dead one did not put counts until somebody takes what is behind
    "SimpleQueue": lambda: shmring.SimpleQueue(),
    "JoinableQueue": lambda: shmring.JoinableQueue(),
}


def put_one(q, obj):
    q.put([obj])


def put_several(q, obj):
    q.put_many([1, [obj], 2])


@pytest.mark.parametrize("put", [put_one, put_several])
@pytest.mark.parametrize("kind", KINDS)
def test_who_dies_in_the_middle_of_putting_a_large_object_delivers_no_part_of_it(kind, put):
    if kind == "SimpleQueue" and put is put_several:
        pytest.skip("has no put_many")
    with KINDS[kind]() as q:
        q.put("before")
        dies_of(put_and_die, q, put)
        q.put("behind")
        assert q.get() == "before"
        if put is put_several:
            assert q.get() == 1  # whole, when its process died
        assert q.get() == "behind" and q.empty()
        assert q.ring.stats().aborted
        if kind == "JoinableQueue":
            for _ in range(3 if put is put_several else 2):
                q.task_done()
            q.join()
        if kind == "bounded":
            for number in range(5):
                q.put(number, False)
            assert q.full()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_who_dies_in_the_middle_of_getting_a_large_object_leaves_it_to_the_next(kind, many):
    if kind == "SimpleQueue" and many:
        pytest.skip("has no get_many")
    content = bytearray(random.randbytes(LARGE))
    with KINDS[kind]() as q:
        for obj in "marker", PickleBuffer(content), "behind":
            q.put(obj)
        dies_of(get_and_die, q, (lambda q: q.get_many(9)) if many else (lambda q: q.get()))
        got = [q.get(), q.get()]
        assert sorted(map(len, got)) == [6, LARGE] and content in got and q.empty()
        if kind == "JoinableQueue":
            q.task_done()
            q.task_done()
            q.join()
