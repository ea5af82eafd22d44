"""The rings of this machine: in shared memory, in files, and those that live processes have mapped.

    /dev/shm          every ring in shared memory
    /proc/PID/maps    files that somebody has mapped; names that are gone, and memfds, are reached by /proc/PID/fd/N

Everything is opened for reading only, without waiting (it may be a pipe) and without following a link that is not the kernel's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import shmring
from shmring.magic import OPEN_FLAGS, begins_as_ring
from shmring.naming import SHM_FOLDER, place_of
from shmring.ring import Ring
from shmring.trust import Trust

# A descriptor of a process: the kernel's own link, to what no name leads to.
DESCRIPTOR = re.compile(r"/proc/(\d+|self)/fd/\d+")
MAPS_LINE = re.compile(r"[0-9a-f]+-[0-9a-f]+ ..(.)(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) +(.*)")


@dataclass
class Found:
    """Something that is a ring, or may be one that cannot be looked at."""

    name: str  # what other commands take
    kind: str  # "shm" | "file" | "memfd" | "unlinked"
    nbytes: int = 0  # of memory or disk that it takes
    size: int = 0
    uid: int = -1
    key: tuple[int, int] = (0, 0)  # device and inode
    error: str = ""  # why there is no ring to look at
    is_ring: bool = True  # False: nobody knows
    mapped_by: list[int] = field(default_factory=list)  # pids, as far as /proc tells


def shm_names() -> list[str]:
    """Names of rings in shared memory that this user can read."""
    return [found.name for found in shared_memory() if found.is_ring]


def shared_memory() -> Iterator[Found]:
    """Rings in shared memory, and what there may be one and cannot be read."""
    try:
        names = sorted(os.listdir(SHM_FOLDER))
    except OSError:
        return
    for name in names:
        found = look(f"{SHM_FOLDER}/{name}", name, "shm")
        if found is not None:
            yield found


def look(path: str, name: str, kind: str, flags: int = OPEN_FLAGS) -> Found | None:
    """What is at `path`, if it is a ring or cannot be read."""
    try:
        if flags & os.O_NOFOLLOW and not stat.S_ISREG(os.lstat(path).st_mode):
            return None  # and not opened: that alone may mean something to whoever has the other end of a pipe
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            return None  # gone, a link, a socket
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Found(
            name,
            kind,
            status.st_blocks * 512,
            status.st_size,
            status.st_uid,
            key_of(status),
            "no right to read it; it may be no ring",
            is_ring=False,
        )
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not begins_as_ring(fd):
            return None
        return Found(name, kind, status.st_blocks * 512, status.st_size, status.st_uid, key_of(status))
    except OSError:
        return None
    finally:
        os.close(fd)


def key_of(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from every other."""
    return status.st_dev, status.st_ino


def given(paths: Iterable[str]) -> Iterator[Found]:
    """The rings with these names; every ring in a folder, if it is one. Anything else is said to be no ring."""
    for path in paths:
        place = place_of(path)
        if not place.is_shm and os.path.isdir(place.path):
            try:
                entries = sorted(os.listdir(place.path))
            except OSError as error:
                yield Found(path, "file", error=error.strerror or "cannot be read", is_ring=False)
                continue
            for entry in entries:
                inside = os.path.join(place.path, entry)
                found = look(inside, inside if "/" in inside else f"./{inside}", "file")
                if found is not None and found.is_ring:
                    yield found
            continue
        flags = OPEN_FLAGS & ~os.O_NOFOLLOW if DESCRIPTOR.fullmatch(place.path) else OPEN_FLAGS
        found = look(place.path, path, "shm" if place.is_shm else "file", flags)
        if found is None:
            reason = "is no ring" if os.path.lexists(place.path) else "there is no ring of that name"
            if os.path.islink(place.path):
                reason = "is a symbolic link, which is not followed"
            elif place.is_shm and os.path.lexists(path):
                reason += f"; the file of that name here is ./{path}"
            found = Found(path, "shm" if place.is_shm else "file", error=reason, is_ring=False)
        yield found


def everywhere() -> list[Found]:
    """All rings of this machine that this user can find, each once."""
    found = {each.key: each for each in shared_memory()}
    known: dict[tuple[int, int], Found | None] = dict(found)
    for pid, path, key in mapped():
        if key not in known:
            each = of_process(pid, path, key)
            # /proc/PID/maps and stat(2) may number the device differently (overlay file systems, btrfs).
            known[key] = None if each is None else found.setdefault(each.key, each)
        each = known[key]
        if each is not None and pid not in each.mapped_by and pid != os.getpid():
            each.mapped_by.append(pid)
    return list(found.values())


def mapped(writable_only: bool = False) -> Iterator[tuple[int, str, tuple[int, int]]]:
    """(pid, path, key) of every file that a process whose /proc we may read has mapped from its start, and shares."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/maps", errors="surrogateescape") as lines:
                for line in lines:
                    match = MAPS_LINE.match(line)
                    if match is None or match[2] != "s" or int(match[3], 16) or match[6] == "0":
                        continue
                    if writable_only and line[line.index(" ") + 2] != "w":
                        continue
                    path = match[7]
                    if path.startswith(SHM_FOLDER) or (path.startswith("/") and not path.startswith("/dev/")):
                        yield pid, path, (os.makedev(int(match[4], 16), int(match[5], 16)), int(match[6]))
        except OSError:
            continue  # ended, or another user's


def of_process(pid: int, path: str, key: tuple[int, int]) -> Found | None:
    """The ring that a process has mapped as `path`, if it is one and can be reached."""
    if not path.endswith(" (deleted)"):
        found = look(path, path, "file")
        return found if found is not None and found.key[1] == key[1] and found.is_ring else None
    kind = "memfd" if path.startswith("/memfd:") else "unlinked"
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    for number in sorted(numbers, key=int):
        link = f"/proc/{pid}/fd/{number}"
        try:
            if os.stat(link).st_ino != key[1]:
                continue
        except OSError:
            continue
        found = look(link, link, kind, OPEN_FLAGS & ~os.O_NOFOLLOW)
        if found is not None and found.is_ring:
            return named(found, path) or found
    return None


def named(found: Found, path: str) -> Found | None:
    """The same by its name: a file that was made without one (O_TMPFILE) stays "#INODE (deleted)" to its maker."""
    folder = os.path.dirname(path)
    if not os.path.basename(path).startswith("#"):
        return None
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.inode() == found.key[1]:
                    again = look(entry.path, entry.path, "file")
                    return again if again is not None and again.key == found.key else None
    except OSError:
        pass
    return None


def holders(key: tuple[int, int]) -> list[int]:
    """Other processes that have the file mapped for writing, as far as /proc tells."""
    found = set()
    for pid, path, each in mapped(writable_only=True):
        if each[1] != key[1] or pid == os.getpid():
            continue
        try:
            if each == key or key_of(os.stat(path)) == key:
                found.add(pid)
        except OSError:
            continue  # another file, whose name is gone
    return sorted(found)


def attach(found: Found) -> Ring:
    """Open what was found, whoever made it, for reading only: nothing is decided by what it says.

    Raises what `shmring.open` does, and RingNotFound if it is gone, or another one by now.
    """
    is_descriptor = DESCRIPTOR.fullmatch(found.name) is not None
    fd = os.open(place_of(found.name).path, OPEN_FLAGS & ~os.O_NOFOLLOW if is_descriptor else OPEN_FLAGS)
    if found.key != key_of(os.fstat(fd)):
        os.close(fd)
        raise shmring.RingNotFound(errno.ENOENT, f"{found.name!r} was removed meanwhile")
    return Ring._attach(fd, found.name, True)


def open_descriptor(name: str, *, readonly: bool, trust: object) -> Ring:
    """The ring behind /proc/PID/fd/N: an anonymous one, or one whose name is gone."""
    access = os.O_RDONLY if readonly else os.O_RDWR
    try:
        fd = os.open(name, OPEN_FLAGS & ~os.O_NOFOLLOW | access)
    except FileNotFoundError:
        raise shmring.RingNotFound(errno.ENOENT, f"there is no ring {name!r}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise shmring.LayoutMismatch(f"{name!r} is no ring: it is no regular file")
        Trust(trust).check_file(fd, name)  # type: ignore[arg-type]
    except BaseException:
        os.close(fd)
        raise
    return Ring._attach(fd, name, readonly)
