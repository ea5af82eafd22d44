"""The messages and their check: both sides build the same pool, so that the receiver knows every byte it must
get.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from .shapes import MIB, OBJECT_SHAPES, Case

BLOCK = 1 * MIB - 1  # odd, so that no two pages of a large message are alike


def build(case: Case, spoil: bool = False, first: int = 0) -> list[Any]:
    """The pool: message k starts with k as a 64-bit number, then bytes drawn from the seed k, repeated; or, where
    messages are objects, it is a small dict. `first` is the number of the first one.
    """
    if case.shape in OBJECT_SHAPES:
        return [small_dict(k + 1000 * (spoil and k == 1)) for k in range(case.pool)]
    messages = []
    for k in range(first, first + case.pool):
        block = random.Random(k).randbytes(min(case.size, BLOCK))
        body = block * (case.size // len(block) + 1)
        messages.append((k.to_bytes(8, "little") + body)[: case.size])
    if spoil:
        victim = min(1, case.pool - 1)
        spoiled = bytearray(messages[victim])
        spoiled[-1] ^= 0x40
        messages[victim] = bytes(spoiled)
    return messages


def small_dict(k: int) -> dict[str, Any]:
    """What a program might tell another one: some numbers, a word, a flag; pickle makes about 100 bytes of it."""
    return {"id": k, "user": f"user-{k % 7}", "price": k / 8, "size": 100 + k, "side": "buy" if k % 2 else "sell", "live": True}


def record_type() -> Any:
    """The dtype of a typed record of 32 bytes."""
    import numpy

    return numpy.dtype([("id", "<u8"), ("time", "<f8"), ("values", "<f4", (4,))])


def record_blocks(case: Case, spoil: bool = False) -> list[Any]:
    """The pool of typed blocks: arrays of `case.batch` records, numbered through."""
    import numpy

    blocks = []
    for k in range(case.pool):
        block = numpy.zeros(case.batch, record_type())
        block["id"] = numpy.arange(k * case.batch, (k + 1) * case.batch)
        block["time"] = block["id"] / 16
        block["values"] = numpy.random.default_rng(k).random((case.batch, 4), numpy.float32)
        blocks.append(block)
    if spoil:
        blocks[1]["id"][-1] ^= 0x40
    return blocks


def array_value(i: int) -> float:
    """What array i is filled with."""
    return float(i % 97 + 1)


def array_sum(i: int, size: int) -> int:
    """What the consumer's sum over the 64-bit words of array i must be."""
    (bits,) = struct.unpack("<I", struct.pack("<f", array_value(i)))
    return (bits << 32 | bits) * (size // 8) % (1 << 64)
