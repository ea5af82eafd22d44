# The observer port. Its kernel state, for Cython users: see __init__.pxd.
from cython cimport final
from libc.stdint cimport int64_t, uint64_t

from shmring._core.observe cimport Watcher
from shmring.receiver cimport Receiver
from shmring.view cimport ObservedView


@final
cdef class Observer(Receiver):
    cdef Watcher watcher
    cdef bint from_latest           # where it starts
    cdef unsigned int laps          # times in a row that it was lapped
    cdef uint64_t told_lost         # what the log knows of `lost`
    cdef int64_t told_until         # and when it may hear more

    cdef begin(self)
    cdef int go_to_latest(self) noexcept
    cdef go_back(self, uint64_t behind, uint64_t length)
    cdef ObservedView take_view(self, int* code)
    cdef tell_lost(self)
    cdef int try_peek(self, char** payload, uint64_t* length) except? -100
