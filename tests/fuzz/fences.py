"""Inaccessible pages around every mapping of a file, so that one byte too far is a SIGSEGV and not somebody's memory."""

from __future__ import annotations

import ctypes

PAGE = 4096
_PROT_NONE, _PRIVATE_ANONYMOUS, _FIXED_NOREPLACE = 0, 0x22, 0x100000
_FAILED = ctypes.c_void_p(-1).value
_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def part() -> None:
    """An inaccessible page where the next mapping would go, so that two mappings of a file do not touch."""
    _mmap(None, PAGE, _PROT_NONE, _PRIVATE_ANONYMOUS, -1, 0)


def fill_holes() -> None:
    """Make the holes between this process's mappings inaccessible, so that new mappings go below all of them."""
    with open("/proc/self/maps") as lines:
        starts = [int(line.split("-")[0], 16) for line in lines]
    lowest = min(start for start in starts if start > 7 << 44)
    for pages in (256, 64, 16, 4, 1):
        while _mmap(None, pages * PAGE, _PROT_NONE, _PRIVATE_ANONYMOUS, -1, 0) > lowest:
            pass


def fence(path: str) -> tuple[int, int]:
    """Put an inaccessible page before and behind each of this process's mappings of the file, if there is none.

    Returns
    -------
    (int, int)
        How many of their ends there are, and how many of them touch accessible memory of something else all the same.
    """
    with open("/proc/self/maps") as lines:
        fields = [line.split() for line in lines]
    spans = [(*(int(part, 16) for part in each[0].split("-")), each[1], " ".join(each[5:])) for each in fields]
    ours: list[list[int]] = []
    for start, end, _, name in spans:
        if name.removesuffix(" (deleted)") != path:
            continue
        if ours and ours[-1][1] == start:
            ours[-1][1] = end  # the second copy, or pages that another right was given to
        else:
            ours.append([start, end])
    open_ends = 0
    for start, end in ours:
        for page in (start - PAGE, end):
            is_taken = _mmap(page, PAGE, _PROT_NONE, _PRIVATE_ANONYMOUS | _FIXED_NOREPLACE, -1, 0) == _FAILED
            if is_taken and any(first <= page < last and rights[:2] != "--" for first, last, rights, _ in spans):
                open_ends += 1
    return 2 * len(ours), open_ends
