"""How long messages are on their way: one in N is timed, in rings whose users ask for it. Others pay nothing.

Nothing is added to a message, and nothing to the ring. A producer that takes part notes the position and the time of each Nth
message in a ring beside it (`NAME.latency`), before that message becomes visible; a consumer that takes part looks up there
what it receives, and adds what it found. So the times of all processes lie in one place, which anybody may read:

    meter = shmring.latency.Meter(ring, every=100)
    tx = meter.producer()           # in the sender
    rx = meter.consumer("work")     # in the receiver
    print(meter.stats())            # anywhere

Both ends take part, or nothing is measured: messages of other producers are not timed, and other consumers notice nothing.
"""

from __future__ import annotations

import dataclasses
import struct
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import shmring
from shmring import Consumer, Observer, Producer, Ring, View

_NOTE = struct.Struct("<cQQ")  # _SENT, position, time; or _TOOK, position, how long, and the group's name follows
_SENT, _TOOK = b"s", b"t"
_OPEN_NOTES = 1024  # sent and not received yet: more are forgotten
_SIDE_BYTES = "256 KiB"


@dataclasses.dataclass(frozen=True)
class LatencyStats:
    """How long the newest timed messages of one group were on their way, from the beginning of `send` to the end of `recv`."""

    group: str  # "" : observers
    count: int  # timed messages that are remembered: some thousands of the newest, over all groups
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


class Meter:
    """Times one in `every` messages of a ring.

    Parameters
    ----------
    ring : Ring
        Open for writing. A named ring's times are in `NAME.latency`, which the first `Meter` makes; remove it with `unlink`.
        Those of an anonymous ring go where the meter goes: it pickles to children of multiprocessing, with its ring.
    every : int
        How many of this process's sends there are to one that is timed; at least 1.

    Concurrency: as the ring's. Cost: a timed send takes some microseconds more, any other a counter. Each receive is a peek,
    a copy and a look at the notes: about a microsecond more than `recv`. Times are CLOCK_MONOTONIC, of one machine and one time
    namespace.
    """

    def __init__(self, ring: Ring, every: int = 1000) -> None:
        if every < 1:
            raise ValueError(f"every is at least 1, not {every}")
        self.ring = ring
        self.every = every
        # A producer of the ring takes part in this one once, a consumer twice, and whoever asks for stats for a moment.
        participants = min(1024, 2 * ring.max_participants + 16)
        if ring.name is None:
            self.side = shmring.anonymous(_SIDE_BYTES, content="latency", max_participants=participants)
        else:
            self.side = shmring.create(
                f"{ring.name}.latency", _SIDE_BYTES, content="latency", max_participants=participants, exist_ok=True
            )
        try:
            self.side.remove_group("default")  # nobody is to hold anybody back
        except KeyError:
            pass

    def producer(self, **options: Any) -> TimedProducer:
        """A producer whose sends are timed now and then. Options as for `Ring.producer`."""
        return TimedProducer(self, self.ring.producer(**options))

    def consumer(self, group: str = "default", **options: Any) -> TimedConsumer:
        """A consumer, or an observer, that times what it receives. Options as for `Ring.consumer`."""
        return TimedConsumer(self, self.ring.consumer(group, **options))

    def stats(self) -> dict[str, LatencyStats]:
        """By group, how long messages were on their way. Groups of which nothing was timed yet are not there."""
        found: dict[str, list[int]] = {}
        with self.side.consumer(lossy=True) as notes:
            while (note := notes.try_recv()) is not None:
                kind, _, took_ns = _NOTE.unpack_from(note)
                if kind == _TOOK:
                    found.setdefault(note[_NOTE.size :].decode(), []).append(took_ns)
        return {group: _summary(group, times) for group, times in sorted(found.items())}

    def unlink(self) -> None:
        """Remove the name of the ring with the times."""
        if self.side.name is not None:
            shmring.unlink(self.side.name)

    def close(self) -> None:
        """Close the ring with the times; the ring that is timed stays open."""
        self.side.close()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _summary(group: str, times: list[int]) -> LatencyStats:
    times.sort()

    def at(share: float) -> int:
        return times[min(len(times) - 1, int(share * len(times)))]

    return LatencyStats(group, len(times), times[0], at(0.5), at(0.9), at(0.99), at(0.999), times[-1])


class _Timed:
    """What both ends do: hand on what is not timed, and end together with their notes."""

    def __init__(self, *ends: Producer | Consumer | Observer) -> None:
        self._ends = ends  # the ring's own first

    def __getattr__(self, name: str) -> Any:
        if name == "_ends":
            raise AttributeError(name)  # not made yet
        return getattr(self._ends[0], name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As of the handle itself."""
        for end in self._ends:
            end.close()


class TimedProducer(_Timed):
    """A `Producer`, of whose sends one in `Meter.every` is timed: `send`, `try_send`, and the first message of `send_many`.

    Everything else, `reserve` included, is the producer's own, and not timed. For one thread at a time.
    """

    def __init__(self, meter: Meter, inner: Producer) -> None:
        self._inner = inner
        self._notes = meter.side.producer()
        super().__init__(inner, self._notes)
        self._every = self._left = meter.every

    def send(self, message: Any, timeout: float | None = None) -> None:
        """As `Producer.send`."""
        self._left -= 1
        if self._left > 0:
            self._inner.send(message, timeout)
        else:
            self._send_timed(message, timeout)

    def try_send(self, message: Any) -> bool:
        """As `Producer.try_send`."""
        if self._left > 1:
            is_sent = self._inner.try_send(message)
            self._left -= is_sent
            return is_sent
        try:
            self._send_timed(message, 0)
        except TimeoutError:
            return False
        return True

    def send_many(self, messages: Iterable[Any], timeout: float | None = None) -> int:
        """As `Producer.send_many`, but that the message that is timed is published alone."""
        batch = list(messages)
        began = time.monotonic()
        if len(batch) >= self._left:
            self._send_timed(batch[0], timeout)
            if len(batch) == 1:
                return 1
            if timeout is not None:
                timeout = max(0.0, timeout - (time.monotonic() - began))
            try:
                sent = 1 + self._inner.send_many(batch[1:], timeout)
            except TimeoutError:
                return 1
            except Exception as error:
                error.sent = 1 + getattr(error, "sent", 0)  # type: ignore[attr-defined]
                raise
            return sent
        sent = self._inner.send_many(batch, timeout)
        self._left -= sent
        return sent

    def _send_timed(self, message: Any, timeout: float | None) -> None:
        began = time.monotonic_ns()
        with memoryview(message) as memory, self._inner.reserve(memory.nbytes, timeout) as claim:
            if memory.nbytes:  # there is no cast of nothing
                claim.view[:] = memory.cast("B")
            # Before the message can be received. Nothing holds this ring back, so there is room.
            self._notes.try_send(_NOTE.pack(_SENT, claim.sequence, began))
        self._left = self._every


class TimedConsumer(_Timed):
    """A `Consumer` or `Observer` that times what it receives by `recv`, `try_recv`, `recv_many` and iteration. Everything else
    is the consumer's own, and not timed. For one thread at a time.
    """

    def __init__(self, meter: Meter, inner: Consumer | Observer) -> None:
        self._inner = inner
        self._notes = meter.side.consumer(lossy=True)
        self._results = meter.side.producer()
        super().__init__(inner, self._notes, self._results)
        self._group = inner.group.encode() if isinstance(inner, Consumer) else b""
        self._sent: OrderedDict[int, int] = OrderedDict()

    def recv(self, timeout: float | None = None) -> bytes:
        """As `Consumer.recv`."""
        while True:
            with self._inner.peek(timeout) as view:
                message = bytes(view.data)
                if not isinstance(view, View) and not view.valid:
                    continue  # an observer was overtaken while it copied
                position = view.sequence
            self._look_up(position)
            return message

    def try_recv(self) -> bytes | None:
        """As `Consumer.try_recv`."""
        try:
            return self.recv(0)
        except TimeoutError:
            return None

    def recv_many(self, limit: int, timeout: float | None = None) -> list[bytes]:
        """As `Consumer.recv_many`, but that each message is received by itself."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        messages = [self.recv(timeout)]
        while len(messages) < limit:
            try:
                messages.append(self.recv(0))
            except (TimeoutError, shmring.ShutDown):
                break
        return messages

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return self.recv()
        except shmring.ShutDown:
            raise StopIteration from None

    def _look_up(self, position: int) -> None:
        now = time.monotonic_ns()
        if position not in self._sent:
            while (note := self._notes.try_recv()) is not None:
                kind, noted, began = _NOTE.unpack_from(note)
                if kind == _SENT:
                    self._sent[noted] = began
                    if len(self._sent) > _OPEN_NOTES:
                        self._sent.popitem(last=False)
        began_at = self._sent.pop(position, None)
        if began_at is not None:
            self._results.try_send(_NOTE.pack(_TOOK, position, max(0, now - began_at)) + self._group)
