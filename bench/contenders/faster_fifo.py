"""faster-fifo: a circular buffer in shared memory behind one POSIX mutex; pickles objects, moves bytes as they are."""

from __future__ import annotations

from typing import Any

from ..shapes import OBJECT_SHAPES, Case
from . import not_installed

LABEL = "faster-fifo"
PACKAGE = "faster-fifo"
KIND = "inherit"
RING = True
OFFERS = frozenset(
    ("pingpong-park", "wakeup", "idle", "oneway", "oneway-many", "array", "object", "object-many", "mpmc", "mpmc-many")
)


def missing() -> str:
    return not_installed("faster_fifo", PACKAGE)


def refuses(case: Case) -> str:
    return ""


class Endpoint:
    def __init__(self, out: Any, back: Any, size: int) -> None:
        self.send, self.send_many = out.put, out.put_many
        self.recv, self._get_many = back.get, back.get_many
        self.size = size

    def recv_many(self, limit: int) -> list[Any]:
        return self._get_many(max_messages_to_get=limit)

    def send_array(self, value: float) -> None:
        import numpy

        self.send(numpy.full(self.size // 4, value, numpy.float32))

    def recv_array(self) -> int:
        import numpy

        return int(self.recv().view(numpy.uint64).sum())


def pair(case: Case) -> tuple[Endpoint, Endpoint]:
    import faster_fifo

    moves_objects = case.shape in (*OBJECT_SHAPES, "array")
    codec: dict[str, Any] = {} if moves_objects else {"loads": bytes, "dumps": lambda message: message}
    there = faster_fifo.Queue(case.capacity, **codec)
    back = faster_fifo.Queue(case.capacity, **codec) if case.two_way else there
    return Endpoint(there, back, case.size), Endpoint(back, there, case.size)
