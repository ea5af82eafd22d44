# Blocks that are handed out in parts, and the parts that are lent.
from cython cimport final
from libc.stdint cimport uint64_t

from shmring.view cimport Lease, ObservedView, View


@final
cdef class Block:
    # A message that is read in parts, or lent out: it stays pinned (if a member reads it) until all of it was handed out and
    # every part that was lent is back.
    cdef View view                  # a member's
    cdef ObservedView seen          # or an observer's
    cdef char* address
    cdef Py_ssize_t size            # bytes
    cdef Py_ssize_t offset          # bytes handed out
    cdef Py_ssize_t parts           # lent out

    cdef bint is_valid(self) noexcept
    cdef end_if_done(self)
    cdef Lease lease(self)


@final
cdef class RecordsView:
    cdef Block block                # None once released
    cdef object dtype
    cdef object memory              # memoryview of the message,
    cdef object lent                # and the array made from it, when first asked for
    cdef uint64_t at                # position of the block
    cdef bint again                 # it was redelivered
    cdef Py_ssize_t offset          # bytes, in the block
    cdef Py_ssize_t count           # records

    cdef end(self)
