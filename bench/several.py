"""Runs of several producers and consumers: their seats, their loops, and the check of what they moved.

Seats. Producers first, then the members of each group in turn. There may be more of them than cores: producers sit
on the two cores alternately, beginning with the first, and consumers likewise, beginning with the second.

Shares. The members of a shared group take from the ring what they can get. So that they end together, without
messages about it in the ring, each draws a ticket for a block of messages before it receives the next block:
one byte of a file whose offset they share. A member that is alone in its group needs none.

The check. Every message begins with its number: that of its producer times the size of the pool, plus its place in
the pool. Warm-up: every message is compared in full. Timed: the numbers of all messages are kept, and one message of
each block. After the clock has stopped, that one is compared in full; a member that is alone in its group must have
every producer's numbers in order; and in each group every number must have come exactly as often as it was sent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from typing import Any

from . import payload
from .shapes import SEVERAL_SHAPES, Case
from .span import Start


@dataclass(frozen=True)
class Seat:
    """The place of one process: its role, which of that role it is, and its core."""

    role: str
    number: int
    cpu: int | None


def seats(case: Case, cpus: list[int | None]) -> list[Seat]:
    return [Seat("producer", i, cpus[i % 2]) for i in range(case.producers)] + [
        Seat("consumer", i, cpus[(i + 1) % 2]) for i in range(case.groups * case.members)
    ]


# ---- shares ----------------------------------------------------------------------------------------------------------


@contextmanager
def tickets(case: Case) -> Any:
    """The descriptor of as many tickets as there are blocks."""
    with tempfile.TemporaryFile() as file:
        if case.members > 1:
            file.write(bytes(case.count // case.pool))
            file.flush()
            file.seek(0)
        yield file.fileno()


def blocks(case: Case, descriptor: int) -> Iterable[Any]:
    """One item for each block that is this member's to receive."""
    if case.members == 1:
        return repeat(None, case.count // case.pool)
    return iter(lambda: os.read(descriptor, 1), b"")


# ---- loops -----------------------------------------------------------------------------------------------------------


def produce(end: Any, case: Case, start: Start, number: int) -> dict:
    messages = payload.build(case, case.spoil and number == 0, first=number * case.pool)
    send, send_many = end.send, end.send_many if case.shape == "mpmc-many" else None
    for _ in range(case.warmup // case.producers // case.pool):
        if send_many:
            send_many(messages)
        else:
            for message in messages:
                send(message)
    rounds = case.count // case.producers // case.pool
    span = start()
    if send_many:
        for _ in range(rounds):
            send_many(messages)
    else:
        for message in islice(cycle(messages), rounds * case.pool):
            send(message)
    return span.result()


def receiver(end: Any, case: Case) -> Callable[[], list[bytes]]:
    """A call that receives one block."""
    block = case.pool
    if case.shape != "mpmc-many":
        recv = end.recv
        return lambda: [recv() for _ in repeat(None, block)]
    recv_many = end.recv_many

    def receive() -> list[bytes]:
        got = recv_many(block)
        while len(got) < block:
            got += recv_many(block - len(got))
        return got

    return receive


def consume(end: Any, case: Case, start: Start, descriptor: int) -> dict:
    import numpy

    expected = [
        message for i in range(case.producers) for message in payload.build(case, first=i * case.pool)
    ]
    words = case.size // 8
    receive = receiver(end, case)
    wrong = 0
    for _ in range(case.warmup // case.members // case.pool):
        wrong += sum(not is_whole(message, expected) for message in receive())
    kept, numbers = [], []
    join, array, kind = b"".join, numpy.frombuffer, numpy.uint64
    span = start()
    for _ in blocks(case, descriptor):
        got = receive()
        kept.append(got[-1])
        numbers.append(array(join(got), kind)[::words].copy())
    span.stop()
    wrong += sum(not is_whole(message, expected) for message in kept)
    seen = numpy.concatenate([numpy.empty(0, kind), *numbers])
    known = seen[seen < len(expected)].astype(int)
    wrong += len(seen) - len(known)
    if case.members == 1:
        for i in range(case.producers):
            mine = known[known // case.pool == i] % case.pool
            wrong += numpy.count_nonzero(mine != numpy.arange(len(mine)) % case.pool)
    tally = numpy.bincount(known, minlength=len(expected)).tolist()
    return span.result(wrong, tally=tally)


def is_whole(message: bytes, expected: list[bytes]) -> bool:
    number = int.from_bytes(message[:8], "little")
    return number < len(expected) and message == expected[number]


def run(seat: Seat, end: Any, case: Case, start: Start, descriptor: int) -> dict:
    if seat.role == "producer":
        return produce(end, case, start, seat.number)
    return consume(end, case, start, descriptor)


# ---- what came out of it ---------------------------------------------------------------------------------------------


def combined(case: Case, results: list[dict] | dict) -> dict[str, dict]:
    """The results of all seats as those of two sides: from the first send to the last message of the last group.

    A process that ran alone has one result, which is that of both sides.
    """
    if isinstance(results, dict):
        return {"producer": {**results, "wrong": 0, "cpu_ns": 0}, "consumer": results}
    if case.shape not in SEVERAL_SHAPES:
        return dict(zip(("producer", "consumer"), results, strict=True))
    producers, consumers = results[: case.producers], results[case.producers :]
    wrong = sum(result["wrong"] for result in consumers) + sum(miscounts(case, consumers))
    return {
        "producer": {
            "start_ns": min(result["start_ns"] for result in producers),
            "end_ns": max(result["end_ns"] for result in producers),
            "cpu_ns": sum(result["cpu_ns"] for result in producers),
            "wrong": 0,
        },
        "consumer": {
            "start_ns": min(result["start_ns"] for result in consumers),
            "end_ns": max(result["end_ns"] for result in consumers),
            "cpu_ns": sum(result["cpu_ns"] for result in consumers),
            "wrong": wrong,
        },
    }


def miscounts(case: Case, consumers: list[dict]) -> Iterable[int]:
    """For each group, how many messages were lost or came twice."""
    due = case.count // case.producers // case.pool
    for i in range(0, len(consumers), case.members):
        members = consumers[i : i + case.members]
        yield sum(abs(sum(came) - due) for came in zip(*(member["tally"] for member in members), strict=True))
