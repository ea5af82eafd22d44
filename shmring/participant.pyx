"""What producers and consumers have in common: a slot in the table, the proof of life, and waiting.

Owns: the participant's own descriptor (whose file lock proves that it lives), its bits in the bells, and the wait.

Threads: every field is changed only with the GIL held, and the fast paths of the ports never let go of it, so each call of a
handle is atomic for other threads. A wait does let go; it reads shared words only, and what it found is looked at again
afterwards. These modules do not declare themselves safe without a GIL, so a free-threaded interpreter turns it on for them.
"""

import atexit
import errno
import os
import weakref

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from shmring._core.atomic cimport pause, u32
from shmring._core.doorbell cimport WAKE_ALL, bell_arm, bell_disarm, bell_park, bell_ring, bell_sequence, bell_unpark
from shmring._core.futex cimport futex_wait, lock_byte, membarrier_register, now_ns, sleep_until, yield_slice
from shmring._core.layout cimport LOCK_PARTICIPANT, ROLE_PRODUCER, Bell, Slot
from shmring._core.membership cimport (participant_depart, participant_enter, participant_group, participant_has_left,
                                       participant_is_free, participant_is_orphan, participant_join,
                                       participant_note_parks, participant_note_waits, participant_note_wakes)
from shmring.mapping cimport Mapping
from shmring.ring cimport FOR_EVER, Ring
from shmring.sigbus cimport process_epoch

from shmring import evidence, policy as policies
from shmring.errors import TooManyParticipants, WrongProcess
from shmring.registry import close_lock_descriptor

cdef enum:
    CALM_ENOUGH = 64                # waits in a row without a park after which the armed bit goes
    LOOKS_PER_CLOCK = 64            # looks between two readings of the clock
    POLLS_PER_REPAIR = 1024         # calls that find nothing, between two looks for the dead
    LOOKS_PER_CHECK = 10000         # looks with the GIL held between two times that signals are served

cdef int64_t UNTIL_CHECK_NS = 1000000       # how long a released spin goes on before signals are served

# Leaving with the interpreter is not dying: nobody should have to repair after it.
attached = weakref.WeakSet()

@atexit.register
def leave_all():
    for participant in list(attached):
        try:
            participant.close()
        except BufferError:
            pass                            # its memory is in use to the end; the kernel drops the lock


cdef class Participant:
    """The common part of `Producer` and `Consumer`; not made directly."""

    def __cinit__(self):
        self.life_fd = -1
        self.is_closed = True

    # ---- joining and leaving -------------------------------------------------------------------------------------

    cdef attach(self, Ring ring, object wait, uint32_t role):
        """Take a slot and a role: a producer's, a member's of a group, or an observer's."""
        policy = policies.resolve(wait)
        ring.check_open()
        if ring.readonly:
            raise ValueError(f"ring {ring.name!r} is open for reading only: it has stats() and observers (lossy=True), but no "
                             f"producers and no groups")
        self.adopt_policy(policy)
        self.short_slices = membarrier_register() != 0
        self.ring = ring
        self.pid = os.getpid()
        ring.pin()
        try:
            self.data = ring.data_mapping(role == ROLE_PRODUCER)
            self.life_fd = ring.registry.open_lock_descriptor()
            with ring.registry.lock():
                ring.registry.repair()
                self.take_role()
            self.settle_in()
        except BaseException:
            if self.slot != NULL:
                participant_depart(&ring.map, self.number)
            if self.life_fd >= 0:
                close_lock_descriptor(self.life_fd)
                self.life_fd = -1
            ring.unpin()
            raise
        self.is_closed = False
        self.epoch = process_epoch
        ring.participants.add(self)
        attached.add(self)

    cdef adopt_policy(self, object policy):
        self.policy = policy
        self.held, self.yields, self.parks = policy.held, policy.yields, policy.parks
        self.lone_cpu = policies.lone_cpu() if policy is policies.WaitPolicy.adaptive else -1
        self.is_crowded = False
        self.spin_ns, self.slice_ns = int(policy.spin_us * 1e3), int(policy.slice_ms * 1e6)

    cdef take_slot(self, uint32_t role, uint32_t group, uint64_t head):
        """The first slot that is free and whose life lock nobody holds (an orphaned child may hold a free one's); if there is
        none, one whose dead owner left claims in the same group. Returns whether it has such claims.
        """
        cdef uint32_t number
        for number in range(self.ring.map.n_participants):
            if participant_has_left(&self.ring.map.participants[number]):
                self.ring.registry.bury(number, False)          # just now: repair has not seen it
            if participant_is_free(&self.ring.map.participants[number]) and self.enter(number, role, group, head):
                return False
        for number in range(self.ring.map.n_participants):
            if (group < self.ring.map.n_groups and participant_is_orphan(&self.ring.map.participants[number])
                    and participant_group(&self.ring.map.participants[number]) == group and self.enter(number, role, group, head)):
                return True
        holders = [self.ring.registry.describe(number) for number in range(min(4, self.ring.map.n_participants))]
        raise TooManyParticipants(errno.EAGAIN, f"ring {self.ring.name!r} has room for {self.ring.map.n_participants} "
                                                f"participants, and all is taken ({', '.join(holders)}, ...); create it with a "
                                                f"larger max_participants")

    cdef bint enter(self, uint32_t number, uint32_t role, uint32_t group, uint64_t head) except -1:
        cdef Slot fields
        me = evidence.own_identity()
        if lock_byte(self.life_fd, LOCK_PARTICIPANT + number, 0) != 0:
            return False
        memset(&fields, 0, sizeof(Slot))
        fields.role = role
        fields.pid = me.pid
        fields.start_time = me.start_time
        fields.pid_namespace = me.pid_namespace
        for i in range(16):
            fields.boot_id[i] = me.boot_id[i]
        participant_join(&fields, group)
        self.number = number
        self.slot = &self.ring.map.participants[number]
        participant_enter(&self.ring.map, number, &fields, head)
        return True

    def close(self):
        """Leave the ring. Threads that wait in this handle get ValueError. May be repeated.

        Raises
        ------
        BufferError
            The memory of an open claim or view is in use (a memoryview, or an array made from one).
        """
        if self.is_closed:
            return
        if self.pid != os.getpid():         # a forked child: all of it belongs to the parent
            self.is_closed = True
            self.epoch = 0
            self.ring.unpin()
            return
        if self.pinned:
            raise BufferError(f"{self.role_name()} of ring {self.ring.name!r}: the memory of {self.pinned} open claims or "
                              f"views is in use; end them first")
        self.is_closed = True
        self.epoch = 0
        if self.waiting:
            if self.slot != NULL:                       # else it polls, and the word is not ours to write
                bell_ring(self.own_word(), WAKE_ALL)    # the last of them detaches: it may be the caller of this very handler
        else:
            self.detach()

    cdef detach(self):
        """Give up slot, lock and mappings. Takes no lock of the ring and waits for nobody."""
        if self.slot != NULL:
            self.departing()
            participant_depart(&self.ring.map, self.number)
            close_lock_descriptor(self.life_fd)
            self.life_fd = -1
            self.departed()
        self.ring.participants.discard(self)
        self.ring.unpin()

    cdef departing(self):
        """What has to be in order before others take the slot over."""

    cdef departed(self):
        """For what others should learn at once."""

    def __enter__(self):
        self.check()
        return self
    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.pinned = 0                     # whoever used that memory is garbage, too
        self.close()

    def __reduce__(self):
        raise TypeError(f"a {self.role_name()} cannot be pickled; pass the Ring, and let the other process ask it for its own")

    def __repr__(self):
        state = "closed" if self.is_closed else f"slot {self.number}"
        return f"<shmring.{type(self).__name__} of {self.ring.name!r}, {state}>"

    @property
    def closed(self):
        return self.is_closed

    cdef check(self):
        """Why is the cached epoch not the process's? Raises what the user must know, else brings it up to date."""
        if self.is_closed:
            raise ValueError(f"this {self.role_name()} of ring {self.ring.name!r} is closed")
        if self.pid != os.getpid():
            raise WrongProcess(f"this {self.role_name()} of ring {self.ring.name!r} belongs to process {self.pid}; a forked "
                               f"child asks the ring for its own")
        self.ring.control.check()
        self.data.check()
        if not self.is_busy:
            self.epoch = process_epoch

    # ---- waiting -------------------------------------------------------------------------------------------------

    cdef int wait_for(self, Ready ready, const void* state, uint64_t argument, int64_t deadline) except -1:
        """Until ready(state, argument): 1. Until the deadline: 0. Spins, yields and parks as the policy says."""
        cdef int64_t doubt_at = 0, doubt_ns = FIRST_DOUBT_NS
        cdef int slices = 0
        self.waits += 1
        self.waiting += 1
        try:
            if self.slot == NULL:
                return self.poll(ready, state, argument, deadline)
            participant_note_waits(self.slot, self.waits)
            if self.wait_awake(ready, state, argument, deadline):
                self.calm_down()
                return 1
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
                slices += 1
                if doubt_at:
                    # Somebody is in the way: does it live? Asked after 4 ms, 8 ms, 16 ms, ...
                    if now_ns() >= doubt_at:
                        self.repair_quietly()
                        if ready(state, argument):
                            return 1
                        self.doubt()
                        doubt_ns = min(2 * doubt_ns, <int64_t> FIRST_DOUBT_NS << 10)
                        doubt_at = 0
                elif slices & (slices - 1) == 0 and slices & 0x2aaaaaaa and self.parks:     # after 2, 8, 32, 128, ... slices
                    self.repair_quietly()
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

    cdef look_up(self):
        """Serve signals, and see whether this handle was closed or its memory cut."""
        PyErr_CheckSignals()
        if self.epoch != process_epoch:
            self.check()

    cdef void note_wakes(self, int woken) noexcept:
        self.wakes += woken
        participant_note_wakes(self.slot, self.wakes)

    cdef end_wait(self):
        self.waiting -= 1
        if self.parked:
            # Another thread of ours sleeps on the same word, and the wake that was meant for it may have come to us.
            bell_ring(self.own_word(), WAKE_ALL)
        if self.is_closed and self.waiting == 0:
            self.detach()

    cdef repair_quietly(self):
        """Look after the dead: what they held, and their wait bits, which cost every notifier something."""
        if self.slot == NULL:
            return                          # we may only read
        try:
            with self.ring.registry.try_lock() as held:
                if held:
                    self.ring.registry.repair(self.slot)
        except OSError:
            pass                            # no descriptor left, say; somebody else will

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
                return False                # look again, from what is true now
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

    # ---- filled in by the ports ----------------------------------------------------------------------------------

    cdef Ready ready_check(self):
        return NULL

    cdef const void* ready_state(self):
        return NULL

    cdef uint64_t ready_argument(self):
        return 0

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        """Say in shared memory what is waited for, where notifiers want to know."""

    cdef take_role(self):
        """Take a slot, with the registry lock held."""

    cdef settle_in(self):
        """What has to be waited for, without the lock, before the role can be used."""

    cdef bint is_blocked(self) noexcept:
        """Does it wait for something that a dead participant may be holding back?"""
        return False

    cdef doubt(self):
        """Nobody dead was in the way. Is it damage?"""

    cdef bint is_too_late(self) noexcept:
        """Has what was announced come to pass already, so that nobody will wake us for it?"""
        return False

    cdef settle(self, int entry):
        """A view of a record in that claim has ended."""

    cdef Bell* own_bell(self):
        return NULL

    cdef u32* own_word(self):
        return NULL

    cdef str role_name(self):
        return "participant"


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
