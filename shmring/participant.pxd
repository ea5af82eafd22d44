# What producers and consumers have in common: a slot, the proof of life.
from libc.stdint cimport uint32_t, uint64_t

from shmring.mapping cimport Mapping
from shmring.ring cimport Ring
from shmring.waiter cimport Waiter


# shmring.aio, for who has a coroutine to hand out.
cdef object aio()


cdef class Participant(Waiter):
    cdef Mapping data               # keeps the data area mapped as long as this lives
    cdef int life_fd                # own open file description; holds the lock that proves life
    cdef int pid                    # of the process that made this
    cdef bint is_busy               # a claim is open: nothing else may be written, epoch stays 0
    cdef Py_ssize_t pinned          # live buffers of claims and views that have not ended
    cdef object __weakref__
    cdef object own_codec           # of send_obj and recv_obj, once it is known
    cdef object pack                # its methods
    cdef object unpack
    cdef object array_codec         # of send_array and recv_array, once it is known

    cdef use_codec(self, object wanted)
    cdef object arrays(self)

    # to be filled in by the ports
    cdef str role_name(self)
    cdef take_role(self)
    cdef settle_in(self)
    cdef settle(self, int entry)
    cdef departing(self)
    cdef departed(self)

    cdef attach(self, Ring ring, object wait, uint32_t role)
    cdef take_slot(self, uint32_t role, uint32_t group, uint64_t head)
    cdef bint enter(self, uint32_t number, uint32_t role, uint32_t group, uint64_t head) except -1
