"""membridge: a ring for one producer and one consumer in shared memory; full and empty are asked for, not waited for."""

from __future__ import annotations

import pickle
from typing import Any

from ..polling import until_given
from ..shapes import Case
from . import not_installed

LABEL = "membridge"
PACKAGE = "membridge"
KIND = "attach"
RING = True
OFFERS = frozenset(("pingpong-spin", "oneway", "object"))
HEADER = 24


def missing() -> str:
    return not_installed("membridge", PACKAGE)


def refuses(case: Case) -> str:
    return ""


def _names(case: Case, name: str) -> list[str]:
    return [f"/{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def create(case: Case, name: str) -> None:
    import membridge

    for segment in _names(case, name):
        membridge.SharedMemory.create(segment, case.capacity + HEADER).spsc()


def remove(case: Case, name: str) -> None:
    import membridge

    for segment in _names(case, name):
        try:
            membridge.SharedMemory.remove(segment)
        except OSError:
            pass  # create failed half-way


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import membridge

        self.segments = [membridge.SharedMemory.open(segment) for segment in _names(case, name)]
        rings = [segment.spsc() for segment in self.segments]
        out, back = (rings[0], rings[-1]) if role == "producer" else (rings[-1], rings[0])
        push, take = out.push, until_given(back.pop, case)
        pack = pickle.dumps if case.shape == "object" else None

        def send(message: Any) -> None:
            if pack:
                message = pack(message, 5)
            while not push(message):
                pass

        self.send = send
        self.recv = (lambda: pickle.loads(take())) if case.shape == "object" else take


attach = Endpoint
