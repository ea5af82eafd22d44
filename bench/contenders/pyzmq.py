"""pyzmq over Unix sockets: PUSH and PULL, or PUB and SUB that wait instead of dropping (XPUB_NODROP)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..shapes import OBJECT_SHAPES, Case
from . import not_installed

LABEL = "pyzmq"
PACKAGE = "pyzmq"
KIND = "attach"
RING = False
OFFERS = frozenset(
    ("pingpong-park", "wakeup", "idle", "oneway", "oneway-many", "array", "object", "object-many", "mpmc", "fanout")
)



def missing() -> str:
    return not_installed("zmq", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc") and case.members > 1:
        return "deals messages out in turn, whoever is ready: sharing work takes a broker"
    return ""


def _path(name: str, direction: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}-{direction}.zmq"


def create(case: Case, name: str) -> None:
    pass


def remove(case: Case, name: str) -> None:
    for direction in ("there", "back"):
        _path(name, direction).unlink(missing_ok=True)


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import zmq

        self.context = zmq.Context()
        self.size = case.size
        self.bound = max(4, min(1000, case.capacity // case.size))
        if case.shape == "fanout":
            out, back = self._broadcast(zmq, case, name, role)
        else:  # who reads binds, so that many can write
            there = self._socket(zmq.PUSH if role == "producer" else zmq.PULL, name, "there", bind=role == "consumer")
            back = out = there
            if case.two_way:
                other = self._socket(zmq.PULL if role == "producer" else zmq.PUSH, name, "back", bind=role == "producer")
                out, back = (there, other) if role == "producer" else (other, there)
        objects = case.shape in OBJECT_SHAPES
        self.out, self.back = out, back
        self.send = out.send_pyobj if objects else out.send
        self.recv = back.recv_pyobj if objects else back.recv
        self.send_many = out.send_pyobj if objects else out.send_multipart

    def _socket(self, kind: int, name: str, direction: str, bind: bool) -> Any:
        socket = self.context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self.bound
        address = f"ipc://{_path(name, direction)}"
        socket.bind(address) if bind else socket.connect(address)
        return socket

    def _broadcast(self, zmq: Any, case: Case, name: str, role: str) -> tuple[Any, Any]:
        if role == "consumer":
            socket = self._socket(zmq.SUB, name, "there", bind=False)
            socket.subscribe(b"")
            return socket, socket
        socket = self._socket(zmq.XPUB, name, "there", bind=True)
        socket.xpub_nodrop = True
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # one word from each subscriber, not from the first only
        for _ in range(case.groups):
            socket.recv()
        return socket, socket

    def recv_many(self, limit: int) -> list[Any]:
        """A batch is one message of many parts, or one pickled list."""
        return self.back.recv_multipart() if self.send_many == self.out.send_multipart else self.back.recv_pyobj()

    def send_array(self, value: float) -> None:
        import numpy

        # A new array each time: it is sent from where it lies, later, so that one in use must not be changed.
        self.out.send(numpy.full(self.size // 4, value, numpy.float32), copy=False)

    def recv_array(self) -> int:
        import numpy

        return int(numpy.frombuffer(self.back.recv(copy=False), numpy.uint64).sum())


attach = Endpoint
