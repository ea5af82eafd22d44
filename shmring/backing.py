"""Opens, creates and reserves what a mapping stands on; knows descriptors and names, no addresses.

Every function that returns a descriptor gives it away: the caller closes it. Every OSError becomes the class that
`errors.mapping_error` has for it, with the numbers that this module can find out.
"""

from __future__ import annotations

import errno
import operator
import os
import stat

from shmring.errors import (
    BadGeometry,
    HugePagesUnavailable,
    MappingError,
    MappingNotFound,
    TooManyMappings,
    mapping_error,
)

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SHRINK = 0x0002
MAPPING_NAME = "shmring"
MAX_END = 1 << 62

# mmap(2) flags that a C programmer may look for: what becomes of each. Values of Linux on x86-64 and arm64.
IGNORED_FLAGS = {
    "MAP_FILE": 0x0,            # means nothing
    "MAP_DENYWRITE": 0x0800,    # ignored by Linux since 2.0: writers get ETXTBSY only on running programs
    "MAP_EXECUTABLE": 0x1000,   # ignored by Linux
    "MAP_NONBLOCK": 0x10000,    # turns MAP_POPULATE into nothing since 2.6.23; populate=True always populates
    "MAP_STACK": 0x20000,       # has no effect on Linux
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
    "normal": 0, "random": 1, "sequential": 2, "willneed": 3, "dontneed": 4, "remove": 9, "mergeable": 12,
    "unmergeable": 13, "hugepage": 14, "nohugepage": 15, "dontdump": 16, "dodump": 17, "cold": 20, "pageout": 21,
    "populate_read": 22, "populate_write": 23, "collapse": 25,
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
    """How to map: checked here once, carried along in pickles. See `shmring.Mapping` for what each one means."""

    __slots__ = ("access", "flags", "huge", "lock", "mirrored", "noreserve", "offset", "populate")

    def __init__(self, *, offset: int = 0, access: str = "write", populate: bool = False, lock: bool = False,
                 noreserve: bool = False, huge: bool | int = False, mirrored: bool = False, flags: int = 0) -> None:
        if access not in ACCESS:
            raise ValueError(f"access must be one of {', '.join(map(repr, ACCESS))}, not {access!r}")
        if mirrored and access == "copy":
            raise bad_geometry("mirrored=True with access='copy': the two private copies would not see each other")
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
            raise bad_geometry(f"the file has {end} bytes, none of them after offset {offset}: say which size to map")
        return end - offset
    size = operator.index(size)
    if size <= 0:
        raise bad_geometry(f"size must be positive, it is {size}")
    if size + offset > MAX_END:
        raise bad_geometry(f"offset {offset} + size {size} is more than a file can have ({MAX_END} bytes)")
    return size


# ---- open ------------------------------------------------------------------------------------------------------------

def open_file(path: str, *, access: str, create: bool, exclusive: bool, mode: int) -> tuple[int, bool]:
    """-> (descriptor, whether this call made the file)."""
    how = os.O_CLOEXEC | (os.O_RDWR if access == "write" or create else os.O_RDONLY)
    return _open(lambda flags: os.open(path, how | flags, mode), f"open {path!r}", path, create, exclusive)


def open_shm(name: str, *, access: str, create: bool, exclusive: bool, mode: int) -> tuple[int, bool]:
    """-> (descriptor, whether this call made the object)."""
    import posix_ipc

    path = shm_path(name)

    def attempt(flags: int) -> int:
        try:
            return posix_ipc.SharedMemory(path, flags=flags, mode=mode, size=0,
                                          read_only=access != "write" and not create).fd
        except posix_ipc.ExistentialError as error:
            code = errno.EEXIST if flags & os.O_EXCL else errno.ENOENT
            raise OSError(code, str(error)) from None
        except posix_ipc.PermissionsError as error:
            raise OSError(errno.EACCES, str(error)) from None

    return _open(attempt, f"open shared memory {name!r}", name, create, exclusive)


def _open(attempt, action: str, name: str, create: bool, exclusive: bool) -> tuple[int, bool]:
    if exclusive and not create:
        raise ValueError("exclusive=True goes with create=True")
    while True:
        try:
            if not create:
                return attempt(0), False
            try:
                return attempt(os.O_CREAT | os.O_EXCL), True
            except FileExistsError:
                if exclusive:
                    raise
            return attempt(0), False
        except FileNotFoundError as error:
            if not create:
                raise mapping_error(errno.ENOENT, action, name) from error
            if not _parent_exists(name):
                raise mapping_error(errno.ENOENT, action, name, numbers="its folder does not exist") from error
            # Somebody unlinked it between our two attempts: they made progress, we try again.
        except OSError as error:
            raise mapping_error(error.errno or errno.EINVAL, action, name) from error


def _parent_exists(name: str) -> bool:
    return os.path.isdir(os.path.dirname(name) or ".")


def shm_path(name: str) -> str:
    """"quotes" -> "/quotes", the form that shm_open(3) wants."""
    bare = name[1:] if name.startswith("/") else name
    if not bare or "/" in bare or "\0" in bare or bare in (".", "..") or len(os.fsencode(bare)) > 255:
        raise bad_geometry(f"{name!r} is no name for shared memory: 1 to 255 bytes without '/'")
    return "/" + bare


def unlink_shm(name: str) -> None:
    """Remove the name of a POSIX shared memory object; mappings of it live on.

    Raises MappingNotFound where nothing has that name.
    """
    import posix_ipc

    try:
        posix_ipc.unlink_shared_memory(shm_path(name))
    except posix_ipc.ExistentialError as error:
        raise mapping_error(errno.ENOENT, f"unlink shared memory {name!r}", name) from error
    except posix_ipc.PermissionsError as error:
        raise mapping_error(errno.EACCES, f"unlink shared memory {name!r}", name) from error


def open_memfd(name: str, hugetlb_bytes: int = 0) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if hugetlb_bytes:
        flags |= os.MFD_HUGETLB | (hugetlb_bytes.bit_length() - 1) << 26      # MFD_HUGE_SHIFT
    try:
        return os.memfd_create(name, flags)
    except OSError as error:
        cause = HugePagesUnavailable if hugetlb_bytes else None
        raise mapping_error(error.errno, f"create a memfd {name!r}", cause=cause) from error


def duplicate(fd: int) -> int:
    try:
        return os.dup(fd)
    except (OSError, OverflowError) as error:
        code = getattr(error, "errno", errno.EBADF)
        raise mapping_error(code, f"duplicate descriptor {fd}") from error


def identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def check_identity(fd: int, expected: tuple[int, int], name: str) -> None:
    if identity(fd) != expected:
        raise mapping_error(errno.ENOENT, f"map {name!r} as pickled", name, MappingNotFound,
                            "the name stands for another object now")


def seal_against_shrinking(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)


def is_sealed_against_shrinking(fd: int) -> bool:
    import fcntl

    try:
        return bool(fcntl.fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)
    except OSError:
        return False        # only memfds and tmpfs files know seals


def may_be_cut(fd: int) -> bool:
    """Whether a page of this file can go missing: not when it is sealed against shrinking and has all its pages."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    return status.st_blocks * 512 < status.st_size or not is_sealed_against_shrinking(fd)


# ---- reserve ---------------------------------------------------------------------------------------------------------

def extend(fd: int, end: int, *, reserve: bool, in_memory: bool, action: str, name: object) -> None:
    """Make the file at least `end` bytes long, with its pages allocated when `reserve`; undone when it fails."""
    status = os.fstat(fd)
    had, held = status.st_size, status.st_blocks * 512
    _check_file_limit(end, had, action, name)
    try:
        if had < end:
            os.ftruncate(fd, end)
        if reserve:
            _check_room(fd, end - held, in_memory, action, name)
            os.posix_fallocate(fd, 0, end)
    except OSError as error:
        if had < end:
            try:
                os.ftruncate(fd, had)
            except OSError:
                pass        # sealed against shrinking: the caller gives the descriptor up anyway
        if isinstance(error, MappingError):
            raise
        raise mapping_error(error.errno, action, name, numbers=_room_text(fd, end - held)) from error


def _check_file_limit(end: int, had: int, action: str, name: object) -> None:
    """Before the kernel does, because going over RLIMIT_FSIZE sends SIGXFSZ, and its default action kills."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and end > max(limit, had):
        raise mapping_error(errno.EFBIG, action, name, numbers=f"needed {end} bytes, RLIMIT_FSIZE is {limit}")


def _check_room(fd: int, needed: int, in_memory: bool, action: str, name: object) -> None:
    """Before allocating, because tmpfs fills itself to the brim first, and memory without a limit calls the OOM killer."""
    free = free_bytes(fd)
    if in_memory:
        memory = available_memory()
        free = memory if free is None else min(free, memory)
    if free is not None and needed > free:
        raise mapping_error(errno.ENOSPC, action, name, numbers=f"needed {needed} bytes, free {free}")


def _room_text(fd: int, needed: int) -> str:
    free = free_bytes(fd)
    return f"needed {needed} bytes" + ("" if free is None else f", free {free}")


def free_bytes(fd: int) -> int | None:
    """Bytes that an ordinary user may still allocate on the descriptor's file system; None where it has no limit."""
    space = os.fstatvfs(fd)
    return space.f_bavail * space.f_frsize if space.f_blocks else None


def available_memory() -> int:
    """Bytes of memory and swap that can be had without killing anybody (a snapshot)."""
    return sum(_meminfo().get(key, 0) for key in ("MemAvailable", "SwapFree"))


def _meminfo() -> dict[str, int]:
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return {field[0].rstrip(":"): int(field[1]) * (1024 if len(field) > 2 else 1) for field in fields}


# ---- why mmap said no ------------------------------------------------------------------------------------------------

def map_failure(code: int, action: str, name: object, *, hugetlb: bool = False) -> MappingError:
    """The error for a failed mmap, mremap or mprotect: tells the three meanings of ENOMEM apart."""
    import resource

    if code == errno.ENOMEM and hugetlb:
        return mapping_error(code, action, name, HugePagesUnavailable, huge_pages_text())
    if code == errno.ENOMEM:
        with open("/proc/self/maps", "rb") as lines:
            count = sum(1 for _ in lines)
        with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
            limit = int(file.read())
        if count + 2 >= limit:      # a mirrored mapping needs up to three more entries at once
            return mapping_error(code, action, name, TooManyMappings, f"{count} mappings, the limit is {limit}")
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        had = "unlimited" if address_space == resource.RLIM_INFINITY else f"{address_space} bytes"
        return mapping_error(code, action, name, numbers=f"address space limit {had}")
    return mapping_error(code, action, name)


def lock_failure(code: int, size: int, name: object) -> MappingError:
    import resource

    from shmring.errors import LockLimit

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    had = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit} bytes"
    return mapping_error(code, f"lock {size} bytes", name, LockLimit, f"RLIMIT_MEMLOCK is {had}")


# ---- huge pages ------------------------------------------------------------------------------------------------------

def default_huge_page() -> int:
    return _meminfo().get("Hugepagesize", 2 << 20)


def hugetlb_room(page: int) -> int:
    """Bytes in huge pages of that size that can be had now, reserved pool and overcommit together (a snapshot)."""
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
    page = default_huge_page() if huge is True else operator.index(huge)
    if page <= 0 or page & (page - 1):
        raise bad_geometry(f"huge must be True or a page size, a power of two, in bytes; it is {huge}")
    if hugetlb_room(page) >= -(-size // page) * page:
        return page
    if huge is True and transparent_huge("memfd"):
        return 0
    raise mapping_error(errno.ENOMEM, f"map {size} bytes in huge pages", None, HugePagesUnavailable, huge_pages_text(page))


def advised_huge_page(fd: int, kind: str, huge: bool | int, name: object) -> int:
    """The alignment for a mapping that is to get transparent huge pages by madvise."""
    if huge is True and transparent_huge(kind):
        return default_huge_page()
    raise mapping_error(errno.ENOMEM, "map in huge pages", name, HugePagesUnavailable, huge_pages_text())


def transparent_huge(kind: str) -> bool:
    """Whether MADV_HUGEPAGE has an effect on this kind of backing; the kernel accepts and forgets it otherwise."""
    file = "enabled" if kind == "file" else "shmem_enabled"
    try:
        with open(f"/sys/kernel/mm/transparent_hugepage/{file}", encoding="ascii") as setting:
            chosen = setting.read().partition("[")[2].partition("]")[0]
    except FileNotFoundError:
        return False
    return chosen in ("always", "madvise", "within_size", "advise", "force")


def huge_pages_text(page: int = 0) -> str:
    page = page or default_huge_page()
    return (f"no huge pages of {page >> 10} KiB are free. Either set some aside (echo 64 > /proc/sys/vm/nr_hugepages, "
            "then Mapping.memfd or a file on a hugetlbfs mount), or let the kernel use them for shared memory "
            "(echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled)")
