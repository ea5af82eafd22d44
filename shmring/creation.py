"""Making, finding and removing rings by name.

A ring appears under its name whole or not at all: it is made in an unnamed file (O_TMPFILE), formatted, and then linked to
its name in one step that fails if the name is taken. A creator that is killed on the way leaves nothing, as the kernel frees
an unnamed file with its last descriptor. The link step also decides races: of 50 creators one wins, 49 open what it made.
"""

from __future__ import annotations

import errno
import operator
import os
import stat
import time
from collections.abc import Callable, Iterable

from shmring.errors import MappingError, MappingNotFound, RingExists, RingNotFound, mapping_error
from shmring.naming import Place, parse_size, place_of
from shmring.ring import LIMITS, Ring, format_segment, segment_size
from shmring.trust import Trust, refuse_link

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing, which takes longer than all of shmring
if TYPE_CHECKING:
    from shmring.array_ring import ArrayRing


def _number(label: str, given: object, least: int, most: int, write: Callable[[int], str] = str) -> int:
    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{label} is an int from {write(least)} to {write(most)}, not {given!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{label} is from {write(least)} to {write(most)}, not {write(number)}")
    return number


class _Shape:
    """The checked parameters of a new ring."""

    def __init__(self, capacity, producers, max_participants, max_groups, align, content="", origin=0):
        asked = parse_size(capacity)
        if asked > LIMITS["max_capacity"]:
            raise ValueError(f"capacity {asked} is more than the largest ring's {LIMITS['max_capacity']} bytes")
        page = os.sysconf("SC_PAGE_SIZE")
        self.capacity = 1 << (max(asked, page, LIMITS["min_capacity"]) - 1).bit_length()
        if producers not in ("single", "multi"):
            raise ValueError(f"producers is 'single' or 'multi', not {producers!r}")
        if align not in (16, 64):
            raise ValueError(f"align is 16 or 64, not {align!r}")
        self.max_participants = _number("max_participants", max_participants, 1, LIMITS["max_participants"])
        self.max_groups = _number("max_groups", max_groups, 1, LIMITS["max_groups"])
        if not isinstance(content, str):
            raise TypeError(f"content is a str, not {type(content).__name__}")
        self.content = content
        if len(content.encode()) > LIMITS["content_bytes"] or "\0" in content:
            raise ValueError(
                f"content is at most {LIMITS['content_bytes']} bytes of UTF-8 without zeros, not these "
                f"{len(content.encode())}: {content[:40]!r}"
            )
        self.producers, self.align = producers, align
        self.origin = origin + align - 16  # so that payloads, 16 bytes further on, are aligned

    def bytes(self) -> int:
        return segment_size(self.capacity, self.max_participants, self.max_groups)

    def format(self, fd: int) -> None:
        single = self.producers == "single"
        content = self.content.encode()
        format_segment(fd, self.capacity, self.align, single, self.max_participants, self.max_groups, self.origin, content)

    def difference(self, ring: Ring) -> str | None:
        """What keeps `ring` from being the one that was asked for."""
        for label in ("capacity", "producers", "align", "max_participants", "max_groups", "content"):
            if getattr(ring, label) != getattr(self, label):
                return f"{label} {getattr(ring, label)!r}, asked was {getattr(self, label)!r}"
        return None


def create(
    name: str | os.PathLike,
    capacity: int | str = "16 MiB",
    *,
    producers: str = "multi",
    mode: int = 0o600,
    exist_ok: bool = False,
    max_participants: int = 64,
    max_groups: int = 16,
    align: int | None = None,
    content: str = "",
    reserve: bool = True,
    trust: int | str | Iterable[int] | None = None,
    dtype: object = None,
) -> Ring | ArrayRing:
    """Make a ring under a name.

    Parameters
    ----------
    name : str or PathLike
        Without a slash: a POSIX shared memory object. With one, or a PathLike: that file.
    capacity : int or str
        Bytes of the data area, or text such as "64 KiB"; rounded up to a power of two of at least a page.
    producers : "multi" or "single"
        Any number of live producers at a time, or one. With one, a batch costs a little less, and an aborted claim leaves no
        trace.
    mode : int
        Permission bits; the umask applies. The default gives other users nothing.
    exist_ok : bool
        Open the ring if the name has one of the same shape already.
    max_participants : int
        Attached producers and consumers at a time, 1 to 1024.
    max_groups : int
        Consumer groups at a time, 1 to 64.
    align : 16 or 64 or None
        Alignment of payloads in memory, in bytes. None: 16; with a dtype of whole cache lines (a multiple of 64 bytes), 64.
    content : str
        What the messages are, for whoever opens the ring and reads `Ring.content`: up to 1023 bytes of UTF-8.
    reserve : bool
        Allocate all pages now, so that a full file system is an error here and not a crash later.
    trust : None, int, iterable of int, or "anyone"
        With exist_ok: whose ring may be there already, as for open.
    dtype : numpy dtype, or what makes one
        Make an `ArrayRing` of fixed-size records instead, whose producers and consumers exchange arrays. Whoever opens it gets
        one of the same dtype. Fields of numbers, text and bytes of fixed length, times; no objects.

    Raises
    ------
    RingExists
        The name is taken; with exist_ok, by a ring of another shape.
    LayoutMismatch
        With exist_ok: the name is taken by what is no ring.
    UntrustedRing
        With exist_ok: the name was taken by another user, or is a symbolic link.
    NoSpace
        The file system cannot hold the ring; the text gives needed and free bytes.
    ValueError, TypeError
        A bad argument.

    Concurrency: any number of processes may create the same name at once; one makes it. Killed at any point: the ring is
    there whole or not at all.
    """
    if dtype is not None:
        from shmring import array_ring

        shape = array_ring.shape_for(dtype, content, align, capacity)
        made = create(
            name, capacity, producers=producers, mode=mode, exist_ok=exist_ok, max_participants=max_participants,
            max_groups=max_groups, reserve=reserve, trust=trust, **shape,
        )
        return array_ring.ArrayRing(made)
    place = place_of(name)
    shape = _Shape(capacity, producers, max_participants, max_groups, 16 if align is None else align, content)
    mode = _number("mode", mode, 0, 0o777, oct)
    trusted = Trust(trust)
    while True:
        if exist_ok:
            try:
                return _open_same(place, shape, trusted)
            except RingNotFound:
                pass
        try:
            return _make(place, shape, mode, reserve)
        except RingExists:
            if not exist_ok or (os.path.islink(place.path) and not os.path.exists(place.path)):
                raise  # a link to nowhere can neither be opened nor created
            # Somebody else won, and may have unlinked it since: look again.
        except OSError as error:
            # Other creators of the same ring may hold the space for a moment: theirs counts if it is there.
            if not exist_ok or error.errno != errno.ENOSPC or not os.path.lexists(place.path):
                raise


def _open_same(place: Place, shape: _Shape, trusted: Trust) -> Ring:
    ring = _open(place, trusted)
    difference = shape.difference(ring)
    if difference is not None:
        ring.close()
        raise RingExists(errno.EEXIST, f"ring {place.name!r} exists with {difference}")
    return ring


def _make(place: Place, shape: _Shape, mode: int, reserve: bool) -> Ring:
    from shmring import backing

    if os.path.lexists(place.path):  # spares the work; the link below decides
        raise RingExists(errno.EEXIST, f"{place.name!r} exists already; open it, or remove it with shmring.unlink")
    folder = os.path.dirname(os.path.abspath(place.path))
    action = f"create ring {place.name!r} of {shape.capacity} bytes"
    ring = None
    fd, temporary = _unnamed_file(folder, mode, action)
    try:
        backing.extend(fd, shape.bytes(), reserve=reserve, in_memory=place.is_shm, action=action, name=place.name)
        shape.format(fd)
        ring = Ring._attach(backing.duplicate(fd), name_of(place))  # all that can fail comes before the name
        _link(fd, temporary, place, action)
    except BaseException:
        if ring is not None:
            ring.close()
        raise
    finally:
        os.close(fd)
        if temporary is not None:
            os.unlink(temporary)
    return ring


def name_of(place: Place) -> str:
    return place.name if place.is_shm else os.path.abspath(place.path)


def _in_its_class(error: OSError, action: str, name: str) -> OSError:
    """The same error with the action and what to do about it, if errors.py has a class for it."""
    explained = mapping_error(error.errno, action, name)
    return error if type(explained) is MappingError else explained


def _unnamed_file(folder: str, mode: int, action: str) -> tuple[int, str | None]:
    """A new file without a name in `folder`; where the file system has no such files, with a random one to be removed."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode), None
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise RingNotFound(errno.ENOENT, f"the folder {folder!r} does not exist") from None
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise _in_its_class(error, action, folder) from None
    temporary = os.path.join(folder, f".shmring-{os.urandom(8).hex()}")
    return os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode), temporary


def _link(fd: int, temporary: str | None, place: Place, action: str) -> None:
    """Give the finished file its name, if nobody has it."""
    source = temporary or f"/proc/self/fd/{fd}"
    anywhere = -1
    try:
        anywhere = os.open("/", os.O_PATH | os.O_CLOEXEC)  # makes os.link follow the link in /proc
        os.link(source, os.path.abspath(place.path), src_dir_fd=anywhere, follow_symlinks=True)
    except FileExistsError:
        raise RingExists(errno.EEXIST, f"{place.name!r} was created by somebody else meanwhile") from None
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise  # the text names what is missing
        raise _in_its_class(error, action, place.name) from None
    finally:
        if anywhere >= 0:
            os.close(anywhere)


def open_ring(
    name: str | os.PathLike,
    *,
    timeout: float | None = None,
    readonly: bool = False,
    trust: int | str | Iterable[int] | None = None,
) -> Ring | ArrayRing:
    """Open an existing ring; `shmring.open`. One that was made with a dtype is an `ArrayRing`.

    Parameters
    ----------
    name : str or PathLike
        As for create.
    timeout : float or None
        Seconds to wait for the ring to appear. None or 0: it must be there.
    readonly : bool
        Map it PROT_READ and touch nothing: for stats() and for observers, `consumer(lossy=True)`.
    trust : None, int, iterable of int, or "anyone"
        Whose ring it may be. None: it must belong to this user or to root, and the name must not be a symbolic link. User ids:
        those users', too, and links that they (or this user) made are followed. "anyone": whatever has the name. Whoever may
        write a ring's file can forge its messages and keep others waiting.

    Raises
    ------
    UntrustedRing
        Somebody else has made what has the name. (A PermissionError.)
    RingNotFound
        There is none (after `timeout` seconds).
    LayoutMismatch
        The file is no ring, or one of another layout version; the text names both.
    CorruptRing
        Its identity page holds impossible values.
    PermissionError
        Not allowed.
    """
    ring = open_plain(name, timeout=timeout, readonly=readonly, trust=trust)
    if not ring.content.startswith("array "):
        return ring
    from shmring.array_ring import ArrayRing

    return ArrayRing(ring)


def open_plain(
    name: str | os.PathLike,
    *,
    timeout: float | None = None,
    readonly: bool = False,
    trust: int | str | Iterable[int] | None = None,
) -> Ring:
    """The same, but a plain `Ring` whatever its messages are: for tools that look at bytes."""
    place = place_of(name)
    if timeout is not None and not hasattr(timeout, "__float__"):
        raise TypeError(f"timeout must be None or a number of seconds >= 0, not {timeout!r}")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be None or a number of seconds >= 0, not {timeout!r}")
    until = time.monotonic() + (timeout or 0)
    pause = 0.0005
    trusted = Trust(trust)
    while True:
        try:
            return _open(place, trusted, readonly)
        except RingNotFound:
            left = until - time.monotonic()
            if left <= 0:
                raise
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.02)


def _open(place: Place, trusted: Trust, readonly: bool = False) -> Ring:
    from shmring import backing

    path = trusted.resolve(place.path, place.name)
    # Not blocking, as what somebody put there may be a pipe.
    flags = os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
    access = "read" if readonly else "write"
    try:
        fd, _ = backing.open_file(path, access=access, create=False, exclusive=False, mode=0, flags=flags)
    except MappingNotFound:
        raise RingNotFound(errno.ENOENT, f"there is no ring {place.name!r}") from None
    except MappingError as error:
        if error.errno == errno.ELOOP:
            raise refuse_link(place.name) from None
        raise
    try:
        trusted.check_file(fd, place.name)
        if stat.S_ISDIR(os.fstat(fd).st_mode):  # open(2) refuses it by itself only for writing
            raise mapping_error(errno.EISDIR, f"open {path!r}", path)
    except BaseException:
        os.close(fd)
        raise
    return Ring._attach(fd, name_of(place), readonly)


def anonymous(
    capacity: int | str = "16 MiB",
    *,
    producers: str = "multi",
    max_participants: int = 64,
    max_groups: int = 16,
    align: int | None = None,
    content: str = "",
    reserve: bool = True,
    dtype: object = None,
) -> Ring | ArrayRing:
    """Make a ring without a name, in a memfd: forked children have it, and it pickles to spawned ones. Parameters as create.

    Messages call it "/proc/PID/fd/N (anonymous)" (`Ring.label`): a path by which the command line finds it.
    """
    if dtype is not None:
        from shmring import array_ring

        shape = array_ring.shape_for(dtype, content, align, capacity)
        made = anonymous(
            capacity, producers=producers, max_participants=max_participants, max_groups=max_groups, reserve=reserve, **shape
        )
        return array_ring.ArrayRing(made)
    shape = _Shape(capacity, producers, max_participants, max_groups, 16 if align is None else align, content)
    return _make_anonymous(shape, reserve)


def _make_anonymous(shape: _Shape, reserve: bool) -> Ring:
    from shmring import backing

    fd = backing.open_memfd("shmring")
    try:
        action = f"create an anonymous ring of {shape.capacity} bytes"
        backing.extend(fd, shape.bytes(), reserve=reserve, in_memory=True, action=action, name=None)
        backing.seal_size(fd)
        shape.format(fd)
    except BaseException:
        os.close(fd)
        raise
    return Ring._attach(fd, None)


def unlink(name: str | os.PathLike) -> None:
    """Remove a ring's name. Who has it open keeps using it; its memory goes with the last of them.

    Damaged rings, and those of other versions of shmring, are removed as well: whatever begins as a ring does. Of a link
    it is the link itself, wherever it leads.

    Raises
    ------
    RingNotFound
        There is nothing of that name.
    LayoutMismatch
        It is no ring; the text says what it is. Nothing was removed.
    PermissionError
        Not allowed, or the file cannot be read to see that it is a ring.

    Concurrency: what takes the name between the look and the removal is removed unseen.
    """
    from shmring import backing, magic

    place = place_of(name)
    try:
        magic.refuse_other_files(place.path, place.name)
        if place.is_shm:
            try:
                backing.unlink_shm(place.name)
            except UnicodeEncodeError:  # posix_ipc removes no others, though it makes them
                os.unlink(place.path)
        else:
            os.unlink(place.path)
    except FileNotFoundError:
        raise RingNotFound(errno.ENOENT, f"there is no ring {place.name!r}") from None
