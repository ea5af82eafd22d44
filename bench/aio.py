"""The loops of two asyncio programs that answer each other: awaited calls, on asyncio's own event loop or on uvloop's.

An endpoint offers `connect()`, a coroutine that returns two more coroutine functions: one sends a message, one receives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from itertools import cycle, islice, pairwise, repeat
from typing import Any

from . import payload
from .shapes import Case
from .span import Start, clock


def missing(case: Case) -> str:
    """Why that event loop is not there, or ""."""
    return "needs pip install uvloop" if case.loop == "uvloop" and not find_spec("uvloop") else ""


def drive(case: Case, work: Coroutine[Any, Any, dict]) -> dict:
    if case.loop == "uvloop":
        import uvloop

        return uvloop.run(work)
    return asyncio.run(work)


def ping(end: Any, case: Case, start: Start) -> dict:
    return drive(case, _ping(end, case, start))


def pong(end: Any, case: Case, start: Start) -> dict:
    return drive(case, _pong(end, case, start))


async def _ping(end: Any, case: Case, start: Start) -> dict:
    sent, expected = payload.build(case, case.spoil), payload.build(case)
    send, recv = await end.connect()
    stamps: list[int] = []
    wrong = 0
    for message, answer in islice(cycle(zip(sent, expected, strict=True)), case.warmup):
        await send(message)
        wrong += await recv() != answer
    span = start()
    for message, answer in islice(cycle(zip(sent, expected, strict=True)), case.count):
        await send(message)
        stamps.append(clock())
        wrong += await recv() != answer
    return span.result(wrong, samples_ns=[b - a for a, b in pairwise(stamps)])


async def _pong(end: Any, case: Case, start: Start) -> dict:
    send, recv = await end.connect()
    for _ in repeat(None, case.warmup):
        await send(await recv())
    span = start()
    for _ in repeat(None, case.count):
        await send(await recv())
    return span.result()
