"""Python alone: what the interpreter takes for the consumer's half of the loop when there is no ring.

No Python library can be faster than these, whatever lies below it. One process, hot memory, nobody else, and of each
run the best of many short stretches, so that what else the machine does is not held against Python.

- one recv per message: the loop of the others, around a builtin method that returns a new bytes object of that size
  (`memoryview.tobytes`);
- recv_many: one C call that makes as many new bytes objects as a batch has (`struct.unpack` of "64s64s..."), which are
  freed when the next batch comes;
- small dicts: pickle.dumps and pickle.loads of each;
- arrays: NumPy fills one array or sums one, whichever takes longer, because two processes do both at once.
"""

from __future__ import annotations

import struct
from importlib.util import find_spec
from itertools import repeat
from typing import Any

from .. import payload
from ..shapes import KIB, OBJECT_SIZE, Case
from ..span import Start, clock

LABEL = "Python alone"
PACKAGE = ""
KIND = "alone"
RING = False

# Not the 16 KiB row: a copy from private to private memory may be slower than one out of a ring, depending on where the
# two happen to lie in their pages.
SIZES = {
    "oneway": (64,),
    "oneway-many": (64,),
    "array": (256 * KIB, 1024 * KIB, 4096 * KIB),
    "object": (OBJECT_SIZE,),
}
OFFERS = frozenset(SIZES)
STRETCH = 16  # pools in a stretch


def missing() -> str:
    return "" if find_spec("numpy") else "needs numpy"


def refuses(case: Case) -> str:
    if case.shape not in SIZES:
        return "has nobody to wait for"
    return "" if case.size in SIZES[case.shape] else "measured where a goal is judged"


def create(case: Case, name: str) -> None:
    pass


def remove(case: Case, name: str) -> None:
    pass


def attach(case: Case, name: str, role: str, number: int = 0) -> None:
    return None


def run(end: Any, case: Case, start: Start) -> dict:
    loop = {"oneway": take_each, "oneway-many": unpack_batches, "array": fill_and_sum, "object": pickle_each}[case.shape]
    ns_per_message, wrong = loop(case, start)
    took = round(ns_per_message * case.count)
    return {"start_ns": 0, "end_ns": took, "cpu_ns": took, "wrong": wrong}


def take_each(case: Case, start: Start) -> tuple[float, int]:
    expected = payload.build(case)
    takes = [memoryview(message).tobytes for message in payload.build(case, case.spoil)]
    wrong = sum(take() != message for take, message in zip(takes, expected, strict=True))
    kept, times = [], []
    start()
    for _ in range(0, case.count, case.pool * STRETCH):
        began = clock()
        for _ in repeat(None, STRETCH):
            for take in takes:
                message = take()
        times.append(clock() - began)
        kept.append(message)
    wrong += sum(message != expected[-1] for message in kept)
    return min(times) / (case.pool * STRETCH), wrong


def unpack_batches(case: Case, start: Start) -> tuple[float, int]:
    expected = payload.build(case)
    memory = b"".join(payload.build(case, case.spoil))
    unpack = struct.Struct(f"{case.size}s" * case.pool).unpack
    wrong = sum(a != b for a, b in zip(unpack(memory), expected, strict=True))
    kept, times = [], []
    start()
    for _ in range(0, case.count, case.pool * STRETCH):
        began = clock()
        for _ in repeat(None, STRETCH):
            got = unpack(memory)
        times.append(clock() - began)
        kept.append(got[-1])
    wrong += sum(message != expected[-1] for message in kept)
    return min(times) / (case.pool * STRETCH), wrong


def pickle_each(case: Case, start: Start) -> tuple[float, int]:
    """Both halves: what any queue of objects has to do at least, were both sides one process."""
    import pickle

    objects, expected = payload.build(case, case.spoil), payload.build(case)
    dumps, loads = pickle.dumps, pickle.loads
    kept, times = [], []
    start()
    for _ in range(0, case.count, case.pool * STRETCH):
        began = clock()
        for _ in repeat(None, STRETCH):
            for each in objects:
                got = loads(dumps(each, 5))
        times.append(clock() - began)
        kept.append(got)
    wrong = sum(loads(dumps(each, 5)) != due for each, due in zip(objects, expected, strict=True))
    wrong += sum(got != expected[-1] for got in kept)
    return min(times) / (case.pool * STRETCH), wrong


def fill_and_sum(case: Case, start: Start) -> tuple[float, int]:
    import numpy

    array = numpy.zeros(case.size // 4, numpy.float32)
    words = array.view(numpy.uint64)
    filling, summing, sums = [], [], []
    start()
    for i in range(case.count):
        value = payload.array_value(i + (case.spoil and i == 1))
        began = clock()
        array[:] = value
        between = clock()
        sums.append(int(words.sum()))
        ended = clock()
        filling.append(between - began)
        summing.append(ended - between)
    wrong = sum(total != payload.array_sum(i, case.size) for i, total in enumerate(sums))
    return max(min(filling), min(summing)), wrong
