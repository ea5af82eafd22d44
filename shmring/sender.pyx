"""A producer below its Python interface: its role, room and waiting for it, showing, leaving. What `Producer` is made of."""

import errno
import os
from _thread import get_ident

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport u32
from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.futex cimport now_ns, yield_slice
from shmring._core.gate cimport gate_scan, gate_tail
from shmring._core.layout cimport CORRUPT, FULL, OK, ROLE_PRODUCER, TOO_LARGE, Bell
from shmring._core.membership cimport (participant_any_producer, participant_count_producer, participant_note_stalls,
                                       participant_set_sole, participant_sole)
from shmring._core.produce cimport (Writer, produce_abort, produce_aim, produce_has_room, produce_is_bounded, produce_is_open,
                                    produce_is_passed, produce_ponder, produce_publish, produce_reserve, produce_start)
from shmring._core.record cimport record_span
from shmring._core.shutdown cimport shutdown_has_begun, shutdown_is_seen
from shmring.participant cimport Participant
from shmring.registry cimport corrupt
from shmring.ring cimport FOR_EVER, NO_WAIT, check_timeout, deadline_after
from shmring.sigbus cimport process_epoch
from shmring.waiter cimport A_WAIT, Ready

from shmring.errors import ClaimOpen, MessageTooLarge, ProducerTaken, ShutDown


cdef bint writer_is_ready(const void* state, uint64_t span) noexcept nogil:
    cdef const Writer* writer = <const Writer*> state
    return produce_has_room(writer, span) or shutdown_is_seen(&writer.ring)


cdef bint writer_is_drained(const void* state, uint64_t capacity) noexcept nogil:
    return produce_has_room(<const Writer*> state, capacity)


cdef class Sender(Participant):
    """The inner part of `Producer`; not made directly."""

    cdef take_role(self):
        cdef uint32_t holder = participant_sole(&self.ring.map)
        cdef bint single = not self.ring.map.is_multi
        if single and holder and self.ring.registry.is_alive(holder - 1):
            raise ProducerTaken(errno.EAGAIN, f"ring {self.ring.label} is for a single producer and has one: "
                                              f"{self.ring.registry.describe(holder - 1)}")
        self.take_slot(ROLE_PRODUCER, 0xffffffff, 0)
        self.writer.ring = self.ring.map
        self.writer.ring.data = self.data.address
        self.writer.slot = self.slot
        self.writer.mark = self.number + 1
        self.writer.must_fence = self.short_slices
        self.writer.max_message = self.ring.max_message
        if produce_start(&self.writer) != OK:
            raise corrupt(&self.writer.fault, self.ring.label)
        if single:
            participant_set_sole(&self.ring.map, self.number + 1)
        participant_count_producer(&self.ring.map)

    cdef char* reserve_bytes(self, uint64_t length, int64_t deadline) except NULL:
        """Room for `length` bytes at the writer's position, waiting for it until the deadline."""
        cdef char* payload = NULL
        cdef int code
        while True:
            self.check_sending()
            code = produce_reserve(&self.writer, length, &payload)
            if code == OK:
                if shutdown_has_begun(&self.writer.ring):       # after reserving: reader_is_drained rests on it
                    self.departing()
                    continue
                return payload
            if code != FULL:
                self.raise_code(code, length)
            self.wanted = length
            self.look_up()                              # what seems to be free may be taken, again and again
            if (deadline == NO_WAIT or (deadline != FOR_EVER and now_ns() >= deadline)
                    or not self.wait_for_room(length, deadline)):
                self.check_sending()
                self.note_poll(1 if deadline == NO_WAIT else A_WAIT)
                self.ran_full = True
                self.raise_full(length)

    cdef int wait_for_room(self, uint64_t length, int64_t deadline) except -1:
        """wait_for, and on the way how often and how long: who waits has the time to count."""
        cdef int64_t began = now_ns()
        self.stalls += 1
        participant_note_stalls(self.slot, self.stalls, self.stalled_ns)
        try:
            return self.wait_for(writer_is_ready, &self.writer, record_span(length, self.writer.ring.align), deadline)
        finally:
            self.stalled_ns += now_ns() - began
            if self.epoch == process_epoch:         # else the slot may be somebody else's by now, or our parent's
                participant_note_stalls(self.slot, self.stalls, self.stalled_ns)

    cdef departing(self):
        """Give up what is left of an open reservation, unless it is our parent's."""
        if produce_is_open(&self.writer) and self.pid == os.getpid():
            produce_abort(&self.writer)
            produce_ponder(&self.writer, False)
            self.publish()
            if shutdown_has_begun(&self.writer.ring):
                doorbell_ring_all(&self.ring.map)       # who drains waited for this record, wherever its head is

    cdef departed(self):
        if not participant_any_producer(&self.ring.map):
            doorbell_ring_all(&self.ring.map)       # consumers that end with their producers

    cdef bint is_too_late(self) noexcept:
        return self.writer.ring.is_multi and produce_is_passed(&self.writer)

    cdef bint is_blocked(self) noexcept:
        return True

    cdef publish(self):
        if self.writer.position != self.writer.published:
            self.note_wakes(produce_publish(&self.writer))

    cdef bint others_write(self) except -1:
        """Does another thread write an object into its claim just now? In a forked child that thread is the parent's."""
        return (self.is_busy and self.writing_thread != 0 and self.writing_thread != get_ident() and not self.is_closed
                and self.pid == os.getpid())

    cdef check_sending(self):
        while self.others_write():
            with nogil:                             # another thread writes an object into the ring: it will be done soon
                yield_slice()
            PyErr_CheckSignals()
        if self.is_busy and not self.is_closed and self.pid == os.getpid():
            raise ClaimOpen(f"this producer of ring {self.ring.label} has an open claim; commit or abort it first")
        if self.epoch != process_epoch:
            self.check()
        if shutdown_has_begun(&self.writer.ring):
            raise ShutDown(f"ring {self.ring.label} was shut down")

    cdef raise_code(self, int code, uint64_t length):
        if code == TOO_LARGE:
            raise MessageTooLarge(f"a message of {length} bytes cannot fit into ring {self.ring.label}: its largest has "
                                  f"{self.writer.max_message} (capacity {self.writer.ring.capacity})")
        self.check()                                    # a cut file reads as zeros
        raise corrupt(&self.writer.fault, self.ring.label)

    cdef raise_full(self, uint64_t length):
        """TimeoutError that names who is in the way."""
        cdef uint64_t span
        if produce_is_bounded(&self.writer):
            raise TimeoutError(f"ring {self.ring.label} has {self.writer.most} messages in flight, as many as are allowed; "
                               f"its group 'default' has not received them")
        span = record_span(length, self.writer.ring.align)
        behind = self.ring.registry.describe_obstacles(span)
        claims = self.ring.registry.describe_claims(&self.writer.ring, self.writer.ring.capacity - span)
        raise TimeoutError(f"ring {self.ring.label} is full: no room for {length} bytes in {self.writer.ring.capacity}; "
                           f"{'; '.join(behind) or 'room came this moment'}{claims}")

    def drain(self, timeout=None):
        """Wait until the ring is empty: every group has received, and every member released, all that anybody sent.

        Raises
        ------
        TimeoutError
            It was not, at any moment in `timeout` seconds; the text names who is behind.
        ClaimOpen
            A claim of this producer is open, which would keep it waiting.
        """
        cdef uint64_t capacity = self.writer.ring.capacity
        cdef int64_t deadline = deadline_after(timeout)
        cdef uint64_t gate = 0, tail
        if self.is_busy and not self.is_closed:
            self.check_sending()
        if self.epoch != process_epoch:
            self.check()
        if not writer_is_drained(&self.writer, capacity) and (
                deadline == NO_WAIT or not self.wait_for(writer_is_drained, &self.writer, capacity, deadline)):
            behind = self.ring.registry.describe_obstacles(capacity)
            claims = self.ring.registry.describe_claims(&self.writer.ring, 0)
            raise TimeoutError(f"ring {self.ring.label} is not empty: {'; '.join(behind) or 'until this moment'}{claims}")
        self.look_up()
        tail = gate_tail(&self.writer.ring, self.writer.tail.position) if self.writer.ring.is_multi else self.writer.position
        if gate_scan(&self.writer.ring, tail, tail, &gate, &self.writer.fault) != OK:      # damage ends the wait, too
            self.raise_code(CORRUPT, 0)

    # ---- objects (send_obj, the fast one, is the producer's) -------------------------------------------------------

    def try_send_obj(self, obj):
        """Send an object if there is room now. Returns whether it was sent. Raises as send_obj, but for TimeoutError."""
        if self.pack is None:
            self.use_codec(None)
        packed = self.pack(obj)
        if type(packed) is bytes:
            return self.try_send(packed)
        if self.others_write():
            return False
        self.check_sending()
        if (<uint64_t> packed.nbytes <= self.writer.max_message
                and not produce_has_room(&self.writer, record_span(packed.nbytes, self.writer.ring.align))):
            self.wanted = packed.nbytes
            self.note_poll(1)
            return False
        try:
            self.send_packed(packed, 0)
        except TimeoutError:
            return False
        return True

    def send_objs(self, objs, timeout=None):
        """Send objects in order. Returns how many were sent: all, or fewer (but at least one) when the time was up.

        As send_many: they are packed before the first is sent, and if one is refused, those before it are sent and the exception's
        attribute `sent` says how many. Neighbours that are small are published together.
        """
        from shmring.objects import send_all
        if timeout is not None:
            check_timeout(timeout)
        if self.pack is None:
            self.use_codec(None)
        return send_all(self, self.pack, objs, timeout)

    def send_array(self, array, timeout=None):
        """Send an array with its type, shape and order, whatever its strides: one copy, into the ring.

        Parameters
        ----------
        array : array-like
            A numpy.ndarray, or what has a buffer, __array__ or __dlpack__.
        timeout : float or None
            As for send.

        Raises
        ------
        TypeError
            Its elements are objects, or of a type that NumPy alone does not know.
        CodecError
            The ring's content names another codec than "ndarray".
        As send otherwise.
        """
        self.send_packed(self.arrays().pack(array), timeout)

    def _send_packed(self, packed, timeout):            # for shmring.objects
        self.send_packed(packed, timeout)

    cdef send_packed(self, object packed, object timeout):
        """Let a packed object write itself into the ring. Other threads that send wait meanwhile."""
        claim = self.reserve(packed.nbytes, timeout)
        self.writing_thread = get_ident()
        try:
            packed.write_into(claim.view)
        except BaseException:
            self.writing_thread = 0
            claim.abort()
            raise
        self.writing_thread = 0
        claim.commit()

    # ---- for shmring.nogil: what is out of the ordinary -------------------------------------------------------------

    cdef char* await_room(self, uint64_t length, int64_t deadline) except NULL with gil:
        if self.epoch != process_epoch:
            self.check_sending()                        # closed, forked, busy: nothing of it may be shown any more
        self.departing()                                # the room that was there, but the ring is shut down
        self.publish()                                  # what was committed, so that somebody can make room
        return self.reserve_bytes(length, deadline)

    cdef int give_up(self) except -1 with gil:
        """What was reserved is not needed."""
        if self.epoch != process_epoch:
            self.check_copy()
        self.departing()
        return 0

    cdef int check_copy(self) except -1 with gil:
        """Was the file cut under a copy? If it raises, what was reserved is given up, but not what an open claim has."""
        try:
            self.check_sending()
        except BaseException:
            if not self.is_busy:
                self.departing()
            raise
        return 0

    # ---- for waiting ---------------------------------------------------------------------------------------------

    cdef Ready ready_check(self):
        return writer_is_ready

    cdef const void* ready_state(self):
        return &self.writer

    cdef uint64_t ready_argument(self):
        return record_span(self.wanted, self.writer.ring.align)

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        produce_aim(&self.writer, argument, sequence, self.parked != 0)

    cdef Bell* own_bell(self):
        return self.writer.ring.room_bell

    cdef u32* own_word(self):
        return &self.writer.ring.room_bell.sequence

    cdef str role_name(self):
        return "producer"
