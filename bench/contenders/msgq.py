"""msgq: one publisher, readers that are thrown back when they are lapped; a window holds the publisher back."""

from __future__ import annotations

import os
from pathlib import Path

from ..polling import until_given
from ..shapes import Case
from ..window import Window
from . import not_installed

LABEL = "msgq"
PACKAGE = "msgq-ipc"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-spin", "pingpong-park", "wakeup", "idle", "oneway", "fanout"))
PATIENCE_MS = 60_000
HEADER = 624  # sizeof(msgq_header_t)


def missing() -> str:
    return not_installed("msgq", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc"):
        return "no work queue: one publisher, and every subscriber gets every message"
    return ""


def _names(case: Case, name: str) -> list[str]:
    return [f"{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def _segment(endpoint: str) -> Path:
    return Path("/dev/shm") / f"msgq_{endpoint}"


def _depth(case: Case) -> int:
    """Messages that may be under way: a quarter of the segment, as a reader that is nearer than that to being lapped is
    thrown back."""
    return max(1, case.capacity // 4 // (case.size + 16))


def create(case: Case, name: str) -> None:
    for endpoint in _names(case, name):
        Window.create(endpoint)
        with open(_segment(endpoint), "xb") as file:  # as msgq would make it, with its pages, so that no run pays for them
            os.posix_fallocate(file.fileno(), 0, case.capacity + HEADER)


def remove(case: Case, name: str) -> None:
    for endpoint in _names(case, name):
        Window.remove(endpoint)
        _segment(endpoint).unlink(missing_ok=True)


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import msgq

        names = _names(case, name)
        windows = [Window(endpoint, case, _depth(case)) for endpoint in names]
        out, back = (0, -1) if role == "producer" else (-1, 0)
        if role == "producer" or case.two_way:
            self.publisher = msgq.pub_sock(names[out], segment_size=case.capacity)
            self.send = windows[out].sender(self.publisher.send)
            windows[out].announce()
        if role == "consumer" or case.two_way:
            windows[back].await_producer()
            self.subscriber = msgq.sub_sock(names[back], segment_size=case.capacity, timeout=PATIENCE_MS)
            receive = self.subscriber.receive
            take = receive if case.parks else until_given(lambda: receive(non_blocking=True), case)
            self.recv = windows[back].receiver(take, number)


attach = Endpoint
