"""What members of groups and observers have in common: waiting for a message, and the end of them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.futex cimport now_ns
from shmring._core.layout cimport CLAIMS, CORRUPT, EMPTY, NO_CLAIM_LEFT, TOO_LARGE, Fault, RingMap
from shmring._core.membership cimport participant_any_producer, participant_missed, participant_producers_joined
from shmring._core.shutdown cimport shutdown_has_begun
from shmring.participant cimport Participant, aio
from shmring.registry cimport corrupt
from shmring.ring cimport FOR_EVER, NO_WAIT, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.waiter cimport A_WAIT

from shmring.errors import ProducerDied, ProducersGone, ShutDown, TooManyViews


cdef bint producers_are_gone(const RingMap* ring) noexcept nogil:
    return participant_producers_joined(ring) and not participant_any_producer(ring)


cdef check_start(object start):
    if start not in ("earliest", "latest"):
        raise ValueError(f"start is 'earliest' or 'latest', not {start!r}")


cdef bint is_no_fault(object error):
    """Of the message: Ctrl-C, say, or no memory. It is kept, to be unpacked another time."""
    return not isinstance(error, Exception) or isinstance(error, MemoryError)


cdef class Receiver(Participant):
    """The common part of `Consumer` and `Observer`; not made directly."""

    def try_recv(self):
        """The next message, or None if there is none now. Raises as recv, but for TimeoutError."""
        cdef int code
        while True:
            message = self.take(&code)
            if message is not None:
                return message
            if code == EMPTY:
                self.check_ended()
                self.note_poll(1)
                return None
            self.raise_for(code)

    def __iter__(self):
        return self

    def arecv(self):
        """Await the next message: `message = await rx.arecv()`, in a coroutine of an asyncio loop (uvloop too).

        Several tasks of one loop may await the same handle; they are served in the order in which they came. Cancelled (also by
        asyncio.timeout or wait_for), it has taken no message. Every 100 messages that are there without a wait, other tasks get
        their turn. Raises as recv, but for TimeoutError; ValueError if the handle is closed meanwhile.

        Cost: a coroutine; if there is nothing, after some looks between which other tasks run (the handle's WaitPolicy), one system call.
        See `fileno` for how it is woken.
        """
        return aio().receive(self)

    def arecv_many(self, Py_ssize_t limit):
        """Await up to `limit` messages, at least one: a list of bytes. As arecv and recv_many."""
        return aio().receive_many(self, limit)

    def arecv_obj(self):
        """Await the next message as the object that was sent. As arecv and recv_obj."""
        return aio().receive_obj(self)

    def __aiter__(self):
        return self

    def __anext__(self):
        """`async for message in rx`: as arecv, and ends as `for message in rx` does."""
        return aio().receive_next(self)

    # ---- objects -------------------------------------------------------------------------------------------------

    def recv_obj(self, timeout=None):
        """The next message as the object that was sent; waits while there is none.

        Parameters
        ----------
        timeout : float or None
            As for recv.

        Returns
        -------
        object
            It owns all of its memory.

        Raises
        ------
        CodecError
            The message cannot be unpacked; it was received all the same. Or as for `codec`.
        As recv otherwise.

        Cost: as the codec says. A large message is unpacked where it lies, so that its arrays are copied once.
        """
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        if self.unpack is None:
            self.use_codec(None)
        if self.left is not None:
            return self.take_left()
        message = self.take_small(&code)
        if message is None:
            return self.receive_obj_slowly(code, timeout)
        return self.unpack_message(message)

    def try_recv_obj(self, default=None):
        """The next object, or `default` if there is none now. Raises as recv_obj, but for TimeoutError."""
        cdef int code
        if self.unpack is None:
            self.use_codec(None)
        if self.left is not None:
            return self.take_left()
        message = self.take_small(&code)
        if message is not None:
            return self.unpack_message(message)
        try:
            return self.receive_obj_slowly(code, 0)
        except TimeoutError:
            return default

    def recv_objs(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` objects that are there, at least one; waits for the first.

        Raises as recv_obj; ValueError if limit < 1. A message behind the first that cannot be unpacked ends the list; the next
        call that asks for objects raises its CodecError, and then goes on behind it. (recv does not know of these messages.)
        """
        cdef list objs = []
        cdef list messages
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        if self.unpack is None:
            self.use_codec(None)
        if self.left is not None:
            messages, self.left = self.left, None
        elif self.next_is_large():
            return [self.recv_obj(timeout)]         # more would gain nothing: each is unpacked where it lies
        else:
            messages = self.recv_many(limit, timeout)
        try:
            for message in messages:
                if len(objs) == limit:
                    break
                objs.append(self.unpack(message))
        except BaseException as error:
            if is_no_fault(error):
                self.leave(messages)                # none of them was returned
                raise
            if not objs:
                del messages[0]
                self.leave(messages)
                raise
        del messages[:len(objs)]
        self.leave(messages)
        return objs

    cdef leave(self, list messages):
        if messages:
            self.left = messages + self.left if self.left is not None else messages

    cdef object take_left(self):
        cdef bytes message = self.left[0]
        del self.left[0]
        if not self.left:
            self.left = None
        return self.unpack_message(message)

    cdef object unpack_message(self, bytes message):
        try:
            return self.unpack(message)
        except BaseException as error:
            if is_no_fault(error):
                self.leave([message])
            raise

    cdef object receive_obj_slowly(self, int code, object timeout):
        """recv_obj, after a first look that found nothing but a code."""
        cdef int64_t deadline = deadline_after(timeout)
        while True:
            if code == EMPTY:
                self.await_data(deadline)
            elif code != TOO_LARGE:
                self.raise_for(code)
            else:
                try:
                    view = self.peek(0)
                except TimeoutError:
                    view = None                     # another member was faster
                if view is not None:
                    return self.unpack_view(view)
            message = self.take_small(&code)
            if message is not None:
                return self.unpack_message(message)

    cdef object unpack_view(self, object view):
        with view:
            try:
                return self.unpack(view.data)
            except BaseException as error:
                if is_no_fault(error):
                    self.leave([bytes(view.data)])
                raise

    cdef bytes receive_slowly(self, int code, object timeout):
        """recv, after a first look that found nothing but a code."""
        cdef int64_t deadline = deadline_after(timeout)
        cdef bytes message
        while True:
            if code == EMPTY:
                self.await_data(deadline)
            else:
                self.raise_for(code)
            message = self.take(&code)
            if message is not None:
                return message

    cdef await_data(self, int64_t deadline):
        """Wait until there is something to take, or nothing will come."""
        self.look_up()                                  # what seems to be there may be in vain, again and again
        self.check_ended()
        if (deadline == NO_WAIT or (deadline != FOR_EVER and now_ns() >= deadline)
                or not self.wait_for(self.ready_check(), self.ready_state(), self.ends_with_producers, deadline)):
            self.check_ended()
            self.note_poll(1 if deadline == NO_WAIT else A_WAIT)
            claims = self.ring.registry.describe_claims(self.own_map(), 0)      # before other threads run: they may close
            raise TimeoutError(f"no message for {self.full_name()} of ring {self.ring.label}; it is written by "
                               f"{self.ring.registry.describe_producers()}{claims}")

    cdef check_ended(self):
        """Raise if nothing more will come."""
        if self.epoch != process_epoch:
            self.check()
        if shutdown_has_begun(self.own_map()) and self.is_drained_for_good():
            raise ShutDown(f"ring {self.ring.label} was shut down, and {self.full_name()} has everything")
        if self.ends_with_producers:
            self.check_producers()

    cdef check_producers(self):
        cdef RingMap* ring = self.own_map()
        if not producers_are_gone(ring):
            # Who may only read waits for nobody else to find the dead.
            if self.slot != NULL or not participant_producers_joined(ring) or self.ring.registry.any_producer_alive():
                return
        if not self.is_drained_for_good():
            return
        pid = participant_missed(ring) or self.ring.registry.dead_producer()
        if pid:
            raise ProducerDied(f"the producer with pid {pid} of ring {self.ring.label} died, and no other came after it; "
                               f"{self.full_name()} has everything that was sent")
        raise ProducersGone(f"the producers of ring {self.ring.label} have left, and {self.full_name()} has everything")

    cdef bint is_drained_for_good(self):
        """Has it everything, what dead members held included?"""
        if not self.is_drained():
            return False
        self.repair_quietly()
        return self.is_drained()

    cdef raise_for(self, int code):
        """Raise what a kernel's code means; returns if the call can be made again."""
        self.check()                                    # a cut file reads as zeros
        if code == CORRUPT:
            raise corrupt(self.own_fault(), self.ring.label)
        if code == NO_CLAIM_LEFT:
            raise TooManyViews(f"this member of {self.full_name()} holds {CLAIMS - 1} ranges of records of ring {self.ring.label} apart "
                               f"from each other, which is the most; release some views first")

    # ---- filled in by the ports ----------------------------------------------------------------------------------

    cdef bytes take(self, int* code):
        """The next message, or None and a kernel code or STALE."""
        code[0] = EMPTY
        return None

    cdef bytes take_small(self, int* code):
        """As take; TOO_LARGE: the next message is one that is better unpacked where it lies."""
        return self.take(code)

    cdef bint next_is_large(self) noexcept:
        """The same question, for who is the only member."""
        return False

    cdef bint is_drained(self) noexcept:
        """Has it everything, if no more is sent?"""
        return True

    cdef RingMap* own_map(self) noexcept:
        return NULL

    cdef Fault* own_fault(self) noexcept:
        return NULL

    cdef str full_name(self):
        """Who receives, for messages."""
        return "a receiver"
