"""The observer port: messages out of the ring, without ever holding the producers back.

The kernel's observe.pxd does the work; this file turns bytes into Python objects, codes into exceptions, and waits.
"""

import os
import sys

from cython cimport final
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from shmring._core.atomic cimport u32
from shmring._core.futex cimport now_ns
from shmring._core.gate cimport gate_tail
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport EMPTY, LAPPED, OK, ROLE_OBSERVER, Bell, Fault, RingMap
from shmring._core.observe cimport (Watcher, observe_advance, observe_announce, observe_has_data, observe_is_drained, observe_is_whole,
                                    observe_jump, observe_latest, observe_peek, observe_start)
from shmring._core.record cimport record_span
from shmring._core.shutdown cimport shutdown_is_seen
from shmring._core.snapshot cimport snapshot_lag
from shmring.receiver cimport STALE, Receiver, check_start, producers_are_gone
from shmring.registry cimport corrupt
from shmring.ring cimport Ring, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.view cimport Lease, ObservedView
from shmring.waiter cimport Ready

from shmring import policy as policies
from shmring.errors import ShutDown


cdef enum:
    LAPS_PER_LOOK = 100             # times in a row that it is lapped, between two looks at signals and the clock

cdef int64_t UNTIL_NEWS_NS = 1000000000     # between two log records about losses


cdef bint watcher_is_ready(const void* state, uint64_t ends_with_producers) noexcept nogil:
    cdef const Watcher* watcher = <const Watcher*> state
    if observe_has_data(watcher):
        return True
    if shutdown_is_seen(&watcher.ring) or (ends_with_producers and producers_are_gone(&watcher.ring)):
        return observe_is_drained(watcher)
    return False


@final
cdef class Observer(Receiver):
    """Sees the messages that go by. Made by `Ring.consumer(lossy=True)`; also of a ring that is open for reading only.

    It belongs to no group and holds nobody back: whoever falls a whole capacity behind is lapped, goes on with the oldest
    messages that are a while ahead of the producers, and finds in `lost` how many it missed. What it returns is whole.

    Concurrency: threads of the process that made it may share it; each call is atomic. Wait-free except where it waits for data.
    Of a ring that is open for reading only it cannot be woken: it looks every millisecond (WaitPolicy says what it does before).
    """

    def __init__(self, Ring ring, object start="earliest", bint end_with_producers=False, object wait="adaptive"):
        check_start(start)
        self.from_latest = start == "latest"
        self.ends_with_producers = end_with_producers
        if not ring.readonly:
            self.attach(ring, wait, ROLE_OBSERVER)
            return
        self.adopt_policy(policies.resolve(wait))
        self.ring = ring
        self.pid = os.getpid()
        ring.pin()
        try:
            self.data = ring.data_mapping(False)
            self.begin()
        except BaseException:
            ring.unpin()
            raise
        self.is_closed = False
        self.epoch = process_epoch
        ring.participants.add(self)

    cdef take_role(self):
        self.take_slot(ROLE_OBSERVER, 0xffffffff, 0)
        self.begin()

    cdef begin(self):
        self.watcher.ring = self.ring.map
        self.watcher.ring.data = self.data.address
        self.watcher.slot = self.slot
        if observe_start(&self.watcher, self.from_latest) != OK:
            raise corrupt(&self.watcher.fault, self.ring.label)

    # ---- receiving -----------------------------------------------------------------------------------------------

    def recv(self, timeout=None):
        """The next message that is still in the ring, as bytes; waits while there is none.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait; None: for ever; 0: not at all.

        Raises
        ------
        TimeoutError
            Nothing came.
        ShutDown
            The ring was shut down and everything was seen.
        RingTruncated, CorruptRing
            The memory is gone or damaged.

        Cost: one copy, and no word that others write but those of the producers.
        """
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        message = self.take(&code)
        return message if message is not None else self.receive_slowly(code, timeout)

    def __next__(self):
        """The next message; ends when the ring was shut down (or its producers left) and everything was seen."""
        cdef int code
        message = self.take(&code)
        if message is not None:
            return message
        try:
            return self.receive_slowly(code, None)
        except ShutDown:
            raise StopIteration from None

    def recv_many(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` messages that are there, at least one; waits for the first. Returns a list of bytes; raises as recv."""
        cdef list messages
        cdef int code = OK
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        if timeout is not None:
            check_timeout(timeout)
        message = self.take(&code)
        messages = [message if message is not None else self.receive_slowly(code, timeout)]
        while len(messages) < limit:
            message = self.take(&code)
            if message is not None:
                messages.append(message)
            elif code != LAPPED:
                break
        return messages

    def recv_into(self, buffer, timeout=None):
        """Copy the next message into `buffer` (writable, contiguous). Returns its length in bytes.

        Raises as recv; ValueError if the buffer is too small, and then the message stays the next one. The buffer's content counts
        only when this returns.
        """
        cdef Py_buffer target
        cdef char* payload = NULL
        cdef uint64_t length = 0
        cdef int64_t deadline = -1
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            while True:
                code = self.try_peek(&payload, &length)
                if code == OK:
                    if length > <uint64_t> target.len:
                        raise ValueError(f"the message has {length} bytes, the buffer {target.len}")
                    memcpy(target.buf, payload, length)
                    if not guard_copy_is_whole(self.epoch, &process_epoch):
                        self.check()
                    if not observe_is_whole(&self.watcher.ring, self.watcher.position):
                        continue
                    observe_advance(&self.watcher, length)
                    return length
                if code != EMPTY:
                    self.raise_for(code)
                    continue
                if deadline == -1:
                    deadline = deadline_after(timeout)
                self.await_data(deadline)
        finally:
            PyBuffer_Release(&target)

    def latest(self, timeout=None):
        """The newest message, as bytes; those before it are skipped, and not counted as lost. Waits if that was seen already.

        A claim that is open may hide what is behind it, or be passed.

        Parameters and errors as recv. Cost: a pass over the headers of up to an eighth of the capacity.
        """
        cdef int64_t deadline = -1
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        while True:
            if self.epoch != process_epoch:
                self.check()
            code = self.go_to_latest()
            if code == OK or code == EMPTY:             # then step over records that are not to be, as long as nothing came
                message = self.take(&code)
                if message is not None:
                    return message
            if code != EMPTY and code != LAPPED:        # lapped all the time: there is something, but the time may be up
                self.raise_for(code)
                continue
            if deadline == -1:
                deadline = deadline_after(timeout)
            self.await_data(deadline)

    def peek(self, timeout=None):
        """The next message where it lies: an `ObservedView`. Parameters and errors as recv.

        Nothing keeps the producers from writing over it: what was read of it counts only if `view.valid` is True afterwards.
        """
        cdef int64_t deadline = -1
        cdef int code = OK
        cdef ObservedView view
        if timeout is not None:
            check_timeout(timeout)
        while True:
            view = self.take_view(&code)
            if view is not None:
                return view
            if code != EMPTY:
                self.raise_for(code)
                continue
            if deadline == -1:
                deadline = deadline_after(timeout)
            self.await_data(deadline)

    def recv_array(self, timeout=None, *, out=None):
        """The next message that is still in the ring, an array, as one with its own memory. As Consumer.recv_array; two copies.

        After a ValueError for `out` the message is the next one again, unless the producers write over it first.
        """
        cdef bytes message
        cdef uint64_t behind
        codec = self.arrays()
        if out is None:
            return codec.unpack(self.recv(timeout))
        from shmring.objects import array_into, check_out
        check_out(out)
        message = self.recv(timeout)
        behind = self.watcher.position
        array = codec.unpack(message, borrow=True)
        try:
            array_into(array, out)
        except ValueError:
            self.go_back(behind, len(message))
            raise
        return out

    # ---- facts ---------------------------------------------------------------------------------------------------

    @property
    def lag(self):
        """Messages in the ring that were not received yet (a snapshot). Cost: a pass over their headers."""
        cdef uint64_t count = 0
        self.check()
        snapshot_lag(&self.watcher.ring, self.watcher.position, UINT64_MAX, &count)
        return count

    @property
    def lost(self):
        """Messages it was lapped out of, since it began. One whose producer died or gave it up meanwhile counts as well."""
        return self.watcher.lost

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef bytes take(self, int* code):
        """The next message, or None and a kernel code or STALE. After LAPPED, the next call goes on further ahead."""
        cdef char* payload = NULL
        cdef uint64_t length = 0
        cdef bytes message
        code[0] = self.try_peek(&payload, &length)
        if code[0] != OK:
            return None
        message = PyBytes_FromStringAndSize(payload, length)
        if not guard_copy_is_whole(self.epoch, &process_epoch):
            code[0] = STALE
            return None
        if not observe_is_whole(&self.watcher.ring, self.watcher.position):
            code[0] = LAPPED
            return None
        observe_advance(&self.watcher, length)
        return message

    cdef go_back(self, uint64_t behind, uint64_t length):
        """Before the message of `length` bytes that ends at `behind`, unless another thread has gone on since."""
        if self.watcher.position != behind:
            return
        self.watcher.position -= record_span(length, self.watcher.ring.align)
        self.watcher.number -= 1
        self.watcher.messages -= 1
        self.watcher.bytes -= length

    cdef int go_to_latest(self) noexcept:
        return observe_latest(&self.watcher)

    cdef ObservedView take_view(self, int* code):
        """The next message where it lies, or None and a kernel code or STALE."""
        cdef char* payload = NULL
        cdef uint64_t length = 0
        # Objects first, as in Consumer.
        cdef ObservedView view = ObservedView.__new__(ObservedView)
        cdef Lease lease = Lease.__new__(Lease)
        code[0] = self.try_peek(&payload, &length)
        if code[0] != OK:
            return None
        lease.owner = self
        lease.address = payload
        lease.size = length
        lease.is_readonly = True
        view.owner = self
        view.map = &self.watcher.ring
        view.lease = lease
        view.position = self.watcher.position
        observe_advance(&self.watcher, length)
        return view

    cdef int try_peek(self, char** payload, uint64_t* length) except? -100:
        cdef int code
        if self.epoch != process_epoch:
            return STALE
        code = observe_peek(&self.watcher, payload, length)
        if code != LAPPED:
            if self.laps:
                self.laps = 0
            return code
        # Lapped again and again, there is no end of it that we know: who waits looks at signals and the clock first.
        self.laps += 1
        if not observe_jump(&self.watcher) or self.laps % LAPS_PER_LOOK == 0:
            return EMPTY
        return LAPPED

    cdef raise_for(self, int code):
        Receiver.raise_for(self, code)
        if code == LAPPED and self.watcher.lost != self.told_lost and now_ns() >= self.told_until:
            self.tell_lost()

    cdef tell_lost(self):
        """To the log, if the program has one: a lapped observer has no time to load it."""
        cdef uint64_t before = self.told_lost
        self.told_lost = self.watcher.lost
        self.told_until = now_ns() + UNTIL_NEWS_NS
        if "logging" not in sys.modules:
            return
        try:
            from shmring import news
        except (ImportError, OSError):
            return                      # as in Registry.give_away
        news.log_lapped(self.ring.name, self.ring.label, self.number if self.slot != NULL else None, self.told_lost - before, self.told_lost)

    # ---- for waiting ---------------------------------------------------------------------------------------------

    cdef Ready ready_check(self):
        return watcher_is_ready

    cdef const void* ready_state(self):
        return &self.watcher

    cdef uint64_t ready_argument(self):
        return self.ends_with_producers

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        observe_announce(&self.watcher)

    cdef bint is_drained(self) noexcept:
        return observe_is_drained(&self.watcher)

    cdef RingMap* own_map(self) noexcept:
        return &self.watcher.ring

    cdef Fault* own_fault(self) noexcept:
        return &self.watcher.fault

    cdef str full_name(self):
        return "an observer"

    cdef bint is_blocked(self) noexcept:
        return (self.ends_with_producers or (self.watcher.ring.is_multi
                and gate_tail(&self.watcher.ring, self.watcher.position) != self.watcher.position))

    cdef doubt(self):
        if self.slot == NULL and self.ends_with_producers:
            self.check_producers()

    cdef Bell* own_bell(self):
        return self.watcher.ring.data_bell

    cdef u32* own_word(self):
        return &self.watcher.ring.data_bell.sequence

    cdef str role_name(self):
        return "observer"
