"""Opens, creates and reserves what a mapping stands on; knows descriptors and names, no addresses.

Every function that returns a descriptor gives it away: the caller closes it. Every OSError becomes the class
that `errors.mapping_error` has for it, with the numbers that this module can find out.
"""

from __future__ import annotations

import errno
import os
import stat

from shmring.errors import (
    HugePagesUnavailable,
    LockLimit,
    MappingError,
    MappingNotFound,
    TooManyMappings,
    mapping_error,
)
from shmring.options import bad_geometry

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 0x0001, 0x0002, 0x0004

ALLOCATION_BYTES = 256 << 10  # in one system call: some ten microseconds

# ---- open --------------------------------------------------------------------------------------------------


def open_file(path: str, *, access: str, create: bool, exclusive: bool, mode: int, flags: int = 0) -> tuple[int, bool]:
    """-> (descriptor, whether this call made the file). `flags`: more of open(2)'s."""
    how = os.O_CLOEXEC | flags | (os.O_RDWR if access == "write" or create else os.O_RDONLY)
    return _open(lambda flags: os.open(path, how | flags, mode), f"open {path!r}", path, create, exclusive)


def open_shm(name: str, *, access: str, create: bool, exclusive: bool, mode: int) -> tuple[int, bool]:
    """-> (descriptor, whether this call made the object)."""
    import posix_ipc

    path = shm_path(name)

    def attempt(flags: int) -> int:
        try:
            return posix_ipc.SharedMemory(
                path, flags=flags, mode=mode, size=0, read_only=access != "write" and not create
            ).fd
        except posix_ipc.ExistentialError as error:
            code = errno.EEXIST if flags & os.O_EXCL else errno.ENOENT
            raise OSError(code, str(error)) from None
        except posix_ipc.PermissionsError as error:
            raise OSError(errno.EACCES, str(error)) from None
        except OSError as error:
            if error.errno is None:  # posix_ipc tells these two by their text only
                raise OSError(errno.EMFILE if "process" in str(error) else errno.ENFILE, str(error)) from None
            raise

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
                raise mapping_error(
                    errno.ENOENT, action, name, numbers="its folder does not exist"
                ) from error
            # Somebody unlinked it between our two attempts: they made progress, we try again.
        except OSError as error:
            raise mapping_error(error.errno or errno.EINVAL, action, name) from error


def _parent_exists(name: str) -> bool:
    return os.path.isdir(os.path.dirname(name) or ".")


def shm_path(name: str) -> str:
    """ "quotes" -> "/quotes", the form that shm_open(3) wants."""
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
        flags |= os.MFD_HUGETLB | (hugetlb_bytes.bit_length() - 1) << 26  # MFD_HUGE_SHIFT
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
        raise mapping_error(
            errno.ENOENT,
            f"map {name!r} as pickled",
            name,
            MappingNotFound,
            "the name stands for another object now",
        )


def seal_against_shrinking(fd: int) -> None:
    import fcntl

    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)


def seal_size(fd: int) -> None:
    """For a ring's memory, whose size is final: it neither shrinks nor grows, and nobody who gets the descriptor can add a seal
    that would keep others from writing."""
    import fcntl

    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)


def is_sealed_against_shrinking(fd: int) -> bool:
    import fcntl

    try:
        return bool(fcntl.fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)
    except OSError:
        return False  # only memfds and tmpfs files know seals


def may_be_cut(fd: int) -> bool:
    """Whether a page of this file can go missing: not when it is sealed against shrinking and has all its
    pages.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    return status.st_blocks * 512 < status.st_size or not is_sealed_against_shrinking(fd)


# ---- reserve -----------------------------------------------------------------------------------------------


def extend(
    fd: int, end: int, *, reserve: bool, allocate: bool = True, in_memory: bool, action: str, name: object
) -> None:
    """Make the file at least `end` bytes long; undone when it fails.

    With `reserve` there must be room for all of its pages, and with `allocate` too they are allocated here.
    """
    status = os.fstat(fd)
    had, held = status.st_size, status.st_blocks * 512
    _check_file_limit(end, had, action, name)
    try:
        if had < end:
            os.ftruncate(fd, end)
        if reserve:
            _check_room(fd, end - held, in_memory, action, name)
            if allocate:
                _allocate(fd, end)
    except OSError as error:
        if had < end:
            try:
                os.ftruncate(fd, had)
            except OSError:
                pass  # sealed against shrinking: the caller gives the descriptor up anyway
        if isinstance(error, MappingError):
            raise
        raise mapping_error(error.errno, action, name, numbers=_room_text(fd, end - held)) from error


def _allocate(fd: int, end: int) -> None:
    """Piece by piece, because a signal makes tmpfs give up, undo the whole piece and begin again: with a profiler's timer on, a
    large one would never be finished; not so on the newest kernels.
    """
    for start in range(0, end, ALLOCATION_BYTES):
        os.posix_fallocate(fd, start, min(ALLOCATION_BYTES, end - start))


def _check_file_limit(end: int, had: int, action: str, name: object) -> None:
    """Before the kernel does, because going over RLIMIT_FSIZE sends SIGXFSZ, and its default action kills."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and end > max(limit, had):
        raise mapping_error(errno.EFBIG, action, name, numbers=f"needed {end} bytes, RLIMIT_FSIZE is {limit}")


def _check_room(fd: int, needed: int, in_memory: bool, action: str, name: object) -> None:
    """Before allocating, because tmpfs fills itself to the brim first, and memory without a limit calls the
    OOM killer.
    """
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
    """Bytes that an ordinary user may still allocate on the descriptor's file system; None where it has no
    limit.
    """
    space = os.fstatvfs(fd)
    return space.f_bavail * space.f_frsize if space.f_blocks else None


def available_memory() -> int:
    """Bytes of memory and swap that can be had without killing anybody (a snapshot)."""
    return sum(meminfo().get(key, 0) for key in ("MemAvailable", "SwapFree"))


def meminfo() -> dict[str, int]:
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return {field[0].rstrip(":"): int(field[1]) * (1024 if len(field) > 2 else 1) for field in fields}


# ---- why mmap said no --------------------------------------------------------------------------------------


def map_failure(code: int, action: str, name: object) -> MappingError:
    """The error for a failed mmap, mremap or mprotect: tells the three meanings of ENOMEM apart."""
    import resource

    if code == errno.ENOMEM:
        count, limit = _map_count()
        if count + 2 >= limit:  # a mirrored mapping needs up to three more entries at once
            return mapping_error(
                code, action, name, TooManyMappings, f"{count} mappings, the limit is {limit}"
            )
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        had = "unlimited" if address_space == resource.RLIM_INFINITY else f"{address_space} bytes"
        return mapping_error(code, action, name, numbers=f"address space limit {had}")
    return mapping_error(code, action, name)


def _map_count() -> tuple[int, int]:
    """Mappings of this process, and how many it may have."""
    try:
        with open("/proc/self/maps", "rb") as lines, open("/proc/sys/vm/max_map_count", "rb") as limit:
            return sum(1 for _ in lines), int(limit.read())
    except OSError:  # no descriptor left, or no /proc: then the error is without the numbers
        return 0, 1 << 62


def lock_failure(code: int, size: int, name: object) -> MappingError:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    had = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit} bytes"
    return mapping_error(code, f"lock {size} bytes", name, LockLimit, f"RLIMIT_MEMLOCK is {had}")
