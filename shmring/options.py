"""How to map: the choices of a caller, checked once, and what becomes of mmap's and madvise's own constants.
"""

from __future__ import annotations

import errno
import operator
import os

from shmring.errors import BadGeometry

MAX_END = 1 << 62  # bytes; off_t minus room for rounding up to any page size
DEFAULT_NAME = "shmring"  # of memfds, as /proc shows them

# mmap(2) flags that a C programmer may look for: what becomes of each. Values of Linux on x86-64 and arm64.
IGNORED_FLAGS = {
    "MAP_FILE": 0x0,  # means nothing
    "MAP_DENYWRITE": 0x0800,  # ignored by Linux since 2.0: writers get ETXTBSY only on running programs
    "MAP_EXECUTABLE": 0x1000,  # ignored by Linux
    "MAP_NONBLOCK": 0x10000,  # turns MAP_POPULATE into nothing since 2.6.23; populate=True always populates
    "MAP_STACK": 0x20000,  # has no effect on Linux
}
REFUSED_FLAGS = {
    "MAP_SHARED": (0x01, "say access='write' or access='read'"),
    "MAP_PRIVATE": (0x02, "say access='copy'"),
    "MAP_FIXED": (0x10, "it would replace memory that somebody uses; addresses are not chosen by the caller"),
    "MAP_ANONYMOUS": (0x20, "use Mapping.anonymous"),
    "MAP_32BIT": (0x40, "no code here needs low addresses"),
    "MAP_GROWSDOWN": (0x0100, "a mapping that grows by itself has no size to check against"),
    "MAP_LOCKED": (0x2000, "say lock=True"),
    "MAP_NORESERVE": (0x4000, "say noreserve=True"),
    "MAP_POPULATE": (0x8000, "say populate=True"),
    "MAP_HUGETLB": (0x40000, "say huge=True"),
    "MAP_SYNC": (0x80000, "persistent memory is not supported; use flush()"),
    "MAP_FIXED_NOREPLACE": (0x100000, "addresses are not chosen by the caller"),
    "MAP_UNINITIALIZED": (0x4000000, "new memory is always zero"),
}
ADVICE = {
    "normal": 0,
    "random": 1,
    "sequential": 2,
    "willneed": 3,
    "dontneed": 4,
    "remove": 9,
    "mergeable": 12,
    "unmergeable": 13,
    "hugepage": 14,
    "nohugepage": 15,
    "dontdump": 16,
    "dodump": 17,
    "cold": 20,
    "pageout": 21,
    "populate_read": 22,
    "populate_write": 23,
    "collapse": 25,
}
REFUSED_ADVICE = {
    "dontfork": "a forked child would crash where it looks at its inherited Mapping",
    "dofork": "it only undoes dontfork",
    "free": "it is for private anonymous memory",
    "wipeonfork": "it is for private anonymous memory",
    "keeponfork": "it is for private anonymous memory",
    "hwpoison": "it damages the machine's memory on purpose",
}
ACCESS = ("write", "read", "copy")


class Options:
    """How to map: checked here once, carried along in pickles. See `shmring.Mapping` for what each one means.
    """

    __slots__ = ("access", "flags", "huge", "lock", "mirrored", "noreserve", "offset", "populate")

    def __init__(
        self,
        *,
        offset: int = 0,
        access: str = "write",
        populate: bool = False,
        lock: bool = False,
        noreserve: bool = False,
        huge: bool | int = False,
        mirrored: bool = False,
        flags: int = 0,
    ) -> None:
        if access not in ACCESS:
            raise ValueError(f"access must be one of {', '.join(map(repr, ACCESS))}, not {access!r}")
        if mirrored and access == "copy":
            raise bad_geometry(
                "mirrored=True with access='copy': the two private copies would not see each other"
            )
        if offset < 0:
            raise bad_geometry(f"offset must not be negative, it is {offset}")
        check_flags(flags)
        self.offset, self.access, self.flags, self.huge = offset, access, flags, huge
        self.populate, self.lock, self.noreserve, self.mirrored = populate, lock, noreserve, mirrored

    def __reduce__(self) -> tuple:
        return _options, ({name: getattr(self, name) for name in self.__slots__},)


def _options(values: dict) -> Options:
    return Options(**values)


def bad_geometry(text: str) -> BadGeometry:
    return BadGeometry(errno.EINVAL, text)


def check_flags(flags: int) -> None:
    """Accept what Linux ignores anyway; refuse the rest, with the keyword that does it here."""
    rest = flags
    for name, (bit, instead) in REFUSED_FLAGS.items():
        if rest & bit:
            raise bad_geometry(f"{name} is refused: {instead}")
    for bit in IGNORED_FLAGS.values():
        rest &= ~bit
    if rest:
        raise bad_geometry(f"unknown mmap flags {rest:#x}")


def advice_number(advice: str | int) -> int:
    """The MADV_* number; only those after which every access still has a page or an error."""
    if advice in REFUSED_ADVICE:
        raise bad_geometry(f"advice {advice!r} is refused: {REFUSED_ADVICE[advice]}")
    if advice in ADVICE:
        return ADVICE[advice]
    if advice in ADVICE.values():
        return advice
    raise bad_geometry(f"unknown advice {advice!r}: use one of {', '.join(ADVICE)}")


def checked_size(size: int | None, offset: int, fd: int = -1) -> int:
    """The number of bytes to map; None: the rest of the file from offset on."""
    if size is None:
        end = os.fstat(fd).st_size
        if end <= offset:
            raise bad_geometry(
                f"the file has {end} bytes, none of them after offset {offset}: say which size to map"
            )
        return end - offset
    size = operator.index(size)
    if size <= 0:
        raise bad_geometry(f"size must be positive, it is {size}")
    if size + offset > MAX_END:
        raise bad_geometry(f"offset {offset} + size {size} is more than a file can have ({MAX_END} bytes)")
    return size
