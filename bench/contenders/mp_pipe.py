"""multiprocessing.Pipe: send_bytes and recv_bytes over one os.pipe per direction."""

from __future__ import annotations

import multiprocessing
from typing import Any

from ..shapes import OBJECT_SHAPES, SEVERAL_SHAPES, Case

LABEL = "mp.Pipe"
PACKAGE = ""
KIND = "inherit"
RING = False
OFFERS = frozenset(("pingpong-park", "wakeup", "idle", "oneway", "oneway-many", "array", "object", "object-many"))


def missing() -> str:
    return ""


def refuses(case: Case) -> str:
    return "one writer and one reader: more of them would mix their bytes" if case.shape in SEVERAL_SHAPES else ""


class Endpoint:
    def __init__(self, out: Any, back: Any, case: Case) -> None:
        self.send, self.send_many = out.send_bytes, out.send  # a batch is a pickled list
        self.recv, self._recv_list = back.recv_bytes, back.recv
        if case.shape in OBJECT_SHAPES:
            self.send, self.recv = out.send, back.recv
        if case.shape == "array":
            import numpy

            self.array = numpy.empty(case.size // 4, numpy.float32)

    def recv_many(self, limit: int) -> list[bytes]:
        return self._recv_list()

    def send_array(self, value: float) -> None:
        self.array[:] = value
        self.send(self.array)

    def recv_array(self) -> int:
        import numpy

        return int(numpy.frombuffer(self.recv(), numpy.uint64).sum())


def pair(case: Case) -> tuple[Endpoint, Endpoint]:
    there_in, there_out = multiprocessing.Pipe(duplex=False)
    back_in, back_out = multiprocessing.Pipe(duplex=False) if case.two_way else (there_in, there_out)
    return Endpoint(there_out, back_in, case), Endpoint(back_out, there_in, case)
