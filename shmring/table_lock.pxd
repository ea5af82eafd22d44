# The lock of the tables of groups and participants, for the registry.


cdef class Tables:
    cdef int fd                     # the ring's descriptor of the segment; -1 once the ring is closed
    cdef object name                # the ring's
    cdef str label                  # the ring's: what messages call it
    cdef bytes uuid                 # the ring's

    cdef bint wait_for_lock(self, int fd, bint wait) except -1
    cdef take_over(self)
    cdef give_away(self)


cdef class TableLock:
    cdef Tables tables
    cdef bint wait                  # for who holds it
    cdef bint is_held
    cdef int fd                     # own open file description; -1 outside of the block
    cdef release(self)
