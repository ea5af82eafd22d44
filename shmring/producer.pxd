# The producer port. Its kernel state, for Cython users: see __init__.pxd.
from cython cimport final
from libc.stdint cimport int64_t, uint64_t

from shmring.sender cimport Sender
from shmring.view cimport Lease


@final
cdef class Producer(Sender):
    cdef int try_write(self, const char* data, uint64_t length) noexcept
    cdef int back_out(self) noexcept
    cdef write(self, const char* data, uint64_t length, int64_t deadline)
    cdef open_batch(self, list batch, Py_ssize_t first)


@final
cdef class Claim:
    cdef Sender owner               # None once committed or aborted
    cdef Lease lease
    cdef unsigned int epoch         # the owner's when the claim began; it gets it back
    cdef object memory              # memoryview of lease, made when first asked for
    cdef readonly Py_ssize_t nbytes # reserved
    cdef uint64_t position          # of the record

    cdef check_open(self)
    cdef finish(self, Py_ssize_t length)
    cdef end(self)
    cdef let_go(self)
