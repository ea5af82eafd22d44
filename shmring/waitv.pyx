"""Waiting for several handles at once: what is behind `shmring.wait`. One futex_waitv call sleeps on all their words; where the
kernel has none (Linux before 5.16), or a seccomp filter refuses it, the wait looks every millisecond. So it does where a handle
is among them that nobody can wake: an observer of a ring that is open for reading only, which cannot say that it sleeps.
"""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ENOSYS, EPERM, ETIMEDOUT
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc

from shmring._core.atomic cimport pause
from shmring._core.futex cimport FUTEX2_SIZE_U32, WAITV_MAX, Waitv, futex_waitv, now_ns, sleep_until
from shmring.participant cimport Participant
from shmring.ring cimport deadline_after
from shmring.waiter cimport LONGEST_DOUBT_NS, FIRST_DOUBT_NS, SHORT_SLICE_NS

from shmring.errors import ProducerDied, ProducersGone

cdef bint is_refused = False            # futex_waitv, to this process


def wait_any(handles, timeout):
    """`shmring.wait`: see there."""
    cdef int64_t deadline = deadline_after(timeout)
    cdef list participants = list(handles)
    cdef Participant each
    for handle in participants:
        if not isinstance(handle, Participant):
            raise TypeError(f"shmring.wait takes consumers, observers and producers, not {handle!r}")
    for each in participants:
        each.check()
    if not participants:
        raise ValueError("nothing to wait for")
    if len(participants) > <int> WAITV_MAX:
        raise ValueError(f"{len(participants)} handles; the kernel waits for at most {WAITV_MAX} at once")
    for each in participants:
        if each.is_watched:
            each.watch.step_aside()
    ready = ready_ones(participants)
    if ready or deadline == 0:
        return ready
    for each in participants:
        each.waiting += 1                   # whoever closes it meanwhile leaves it mapped until we are gone
    try:
        return wait_mapped(participants, deadline)
    finally:
        for each in participants:
            each.end_wait()


cdef list wait_mapped(list participants, int64_t deadline):
    """The same, while none of them can be unmapped."""
    cdef int64_t doubt_at = 0, doubt_ns = FIRST_DOUBT_NS
    cdef int round
    for round in range(200):
        ready = ready_ones(participants)
        if ready:
            return ready
        pause()
    while True:
        PyErr_CheckSignals()
        # Somebody dead may be in the way: as in Participant.wait_for.
        if not doubt_at:
            doubt_at = now_ns() + (doubt_ns if any_blocked(participants) else LONGEST_DOUBT_NS // 16)
        ready = park_any(participants, min(deadline, doubt_at))
        if ready or now_ns() >= deadline:
            return ready
        if now_ns() >= doubt_at:
            doubt_ns = min(2 * doubt_ns, LONGEST_DOUBT_NS)
            doubt_at = 0
            ready = look_after(participants)
            if ready:
                return ready


cdef list look_after(list participants):
    """Bury the dead, and doubt. Returns handles that have learned only by that, of a ring that they may not write to, that nothing
    more comes: their next call says so.
    """
    cdef Participant each
    cdef list ended = []
    for each in participants:
        each.repair_quietly()
        if each.is_blocked() and not each.ready_check()(each.ready_state(), each.ready_argument()):
            try:
                each.doubt()
            except (ProducerDied, ProducersGone):
                ended.append(each)
    return ended


cdef bint any_blocked(list participants):
    cdef Participant each
    for each in participants:
        if each.is_blocked():
            return True
    return False


cdef list ready_ones(list participants):
    cdef Participant each
    return [each for each in participants if each.ready_check()(each.ready_state(), each.ready_argument())]


cdef list park_any(list participants, int64_t deadline):
    """One time slice of sleep on all their words in one futex_waitv call."""
    global is_refused
    cdef unsigned count = 0                 # of those that can be woken
    cdef Waitv* waiters = <Waitv*> malloc(len(participants) * sizeof(Waitv))
    cdef Participant each
    cdef int64_t slice_ns = 1 << 62
    cdef int64_t until
    cdef int result = 0
    cdef list begun = []
    if waiters == NULL:
        raise MemoryError
    try:
        for each in participants:
            each.check()
            if each.slot == NULL:
                slice_ns = min(slice_ns, SHORT_SLICE_NS)
                continue
            each.arm()
            waiters[count].value = each.begin_park(each.ready_argument())
            begun.append(each)
            slice_ns = min(slice_ns, SHORT_SLICE_NS if each.short_slices else each.slice_ns)
            waiters[count].address = <uint64_t> each.own_word()
            waiters[count].flags = FUTEX2_SIZE_U32
            waiters[count].reserved = 0
            count += 1
        ready = ready_ones(participants)
        if ready:
            return ready
        for each in participants:
            if each.is_too_late():
                return ready
        until = min(deadline, now_ns() + slice_ns)
        if count and not is_refused:
            with nogil:
                result = futex_waitv(waiters, count, until)
            is_refused = result == -ENOSYS or result == -EPERM
        if is_refused or not count:         # if refused, our bits are set: who notifies takes us for sleepers, which costs it a wake
            result = 0
            until = min(until, now_ns() + SHORT_SLICE_NS)
            with nogil:
                sleep_until(until)
    finally:
        free(waiters)
        for each in begun:
            each.end_park()
    if result < 0 and result not in (-EAGAIN, -EINTR, -ETIMEDOUT):
        raise OSError(-result, f"shmring.wait: futex_waitv: {os.strerror(-result)}")
    return ready_ones(participants)
