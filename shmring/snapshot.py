"""The shape of what `Ring.stats()` and `shmring.examine` return. Every number is a snapshot."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class GroupStats:
    """One consumer group."""

    name: str
    lag: int  # messages that no member has claimed
    lag_is_exact: bool  # False: stats(exact=False) counted some of them, and guessed the rest
    lag_bytes: int  # bytes they take in the ring, headers included
    head: int  # position; everything before it is claimed
    members: list[int]  # pids of its live members
    repaired: int  # members found dead
    redelivered: int  # messages that dead members had and others got again
    dropped: int  # messages that dead members had and nobody gets (redeliver=False)


@dataclasses.dataclass(frozen=True)
class ParticipantStats:
    """One attached producer or consumer. The counters begin with its attachment."""

    slot: int
    role: str  # "producer" | "consumer" | "observer"
    pid: int
    group: str | None  # a consumer's
    alive: bool
    parked: bool  # it sleeps: a producer for want of room, others for want of messages
    held_bytes: int  # how far before the tail the oldest message begins that it has and has not released; 0: none
    open_bytes: int  # many producers: how far before the tail its open reservation begins; 0: none
    messages: int
    bytes: int  # payload
    waits: int  # times it began to wait: a producer because the ring was full, others because it was empty
    parks: int  # times it slept
    wakes: int  # times it woke somebody
    repairs: int  # dead participants that it cleaned up after
    redelivered: int  # messages that it got after somebody dead
    lost: int  # observer: messages it was lapped out of
    stalls: int  # producer: times it waited because the ring was full; a try_send that was refused is none
    stalled_ns: int  # nanoseconds that those waits took, once they had ended; of several threads, their sum


@dataclasses.dataclass(frozen=True)
class Pin:
    """A record that a consumer holds back: it was peeked, and is in use."""

    position: int
    bytes: int  # of its message
    seconds: float  # since it was peeked
    is_open: bool  # its view has not ended; False: memory of it outlived the view
    holder: str  # what is known of who uses it


@dataclasses.dataclass(frozen=True)
class ConsumerStats:
    """One consumer, as its own process sees it. The counters begin with its attachment."""

    group: str
    messages: int
    bytes: int  # payload
    waits: int  # times it found nothing to do and began to wait
    parks: int  # times it slept
    wakes: int  # times it woke somebody
    repairs: int  # dead participants that it cleaned up after
    redelivered: int  # messages that it got after somebody dead
    held_back: int  # bytes of the ring from the oldest record in `pins` on: no producer gets them
    borrow_limit: int | None  # bytes
    pins: list[Pin]  # oldest first

    def as_dict(self) -> dict[str, object]:
        """The same as plain dicts and lists, for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Stats:
    """A ring."""

    name: str | None
    capacity: int  # bytes of the data area
    control_bytes: int  # bytes of the control pages before it
    used: int  # bytes that the slowest group, or one of its members, has not released
    fill: float  # used / capacity
    tail: int  # position: end of what is published, or (many producers) reserved
    shutdown: bool
    repairs: int  # participants found dead
    aborted: int  # messages that dead producers had begun and nobody gets
    groups: list[GroupStats]
    participants: list[ParticipantStats]

    def as_dict(self) -> dict[str, object]:
        """The same as plain dicts and lists, for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about a ring that is not as it should be."""

    kind: str  # "damaged" | "dead" | "orphaned"
    offset: int  # bytes from the start of the segment: where it was found
    text: str
