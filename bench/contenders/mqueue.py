"""POSIX message queues through posix_ipc, within the limits the system sets for everybody."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..shapes import Case

LABEL = "POSIX mqueue"
PACKAGE = "posix_ipc"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-park", "wakeup", "idle", "oneway", "mpmc"))
LIMITS = Path("/proc/sys/fs/mqueue")


def missing() -> str:
    if not find_spec("posix_ipc"):
        return "needs posix_ipc"
    return "" if LIMITS.exists() else "this kernel has no POSIX message queues"


def _limit(name: str) -> int:
    return int((LIMITS / name).read_text()) if LIMITS.exists() else 0


def refuses(case: Case) -> str:
    largest = _limit("msgsize_max")
    if case.shape in OFFERS and case.size > largest:
        return f"no message above {largest} bytes (fs.mqueue.msgsize_max)"
    return ""


def _names(case: Case, name: str) -> list[str]:
    return [f"/{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def create(case: Case, name: str) -> None:
    import posix_ipc

    for queue_name in _names(case, name):
        queue = posix_ipc.MessageQueue(
            queue_name,
            posix_ipc.O_CREX,
            mode=0o600,
            max_messages=_limit("msg_max"),
            max_message_size=case.size,
        )
        queue.close()


def remove(case: Case, name: str) -> None:
    import posix_ipc

    for queue_name in _names(case, name):
        try:
            posix_ipc.unlink_message_queue(queue_name)
        except posix_ipc.ExistentialError:
            pass  # create failed half-way


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import posix_ipc

        queues: list[Any] = [posix_ipc.MessageQueue(queue_name) for queue_name in _names(case, name)]
        out, back = (queues[0], queues[-1]) if role == "producer" else (queues[-1], queues[0])
        self.send = out.send
        self._receive = back.receive

    def recv(self) -> bytes:
        return self._receive()[0]


attach = Endpoint
