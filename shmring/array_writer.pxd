# Arrays of records into the ring, for array_ring.py.
from cython cimport final

from shmring.producer cimport Claim, Producer


@final
cdef class ArrayProducer:
    cdef Producer tx
    cdef readonly object ring       # the ArrayRing
    cdef readonly object dtype
    cdef object accepted            # a dtype that was found equal to it
    cdef Py_ssize_t itemsize        # bytes of a record
    cdef Py_ssize_t block_bytes     # of the most that one message takes
    cdef Py_ssize_t most_bytes      # of the most that a claim takes

    cdef bint try_whole(self, object records)
    cdef get_records(self, object records, Py_buffer* buffer)
    cdef another_dtype(self, dtype)
    cdef Py_ssize_t write_parts(self, const char* data, Py_ssize_t size, object timeout) except -1
    cdef Py_ssize_t try_parts(self, const char* data, Py_ssize_t size) except -1


@final
cdef class ArrayClaim:
    cdef Claim claim
    cdef object dtype
    cdef object filled              # the array, made when first asked for
    cdef readonly Py_ssize_t nrecords
