# A single producer: write records beyond tail, then show them with one store.
#
#      gate                 published          position             cached_gate + capacity
#   ----|===== to be read =====|-- not yet shown --|........ room ........|----
#
# Invariant: nothing at or after `published` is visible to anybody; position - gate <= capacity.
# Progress: wait-free; the groups are scanned only when the cached room is used up. Killed before the store of tail: nothing
# happened. Killed after it: the record is complete.
# Source: Lamport's ring with a cached remote index, as in rigtorp/SPSCQueue; reserve and commit as in Linux BPF ring buffers.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (fence_compiler, fence_full, kernel_assert, load_acquire_u32, load_acquire_u64,
                                   load_relaxed_u32, load_relaxed_u64, store_relaxed_u64, store_release_u64)
from shmring._core.doorbell cimport bell_is_armed, doorbell_ring_data
from shmring._core.layout cimport (FULL, GROUP_ACTIVE, GROUP_FREE, HEADER_BYTES, PRODUCERS_OFFSET, Fault, Group, OK, RingMap,
                                   Slot, TOO_LARGE, layout_fault)
from shmring._core.record cimport record_payload, record_span, record_write_header

# What a producer knows; private to its process, changed only with the GIL held.
cdef struct Writer:
    RingMap ring
    uint64_t position       # the next record goes here
    uint64_t published      # tail as last stored
    uint64_t cached_gate    # no group needs anything before it
    uint64_t max_message    # bytes of payload that fit into an empty ring
    uint64_t messages       # statistics, copied to the slot at each publish
    uint64_t bytes
    Slot* slot
    uint32_t participant    # slot number
    bint must_fence         # membarrier was refused to this process: see doorbell.pxd
    uint64_t aimed_at       # slot.room_target as last stored,
    uint32_t aimed_under    # and the bell's sequence at the time
    Fault fault


# The lowest position that a group still needs, into `gate`: `published` (our tail) if there is none before it.
#
# A scan may overlap the making of a group, and must not return a gate beyond the place where that group begins. The joiner
# (group_begin) makes its entry gate, counts itself in `joins`, fences, and only then looks where the others are.
#   - If we saw some head later than the joiner did, its count came before: we see it below and look again.
#   - If there was no other group, the joiner begins at our tail as it sees it. The first fence puts our store of tail before
#     our look at its entry: either we see the entry, or it sees that tail.
# Progress: lock-free; another round means that a group was made meanwhile.
cdef inline int produce_scan_gate(const RingMap* ring, uint64_t position, uint64_t published, uint64_t* gate,
                                  Fault* fault) noexcept nogil:
    cdef uint64_t head, used, most
    cdef uint32_t state, number, joins
    cdef Group* group
    # sync: group-join (fence, producer). Our tail becomes visible before we look for groups; pairs with (fence, joiner) in
    # group_begin. Without it a group could begin at an older tail than the gate we conclude.
    fence_full()
    while True:
        most = position - published
        # sync: group-count (acquire). Entries counted here are seen below; pairs with (release) in group_begin.
        joins = load_acquire_u32(&ring.producers.joins)
        for number in range(ring.n_groups):
            group = &ring.groups[number]
            # sync: group-ready (acquire). The head that the joiner wrote is visible; pairs with (release) in group_begin and
            # group_settle.
            # sync: group-gone (acquire). The reads of a removed group's member are done; pairs with (release) in group_end.
            state = load_acquire_u32(&group.state)
            if state == GROUP_FREE:
                continue
            # sync: room-ready (acquire). The reader's loads from the bytes before head are done; pairs with (release) in
            # consume_release. Without it new bytes could be written under a read that is not finished.
            head = load_acquire_u64(&group.head)
            used = position - head
            if used > ring.capacity or (head + HEADER_BYTES) & (ring.align - 1):
                # Twice the same values of a settled group: damage. Otherwise it is being made right now. Relaxed: a comparison.
                if (state == GROUP_ACTIVE and load_relaxed_u64(&group.head) == head
                        and load_relaxed_u32(&group.state) == state):
                    return layout_fault(fault, <uint64_t> (<char*> &group.head - ring.control), head, position)
                used = ring.capacity
            if used > most:
                most = used
        # sync: group-join (fence, producer). The heads were read before the count is read again; pairs with (fence, joiner) in
        # group_begin. Without it, on a machine that is not multi-copy atomic, the count could be older than a head that its
        # joiner had not seen.
        fence_full()
        if load_relaxed_u32(&ring.producers.joins) == joins:
            gate[0] = position - most
            return OK


# Begin where the last producer stopped; `ring` is set.
cdef inline int produce_start(Writer* writer) noexcept nogil:
    # sync: record-ready (acquire). Our own records follow those before tail; pairs with (release) in produce_publish.
    writer.position = load_acquire_u64(&writer.ring.producers.tail)
    writer.published = writer.position
    if (writer.position + HEADER_BYTES) & (writer.ring.align - 1):
        return layout_fault(&writer.fault, PRODUCERS_OFFSET, writer.position, writer.ring.align)
    return produce_scan_gate(&writer.ring, writer.position, writer.published, &writer.cached_gate, &writer.fault)


# Say from which gate on the room for `span` bytes is there, after W3 (`sequence`) and before the parked bit is set. There is one
# target for all threads of this producer. While others sleep (`others_sleep`) the lower one stays, unless the bell was rung
# since it was announced: then it may have been passed already, and those it was for are awake or refuse to sleep.
cdef inline void produce_aim(Writer* writer, uint64_t span, uint32_t sequence, bint others_sleep) noexcept nogil:
    cdef uint64_t target = writer.position + span - writer.ring.capacity
    if not others_sleep or sequence != writer.aimed_under or <int64_t> (target - writer.aimed_at) < 0:
        writer.aimed_at = target
        writer.aimed_under = sequence
        # Relaxed: only this producer writes it; the fence in bell_park makes it visible with the bit.
        store_relaxed_u64(&writer.slot.room_target, target)


# Would a record of `span` bytes fit now? For waiting threads: changes nothing.
cdef inline bint produce_has_room(const Writer* writer, uint64_t span) noexcept nogil:
    cdef uint64_t gate
    cdef Fault fault
    if produce_scan_gate(&writer.ring, writer.position, writer.published, &gate, &fault) != OK:
        return True                     # the caller finds the fault itself
    return writer.position + span - gate <= writer.ring.capacity


# Room for a message of `length` bytes at writer.position; `payload` is where it goes. Nobody sees it before produce_finish and
# produce_publish. FULL changes nothing.
cdef inline int produce_reserve(Writer* writer, uint64_t length, char** payload) noexcept nogil:
    cdef uint64_t span
    cdef int code
    if length > writer.max_message:
        return TOO_LARGE
    span = record_span(length, writer.ring.align)
    if writer.position + span - writer.cached_gate > writer.ring.capacity:
        code = produce_scan_gate(&writer.ring, writer.position, writer.published, &writer.cached_gate, &writer.fault)
        if code != OK:
            return code
        if writer.position + span - writer.cached_gate > writer.ring.capacity:
            return FULL
    payload[0] = record_payload(&writer.ring, writer.position)
    return OK


# Complete the reserved record with its header; `length` may be less than was reserved.
cdef inline void produce_finish(Writer* writer, uint64_t length) noexcept nogil:
    kernel_assert(writer.position + record_span(length, writer.ring.align) - writer.cached_gate <= writer.ring.capacity)
    record_write_header(&writer.ring, writer.position, <uint32_t> length, writer.participant)
    writer.position += record_span(length, writer.ring.align)
    writer.messages += 1
    writer.bytes += length


# Show every finished record, and wake who waits for the first of them. Returns the number of wake calls.
cdef inline int produce_publish(Writer* writer) noexcept nogil:
    cdef uint64_t old_tail = writer.published
    writer.published = writer.position
    # sync: record-ready (release). Publishes headers and payloads up to position; pairs with (acquire) in consume_refresh.
    # Without it a consumer could read the previous lap's bytes.
    store_release_u64(&writer.ring.producers.tail, writer.position)
    # Statistics: only we write these words.
    store_relaxed_u64(&writer.slot.messages, writer.messages)
    store_relaxed_u64(&writer.slot.bytes, writer.bytes)
    fence_compiler()                    # N1 before N2: doorbell.pxd
    if bell_is_armed(writer.ring.data_bell, writer.ring.n_bell_words) or writer.must_fence:
        return doorbell_ring_data(&writer.ring, old_tail, writer.position)
    return 0
