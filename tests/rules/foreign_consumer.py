"""A consumer in plain Python, written from docs/layout.md alone: it imports nothing of shmring.

It shows that the document suffices to attach from another language. It is no example to follow: plain Python stores have no
release order, which x86 forgives, and it polls.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import uuid

F_OFD_SETLK, F_OFD_SETLKW = 37, 38
PRODUCERS, DATA_BELL, ROOM_BELL, GROUPS = 4096, 5120, 5504, 8192


def lock(fd: int, byte: int, *, wait: bool) -> None:
    # struct flock: type, whence, start, length, pid
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))


class ForeignRing:
    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.segment = mmap.mmap(self.fd, 0)
        magic, version, signature, ready, self.capacity, self.cookie = struct.unpack_from("<QIIQQQ", self.segment, 0)
        self.align, self.flags, self.max_participants, self.max_groups = struct.unpack_from("<IIII", self.segment, 40)
        self.participants, self.data, segment_bytes = struct.unpack_from("<QQQ", self.segment, 56)
        (page_bytes,) = struct.unpack_from("<I", self.segment, 124)
        assert magic == 0x00676E69726D6873 and ready == 0x0000007964616572
        assert (version, signature) == (1, 0xA5B7F315)
        assert self.capacity & (self.capacity - 1) == 0 and self.align in (16, 64) and self.cookie & 15 == 0
        assert self.participants == GROUPS + self.max_groups * 512
        assert self.data == -(-(self.participants + self.max_participants * 256) // page_bytes) * page_bytes
        assert segment_bytes == self.data + self.capacity <= len(self.segment)

    def get(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(self.segment[offset : offset + size], "little")

    def put(self, offset: int, value: int, size: int = 8) -> None:
        self.segment[offset : offset + size] = value.to_bytes(size, "little")

    @property
    def tail(self) -> int:
        return self.get(PRODUCERS)

    @property
    def is_shutdown(self) -> bool:
        return self.get(PRODUCERS + 256, 4) == 1

    def group(self, name: str) -> int:
        for number in range(self.max_groups):
            at = GROUPS + number * 512
            if self.get(at, 4) == 2 and bytes(self.segment[at + 16 : at + 80]).rstrip(b"\0").decode() == name:
                return at
        raise KeyError(name)

    def record(self, position: int) -> tuple[bytes, int]:
        """The payload of the record at `position`, and the position of the next one."""
        assert (position + 16) % self.align == 0
        stamp, length, _participant, _previous = struct.unpack("<QIHH", self.bytes_at(position, 16))
        assert stamp ^ self.cookie == position + 1, "damaged"
        following = position + (16 + length + self.align - 1) // self.align * self.align
        assert following <= self.tail, "damaged"
        return self.bytes_at(position + 16, length), following

    def bytes_at(self, position: int, size: int) -> bytes:
        first = position % self.capacity
        part = self.segment[self.data + first : self.data + min(first + size, self.capacity)]
        return bytes(part) + bytes(self.segment[self.data : self.data + size - len(part)])

    def close(self) -> None:
        self.segment.close()
        os.close(self.fd)


class ForeignConsumer:
    """The member of an existing group: attaching, receiving and leaving as the document says, step by step."""

    def __init__(self, ring: ForeignRing, name: str) -> None:
        self.ring = ring
        self.life = os.open(ring.path, os.O_RDWR | os.O_CLOEXEC)
        registry = os.open(ring.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            lock(registry, 0, wait=True)
            self.group = ring.group(name)
            assert ring.get(self.group + 8, 4) == 0, "the group has a member"
            self.number, self.slot = self.take_slot()
            ring.put(self.group + 8, self.number + 1, 4)
        finally:
            os.close(registry)
        self.head = ring.get(self.group + 128)
        ring.put(self.group + 152, max(ring.get(self.group + 152), ring.get(self.group + 136)))
        ring.put(self.group + 136, self.head)

    def take_slot(self) -> tuple[int, int]:
        ring = self.ring
        for number in range(ring.max_participants):
            slot = ring.participants + number * 256
            if ring.get(slot, 4) == 0:
                try:
                    lock(self.life, 4096 + number, wait=False)
                except BlockingIOError:
                    continue
                break
        else:
            raise RuntimeError("no free slot")
        generation = ring.get(slot + 32) + 1
        with open("/proc/self/stat", "rb") as file:
            start_time = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = uuid.UUID(file.read().strip()).bytes
        ring.segment[slot : slot + 256] = bytes(256)
        group = (self.group - GROUPS) // 512
        namespace = os.stat("/proc/self/ns/pid").st_ino
        fields = struct.pack("<IIIQQQ16s", 2, os.getpid(), group, start_time, namespace, generation, boot_id)
        ring.segment[slot + 4 : slot + 56] = fields
        ring.put(slot, 1, 4)
        return number, slot

    def recv(self) -> bytes | None:
        """The next message, or None when there is none now."""
        if self.head == self.ring.tail:
            return None
        message, following = self.ring.record(self.head)
        self.head = following
        self.ring.put(self.group + 136, following)
        self.ring.put(self.group + 128, following)
        return message

    def leave(self) -> None:
        self.ring.put(self.slot, 2, 4)
        os.close(self.life)
