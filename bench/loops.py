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

STRIDE = 256
LARGE = 256 * KIB

Start = Callable[[], None]
clock = time.perf_counter_ns


def oneway_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send = end.send
    for message in islice(cycle(messages), case.warmup):
        send(message)
    start()
    began = clock()
    for _ in range(case.count // len(messages)):
        for message in messages:
            send(message)
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def oneway_consumer(end: Any, case: Case, start: Start) -> dict:
    expected = payload.build(case)
    recv = end.recv
    wrong = sum(recv() != message for message in islice(cycle(expected), case.warmup))
    kept = []
    start()
    began = clock()
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
    ended = clock()
    last_of = range(stride - 1, case.count, stride)
    wrong += sum(message != expected[i % len(expected)] for i, message in zip(last_of, kept, strict=True))
    return {"start_ns": began, "end_ns": ended, "wrong": wrong}


def many_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send_many = end.send_many
    for _ in range(case.warmup // len(messages)):
        send_many(messages)
    start()
    began = clock()
    for _ in range(case.count // len(messages)):
        send_many(messages)
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


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
    start()
    began = clock()
    while received < case.count:
        got = recv_many(batch)
        received += len(got)
        if received >= next_kept:
            kept.append((received - 1, got[-1]))
            next_kept = received + STRIDE
    ended = clock()
    wrong += received != case.count
    wrong += sum(message != expected[i % pool] for i, message in kept)
    return {"start_ns": began, "end_ns": ended, "wrong": wrong}


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
    start()
    began = clock()
    due = reply = b""
    for message, answer in islice(cycle(pairs), case.count):
        send(message)
        stamp(clock())  # this and the comparison of the reply before overlap with the flight of the message
        if reply != due:
            wrong += 1
        due = answer
        reply = recv()
    wrong += reply != due
    ended = clock()
    samples = [b - a for a, b in pairwise(stamps)]
    return {"start_ns": began, "end_ns": ended, "wrong": wrong, "samples_ns": samples}


def pong(end: Any, case: Case, start: Start) -> dict:
    send, recv = end.send, end.recv
    for _ in repeat(None, case.warmup):
        send(recv())
    start()
    began = clock()
    for _ in repeat(None, case.count):
        send(recv())
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


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
    start()
    began = clock()
    for message, answer in islice(cycle(zip(sent, expected, strict=True)), case.count):
        resume = clock() + think
        while clock() < resume:
            pass
        sent_at = clock()
        send(message)
        reply = recv()
        samples.append(clock() - sent_at - think)
        wrong += reply != answer
    return {"start_ns": began, "end_ns": clock(), "wrong": wrong, "samples_ns": samples}


def thinking_pong(end: Any, case: Case, start: Start) -> dict:
    send, recv, think = end.send, end.recv, case.think_ns
    start()
    began = clock()
    for _ in repeat(None, case.count):
        message = recv()
        resume = clock() + think
        while clock() < resume:
            pass
        send(message)
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def array_producer(end: Any, case: Case, start: Start) -> dict:
    send_array = end.send_array
    for i in range(case.warmup):
        send_array(payload.array_value(i))
    start()
    began = clock()
    spoiled = 1 if case.spoil else -1
    for i in range(case.count):
        send_array(payload.array_value(i + (i == spoiled)))
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def array_consumer(end: Any, case: Case, start: Start) -> dict:
    recv_array = end.recv_array
    wrong = sum(recv_array() != payload.array_sum(i, case.size) for i in range(case.warmup))
    start()
    began = clock()
    sums = [recv_array() for _ in range(case.count)]
    ended = clock()
    wrong += sum(total != payload.array_sum(i, case.size) for i, total in enumerate(sums))
    return {"start_ns": began, "end_ns": ended, "wrong": wrong}


def untouched_producer(end: Any, case: Case, start: Start) -> dict:
    end.reserve_each(case.warmup)
    start()
    began = clock()
    end.reserve_each(case.count)
    return {"start_ns": began, "end_ns": clock(), "wrong": 0}


def untouched_consumer(end: Any, case: Case, start: Start) -> dict:
    end.peek_each(case.warmup)
    start()
    began = clock()
    last_size = end.peek_each(case.count)
    return {"start_ns": began, "end_ns": clock(), "wrong": int(last_size != case.size)}


def wakeup_producer(end: Any, case: Case, start: Start) -> dict:
    messages = payload.build(case, case.spoil)
    send = end.send
    stamps = []
    start()
    began = clock()
    for message in islice(cycle(messages), case.count):
        time.sleep(case.idle_ns / 1e9)
        stamps.append(clock())
        send(message)
    return {"start_ns": began, "end_ns": clock(), "wrong": 0, "stamps_ns": stamps}


def wakeup_consumer(end: Any, case: Case, start: Start) -> dict:
    recv = end.recv
    got, stamps = [], []
    start()
    began, cpu = clock(), time.process_time_ns()
    for _ in range(case.count):
        got.append(recv())
        stamps.append(clock())
    cpu, ended = time.process_time_ns() - cpu, clock()
    wrong = sum(a != b for a, b in zip(got, cycle(payload.build(case)), strict=False))
    return {"start_ns": began, "end_ns": ended, "wrong": wrong, "stamps_ns": stamps, "cpu_ns": cpu}


LOOPS: dict[str, dict[str, Callable[[Any, Case, Start], dict]]] = {
    "oneway": {"producer": oneway_producer, "consumer": oneway_consumer},
    "oneway-many": {"producer": many_producer, "consumer": many_consumer},
    "pingpong-spin": {"producer": ping, "consumer": pong},
    "pingpong-park": {"producer": thinking_ping, "consumer": thinking_pong},
    "array": {"producer": array_producer, "consumer": array_consumer},
    "untouched": {"producer": untouched_producer, "consumer": untouched_consumer},
    "wakeup": {"producer": wakeup_producer, "consumer": wakeup_consumer},
    "idle": {"producer": wakeup_producer, "consumer": wakeup_consumer},
    "onemulti": {"producer": oneway_producer, "consumer": oneway_consumer},
    "onemulti-spin": {"producer": ping, "consumer": pong},
}


def run(role: str, end: Any, case: Case, start: Start) -> dict:
    return LOOPS[case.shape][role](end, case, start)
