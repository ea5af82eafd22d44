"""The shape of what `Ring.stats()` returns. Every number is a snapshot."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class GroupStats:
    """One consumer group."""

    name: str
    lag: int  # messages between its head and the tail
    lag_bytes: int  # bytes they take in the ring, headers included
    head: int  # position; everything before it is released
    member: int | None  # pid of its live member
    repaired: int  # members found dead


@dataclasses.dataclass(frozen=True)
class ParticipantStats:
    """One attached producer or consumer. The counters begin with its attachment."""

    slot: int
    role: str  # "producer" | "consumer"
    pid: int
    group: str | None  # a consumer's
    alive: bool
    messages: int
    bytes: int  # payload
    waits: int  # times it found nothing to do and began to wait
    parks: int  # times it slept
    wakes: int  # times it woke somebody


@dataclasses.dataclass(frozen=True)
class Stats:
    """A ring."""

    name: str | None
    capacity: int  # bytes of the data area
    control_bytes: int  # bytes of the control pages before it
    used: int  # bytes that the slowest group has not released
    fill: float  # used / capacity
    tail: int  # position: end of what is published
    shutdown: bool
    groups: list[GroupStats]
    participants: list[ParticipantStats]

    def as_dict(self) -> dict[str, object]:
        """The same as plain dicts and lists, for JSON."""
        return dataclasses.asdict(self)
