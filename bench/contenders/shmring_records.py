"""shmring's typed rings: arrays of fixed-size records in and out."""

from __future__ import annotations

from typing import Any

from .. import payload
from ..shapes import Case
from . import shmring as ring
from .shmring import remove as remove

LABEL = "shmring records"
PACKAGE = ring.PACKAGE
KIND = ring.KIND
RING = True
OFFERS = frozenset(("records",))


def missing() -> str:
    import shmring

    return ring.missing() or ("" if hasattr(shmring, "ArrayRing") else "this version of shmring has no ArrayRing")


def refuses(case: Case) -> str:
    return "" if case.shape in OFFERS else "as shmring: it is the same ring"


def create(case: Case, name: str) -> None:
    import shmring

    shmring.create(f"{name}-there", dtype=payload.record_type(), capacity=case.capacity, producers="single").close()


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import shmring

        self.ring: Any = shmring.open(f"{name}-there")
        if role == "producer":
            self.tx = self.ring.producer()
            self.write = self.tx.write
        else:
            self.rx = self.ring.consumer()
            self.read_into = self.rx.read_into


attach = Endpoint
