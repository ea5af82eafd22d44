"""What this machine offers in huge pages: the hugetlb pool, and transparent ones by madvise."""

from __future__ import annotations

import errno
import operator
import os

from shmring.backing import meminfo
from shmring.errors import HugePagesUnavailable, mapping_error
from shmring.options import bad_geometry


def default_page() -> int:
    return meminfo().get("Hugepagesize", 2 << 20)


def pool_bytes(page: int) -> int:
    """Bytes in huge pages of that size that can be had now, reserved pool and overcommit together (a
    snapshot).
    """
    folder = f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB/"

    def read(name: str) -> int:
        try:
            with open(folder + name, encoding="ascii") as file:
                return int(file.read())
        except FileNotFoundError:
            return 0

    free = read("free_hugepages") - read("resv_hugepages")
    return page * (free + max(0, read("nr_overcommit_hugepages") - read("surplus_hugepages")))


def hugetlb_page(huge: bool | int, size: int) -> int:
    """Which huge page a memfd of that size gets; 0: none, because none was asked for or madvise can do it."""
    if not huge:
        return 0
    page = default_page() if huge is True else operator.index(huge)
    if page <= 0 or page & (page - 1):
        raise bad_geometry(f"huge must be True or a page size, a power of two, in bytes; it is {huge}")
    if pool_bytes(page) >= -(-size // page) * page:
        return page
    if huge is True and is_transparent():
        return 0
    raise mapping_error(
        errno.ENOMEM, f"map {size} bytes in huge pages", None, HugePagesUnavailable, text(page)
    )


def advised_page(fd: int, huge: bool | int, name: object) -> int:
    """The alignment for a mapping that is to get transparent huge pages by madvise."""
    if huge is True and is_transparent(fd):
        return default_page()
    raise mapping_error(errno.ENOMEM, "map in huge pages", name, HugePagesUnavailable, text())


def is_transparent(fd: int = -1) -> bool:
    """Whether MADV_HUGEPAGE has an effect on that file, or on a memfd; the kernel accepts and forgets it
    otherwise.
    """
    kind, options = ("tmpfs", "") if fd < 0 else _file_system(os.fstat(fd).st_dev)
    if kind != "tmpfs":
        return _chosen("enabled") in ("always", "madvise")
    everywhere = _chosen("shmem_enabled")
    if everywhere in ("deny", "force"):
        return everywhere == "force"
    if options:  # a mounted tmpfs has a setting of its own
        return any(f"huge={how}" in options.split(",") for how in ("always", "within_size", "advise"))
    return everywhere in ("always", "within_size", "advise")


def is_tmpfs(fd: int) -> bool:
    return _file_system(os.fstat(fd).st_dev)[0] == "tmpfs"


def _chosen(file: str) -> str:
    try:
        with open(f"/sys/kernel/mm/transparent_hugepage/{file}", encoding="ascii") as setting:
            return setting.read().partition("[")[2].partition("]")[0]
    except FileNotFoundError:
        return "never"


def _file_system(device: int) -> tuple[str, str]:
    """Type and mount options; a device that is not mounted anywhere is the kernel's own tmpfs, home of
    memfds.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] == wanted:
                kind, _, options = rest.split()[:3]
                return kind, options
    return "tmpfs", ""


def text(page: int = 0) -> str:
    page = page or default_page()
    return (
        f"no huge pages of {page >> 10} KiB are free. Either set some aside "
        "(echo 64 > /proc/sys/vm/nr_hugepages, then Mapping.memfd or a file on "
        "a hugetlbfs mount), or let the kernel use them for shared memory "
        "(echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled)"
    )
