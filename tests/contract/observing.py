"""What the tests of observers share."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from conftest import _backing

import shmring
from shmring import WaitPolicy

PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
NOBODY = 65534
TOPOLOGIES = ("single", "multi")


def drain(rx) -> list[bytes]:
    got = []
    while (message := rx.try_recv()) is not None:
        got.append(message)
    return got


def number_of(message) -> int:
    return int(bytes(message).partition(b" ")[0])


@dataclass(frozen=True)
class Watched:
    """A ring without groups that would fill it, and a way to observe it."""

    ring: object
    through: object  # the ring object that observers are asked of

    def observer(self, start="earliest", **options):
        return self.through.consumer(lossy=True, start=start, **options)


@dataclass(frozen=True)
class Access:
    kind: str
    producers: str
    readonly: bool

    def __str__(self):
        return f"{self.kind}-{self.producers}-{'readonly' if self.readonly else 'attached'}"


ACCESSES = [Access(kind, producers, False) for kind in ("file", "shm", "memfd") for producers in TOPOLOGIES]
ACCESSES += [Access(kind, producers, True) for kind in ("file", "shm") for producers in TOPOLOGIES]


@pytest.fixture(params=ACCESSES, ids=str)
def watch(request, unique_name, tmp_path):
    """Make a ring of some capacity that only observers read."""
    access, opened = request.param, []
    backing = _backing(access.kind, unique_name, tmp_path)

    def make(capacity=4096, **options):
        ring = backing.create(capacity, producers=access.producers, **options)
        opened.append(ring)
        ring.remove_group("default")
        if access.readonly:
            opened.append(shmring.open(backing.name, readonly=True))
        return Watched(ring, opened[-1])

    yield make
    for each in reversed(opened):
        each.close()
