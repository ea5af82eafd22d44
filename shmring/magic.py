"""Is a file a ring's? By how it begins, whatever else is wrong with it: for who removes or lists files without opening them as
rings. One place, so that `shmring.unlink` and the command line agree on what may be removed.
"""

from __future__ import annotations

import errno
import os
import stat

from shmring.errors import LayoutMismatch, mapping_error

MAGIC = b"shmring\0"  # SHMRING_MAGIC of layout.h
# Reads only, waits for nobody (it may be a pipe), and follows no link.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def begins_as_ring(fd: int) -> bool:
    """Does the open file begin with the magic? Damaged, half-made and foreign-version rings do, too."""
    return os.pread(fd, len(MAGIC), 0) == MAGIC


def refuse_other_files(path: str, name: str) -> None:
    """Raise, if what is at `path` is no ring and no symbolic link, which is to be removed in the name of rings.

    Raises
    ------
    LayoutMismatch
        It does not begin as a ring does, or is no regular file; the text says what it is.
    IsDirectory, AccessDenied, TooManyFiles
        It is a folder; it cannot be looked at.
    FileNotFoundError
        There is nothing.
    """
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    if stat.S_ISDIR(mode):
        raise mapping_error(errno.EISDIR, f"remove {name!r}, which is no ring", name)
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise LayoutMismatch(f"{name!r} is no ring, and was not removed: it is {kind}")
    try:
        fd = os.open(path, OPEN_FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise mapping_error(error.errno or 0, f"see whether {name!r} is a ring, before it is removed", name) from None
    try:
        if not begins_as_ring(fd):
            size, begin = os.fstat(fd).st_size, os.pread(fd, len(MAGIC), 0)
            found = f"it has {size} bytes and begins with {begin!r}" if begin else "it is empty"
            raise LayoutMismatch(f"{name!r} is no ring, and was not removed: {found}, a ring begins with {MAGIC!r}")
    finally:
        os.close(fd)
