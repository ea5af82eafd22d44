# The producer port. Its kernel state, for Cython users: see __init__.pxd.
from cython cimport final
from libc.stdint cimport int64_t, uint64_t

from shmring._core.produce cimport Writer
from shmring.participant cimport Lease, Participant


@final
cdef class Producer(Participant):
    cdef Writer writer
    cdef uint64_t wanted            # bytes of the last message that did not fit; what shmring.wait waits for

    cdef int try_write(self, const char* data, uint64_t length) noexcept
    cdef check_sending(self)
    cdef char* reserve_bytes(self, uint64_t length, int64_t deadline) except NULL
    cdef write(self, const char* data, uint64_t length, int64_t deadline)
    cdef publish(self)
    cdef raise_code(self, int code, uint64_t length)
    cdef raise_full(self, uint64_t length)


@final
cdef class Claim:
    cdef Producer owner             # None once committed or aborted
    cdef Lease lease
    cdef unsigned int epoch         # the owner's when the claim began; it gets it back
    cdef object memory              # memoryview of lease, made when first asked for
    cdef readonly Py_ssize_t nbytes # reserved

    cdef check_open(self)
    cdef finish(self, Py_ssize_t length)
    cdef end(self)
