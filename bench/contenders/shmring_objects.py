"""shmring's objects and arrays on an ordinary ring: send_obj and recv_obj, send_array and peek_array."""

from __future__ import annotations

from typing import Any

from ..shapes import Case
from . import shmring as ring
from .shmring import create as create
from .shmring import remove as remove

LABEL = "shmring objects"
PACKAGE = ring.PACKAGE
KIND = ring.KIND
RING = True
OFFERS = frozenset(("object", "object-many", "array"))


def missing() -> str:
    return ring.missing() or ("" if ring.has("Consumer", "recv_obj") else "this version of shmring has no send_obj")


def refuses(case: Case) -> str:
    return "" if case.shape in OFFERS else "as shmring: it is the same ring"


class Endpoint(ring.Endpoint):
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        super().__init__(case, name, role, number)
        if case.shape == "array":
            import numpy

            self.array = numpy.empty(case.size // 4, numpy.float32)
            self.kind = numpy.uint64
        elif self.tx:
            self.send, self.send_many = self.tx.send_obj, self.tx.send_objs
        else:
            self.recv, self.recv_many = self.rx.recv_obj, self.rx.recv_objs

    def send_array(self, value: float) -> None:
        self.array[:] = value
        self.tx.send_array(self.array)

    def recv_array(self) -> int:
        with self.rx.peek_array() as view:
            return int(view.array.view(self.kind).sum())


def attach(case: Case, name: str, role: str, number: int = 0) -> Any:
    return Endpoint(case, name, role, number)
