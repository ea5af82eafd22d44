# The one member of an exclusive group: look at records, hand them out, let them go.
#
#        head                 cursor               cached_tail        tail
#   ------|== handed out, in use ==|== seen, waiting ==|== not looked at ==|----
#
# Invariant: head <= cursor <= tail; the bytes from head on are not overwritten.
# Progress: wait-free; tail is read only when everything seen was handed out. Killed at any point: head has not passed what was
# not released, and the next member gets it again; the group's cursor tells it which records were handed out before.
# Source: as produce.pxd; peek and release as in liburing's completion queue.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (fence_compiler, kernel_assert, load_acquire_u64, load_relaxed_u64, store_relaxed_u64,
                                   store_release_u64)
from shmring._core.doorbell cimport bell_is_armed, doorbell_ring_room
from shmring._core.layout cimport (CORRUPT, EMPTY, HEADER_BYTES, PRODUCERS_OFFSET, Fault, Group, OK, RingMap, Slot,
                                   layout_fault)
from shmring._core.record cimport record_payload, record_read_header, record_span
from shmring._core.repair cimport participant_group

# What a consumer knows; private to its process, changed only with the GIL held.
cdef struct Reader:
    RingMap ring
    Group* group
    uint64_t cursor             # the next record to hand out
    uint64_t released           # head as last stored
    uint64_t cached_tail        # everything before it is published
    uint64_t redelivered_until  # records before it were handed out to an earlier member
    uint64_t messages           # statistics, copied to the slot at each release
    uint64_t bytes
    Slot* slot
    uint32_t participant        # slot number
    bint must_fence             # membarrier was refused to this process: see doorbell.pxd
    Fault fault


# Begin where group `number` stands; `ring` and `slot` are set.
cdef inline void consume_start(Reader* reader, uint32_t number) noexcept nogil:
    cdef uint64_t cursor
    reader.group = &reader.ring.groups[number]
    # sync: room-ready (acquire). The cursor that is read next is not before this head; pairs with (release) in consume_release.
    reader.released = load_acquire_u64(&reader.group.head)
    reader.cursor = reader.cached_tail = reader.released
    # Relaxed: their writer, the member before us, is gone. The watermark keeps the furthest cursor of all members, and takes it
    # over before the cursor goes back, so that a death in between forgets nothing.
    cursor = load_relaxed_u64(&reader.group.cursor)
    reader.redelivered_until = load_relaxed_u64(&reader.group.watermark)
    if <int64_t> (cursor - reader.redelivered_until) > 0:
        reader.redelivered_until = cursor
    store_relaxed_u64(&reader.group.watermark, reader.redelivered_until)
    fence_compiler()                    # in program order is enough: a death leaves all stores before it
    store_relaxed_u64(&reader.group.cursor, reader.cursor)


# Is tail beyond the cursor? For waiting threads: changes nothing. Relaxed: whoever acts on it calls consume_refresh.
cdef inline bint consume_has_data(const Reader* reader) noexcept nogil:
    return load_relaxed_u64(&reader.ring.producers.tail) != reader.cursor


# Learn how far the producers are. EMPTY when nothing lies beyond the cursor.
cdef inline int consume_refresh(Reader* reader) noexcept nogil:
    # sync: record-ready (acquire). Headers and payloads before tail are visible; pairs with (release) in produce_publish.
    cdef uint64_t tail = load_acquire_u64(&reader.ring.producers.tail)
    if tail == reader.cursor:
        return EMPTY
    # Beyond the cursor, but not by more than fits behind what is still held.
    if (tail - reader.cursor > reader.ring.capacity - (reader.cursor - reader.released)
            or (tail + HEADER_BYTES) & (reader.ring.align - 1)):
        return layout_fault(&reader.fault, PRODUCERS_OFFSET, tail, reader.cursor)
    reader.cached_tail = tail
    return OK


# The record at the cursor, which stays where it is.
cdef inline int consume_peek(Reader* reader, char** payload, uint64_t* length) noexcept nogil:
    cdef int code
    if reader.cursor == reader.cached_tail:
        code = consume_refresh(reader)
        if code != OK:
            return code
    code = record_read_header(&reader.ring, reader.cursor, reader.cached_tail - reader.cursor, length, &reader.fault)
    if code != OK:
        return code
    payload[0] = record_payload(&reader.ring, reader.cursor)
    return OK


# Hand the peeked record out: the cursor moves behind it.
cdef inline void consume_advance(Reader* reader, uint64_t length) noexcept nogil:
    reader.cursor += record_span(length, reader.ring.align)
    kernel_assert(reader.cached_tail - reader.cursor <= reader.ring.capacity)
    reader.messages += 1
    reader.bytes += length
    # Relaxed: a hint for the caught-up rule and for a successor; only we write it.
    store_relaxed_u64(&reader.group.cursor, reader.cursor)


# Let go of everything before `position`, and wake producers that wait for it. Returns the number of wake calls.
cdef inline int consume_release(Reader* reader, uint64_t position) noexcept nogil:
    cdef uint64_t old_head = reader.released
    kernel_assert(reader.cursor - position <= reader.cursor - old_head)
    reader.released = position
    # sync: room-ready (release). Our reads of the bytes before position are done; pairs with (acquire) in produce_scan_gate.
    store_release_u64(&reader.group.head, position)
    # Statistics: only we write these words.
    store_relaxed_u64(&reader.slot.messages, reader.messages)
    store_relaxed_u64(&reader.slot.bytes, reader.bytes)
    fence_compiler()                    # N1 before N2: doorbell.pxd
    if bell_is_armed(reader.ring.room_bell, reader.ring.n_bell_words) or reader.must_fence:
        return doorbell_ring_room(&reader.ring, old_head, position)
    return 0


# How many published records lie beyond `position`, into `count`: one pass over their headers. Safe while the group's head
# stays at or before `position`; a snapshot otherwise, and then a broken chain just ends it.
cdef inline void consume_count(const RingMap* ring, uint64_t position, uint64_t* count) noexcept nogil:
    # sync: record-ready (acquire). The headers before tail are visible; pairs with (release) in produce_publish.
    cdef uint64_t tail = load_acquire_u64(&ring.producers.tail)
    cdef uint64_t length
    cdef Fault fault
    count[0] = 0
    if tail - position > ring.capacity:
        return
    while position != tail:
        if record_read_header(ring, position, tail - position, &length, &fault) != OK:
            return
        position += record_span(length, ring.align)
        count[0] += 1
