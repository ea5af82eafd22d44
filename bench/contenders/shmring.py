"""shmring, through its public Python API only."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import repeat
from typing import Any

from ..shapes import Case

LABEL = "shmring"
KIND = "attach"
RING = True


def missing() -> str:
    try:
        import shmring
    except ImportError as error:
        return f"cannot be imported: {error} (build it: python setup.py build_ext --inplace)"
    if not hasattr(shmring, "create"):
        return "not built: python setup.py build_ext --inplace"
    return "" if find_spec("numpy") else "needs numpy for the array shapes"


def refuses(case: Case) -> str:
    return ""


def _names(case: Case, name: str) -> list[str]:
    return [f"{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def create(case: Case, name: str) -> None:
    import shmring

    for ring_name in _names(case, name):
        shmring.create(ring_name, case.capacity, producers="single").close()


def remove(case: Case, name: str) -> None:
    import shmring

    for ring_name in _names(case, name):
        try:
            shmring.unlink(ring_name)
        except shmring.RingNotFound:
            pass  # create failed half-way


class Endpoint:
    """The calls the loops use, bound once; keeps the rings alive."""

    def __init__(self, case: Case, name: str, role: str) -> None:
        import shmring

        self.size = case.size
        self.rings = [shmring.open(ring_name) for ring_name in _names(case, name)]
        there, back = self.rings[0], self.rings[-1]
        self.tx: Any = None
        self.rx: Any = None
        if role == "producer" or case.two_way:
            self.tx = (there if role == "producer" else back).producer(wait=case.wait)
            self.send = self.tx.send
            self.send_many = self.tx.send_many
        if role == "consumer" or case.two_way:
            self.rx = (there if role == "consumer" else back).consumer(wait=case.wait)
            self.recv = self.rx.recv
            self.recv_many = self.rx.recv_many
        if case.shape == "array":
            import numpy

            self.as_floats = partial(numpy.frombuffer, dtype=numpy.float32)
            self.as_words = partial(numpy.frombuffer, dtype=numpy.uint64)

    def send_array(self, value: float) -> None:
        with self.tx.reserve(self.size) as claim:
            self.as_floats(claim.view)[:] = value

    def recv_array(self) -> int:
        with self.rx.peek() as view:
            return int(self.as_words(view.data).sum())

    def reserve_each(self, count: int) -> None:
        reserve, size = self.tx.reserve, self.size
        for _ in repeat(None, count):
            with reserve(size):
                pass

    def peek_each(self, count: int) -> int:
        peek = self.rx.peek
        for _ in repeat(None, count - 1):
            with peek():
                pass
        with peek() as view:
            return len(view.data)


attach = Endpoint
