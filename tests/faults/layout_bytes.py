"""Where things lie in a ring's file, from docs/layout.md's numbers; for tests that damage it."""

from __future__ import annotations

import struct

TAIL, RESERVE, SHUTDOWN, SOLE, SLOTS_USED, BOUNDARIES = 4096, 4224, 4352, 4356, 4364, 4608
DATA_BELL, ROOM_BELL = 5120, 5504
ARMED, PARKED, SEQUENCE = 0, 128, 256
GROUPS, GROUP_BYTES = 8192, 512
GROUP_STATE, GROUP_FLAGS, GROUP_ATTENTION, GROUP_MEMBERS, GROUP_NAME, GROUP_HEAD = 0, 4, 8, 12, 24, 128
PARTICIPANT_BYTES = 512
SLOT_STATE, SLOT_ROLE, SLOT_PID, SLOT_GROUP, SLOT_GRANTED = 0, 4, 8, 12, 56
SLOT_INTENT_START, SLOT_INTENT, SLOT_HOLD, SLOT_AWAITED, SLOT_MOVING, SLOT_CLAIMS = 128, 136, 144, 152, 232, 256

# name: offset, struct format
IDENTITY = {
    "magic": (0, "Q"),
    "version": (8, "I"),
    "signature": (12, "I"),
    "ready": (16, "Q"),
    "capacity": (24, "Q"),
    "cookie": (32, "Q"),
    "align": (40, "I"),
    "flags": (44, "I"),
    "max_participants": (48, "I"),
    "max_groups": (52, "I"),
    "participants_offset": (56, "Q"),
    "data_offset": (64, "Q"),
    "segment_bytes": (72, "Q"),
    "page_bytes": (124, "I"),
}


def read(path, offset: int, form: str = "Q") -> int:
    with open(path, "rb") as file:
        file.seek(offset)
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]


def write(path, offset: int, value: int, form: str = "Q") -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<" + form, value % (1 << (8 * struct.calcsize("<" + form)))))


def identity(path, field: str) -> int:
    return read(path, *IDENTITY[field])


def participant(path, number: int) -> int:
    return identity(path, "participants_offset") + number * PARTICIPANT_BYTES
