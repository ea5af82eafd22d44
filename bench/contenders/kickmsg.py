"""kickmsg: every message into a ring per subscriber; a slow subscriber loses messages, so a window holds the producer back."""

from __future__ import annotations

from typing import Any

from ..polling import until_given
from ..shapes import Case
from ..window import Window
from . import not_installed

LABEL = "kickmsg"
PACKAGE = "kickmsg"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-spin", "pingpong-park", "wakeup", "idle", "oneway", "array", "fanout"))
PATIENCE_S = 60.0


def missing() -> str:
    return not_installed("kickmsg", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc"):
        return "no work queue: every subscriber gets every message"
    return ""


def _names(case: Case, name: str) -> list[str]:
    return [f"/{name}-{direction}" for direction in ("there", "back")[: 1 + case.two_way]]


def _depth(case: Case) -> int:
    """Messages that may be under way: what the others' capacity holds, within the 4096 that is ample for a pool."""
    fits = max(2, min(4096, case.capacity // (case.size + 16)))
    return 1 << (fits.bit_length() - 1)


def create(case: Case, name: str) -> None:
    import kickmsg

    for region in _names(case, name):
        config = kickmsg.Config()
        config.max_subscribers = case.groups * case.members
        config.sub_ring_capacity = _depth(case)
        config.pool_size = 2 * _depth(case)
        config.max_payload_size = case.size
        kickmsg.SharedRegion.create(region, kickmsg.ChannelType.PubSub, config)
        Window.create(region[1:])


def remove(case: Case, name: str) -> None:
    import kickmsg

    for region in _names(case, name):
        kickmsg.unlink_shm(region)
        Window.remove(region[1:])


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import kickmsg

        self.size = case.size
        names = _names(case, name)
        self.regions = [kickmsg.SharedRegion.open(region) for region in names]
        windows = [Window(region[1:], case, _depth(case)) for region in names]
        out, back = (0, -1) if role == "producer" else (-1, 0)
        if role == "producer" or case.two_way:
            publisher = kickmsg.Publisher(self.regions[out])
            self.send = windows[out].sender(publisher.send)
            self.send_array = windows[out].sender(lambda value: self._fill(publisher.allocate(), value))
        if role == "consumer" or case.two_way:
            self.subscriber = kickmsg.Subscriber(self.regions[back])
            take = self._sleeping if case.parks else until_given(self.subscriber.try_receive, case)
            if case.shape == "array":
                self.recv_array = windows[back].receiver(self._sum, number)
            else:
                self.recv = windows[back].receiver(take, number)

    @property
    def lost(self) -> int:
        return self.subscriber.lost if hasattr(self, "subscriber") else 0

    def _sleeping(self) -> bytes:
        return self.subscriber.receive(PATIENCE_S)

    def _fill(self, slot: Any, value: float) -> None:
        import numpy

        numpy.frombuffer(slot, numpy.float32)[:] = value
        slot.publish(self.size)

    def _sum(self) -> int:
        import numpy

        while (view := self.subscriber.try_receive_view()) is None:
            pass
        total = int(numpy.frombuffer(view, numpy.uint64).sum())
        view.release()
        return total


attach = Endpoint
