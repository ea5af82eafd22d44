"""The timed loops of the Python contenders, for one producer and one consumer: plain loops over bound
methods, as a careful user would write them.

A contender hands in an endpoint whose attributes are the calls of its own (`send`, `recv`, `send_many`, ...).
Every loop takes (endpoint, case, start) and returns a dict for the JSON line; `start()` says ready and waits
for the other side.

The check. Warm-up: every message is compared in full. Timed, one way: each loop keeps one message of 256 (its
first bytes, if large: every message) and compares them after the clock has stopped; a lost or doubled message
shifts all that follow. Round trips: every reply is compared in full while the next message is under way.
Arrays: every sum is compared afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle, islice, pairwise, repeat
from typing import Any

from . import payload
from .shapes import KIB, Case
from .span import Start, clock

STRIDE = 256
LARGE = 256 * KIB


def oneway_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send = end.send
    for message in islice(cycle(messages), case.warmup):
        send(message)
    span = start()
    for _ in range(case.count // len(messages)):
        for message in messages:
            send(message)
    return span.result()


def oneway_consumer(end: Any, case: Case, start: Start) -> dict:
    expected = payload.build(case)
    recv = end.recv
    wrong = sum(recv() != message for message in islice(cycle(expected), case.warmup))
    kept = []
    span = start()
    if case.size >= LARGE:
        for _ in range(case.count):
            kept.append(recv()[:8])
        expected, stride = [message[:8] for message in expected], 1
    else:
        stride = min(STRIDE, case.count)
        for _ in range(case.count // stride):
            for _ in repeat(None, stride):
                message = recv()
            kept.append(message)
        for _ in repeat(None, case.count % stride):
            recv()
    span.stop()
    last_of = range(stride - 1, case.count, stride)
    wrong += sum(message != expected[i % len(expected)] for i, message in zip(last_of, kept, strict=True))
    return span.result(wrong)


def many_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send_many = end.send_many
    for _ in range(case.warmup // len(messages)):
        send_many(messages)
    span = start()
    for _ in range(case.count // len(messages)):
        send_many(messages)
    return span.result()


def many_consumer(end: Any, case: Case, start: Start) -> dict:
    expected = payload.build(case)
    pool, batch = len(expected), case.batch
    recv_many = end.recv_many
    wrong = received = 0
    warmup = case.warmup // pool * pool
    while received < warmup:
        for message in recv_many(batch):
            wrong += message != expected[received % pool]
            received += 1
    kept = []
    received, next_kept = 0, 0
    span = start()
    while received < case.count:
        got = recv_many(batch)
        received += len(got)
        if received >= next_kept:
            kept.append((received - 1, got[-1]))
            next_kept = received + STRIDE
    span.stop()
    wrong += received != case.count
    wrong += sum(message != expected[i % pool] for i, message in kept)
    return span.result(wrong)


def ping(end: Any, case: Case, start: Start) -> dict:
    sent, expected = payload.build(case, case.spoil), payload.build(case)
    pairs = list(zip(sent, expected, strict=True))
    send, recv = end.send, end.recv
    stamps: list[int] = []
    stamp = stamps.append
    wrong = 0
    for message, answer in islice(cycle(pairs), case.warmup):
        send(message)
        wrong += recv() != answer
    span = start()
    due = reply = b""
    for message, answer in islice(cycle(pairs), case.count):
        send(message)
        stamp(clock())  # this and the comparison of the reply before overlap with the flight of the message
        if reply != due:
            wrong += 1
        due = answer
        reply = recv()
    wrong += reply != due
    span.stop()
    samples = [b - a for a, b in pairwise(stamps)]
    return span.result(wrong, samples_ns=samples)


def pong(end: Any, case: Case, start: Start) -> dict:
    send, recv = end.send, end.recv
    for _ in repeat(None, case.warmup):
        send(recv())
    span = start()
    for _ in repeat(None, case.count):
        send(recv())
    return span.result()


def thinking_ping(end: Any, case: Case, start: Start) -> dict:
    """Round trips with a busy pause before every send on both sides; the answering side's pause is
    subtracted.

    Without the pause two fast neighbours answer each other before either has gone to sleep, and nothing is
    parked.
    """
    sent, expected = payload.build(case, case.spoil), payload.build(case)
    send, recv, think = end.send, end.recv, case.think_ns
    samples = []
    wrong = 0
    span = start()
    for message, answer in islice(cycle(zip(sent, expected, strict=True)), case.count):
        resume = clock() + think
        while clock() < resume:
            pass
        sent_at = clock()
        send(message)
        reply = recv()
        samples.append(clock() - sent_at - think)
        wrong += reply != answer
    return span.result(wrong, samples_ns=samples)


def thinking_pong(end: Any, case: Case, start: Start) -> dict:
    send, recv, think = end.send, end.recv, case.think_ns
    span = start()
    for _ in repeat(None, case.count):
        message = recv()
        resume = clock() + think
        while clock() < resume:
            pass
        send(message)
    return span.result()


def array_producer(end: Any, case: Case, start: Start) -> dict:
    send_array = end.send_array
    for i in range(case.warmup):
        send_array(payload.array_value(i))
    span = start()
    spoiled = 1 if case.spoil else -1
    for i in range(case.count):
        send_array(payload.array_value(i + (i == spoiled)))
    return span.result()


def array_consumer(end: Any, case: Case, start: Start) -> dict:
    recv_array = end.recv_array
    wrong = sum(recv_array() != payload.array_sum(i, case.size) for i in range(case.warmup))
    span = start()
    sums = [recv_array() for _ in range(case.count)]
    span.stop()
    wrong += sum(total != payload.array_sum(i, case.size) for i, total in enumerate(sums))
    return span.result(wrong)


def records_producer(end: Any, case: Case, start: Start) -> dict:
    blocks = payload.record_blocks(case, case.spoil)
    write = end.write
    for block in islice(cycle(blocks), case.warmup // case.batch):
        write(block)
    span = start()
    for block in islice(cycle(blocks), case.count // case.batch):
        write(block)
    return span.result()


def records_consumer(end: Any, case: Case, start: Start) -> dict:
    """Into the same array again and again, as the native program does. A read of a block's length gives one block, as the
    producer writes whole ones. What is kept is copied into memory that is there already: fresh pages cost half as much as
    the block in them.
    """
    import numpy

    stream = numpy.concatenate(payload.record_blocks(case))
    got = numpy.empty(case.batch, stream.dtype)
    read_into = end.read_into

    def is_wrong(number: int, block: Any) -> bool:
        return not numpy.array_equal(stream.take(range(number * case.batch, (number + 1) * case.batch), mode="wrap"), block)

    wrong = 0
    for number in range(case.warmup // case.batch):
        wrong += read_into(got) != case.batch or is_wrong(number, got)
    blocks = case.count // case.batch
    stride = min(STRIDE, blocks)
    kept = numpy.ones((blocks // stride, got.nbytes), "u1")
    received, raw = 0, got.view("u1")
    span = start()
    for row in kept:
        for _ in repeat(None, stride):
            received += read_into(got)
        row[:] = raw
    for _ in repeat(None, blocks % stride):
        received += read_into(got)
    span.stop()
    wrong += received != case.count
    wrong += sum(is_wrong((i + 1) * stride - 1, row.view(stream.dtype)) for i, row in enumerate(kept))
    return span.result(wrong)


def cython_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    end.send_copies(messages, case.warmup)
    span = start()
    end.send_copies(messages, case.count)
    return span.result()


def cython_consumer(end: Any, case: Case, start: Start) -> dict:
    """Looks at the beginning of each message, as the native program does, and at all of one in 256, inside the clock."""
    expected = payload.build(case)
    wrong = end.check_copies(expected, case.warmup)
    span = start()
    wrong += end.check_copies(expected, case.count)
    return span.result(wrong)



def aio_producer(end: Any, case: Case, start: Start) -> dict:
    from . import aio  # asyncio takes its time to import, and no other run needs it

    return aio.ping(end, case, start)


def aio_consumer(end: Any, case: Case, start: Start) -> dict:
    from . import aio

    return aio.pong(end, case, start)


def untouched_producer(end: Any, case: Case, start: Start) -> dict:
    end.reserve_each(case.warmup)
    span = start()
    end.reserve_each(case.count)
    return span.result()


def untouched_consumer(end: Any, case: Case, start: Start) -> dict:
    end.peek_each(case.warmup)
    span = start()
    last_size = end.peek_each(case.count)
    return span.result(last_size != case.size)


def wakeup_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send = end.send
    stamps = []
    span = start()
    for message in islice(cycle(messages), case.count):
        time.sleep(case.idle_ns / 1e9)
        stamps.append(clock())
        send(message)
    return span.result(stamps_ns=stamps)


def wakeup_consumer(end: Any, case: Case, start: Start) -> dict:
    recv = end.recv
    got, stamps = [], []
    span = start()
    for _ in range(case.count):
        got.append(recv())
        stamps.append(clock())
    span.stop()
    wrong = sum(a != b for a, b in zip(got, cycle(payload.build(case)), strict=False))
    return span.result(wrong, stamps_ns=stamps)


LOOPS: dict[str, dict[str, Callable[[Any, Case, Start], dict]]] = {
    "oneway": {"producer": oneway_producer, "consumer": oneway_consumer},
    "oneway-many": {"producer": many_producer, "consumer": many_consumer},
    "pingpong-spin": {"producer": ping, "consumer": pong},
    "pingpong-park": {"producer": thinking_ping, "consumer": thinking_pong},
    "array": {"producer": array_producer, "consumer": array_consumer},
    "object": {"producer": oneway_producer, "consumer": oneway_consumer},
    "object-many": {"producer": many_producer, "consumer": many_consumer},
    "records": {"producer": records_producer, "consumer": records_consumer},
    "cython": {"producer": cython_producer, "consumer": cython_consumer},
    "aio": {"producer": aio_producer, "consumer": aio_consumer},
    "untouched": {"producer": untouched_producer, "consumer": untouched_consumer},
    "wakeup": {"producer": wakeup_producer, "consumer": wakeup_consumer},
    "idle": {"producer": wakeup_producer, "consumer": wakeup_consumer},
    "onemulti": {"producer": oneway_producer, "consumer": oneway_consumer},
    "onemulti-spin": {"producer": ping, "consumer": pong},
}


def run(role: str, end: Any, case: Case, start: Start) -> dict:
    return LOOPS[case.shape][role](end, case, start)
