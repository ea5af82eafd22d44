# Between those who know what messages are made of (codecs) and those who know where they lie (ports): what writes itself into a
# record, and what copies itself out of one. Neither side needs to know the other.
from libc.stdint cimport uint64_t


cdef class Packed:
    # A message that is not bytes yet.
    cdef readonly Py_ssize_t nbytes

    cdef int write(self, char* target) except -1


cdef class Copier:
    # How a large message is copied out, in how many pieces.
    cdef object copy(self, const char* begin, uint64_t size, list rest)


cdef bytes packed_bytes(object message)
