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
}
LATENCY_SHAPES = ("pingpong-spin", "pingpong-park", "wakeup")


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
    spoil: bool = False  # the producer flips one byte: a test of the content check

    @property
    def id(self) -> str:
        return f"{self.shape}/{self.size}" + (
            "" if self.capacity >= MIB else f"/{self.capacity // KIB}KiB-ring"
        )

    @property
    def two_way(self) -> bool:
        return self.shape.startswith("pingpong")

    def with_count(self, count: int) -> Case:
        """The same case with about `count` timed messages: whole rounds of the pool, at least one."""
        if self.shape in ("oneway", "oneway-many"):
            count = max(1, round(count / self.pool)) * self.pool
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
    return cases
