"""The two ways in which handles wait for event loops, as a fixture; and a program's view of what is parked."""

from __future__ import annotations

import struct

import pytest

from shmring import aio

# docs/layout.md: the bells, and the parked bits in each.
DATA_BELL, ROOM_BELL, PARKED = 5120, 5504, 128

try:
    import uvloop
except ImportError:
    pass
else:
    uvloop.new_event_loop().close()  # its pipe for signals stays for the whole session; no test is blamed for it


@pytest.fixture(params=["io_uring", "thread"])
def way(request):
    """Both are tested, whatever this machine would choose."""
    try:
        aio.use(request.param)
    except OSError as error:
        pytest.skip(f"{error}")
    yield request.param
    aio.use(None)


def parked(path, bell=DATA_BELL) -> int:
    """The parked bits in a ring's file: one for each participant."""
    with open(path, "rb") as file:
        file.seek(bell + PARKED)
        return struct.unpack("<Q", file.read(8))[0]


def forget_parked(path, bell=DATA_BELL) -> None:
    """As if the notifier that saw these bits had been killed before its wake: nobody is told of the next message."""
    with open(path, "r+b") as file:
        file.seek(bell + PARKED)
        file.write(bytes(8))
