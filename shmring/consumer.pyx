"""The consumer port: messages out of the ring.

The kernel's consume.pxd does the work; this file turns bytes into Python objects, codes into exceptions, and waits.
"""

from cython cimport final
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from shmring._core.atomic cimport u32
from shmring._core.consume cimport (Reader, consume_advance, consume_count, consume_has_data, consume_peek,
                                    consume_refresh, consume_release, consume_start)
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport CORRUPT, EMPTY, OK, ROLE_CONSUMER, Bell
from shmring._core.record cimport record_span
from shmring._core.repair cimport participant_sole
from shmring._core.shutdown cimport shutdown_has_begun, shutdown_is_seen
from shmring.participant cimport Lease, Participant, Ready
from shmring.ring cimport NO_WAIT, Ring, check_timeout, corrupt, deadline_after
from shmring.sigbus cimport process_epoch

from shmring.errors import ShutDown

cdef enum:
    STALE = -100                    # beside the kernel's codes: look at why epoch differs


cdef bint reader_is_ready(const void* state, uint64_t unused) noexcept nogil:
    cdef const Reader* reader = <const Reader*> state
    return consume_has_data(reader) or shutdown_is_seen(&reader.ring)


@final
cdef class Consumer(Participant):
    """Receives messages: the one member of a group. Made by `Ring.consumer`.

    Concurrency: threads of the process that made it may share it; each call is atomic, and each message goes to one of them.
    Wait-free except where it waits for data. If this process dies, the next member of the group gets every record that was not
    released: `recv` releases before it returns, `peek` when the view ends.
    """

    def __init__(self, Ring ring, object group="default", object start="earliest", object wait="adaptive"):
        if start not in ("earliest", "latest"):
            raise ValueError(f"start is 'earliest' or 'latest', not {start!r}")
        if not isinstance(group, str):
            raise TypeError(f"a group's name is a str, not {type(group).__name__}")
        self.group = group
        self.attach(ring, wait, ROLE_CONSUMER, group, start == "latest")
        self.reader.ring = ring.map
        self.reader.ring.data = self.data.address
        self.reader.slot = self.slot
        self.reader.participant = self.number
        self.reader.must_fence = self.short_slices
        consume_start(&self.reader, self.group_number)

    # ---- receiving -----------------------------------------------------------------------------------------------

    def recv(self, timeout=None):
        """The next message, as bytes; waits while there is none.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait; None: for ever; 0: not at all.

        Raises
        ------
        TimeoutError
            Nothing came.
        ShutDown
            The ring was shut down and this group has everything.
        RingTruncated, CorruptRing
            The memory is gone or damaged.

        Cost: one copy. No system call, unless a producer is parked (one futex wake) or there is nothing.
        """
        cdef int code
        cdef char* payload
        cdef uint64_t length
        cdef int64_t deadline = -1
        if timeout is not None:
            check_timeout(timeout)
        while True:
            message = self.take(&code)
            if message is not None:
                return message
            if deadline == -1:
                deadline = deadline_after(timeout)
            self.await_record(&payload, &length, deadline)

    def try_recv(self):
        """The next message, or None if there is none now. Raises as recv, but for TimeoutError."""
        cdef int code
        message = self.take(&code)
        if message is not None:
            return message
        self.check_receiving()
        message = self.take(&code)
        if message is None and code != EMPTY:
            self.raise_code(code)
        return message

    def recv_many(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` messages that are there, at least one; waits for the first.

        Returns
        -------
        list of bytes

        Raises as recv; ValueError if limit < 1. An error after the first message ends the list; the next call raises it.

        Cost: one copy each; one release for all, or for each quarter of the capacity.
        """
        cdef char* payload
        cdef uint64_t length
        cdef uint64_t quarter = self.reader.ring.capacity >> 2
        cdef list messages = []
        cdef bytes message
        if timeout is not None:
            check_timeout(timeout)
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        if self.try_peek(&payload, &length) != OK:
            self.await_record(&payload, &length, deadline_after(timeout))
        try:
            while True:
                message = PyBytes_FromStringAndSize(payload, length)
                if not guard_copy_is_whole(self.epoch, &process_epoch):     # the file may have been cut under the copy
                    if messages:
                        break
                    self.check()
                    continue
                consume_advance(&self.reader, length)
                messages.append(message)
                if self.reader.cursor - self.reader.released >= quarter:
                    self.release_handed_out()
                limit -= 1
                if limit == 0 or self.try_peek(&payload, &length) != OK:
                    break
        except MemoryError:
            if not messages:
                raise
        self.release_handed_out()
        return messages

    def recv_into(self, buffer, timeout=None):
        """Copy the next message into `buffer` (writable, contiguous). Returns its length in bytes.

        Raises as recv; ValueError if the buffer is too small, and then the message stays the next one.
        """
        cdef Py_buffer target
        cdef char* payload
        cdef uint64_t length
        if timeout is not None:
            check_timeout(timeout)
        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            if self.try_peek(&payload, &length) != OK:
                self.await_record(&payload, &length, deadline_after(timeout))
            if length > <uint64_t> target.len:
                raise ValueError(f"the message has {length} bytes, the buffer {target.len}")
            memcpy(target.buf, payload, length)
            if not guard_copy_is_whole(self.epoch, &process_epoch):
                self.check()
            consume_advance(&self.reader, length)
            self.release_handed_out()
            return length
        finally:
            PyBuffer_Release(&target)

    def peek(self, timeout=None):
        """The next message where it lies: a `View`. Parameters and errors as recv.

        Several views may be open; the group's head stays before the oldest of them, so the ring fills up behind a view that is
        kept. Cost: none that grows with the message.
        """
        cdef char* payload
        cdef uint64_t length
        cdef View view
        # Objects first: making one may run the garbage collector, and with it anything that uses this consumer.
        cdef Loan loan = Loan.__new__(Loan)
        if timeout is not None:
            check_timeout(timeout)
        view = View.__new__(View)
        if self.try_peek(&payload, &length) != OK:
            self.await_record(&payload, &length, deadline_after(timeout))
        loan.owner = self
        loan.address = payload
        loan.size = length
        loan.is_readonly = True
        loan.position = self.reader.cursor
        if self.newest_loan is None:
            self.oldest_loan = loan
        else:
            self.newest_loan.newer = loan
        self.newest_loan = loan
        view.owner = self
        view.loan = loan
        view.redelivered = <int64_t> (loan.position - self.reader.redelivered_until) < 0
        consume_advance(&self.reader, length)
        return view

    def __iter__(self):
        return self

    def __next__(self):
        """The next message; ends when the ring was shut down and this group has everything."""
        try:
            return self.recv()
        except ShutDown:
            raise StopIteration from None

    # ---- facts ---------------------------------------------------------------------------------------------------

    @property
    def lag(self):
        """Messages that wait for this group (a snapshot). Cost: a pass over their headers, some ns each."""
        cdef uint64_t count = 0
        self.check()
        consume_count(&self.reader.ring, self.reader.cursor, &count)
        return count

    @property
    def lost(self):
        """Messages that an observer was lapped out of; always 0 for a group's member, which holds the producers back."""
        return 0

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef bytes take(self, int* code):
        """The fast path: the next message, or None and a kernel code or STALE."""
        cdef char* payload = NULL
        cdef uint64_t length = 0
        cdef int woken
        cdef bytes message
        code[0] = self.try_peek(&payload, &length)
        if code[0] != OK:
            return None
        message = PyBytes_FromStringAndSize(payload, length)
        if not guard_copy_is_whole(self.epoch, &process_epoch):         # the file was cut under the copy
            code[0] = STALE
            return None
        consume_advance(&self.reader, length)
        if self.oldest_loan is None:
            woken = consume_release(&self.reader, self.reader.cursor)
            if woken:
                self.note_wakes(woken)
        return message

    cdef int try_peek(self, char** payload, uint64_t* length) noexcept:
        if self.epoch != process_epoch:
            return STALE
        return consume_peek(&self.reader, payload, length)

    cdef await_record(self, char** payload, uint64_t* length, int64_t deadline):
        """The record at the cursor, waiting for it until the deadline."""
        cdef int code
        while True:
            self.check_receiving()
            code = self.try_peek(payload, length)
            if code == OK:
                return
            if code == CORRUPT:
                self.raise_code(code)
            if code == EMPTY and (deadline == NO_WAIT or not self.wait_for(reader_is_ready, &self.reader, 0, deadline)):
                self.check_receiving()
                self.raise_empty()

    cdef release_handed_out(self):
        """Let go of what was handed out, up to the oldest record that is lent out."""
        cdef uint64_t position = self.reader.cursor if self.oldest_loan is None else self.oldest_loan.position
        if position != self.reader.released:
            self.note_wakes(consume_release(&self.reader, position))

    cdef check_receiving(self):
        if self.epoch != process_epoch:
            self.check()
        if shutdown_has_begun(&self.reader.ring) and not consume_has_data(&self.reader):
            raise ShutDown(f"ring {self.ring.name!r} was shut down, and group {self.group!r} has everything")

    cdef raise_code(self, int code):
        self.check()                                    # a cut file reads as zeros
        raise corrupt(&self.reader.fault, self.ring.name)

    cdef raise_empty(self):
        cdef object sole = participant_sole(&self.reader.ring)
        writer = self.ring.registry.describe_holder(sole)
        raise TimeoutError(f"no message for group {self.group!r} of ring {self.ring.name!r}; it is written by {writer}")

    # ---- for waiting ---------------------------------------------------------------------------------------------

    cdef Ready ready_check(self):
        return reader_is_ready

    cdef const void* ready_state(self):
        return &self.reader

    cdef uint64_t ready_argument(self):
        return 0

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        pass                                            # the group's cursor, stored by consume_advance, says it

    cdef Bell* own_bell(self):
        return self.reader.ring.data_bell

    cdef u32* own_word(self):
        return &self.reader.group.sequence

    cdef str role_name(self):
        return "consumer"


@final
cdef class View:
    """A message where it lies, between peek and release. A context manager: leaving it releases.

    Attributes
    ----------
    data : memoryview
        Read-only, in the ring itself. It ends with the view; arrays made from it stay safe to touch, but will read whatever
        the producers put there next. Copy what is needed longer.
    sequence : int
        The record's position in the ring: grows from record to record, by more than one.
    redelivered : bool
        An earlier member of the group had it, and died (or closed) before it released it.
    """

    def __init__(self):
        raise TypeError("views are made by Consumer.peek")

    @property
    def data(self):
        """Read-only memoryview of the message."""
        self.check_open()
        if self.memory is None:
            self.memory = PyMemoryView_FromObject(self.loan)
        return self.memory

    @property
    def sequence(self):
        return self.loan.position

    def release(self):
        """Let the record go. A view that was released stays as it is. Dropping the last reference releases, too."""
        if self.owner is not None:
            self.end()

    def __len__(self):
        return self.loan.size

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, kind, value, traceback):
        if self.owner is not None:
            self.end()

    def __del__(self):
        if self.owner is not None:
            try:
                self.end()
            except Exception:
                pass                                    # the consumer's next call tells what is wrong

    cdef check_open(self):
        if self.owner is None:
            raise ValueError("this view was released already")
        if self.owner.is_closed:
            raise ValueError("this view's consumer is closed")

    cdef end(self):
        cdef Consumer owner = self.owner
        self.owner = None
        self.loan.end(self.memory)
        self.memory = None
        if owner.is_closed:
            return
        # Views may end in any order; the head moves up to the oldest that is still open.
        while owner.oldest_loan is not None and owner.oldest_loan.has_ended:
            owner.oldest_loan = owner.oldest_loan.newer
        if owner.oldest_loan is None:
            owner.newest_loan = None
        if owner.epoch != process_epoch:
            owner.check()
        owner.release_handed_out()
