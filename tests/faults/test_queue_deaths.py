"""Workers of a queue are killed at random moments in put, get and task_done: the others go on, and the books are right."""

from __future__ import annotations

import multiprocessing
import os
import random
import struct
import threading
import time

import pytest

import shmring

FORK = multiprocessing.get_context("fork")
LINE = struct.Struct("<cII")  # what a worker notes: what it did, who put the item, and its number
KILLS = int(os.environ.get("SHMRING_QUEUE_KILLS", "120"))
PUTTERS, GETTERS = 2, 3


def put_for_ever(q, reading, notes, me):
    os.close(reading)  # so that nobody goes on without the test
    number = 0
    may_spill = isinstance(q, shmring.Queue) and not q.maxsize and not isinstance(q, shmring.JoinableQueue)
    while True:
        while may_spill and q.qsize() > 500:
            time.sleep(0.0005)  # what the ring has no room for would be lost with us
        q.put((me, number))
        os.write(notes, LINE.pack(b"p", me, number))
        number += 1


def get_for_ever(q, reading, notes, me):
    os.close(reading)
    while True:
        who, number = q.get()
        os.write(notes, LINE.pack(b"g", who, number))
        if isinstance(q, shmring.JoinableQueue):
            q.task_done()


class Crew:
    """Workers that are killed and replaced, and what they noted."""

    def __init__(self, q):
        self.q = q
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.rest = b""
        self.put, self.got = set(), []
        self.workers = {put_for_ever: [], get_for_ever: []}
        self.numbers = 0
        self.killed = dict.fromkeys(self.workers, 0)

    def hire(self, work):
        self.numbers += 1
        worker = FORK.Process(target=work, args=(self.q, self.reading, self.writing, self.numbers), daemon=True)
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

    def make(q):
        crews.append(Crew(q))
        return crews[-1]

    yield make
    for each in crews:
        each.end()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: shmring.Queue(capacity="64 KiB"), id="Queue"),
        pytest.param(lambda: shmring.Queue(20), id="bounded"),
        pytest.param(lambda: shmring.SimpleQueue(capacity="4 KiB"), id="SimpleQueue"),
        pytest.param(lambda: shmring.JoinableQueue(capacity="64 KiB"), id="JoinableQueue"),
        pytest.param(lambda: shmring.JoinableQueue(20), id="bounded-JoinableQueue"),
    ],
)
def test_killed_workers_stop_nobody_and_take_no_more_than_they_had(make, crew_of):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    with make() as q:
        crew = crew_of(q)
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
        assert len(crew.got) > 10 * GETTERS
