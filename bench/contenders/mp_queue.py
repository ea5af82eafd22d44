"""multiprocessing.Queue, bounded so that its feeder thread cannot hoard the whole run in memory."""

from __future__ import annotations

import multiprocessing
from typing import Any

from ..shapes import Case

LABEL = "mp.Queue"
PACKAGE = ""
KIND = "inherit"
RING = False
OFFERS = frozenset(
    ("pingpong-park", "wakeup", "idle", "oneway", "oneway-many", "array", "object", "object-many", "mpmc", "mpmc-many")
)


def missing() -> str:
    return ""


def refuses(case: Case) -> str:
    return ""


class Endpoint:
    def __init__(self, out: Any, back: Any, size: int) -> None:
        self.send = self.send_many = out.put  # a batch is a list in one put: one pickle, one write
        self.recv = back.get
        self.queue_out, self.queue_in, self.size = out, back, size

    def recv_many(self, limit: int) -> list[bytes]:
        return self.queue_in.get()

    def send_array(self, value: float) -> None:
        import numpy

        # A new array each time: the feeder thread pickles later, so that one that is in use must not be
        # changed.
        self.queue_out.put(numpy.full(self.size // 4, value, numpy.float32))

    def recv_array(self) -> int:
        import numpy

        return int(self.queue_in.get().view(numpy.uint64).sum())


def pair(case: Case) -> tuple[Endpoint, Endpoint]:
    bound = max(4, min(1000, case.capacity // case.size))
    there: Any = multiprocessing.Queue(bound)
    back: Any = multiprocessing.Queue(bound) if case.two_way else there
    return Endpoint(there, back, case.size), Endpoint(back, there, case.size)
