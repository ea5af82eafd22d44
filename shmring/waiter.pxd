# How a participant waits.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport u32
from shmring._core.layout cimport Bell, Slot
from shmring._core.linger cimport Patience
from shmring.ring cimport Ring

cdef enum:
    SHORT_SLICE_NS = 1000000        # a park's slice when membarrier was refused
    A_WAIT = 128                    # note_poll: a call that waited in vain weighs as much as so many that did not
    FIRST_DOUBT_NS = 4000000        # how long somebody in the way is waited for before it is asked whether it lives

cdef int64_t FIRST_LOOK_NS          # how long a wait goes on before it looks for dead ones that are not in its way
cdef int64_t LONGEST_DOUBT_NS       # at most so long between two looks for the dead in one wait

# Is there something to do? For waiting threads, without the GIL; changes nothing.
ctypedef bint (*Ready)(const void* state, uint64_t argument) noexcept nogil


cdef class Waiter:
    cdef readonly Ring ring
    cdef Slot* slot                 # own lines in the table; NULL for an observer of a ring that is mapped for reading only
    cdef uint32_t number            # slot number
    cdef unsigned int epoch         # process_epoch when all was last known to be well; 0: closed, or busy with a claim
    cdef bint is_closed
    cdef readonly object policy     # WaitPolicy
    cdef int held                   # the policy's numbers, as C values
    cdef int yields
    cdef bint parks
    cdef int lone_cpu               # an adaptive wait's only CPU, or -1
    cdef bint is_crowded            # somebody else of the ring had only the same CPU when last looked
    cdef int64_t spin_ns
    cdef bint lingers               # the policy lets messages gather: linger.pxd
    cdef Patience patience
    cdef int64_t slice_ns
    cdef int waiting                # threads inside wait_for
    cdef int parked                 # threads that share the parked bit
    cdef bint is_armed
    cdef int calm                   # waits in a row that ended without a park
    cdef bint short_slices          # membarrier was refused to us: doorbell.pxd
    cdef unsigned int polls         # weight of the calls that found nothing, since the last look for the dead
    cdef int64_t rests_until        # when this handle may look for the dead again
    cdef uint64_t waits             # statistics
    cdef uint64_t parks_done
    cdef uint64_t wakes
    cdef object watch               # the descriptor behind fileno() and shmring.aio: watch.pyx; None
    cdef bint is_watched            # the watch has a share in the parked bit

    # to be filled in by Participant and the ports
    cdef Ready ready_check(self)
    cdef const void* ready_state(self)
    cdef uint64_t ready_argument(self)
    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept
    cdef Bell* own_bell(self)
    cdef u32* own_word(self)
    cdef bint is_too_late(self) noexcept
    cdef bint is_blocked(self) noexcept
    cdef doubt(self)
    cdef check(self)
    cdef detach(self)
    cdef void let_gather(self) noexcept

    cdef adopt_policy(self, object policy)
    cdef void note_wakes(self, int woken) noexcept
    cdef int note_woken(self, int woken) except -1 with gil
    cdef end_wait(self)
    cdef repair_quietly(self)
    cdef int wait_for(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1
    cdef int poll(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1
    cdef bint wait_awake(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1
    cdef note_poll(self, unsigned int weight)
    cdef look_up(self)
    cdef bint park_once(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1
    cdef calm_down(self)
    cdef uint32_t begin_park(self, uint64_t argument) noexcept
    cdef end_park(self)
    cdef arm(self)
