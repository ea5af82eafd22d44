"""What is measured: one table. A case is a shape, a message size and the parameters that both sides must
agree on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

KIB, MIB = 1 << 10, 1 << 20

ONEWAY_SIZES = (8, 64, 256, 1 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB, 16 * MIB)
MANY_SIZES = (8, 64, 256, 1 * KIB, 4 * KIB, 16 * KIB)
ARRAY_SIZES = (256 * KIB, 1 * MIB, 4 * MIB)
OBJECT_SIZE = 96  # about what pickle makes of one of payload.py's small dicts
RECORD_SIZE, RECORD_BLOCK = 32, 1000
QUICK_SIZES = (64, 16 * KIB, 1 * MIB)

# What each shape does, in the words of the report.
SHAPES = {
    "pingpong-spin": "round trip of one message, both sides spinning",
    "pingpong-park": "round trip of one message, each side parked when its message comes",
    "oneway": "one way, one send and one recv per message, copied in and out",
    "oneway-many": "one way, in batches: send_many and recv_many (elsewhere a pickled list)",
    "array": "float32 arrays: the producer fills every element, the consumer sums every byte",
    "object": "small dicts: one put and one get each (Python alone: dumps and loads in one process)",
    "object-many": "small dicts in batches: put_many and get_many (elsewhere one list)",
    "records": "typed records of 32 bytes, in blocks of 1,000, from array to array",
    "cython": "one way between two loops in Cython that hold no GIL (examples/cython_consumer)",
    "untouched": "reserve/commit and peek/release of a record whose payload nobody touches",
    "wakeup": "from send to the consumer's next line of code, after 5 ms idle",
    "idle": "CPU time of a consumer that waits one second for a message",
    "mpmc": "several producers and the members of one group, one send and one recv per message",
    "mpmc-many": "the same in batches: send_many and recv_many (elsewhere a pickled list)",
    "fanout": "one producer and three consumers that get every message; the rate is that of each",
    "aio": "round trip of one message between two asyncio programs",
    "onemulti": "one way, one producer: on a ring for many producers, and on one for a single producer",
    "onemulti-spin": "the same, round trip of one message, both sides spinning",
    "crowd": "one send and one recv by themselves, while others are attached and idle",
}
LATENCY_SHAPES = ("pingpong-spin", "pingpong-park", "wakeup", "aio", "onemulti-spin")
OBJECT_SHAPES = ("object", "object-many")  # messages are Python objects
RATE_SHAPES = ("oneway", "oneway-many", "array", *OBJECT_SHAPES, "records", "cython", "mpmc", "mpmc-many", "fanout", "onemulti")
SEVERAL_SHAPES = ("mpmc", "mpmc-many", "fanout")  # any number of processes
OWN_SHAPES = ("onemulti", "onemulti-spin", "crowd")  # compare shmring with itself


@dataclass(frozen=True)
class Case:
    """One thing to measure; both sides of a run get the same one."""

    shape: str
    size: int  # bytes per message
    capacity: int = 16 * MIB  # of a ring; the others have their own limits
    wait: str = "adaptive"  # shmring's wait policy
    batch: int = 1  # messages per send_many
    pool: int = 61  # different messages, sent round and round
    count: int = 0  # timed messages; 0 until calibrated
    warmup: int = 0
    idle_ns: int = 5_000_000  # wakeup, idle: the producer's pause before each message
    think_ns: int = 0  # pingpong-park: busy before every send, so that the other side is parked; not counted
    producers: int = 1
    groups: int = 1
    members: int = 1  # of each group
    ring: str = "single"  # shmring: made for a "single" producer or for many ("multi")
    others: int = 0  # crowd: participants that do nothing
    loop: str = ""  # aio: whose event loop, "asyncio" or "uvloop"
    spoil: bool = False  # the producer flips one byte: a test of the content check

    @property
    def id(self) -> str:
        parts = [self.shape, str(self.size)]
        if self.capacity < MIB and self.shape != "crowd":
            parts.append(f"{self.capacity // KIB}KiB-ring")
        if self.setting:
            parts.append(self.setting)
        return "/".join(parts)

    @property
    def setting(self) -> str:
        """Who takes part, where cases of a shape differ in that; else ""."""
        if self.shape in ("mpmc", "mpmc-many"):
            return f"{self.producers}+{self.members}"
        if self.shape == "fanout":
            return f"{self.producers}-{self.groups}"
        if self.shape == "crowd":
            return f"{self.others}-others-{self.groups}-groups"
        if self.shape == "aio":
            return self.loop
        return self.ring if self.shape in OWN_SHAPES else ""

    @property
    def two_way(self) -> bool:
        return self.shape in ("pingpong-spin", "pingpong-park", "onemulti-spin", "aio")

    @property
    def parks(self) -> bool:
        """Whether the consumer has to sleep in the kernel, so that a poll loop would be another race."""
        return self.shape in ("pingpong-park", "wakeup", "idle", "aio")

    @property
    def is_crowded(self) -> bool:
        """Whether processes share a core, so that who waits should let the others run."""
        return self.producers + self.groups * self.members > 2

    @property
    def alone(self) -> bool:
        """Whether one process does it all."""
        return self.shape == "crowd"

    def with_count(self, count: int) -> Case:
        """The same case with about `count` timed messages: whole rounds of every producer's pool, at least
        one.
        """
        if self.shape in RATE_SHAPES and self.shape != "array":
            step = self.batch if self.shape == "records" else self.pool * self.producers
            count = max(1, round(count / step)) * step
        return replace(self, count=count)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def case_from_json(text: str) -> Case:
    return Case(**json.loads(text))


def pool_for(size: int) -> int:
    """How many different messages: few enough to stay in the cache beside the ring. Prime, so that samples
    vary.
    """
    return next((count for count in (61, 13) if count * size <= 64 * KIB), 3)


def capacity_for(size: int) -> int:
    """The default capacity of `shmring.create`, except for messages that would not fit several times."""
    return 16 * MIB if size <= 1 * MIB else 64 * MIB


def all_cases(quick: bool = False) -> list[Case]:
    """Every case of a full run, or of a quick one."""

    def sizes(full: tuple[int, ...]) -> list[int]:
        return [size for size in full if size in QUICK_SIZES or not quick]

    cases = [
        Case("pingpong-spin", 64, capacity=1 * MIB, wait="spin"),
        Case("pingpong-park", 64, capacity=1 * MIB, wait="park", think_ns=20_000),
        Case("wakeup", 64, count=20 if quick else 60),
        Case("idle", 64, count=1, idle_ns=300_000_000 if quick else 1_000_000_000),
    ]
    for size in sizes(ONEWAY_SIZES):
        cases.append(Case("oneway", size, capacity=capacity_for(size), pool=pool_for(size)))
    for size in sizes(MANY_SIZES):
        batch = max(4, min(256, 256 * KIB // size))
        cases.append(Case("oneway-many", size, batch=batch, pool=batch))
    for size in sizes(ARRAY_SIZES):
        cases.append(Case("array", size, capacity=capacity_for(size)))
    cases.append(Case("object", OBJECT_SIZE))
    cases.append(Case("object-many", OBJECT_SIZE, batch=256, pool=256))
    cases.append(Case("records", RECORD_SIZE, batch=RECORD_BLOCK, pool=13))
    cases.append(Case("cython", 64))
    for loop in ("asyncio",) if quick else ("asyncio", "uvloop"):
        cases.append(Case("aio", 64, capacity=1 * MIB, loop=loop))
    # As many records in the ring in both: otherwise the depth of the ring would be measured, not the size of a record.
    for size, capacity in ((64, 4 * KIB), (64, 64 * MIB), (1 * MIB, 64 * MIB)):
        cases.append(Case("untouched", size, capacity=capacity))
    return cases + cases_of_several(quick)


def cases_of_several(quick: bool) -> list[Case]:
    """The cases with more than two participants, and those that they are compared with."""
    who = ((2, 2),) if quick else ((1, 1), (2, 2), (4, 1), (1, 4), (4, 4))
    cases = [
        Case(shape, 64, ring="multi", producers=producers, members=members, batch=256, pool=256)
        for shape in ("mpmc", "mpmc-many")
        for producers, members in who
    ]
    cases.append(Case("fanout", 64, groups=3, pool=256))
    cases += [Case("onemulti", 64, ring=ring) for ring in ("single", "multi")]
    cases += [Case("onemulti-spin", 64, capacity=1 * MIB, wait="spin", ring=ring) for ring in ("single", "multi")]
    laps = 5 if quick else 20
    crowds = ((0, 1), (63, 64)) if quick else ((0, 1), (1, 2), (8, 2), (64, 2), (7, 8), (63, 64))
    for others, groups in crowds:
        cases.append(Case("crowd", 64, capacity=256 * KIB, ring="multi", others=others, groups=groups, count=laps))
    return cases
