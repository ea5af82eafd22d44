# The observer of an ArrayRing.
from cython cimport final
from libc.stdint cimport uint64_t

from shmring.array_reader cimport ArrayReceiver


@final
cdef class ArrayObserver(ArrayReceiver):
    cdef uint64_t records_lost
    cdef uint64_t unclear_blocks    # lost as well, but of how many records each?
    cdef uint64_t unclear_bytes     # which took so many in the ring
    cdef Py_ssize_t last_size       # bytes of the block that was seen last

    cdef note_lost(self, uint64_t position, uint64_t lost)
    cdef settle_lost(self, Py_ssize_t size)
    cdef uint64_t estimate(self)
    cdef see(self, Py_ssize_t size)
