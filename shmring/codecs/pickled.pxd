# What the queues use of the codec "pickle": messages with buffers, both ways.
from cython cimport final
from libc.stdint cimport uint64_t

from shmring.packed cimport Copier, Packed


@final
cdef class PickledObject(Packed):
    # A pickle and the buffers that belong to it, on their way.
    cdef bytes pickle
    cdef list buffers               # memoryviews of bytes


@final
cdef class PickleCopier(Copier):
    pass


cdef object pack_buffers(bytes pickle, list buffers)
cdef bint is_plain(const char* begin, uint64_t size) noexcept
cdef object take_apart(const char* begin, uint64_t size, list buffers, object memory)
