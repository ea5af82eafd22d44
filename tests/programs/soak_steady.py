"""The part of a soak that never begins anew: one ring and six processes that live as long as the soak, attaching and leaving
all the time, while visitors come, are killed or stopped, and are replaced. What leaks, or drifts, shows here.

Run as: soak_steady.py CONFIG, which is JSON (tests/programs/soak.py makes it). Every config["every"] seconds there is a
checkpoint: the visitors are killed, the lasting writer pauses, everybody drains, and then

- nothing is in use, nobody but the six is attached, no group but the two lasting ones is there, and the dead were counted;
- each message of the lasting writer was seen by the group "shared", in which members are killed;
- the member of the group "whole", in which nobody is killed, had every message of every writer once, in order, without holes
  (it says so itself, at once);
- and a line of JSON tells what was done since the last one, and how much memory each process has.

It ends when standard input does.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections import Counter

import soak_meter
import storm_books as books
import storm_check
from storm import Storm, write_errors_to
from storm_books import read_message
from storm_workers import Member, Observer, Worker, Writer

import shmring

ROWS = 4096  # more than there are visitors between two checkpoints
LASTING = 6  # those who were there first
MARKS = 1 << 23  # messages of the lasting writer between two checkpoints, at most
FORGET = 2000  # a writer whose number is so far below the newest one's is gone
WRITER = 0  # its number
PAUSED, FROM = 0, 1  # words of `pause`: is the lasting writer to wait, and with which message did it begin after the last time

PAUSE = memoryview(mmap.mmap(-1, 4096)).cast("I")
SEEN = mmap.mmap(-1, MARKS)  # a byte for each message of the lasting writer: a member of "shared" had it


class Rows(books.Table):
    """Visitors use the rows of those who are gone."""

    def place(self, worker: int, column: int) -> int:
        return super().place(worker if worker < LASTING else LASTING + (worker - LASTING) % (ROWS - LASTING), column)


class LastingWriter(Writer):
    def beat(self) -> None:
        super().beat()
        while PAUSE[PAUSED] or self.sequence - PAUSE[FROM] > MARKS - books.MOST_AT_ONCE:
            self.table.set(self.number, books.ABANDONED, 1)  # a producer's word for "I wait"
            time.sleep(0.001)
            super().beat()
            if self.table.phase >= books.FINISH:
                return
        self.table.set(self.number, books.ABANDONED, 0)


class Whole(Worker):
    """The only member of its group: every message of every writer, once, in order."""

    def run(self) -> None:
        self.next: dict[int, int] = {}
        is_over = False
        while not is_over:
            rx = self.attach(lambda: self.ring.consumer("whole", exclusive=True, wait=self.policy()), books.DRAIN)
            if rx is None:
                return
            for _ in range(self.session()):
                self.may_wait(rx)
                try:
                    self.random.choice(self.WAYS)(self, rx)
                except (TimeoutError, shmring.ShutDown):
                    is_over = self.table.phase >= books.DRAIN
                self.beat()
                if is_over:
                    break
            self.leave(rx)

    def check(self, kind: str, messages) -> None:
        for producer, sequence in messages:
            expected = self.next.get(producer, 0)
            assert sequence == expected, f"whole: producer {producer}, expected {expected}, came {sequence}"
            if producer not in self.next and len(self.next) > 2 * FORGET:
                oldest = producer - FORGET
                self.next = {number: value for number, value in self.next.items() if number > oldest or number == WRITER}
            self.next[producer] = sequence + 1
        self.moved(kind, len(messages))
        self.table.set(self.number, books.RECEIVED, self.next.get(WRITER, 0))

    def recv(self, rx) -> None:
        self.check("recv", [read_message(rx.recv(0.05))])

    def try_recv(self, rx) -> None:
        message = rx.try_recv()
        self.check("try_recv", [] if message is None else [read_message(message)])

    def recv_many(self, rx) -> None:
        self.check("recv_many", [read_message(message) for message in rx.recv_many(50, 0.05)])

    def recv_into(self, rx) -> None:
        buffer = bytearray(1 << 16)
        self.check("recv_into", [read_message(buffer[: rx.recv_into(buffer, 0.05)])])

    def peek(self, rx) -> None:
        with rx.peek(0.05) as view:
            assert not view.redelivered, "redelivered, and nobody died"
            self.check("peek", [read_message(view.data)])

    WAYS = recv, try_recv, recv_many, recv_many, recv_into, peek


class Marks:
    """What a member of the group "shared" writes instead of a log."""

    is_full = False

    def write(self, position: int, producer: int, sequence: int, what: int) -> None:
        if producer == WRITER:
            assert sequence >= PAUSE[FROM], f"message {sequence} came after everything up to {PAUSE[FROM]} had been released"
            SEEN[sequence - PAUSE[FROM]] = 1


class Nothing:
    """What a passing member writes."""

    is_full = False

    def write(self, *_) -> None:
        pass


ROLES = {"lasting writer": LastingWriter, "whole": Whole, "producer": Writer, "member": Member, "observer": Observer}


class Steady(Storm):
    def __init__(self, config):
        super().__init__(config)
        self.table = Rows(ROWS)
        self.lasting: dict[str, int] = {}  # pid by name
        self.numbers_of: dict[str, int] = {}
        self.moved = Counter()
        self.killed = Counter()  # by state
        self.checkpoints = 0

    def worker(self, number, ring, job, log_path):
        log = Marks() if job.get("group") == "shared" else Nothing()
        return ROLES[job["role"]](number, self.table, self.config, ring, job, log)

    def start(self, job):
        number = next(self.numbers)
        self.numbers = itertools.count(number)
        for column in range(books.ROW):
            self.table.set(number, column, 0)
        return super().start(job)

    def start_lasting(self) -> None:
        member = {"role": "member", "group": "shared", "redeliver": True, "loose": False}
        jobs = {
            "writer": {"role": "lasting writer"},
            "whole": {"role": "whole"},
            "member 1": member,
            "member 2": member,
            "observer": {"role": "observer"},
            "reader only": {"role": "observer", "readonly": True},
        }
        for name, job in jobs.items():
            life = self.start(job | {"doomed": False})
            self.lasting[name] = life.pid
            self.numbers_of[name] = life.number
        assert len(self.lasting) == LASTING

    def visitors(self):
        visitor = {"role": "member", "doomed": True, "loose": False}
        return [
            *[{"role": "producer", "doomed": True}] * 2,
            *[visitor | {"group": "shared", "redeliver": True}] * 2,
            *[visitor | {"group": "passing", "ephemeral": True}] * 2,
            {"role": "observer", "doomed": True},
            {"role": "observer", "doomed": True, "readonly": True},
        ]

    def reap(self) -> None:
        super().reap()
        for life in self.ended:
            if life.pid in self.lasting.values() and self.table.phase == books.RUN:
                raise AssertionError(f"worker {life.number} {life.job} ended before its time")
            self.moved.update(self.table.moved(life.number))
            if life.was_killed and not life.job.get("readonly"):
                self.killed[life.state_at_end] += 1
        self.ended.clear()

    def rage_for(self, seconds: float) -> None:
        self.replace = True
        for job in self.visitors():
            self.start(job)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not is_over():
            time.sleep(self.random.expovariate(1 / 0.02))
            self.strike()
            if self.random.random() < 0.7:
                self.reap()
            self.go_on(time.monotonic())
            self.watch()

    def wait_until(self, is_so, what: str) -> None:
        """Everybody who lives gets a minute of looks for it."""
        for _ in range(6000):
            self.reap()
            if is_so():
                return
            time.sleep(0.01)
        raise AssertionError(f"hang: {what}: {self.ring.stats()}")

    def checkpoint(self) -> dict:
        self.go_on(float("inf"))
        self.replace = False
        for pid, life in self.living.items():
            if life.job["doomed"]:
                os.kill(pid, signal.SIGKILL)
        self.wait_until(lambda: len(self.living) == len(self.lasting), "the killed end")
        PAUSE[PAUSED] = 1
        self.wait_until(lambda: self.table.get(WRITER, books.ABANDONED), "the writer pauses")
        self.ring.repair()
        self.wait_until(lambda: self.ring.stats().used == 0, "everybody drains")
        stats = self.ring.stats()
        pids = set(self.lasting.values())
        assert {each.pid for each in stats.participants} <= pids, f"left: {stats.participants}"
        assert len(stats.participants) <= len(pids), f"left: {stats.participants}"
        assert {group.name for group in stats.groups} == {"whole", "shared"}, f"left: {stats.groups}"
        attached, uncertain = self.killed[books.ATTACHED], self.killed[books.CHANGING]
        assert attached <= stats.repairs <= attached + uncertain, f"repairs: {stats.repairs}, {attached} and {uncertain} killed"
        sent = self.table.get(WRITER, books.COMMITTED) - PAUSE[FROM]
        assert sent > 0 or not self.checkpoints, "the writer sent nothing"
        received = self.table.get(self.numbers_of["whole"], books.RECEIVED)
        assert received == PAUSE[FROM] + sent, f"lost: group 'whole' had {received} of {PAUSE[FROM] + sent}"
        missing = sent - SEEN[:sent].count(1)
        assert not missing, f"lost: {missing} of {sent} messages, the first is {SEEN[:sent].index(0) + PAUSE[FROM]}"
        self.checkpoints += 1
        answer = self.answer(stats)
        SEEN[:sent] = bytes(sent)
        PAUSE[FROM] += sent
        PAUSE[PAUSED] = 0
        return answer

    def answer(self, stats) -> dict:
        shared = next(group for group in stats.groups if group.name == "shared")
        moved = self.moved + sum((Counter(self.table.moved(life.number)) for life in self.living.values()), Counter())
        names = {"supervisor": os.getpid()} | self.lasting
        return {
            "ok": True,
            "checkpoints": self.checkpoints,
            "kills": self.kills,
            "stops": self.stops,
            "repairs": stats.repairs,
            "aborted": stats.aborted,
            "redelivered": shared.redelivered,
            "lapped": sum(self.table.get(life.number, books.LOST) for life in self.living.values()),
            **moved,
            "meters": {name: soak_meter.read(pid) for name, pid in names.items()},
            "segment": os.stat(f"/dev/shm/{self.config['name']}").st_size,
        }


def is_over() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def main() -> None:
    config = json.loads(sys.argv[1])
    write_errors_to(config["folder"])
    steady = Steady(config)
    try:
        steady.start_lasting()
        while not is_over():
            steady.rage_for(config["every"])
            print(json.dumps(steady.checkpoint()), flush=True)
        steady.table.phase = books.FINISH
        steady.wait_for_ends("lasting writer")
        steady.table.phase = books.DRAIN
        steady.wait_for_ends()
        storm_check.check_room(steady)
        steady.ring.close()
        print(json.dumps({"ok": True, "is_over": True}), flush=True)
    except BaseException:
        print(json.dumps({"ok": False, "error": traceback.format_exc(), "scene": steady.describe()}), flush=True)
    finally:
        steady.end_all()


if __name__ == "__main__":
    main()
