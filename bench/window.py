"""A window for contenders that drop messages when a reader is slow, as one has to add to move data without loss.

Each consumer has a 64-bit word in a shared file, in which it says now and then how many messages it has received. The
producer stays at most `limit` messages ahead of the slowest one. The words are looked at and written once in a quarter of
the limit, so that the window costs little beside a message. Beside it stands whether that consumer is there at all: what
is sent before it subscribed it would never get.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .shapes import Case

STEP = 128  # bytes between two consumers' words: nobody waits for another one's cache line

ANNOUNCED = mmap.PAGESIZE // 8 - 1  # the word that says that the producer is there


class Window:
    def __init__(self, name: str, case: Case, limit: int) -> None:
        self.limit, self.every = limit, max(1, limit // 4)
        self.path = self.path_of(name)
        self.consumers = case.groups * case.members
        self.is_crowded = case.is_crowded

    @staticmethod
    def path_of(name: str) -> Path:
        return Path("/dev/shm") / f"{name}-window"

    @classmethod
    def create(cls, name: str) -> None:
        with open(cls.path_of(name), "xb") as file:
            file.truncate(mmap.PAGESIZE)

    @classmethod
    def remove(cls, name: str) -> None:
        cls.path_of(name).unlink(missing_ok=True)

    def _words(self) -> memoryview:
        with open(self.path, "r+b") as file:
            return memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")

    def announce(self) -> None:
        """The producer is there. For transports whose publisher throws out the readers that came before it."""
        self._words()[ANNOUNCED] = 1

    def await_producer(self) -> None:
        words = self._words()
        while not words[ANNOUNCED]:
            os.sched_yield()

    def sender(self, send: Callable[[Any], Any]) -> Callable[[Any], None]:
        """`send`, held back while the window is full."""
        words, limit = self._words(), self.limit
        places = [i * STEP // 8 for i in range(self.consumers)]
        sent = allowed = 0
        give_way = os.sched_yield if self.is_crowded else lambda: None

        def send_within(message: Any) -> None:
            nonlocal sent, allowed
            while sent == allowed:
                if all(words[place + 1] for place in places):
                    allowed = min(words[place] for place in places) + limit
                if sent == allowed:
                    give_way()
            send(message)
            sent += 1

        return send_within

    def receiver(self, recv: Callable[[], Any], number: int) -> Callable[[], Any]:
        """`recv`, telling the producer how far it is. To be called once the consumer has subscribed."""
        words, place, every = self._words(), number * STEP // 8, self.every
        words[place + 1] = 1
        received = 0

        def recv_and_tell() -> Any:
            nonlocal received
            message = recv()
            received += 1
            if received % every == 0:
                words[place] = received
            return message

        return recv_and_tell
