"""The messages and their check: both sides build the same pool, so that the receiver knows every byte it must
get.
"""

from __future__ import annotations

import random
import struct

from .shapes import MIB, Case

BLOCK = 1 * MIB - 1  # odd, so that no two pages of a large message are alike


def build(case: Case, spoil: bool = False, first: int = 0) -> list[bytes]:
    """The pool: message k starts with k as a 64-bit number, then bytes drawn from the seed k, repeated.
    `first` is the number of the first one.
    """
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


def array_value(i: int) -> float:
    """What array i is filled with."""
    return float(i % 97 + 1)


def array_sum(i: int, size: int) -> int:
    """What the consumer's sum over the 64-bit words of array i must be."""
    (bits,) = struct.unpack("<I", struct.pack("<f", array_value(i)))
    return (bits << 32 | bits) * (size // 8) % (1 << 64)
