# The attached ring, for the other ports.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.layout cimport Fault, RingMap
from shmring.mapping cimport Mapping
from shmring.registry cimport Registry

cdef enum:
    NO_WAIT = 0                     # a deadline: never waits
cdef int64_t FOR_EVER               # a deadline: never comes

# A time-out in seconds (None: for ever) as a deadline in ns of CLOCK_MONOTONIC.
cdef int64_t deadline_after(object timeout) except -1
cdef check_timeout(object timeout)


cdef class Ring:
    cdef readonly object name       # as the creator or opener gave it; None for an anonymous ring
    cdef readonly str label         # what messages call it
    cdef readonly object content    # what its creator said the messages are
    cdef readonly bint readonly
    cdef bint is_closed
    cdef int fd                     # the segment; for sizes, life checks and to open it anew
    cdef RingMap map                # checked geometry; data is NULL here, each port has its own mapping of it
    cdef Registry registry          # the tables
    cdef Mapping control            # all pages before the data area
    cdef Mapping data_writable      # the data area twice in a row, made when the first producer asks
    cdef Mapping data_readable      # the same PROT_READ, made when the first consumer asks
    cdef object participants        # WeakSet of Participant: those this process made through this ring
    cdef int pins                   # participants, and calls under way, that need the mappings: the last one to go unmaps
    cdef Py_ssize_t exports         # live buffers of claims and views, ended ones too
    cdef object __weakref__

    cdef raise_attach(self, int code, Fault* fault)
    cdef check_open(self)
    cdef pin(self)
    cdef unpin(self)
    cdef unmap(self)
    cdef check_writable(self)
    cdef bint is_allocated(self) except -1
    cdef Mapping data_mapping(self, bint writable)
