"""shmring.Queue, which stands where multiprocessing.Queue stood."""

from __future__ import annotations

from typing import Any

from ..shapes import Case
from . import shmring as ring

LABEL = "shmring.Queue"
PACKAGE = ring.PACKAGE
KIND = "inherit"
RING = True
OFFERS = frozenset(
    ("pingpong-park", "wakeup", "idle", "oneway", "oneway-many", "array", "object", "object-many", "mpmc", "mpmc-many")
)


def missing() -> str:
    return ring.missing() or ("" if ring.has("Queue", "put") else "this version of shmring has no Queue")


def refuses(case: Case) -> str:
    return ""


class Endpoint:
    def __init__(self, out: Any, back: Any, case: Case) -> None:
        self.send, self.send_many = out.put, out.put_many
        self.recv, self.recv_many = back.get, back.get_many
        if case.shape == "array":
            import numpy

            self.array = numpy.empty(case.size // 4, numpy.float32)
            self.kind = numpy.uint64

    def send_array(self, value: float) -> None:
        self.array[:] = value  # put has copied it when it returns
        self.send(self.array)

    def recv_array(self) -> int:
        return int(self.recv().view(self.kind).sum())


def pair(case: Case) -> tuple[Endpoint, Endpoint]:
    import shmring

    more = {"capacity": case.capacity, "wait": case.wait}
    there = shmring.Queue(**more)
    back = shmring.Queue(**more) if case.two_way else there
    return Endpoint(there, back, case), Endpoint(back, there, case)
