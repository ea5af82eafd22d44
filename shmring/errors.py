"""Every exception that shmring raises on purpose.

The root is `Error`. Each concrete error also derives from the builtin that a Python programmer would expect,
so that `except FileNotFoundError` works as well as `except RingNotFound`. Time-outs are plain
`TimeoutError`, and using a closed handle is a plain `ValueError`, as everywhere in the standard library.
Messages carry the numbers: asked, had, limit, who.
"""

from __future__ import annotations

import errno
import os


class Error(Exception):
    """The root of every error that is shmring's own."""


# ---- the ring as a named object ----------------------------------------------------------------------------


class RingExists(Error, FileExistsError):
    """`create` found the name taken: by a ring (of another shape, when exist_ok), or by something else."""


class RingNotFound(Error, FileNotFoundError):
    """No ring of that name (or none yet, when `open` had a timeout)."""


class UntrustedRing(Error, PermissionError):
    """What has the name was made by another user, or is a symbolic link, and the caller did not say that it trusts them."""


class LayoutMismatch(Error, ValueError):
    """The bytes belong to another layout version, another build's sizes, or to no ring at all."""


class CorruptRing(Error, ValueError):
    """A value read from shared memory is impossible. The text names its offset and the value."""


# ---- participants ------------------------------------------------------------------------------------------


class MessageTooLarge(Error, ValueError):
    """The message can never fit into this ring; the text gives its size and the limit, both in bytes."""


class ProducerTaken(Error, BlockingIOError):
    """A ring made for a single producer has a live one; the text names its pid."""


class MemberTaken(Error, BlockingIOError):
    """A group is read by live members, who are in the way of what was asked; the text names their pids."""


class TooManyParticipants(Error, OSError):
    """Every slot of the participant table belongs to somebody alive."""


class TooManyGroups(Error, OSError):
    """Every entry of the group table is in use."""


class ClaimOpen(Error, BufferError):
    """A producer was used while one of its claims waits for commit or abort."""


class WrongProcess(Error, RuntimeError):
    """A producer or consumer was used in a forked child of the process that made it."""


class ShutDown(Error):
    """The ring was shut down: at once for producers, after the last message for consumers."""


class ProducersGone(ShutDown):
    """A consumer made with end_with_producers=True has everything, and the last producer left."""


class ProducerDied(Error, EOFError):
    """The same, but a producer died, and no other one came after it: messages may be missing. The text names its pid."""


class TooManyViews(Error, BufferError):
    """A member of a group holds as many records apart from each other as it can; release some views first."""


class BorrowedTooLong(TooManyViews):
    """Arrays that outlived their views keep more of the ring than `Consumer.borrow_limit`, and nothing is left to receive."""


class Lapped(Error):
    """What an observer's view showed was written over by the producers. Receiving does not raise it: `Observer.lost` counts."""


# ---- objects -----------------------------------------------------------------------------------------------


class CodecError(Error, ValueError):
    """A message is not what its codec writes, or the ring's messages are not for the codec that was asked for."""


class UnknownCodec(CodecError, LookupError):
    """No codec of that name is registered in this process."""


# ---- mappings: one class per cause, each with its errno and, in the text, what to do -----------------------


class MappingError(Error, OSError):
    """The root of what goes wrong with memory itself; `errno` is set, and the text says what to do."""


class RingTruncated(MappingError):
    """Another process cut the file under the mapping; what was beyond its new end is gone. errno is EIO."""


class PastEndOfFile(MappingError):
    """The part of the mapping that was touched lies past the end of its file, which may still grow. errno is
    ENXIO.
    """


class AccessDenied(MappingError, PermissionError):
    """EACCES: the file's permissions, or the way its descriptor was opened, do not allow this access."""


class NotPermitted(MappingError, PermissionError):
    """EPERM or EROFS: a seal, a mount option or a missing privilege forbids it."""


class LockLimit(MappingError):
    """EAGAIN, ENOMEM or EPERM while locking: more locked memory than this process is allowed."""


class BadDescriptor(MappingError):
    """EBADF: the number is no open descriptor."""


class BadGeometry(MappingError, ValueError):
    """EINVAL: a size, an alignment, an offset or a combination of flags that cannot be mapped."""


class TooManyFiles(MappingError):
    """EMFILE: this process has as many open descriptors as it may."""


class TooManyFilesInSystem(MappingError):
    """ENFILE: the whole system has as many open files as it may."""


class CannotMap(MappingError):
    """ENODEV: that kind of file, or its file system, cannot be mapped."""


class OutOfMemory(MappingError, MemoryError):
    """ENOMEM: no address space or no memory for the mapping."""


class TooManyMappings(OutOfMemory):
    """ENOMEM because the process already has vm.max_map_count mappings."""


class NoSpace(MappingError):
    """ENOSPC or EDQUOT: the file system, or the memory behind it, cannot hold the backing; the text has the
    numbers.
    """


class FileTooLarge(MappingError):
    """EFBIG: larger than RLIMIT_FSIZE or than the file system allows."""


class FileBusy(MappingError):
    """ETXTBSY: the file is a program that is running."""


class MappingExists(MappingError, FileExistsError):
    """EEXIST: `exclusive=True`, and something of that name exists."""


class MappingNotFound(MappingError, FileNotFoundError):
    """ENOENT: nothing of that name, or not what the name stood for when the mapping was pickled."""


class IsDirectory(MappingError, IsADirectoryError):
    """EISDIR: the path names a directory."""


class HugePagesUnavailable(MappingError):
    """No huge pages for this kind of backing on this machine; the text says how to configure them. errno is
    ENOMEM.
    """


class NotSpawning(Error, RuntimeError):
    """Something that travels by descriptor was pickled outside the start of a child process."""


# Everything that the system calls behind a mapping answer: the class, and what the user can do about it.
_BY_ERRNO = {
    errno.EACCES: (
        AccessDenied,
        "check the owner and mode of the file, and that the descriptor was opened for reading "
        "(and for writing, unless access is 'read' or 'copy')",
    ),
    errno.EPERM: (
        NotPermitted,
        "look for a seal (F_SEAL_WRITE, F_SEAL_GROW), an immutable file or a mount option; "
        "access='read' may be allowed",
    ),
    errno.EROFS: (NotPermitted, "the file system is mounted read-only: use access='read', or readonly=True for a ring"),
    errno.EAGAIN: (LockLimit, "raise the limit (ulimit -l, RLIMIT_MEMLOCK), map less or leave out lock=True"),
    errno.EBADF: (BadDescriptor, "pass a descriptor that is open in this process"),
    errno.EINVAL: (BadGeometry, "size must be positive, offset a multiple of the page size"),
    errno.EOVERFLOW: (BadGeometry, "offset + size is beyond what a file can have"),
    errno.EMFILE: (TooManyFiles, "close some, or raise the limit (ulimit -n, RLIMIT_NOFILE)"),
    errno.ENFILE: (TooManyFilesInSystem, "raise /proc/sys/fs/file-max or find out who holds so many open"),
    errno.ENODEV: (
        CannotMap,
        "pipes, sockets, directories and some file systems cannot be mapped: use a regular file, "
        "Mapping.shm or Mapping.memfd",
    ),
    errno.ENOMEM: (
        OutOfMemory,
        "map less, or raise the limit on address space (ulimit -v) or vm.overcommit_memory",
    ),
    errno.ENOSPC: (NoSpace, "free some, ask for less, or put it on another file system"),
    errno.EDQUOT: (NoSpace, "the disk quota is used up: free some or ask for less"),
    errno.EFBIG: (FileTooLarge, "raise the limit on file sizes (ulimit -f, RLIMIT_FSIZE) or ask for less"),
    errno.ETXTBSY: (FileBusy, "stop the program, map a copy, or use access='read'"),
    errno.EEXIST: (MappingExists, "choose another name, unlink the old one, or leave out exclusive=True"),
    errno.ENOENT: (MappingNotFound, "check the name, or create it with create=True"),
    errno.EISDIR: (IsDirectory, "name a file in it"),
}


def mapping_error(
    code: int, action: str, name: object = None, cause: type[MappingError] | None = None, numbers: str = ""
) -> MappingError:
    """The exception for an errno: its class from the table, its text from the action, the numbers and the
    advice.

    Parameters
    ----------
    code : int
        The errno.
    action : str
        What was being done, for example "map 4096 bytes".
    name : object
        Name or path of the backing; None for none.
    cause : type, optional
        The class, where the errno alone does not tell the cause.
    numbers : str
        What was asked, had and allowed.
    """
    kind, advice = _BY_ERRNO.get(code, (MappingError, ""))
    if cause is not None and cause is not kind:
        kind, advice = cause, _advice_of(cause)
    text = f"cannot {action}: {os.strerror(code)}"
    for part, mark in ((numbers, ": "), (advice, "; ")):
        if part:
            text += mark + part
    return kind(code, text) if name is None else kind(code, text, name)


class Loading:
    """Around an import at its first use: where no descriptor is left it raises TooManyFiles. The dynamic loader's error is an
    ImportError, as if something were not installed. The next attempt may succeed.
    """

    __slots__ = ("part",)

    def __init__(self, part: str) -> None:
        self.part = part

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ImportError, OSError)):
            try:
                os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
            except OSError as cause:
                if cause.errno in (errno.EMFILE, errno.ENFILE):
                    raise mapping_error(cause.errno, f"load {self.part}") from error


def _advice_of(cause: type[MappingError]) -> str:
    if cause is TooManyMappings:
        return "unmap some, or raise /proc/sys/vm/max_map_count"
    return next((advice for kind, advice in _BY_ERRNO.values() if kind is cause), "")
