"""A member of a group: joining it, finding the next record, waiting for one. What `Consumer` is made of.

The kernel's claim.pxd and keep.pxd win and keep records; this file decides which comes next: what was left unfinished, what a
dead member left, what the group has not claimed.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport u32
from shmring._core.claim cimport claim_and_note, claim_count, claim_count_all, claim_release, claim_walk
from shmring._core.doorbell cimport WAKE_ALL, bell_ring
from shmring._core.futex cimport now_ns, yield_slice
from shmring._core.gate cimport gate_tail
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.keep cimport claim_drop, claim_pending, claim_put_back, claim_take_pending
from shmring._core.layout cimport (ATTENTION, EMPTY, GROUP_DROP, GROUP_EPHEMERAL, NONE, OK, PRODUCERS_OFFSET, ROLE_CONSUMER,
                                   RingMap, TOO_LARGE, Bell, Fault, layout_fault, mark_position)
from shmring._core.linger cimport linger, linger_is_due
from shmring._core.membership cimport (group_count, group_flags, group_head_word, group_is_settled, group_set_settled,
                                       participant_join)
from shmring._core.reader cimport (Found, Reader, found_add, found_clear, reader_find, reader_has_data, reader_is_drained,
                                   reader_is_unfinished, reader_may_adopt, reader_sees_record, reader_start)
from shmring._core.record cimport record_payload, record_span
from shmring._core.repair cimport adopt_own, repair_gap_has_owner
from shmring._core.shutdown cimport shutdown_is_seen
from shmring.receiver cimport STALE, Receiver, is_no_fault, producers_are_gone
from shmring.registry cimport Registry, corrupt
from shmring.ring cimport Ring
from shmring.sigbus cimport process_epoch
from shmring.view cimport Loan, View
from shmring.waiter cimport Ready

from shmring.errors import BorrowedTooLong, ShutDown

cdef enum:
    ADOPT_LATER = 64                # claims until a member asks again for the lock it needs to adopt
    NEVER = 0xffffffff


cdef bint reader_is_ready(const void* state, uint64_t ends_with_producers) noexcept nogil:
    cdef const Reader* reader = <const Reader*> state
    if reader_has_data(reader):
        return True
    if shutdown_is_seen(&reader.ring) or (ends_with_producers and producers_are_gone(&reader.ring)):
        return reader_is_drained(reader)
    return False


cdef class Member(Receiver):
    """The inner part of `Consumer`; not made directly."""

    # ---- joining -------------------------------------------------------------------------------------------------

    cdef take_role(self):
        cdef Ring ring = self.ring
        cdef uint64_t lately = ring.registry.lately()
        cdef uint32_t number = 0xffffffff
        cdef uint64_t head = 0
        cdef bint inherits
        found = ring.registry.find_alike(self.group, self.ephemeral, self.redeliver, self.exclusive)
        if found is not None:
            number = found
            head = mark_position(group_head_word(&ring.map, number), lately)
        inherits = self.take_slot(ROLE_CONSUMER, number, head)
        if found is None:                   # after the slot, so that no failure leaves a group behind that nobody reads
            number = ring.registry.make_group(
                self.group, (GROUP_EPHEMERAL if self.ephemeral else 0) | (GROUP_DROP if self.redeliver is False else 0),
                self.from_latest)
            participant_join(self.slot, number, mark_position(group_head_word(&ring.map, number), lately))
        ring.registry.enter_group(number, self.number, self.exclusive, self.short_slices)
        self.group_number = number
        self.reader.ring = ring.map
        self.reader.ring.data = self.data.address
        self.reader.slot = self.slot
        self.reader.mark = self.number + 1
        self.reader.must_fence = self.short_slices
        reader_start(&self.reader, number, lately)
        if inherits:
            adopt_own(&self.reader)

    cdef settle_in(self):
        """Who was the only member may be in the middle of a claim that it began before it saw that it is not: wait for it."""
        cdef Registry registry = self.ring.registry
        cdef int look = 0
        if group_is_settled(&self.ring.map, self.group_number) or not group_count(&self.ring.map, self.group_number, self.number):
            return
        while not registry.is_settled(self.group_number, self.number):
            look += 1
            if look % 100 == 0:             # it was stopped, or killed
                self.repair_quietly()
            with nogil:
                yield_slice()
            PyErr_CheckSignals()
        with registry.lock():
            group_set_settled(&self.ring.map, self.group_number)

    # ---- the next record -----------------------------------------------------------------------------------------

    cdef bytes take_carefully(self, int* code, uint64_t longest):
        """The same where there are other members, open views, or somebody's unfinished business. TOO_LARGE: as find."""
        cdef uint64_t position = 0, length = 0
        cdef int entry = 0
        cdef bytes message
        if self.is_watched:
            self.watch.stir()
        code[0] = self.find(longest, &position, &length, &entry)
        if code[0] != OK:
            return None
        message = PyBytes_FromStringAndSize(record_payload(&self.reader.ring, position), length)
        if not guard_copy_is_whole(self.epoch, &process_epoch):
            code[0] = STALE
            return None
        self.let_go(entry, length)
        return message

    cdef int find(self, uint64_t longest, uint64_t* position, uint64_t* length, int* entry) except? -100:
        """The next record: OK, and in `entry` 0 if it was claimed now, else the claim of a dead member's in which it lies. let_go
        ends it, or claim_keep and claim_take_pending keep it. TOO_LARGE: it is longer than `longest`, and stays the next.
        """
        cdef int code
        while True:
            entry[0] = 0
            code = self.claim_some(1, 0, longest, NULL)
            if code == OK:
                position[0] = self.reader.start
                return claim_walk(&self.reader, position, length)
            if code == TOO_LARGE:
                position[0] = self.reader.cursor
                reader_find(&self.reader, position, length)
            if code != ATTENTION:
                return code
            code = claim_pending(&self.reader, position, length, entry)
            if code == OK and length[0] > longest:
                return TOO_LARGE
            if code != EMPTY:
                return code

    cdef let_go(self, int entry, uint64_t length):
        """The record that was found is not needed any more."""
        if entry:
            claim_take_pending(&self.reader, entry, length)
            self.settle(entry)
        else:
            claim_count(&self.reader, length)
            self.note_wakes(claim_release(&self.reader))

    cdef int claim_some(self, uint64_t limit, uint64_t most_bytes, uint64_t longest, Found* found) except? -100:
        """claim_and_note, after everything that comes before it: a kernel code, STALE, or ATTENTION: take what is pending."""
        cdef int code
        if self.epoch != process_epoch:
            return STALE
        while True:
            if self.reader.n_pending:
                return ATTENTION
            code = claim_and_note(&self.reader, limit, most_bytes, longest, found)
            if code != ATTENTION:
                return code
            if reader_is_unfinished(&self.reader):
                claim_put_back(&self.reader)
            elif not self.ring.registry.adopt(&self.reader):
                self.reader.deferred = ADOPT_LATER
            elif not self.reader.n_pending and reader_may_adopt(&self.reader):
                self.reader.deferred = NEVER            # no entry is free: claim_drop asks again

    cdef end_or_put_back(self, View view, object error):
        """What was to be made of it could not be made: a fault of the message, which is received; or another one, and it comes again."""
        if is_no_fault(error):
            self.put_back(view)
        else:
            view.end()

    cdef put_back(self, View view):
        """End a view whose message the caller did not get: it comes next. It stays ours, as nobody else can be given it. Where
        another thread has had what lies behind it meanwhile, in the same range, it is let go: else that one would come again, too.
        """
        cdef Loan loan = view.loan
        cdef Reader* reader = &self.reader
        cdef int entry = loan.entry
        cdef uint64_t behind = loan.position + record_span(loan.size, reader.ring.align)
        if view.owner is None:
            return
        if self.epoch != process_epoch:
            self.check()
        if reader.pending[entry] == behind or (reader.pending[entry] == NONE and reader.kept_end[entry] == behind):
            reader.n_pending += reader.pending[entry] == NONE
            reader.pending[entry] = loan.position
            reader.messages -= 1
            reader.bytes -= loan.size
            if self.is_watched:
                self.watch.step_aside()
            if self.parked:
                bell_ring(self.own_word(), WAKE_ALL)
        view.end()

    # ---- for shmring.nogil: what is out of the ordinary -------------------------------------------------------------

    cdef int await_batch(self, Batch* batch, uint64_t limit, int64_t deadline) except -1 with gil:
        """batch_receive with exceptions, waiting, and what dead members left."""
        cdef uint64_t position = 0, length = 0
        cdef int code
        while True:
            batch.entry = 0
            code = self.claim_some(limit, self.reader.ring.capacity >> 2, UINT64_MAX, &batch.found)
            if code == ATTENTION:
                code = self.find(UINT64_MAX, &position, &length, &batch.entry)
                if code == OK:
                    found_clear(&batch.found)
                    found_add(&batch.found, &self.reader.ring, position, length)
            if code == OK:
                return 1
            if code != EMPTY:
                self.raise_for(code)
                continue
            try:
                self.await_data(deadline)
            except ShutDown:
                return 0

    cdef int end_batch(self, Batch* batch) except -1 with gil:
        """batch_release with exceptions, and of what a dead member left."""
        if not guard_copy_is_whole(self.epoch, &process_epoch):
            self.check()
        if batch.entry:
            self.let_go(batch.entry, batch.found.bytes)
        else:
            claim_count_all(&self.reader, &batch.found)
            self.note_wakes(claim_release(&self.reader))
        found_clear(&batch.found)
        batch.entry = 0
        return 0

    # ---- pending ranges -----------------------------------------------------------------------------------------------

    cdef settle(self, int entry):
        """Something of the range in `entry` was let go: hold only what is still lent out, or comes next."""
        cdef uint64_t start = self.reader.pending[entry]
        cdef Loan loan
        while self.oldest_loan is not None and self.oldest_loan.is_over():
            self.oldest_loan = self.oldest_loan.newer
        if self.oldest_loan is None:
            self.newest_loan = None
        loan = self.oldest_loan
        while loan is not None:
            if loan.entry == entry and not loan.is_over():
                start = loan.position
                break
            loan = loan.newer
        self.note_wakes(claim_drop(&self.reader, entry, start))

    # ---- what is borrowed ----------------------------------------------------------------------------------------

    @property
    def borrow_limit(self):
        """Bytes of the ring that arrays may hold back that outlived their views; None: no limit. Half of the capacity at first.

        It counts when there is nothing to receive: then BorrowedTooLong is raised, where otherwise consumer and producers might
        wait for each other. A message larger than what is beside the limit may still have to wait for the array. May be set, to
        bytes, text as "1 MiB", or a float: that share of the capacity.
        """
        return None if self.most_borrowed == UINT64_MAX else self.most_borrowed

    @borrow_limit.setter
    def borrow_limit(self, limit):
        from shmring.objects import borrow_bytes
        self.most_borrowed = UINT64_MAX if limit is None else borrow_bytes(limit, self.reader.ring.capacity)

    @property
    def stats(self):
        """A `ConsumerStats`: what this consumer counted, and which records it holds back, for whom and since when."""
        from shmring.stats import collect_consumer
        return collect_consumer(self)

    cdef Loan outlived(self):
        """The oldest record that is kept by memory whose view has ended, or None."""
        cdef Loan loan = self.oldest_loan
        while loan is not None and (not loan.has_ended or loan.is_over()):
            loan = loan.newer
        return loan

    cdef check_borrowed(self):
        """Nothing is there. Do arrays that outlived their views keep the producers from sending more?"""
        cdef Loan loan = self.outlived()
        cdef uint64_t held
        if loan is None:
            return
        held = gate_tail(&self.reader.ring, loan.position) - loan.position
        if held >= self.most_borrowed:
            raise BorrowedTooLong(
                f"nothing is left to receive for {self.full_name()} of ring {self.ring.label}, and memory of a message that this "
                f"consumer peeked at {(now_ns() - loan.since_ns) / 1e9:.3f} s ago and that outlived its view holds back {held} of "
                f"{self.reader.ring.capacity} bytes (borrow_limit {self.most_borrowed}): {loan.told()}; drop it or copy it, or set "
                f"borrow_limit")

    cdef check_ended(self):
        Receiver.check_ended(self)
        if self.oldest_loan is not None:
            self.check_borrowed()

    # ---- for waiting ---------------------------------------------------------------------------------------------

    cdef Ready ready_check(self):
        return reader_is_ready

    cdef void let_gather(self) noexcept:
        if linger_is_due(&self.patience):
            with nogil:
                linger(&self.patience, &self.reader.ring, self.reader.cursor)

    cdef const void* ready_state(self):
        return &self.reader

    cdef uint64_t ready_argument(self):
        return self.ends_with_producers

    cdef void announce(self, uint64_t argument, uint32_t sequence) noexcept:
        self.reader.has_sleepers = True                 # the group's head says what is waited for

    cdef end_park(self):
        Receiver.end_park(self)
        self.reader.has_sleepers = self.parked != 0

    cdef bint is_drained(self) noexcept:
        return reader_is_drained(&self.reader)

    cdef RingMap* own_map(self) noexcept:
        return &self.reader.ring

    cdef Fault* own_fault(self) noexcept:
        return &self.reader.fault

    cdef str full_name(self):
        return f"group {self.group!r}"

    cdef bint is_blocked(self) noexcept:
        """Records beyond the head that do not become complete; claims that could not be adopted; producers that may be dead."""
        cdef uint64_t head = mark_position(group_head_word(&self.reader.ring, self.reader.group_number), self.reader.cursor)
        return (self.ends_with_producers or self.reader.deferred or self.outlived() is not None
                or (self.reader.ring.is_multi and gate_tail(&self.reader.ring, head) != head))

    cdef bint is_drained_for_good(self):
        if self.reader.deferred <= ADOPT_LATER:
            self.reader.deferred = 0                    # the lock may be free by now
        return Receiver.is_drained_for_good(self)

    cdef doubt(self):
        """A record that is reserved has an owner, and the tail is not before the head: else something wrote over them. And what
        is borrowed may have become too much, as other members go on.
        """
        cdef Reader* reader = &self.reader
        cdef uint64_t head = mark_position(group_head_word(&reader.ring, reader.group_number), reader.cursor)
        cdef uint64_t tail = gate_tail(&reader.ring, head)
        self.check_borrowed()
        if reader.deferred <= ADOPT_LATER:
            reader.deferred = 0
        if not reader.ring.is_multi or tail == head:
            return
        if tail - head > reader.ring.capacity:
            layout_fault(&reader.fault, PRODUCERS_OFFSET, tail, head)
        elif not repair_gap_has_owner(&reader.ring, head) and not reader_sees_record(reader, head):
            layout_fault(&reader.fault, reader.ring.data_offset + (head & reader.ring.mask), 0, head)
        else:
            return
        if head == mark_position(group_head_word(&reader.ring, reader.group_number), head):     # all of it was about this head
            raise corrupt(&reader.fault, self.ring.label)

    cdef departed(self):
        if group_flags(&self.ring.map, self.group_number) & GROUP_EPHEMERAL:
            self.repair_quietly()

    cdef Bell* own_bell(self):
        return self.reader.ring.data_bell

    cdef u32* own_word(self):
        return &self.reader.group.sequence

    cdef str role_name(self):
        return "consumer"
