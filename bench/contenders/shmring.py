"""shmring, through its public Python API only."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice, repeat
from typing import Any

from ..shapes import OBJECT_SHAPES, SHAPES, Case

LABEL = "shmring"
PACKAGE = "shmring"
KIND = "attach"
RING = True
OFFERS = frozenset(SHAPES) - {*OBJECT_SHAPES, "records", "cython"}


def missing() -> str:
    try:
        import shmring
    except ImportError as error:
        return f"cannot be imported: {error} (build it: python setup.py build_ext --inplace)"
    if not hasattr(shmring, "create"):
        return "not built: python setup.py build_ext --inplace"
    return "" if find_spec("numpy") else "needs numpy for the array shapes"


def refuses(case: Case) -> str:
    if case.shape in OBJECT_SHAPES:
        return "moves bytes; see its objects and its Queue"
    if case.shape == "aio":
        from .. import aio

        return aio.missing(case) or ("" if has("Consumer", "arecv") else "this version has no asyncio calls")
    return ""


def has(kind: str, method: str) -> bool:
    """Whether this version of shmring has that call."""
    import shmring

    return hasattr(getattr(shmring, kind, None), method)


def _names(case: Case, name: str) -> list[str]:
    return [f"{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def create(case: Case, name: str) -> None:
    import shmring

    for ring_name in _names(case, name):
        tables = {"max_participants": 128, "max_groups": 64} if case.shape == "crowd" else {}
        with shmring.create(ring_name, case.capacity, producers=case.ring, **tables) as ring:
            for i in range(1, case.groups):  # before the first message; they stay
                ring.consumer(_group(i)).close()


def remove(case: Case, name: str) -> None:
    import shmring

    for ring_name in _names(case, name):
        try:
            shmring.unlink(ring_name)
        except shmring.RingNotFound:
            pass  # create failed half-way


def _group(i: int) -> str:
    return f"group {i}" if i else "default"


class Endpoint:
    """The calls the loops use, bound once; keeps the rings alive."""

    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import shmring

        self.size = case.size
        self.rings = [shmring.open(ring_name) for ring_name in _names(case, name)]
        there, back = self.rings[0], self.rings[-1]
        self.tx: Any = None
        self.rx: Any = None
        if role != "consumer" or case.two_way:
            self.tx = (back if role == "consumer" else there).producer(wait=case.wait)
            self.send = self.tx.send
            self.send_many = self.tx.send_many
        if role != "producer" or case.two_way:
            group = _group(number // case.members)
            self.rx = (back if role == "producer" else there).consumer(group, wait=case.wait)
            self.recv = self.rx.recv
            self.recv_many = self.rx.recv_many
        if case.shape == "crowd":
            self.attach_others(there, case)
        if case.shape == "array":
            import numpy

            self.as_floats = partial(numpy.frombuffer, dtype=numpy.float32)
            self.as_words = partial(numpy.frombuffer, dtype=numpy.uint64)

    def attach_others(self, ring: Any, case: Case) -> None:
        """A member for each group that does nothing; then observers, producers and more members of such a group."""
        self.members = [ring.consumer(_group(i)) for i in range(1, case.groups)]
        more = cycle((partial(ring.consumer, lossy=True), ring.producer, partial(ring.consumer, _group(1))))
        self.idle = [attach() for attach in islice(more, case.others - len(self.members))]

    def drain_others(self, count: int) -> None:
        """Every group that does nothing receives what it is owed."""
        for member in self.members:
            left = count
            while left:
                left -= len(member.recv_many(left))

    def send_array(self, value: float) -> None:
        with self.tx.reserve(self.size) as claim:
            self.as_floats(claim.view)[:] = value

    def recv_array(self) -> int:
        with self.rx.peek() as view:
            return int(self.as_words(view.data).sum())

    async def connect(self) -> tuple[Any, Any]:
        return self.tx.asend, self.rx.arecv

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
