"""Where the kernel does not wait for us: one thread of the process does, for all watches, and writes their eventfds.

It sleeps in one futex_waitv call on the words of up to 127 watches and on a control word of its own, which is woken when the set
changes. It is started with the first watch and ends with the last. Where futex_waitv is refused as well, it looks at
the words every millisecond while somebody waits.

Concurrency: everything but the sleep itself is done under the GIL. The words are read only then, while the watch is open.
"""

import os
import signal
import threading

from libc.errno cimport EAGAIN, EINTR, ENOSYS, EPERM, ETIMEDOUT
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.unistd cimport read, write

from shmring._core.atomic cimport u32
from shmring._core.doorbell cimport WAKE_ALL, bell_ring, bell_sequence
from shmring._core.futex cimport FUTEX2_SIZE_U32, WAITV_MAX, Waitv, futex_wait, futex_waitv, now_ns, sleep_until
from shmring.participant cimport Participant
from shmring.waiter cimport SHORT_SLICE_NS
from shmring.watch cimport Watch

cdef int64_t NEVER = <int64_t> 1 << 62
cdef bint is_refused = False        # futex_waitv, to this process

sleepers = []                       # one for each 127 watches

# Not for this thread: signals, which it would only delay; but faults are its own.
DEAF = signal.valid_signals() - {signal.SIGBUS, signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}


def forget():
    """In a forked child: the threads are the parent's."""
    sleepers.clear()


os.register_at_fork(after_in_child=forget)


cdef class Sleeper:
    """A waiter thread, and who it waits for."""

    cdef list members               # watches that may wait here
    cdef object asleep              # those that do: a set
    cdef list waiting               # those whose words the sleep under way is on, each with the number of its wait
    cdef u32 control
    cdef u32 rounds                 # sleeps that are over
    cdef uint32_t round             # the one under way ends when `rounds` is not this any more
    cdef object thread

    def __cinit__(self):
        self.members, self.asleep, self.waiting = [], set(), []

    cdef enter(self, ThreadWatch watch):
        self.members.append(watch)
        watch.sleeper = self
        if self.thread is None:
            self.thread = threading.Thread(target=self.run, name="shmring-sleeper", daemon=True)
            self.thread.start()

    cdef leave(self, ThreadWatch watch):
        cdef Sleeper kept = self                        # the thread may be the last to know us, and end while we ask who we are
        watch.sleeper = None
        self.asleep.discard(watch)
        self.members.remove(watch)
        self.change()
        if not self.members:
            sleepers.remove(self)                       # a watch that comes now gets a new one
            if self.thread is not threading.current_thread():
                self.thread.join()

    cdef change(self):
        """Whoever waits is to look at the set again."""
        bell_ring(&self.control, 1)

    cdef let_go(self, ThreadWatch watch):
        """Until no wake can reach a sleep for it any more: the thread, which may be in one still, is never waited for longer than
        it takes to leave the kernel, for which it needs no GIL.
        """
        if self.thread is threading.current_thread():   # asked first: it may let go of the GIL, and `waiting` and `round` change
            return
        for each, _ in self.waiting:
            if each is watch:
                self.change()
                while bell_sequence(&self.rounds) == self.round:
                    futex_wait(&self.rounds, self.round, NEVER)
                return

    def run(self):
        cdef Waitv waiters[WAITV_MAX]
        cdef ThreadWatch watch
        cdef uint32_t control
        cdef int64_t until
        cdef unsigned count
        signal.pthread_sigmask(signal.SIG_BLOCK, DEAF)
        while self.members:
            control = bell_sequence(&self.control)
            fill(&waiters[0], &self.control, control)
            count, until = 1, NEVER
            self.waiting = [(watch, watch.n_sleeps) for watch in self.asleep]
            for watch, _ in self.waiting:
                until = min(until, watch.until)
                count += watch.fill(&waiters[count])
            watch = None
            self.round = bell_sequence(&self.rounds)
            self.wait(waiters, count, control, until)
            for watch, number in self.waiting:
                watch.look(number)
            watch = None

    cdef wait(self, Waitv* waiters, unsigned count, uint32_t control, int64_t until):
        global is_refused
        cdef int result = 0
        if count == 1:
            with nogil:
                futex_wait(&self.control, control, until)
            return
        with nogil:
            if not is_refused:
                result = futex_waitv(waiters, count, until)
            bell_ring(&self.rounds, WAKE_ALL)
        is_refused = is_refused or result == -ENOSYS or result == -EPERM
        if result < 0 and result not in (-EAGAIN, -EINTR, -ETIMEDOUT) or is_refused:
            # Refused, or (EFAULT) a ring was unmapped that moment: look again soon.
            until = min(until, now_ns() + SHORT_SLICE_NS)
            with nogil:
                sleep_until(until)


cdef void fill(Waitv* waiter, u32* word, uint32_t expected) noexcept:
    waiter.value = expected
    waiter.address = <uint64_t> word
    waiter.flags = FUTEX2_SIZE_U32
    waiter.reserved = 0


cdef class ThreadWatch(Watch):
    """The thread waits, and writes an eventfd."""

    cdef Sleeper sleeper
    cdef uint32_t sequence          # what the word had when the wait began
    cdef int64_t until
    cdef bint is_lit                # the eventfd is readable

    cdef start(self):
        cdef Sleeper sleeper
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for sleeper in sleepers:
            if len(sleeper.members) < <int> WAITV_MAX - 1:
                break
        else:
            sleeper = Sleeper()
            sleepers.append(sleeper)
        sleeper.enter(self)

    cdef unsigned fill(self, Waitv* waiter) except? 2:
        """What the thread is to sleep on: so many words. It keeps no reference to the handle while it sleeps, or a handle that its
        user drops would never be closed.
        """
        cdef Participant owner = <Participant> self.borrowed
        if owner.slot == NULL:
            return 0
        fill(waiter, owner.own_word(), self.sequence)
        return 1

    cdef look(self, uint32_t number):
        """Was the wait of that number woken, or is its time up? Called by the thread."""
        cdef Participant owner
        cdef bint is_woken
        if self.borrowed == NULL:
            return
        owner = <Participant> self.borrowed
        is_woken = owner.slot != NULL and bell_sequence(owner.own_word()) != self.sequence
        if number != self.n_sleeps or not self.is_asleep:
            # It was given up meanwhile: the wake may have come to us all the same.
            self.pass_on(owner)
        elif is_woken or now_ns() >= self.until:
            self.was_woken |= is_woken
            self.has_ticked |= not is_woken
            self.is_asleep = False
            self.sleeper.asleep.discard(self)
            self.light()

    cdef light(self):
        cdef uint64_t one = 1
        if not self.is_lit and self.fd >= 0:
            self.is_lit = True
            write(self.fd, &one, sizeof(one))

    cdef quiet(self):
        cdef uint64_t count
        if self.is_lit:
            self.is_lit = False
            read(self.fd, &count, sizeof(count))

    cdef bint sleep(self, Participant owner, uint32_t sequence, int64_t until) except -1:
        if not self.is_asleep or sequence != self.sequence:         # asleep: the thread is still to hear of a wake that we looked up
            self.n_sleeps += 1
            self.is_asleep = True
            self.sequence = sequence
            self.until = until
            self.sleeper.asleep.add(self)
            self.sleeper.change()
        elif until < self.until:
            self.until = until
            self.sleeper.change()
        return True

    cdef stop(self):
        cdef Participant owner = self.owner()
        self.is_asleep = False
        self.was_woken |= owner.slot != NULL and bell_sequence(owner.own_word()) != self.sequence
        if self.sleeper is not None:
            self.sleeper.asleep.discard(self)
            self.sleeper.change()

    cdef settle(self, Participant owner):
        if self.sleeper is not None and owner.slot != NULL:
            self.sleeper.let_go(self)

    cdef finish(self, bint is_mine):
        if self.sleeper is not None and is_mine:
            self.sleeper.leave(self)
        self.sleeper = None
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
