"""The consumer port: messages out of the ring, for a member of a group.

The kernel's claim.pxd and member.pyx find the records; this file turns their bytes into Python objects.
"""

from cython cimport final
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.claim cimport claim_count, claim_release, claim_walk
from shmring._core.futex cimport now_ns
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.keep cimport claim_keep, claim_put_back, claim_take_pending
from shmring._core.layout cimport ATTENTION, EMPTY, OK, ROLE_CONSUMER, TOO_LARGE, mark_position
from shmring._core.membership cimport group_head_word
from shmring._core.reader cimport reader_has_peers
from shmring._core.record cimport record_payload, record_span
from shmring._core.snapshot cimport snapshot_lag
from shmring._core.sole cimport sole_claim, sole_is_all, sole_look, sole_pass
from shmring.member cimport Member
from shmring.receiver cimport STALE, check_start
from shmring.ring cimport Ring, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.view cimport Loan, View

from shmring.errors import ShutDown


cdef object objects = None


cdef object load_objects():
    """shmring.objects, which is loaded when it is first used."""
    global objects
    if objects is None:
        from shmring import objects as loaded
        objects = loaded
    return objects


@final
cdef class Consumer(Member):
    """Receives messages: a member of a group, of which each message goes to one. Made by `Ring.consumer`.

    Concurrency: threads of the process that made it may share it; each call is atomic, and each message goes to one of them.
    Wait-free while it is the only member, lock-free otherwise, except where it waits for data. If this process dies, the other
    members (or the next one) get every record that was not released: `recv` releases before it returns, `peek` when the view
    ends.
    """

    def __init__(self, Ring ring, object group="default", object start="earliest", object ephemeral=None,
                 object redeliver=None, bint exclusive=False, bint end_with_producers=False, object wait="adaptive"):
        check_start(start)
        if not isinstance(group, str):
            raise TypeError(f"a group's name is a str, not {type(group).__name__}")
        self.group = group
        self.from_latest = start == "latest"
        self.ephemeral, self.redeliver, self.exclusive = ephemeral, redeliver, exclusive
        self.ends_with_producers = end_with_producers
        self.attach(ring, wait, ROLE_CONSUMER)
        self.most_borrowed = self.reader.ring.capacity >> 1

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
        if timeout is not None:
            check_timeout(timeout)
        message = self.take(&code)
        return message if message is not None else self.receive_slowly(code, timeout)

    def __next__(self):
        """The next message; ends when the ring was shut down (or its producers left: end_with_producers) and this group has
        everything.
        """
        cdef int code
        message = self.take(&code)
        if message is not None:
            return message
        try:
            return self.receive_slowly(code, None)
        except ShutDown:
            raise StopIteration from None

    def recv_many(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` messages that are there, at least one; waits for the first.

        A member of a group with several leaves the others their share of what is there.

        Returns
        -------
        list of bytes

        Raises as recv; ValueError if limit < 1. An error after the first message ends the list; the next call raises it.

        Cost: one copy each; one claim and one release for all, or for each quarter of the capacity.
        """
        cdef int64_t deadline = -1
        cdef int code
        cdef list messages = []
        if timeout is not None:
            check_timeout(timeout)
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        while True:
            code = self.read_some(messages, limit, UINT64_MAX)
            if messages:
                return messages
            if code != EMPTY:
                self.raise_for(code)
                continue
            if deadline == -1:
                deadline = deadline_after(timeout)
            self.await_data(deadline)

    def recv_into(self, buffer, timeout=None):
        """Copy the next message into `buffer` (writable, contiguous). Returns its length in bytes.

        Raises as recv; ValueError if the buffer is too small, and then the message stays the next one.
        """
        cdef Py_buffer target
        cdef uint64_t length = 0, position = 0
        cdef int64_t deadline = -1
        cdef int code, entry = 0
        if timeout is not None:
            check_timeout(timeout)
        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            while True:
                code = self.find(target.len, &position, &length, &entry)
                if code == OK:
                    memcpy(target.buf, record_payload(&self.reader.ring, position), length)
                    if not guard_copy_is_whole(self.epoch, &process_epoch):
                        self.check()
                    self.let_go(entry, length)
                    return length
                if code == TOO_LARGE:
                    raise ValueError(f"the message has {length} bytes, the buffer {target.len}")
                if code != EMPTY:
                    self.raise_for(code)
                    continue
                if deadline == -1:
                    deadline = deadline_after(timeout)
                self.await_data(deadline)
        finally:
            PyBuffer_Release(&target)

    def peek(self, timeout=None):
        """The next message where it lies: a `View`. Parameters and errors as recv.

        Several views may be open, by several members as well; nothing before the oldest of them is overwritten, so the ring fills
        up behind a view that is kept. Raises TooManyViews if they lie too far apart. Cost: none that grows with the message.
        """
        cdef int64_t deadline = -1
        cdef int code = OK
        cdef View view
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

    # ---- objects and arrays --------------------------------------------------------------------------------------

    def peek_obj(self, timeout=None):
        """The next message as an object whose arrays are views into the ring, read-only: an `ObjectView`, with `obj`.

        Parameters and errors as recv_obj. If arrays of it outlive the view, the record stays until they are gone: see
        `borrow_limit` and `stats`. Cost: none that grows with the arrays.
        """
        cdef list made = []
        if self.left is not None:
            raise BufferError("messages were taken that could not be unpacked then; ask for those first (recv_obj)")
        view = self.peek_made(timeout, self.codec, made)
        return load_objects().ObjectView(view, made[0])

    def peek_array(self, timeout=None):
        """The next message, an array, where it lies: an `ArrayView`, with `array`, a read-only numpy.ndarray.

        It may be kept: as long as the array, or anything made of its memory, lives, the record stays where it is. See
        `borrow_limit` and `stats`. Parameters and errors as recv_array. Cost: none that grows with the array.
        """
        cdef list made = []
        view = self.peek_made(timeout, self.arrays(), made)
        return load_objects().ArrayView(view, made[0])

    def recv_array(self, timeout=None, *, out=None):
        """The next message, an array, as one with its own memory.

        Parameters
        ----------
        timeout : float or None
            As for recv.
        out : numpy.ndarray or None
            Copy it into this one, which must have the same type and shape, and return that. A large new array costs more than
            the copy: its pages are new, too.

        Raises
        ------
        ValueError
            `out` has another type or shape (the text has both), and the message was put back: it is the next one that this consumer
            gets (its views say redelivered), and no other member's, unless this one leaves. Or `out` is read-only.
        TypeError
            `out` is no numpy.ndarray.
        CodecError
            The message is no array (it is received all the same), or the ring's content names another codec than "ndarray".
        As recv otherwise.

        Cost: one copy of the elements.
        """
        cdef View view
        cdef list made = []
        codec = self.arrays()
        if out is not None and not getattr(getattr(out, "flags", None), "writeable", False):
            load_objects().check_out(out)               # raises
        view = self.peek_made(timeout, codec, made, out is not None)
        if out is None:
            out = made[0]
        else:
            try:
                load_objects().array_into(made.pop(), out)
            except BaseException:
                self.put_back(view)
                raise
        view.end()
        return out

    cdef View peek_made(self, object timeout, object codec, list made, bint borrow=True):
        cdef View view = self.peek(timeout)
        try:
            obj = codec.unpack(view.data, borrow=borrow)
            view.loan.holder = (obj.dtype, obj.shape) if codec is self.array_codec else type(obj)
            made.append(obj)
        except BaseException as error:
            obj = None                                  # its memory would keep the record
            self.end_or_put_back(view, error)
            raise
        return view

    # ---- facts ---------------------------------------------------------------------------------------------------

    @property
    def lag(self):
        """Messages that no member of this group has received (a snapshot). Cost: a pass over their headers, some ns each."""
        cdef uint64_t count = 0
        self.check()
        snapshot_lag(&self.reader.ring, mark_position(group_head_word(&self.reader.ring, self.reader.group_number),
                                                      self.reader.cursor), UINT64_MAX, &count)
        return count

    @property
    def lost(self):
        """Messages that an observer was lapped out of; always 0 for a group's member, which holds the producers back."""
        return 0

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef bytes take(self, int* code):
        return take_within(self, code, UINT64_MAX)

    cdef bytes take_small(self, int* code):
        return take_within(self, code, LARGE)

    cdef bint next_is_large(self) noexcept:
        cdef uint64_t length = 0
        return (self.epoch == process_epoch and sole_is_all(&self.reader)
                and sole_look(&self.reader, self.reader.cursor, &length) == OK and length > LARGE)

    cdef View take_view(self, int* code):
        """The next message where it lies, or None and a kernel code or STALE."""
        cdef uint64_t length = 0, position
        cdef int entry = 0
        # Objects first: making one may run the garbage collector, and with it anything that uses this consumer.
        cdef Loan loan = Loan.__new__(Loan)
        cdef View view = View.__new__(View)
        code[0] = sole_claim(&self.reader, UINT64_MAX, &length) if self.epoch == process_epoch else STALE
        position = self.reader.start
        if code[0] == ATTENTION:
            code[0] = self.find(UINT64_MAX, &position, &length, &entry)
        if code[0] != OK:
            return None
        if entry:
            claim_take_pending(&self.reader, entry, length)
            view.redelivered = True
        else:
            claim_count(&self.reader, length)
            entry = claim_keep(&self.reader)
        loan.owner = self
        loan.address = record_payload(&self.reader.ring, position)
        loan.size = length
        loan.is_readonly = True
        loan.position = position
        loan.entry = entry
        loan.since_ns = now_ns()
        if self.newest_loan is None:
            self.oldest_loan = loan
        else:
            self.newest_loan.newer = loan
        self.newest_loan = loan
        view.owner = self
        view.loan = loan
        return view

    cdef int read_some(self, list messages, Py_ssize_t limit, uint64_t longest) except? -100:
        """Append what is there, up to `limit` in the list. A kernel code or STALE; TOO_LARGE: the next message is longer than
        `longest`, and stays the next.
        """
        cdef uint64_t quarter = self.reader.ring.capacity >> 2
        cdef int code
        while True:
            code = self.read_sole(messages, limit, quarter, longest)
            if code == ATTENTION:
                code = self.read_shared(messages, limit, quarter, longest)
            if code != OK or len(messages) >= limit or reader_has_peers(&self.reader):
                return code

    cdef int read_sole(self, list messages, Py_ssize_t limit, uint64_t most_bytes, uint64_t longest) except? -100:
        """The same for about `most_bytes`. ATTENTION: read_shared."""
        cdef uint64_t begin = self.reader.cursor, position = begin, length = 0, total = 0
        cdef Py_ssize_t had = len(messages), count = had
        cdef int woken = 0
        cdef int code = OK
        cdef bytes message
        if self.epoch != process_epoch:
            return STALE
        if not sole_is_all(&self.reader):
            return ATTENTION
        try:
            while count < limit and position - begin < most_bytes:
                code = sole_look(&self.reader, position, &length)
                if code == OK and length > longest:
                    code = TOO_LARGE
                if code != OK:
                    break
                message = PyBytes_FromStringAndSize(record_payload(&self.reader.ring, position), length)
                if not guard_copy_is_whole(self.epoch, &process_epoch):
                    code = STALE
                    break
                messages.append(message)
                position += record_span(length, self.reader.ring.align)
                total += length
                count += 1
        except MemoryError:
            if not messages:
                raise                                   # the next call finds them again
        if position == begin:
            return code
        if not sole_pass(&self.reader, position, count - had, total, &woken):
            del messages[had:]
            return ATTENTION
        self.note_wakes(woken)
        return OK

    cdef int read_shared(self, list messages, Py_ssize_t limit, uint64_t most_bytes, uint64_t longest) except? -100:
        """The same where there are other members, open views, or somebody's unfinished business. Not OK: nothing more now."""
        cdef int code = self.claim_some(limit - len(messages), most_bytes, longest, NULL)
        if code == OK:
            return OK if self.copy_range(messages) else EMPTY
        if code == ATTENTION:                           # a dead member's
            message = self.take_carefully(&code, longest)
            if message is not None:
                messages.append(message)
        return code

    cdef bint copy_range(self, list messages) except -1:
        """Append every message of the range that was won, and release it. False: the memory is gone, or none was left."""
        cdef uint64_t position = self.reader.start, length = 0
        cdef bytes message
        cdef int code = OK
        try:
            while True:
                code = claim_walk(&self.reader, &position, &length)
                if code != OK:
                    break
                message = PyBytes_FromStringAndSize(record_payload(&self.reader.ring, position), length)
                if not guard_copy_is_whole(self.epoch, &process_epoch):
                    code = STALE
                    break
                messages.append(message)
                claim_count(&self.reader, length)
                position += record_span(length, self.reader.ring.align)
        except MemoryError:
            if not messages:
                raise                                   # the next call puts the range back
        if position != self.reader.end:
            self.reader.start = position
            claim_put_back(&self.reader)
            if not messages:
                self.raise_for(code)
            return False
        self.note_wakes(claim_release(&self.reader))
        return True


cdef inline bytes take_within(Consumer rx, int* code, uint64_t longest):
    """The fast path: the next message, or None and a kernel code or STALE; TOO_LARGE: it is longer, and stays the next."""
    cdef uint64_t position = rx.reader.cursor, length = 0
    cdef int woken = 0
    cdef bytes message
    if rx.epoch != process_epoch:
        code[0] = STALE
        return None
    if not sole_is_all(&rx.reader):
        return rx.take_carefully(code, longest)
    code[0] = sole_look(&rx.reader, position, &length)
    if code[0] != OK:
        return rx.take_carefully(code, longest) if code[0] == ATTENTION else None
    if length > longest:
        code[0] = TOO_LARGE
        return None
    message = PyBytes_FromStringAndSize(record_payload(&rx.reader.ring, position), length)
    if not guard_copy_is_whole(rx.epoch, &process_epoch):               # the file was cut under the copy
        code[0] = STALE
        return None
    if not sole_pass(&rx.reader, position + record_span(length, rx.reader.ring.align), 1, length, &woken):
        return rx.take_carefully(code, longest)
    if woken:
        rx.note_wakes(woken)
    return message
