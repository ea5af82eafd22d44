"""The ports' fuzzer: a ring in a file, used in every way there is while its bytes are changed, cut and extended.

A session is one ring with its participants, all in this process: producers, members of a shared and of a lone group, observers
(one of them of a mapping that is for reading only). Each round puts some earlier bytes of the ring back or leaves it as it is,
damages some, and makes some calls. Whatever they are: a call returns, or raises one of ours, in time; nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import mmap
import os
import random
import resource
import signal
import struct
import tempfile

import fences

import shmring
from shmring import WaitPolicy

ROUNDS = 250
SECONDS = 30  # of a whole session; it takes a tenth of a second
OUTCOMES = ("answered", "corrupt", "mismatched", "truncated", "timed out", "ended", "refused", "interrupted")
EXPECTED = ("exists with", "no group", "the buffer", "closed", "released already", "committed or aborted")
HASTE = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=1)
NONE = 2**64 - 1
TAIL, NUMBER, RESERVE, SHUTDOWN, GROUPS, SLOTS = 4096, 4104, 4224, 4352, 8192, 9216
# Words of a slot, a group and the producers that the kernel acts on, and how wide they are.
SLOT_WORDS = [(0, 4), (4, 4), (8, 4), (12, 4), (16, 8), (24, 8), (56, 8), (128, 8), (136, 8), (144, 8), (152, 8), (224, 8),
              (256, 8), (264, 8), (272, 8), (280, 8), (288, 8), (296, 8)]
GROUP_WORDS = [(0, 4), (4, 4), (8, 4), (12, 4), (24, 4), (128, 8), (128, 8)]
PRODUCER_WORDS = [(0, 8), (8, 8), (128, 8), (256, 4), (260, 4), (264, 4), (268, 4), (272, 4), (276, 4)]


class Interrupted(Exception):
    """What the handler of SIGALRM raises."""


def interrupt(*_):
    raise Interrupted


class Session:
    def __init__(self, seed: int, number: int, folder: str, counts) -> None:
        self.random = random.Random(f"{seed} {number}")
        self.counts = counts
        self.path = os.path.join(folder, "ring")
        self.is_multi = self.random.random() < 0.6
        shape = {"producers": "multi" if self.is_multi else "single", "align": self.random.choice([16, 64])}
        shmring.create(self.path, 4096, max_participants=10, max_groups=2, **shape).close()
        self.file = open(self.path, "r+b")  # noqa: SIM115 - closed by end()
        self.size = os.fstat(self.file.fileno()).st_size
        self.raw = mmap.mmap(self.file.fileno(), self.size)
        (self.cookie,) = struct.unpack_from("<Q", self.raw, 32)
        self.kept: list[bytes] = []
        self.views: list = []
        self.fenced = (0, 0)
        self.join()

    # ---- the participants ------------------------------------------------------------------------------------------

    def map(self, make):
        """What maps something: fenced at once, with room between it and what was mapped before."""
        fences.part()
        made = make()
        self.fenced = fences.fence(self.path)
        return made

    def join(self) -> None:
        self.ring = self.map(lambda: shmring.open(self.path))
        self.seen = self.map(lambda: shmring.open(self.path, readonly=True))
        self.map(self.ring.stats)
        self.map(self.seen.stats)
        self.tx = [self.map(lambda: self.ring.producer(wait=HASTE))]
        if self.is_multi:
            self.tx.append(self.ring.producer(wait=HASTE))
        self.rx = [self.ring.consumer(wait=HASTE), self.ring.consumer(wait=HASTE)]
        self.rx.append(self.ring.consumer("other", redeliver=self.random.choice([True, False]), wait=HASTE))
        self.watchers = [self.ring.consumer(lossy=True, wait=HASTE), self.seen.consumer(lossy=True, wait=HASTE)]

    def end(self) -> None:
        for view in self.views:
            self.call(view.release)
        for handle in (*self.tx, *self.rx, *self.watchers, self.ring, self.seen):
            self.call(handle.close)
        self.raw.close()
        self.file.close()
        os.unlink(self.path)

    # ---- damage ----------------------------------------------------------------------------------------------------

    def near(self) -> int:
        (tail,) = struct.unpack_from("<Q", self.raw, TAIL)
        return (tail >> 16) << 4 if self.is_multi else tail

    def position(self) -> int:
        return self.near() + 16 * self.random.choice([0, 0, 1, -1, self.random.randrange(-300, 300)])

    def value(self, old: int) -> int:
        chance = self.random
        kind = chance.randrange(10)
        if kind == 0:
            return chance.getrandbits(64)
        if kind < 3:
            return chance.choice([0, 1, 2, 3, NONE, 2**31, 2**63, 2**32 - 1])
        if kind == 3:
            return old ^ 1 << chance.randrange(64)
        if kind == 4:
            return old + chance.randrange(-64, 64)
        if kind == 5:
            return struct.unpack_from("<Q", self.raw, chance.randrange(self.size - 8))[0]
        if kind == 6:
            return self.position()
        if kind == 7:
            return (self.position() << 12) | chance.randrange(8)
        if kind == 8:
            return self.position() + 4096 * chance.randrange(-3, 4)
        return (self.position() | chance.choice([1, 2])) ^ self.cookie

    def damage(self) -> None:
        chance = self.random
        kind = chance.randrange(12)
        width = 8
        if kind == 0:
            start, length = chance.randrange(self.size - 64), chance.randrange(64)
            self.raw[start : start + length] = chance.choice([bytes(length), b"\xff" * length, chance.randbytes(length)])
            return
        if kind == 1:
            place, width = chance.randrange(self.size - 8), chance.choice([1, 2, 4, 8])
        elif kind < 4:
            place, width = chance.choice(PRODUCER_WORDS)
            place += TAIL
        elif kind == 4:
            place = TAIL + 512 + 8 * chance.randrange(64)
        elif kind < 6:
            place, width = chance.choice(GROUP_WORDS)
            place += GROUPS + 512 * chance.randrange(2)
        elif kind < 9:
            place, width = chance.choice(SLOT_WORDS)
            place += SLOTS + 512 * chance.randrange(10)
        elif kind == 9:
            place = chance.choice([5120, 5504]) + chance.choice([0, 128])
        elif kind == 10:
            place, width = chance.choice([(8 * chance.randrange(16), 8), (4 * chance.randrange(32), 4)])
        else:
            place = self.size - 4096 + self.position() % 4096 // 16 * 16
            place, width = chance.choice([(place, 8), (place + 8, 4), (place + 12, 2)])
        form = {1: "B", 2: "<H", 4: "<I", 8: "<Q"}[width]
        (old,) = struct.unpack_from(form, self.raw, place)
        struct.pack_into(form, self.raw, place, self.value(old) % (1 << 8 * width))

    # ---- calls -----------------------------------------------------------------------------------------------------

    def join_in_time(self, function):
        """call, for joining: as long as a member of the group says that it is in the middle of taking a message, that waits.
        It is the one call here without a time-out, so a signal has to end it."""
        signal.setitimer(signal.ITIMER_REAL, 1)
        try:
            return self.call(function)
        except Interrupted:
            self.counts[16 + OUTCOMES.index("interrupted")] += 1
            return None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def call(self, function, *arguments):
        """Its result, or None after an error that is one of those it may raise."""
        self.counts[2] += 1
        try:
            result = function(*arguments)
            outcome = "answered"
        except shmring.CorruptRing:
            result, outcome = None, "corrupt"
        except shmring.LayoutMismatch:
            result, outcome = None, "mismatched"
        except shmring.RingTruncated:
            result, outcome = None, "truncated"
        except TimeoutError:
            result, outcome = None, "timed out"
        except (shmring.ShutDown, shmring.ProducersGone, shmring.ProducerDied):
            result, outcome = None, "ended"
        except (shmring.Error, BufferError):
            result, outcome = None, "refused"
        except (ValueError, KeyError) as error:
            # As documented: a group that is made differently or is not there, a buffer that is too small, a closed handle.
            if not any(words in str(error) for words in EXPECTED):
                raise
            result, outcome = None, "refused"
        self.counts[16 + OUTCOMES.index(outcome)] += 1
        return result

    def act(self) -> None:
        chance = self.random
        kind = chance.randrange(24)
        tx, rx = chance.choice(self.tx), chance.choice(self.rx)
        watcher = chance.choice(self.watchers)
        message = bytes(chance.choice([0, 1, 16, 100, 700, 2000, 4080, 5000]))
        if kind < 4:
            self.call(tx.try_send, message)
        elif kind == 4:
            self.call(tx.send, message, 0.001)
        elif kind == 5:
            self.call(tx.send_many, [message[:99]] * chance.randrange(20), 0)
        elif kind == 6:
            claim = self.call(tx.reserve, len(message), 0)
            if claim is not None:
                claim.view[-1:] = b"x" if message else b""
                self.call(*chance.choice([(claim.commit,), (claim.commit, len(message) // 2), (claim.abort,)]))
        elif kind < 10:
            self.call(rx.try_recv)
        elif kind == 10:
            self.call(rx.recv, chance.choice([0, 0.001]))
        elif kind == 11:
            self.call(rx.recv_many, 10, 0)
        elif kind == 12:
            self.call(rx.recv_into, bytearray(chance.choice([10, 5000])), 0)
        elif kind == 13:
            view = self.call(rx.peek, 0)
            if view is not None:
                self.call(lambda: bytes(view.data))
                self.views.append(view)
        elif kind == 14:
            if self.views:
                self.call(self.views.pop(chance.randrange(len(self.views))).release)
        elif kind < 18:
            self.call(chance.choice([watcher.try_recv, watcher.try_recv, lambda: watcher.latest(0),
                                     lambda: read(watcher.peek(0)), lambda: watcher.recv_many(5, 0),
                                     lambda: watcher.recv_into(bytearray(5000), 0)]))
        elif kind == 18:
            self.call(lambda: (rx.lag, watcher.lag, watcher.lost))
        elif kind == 19:
            self.call(lambda: repr(chance.choice([self.ring, self.seen]).stats().as_dict()))
        elif kind == 20:
            self.call(shmring.wait, [chance.choice([tx, rx]), self.watchers[0], rx], 0.001)
        elif kind == 21:
            self.call(self.ring.repair)
        elif kind == 22:
            self.rejoin()
        else:
            self.reopen()

    def rejoin(self) -> None:
        """Somebody leaves, and comes again."""
        chance = self.random
        kind, index = chance.choice([("tx", 0), ("rx", 0), ("rx", 1), ("rx", 2), ("watchers", 0)])
        handle = getattr(self, kind)[index]
        self.call(handle.close)
        again = self.join_in_time({
            "tx": lambda: self.ring.producer(wait=HASTE),
            "rx": lambda: self.ring.consumer("other" if index == 2 else "default", wait=HASTE),
            "watchers": lambda: self.ring.consumer(lossy=True, start=chance.choice(["earliest", "latest"]), wait=HASTE),
        }[kind])
        if again is not None:
            getattr(self, kind)[index] = again
        if chance.random() < 0.1:
            self.call(self.ring.remove_group, "other")

    def reopen(self) -> None:
        """Somebody opens the file as it is, looks around, and goes; at times it is `shmring recv`."""
        chance = self.random
        if chance.random() < 0.1:
            self.counts[2] += 1
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                from shmring.cli import main

                # It would wait for ever for messages, so it is told that there is no such group and no such output.
                assert main(["recv", self.path, "--timeout", "0", "--output", "/nowhere/at/all"]) == 1
            return
        readonly = chance.random() < 0.3
        ring = self.call(lambda: shmring.open(self.path, readonly=readonly))
        if ring is None:
            return
        self.call(lambda: repr(ring.stats().as_dict()))
        handles = [lambda: ring.consumer(lossy=True, wait=HASTE)]
        if not readonly:
            handles += [lambda: ring.producer(wait=HASTE), lambda: ring.consumer(chance.choice(["default", "new"]), wait=HASTE)]
        handle = self.join_in_time(chance.choice(handles))
        if handle is not None:
            self.call(lambda: handle.try_send(b"x") if hasattr(handle, "try_send") else handle.try_recv())
            self.call(handle.close)
        self.call(ring.close)

    # ---- rounds ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        chance = self.random
        for _ in range(20):
            self.act()
        self.kept.append(self.raw[:])
        for turn in range(ROUNDS):
            if chance.random() < 0.5:
                self.raw[:] = chance.choice(self.kept)
            elif chance.random() < 0.05 and len(self.kept) < 8:
                self.kept.append(self.raw[:])
            for _ in range(chance.choice([0, 1, 1, 2, 4, 10])):
                self.damage()
                self.counts[1] += 1
            for _ in range(chance.randrange(1, 8)):
                self.act()
            if turn % 50 == 49:
                self.lose_views()
        if chance.random() < 0.5:
            self.cut()

    def lose_views(self) -> None:
        for view in self.views:
            self.call(view.release)
        self.views.clear()

    def cut(self) -> None:
        """The file gets shorter, or longer, and the calls go on."""
        chance = self.random
        self.raw[:] = self.kept[0]
        sizes = [0, 1, 4096, chance.randrange(self.size), self.size - 1, self.size + 5000, 1 << 40]
        os.truncate(self.path, chance.choice(sizes))
        self.counts[3] += 1
        for _ in range(40):
            self.act()
        os.truncate(self.path, self.size)       # zeros where it was cut
        for _ in range(20):
            self.act()


def read(view) -> None:
    with view:
        bytes(view.data)


def pest(path: str, seed: int) -> int:
    """Another process that writes into the same ring all the time; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    chance = random.Random(seed)
    with open(path, "r+b") as file:
        raw = mmap.mmap(file.fileno(), 0)
        places = [TAIL, RESERVE, GROUPS + 128, *(SLOTS + 512 * slot + word for slot in range(10) for word, _ in SLOT_WORDS)]
        while True:
            place = chance.choice(places) if chance.random() < 0.7 else chance.randrange(4096, len(raw) - 8)
            (old,) = struct.unpack_from("<Q", raw, place)
            struct.pack_into("<Q", raw, place, (old + chance.choice([1, 16, -16, 1 << 16, 4096])) % 2**64)


def run(seed: int, number: int, counts, folder) -> None:
    """Session `number` of a seed, in this process; what must not be ends it."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    signal.signal(signal.SIGALRM, interrupt)
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):       # it takes 20 TB of addresses, and limits allocations itself
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, resource.RLIM_INFINITY))
    import logging

    logging.getLogger("shmring").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        fences.fill_holes()
        session = Session(seed, number, place, counts)
        counts[8], counts[9] = counts[8] + session.fenced[0], counts[9] + session.fenced[1]
        other = pest(session.path, number) if number % 5 == 4 else 0
        try:
            session.run()
        finally:
            if other:
                os.kill(other, signal.SIGKILL)
                os.waitpid(other, 0)
        session.end()
    faulthandler.cancel_dump_traceback_later()
