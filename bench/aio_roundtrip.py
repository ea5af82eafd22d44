"""Round trips between two event loops: shmring's coroutines against asyncio streams over a Unix socket.

`python -m bench.aio_roundtrip [--count N] [--size BYTES] [--rounds N] [--json FILE]`, or `measure(contender, loop)`.

One process asks and one echoes, each pinned to a CPU of its own and in an event loop of the same make. Each message is checked
when it is back. Contenders take turns (rounds), and each turn has processes of its own. Times are of one round trip, in ns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

import shmring
from shmring import aio

COUNT, SIZE, WARM_UP = 5000, 64, 300

# What a side needs: a message out, a message in. The echo gives up when there are no more.
Exchange = Callable[[bytes], Awaitable[bytes]]


def loops() -> list[str]:
    """The event loops that are installed."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return ["asyncio"]
    return ["asyncio", "uvloop"]


def run(loop: str, main: Coroutine[Any, Any, Any]) -> Any:
    if loop == "uvloop":
        import uvloop

        made = uvloop.new_event_loop()
    else:
        made = asyncio.new_event_loop()
    try:
        return made.run_until_complete(main)
    finally:
        made.close()


async def ask(exchange: Exchange, count: int, size: int) -> list[int]:
    times = []
    for number in range(WARM_UP + count):
        message = number.to_bytes(8, "little") * (size // 8)
        began = time.perf_counter_ns()
        answer = await exchange(message)
        times.append(time.perf_counter_ns() - began)
        if answer != message:
            raise AssertionError(f"round trip {number}: another message came back")
    return times[WARM_UP:]


class Rings:
    """Two rings, one for each direction."""

    def __init__(self, wait: str) -> None:
        self.wait = wait
        self.there = shmring.anonymous("64 KiB", producers="single")
        self.back = shmring.anonymous("64 KiB", producers="single")

    async def echo(self, count: int, size: int) -> None:
        with self.there.consumer(wait=self.wait) as rx, self.back.producer(wait=self.wait) as tx:
            for _ in range(WARM_UP + count):
                await tx.asend(await rx.arecv())

    async def ask(self, count: int, size: int) -> list[int]:
        with self.there.producer(wait=self.wait) as tx, self.back.consumer(wait=self.wait) as rx:

            async def exchange(message: bytes) -> bytes:
                await tx.asend(message)
                return await rx.arecv()

            return await ask(exchange, count, size)

    def close(self) -> None:
        self.there.close()
        self.back.close()


class Streams:
    """asyncio streams over a Unix socket pair."""

    def __init__(self) -> None:
        self.ends = socket.socketpair(socket.AF_UNIX)

    async def echo(self, count: int, size: int) -> None:
        reader, writer = await asyncio.open_connection(sock=self.ends[1])
        for _ in range(WARM_UP + count):
            writer.write(await reader.readexactly(size))
            await writer.drain()
        writer.close()

    async def ask(self, count: int, size: int) -> list[int]:
        reader, writer = await asyncio.open_connection(sock=self.ends[0])

        async def exchange(message: bytes) -> bytes:
            writer.write(message)
            await writer.drain()
            return await reader.readexactly(size)

        times = await ask(exchange, count, size)
        writer.close()
        return times

    def close(self) -> None:
        for end in self.ends:
            end.close()


CONTENDERS: dict[str, Callable[[], Rings | Streams]] = {
    "shmring": lambda: Rings("adaptive"),
    "shmring, parked": lambda: Rings("park"),
    "Unix socket streams": Streams,
}


def echoing(pair: Rings | Streams, loop: str, count: int, size: int, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    run(loop, pair.echo(count, size))


def asking(pair: Rings | Streams, loop: str, count: int, size: int, cpu: int, answer: Connection) -> None:
    os.sched_setaffinity(0, {cpu})
    gc.disable()
    answer.send(run(loop, pair.ask(count, size)))


def cpus() -> tuple[int, int]:
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def measure(contender: str, loop: str = "asyncio", count: int = COUNT, size: int = SIZE) -> list[int]:
    """Times of `count` round trips of `size` bytes (a multiple of 8), in ns."""
    fork = multiprocessing.get_context("fork")
    pair = CONTENDERS[contender]()
    mine, theirs = fork.Pipe(duplex=False)
    first, second = cpus()
    children = [
        fork.Process(target=echoing, args=(pair, loop, count, size, second), daemon=True),
        fork.Process(target=asking, args=(pair, loop, count, size, first, theirs), daemon=True),
    ]
    for child in children:
        child.start()
    theirs.close()
    try:
        if not mine.poll(60):
            raise TimeoutError(f"{contender} with {loop} did not finish within a minute")
        return list(mine.recv())
    finally:
        for child in children:
            child.join(5)
            child.kill()
            child.join()
        mine.close()
        pair.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the figures into this file")
    options = parser.parse_args(arguments)
    if options.size < 8 or options.size % 8:
        parser.error("--size is a multiple of 8")
    times: dict[tuple[str, str], list[list[int]]] = {}
    for _ in range(options.rounds):
        for loop in loops():
            for contender in CONTENDERS:
                times.setdefault((loop, contender), []).append(measure(contender, loop, options.count, options.size))
    rows = []
    print(f"{options.size} bytes there and back, {options.count} times in each of {options.rounds} rounds; {aio.backend()}; µs")
    print(f"{'loop':8} {'contender':22} {'p50':>8} {'p99':>8} {'rounds p50':>20}")
    for (loop, contender), rounds in times.items():
        every = sorted(each for one in rounds for each in one)
        medians = [round(statistics.median(one) / 1e3, 1) for one in rounds]
        row = {"loop": loop, "contender": contender, "p50_us": statistics.median(every) / 1e3,
               "p99_us": every[len(every) * 99 // 100] / 1e3, "rounds_p50_us": medians, "backend": aio.backend(),
               "count": options.count, "size": options.size}  # fmt: skip
        rows.append(row)
        print(f"{loop:8} {contender:22} {row['p50_us']:8.1f} {row['p99_us']:8.1f} {medians!s:>20}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
