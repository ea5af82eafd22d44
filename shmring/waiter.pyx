"""How a participant waits: looks, spins, yields, parks; and asks now and then whether somebody dead is in the way.

The waiter's side of _core/doorbell.pxd. A wait lets go of the GIL; it reads shared words only, and what it found is looked at
again afterwards.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport pause, u32
from shmring._core.doorbell cimport WAKE_ALL, bell_arm, bell_disarm, bell_park, bell_ring, bell_sequence, bell_unpark
from shmring._core.futex cimport futex_wait, now_ns, sleep_until, yield_slice
from shmring._core.layout cimport Bell
from shmring._core.membership cimport participant_note_parks, participant_note_waits, participant_note_wakes
from shmring.ring cimport FOR_EVER
from shmring.sigbus cimport process_epoch

from shmring import policy as policies

cdef enum:
    CALM_ENOUGH = 64                # waits in a row without a park after which the armed bit goes
    LOOKS_PER_CLOCK = 64            # looks between two readings of the clock
    POLLS_PER_REPAIR = 1024         # calls that find nothing, between two looks for the dead
    LOOKS_PER_CHECK = 10000         # looks with the GIL held between two times that signals are served

cdef int64_t UNTIL_CHECK_NS = 1000000       # how long a released spin goes on before signals are served


FIRST_LOOK_NS = 190000000
LONGEST_DOUBT_NS = 4000000000


cdef class Waiter:
    """The waiting part of `Participant`; not made directly."""

    cdef adopt_policy(self, object policy):
        self.policy = policy
        self.held, self.yields, self.parks = policy.held, policy.yields, policy.parks
        self.lone_cpu = policies.lone_cpu() if policy is policies.WaitPolicy.adaptive else -1
        self.is_crowded = False
        self.lingers = policy.parks and policy.spin_us > 0
        self.spin_ns, self.slice_ns = int(policy.spin_us * 1e3), int(policy.slice_ms * 1e6)

    cdef int wait_for(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1:
        """Until ready(state, argument): 1. Until the deadline: 0. Spins, yields and parks as the policy says."""
        cdef int64_t doubt_at = 0, doubt_ns = FIRST_DOUBT_NS, look_ns = FIRST_LOOK_NS, look_at
        self.waits += 1
        self.waiting += 1
        try:
            if self.slot == NULL:
                return self.poll(ready, state, argument, deadline)
            participant_note_waits(self.slot, self.waits)
            if self.is_watched:
                self.watch.step_aside()
            if self.wait_awake(ready, state, argument, deadline):
                self.calm_down()
                if self.lingers and not self.is_crowded:
                    self.let_gather()
                return 1
            look_at = now_ns() + look_ns
            while True:
                if now_ns() >= deadline:
                    return ready(state, argument)
                self.look_up()
                if doubt_at == 0 and self.is_blocked():
                    doubt_at = now_ns() + doubt_ns
                if not self.parks:
                    if spin(ready, state, argument, min(deadline, now_ns() + UNTIL_CHECK_NS)):
                        return 1
                elif self.park_once(ready, state, argument, min(deadline, doubt_at) if doubt_at else deadline):
                    return 1
                if doubt_at:
                    # Somebody is in the way: does it live? Asked after 4 ms, 8 ms, 16 ms, ...
                    if now_ns() >= doubt_at:
                        self.repair_quietly()
                        if ready(state, argument):
                            return 1
                        self.doubt()
                        doubt_ns = min(2 * doubt_ns, LONGEST_DOUBT_NS)
                        doubt_at = 0
                elif now_ns() >= look_at:                   # after 0.2 s, 1 s, then every 4 s
                    self.repair_quietly()
                    look_ns = min(4 * look_ns, LONGEST_DOUBT_NS)
                    look_at = now_ns() + look_ns
        finally:
            self.end_wait()

    cdef int poll(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1:
        """wait_for, for who may not write into the ring, so that nobody can wake it: looks every millisecond."""
        cdef int64_t until
        cdef int look = 0
        if self.wait_awake(ready, state, argument, deadline):
            return 1
        while not ready(state, argument):
            if now_ns() >= deadline:
                return 0
            self.look_up()
            look += 1
            if look % 64 == 0:
                self.doubt()
            until = min(deadline, now_ns() + UNTIL_CHECK_NS)
            if not self.parks:
                if spin(ready, state, argument, until):
                    return 1
            else:
                with nogil:
                    sleep_until(until)
        return 1

    cdef bint wait_awake(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1:
        """The phases before a park: looks with the GIL held, a spin without it, yields."""
        cdef int64_t until
        cdef int look
        for look in range(1, (1 if self.is_crowded else self.held) + 1):
            if ready(state, argument):
                return True
            pause()
            if look % LOOKS_PER_CHECK == 0:
                self.look_up()
        if self.lone_cpu >= 0 and self.slot != NULL:
            # Who runs on the only CPU that the other side may use delays what it waits for.
            self.is_crowded = self.ring.registry.has_neighbour(self.number, self.lone_cpu)
            if self.is_crowded:
                return False
        if self.spin_ns:
            until = min(deadline, now_ns() + self.spin_ns)
            while now_ns() < until:
                if spin(ready, state, argument, min(until, now_ns() + UNTIL_CHECK_NS)):
                    return True
                self.look_up()
        for look in range(self.yields):
            with nogil:
                yield_slice()
            if ready(state, argument):
                return True
            self.look_up()
            if deadline != FOR_EVER and now_ns() >= deadline:
                return False
        return False

    cdef note_poll(self, unsigned int weight):
        """A call found nothing. Who never waits for long looks after the dead, too, now and then."""
        self.polls += weight
        if self.polls >= POLLS_PER_REPAIR:
            self.polls = 0
            self.repair_quietly()
        if self.watch is not None:
            self.watch.found_nothing()

    cdef look_up(self):
        """Serve signals, and see whether this handle was closed or its memory cut."""
        PyErr_CheckSignals()
        if self.epoch != process_epoch:
            self.check()

    cdef void note_wakes(self, int woken) noexcept:
        self.wakes += woken
        participant_note_wakes(self.slot, self.wakes)

    cdef int note_woken(self, int woken) except -1 with gil:
        self.note_wakes(woken)
        return 0

    cdef end_wait(self):
        self.waiting -= 1
        if self.parked:
            # Another thread of ours sleeps on the same word, and the wake that was meant for it may have come to us.
            bell_ring(self.own_word(), WAKE_ALL)
        if self.is_closed and self.waiting == 0:
            self.detach()

    cdef repair_quietly(self):
        """Look after the dead: what they held, and their wait bits, which cost every notifier something."""
        cdef int64_t began = now_ns()
        if self.slot == NULL or began < self.rests_until:
            return                          # we may only read; or looked just now
        try:
            with self.ring.registry.try_lock() as held:
                if held:
                    self.ring.registry.repair(self.slot)
        except OSError:
            pass                            # no descriptor left, say; somebody else will
        self.rests_until = now_ns() + 16 * (now_ns() - began)      # the more there are to look at, the longer

    cdef bint park_once(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1:
        """One time slice of sleep, unless it is ready: the waiter's side of _core/doorbell.pxd."""
        cdef u32* word = self.own_word()
        cdef int64_t until
        cdef uint32_t sequence
        self.arm()
        until = min(deadline, now_ns() + (SHORT_SLICE_NS if self.short_slices else self.slice_ns))
        sequence = self.begin_park(argument)
        try:
            if ready(state, argument):
                return True
            if self.is_too_late():
                # Look again, from what is true now; other threads of ours, which announced it, too.
                if self.parked > 1:
                    bell_ring(word, WAKE_ALL)
                with nogil:
                    yield_slice()
                return False
            with nogil:
                futex_wait(word, sequence, until)
        finally:
            self.end_park()
        return ready(state, argument)

    cdef arm(self):
        self.calm = 0
        if not self.is_armed:
            self.is_armed = True
            if bell_arm(self.own_bell(), self.number) != 0:
                self.short_slices = True

    cdef uint32_t begin_park(self, uint64_t argument) noexcept:
        """W3 and W2 of _core/doorbell.pxd; returns the sequence to sleep on."""
        cdef uint32_t sequence = bell_sequence(self.own_word())
        self.announce(argument, sequence)
        self.parked += 1
        bell_park(self.own_bell(), self.number)
        self.parks_done += 1
        participant_note_parks(self.slot, self.parks_done)
        return sequence

    cdef end_park(self):
        self.parked -= 1
        if self.parked == 0:
            bell_unpark(self.own_bell(), self.number)

    cdef calm_down(self):
        """Waits end while spinning: after a while notifiers need no fence for us."""
        if self.is_armed and self.parked == 0:
            self.calm += 1
            if self.calm >= CALM_ENOUGH:
                self.is_armed = False
                bell_disarm(self.own_bell(), self.number)

    # ---- filled in by Participant and the ports -------------------------------------------------------------------

    cdef Ready ready_check(self):
        return NULL

    cdef const void* ready_state(self):
        return NULL

    cdef uint64_t ready_argument(self):
        return 0

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        """Say in shared memory what is waited for, where notifiers want to know."""

    cdef bint is_blocked(self) noexcept:
        """Does it wait for something that a dead participant may be holding back?"""
        return False

    cdef doubt(self):
        """Nobody dead was in the way. Is it damage?"""

    cdef bint is_too_late(self) noexcept:
        """Has what was announced come to pass already, so that nobody will wake us for it?"""
        return False

    cdef Bell* own_bell(self):
        return NULL

    cdef u32* own_word(self):
        return NULL

    cdef void let_gather(self) noexcept:
        """What was waited for is there. Is it better to let more of it come first?"""

    cdef check(self):
        """Is this handle still good for something?"""

    cdef detach(self):
        """The last thread leaves a handle that was closed meanwhile."""


cdef bint spin(Ready ready, const void* state, uint64_t argument, int64_t until):
    """Look without the GIL until `until`."""
    cdef bint is_ready = False
    cdef int look
    with nogil:
        while not is_ready:
            for look in range(LOOKS_PER_CLOCK):
                is_ready = ready(state, argument)
                if is_ready:
                    break
                pause()
            if now_ns() >= until:
                break
    return is_ready
