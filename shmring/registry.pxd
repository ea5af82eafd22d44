# The tables of groups and participants, for the other ports.
from libc.stdint cimport uint32_t

from shmring._core.layout cimport RingMap


cdef class Registry:
    cdef RingMap* map               # the ring's, which owns this and lives longer
    cdef int fd                     # the ring's descriptor of the segment; -1 once the ring is closed
    cdef object name                # the ring's, for messages
    cdef bytes uuid                 # the ring's
    cdef list buried                # descriptions of the dead, to be logged once the lock is free

    cdef bint wait_for_lock(self, int fd, bint wait) except -1
    cdef find_group(self, str name)
    cdef uint32_t make_group(self, str name, bint latest) except? 0xffffffff
    cdef remove_group(self, str name)
    cdef object group_name(self, uint32_t number)
    cdef int repair(self) except -1
    cdef bury(self, uint32_t number)
    cdef bint is_alive(self, uint32_t number) except -1
    cdef bint has_neighbour(self, uint32_t number, int cpu) noexcept
    cdef object describe(self, uint32_t number)
    cdef object describe_holder(self, uint32_t holder)
