"""Names and sizes as users write them, and read them in messages.

A name without a slash is a POSIX shared memory object; a name with one, or a PathLike, is a file. A ring without a name has a
label.
"""

from __future__ import annotations

import os
from collections import namedtuple

# Where Linux keeps POSIX shared memory objects: shm_overview(7).
SHM_FOLDER = "/dev/shm"

_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


class Place(namedtuple("Place", "name path is_shm")):
    """Where a name leads: what to call it in messages (str), its path in the file system (str), and whether it is shm."""

    __slots__ = ()


def label_of(name: str | None, fd: int) -> str:
    """What messages call a ring: its name; or, if it has none, where the process that made or opened it has it, which the
    command line takes for a name.
    """
    return f"/proc/{os.getpid()}/fd/{fd} (anonymous)" if name is None else repr(name)


def place_of(name: str | os.PathLike) -> Place:
    """The place that a ring's name stands for.

    Raises
    ------
    ValueError
        The name is empty, too long, or cannot be a file's name.
    TypeError
        It is neither a str nor a PathLike that gives one.
    """
    if isinstance(name, os.PathLike):
        text, is_shm = os.fspath(name), False
    elif isinstance(name, str):
        text, is_shm = name, "/" not in name
    else:
        raise TypeError(f"a ring's name is a str or a path, not {type(name).__name__}")
    if not isinstance(text, str):
        raise TypeError(f"a ring's path is a str, not {type(text).__name__}")
    if not is_shm:
        if not text or "\0" in text:
            raise ValueError(f"{text!r} cannot be a file's path")
        if text.endswith("/"):
            raise ValueError(f"{text!r} ends with a slash: it is a folder's path, not a file's")
        return Place(text, text, False)
    if text in ("", ".", "..") or "\0" in text:
        raise ValueError(f"{text!r} cannot be the name of a shared memory object")
    if len(os.fsencode(text)) > 255:
        raise ValueError(f"the name has {len(os.fsencode(text))} bytes; a shared memory object's has at most 255")
    return Place(text, f"{SHM_FOLDER}/{text}", True)


def parse_size(size: int | str) -> int:
    """Bytes, from an int or from text such as "64 KiB", "16 MiB", "1 GB" or "4096".

    Raises
    ------
    ValueError
        The text is no size, or the size is not positive.
    TypeError
        It is neither an int nor a str.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        if hasattr(size, "__index__") and not isinstance(size, bool):
            size = size.__index__()
        else:
            raise TypeError(f"a size is an int or a str like '16 MiB', not {type(size).__name__}")
    if isinstance(size, str):
        text = size.strip()
        figures = text.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        unit = _UNITS.get(text[len(figures) :].lower())
        whole, point, fraction = figures.rstrip().partition(".")
        digits = whole + (fraction if point else "0")
        if unit is None or not whole or (point and not fraction) or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{size!r} is no size; write bytes, or a number with KiB, MiB, GiB, kB, MB or GB")
        size = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if point else 0)
    if size <= 0:
        raise ValueError(f"a size must be positive, not {size}")
    return size
