# A producer, below its Python interface. For Cython users: see __init__.pxd.
from libc.stdint cimport int64_t, uint64_t

from shmring._core.produce cimport Writer
from shmring.participant cimport Participant

cdef enum:
    STALE = -100                    # beside the kernel's codes: look at why epoch differs


cdef class Sender(Participant):
    cdef Writer writer
    cdef unsigned long writing_thread   # it is writing an object into its claim; 0: none
    cdef bint ran_full              # the last TimeoutError was our own
    cdef uint64_t wanted            # bytes of the last message that did not fit; what shmring.wait waits for
    cdef uint64_t stalls            # statistics
    cdef uint64_t stalled_ns

    cdef send_packed(self, object packed, object timeout)
    cdef bint others_write(self) except -1
    cdef check_sending(self)
    cdef char* reserve_bytes(self, uint64_t length, int64_t deadline) except NULL
    cdef int wait_for_room(self, uint64_t length, int64_t deadline) except -1
    cdef publish(self)
    cdef raise_code(self, int code, uint64_t length)
    cdef raise_full(self, uint64_t length)
    cdef char* await_room(self, uint64_t length, int64_t deadline) except NULL with gil
    cdef int check_copy(self) except -1 with gil
    cdef int give_up(self) except -1 with gil
