"""A wait that is a descriptor instead of a call: behind `fileno()` and `shmring.aio`.

It takes the same steps as a thread that parks (_core/doorbell.pxd): arm (W1), read the sequence (W3), set the parked bit and
fence (W2), look again (W4), futex wait (W5), clear the bit (W6). But W5 is handed to somebody who waits instead of this thread:
to the kernel (UringWatch: io_uring's futex wait), or to one waiter thread of the process (sleeper.pyx), which make a
descriptor readable. So notifiers do nothing new, and the argument is the doorbell's. What a waiting thread does each time its slice is
over, look again and look for the dead, is done here when the descriptor becomes readable for that.

    quiet --(a wake, or its time)--> readable --(rearm finds nothing)--> quiet
      ^                                  |
      +---- rearm: park, look, sleep ----+--(rearm finds something: stays readable)

Concurrency: as for handles: every method runs under the GIL and lets go of it nowhere.
"""

import os
import weakref

from libc.errno cimport EMFILE, ENFILE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.unistd cimport getpid

from shmring._core.doorbell cimport WAKE_ALL, bell_ring
from shmring._core.futex cimport now_ns
from shmring._core.membership cimport participant_note_waits
from shmring._core.uring cimport (Uring, uring_cancel, uring_close, uring_futex_wait, uring_is_readable, uring_next, uring_nop, uring_open,
                                  uring_probe, uring_quiet, uring_submit, uring_timer)
from shmring.participant cimport Participant
from shmring.sigbus cimport process_epoch
from shmring.waiter cimport FIRST_DOUBT_NS, FIRST_LOOK_NS, LONGEST_DOUBT_NS, SHORT_SLICE_NS

from shmring.errors import Loading

cdef enum:
    MOST_ATTEMPTS = 100             # words that change under a wait that begins, before whoever asked has to look again
    SLICES = 10                     # a wait goes on for so many slices, at the end, before it looks again

# What a completion is about; the number of the wait stands above it.
cdef enum:
    LIGHT, WOKEN, TIME, MOVED, CANCEL
    KIND_BITS = 3

BACKENDS = ("io_uring", "thread")

chosen = None                       # by use() or the environment; found out when first needed
watches = weakref.WeakSet()         # of this process, for its children


def use(name):
    """`shmring.aio.use`."""
    global chosen
    if name not in (*BACKENDS, None):
        raise ValueError(f"the ways to wait are {' and '.join(map(repr, BACKENDS))}, not {name!r}")
    if name == "io_uring" and (error := uring_probe()) != 0:
        raise OSError(-error, f"io_uring cannot wait for futexes here: {os.strerror(-error)}")
    chosen = name


def backend():
    """`shmring.aio.backend`."""
    global chosen
    cdef int error
    if chosen is None:
        asked = os.environ.get("SHMRING_AIO")
        if asked:
            use(asked)
        else:
            error = uring_probe()
            if error == -EMFILE or error == -ENFILE:
                return "io_uring"                       # nobody knows: who makes a watch now gets that error
            chosen = "io_uring" if error == 0 else "thread"
    return chosen


def watch_of(Participant handle not None):
    """The handle's watch; it is made when first asked for."""
    cdef Watch watch
    if handle.epoch != process_epoch:
        handle.check()
    if handle.watch is None:
        watch = make_watch(backend())
        if handle.watch is not None:                    # another thread was faster
            watch.finish(True)
            return handle.watch
        watch.borrowed = <void*> handle
        watch.is_fresh = True
        handle.watch = watch
        watches.add(watch)
    return handle.watch


cdef Watch make_watch(str name):
    cdef Watch watch
    if name == "io_uring":
        try:
            watch = UringWatch()
            watch.start()
            return watch
        except OSError as error:    # ENOMEM: no memory for it; EPERM: a seccomp filter that came later; ...
            if error.errno in (EMFILE, ENFILE):
                raise
    with Loading("shmring.sleeper"):
        from shmring.sleeper import ThreadWatch
    watch = ThreadWatch()
    watch.start()
    return watch


def leave_to_parent():
    """In a forked child: the watches, and what they wait for, are the parent's."""
    cdef Watch watch
    for watch in list(watches):
        watch.borrowed = NULL
        watch.finish(False)
    watches.clear()


os.register_at_fork(after_in_child=leave_to_parent)


cdef class Watch:
    """One handle's descriptor, and the wait behind it; not made directly."""

    def __cinit__(self):
        self.fd = -1
        self.pid = getpid()

    @property
    def is_closed(self):
        return self.borrowed == NULL

    cdef Participant owner(self):
        if self.borrowed == NULL:
            raise ValueError("this handle is closed")
        return <Participant> self.borrowed

    def is_ready(self):
        """Would the call that found nothing find something now?"""
        cdef Participant owner = self.owner()
        if owner.epoch != process_epoch:
            owner.check()
        return self.is_ready_now(owner)

    cdef bint is_ready_now(self, Participant owner) except -1:
        return owner.ready_check()(owner.ready_state(), owner.ready_argument())

    def publish(self):
        """fileno(): look, and arm."""
        self.is_public = True
        self.rearm()
        return self.fd

    def found_nothing(self):
        """A call of the handle did."""
        if self.is_public:
            self.rearm()

    def rearm(self):
        """Begin to wait. True: the descriptor is quiet until there may be something. False: it is readable, and there may be."""
        cdef Participant owner = self.owner()
        cdef uint32_t sequence
        cdef int attempt
        owner.look_up()
        self.scan()
        self.look_after(owner)
        owner = self.owner()                            # which what was run meanwhile may have closed
        for attempt in range(MOST_ATTEMPTS):
            sequence = self.park(owner)
            if self.is_ready_now(owner):
                break
            if owner.slot != NULL and owner.is_too_late():
                if owner.parked > 1:
                    bell_ring(owner.own_word(), WAKE_ALL)       # as Waiter.park_once
                continue
            self.quiet()
            if self.sleep(owner, sequence, self.next_time()):
                return True
        self.light()
        self.unpark(owner)
        self.is_fresh = True
        return False

    def came(self):
        """The descriptor was readable, and whoever awaits is about to look: it need not be so any longer."""
        cdef Participant owner
        if self.borrowed == NULL:
            return
        owner = <Participant> self.borrowed
        self.scan()
        if not self.is_public:
            self.quiet()
        if not self.is_asleep:
            self.unpark(owner)

    def stir(self):
        """Something is being received: once it was woken, nobody need think that it sleeps."""
        self.scan()
        if not self.is_asleep and self.borrowed != NULL:
            self.unpark(<Participant> self.borrowed)

    def step_aside(self):
        """A thread is about to wait with the same handle: a wake must not come to a descriptor that nobody looks at."""
        if self.borrowed != NULL and self.is_asleep:
            self.stop()
            self.light()
            self.unpark(<Participant> self.borrowed)

    def give_up(self, bint has_taken):
        """Nobody awaits it any more. If something is there that was not taken, somebody else of the group is to hear of it."""
        cdef Participant owner
        if self.borrowed == NULL:
            return
        owner = <Participant> self.borrowed
        self.scan()
        if not self.is_public:
            if self.is_asleep:
                self.was_woken = False
                self.stop()
                has_taken &= not self.was_woken
            self.quiet()
            self.unpark(owner)
            self.is_fresh = True
        if not has_taken:
            self.pass_on(owner)

    def calm(self):
        """A wait ended without a park: as Waiter.wait_for."""
        cdef Participant owner = self.owner()
        if owner.slot != NULL:
            owner.calm_down()

    def patience_ns(self):
        """How long to look before parking, in ns; -1: for ever."""
        cdef Participant owner = self.owner()
        if not owner.parks:
            return -1
        if owner.lone_cpu >= 0 and owner.slot != NULL:
            owner.is_crowded = owner.ring.registry.has_neighbour(owner.number, owner.lone_cpu)
            if owner.is_crowded:
                return 0
        return owner.spin_ns

    def close(self):
        """The handle goes. Whoever awaits it finds that out."""
        cdef Participant owner
        line, self.line = self.line, None
        if self.borrowed != NULL:
            owner = <Participant> self.borrowed
            if self.fd >= 0:
                if self.is_asleep:
                    self.stop()
                self.settle(owner)
                self.unpark(owner)
                self.pass_on(owner)
            self.borrowed = NULL
        if line is not None:
            line.end(self.finish_later)
        else:
            self.finish(True)

    def finish_later(self):
        self.finish(self.pid == getpid())

    # ---- the waiter's steps --------------------------------------------------------------------------------------

    cdef uint32_t park(self, Participant owner) except? 0xffffffff:
        """W1 to W2; returns the sequence to sleep on."""
        if owner.slot == NULL:
            return 0
        if self.is_parked:
            owner.end_park()
        else:
            owner.waits += 1
            participant_note_waits(owner.slot, owner.waits)
        owner.arm()
        self.is_parked = owner.is_watched = True
        return owner.begin_park(owner.ready_argument())

    cdef unpark(self, Participant owner):
        """W6."""
        if not self.is_parked:
            return
        self.is_parked = owner.is_watched = False
        owner.end_park()
        if owner.parked:
            bell_ring(owner.own_word(), WAKE_ALL)       # as Waiter.end_wait

    cdef pass_on(self, Participant owner):
        """A wake may have come to us that nobody of us acts upon."""
        if owner.slot != NULL and self.is_ready_now(owner):
            bell_ring(owner.own_word(), 1)

    # ---- what is done each time that a slice ends ----------------------------------------------------------------

    cdef begin_anew(self, Participant owner):
        """The wait that begins has not waited yet."""
        self.slice_ns = SHORT_SLICE_NS if owner.short_slices or owner.slot == NULL else owner.slice_ns
        self.doubt_at = 0
        self.doubt_ns = FIRST_DOUBT_NS
        self.look_ns = FIRST_LOOK_NS
        self.look_at = now_ns() + self.look_ns

    cdef look_after(self, Participant owner):
        """Somebody dead may be in the way: as Waiter.wait_for."""
        cdef int64_t now = now_ns()
        if self.was_woken or self.is_fresh:
            self.begin_anew(owner)
        elif self.has_ticked and now >= self.slice_end and not owner.short_slices:
            self.slice_ns = min(2 * self.slice_ns, SLICES * (SHORT_SLICE_NS if owner.slot == NULL else owner.slice_ns))
        self.was_woken = self.has_ticked = self.is_fresh = False
        if not owner.is_blocked():
            self.doubt_at = 0
        elif self.doubt_at == 0:
            self.doubt_at = now + self.doubt_ns
        if self.doubt_at and now >= self.doubt_at:
            owner.repair_quietly()
            if not self.is_ready_now(owner):
                owner.doubt()
            self.doubt_ns = min(2 * self.doubt_ns, LONGEST_DOUBT_NS)
            self.doubt_at = now + self.doubt_ns
        elif now >= self.look_at:
            owner.repair_quietly()
            self.look_ns = min(4 * self.look_ns, LONGEST_DOUBT_NS)
            self.look_at = now + self.look_ns

    cdef int64_t next_time(self):
        cdef int64_t until
        self.slice_end = now_ns() + self.slice_ns
        until = min(self.slice_end, self.look_at)
        return min(until, self.doubt_at) if self.doubt_at else until

    # ---- filled in by the two ways to wait -----------------------------------------------------------------------

    cdef start(self):
        """Make the descriptor."""

    cdef scan(self):
        """Note what has come: is_asleep, was_woken, has_ticked. The descriptor stays as it is."""

    cdef light(self):
        """Make the descriptor readable."""

    cdef quiet(self):
        """It is readable no more, until something comes."""

    cdef bint sleep(self, Participant owner, uint32_t sequence, int64_t until) except -1:
        """W5, by somebody else, and until then at most. False: the word has changed already."""
        return False

    cdef stop(self):
        """End the wait under way; was_woken says if it had been woken."""

    cdef settle(self, Participant owner):
        """Until no wake can come to a wait that was ended: the handle goes, and nobody could pass it on."""

    cdef finish(self, bint is_mine):
        """Close the descriptor. Not mine: in a forked child."""


cdef class UringWatch(Watch):
    """The kernel waits: one small io_uring for each handle, whose descriptor is the one. No thread; one system call for each wait."""

    cdef Uring uring
    cdef int64_t timer_at           # when the timer under way ends; 0: there is none

    def __cinit__(self):
        self.uring.fd = -1

    def __dealloc__(self):
        uring_close(&self.uring, self.pid == getpid())

    cdef start(self):
        cdef int error = uring_open(&self.uring)
        if error != 0:
            raise OSError(-error, f"shmring: io_uring_setup: {os.strerror(-error)}")
        self.fd = self.uring.fd

    cdef scan(self):
        cdef uint64_t data = 0
        cdef int result = 0
        while uring_next(&self.uring, &data, &result):
            if data & ((1 << KIND_BITS) - 1) == WOKEN:
                if result == 0:
                    self.was_woken = True
                if data >> KIND_BITS == self.n_sleeps:
                    self.is_asleep = False              # -EAGAIN: it had changed; -ECANCELED: the thread that began it has ended
            elif data == TIME:
                self.timer_at = 0
                self.has_ticked = True

    cdef light(self):
        if not uring_is_readable(&self.uring):
            uring_nop(&self.uring, LIGHT)
            self.submit()

    cdef quiet(self):
        uring_quiet(&self.uring)

    cdef bint sleep(self, Participant owner, uint32_t sequence, int64_t until) except -1:
        if not self.is_asleep and owner.slot != NULL:
            self.n_sleeps += 1
            self.is_asleep = True
            uring_futex_wait(&self.uring, owner.own_word(), sequence, <uint64_t> self.n_sleeps << KIND_BITS | WOKEN)
        # A timer that is under way for an earlier time just lets us look earlier.
        if not self.timer_at or until < self.timer_at:
            uring_timer(&self.uring, until, TIME, self.timer_at != 0, MOVED)
            self.timer_at = until
        self.submit()
        self.scan()
        if not self.is_asleep and owner.slot != NULL:
            return False
        if not self.was_woken and not self.has_ticked:
            self.quiet()                                # only the timer's move has come
        return True

    cdef stop(self):
        uring_cancel(&self.uring, <uint64_t> self.n_sleeps << KIND_BITS | WOKEN, CANCEL)
        self.submit()
        self.scan()
        self.is_asleep = False                          # its completion may still come, if another thread began it

    cdef submit(self):
        cdef int error = uring_submit(&self.uring)
        if error != 0:
            raise OSError(-error, f"shmring: io_uring_enter: {os.strerror(-error)}")

    cdef finish(self, bint is_mine):
        self.fd = -1
        uring_close(&self.uring, is_mine)
