"""Make, use and close rings again and again, and tell what that left: memory, descriptors, threads, mappings, names.

Run as: cycles.py SCENARIO COUNT. Prints a line of JSON; "per_cycle" are bytes that malloc has lent (of C and Python together)
and objects that Python has, divided by COUNT. The first cycles are not counted: modules are loaded, pools are filled.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import tempfile
import time

import soak_meter

import shmring
from shmring import Mapping

WARM = 300
NAME = f"shmring-test-{os.getpid()}-cycles"


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def lent_bytes() -> int | None:
    """What malloc has lent now; None where the C library does not say."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo.restype = Mallinfo
    facts = mallinfo()
    return facts.uordblks + facts.hblkhd


def use(ring, again) -> None:
    """All that one can hold of a ring, and the errors on the way."""
    tx, rx, observer = ring.producer(), ring.consumer("a"), again.consumer(lossy=True, start="latest")
    tx.send(b"one")
    tx.send_many([b"two", b"three", b"four"])
    with tx.reserve(10) as claim:
        claim.view[:4] = b"five"
        claim.commit(4)
    tx.reserve(10).abort()
    with rx.peek() as view, observer.peek() as seen:
        assert bytes(view.data) == bytes(seen.data) == b"one"
    assert rx.recv() == b"two" and rx.recv_many(1) == [b"three"] and observer.recv() == b"two"
    assert shmring.wait([rx], 0) == [rx]
    assert rx.recv_into(bytearray(9)) == 4 and rx.recv() == b"five"
    left = rx.peek  # a bound method keeps the handle
    for call in (lambda: rx.recv(0), lambda: tx.send(bytes(5000)), lambda: left(0), lambda: ring.remove_group("none")):
        try:
            call()
            raise AssertionError("this has to fail")
        except (TimeoutError, shmring.MessageTooLarge, LookupError, shmring.Error):
            pass
    ring.stats()
    observer.close()
    rx.close()
    tx.close()


def named(name, **options):
    def cycle():
        with shmring.create(name, 4096, max_participants=8, max_groups=4, **options) as ring:
            with shmring.open(name) as again:
                use(ring, again)
            with shmring.open(name, readonly=True) as reader:
                reader.consumer(lossy=True).close()
        shmring.unlink(name)

    return cycle


def memfd():
    with shmring.anonymous(4096, max_participants=8, max_groups=4) as ring:
        use(ring, ring)


def dropped():
    """Nothing is closed: everything goes with its last reference."""
    ring = shmring.anonymous(4096, max_participants=8, max_groups=4)
    tx, rx, observer = ring.producer(), ring.consumer("a"), ring.consumer(lossy=True)
    tx.send_many([b"x", b"y"])
    view, seen, claim = rx.peek(), observer.peek(), tx.reserve(3)
    return memoryview(view.data)[:0], memoryview(seen.data)[:0], memoryview(claim.view)[:0]


class Attaching:
    """One ring; participants come and go."""

    def __init__(self):
        self.ring = shmring.anonymous(4096, max_participants=8, max_groups=4)
        self.ring.consumer("a").close()
        self.ring.remove_group("default")

    def __call__(self):
        use(self.ring, self.ring)


def mappings():
    for made in (Mapping.anonymous(8192), Mapping.memfd(8192, mirrored=True)):
        with made as mapping, memoryview(mapping) as memory:
            memory[0] = 1
    with Mapping.shm(NAME, 8192, create=True) as mapping:
        mapping.flush()
    os.unlink(f"/dev/shm/{NAME}")


def scenarios(folder):
    return {
        "shm": named(NAME),
        "file": named(os.path.join(folder, "ring"), producers="single"),
        "memfd": memfd,
        "dropped": dropped,
        "attaching": Attaching(),
        "mapping": mappings,
    }


def state() -> dict[str, float]:
    gc.collect()
    return soak_meter.read(os.getpid()) | {
        "lent": lent_bytes(),
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "segments": sum("shmring" in line for line in open("/proc/self/maps")),
    }


def main() -> None:
    scenario, count = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        cycle = scenarios(folder)[scenario]
        for _ in range(WARM):
            cycle()
        state()  # what looking costs the first time
        before = state()
        began = time.perf_counter()
        for _ in range(count):
            cycle()
        seconds = time.perf_counter() - began
        after = state()
    left = [name for name in os.listdir("/dev/shm") if name.startswith(NAME)]
    per_cycle = {key: (after[key] - before[key]) / count for key in ("lent", "blocks", "objects") if before[key] is not None}
    facts = {"before": before, "after": after, "per_cycle": per_cycle, "left": left, "us_per_cycle": seconds / count * 1e6}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
