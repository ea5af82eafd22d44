"""Numbers with units, read from the command line and shown on the terminal."""

from __future__ import annotations

import argparse
import math

from shmring.naming import parse_size


def size(text: str) -> int:
    """An argparse type: "65536", "64 KiB", "16 MiB" -> bytes, at least 1."""
    try:
        nbytes = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if nbytes < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: at least 1 byte is needed")
    return nbytes


def seconds(text: str) -> float:
    """An argparse type: a number of seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: 0 seconds or more are needed")
    return number


def format_size(nbytes: int) -> str:
    """A size in memory, in the units that `size` reads: binary ones.

    >>> format_size(1 << 24), format_size(4096), format_size(40_960), format_size(1_000_000)
    ('16 MiB', '4 KiB', '40 KiB', '976.6 KiB')
    """
    number, units = float(nbytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.1f}".removesuffix(".0") + f" {units[0]}"


def format_bytes(nbytes: float) -> str:
    """Three digits and a decimal unit.

    >>> format_bytes(999), format_bytes(31_200_000), format_bytes(2.5e9)
    ('999 B', '31.2 MB', '2.50 GB')
    """
    return _scaled(nbytes, ("B", "kB", "MB", "GB", "TB", "PB"))


def format_count(count: float) -> str:
    """Three digits and a decimal prefix.

    >>> format_count(7), format_count(5_230_000)
    ('7', '5.23 M')
    """
    return _scaled(count, ("", "k", "M", "G", "T", "P")).rstrip()


def some(count: int, thing: str) -> str:
    """A number of things.

    >>> some(1, "message"), some(1200, "message")
    ('1 message', '1,200 messages')
    """
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def format_ns(duration_ns: float) -> str:
    """A duration.

    >>> format_ns(640), format_ns(9_300), format_ns(2_500_000), format_ns(2.5e9), format_ns(1_083e9)
    ('640 ns', '9.30 µs', '2.50 ms', '2.50 s', '1,083 s')
    """
    if duration_ns < 999.5e6:
        return _scaled(duration_ns, ("ns", "µs", "ms"))
    return _scaled(duration_ns / 1e9 * 1e3, ("", "s")) if duration_ns < 999.5e9 else f"{duration_ns / 1e9:,.0f} s"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    step = 0
    # 999.5 would be written "1000" by the formats below.
    while number >= 999.5 and step < len(units) - 1:
        number /= 1000
        step += 1
    digits = 0 if step == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {units[step]}"
