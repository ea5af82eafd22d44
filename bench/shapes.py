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
QUICK_SIZES = (64, 16 * KIB, 1 * MIB)

# What each shape does, in the words of the report.
SHAPES = {
    "pingpong-spin": "round trip of one message, both sides spinning",
    "pingpong-park": "round trip of one message, each side parked when its message comes",
    "oneway": "one way, one send and one recv per message, copied in and out",
    "oneway-many": "one way, in batches: send_many and recv_many (elsewhere a pickled list)",
    "array": "float32 arrays: the producer fills every element, the consumer sums every byte",
    "untouched": "reserve/commit and peek/release of a record whose payload nobody touches",
    "wakeup": "from send to the consumer's next line of code, after 5 ms idle",
    "idle": "CPU time of a consumer that waits one second for a message",
    "mpmc": "several producers and the members of one group, one send and one recv per message",
    "mpmc-many": "the same in batches: send_many and recv_many (elsewhere a pickled list)",
    "fanout": "one producer and three lossless groups of one member; the rate is that of each group",
    "onemulti": "one way, one producer: on a ring for many producers, and on one for a single producer",
    "onemulti-spin": "the same, round trip of one message, both sides spinning",
    "crowd": "one send and one recv by themselves, while others are attached and idle",
}
LATENCY_SHAPES = ("pingpong-spin", "pingpong-park", "wakeup", "onemulti-spin")
RATE_SHAPES = ("oneway", "oneway-many", "array", "mpmc", "mpmc-many", "fanout", "onemulti")
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
        return self.ring if self.shape in OWN_SHAPES else ""

    @property
    def two_way(self) -> bool:
        return self.shape in ("pingpong-spin", "pingpong-park", "onemulti-spin")

    @property
    def alone(self) -> bool:
        """Whether one process does it all."""
        return self.shape == "crowd"

    def with_count(self, count: int) -> Case:
        """The same case with about `count` timed messages: whole rounds of every producer's pool, at least
        one.
        """
        if self.shape in RATE_SHAPES and self.shape != "array":
            step = self.pool * self.producers
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
    # As many records in the ring in both: otherwise the depth of the ring would be measured, not the size of
    # a record.
    cases.append(Case("untouched", 64, capacity=4 * KIB))
    cases.append(Case("untouched", 64, capacity=64 * MIB))
    cases.append(Case("untouched", 1 * MIB, capacity=64 * MIB))
    return cases + cases_of_several(quick)


def cases_of_several(quick: bool) -> list[Case]:
    """The cases with more than two participants, and those that they are compared with."""
    cases = []
    who = ((2, 2),) if quick else ((1, 1), (2, 2), (4, 1), (1, 4))
    for shape in ("mpmc", "mpmc-many"):
        for producers, members in who:
            cases.append(
                Case(shape, 64, ring="multi", producers=producers, members=members, batch=256, pool=256)
            )
    cases.append(Case("fanout", 64, groups=3, pool=256))
    for ring in ("single", "multi"):
        cases.append(Case("onemulti", 64, ring=ring))
    for ring in ("single", "multi"):
        cases.append(Case("onemulti-spin", 64, capacity=1 * MIB, wait="spin", ring=ring))
    for others, groups in ((0, 1), (1, 2), (8, 2), (64, 2), (7, 8), (63, 64)):
        cases.append(
            Case(
                "crowd",
                64,
                capacity=256 * KIB,
                ring="multi",
                others=others,
                groups=groups,
                count=5 if quick else 20,
            )
        )
    return cases
