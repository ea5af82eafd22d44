"""Participants in plain Python, written from docs/layout.md alone: they import nothing of shmring.

They show that the document suffices to attach from another language. They are no example to follow: plain Python has no
exchange, so nobody else may touch a word at the same moment, and no release order, which x86 forgives; and they poll.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import uuid

F_OFD_SETLK, F_OFD_SETLKW = 37, 38
PRODUCERS, DATA_BELL, ROOM_BELL, GROUPS = 4096, 5120, 5504, 8192
NONE = 2**64 - 1
ABORTED, COMMITTED = 2, 1


def lock(fd: int, byte: int, *, wait: bool) -> None:
    # struct flock: type, whence, start, length, pid
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))


class ForeignRing:
    def __init__(self, path: str, readonly: bool = False) -> None:
        self.path = path
        self.fd = os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
        self.segment = mmap.mmap(self.fd, 0, prot=mmap.PROT_READ if readonly else mmap.PROT_READ | mmap.PROT_WRITE)
        magic, version, signature, ready, self.capacity, self.cookie = struct.unpack_from("<QIIQQQ", self.segment, 0)
        self.align, self.flags, self.max_participants, self.max_groups = struct.unpack_from("<IIII", self.segment, 40)
        self.participants, self.data, segment_bytes = struct.unpack_from("<QQQ", self.segment, 56)
        (page_bytes,) = struct.unpack_from("<I", self.segment, 124)
        assert magic == 0x00676E69726D6873 and ready == 0x0000007964616572
        assert (version, signature) == (4, 0x1B96B015)
        assert self.capacity & (self.capacity - 1) == 0 and self.align in (16, 64) and self.cookie & 15 == 0
        assert self.participants == GROUPS + self.max_groups * 512
        assert self.data == -(-(self.participants + self.max_participants * 512) // page_bytes) * page_bytes
        assert segment_bytes == self.data + self.capacity <= len(self.segment)
        self.is_multi = not self.flags & 1

    def get(self, offset: int, size: int = 8) -> int:
        return int.from_bytes(self.segment[offset : offset + size], "little")

    def put(self, offset: int, value: int, size: int = 8) -> None:
        self.segment[offset : offset + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")

    def unmark(self, word: int) -> int:
        """The position of a marked word."""
        near = self.reserve
        distance = ((word >> 16 << 4) - near) % 2**52
        return near + (distance - 2**52 if distance >= 2**51 else distance)

    @property
    def tail(self) -> int:
        word = self.get(PRODUCERS)
        return self.unmark(word) if self.is_multi else word

    @property
    def reserve(self) -> int:
        return self.get(PRODUCERS + 128)

    @property
    def written(self) -> int:
        """How far somebody may be writing."""
        return self.tail if self.is_multi else self.reserve

    @property
    def is_shutdown(self) -> bool:
        return self.get(PRODUCERS + 256, 4) == 1

    def group(self, name: str) -> int:
        for number in range(self.max_groups):
            at = GROUPS + number * 512
            if self.get(at, 4) == 2 and bytes(self.segment[at + 24 : at + 88]).rstrip(b"\0").decode() == name:
                return at
        raise KeyError(name)

    def head(self, group: int) -> int:
        return self.unmark(self.get(group + 128))

    def span(self, length: int) -> int:
        return (16 + length + self.align - 1) // self.align * self.align

    def record(self, position: int) -> tuple[int, bytes, int, int] | None:
        """State, payload, participant and the position of the next one; None: it is not there yet."""
        assert (position + 16) % self.align == 0
        if not self.is_multi and position == self.tail:
            return None
        stamp, length, participant, _previous = struct.unpack("<QIHH", self.bytes_at(position, 16))
        state = (stamp ^ self.cookie) - position
        if self.is_multi and state not in (COMMITTED, ABORTED):
            return None
        assert state in (COMMITTED, ABORTED), "damaged"
        following = position + self.span(length)
        assert following - position <= self.capacity, "damaged"
        return state, self.bytes_at(position + 16, length), participant, following

    def bytes_at(self, position: int, size: int) -> bytes:
        first = position % self.capacity
        part = self.segment[self.data + first : self.data + min(first + size, self.capacity)]
        return bytes(part) + bytes(self.segment[self.data : self.data + size - len(part)])

    def write_at(self, position: int, payload: bytes) -> None:
        first = self.capacity - position % self.capacity
        start = self.data + position % self.capacity
        self.segment[start : start + min(first, len(payload))] = payload[:first]
        self.segment[self.data : self.data + len(payload[first:])] = payload[first:]

    def boundaries(self, first: int, last: int) -> list[tuple[int, int]]:
        """(position, number) of those from first to last, the oldest first."""
        pairs = [struct.unpack_from("<QQ", self.segment, PRODUCERS + 512 + 16 * entry) for entry in range(32)]
        return sorted(pair for pair in pairs if pair[0] != NONE and first <= pair[0] <= last)

    def gate(self, position: int) -> int:
        lowest = [position if self.is_multi else self.tail]
        for number in range(self.max_groups):
            at = GROUPS + number * 512
            if self.get(at, 4) in (1, 2):
                lowest.append(min(self.head(at), position))
        for number in range(self.get(PRODUCERS + 268, 4)):
            slot = self.participants + number * 512
            for needed in (self.get(slot + 144), self.get(slot + 128) if self.is_multi else NONE):  # hold, intent_start
                if position - self.capacity <= needed <= position:
                    lowest.append(needed)
        return min(lowest)

    def close(self) -> None:
        self.segment.close()
        os.close(self.fd)


class ForeignParticipant:
    """Attaching and leaving as the document says, step by step. (It repairs nobody.)"""

    role = 0

    def __init__(self, ring: ForeignRing, *arguments: str) -> None:
        self.ring = ring
        self.life = os.open(ring.path, os.O_RDWR | os.O_CLOEXEC)
        registry = os.open(ring.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            lock(registry, 0, wait=True)
            self.join(*arguments)
        finally:
            os.close(registry)

    def take_slot(self, group: int, granted: int) -> None:
        ring = self.ring
        for number in range(ring.max_participants):
            slot = ring.participants + number * 512
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
        namespace = os.stat("/proc/self/ns/pid").st_ino
        granted = (granted // 16 % 2**48) << 16 | (group + 1) & 0xFFFF
        fields = struct.pack("<IIIQQQ16sQ", self.role, os.getpid(), group, start_time, namespace, generation, boot_id, granted)
        ring.segment[slot + 4 : slot + 64] = fields
        ring.segment[slot + 160 : slot + 232] = bytes(72)
        ring.put(slot + 128, NONE)
        ring.put(slot + 144, NONE)
        for claim in range(16):
            ring.put(slot + 256 + 16 * claim, NONE)
        if ring.get(PRODUCERS + 268, 4) <= number:
            ring.put(PRODUCERS + 268, number + 1, 4)
        ring.put(slot, 1, 4)
        self.number, self.mark, self.slot = number, number + 1, slot

    def leave(self) -> None:
        self.ring.put(self.slot, 2, 4)
        os.close(self.life)


class ForeignConsumer(ForeignParticipant):
    """A member of an existing group, which nobody of another thread or process uses at the same moment."""

    role = 2

    def join(self, name: str) -> None:
        ring = self.ring
        self.group = ring.group(name)
        self.take_slot((self.group - GROUPS) // 512, ring.head(self.group))
        ring.put(self.group + 8, ring.get(self.group + 8, 4) | 5, 4)  # here others would need a membarrier, and a wait
        ring.put(self.group + 12, ring.get(self.group + 12, 4) + 1, 4)
        self.held = NONE

    def claim(self) -> bytes | None:
        """The next message, held until release; None when there is none now."""
        ring = self.ring
        word = ring.get(self.group + 128)
        head = start = ring.unmark(word)
        while (found := ring.record(start)) is not None and found[0] == ABORTED:
            start = found[3]
        if found is None:
            return None
        _, message, _, end = found
        ring.put(self.slot + 256 + 8, end + 1)
        ring.put(self.slot + 256, start)
        ring.put(self.slot + 144, start)
        if word & 0xFFFF not in (0, self.mark):
            granted = ring.participants + ((word & 0xFFFF) - 1) * 512 + 56
            tag = (self.group - GROUPS) // 512 + 1
            if ring.get(granted) & 0xFFFF == tag:
                ring.put(granted, (head // 16 % 2**48) << 16 | tag)
        ring.put(self.group + 128, (end >> 4) << 16 | self.mark)
        return message

    def release(self) -> None:
        self.ring.put(self.slot + 144, NONE)

    def recv(self) -> bytes | None:
        message = self.claim()
        self.release()
        return message


class ForeignProducer(ForeignParticipant):
    """One of many producers."""

    role = 1
    noted = -(2**64)  # the last boundary that it knows of

    def join(self) -> None:
        assert self.ring.is_multi
        self.take_slot(0xFFFFFFFF, 0)
        self.ring.put(PRODUCERS + 272, self.ring.get(PRODUCERS + 272, 4) + 1, 4)
        self.ring.put(PRODUCERS + 276, 0, 4)

    def reserve(self, lengths: list[int]) -> bool:
        """Win room for messages of these lengths; False: there is none."""
        ring = self.ring
        span = sum(map(ring.span, lengths))
        word, number, position = ring.get(PRODUCERS), ring.get(PRODUCERS + 8), ring.tail
        if position + span - ring.gate(position) > ring.capacity:
            return False
        end, chunk = position + span, ring.capacity // 16
        if position // chunk != end // chunk or end - self.noted > ring.capacity:
            self.noted = self.note(position, end if position // chunk != end // chunk else end + chunk, end, number)
        ring.put(self.slot + 128, NONE)
        ring.put(self.slot + 136, (span // 16) << 32 | len(lengths) << 16 | word & 0xFFFF)
        ring.put(self.slot + 128, position)
        pair = struct.pack("<QQ", end // 16 % 2**48 << 16 | self.mark, number + len(lengths))
        ring.segment[PRODUCERS : PRODUCERS + 16] = pair
        if position // chunk != end // chunk:
            ring.put(PRODUCERS + 128, end)
        self.position, self.end, self.previous = position, end, word & 0xFFFF
        return True

    def note(self, position: int, stands_for: int, end: int, number: int) -> int:
        """The boundary that serves who reads from before `end`: what is there, or a new one at `position`."""
        ring, chunk = self.ring, self.ring.capacity // 16
        entry = PRODUCERS + 512 + 16 * (stands_for // chunk % 32)
        before = ring.get(entry)
        if before != NONE and before // chunk == position // chunk and end - before <= ring.capacity:
            return before
        ring.segment[entry : entry + 16] = struct.pack("<QQ", position, number)
        return position

    def stamp(self, message: bytes) -> None:
        ring = self.ring
        ring.write_at(self.position + 16, message)
        ring.write_at(self.position + 8, struct.pack("<IHH", len(message), self.mark, self.previous))
        ring.write_at(self.position, struct.pack("<Q", (self.position + COMMITTED) ^ ring.cookie))
        self.position += ring.span(len(message))
        self.previous = self.mark
        if self.position == self.end:
            ring.put(self.slot + 128, NONE)

    def send(self, message: bytes) -> bool:
        if not self.reserve([len(message)]):
            return False
        self.stamp(message)
        return True


class ForeignObserver:
    """Needs no more than the right to read."""

    def __init__(self, ring: ForeignRing) -> None:
        self.ring = ring
        self.lost = 0
        self.position, self.number = ring.boundaries(ring.written - ring.capacity, ring.tail)[0]

    def is_whole(self) -> bool:
        return self.ring.written - self.position <= self.ring.capacity

    def recv(self) -> bytes | None:
        """The next message, or None when there is none now."""
        ring = self.ring
        while True:
            if not self.is_whole():
                before = self.number
                first = ring.written - ring.capacity
                last = ring.tail - (1 if ring.is_multi else 0)
                ahead = ring.boundaries(first + ring.capacity // 4, last)
                self.position, self.number = (ahead or ring.boundaries(first, last)[-1:])[0]
                self.lost += self.number - before
            found = ring.record(self.position)
            if found is None:
                return None
            if not self.is_whole():
                continue
            state, message, missing, self.position = found
            self.number += 1 if state == COMMITTED else missing
            if state == COMMITTED:
                return message
