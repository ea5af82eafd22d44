"""zenoh between two peers of one machine over a Unix socket, the publisher waiting when the way is full."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from ..shapes import Case
from . import not_installed

LABEL = "zenoh"
PACKAGE = "eclipse-zenoh"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-park", "wakeup", "idle", "oneway"))


def missing() -> str:
    return not_installed("zenoh", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc"):
        return "no work queue: every subscriber gets every message"
    return "its peers would need a router here" if case.shape == "fanout" else ""


def _path(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}.zenoh"


def create(case: Case, name: str) -> None:
    pass


def remove(case: Case, name: str) -> None:
    for path in _path(name).parent.glob(f"{name}.zenoh*"):
        path.unlink()


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import zenoh

        config = zenoh.Config()
        config.insert_json5("mode", '"peer"')
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("transport/shared_memory/enabled", "false")
        address = json.dumps([f"unixsock-stream/{_path(name)}"])
        config.insert_json5("listen/endpoints", address if role == "consumer" else "[]")
        if role == "producer":
            while not _path(name).exists():  # the other program is not there yet
                time.sleep(0.01)
            config.insert_json5("connect/endpoints", address)
        self.session: Any = zenoh.open(config)
        out, back = ("there", "back") if role == "producer" else ("back", "there")
        bound = max(4, min(1000, case.capacity // case.size))
        if role == "consumer" or case.two_way:
            self.subscriber = self.session.declare_subscriber(back, zenoh.handlers.FifoChannel(bound))
        if role == "producer" or case.two_way:
            block = zenoh.CongestionControl.BLOCK
            self.publisher = self.session.declare_publisher(out, congestion_control=block, express=case.parks)
            self.send = self.publisher.put
            while not self.publisher.matching_status.matching:
                time.sleep(0.01)

    def recv(self) -> bytes:
        return self.subscriber.recv().payload.to_bytes()


attach = Endpoint
