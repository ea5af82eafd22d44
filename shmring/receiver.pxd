# What members of groups and observers have in common. For Cython users: see __init__.pxd.
from libc.stdint cimport int64_t, uint64_t

from shmring._core.layout cimport Fault, RingMap
from shmring.participant cimport Participant

cdef enum:
    STALE = -99                     # beside the kernel's codes: look at why epoch differs


cdef class Receiver(Participant):
    cdef bint ends_with_producers   # iteration ends when the last of them left
    cdef list left                  # messages that were taken and could not be unpacked yet; None if there are none

    # to be filled in by Consumer and Observer
    cdef bytes take(self, int* code)
    cdef bytes take_small(self, int* code)
    cdef bint next_is_large(self) noexcept
    cdef bint is_drained(self) noexcept
    cdef RingMap* own_map(self) noexcept
    cdef Fault* own_fault(self) noexcept
    cdef str full_name(self)

    cdef leave(self, list messages)
    cdef object unpack_message(self, bytes message)
    cdef object take_left(self)
    cdef object receive_obj_slowly(self, int code, object timeout)
    cdef object unpack_view(self, object view)
    cdef bytes receive_slowly(self, int code, object timeout)
    cdef bint is_drained_for_good(self)
    cdef await_data(self, int64_t deadline)
    cdef check_ended(self)
    cdef check_producers(self)
    cdef raise_for(self, int code)


# Have all producers gone, of which there were some? For waiting threads too.
cdef bint producers_are_gone(const RingMap* ring) noexcept nogil
cdef check_start(object start)
cdef bint is_no_fault(object error)
