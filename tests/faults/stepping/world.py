"""The ring that a trial is about, and those who live on in it: how they begin, and what they still must be able to do.

One ring serves thousands of trials: its bytes are put back as they were, and everybody attaches anew. There are two lossless
groups. `default` is where the victim receives, if it is a consumer; `other` has one reader that nobody disturbs, so what it
gets is the order of the ring. Two observers follow: one reads along, one only at the very end, when it was lapped.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import time

import layout_bytes as at

import shmring
from shmring import WaitPolicy, creation, naming

CAPACITY = 4096
SLOTS = 10
LENGTH = 112  # with its header a record takes a 32nd of the ring
MOST = CAPACITY // 128
PATIENT = WaitPolicy(held=0, spin_us=0, yields=0, slice_ms=3_600_000)
QUICK = WaitPolicy(held=1, spin_us=0, yields=0, slice_ms=5)
HANG = 30.0  # seconds after which what does not come is lost
NONE = (1 << 64) - 1


class Broken(Exception):
    """A guarantee that did not hold."""


def text(name: str) -> bytes:
    """The payload of the message of that name: every byte of it depends on the name."""
    return (name + ":").encode() * LENGTH


def payload(name: str) -> bytes:
    return text(name)[:LENGTH]


def name_of(message: bytes) -> str:
    name = bytes(message).partition(b":")[0].decode("utf-8", "replace")
    if name != "large" and bytes(message) != payload(name):
        raise Broken(f"a torn message: {bytes(message)!r}")
    return name


class World:
    def __init__(self, producers: str, origin: int):
        self.producers = producers
        self.is_multi = producers == "multi"
        self.path = f"/dev/shm/shmring-stepping-{os.getpid()}-{producers}-{origin}"
        shape = creation._Shape(CAPACITY, producers, SLOTS, 4, 16, origin=origin)
        self.ring = creation._make(naming.place_of(self.path), shape, 0o600, True)
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.image = bytes(self.memory)
        self.others = []  # handles beside those below, to be closed at the end
        self.tx = self.rx = self.other = self.ob = self.lazy = None

    def close(self) -> None:
        self.leave()
        self.ring.close()
        self.memory.close()
        os.unlink(self.path)
        shutil.rmtree(f"{self.path}-folder", ignore_errors=True)  # of who creates rings

    # ---- one trial -----------------------------------------------------------------------------------------------

    def begin(self, base: int, keeps_producer: bool, has_reader: bool) -> None:
        """Put the bytes back, attach those who survive, and send `base` messages."""
        self.memory[:] = self.image
        self.base = [f"b{number}" for number in range(base)]
        self.after: list[str] = []
        self.got: dict[str, list[tuple[str, bool]]] = {"default": [], "other": []}
        self.seen: list[str] = []  # by the observer
        self.skipped: set[str] = set()  # what others got of `default` by themselves
        self.tx = self.ring.producer(wait=QUICK)
        self.other = self.ring.consumer("other", wait=QUICK)
        self.rx = self.ring.consumer("default", wait=QUICK) if has_reader else None
        self.ob = self.ring.consumer(lossy=True, wait=QUICK)
        self.lazy = self.ring.consumer(lossy=True, wait=QUICK)
        for name in self.base:
            self.tx.send(payload(name), timeout=0)
        if not keeps_producer:
            self.tx.close()
            self.tx = None

    def leave(self) -> None:
        for each in (self.tx, self.rx, self.other, self.ob, self.lazy, *self.others):
            if each is not None:
                each.close()
        self.tx = self.rx = self.other = self.ob = self.lazy = None
        self.others = []

    # ---- what survivors do ---------------------------------------------------------------------------------------

    def try_send(self, name: str) -> None:
        """While there is room nobody keeps a producer from sending."""
        if not self.tx.try_send(payload(name)):
            raise Broken(f"no room for {name} although there must be: {self.ring.stats()}")
        self.after.append(name)

    def claim(self, name: str) -> None:
        with self.tx.reserve(LENGTH, timeout=HANG) as claim:
            claim.view[:] = payload(name)
        self.after.append(name)

    def send(self, name: str) -> None:
        """The same where others may have to make room first."""
        deadline = time.monotonic() + HANG
        while not self.tx.try_send(payload(name)):
            if not self.take_what_is_there():
                try:
                    self.tx.send(payload(name), timeout=0.02)  # looks after the dead, if that is what it takes
                    break
                except TimeoutError as error:
                    if time.monotonic() > deadline:
                        raise Broken(f"{name} could not be sent: {error}") from None
        self.after.append(name)

    def take_what_is_there(self) -> bool:
        """Without waiting. Was there anything?"""
        before = len(self.got["default"]) + len(self.got["other"])
        for group, rx in (("default", self.rx), ("other", self.other)):
            while rx is not None and self.take(group, rx, 0):
                pass
        self.watch()
        return len(self.got["default"]) + len(self.got["other"]) > before

    def take(self, group: str, rx, timeout: float) -> bool:
        try:
            with rx.peek(timeout) as view:
                self.got[group].append((name_of(view.data), view.redelivered))
                return True
        except (TimeoutError, shmring.ShutDown):
            return False

    def watch(self) -> None:
        with contextlib.suppress(shmring.ShutDown):
            while (message := self.ob.try_recv()) is not None:
                self.seen.append(name_of(message))

    def take_until(self, group: str, rx, last: str) -> None:
        """Receive until `last` was there; whoever is in the way is dead, and found by waiting."""
        while last not in [name for name, _ in self.got[group]]:
            if not self.take(group, rx, HANG):
                raise Broken(f"{last} never came to group {group}, which got {self.got[group]}; {self.ring.stats()}")

    # ---- the end of a trial --------------------------------------------------------------------------------------

    def numbers(self) -> tuple[int, list[tuple]]:
        """The tail, and of each slot: state, intent, hold."""
        slots = []
        start = struct.unpack_from("<Q", self.memory, at.IDENTITY["participants_offset"][0])[0]
        for number in range(SLOTS):
            slot = start + number * at.PARTICIPANT_BYTES
            slots.append(
                (
                    struct.unpack_from("<I", self.memory, slot + at.SLOT_STATE)[0],
                    struct.unpack_from("<Q", self.memory, slot + at.SLOT_INTENT_START)[0],
                    struct.unpack_from("<Q", self.memory, slot + at.SLOT_HOLD)[0],
                )
            )
        return struct.unpack_from("<Q", self.memory, at.TAIL)[0], slots

    def check_nothing_left(self) -> None:
        """Everybody has closed, and repair had a look: no slot, no bit, no role, no claim, no byte that gates."""
        self.leave()
        if dead := self.ring.repair():
            raise Broken(f"{dead} dead were found only when all was over")
        _, slots = self.numbers()
        for number, (state, intent, hold) in enumerate(slots):
            if (state, intent, hold) != (0, NONE, NONE):
                raise Broken(f"slot {number} is not free: state {state}, intent {intent:#x}, hold {hold:#x}")
        for bell in (at.DATA_BELL, at.ROOM_BELL):
            if any(self.memory[bell : bell + 256]):
                raise Broken(f"bits are left in the bell at {bell}")
        if sole := struct.unpack_from("<I", self.memory, at.SOLE)[0]:
            raise Broken(f"the single producer's mark is left: {sole}")
        stats = self.ring.stats()
        if stats.used or stats.participants:
            raise Broken(f"something is left: {stats}")
        for number in range(4):
            group = at.GROUPS + number * at.GROUP_BYTES
            state, _, attention, members = struct.unpack_from("<4I", self.memory, group)
            if state != (2 if number < 2 else 0) or attention & 2 or (state and members):
                raise Broken(f"group {number} has state {state}, attention {attention}, {members} members")


def observed(world: World, delivered: list[str], aborted: int) -> None:
    """Every message is returned or counted in `lost`, by the observer that read along and by the one that was lapped."""
    world.watch()
    if not world.ob.lost and world.seen != delivered:
        raise Broken(f"the observer saw {world.seen}, group other {delivered}")
    late = []
    while (message := world.lazy.try_recv()) is not None:
        late.append(name_of(message))
    for who, count, lost in (("early", len(world.seen), world.ob.lost), ("late", len(late), world.lazy.lost)):
        if not len(delivered) <= count + lost <= len(delivered) + aborted:
            raise Broken(f"the {who} observer got {count} and lost {lost} of {len(delivered)} ({aborted} aborted)")
    if late != delivered[len(delivered) - len(late) :]:
        raise Broken(f"the late observer got {late}, not the end of {delivered}")


def newcomer(world: World):
    """Somebody who was not there before."""
    return shmring.open(world.path)
