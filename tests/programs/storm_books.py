"""What a storm leaves behind for the check: messages that tell who sent them, a table and logs that survive kill -9.

The table is shared by all workers. Its first word is the phase; each worker has a row that only it writes. A log belongs to one
worker: entries, and a count that is raised after the entry is whole. What was counted has certainly happened.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import zlib

# ---- messages ----------------------------------------------------------------------------------------------

HEAD = struct.Struct("<IIHHI")  # producer, sequence, length, kind, checksum of all but itself
SENT, ABORTED = 0x5E17, 0xDEAD
PATTERN = bytes((7 * i + i // 256) & 0xFF for i in range(1 << 16))
MOST_AT_ONCE = 12  # messages that a producer may have committed, or a receiver received, without having told


def make_message(producer: int, sequence: int, length: int, kind: int = SENT) -> bytes:
    start = (producer * 31 + sequence * 7) % 4096
    body = PATTERN[start : start + length - HEAD.size]
    words = struct.pack("<IIHH", producer, sequence, length, kind)
    return words + struct.pack("<I", zlib.crc32(body, zlib.crc32(words))) + body


def read_message(data) -> tuple[int, int]:
    """Producer and sequence. Raises if it is not exactly what a producer made."""
    if len(data) < HEAD.size:
        raise AssertionError(f"torn: a message of {len(data)} bytes: {bytes(data)!r}")
    producer, sequence, length, kind, checksum = HEAD.unpack_from(data)
    actual = zlib.crc32(data[HEAD.size :], zlib.crc32(data[:12]))
    if checksum != actual or length != len(data):
        raise AssertionError(
            f"torn: producer {producer}, sequence {sequence}, length {length}, has {len(data)} bytes and checksum {actual:#x} "
            f"instead of {checksum:#x}: {bytes(data)!r}"
        )
    if kind != SENT:
        raise AssertionError(f"producer {producer} gave its message {sequence} up, and it came ({kind:#x})")
    return producer, sequence


# ---- the table ---------------------------------------------------------------------------------------------

RUN, FINISH, DRAIN = range(3)  # phases: producers leave at FINISH, receivers at DRAIN once there is nothing left
STARTING, ATTACHED, CHANGING = range(3)  # states: CHANGING is in the middle of leaving or of attaching again
STATE, BEATS, COMMITTED, GIVEN_UP, RECEIVED, LOST, ABANDONED, SESSIONS = range(8)
KINDS = (  # messages by the call that moved them; and waits for one of several handles
    "send", "try_send", "send_many", "reserve", "peek", "recv", "try_recv", "recv_many", "recv_into", "observed", "wait",
)  # fmt: skip
KIND = {kind: 8 + index for index, kind in enumerate(KINDS)}
ROW = 8 + len(KINDS)


class Table:
    """Words of 32 bits, each written by one process, each store whole."""

    def __init__(self, rows: int) -> None:
        self.words = memoryview(mmap.mmap(-1, 4 * ROW * (rows + 1))).cast("I")

    @property
    def phase(self) -> int:
        return self.words[0]

    @phase.setter
    def phase(self, value: int) -> None:
        self.words[0] = value

    def place(self, worker: int, column: int) -> int:
        return ROW * (worker + 1) + column

    def get(self, worker: int, column: int) -> int:
        return self.words[self.place(worker, column)]

    def set(self, worker: int, column: int, value: int) -> None:
        self.words[self.place(worker, column)] = value

    def add(self, worker: int, column: int, value: int = 1) -> None:
        self.words[self.place(worker, column)] += value

    def moved(self, worker: int) -> dict[str, int]:
        """How many messages it moved, by kind."""
        return {kind: self.get(worker, column) for kind, column in KIND.items()}


# ---- logs --------------------------------------------------------------------------------------------------

ENTRY = struct.Struct("<QIIII")  # position in the ring (0: not known), producer, sequence, what, padding
FRESH, AGAIN, PLAIN, RELEASED = range(4)  # peeked, peeked and redelivered, received by copy, view released
ENTRIES = 40_000


class Log:
    """Written by a member; a file, so that what it wrote stays when it is killed."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, 8 + ENTRIES * ENTRY.size)
        self.memory = mmap.mmap(fd, 8 + ENTRIES * ENTRY.size)
        os.close(fd)
        self.count = memoryview(self.memory)[:8].cast("Q")
        self.number = 0

    def write(self, position: int, producer: int, sequence: int, what: int) -> None:
        ENTRY.pack_into(self.memory, 8 + self.number * ENTRY.size, position, producer, sequence, what, 0)
        self.number += 1
        self.count[0] = self.number

    @property
    def is_full(self) -> bool:
        return self.number > ENTRIES - 100


def read_log(path: str):
    if not os.path.exists(path):
        return iter(())  # its member was killed before it began
    with open(path, "rb") as file:
        count = int.from_bytes(file.read(8), sys.byteorder)
        return ENTRY.iter_unpack(file.read(count * ENTRY.size))
