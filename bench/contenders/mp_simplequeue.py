"""multiprocessing.SimpleQueue: a pipe with a lock at each end, no feeder thread, no bound but the pipe's own."""

from __future__ import annotations

import multiprocessing

from ..shapes import Case
from .mp_queue import Endpoint

LABEL = "mp.SimpleQueue"
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


def pair(case: Case) -> tuple[Endpoint, Endpoint]:
    there = multiprocessing.SimpleQueue()
    back = multiprocessing.SimpleQueue() if case.two_way else there
    return Endpoint(there, back, case.size), Endpoint(back, there, case.size)
