# A producer: room at the end, records in it, and showing them.
#
#   one producer       gate               published        position            limit
#                  ----|=== to be read ===|-- not shown --|.... room ....|
#       writes records beyond the tail and shows them with one store of it. Killed before that store: nothing happened.
#
#   many producers     reserved by me:    position                       limit
#                  ====|== stamped ======|-- not yet -------------------|== others ==|.... room
#       wins room first (reserve.pxd) and shows each record with its stamp. Killed in between: survivors close the gap.
#
# Invariant: position <= limit, and the bytes in between are ours alone: nobody needs them, nobody else writes them.
# Progress: one producer: wait-free, and the groups are scanned only when the known room is used up. Many: lock-free; MOST_LOST
# exchanges lost in a row are damage.
# Source: Lamport's ring with a cached remote index, as in rigtorp/SPSCQueue; reserve and commit as in Linux BPF ring buffers.
# Steps in brackets are those of many_producers.pml, observer.pml, doorbell.pml, room.pml, shared_room.pml, reserved_room.pml,
# shutdown.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (fence_compiler, fence_full, fence_release, kernel_assert, load_relaxed_u64,
                                   seldom, store_relaxed_u64, store_release_u64)
from shmring._core.boundary cimport boundary_find, boundary_forget, boundary_note
from shmring._core.count cimport count_allows, count_passed
from shmring._core.doorbell cimport bell_is_armed, doorbell_ring_data
from shmring._core.gate cimport gate_opened, gate_scan, gate_tail
from shmring._core.layout cimport (ABORTED, COMMITTED, CORRUPT, FULL, HEADER_BYTES, MOST_LOST, NONE, PRODUCERS_OFFSET, Fault, OK,
                                   RingMap, Slot, TOO_LARGE, layout_fault)
from shmring._core.record cimport record_look, record_payload, record_span, record_stamp, record_write
from shmring._core.reserve cimport MOST_SPAN, Tail, reserve_exchange, reserve_lately, reserve_look, reserve_withdraw

cdef enum:
    UNBOUNDED = 0x7fffffffffffffff  # a Writer's `most`

# What a producer knows; private to its process, changed only with the GIL held.
cdef struct Writer:
    RingMap ring
    uint64_t position       # the next record goes here
    uint64_t limit          # and may end here without another look
    uint64_t published      # everything before it was shown (and notifiers told)
    uint64_t cached_gate    # nobody needs anything before it
    uint64_t reserved       # one producer: `reserve` as last stored
    uint64_t earlier        # one producer: messages in the ring's order before our first
    uint64_t left           # many: messages of the open reservation that are not stamped
    uint32_t previous       # many: the mark that the next record's header names: of the reservation before, then our own
    Tail tail               # many
    int64_t most            # many: messages in flight that are allowed (count.pxd); UNBOUNDED
    uint64_t passed         # many: messages that were claimed, as last seen
    uint64_t max_message    # bytes of payload that fit into an empty ring
    uint64_t messages       # statistics, copied to the slot at each publish
    uint64_t bytes
    Slot* slot
    uint32_t mark           # slot number + 1
    bint must_fence         # membarrier was refused to this process: see doorbell.pxd
    uint64_t aimed_at       # slot.awaited as last stored,
    uint32_t aimed_under    # and the bell's sequence at the time
    Fault fault


# Begin where the last producer stopped; `ring` is set. One producer: no other one lives.
cdef inline int produce_start(Writer* writer) noexcept nogil:
    cdef RingMap* ring = &writer.ring
    cdef uint64_t place = 0, length = 0
    cdef int code
    writer.most = UNBOUNDED
    writer.passed = 0
    writer.tail.position = reserve_lately(ring)
    reserve_look(ring, &writer.tail)
    writer.position = writer.tail.position
    writer.tail.noted = writer.position - ring.capacity         # none: the first reservation notes one
    if not ring.is_multi:
        writer.position = gate_tail(ring, 0)
        # Relaxed: its last writer, the producer before us, is gone.
        writer.reserved = load_relaxed_u64(&ring.producers.reserve)
        if writer.reserved - writer.position > ring.capacity + ring.chunk:
            return layout_fault(&writer.fault, <uint64_t> (<char*> &ring.producers.reserve - ring.control), writer.reserved,
                                writer.position)
    writer.published = writer.limit = writer.position
    if (writer.position + HEADER_BYTES) & (ring.align - 1):
        return layout_fault(&writer.fault, PRODUCERS_OFFSET, writer.position, ring.align)
    code = gate_scan(ring, writer.position, writer.published, &writer.cached_gate, &writer.fault)
    if code != OK or ring.is_multi:
        return code
    # The number of the next message: from the newest place where it was noted, less than two chunks back.
    boundary_forget(ring, writer.position)
    writer.earlier = 0
    if not boundary_find(ring, writer.position - ring.capacity, writer.position, True, &place, &writer.earlier):
        return OK
    while place != writer.position:
        code = record_look(ring, place, writer.position - place, &length, &writer.fault)
        if code == CORRUPT:
            return code
        place += record_span(length, ring.align)
        writer.earlier += 1
    boundary_note(ring, writer.position, writer.position, writer.earlier)
    return OK


# ---- room --------------------------------------------------------------------------------------------------------


# One producer: learn how far it may write, at least `span` more bytes. FULL changes nothing that anybody sees.
cdef inline int produce_extend(Writer* writer, uint64_t span) noexcept nogil:
    cdef RingMap* ring = &writer.ring
    cdef uint64_t end = writer.position + span
    cdef int code
    if end - writer.cached_gate > ring.capacity:
        code = gate_scan(ring, writer.position, writer.published, &writer.cached_gate, &writer.fault)
        if code != OK:
            return code
        if end - writer.cached_gate > ring.capacity:
            return FULL
    if <int64_t> (end - writer.reserved) > 0:
        boundary_note(ring, writer.position, end, writer.earlier + writer.messages)
        # A sixteenth of the capacity ahead, so that it is rare; observers see that much less. Relaxed: only we write it.
        writer.reserved = end + (ring.chunk if span <= ring.capacity >> 1 else 0)
        store_relaxed_u64(&ring.producers.reserve, writer.reserved)  # [reserve]
        # sync: lapping (fence, producer). The claim to write is visible before any byte of it; pairs with (fence, observer) in
        # observe_is_whole. Without it an observer could copy our bytes and still find its record's lap unfinished.
        fence_release()  # [lapping]
    writer.limit = writer.cached_gate + ring.capacity
    if <int64_t> (writer.limit - writer.reserved) > 0:
        writer.limit = writer.reserved
    return OK


# Many producers: win `span` bytes for `messages`. What was won before is told of.
cdef inline int produce_win(Writer* writer, uint64_t span, uint64_t messages) noexcept nogil:
    cdef Tail* tail = &writer.tail
    cdef uint64_t position = tail.position
    cdef uint32_t previous = <uint32_t> (tail.word & 0xffff)
    # Mostly nothing is open, nobody waits for what was won before, there is room as far as we know, and nobody is faster.
    if seldom(writer.position != writer.limit or span > MOST_SPAN
              or (writer.position != writer.published and produce_is_awaited(writer))
              or position + span - writer.cached_gate > writer.ring.capacity
              or not count_allows(writer.passed, tail, messages, writer.most)):
        return produce_strive(writer, span, messages, NONE)
    if seldom(not reserve_exchange(&writer.ring, writer.slot, writer.mark, tail, span, messages)):
        return produce_strive(writer, span, messages, position)
    produce_own(writer, position, messages, previous)
    return OK


# `messages` from `position` to our tail were won, after a record of `previous`.
cdef inline void produce_own(Writer* writer, uint64_t position, uint64_t messages, uint32_t previous) noexcept nogil:
    writer.limit = writer.tail.position
    writer.position = writer.published = position
    writer.previous = previous
    writer.left = messages


# produce_win, whatever is in the way. `lost`: where an exchange was lost already, or NONE: what we intended there gated, if only
# for a moment.
cdef inline int produce_strive(Writer* writer, uint64_t span, uint64_t messages, uint64_t lost) noexcept nogil:
    cdef RingMap* ring = &writer.ring
    cdef Tail* tail = &writer.tail
    cdef uint32_t previous
    cdef int code, attempt
    if span > MOST_SPAN:
        return TOO_LARGE
    produce_abort(writer)               # of a user who reserved and never committed
    if writer.position != writer.published:
        produce_tell(writer, writer.published)  # of earlier reservations; only here is it known whom they concern
    if lost != NONE:
        reserve_look(ring, tail)        # somebody else made progress
    for attempt in range(MOST_LOST):
        if tail.position + span - writer.cached_gate > ring.capacity:
            reserve_withdraw(writer.slot)
            if lost != NONE:
                gate_opened(ring, lost, tail.position, writer.must_fence)
            reserve_look(ring, tail)
            code = gate_scan(ring, tail.position, tail.position, &writer.cached_gate, &writer.fault)
            if code != OK:
                return code
            if tail.position + span - writer.cached_gate > ring.capacity:
                return FULL
        if seldom(not count_allows(writer.passed, tail, messages, writer.most)):
            reserve_withdraw(writer.slot)
            if lost != NONE:
                gate_opened(ring, lost, tail.position, writer.must_fence)
                lost = NONE
            reserve_look(ring, tail)
            writer.passed = count_passed(ring, tail)
            if not count_allows(writer.passed, tail, messages, writer.most):
                return FULL
            continue                    # the tail may have moved: is there room?
        previous = <uint32_t> (tail.word & 0xffff)
        if reserve_exchange(ring, writer.slot, writer.mark, tail, span, messages):
            break
        if lost == NONE:
            lost = tail.position
        reserve_look(ring, tail)        # somebody else made progress
    else:
        reserve_withdraw(writer.slot)
        return layout_fault(&writer.fault, PRODUCERS_OFFSET, tail.word, tail.position)
    if lost != NONE:
        gate_opened(ring, lost, tail.position, writer.must_fence)
    produce_own(writer, tail.position - span, messages, previous)
    return OK


# Room for a message of `length` bytes at writer.position; `payload` is where it goes. Nobody sees it before produce_finish and
# produce_publish.
cdef inline int produce_reserve(Writer* writer, uint64_t length, char** payload) noexcept nogil:
    cdef uint64_t span
    cdef int code
    if length > writer.max_message:
        return TOO_LARGE
    span = record_span(length, writer.ring.align)
    if seldom(<int64_t> (writer.position + span - writer.limit) > 0):
        code = produce_win(writer, span, 1) if writer.ring.is_multi else produce_extend(writer, span)
        if code != OK:
            return code
    payload[0] = record_payload(&writer.ring, writer.position)
    return OK


# Room for a batch of `messages` that take `span` bytes: with many producers one reservation, at most half of the capacity.
cdef inline int produce_reserve_batch(Writer* writer, uint64_t span, uint64_t messages) noexcept nogil:
    if writer.ring.is_multi:
        return produce_win(writer, span, messages)
    return OK


# How much one reservation of a batch may take: bytes.
cdef inline uint64_t produce_most_batch(const Writer* writer) noexcept nogil:
    return min(writer.ring.capacity >> 1, <uint64_t> MOST_SPAN)


# Are as many messages in flight as are allowed? For waiting threads: changes nothing.
cdef inline bint produce_is_bounded(const Writer* writer) noexcept nogil:
    cdef Tail tail
    if writer.most == UNBOUNDED:
        return False
    tail.position = writer.tail.position
    reserve_look(&writer.ring, &tail)
    return not count_allows(count_passed(&writer.ring, &tail), &tail, 1, writer.most)


# Would a record of `span` bytes fit now? For waiting threads: changes nothing.
cdef inline bint produce_has_room(const Writer* writer, uint64_t span) noexcept nogil:
    cdef uint64_t gate = 0
    cdef uint64_t position = writer.position
    cdef uint64_t published = writer.published
    cdef Fault fault
    if writer.ring.is_multi:
        if produce_is_bounded(writer):
            return False
        position = published = gate_tail(&writer.ring, writer.tail.position)
    if gate_scan(&writer.ring, position, published, &gate, &fault) != OK:
        return True                     # the caller finds the fault itself
    return position + span - gate <= writer.ring.capacity


# Say from which gate on the room for `span` bytes is there, after W3 (`sequence`) and before the parked bit is set. There is one
# target for all threads of this producer. While others sleep (`others_sleep`) the lower one stays, unless the bell was rung
# since it was announced: then it may have been passed already, and those it was for are awake or refuse to sleep. [aim]
cdef inline void produce_aim(Writer* writer, uint64_t span, uint32_t sequence, bint others_sleep) noexcept nogil:
    cdef uint64_t position = gate_tail(&writer.ring, writer.tail.position) if writer.ring.is_multi else writer.position
    cdef uint64_t target = position + span - writer.ring.capacity
    if not others_sleep or sequence != writer.aimed_under or <int64_t> (target - writer.aimed_at) < 0:
        writer.aimed_at = target
        writer.aimed_under = sequence
        # Relaxed: only this producer writes it; the fence in bell_park makes it visible with the bit.
        store_relaxed_u64(&writer.slot.awaited, target)


# Has the gate passed what we announced already? Then nobody will ring for it again: another producer took the room. Asked after
# the parked bit is set. Whoever notes that a message was claimed rings for every producer, so a bound is not passed.
cdef inline bint produce_is_passed(const Writer* writer) noexcept nogil:
    cdef uint64_t tail = gate_tail(&writer.ring, writer.tail.position) if writer.ring.is_multi else writer.position
    cdef uint64_t gate = 0
    cdef Fault fault
    if produce_is_bounded(writer):
        return False
    return gate_scan(&writer.ring, tail, tail, &gate, &fault) != OK or <int64_t> (gate - writer.aimed_at) >= 0


# ---- records -----------------------------------------------------------------------------------------------------


# Complete the reserved record with its header. With many producers this shows it: only who waits is not told yet.
cdef inline void produce_finish(Writer* writer, uint64_t length) noexcept nogil:
    cdef uint64_t span = record_span(length, writer.ring.align)
    kernel_assert(<int64_t> (writer.position + span - writer.limit) <= 0)
    if writer.ring.is_multi:
        if writer.left == 1:
            produce_shorten(writer, length)     # the last one of its reservation: what it does not take is given up
        record_stamp(&writer.ring, writer.position, <uint32_t> length, writer.mark, writer.previous, COMMITTED)
        # Only a record that begins a reservation tells of another one's: the rest follows our own.
        writer.previous = writer.mark
        writer.left -= 1
        if writer.position + span == writer.limit:
            reserve_withdraw(writer.slot)
    else:
        record_write(&writer.ring, writer.position, <uint32_t> length, writer.mark)
    writer.position += span
    writer.messages += 1
    writer.bytes += length


# Many producers: the room from `position` to the end of the open reservation is given up, as a record to be skipped that takes
# the place of `missing` messages and follows `previous`. [give up]
cdef inline void produce_give_up(Writer* writer, uint64_t position, uint64_t missing, uint32_t previous) noexcept nogil:
    record_stamp(&writer.ring, position, <uint32_t> (writer.limit - position - HEADER_BYTES), <uint32_t> missing, previous,
                 ABORTED)


# The last message of the reservation gets shorter than was reserved: `length` bytes. Before its stamp, so that whoever sees its
# record sees what follows it.
cdef inline void produce_shorten(Writer* writer, uint64_t length) noexcept nogil:
    cdef uint64_t end = writer.position + record_span(length, writer.ring.align)
    if seldom(end != writer.limit):
        produce_give_up(writer, end, 0, writer.mark)
        writer.limit = end


# Nothing more comes in this reservation. Killed on the way: as before, or as after. Followed by produce_publish.
cdef inline void produce_abort(Writer* writer) noexcept nogil:
    if produce_is_open(writer):
        produce_give_up(writer, writer.position, writer.left, writer.previous)
        reserve_withdraw(writer.slot)
        writer.position = writer.limit
        writer.left = 0


# Is a reservation open? Many producers only: nobody passes it before it is finished or aborted.
cdef inline bint produce_is_open(const Writer* writer) noexcept nogil:
    return writer.ring.is_multi and writer.position != writer.limit


# A user fills the open reservation (`begins`), or is done with it and wants to show it (then a look at shutdown_has_begun must
# follow). While it is the user's, consumers that end need not wait for it: reserve_nothing_comes. [ponder]
cdef inline void produce_ponder(Writer* writer, bint begins) noexcept nogil:
    if not writer.ring.is_multi:
        return
    # Relaxed: the fence orders it.
    store_relaxed_u64(&writer.slot.pondering, begins)
    # sync: pondering (fence, committer). The word is down before we look for a shutdown; pairs with (fence, drainer) in
    # reserve_nothing_comes: either we see the shutdown and give up, or who drains sees that it has to wait.
    fence_full()


# Show every finished record, and wake who waits for the first of them. Returns the number of wake calls.
cdef inline int produce_publish(Writer* writer) noexcept nogil:
    cdef uint64_t before = writer.published
    writer.published = writer.position
    if not writer.ring.is_multi:
        # sync: record-ready (release). Publishes headers and payloads up to position; pairs with (acquire) in gate_tail. Without it a
        # consumer could read the previous lap's bytes.
        store_release_u64(&writer.ring.producers.tail, writer.position)  # [N1]
    # Statistics: only we write these words.
    store_relaxed_u64(&writer.slot.messages, writer.messages)
    store_relaxed_u64(&writer.slot.bytes, writer.bytes)
    return produce_tell(writer, before) if seldom(produce_is_awaited(writer)) else 0


# Does anybody sleep, or is about to, whom our records concern?
cdef inline bint produce_is_awaited(const Writer* writer) noexcept nogil:
    fence_compiler()                    # N1 before N2: doorbell.pxd [N2]
    return (bell_is_armed(writer.ring.data_bell, writer.ring.n_bell_words) or writer.must_fence
            or (writer.ring.is_multi and bell_is_armed(writer.ring.room_bell, writer.ring.n_bell_words)))


# N3-N5 for what lies between `before` and writer.position. With many producers the reservation gated.
cdef inline int produce_tell(Writer* writer, uint64_t before) noexcept nogil:
    cdef int wakes = 0
    if writer.ring.is_multi:
        wakes = gate_opened(&writer.ring, before, writer.position, writer.must_fence)
    if bell_is_armed(writer.ring.data_bell, writer.ring.n_bell_words) or writer.must_fence:
        wakes += doorbell_ring_data(&writer.ring, before, writer.position)
    return wakes
