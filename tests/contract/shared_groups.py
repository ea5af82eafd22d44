"""What the tests of shared groups share."""

from __future__ import annotations

import pytest

from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
MOST_VIEWS = 15  # ranges that a member can hold apart from each other
TOPOLOGIES = ("single", "multi")


@pytest.fixture(params=TOPOLOGIES)
def ring(request, backing):
    with backing.create(4096, producers=request.param) as made:
        yield made


def drain(rx) -> list[bytes]:
    got = []
    while (message := rx.try_recv()) is not None:
        got.append(message)
    return got


def receive(rx, how):
    """One or some messages in one of the ways there are; all there is to it is in the list."""
    if how == "recv":
        return [rx.recv(timeout=0)]
    if how == "try_recv":
        return [rx.try_recv()]
    if how == "recv_many":
        return rx.recv_many(4, timeout=0)
    if how == "recv_into":
        buffer = bytearray(4096)
        return [bytes(buffer[: rx.recv_into(buffer, timeout=0)])]
    with rx.peek(timeout=0) as view:
        assert view.redelivered is False and view.valid
        return [bytes(view.data)]


WAYS = ("recv", "try_recv", "recv_many", "recv_into", "peek")
