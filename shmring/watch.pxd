# A wait that is a descriptor instead of a call.
from libc.stdint cimport int64_t, uint32_t

from shmring.participant cimport Participant


cdef class Watch:
    cdef void* borrowed             # the Participant, which owns this; NULL once closed
    cdef readonly int fd            # readable when there may be something to do; -1: not made yet
    cdef readonly bint is_public    # fileno() was called: an empty call arms it again
    cdef bint is_parked             # our share of the handle's parked bit
    cdef bint is_asleep             # a wait is under way, which ends when the word is woken
    cdef bint is_fresh              # the next wait is a new one, not the next slice of the last
    cdef bint was_woken             # since somebody last looked for what there is
    cdef bint has_ticked            # the same: its time came
    cdef int pid                    # of the process that made it
    cdef uint32_t n_sleeps          # waits that were begun
    cdef int64_t slice_ns           # how long the next one may go on before it looks again
    cdef int64_t slice_end
    cdef int64_t doubt_at           # as the local variables of Waiter.wait_for
    cdef int64_t doubt_ns
    cdef int64_t look_at
    cdef int64_t look_ns
    cdef public object line         # who awaits it: shmring.aio
    cdef object __weakref__

    cdef Participant owner(self)
    cdef bint is_ready_now(self, Participant owner) except -1
    cdef begin_anew(self, Participant owner)
    cdef uint32_t park(self, Participant owner) except? 0xffffffff
    cdef unpark(self, Participant owner)
    cdef pass_on(self, Participant owner)
    cdef look_after(self, Participant owner)
    cdef int64_t next_time(self)

    # to be filled in by the two ways to wait
    cdef start(self)
    cdef scan(self)
    cdef light(self)
    cdef quiet(self)
    cdef bint sleep(self, Participant owner, uint32_t sequence, int64_t until) except -1
    cdef stop(self)
    cdef settle(self, Participant owner)
    cdef finish(self, bint is_mine)
