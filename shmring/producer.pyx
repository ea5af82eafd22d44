"""The producer port: messages into the ring.

The kernel's produce.pxd and sender.pyx find room and wait for it; this file turns Python objects into bytes there.
"""

from cython cimport final
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.atomic cimport seldom
from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport FULL, OK, ROLE_PRODUCER
from shmring._core.produce cimport (produce_abort, produce_finish, produce_is_open, produce_most_batch, produce_ponder,
                                    produce_publish, produce_reserve, produce_reserve_batch)
from shmring._core.record cimport record_span
from shmring._core.reserve cimport MOST_MESSAGES
from shmring._core.shutdown cimport shutdown_is_seen
from shmring.participant cimport aio
from shmring.ring cimport Ring, check_timeout, deadline_after
from shmring.sender cimport STALE, Sender
from shmring.sigbus cimport process_epoch
from shmring.view cimport Lease

from shmring.errors import ShutDown


@final
cdef class Producer(Sender):
    """Sends messages. Made by `Ring.producer`.

    Concurrency: threads of the process that made it may share it; each call is atomic. While a claim is open, other sends
    raise ClaimOpen. Wait-free if the ring is for one producer, else lock-free, except where it waits for room.
    """

    def __init__(self, Ring ring, object wait="adaptive"):
        if ring.is_shutdown:
            raise ShutDown(f"ring {ring.label} was shut down")
        self.wanted = 0
        self.attach(ring, wait, ROLE_PRODUCER)

    def send(self, message, timeout=None):
        """Send one message; wait while the ring is full.

        Parameters
        ----------
        message : bytes-like
            Anything with a contiguous buffer, 0 bytes to `ring.max_message`.
        timeout : float or None
            Seconds to wait for room; None: for ever; 0: not at all.

        Raises
        ------
        TimeoutError
            Still no room; the text names the group that holds it back.
        MessageTooLarge, ShutDown, ClaimOpen
        RingTruncated, CorruptRing
            The memory is gone or damaged.

        Cost: one copy. No system call, unless a consumer is parked (one futex wake) or the ring is full.
        """
        cdef Py_buffer buffer
        if timeout is not None:
            check_timeout(timeout)
        if PyBytes_CheckExact(message):
            if self.try_write(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)) != OK:
                self.write(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), deadline_after(timeout))
            return
        PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)
        try:
            if self.try_write(<const char*> buffer.buf, buffer.len) != OK:
                self.write(<const char*> buffer.buf, buffer.len, deadline_after(timeout))
        finally:
            PyBuffer_Release(&buffer)

    def try_send(self, message):
        """Send one message if there is room now. Returns whether it was sent. Raises as send, but for TimeoutError.

        False also while another thread of this producer writes an object into the ring.
        """
        cdef Py_buffer buffer
        cdef int code
        PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)
        try:
            code = self.try_write(<const char*> buffer.buf, buffer.len)
            while code == STALE:                        # twice, if `message` is in a file that was cut as well
                if self.others_write():
                    return False
                self.check_sending()
                code = self.try_write(<const char*> buffer.buf, buffer.len)
            if code == FULL:
                self.check_sending()
                self.wanted = buffer.len
                self.note_poll(1)
                return False
            if code != OK:
                self.raise_code(code, buffer.len)
            return True
        finally:
            PyBuffer_Release(&buffer)

    def send_many(self, messages, timeout=None):
        """Send messages in order; they are published together, or in as few parts as the room allows.

        Parameters
        ----------
        messages : iterable of bytes-like
            It is taken whole (as a list) before the first is sent.
        timeout : float or None
            Seconds to wait for room, for all together.

        Returns
        -------
        int
            Messages sent: all, or fewer (but at least one) when the time was up.

        Raises
        ------
        TimeoutError
            Not even the first could be sent.
        MessageTooLarge, ShutDown, TypeError, BufferError
            One of them was refused. Those before it are sent; the exception's attribute `sent` says how many.

        Cost: one copy each; one publish, and at most one wake, for each part. With many producers, neighbouring `bytes` objects
        share one reservation of at most half of the capacity; other messages have one each.
        """
        cdef list batch = messages if type(messages) is list else list(messages)
        cdef Py_ssize_t sent = 0, total = len(batch)
        cdef int64_t deadline = -1
        cdef char* payload = NULL
        cdef const char* data
        cdef uint64_t length
        cdef Py_buffer buffer
        cdef bint is_bytes
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        self.ran_full = False
        try:
            if self.epoch != process_epoch:
                self.check_sending()
            if shutdown_is_seen(&self.writer.ring):
                self.check_sending()
            # No Python code runs between reserve and finish, and the writer is consistent before and after, so that whatever
            # a message's buffer method does to this producer is in order.
            while sent < total and sent < len(batch):
                if self.writer.ring.is_multi and not produce_is_open(&self.writer):
                    self.open_batch(batch, sent)
                    if shutdown_is_seen(&self.writer.ring):                 # after reserving, as in try_write
                        self.check_sending()
                message = batch[sent]
                is_bytes = PyBytes_CheckExact(message)
                if is_bytes:
                    data = PyBytes_AS_STRING(message)
                    length = PyBytes_GET_SIZE(message)
                else:
                    PyObject_GetBuffer(message, &buffer, PyBUF_SIMPLE)
                    data = <const char*> buffer.buf
                    length = buffer.len
                try:
                    code = produce_reserve(&self.writer, length, &payload) if self.epoch == process_epoch else STALE
                    if code != OK:
                        if code == FULL or code == STALE:
                            if self.epoch == process_epoch:
                                self.publish()
                            if deadline == -1:
                                deadline = deadline_after(timeout)
                            payload = self.reserve_bytes(length, deadline)
                        else:
                            self.raise_code(code, length)
                    memcpy(payload, data, length)
                    produce_finish(&self.writer, length)
                finally:
                    if not is_bytes:
                        PyBuffer_Release(&buffer)
                        message = None              # its finalizer may send; no reservation is open now
                sent += 1
            if self.epoch != process_epoch:         # the file was cut under the copies
                self.check_sending()
            self.publish()
        except BaseException as error:
            if self.ran_full and sent and isinstance(error, TimeoutError):
                return sent
            if not self.is_closed and (self.epoch == process_epoch or self.is_busy):
                self.publish()
            if not self.is_busy:
                self.departing()
            error.sent = sent
            raise
        return sent

    def asend(self, message):
        """Send one message from a coroutine of an asyncio loop: `await tx.asend(message)`, which waits while the ring is full.

        Several tasks of one loop may do so with the same handle; they are served in the order in which they came. Cancelled, it has
        sent nothing. A buffer that is not `bytes` must not change before it returns. Raises as send, but for TimeoutError.

        Cost: as send, and a coroutine. See `fileno` for how it is woken.
        """
        return aio().send(self, message)

    def asend_obj(self, obj):
        """Send an object from a coroutine. As asend and send_obj; it is packed anew each time that there may be room."""
        return aio().send_obj(self, obj)

    def asend_many(self, messages):
        """Send messages in order, as asend and send_many. Returns their number.

        If it is cancelled or one of them is refused, those before are sent; the exception's attribute `sent` says how many.
        """
        return aio().send_many(self, messages)

    def reserve(self, Py_ssize_t nbytes, timeout=None):
        """Room for a message of up to `nbytes` bytes, to be written in place: a `Claim`. Parameters and errors as send.

        Cost: none that grows with nbytes.
        """
        cdef Claim claim
        if nbytes < 0:
            raise ValueError(f"a message cannot have {nbytes} bytes")
        # Objects first: making one may run the garbage collector, and with it anything that uses this producer.
        claim = Claim.__new__(Claim)
        claim.nbytes = nbytes
        claim.lease = Lease.__new__(Lease)
        claim.lease.owner = self
        claim.lease.size = nbytes
        claim.lease.address = self.reserve_bytes(nbytes, deadline_after(timeout))
        claim.position = self.writer.position
        produce_ponder(&self.writer, True)
        if shutdown_is_seen(&self.writer.ring):
            doorbell_ring_all(&self.writer.ring)        # who drains need not wait for it
        claim.owner = self
        claim.epoch = self.epoch
        self.is_busy = True
        self.epoch = 0
        return claim

    # ---- objects -------------------------------------------------------------------------------------------------

    def send_obj(self, obj, timeout=None):
        """Send an object, as `codec` turns it into a message; wait while the ring is full.

        Parameters
        ----------
        obj : object
            Anything that the codec packs. It is packed before this returns; large buffers go from their own memory into the ring.
        timeout : float or None
            As for send.

        Raises
        ------
        CodecError
            See `codec`.
        What the codec raises for this object, and as send.

        Cost: as the codec says; small messages are copied once more, large ones are written where they will lie.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self.pack is None:
            self.use_codec(None)
        packed = self.pack(obj)
        if not PyBytes_CheckExact(packed):
            self.send_packed(packed, timeout)
        elif self.try_write(PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed)) != OK:
            self.write(PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed), deadline_after(timeout))

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef int try_write(self, const char* data, uint64_t length) noexcept:
        """The fast path: no wait, no exception. A kernel code, or STALE."""
        cdef char* payload = NULL
        cdef int code, woken
        if seldom(self.epoch != process_epoch):
            return STALE
        code = produce_reserve(&self.writer, length, &payload)
        if seldom(code != OK):
            return code
        if seldom(shutdown_is_seen(&self.writer.ring)):                 # after reserving: reader_is_drained rests on it
            return self.back_out()
        memcpy(payload, data, length)
        if seldom(not guard_copy_is_whole(self.epoch, &process_epoch)): # the file was cut under the copy: nothing is published
            return self.back_out()
        produce_finish(&self.writer, length)
        woken = produce_publish(&self.writer)
        if seldom(woken):
            self.note_wakes(woken)
        return OK

    cdef int back_out(self) noexcept:
        """Give up what was reserved for a message that cannot be sent. Returns STALE."""
        produce_abort(&self.writer)
        self.note_wakes(produce_publish(&self.writer))
        if shutdown_is_seen(&self.writer.ring):
            doorbell_ring_all(&self.writer.ring)        # who drains waited for this record, wherever its head is
        return STALE

    cdef write(self, const char* data, uint64_t length, int64_t deadline):
        """The same, with waiting and exceptions."""
        cdef char* payload
        while True:
            payload = self.reserve_bytes(length, deadline)
            memcpy(payload, data, length)
            if guard_copy_is_whole(self.epoch, &process_epoch):
                break
            self.departing()
            self.check_sending()
        produce_finish(&self.writer, length)
        self.publish()

    cdef open_batch(self, list batch, Py_ssize_t first):
        """Many producers: reserve for as many of the messages from `first` on as are bytes objects and find room together. If that
        is none, each of them reserves for itself. No Python code runs before they are written.
        """
        cdef uint64_t span = 0, count = 0, each
        cdef uint64_t most = produce_most_batch(&self.writer)
        cdef Py_ssize_t index
        self.publish()
        for index in range(first, len(batch)):
            message = batch[index]
            if not PyBytes_CheckExact(message) or count == MOST_MESSAGES:
                break
            each = record_span(PyBytes_GET_SIZE(message), self.writer.ring.align)
            if span + each > most:
                break
            span += each
            count += 1
        while count > 1 and produce_reserve_batch(&self.writer, span, count) == FULL:
            for index in range(<Py_ssize_t> (count + 1) // 2):
                count -= 1
                span -= record_span(PyBytes_GET_SIZE(batch[first + count]), self.writer.ring.align)


@final
cdef class Claim:
    """Room in the ring between reserve and commit. A context manager: leaving it commits, an exception aborts.

    `view` is a writable memoryview of the reserved bytes, in the ring itself. It must not be used after the end of the claim;
    arrays made from it stay safe to touch, but would then change a message that others read.
    """

    def __init__(self):
        raise TypeError("claims are made by Producer.reserve")

    @property
    def view(self):
        """Writable memoryview of the reserved bytes."""
        self.check_open()
        if self.memory is None:
            self.memory = self.lease.lend()
        return self.memory

    @property
    def sequence(self):
        """The record's position in the ring, which is the `sequence` of its views."""
        return self.position

    def commit(self, size=None):
        """Send the message: its first `size` bytes, or all that was reserved.

        Raises
        ------
        ValueError
            The claim has ended already, or size is not from 0 to nbytes.
        ShutDown
            The ring was shut down meanwhile; the claim is aborted.
        """
        self.finish(self.nbytes if size is None else size)

    def abort(self):
        """Give the room back; nobody sees a message. A claim that has ended stays as it is."""
        if self.owner is not None:
            self.end()

    cdef check_open(self):
        if self.owner is None or self.owner.is_closed:
            raise ValueError("this claim was committed or aborted already")

    cdef finish(self, Py_ssize_t length):
        cdef Sender owner = self.owner
        self.check_open()
        if not 0 <= length <= self.nbytes:
            raise ValueError(f"cannot commit {length} bytes of a claim for {self.nbytes}")
        self.let_go()
        try:
            owner.check_sending()                   # not in a forked child, or if the file was cut meanwhile
            produce_ponder(&owner.writer, False)
            if shutdown_is_seen(&owner.writer.ring):
                owner.check_sending()
        except BaseException:
            owner.departing()
            raise
        produce_finish(&owner.writer, length)
        owner.publish()

    cdef end(self):
        """Abort."""
        cdef Sender owner = self.owner
        self.let_go()
        if not owner.is_closed:
            owner.departing()

    cdef let_go(self):
        """The producer may be used for something else again."""
        self.owner.is_busy = False
        if not self.owner.is_closed:
            self.owner.epoch = self.epoch
        self.owner = None
        self.lease.end(self.memory)
        self.memory = None

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, kind, value, traceback):
        if self.owner is None:
            return
        if kind is None:
            self.finish(self.nbytes)
        else:
            self.end()

    def __del__(self):
        if self.owner is not None:
            try:
                self.end()
            except Exception:
                pass                        # the producer's next call tells what is wrong; at the end there is none
