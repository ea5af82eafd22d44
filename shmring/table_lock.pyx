"""The lock under which the tables of groups and participants change.

It is a byte of the segment, locked by an open file description: the kernel drops it with its holder. Its descriptor lives as long as the
lock is held; those that say that a participant lives are opened here, too, and none of them survives in a forked child.
"""

import os
from _thread import get_ident           # what threading gives, without the time that importing it takes

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EACCES, EAGAIN, EINTR, ENOENT, errno as last_error
from posix.fcntl cimport O_CLOEXEC, O_RDWR, open as open_file
from posix.unistd cimport close as close_file

from shmring._core.futex cimport lock_byte, unlock_all
from shmring._core.layout cimport LOCK_REGISTRY

from shmring.errors import MappingError, mapping_error

# Descriptors whose locks must not survive in a forked child: it would keep them alive for a parent that died. A descriptor is opened
# and entered here, or removed and closed, without letting go of the GIL in between (os.open and os.close would), so a child gets
# all of them or none. A lock instead would be held for ever by a daemon thread that the end of the interpreter stops there.
lock_descriptors = set()

# Which thread of this process holds the registry lock of which ring (by uuid): a signal handler or finalizer that runs in that
# thread must not wait for itself. In a child that it forked: for which rings the parent held it, and may wait for us.
holders = {}
interrupted = set()
BUSY = "ring {}: its tables are being changed by the very thread that {}"


def _after_fork_in_child():
    interrupted.update([uuid for uuid, holder in holders.items() if holder == get_ident()])
    holders.clear()
    while lock_descriptors:
        close_file(lock_descriptors.pop())


os.register_at_fork(after_in_child=_after_fork_in_child)


def close_lock_descriptor(int fd):
    """Give up the locks of `fd` at once (a child forked in C may have a copy of it), and close it."""
    if fd in lock_descriptors:              # before a signal can interrupt us below
        unlock_all(fd)
    if fd in lock_descriptors:              # not in a child forked meanwhile: it has closed its copy
        lock_descriptors.discard(fd)
        close_file(fd)


cdef class TableLock:
    """The registry lock, held between enter and exit. What a signal interrupts in between leaves through exit."""

    def __cinit__(self, Tables tables, bint wait):
        self.tables = tables
        self.wait = wait
        self.fd = -1

    def __enter__(self):
        cdef Tables tables = self.tables
        if holders.get(tables.uuid) == get_ident():
            if not self.wait:
                return False
            raise RuntimeError(BUSY.format(tables.label, "this signal handler or finalizer interrupted"))
        self.fd = tables.open_lock_descriptor()
        try:
            if tables.wait_for_lock(self.fd, self.wait and tables.uuid not in interrupted):
                interrupted.discard(tables.uuid)
                holders[tables.uuid] = get_ident()
                self.is_held = True
                tables.take_over()
                return True
            if self.wait:
                raise RuntimeError(BUSY.format(tables.label, "forked this process, from a signal handler or finalizer"))
        except BaseException:
            self.release()
            raise
        self.release()
        return False

    def __exit__(self, *_):
        self.release()

    cdef release(self):
        cdef bint was_held = self.is_held
        self.is_held = False
        if was_held:
            holders.pop(self.tables.uuid, None)
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            close_lock_descriptor(fd)
        if was_held:
            self.tables.give_away()


cdef class Tables:
    """What changes under the lock; `Registry` fills it in."""

    def lock(self):
        """A context manager that holds the registry lock. Raises RuntimeError in a signal handler or finalizer that interrupted its
        own thread while that held the lock, and in a child forked there, as long as the parent holds it.
        """
        return TableLock.__new__(TableLock, self, True)

    def try_lock(self):
        """The same if nobody else is at the tables; entering it tells whether the lock is held."""
        return TableLock.__new__(TableLock, self, False)

    def open_lock_descriptor(self):
        """An open file description of our own for the segment, as locks belong to descriptions."""
        cdef bytes path = f"/proc/self/fd/{self.fd}".encode()
        cdef int fd = open_file(path, O_RDWR | O_CLOEXEC)
        cdef int code
        while fd < 0 and last_error == EINTR:
            PyErr_CheckSignals()
            fd = open_file(path, O_RDWR | O_CLOEXEC)
        if fd < 0:
            code = last_error
            raise mapping_error(code, f"open ring {self.label} once more, for a lock", self.name,
                                MappingError if code == ENOENT else None, "/proc is not mounted" if code == ENOENT else "")
        lock_descriptors.add(fd)
        return fd

    cdef bint wait_for_lock(self, int fd, bint wait) except -1:
        cdef int result
        while True:
            with nogil:
                result = lock_byte(fd, LOCK_REGISTRY, wait)
            if result == 0 or (not wait and result in (-EAGAIN, -EACCES)):
                return result == 0
            if result != -EINTR:
                raise OSError(-result, f"ring {self.label}: cannot lock its tables: {os.strerror(-result)}")
            PyErr_CheckSignals()

    cdef take_over(self):
        """The lock was taken: end what its last holder left half made."""

    cdef give_away(self):
        """The lock was given up: tell what was found meanwhile."""
