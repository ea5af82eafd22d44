# What a member of a group knows and sees. Nothing here changes a shared word.
#
#            claimed (claim.pxd)                cursor           cached_tail         tail
#   ---------|=================================|=== seen =======|=== to be seen ====|----
#
# One producer: everything before its tail is there. Many: each record's stamp says whether it is there (record.pxd).
#
# What is seen may be claimed by another member the next moment: whoever acts on it claims it first, or looks again.
# Progress: wait-free, but for records that are not to be: they are passed one by one, at most a capacity of them.
# Steps in brackets are those of shared_group.pml, shared_bell.pml, shutdown.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport load_acquire_u64, load_relaxed_u32, load_relaxed_u64
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport (CLAIMS, EMPTY, HEADER_BYTES, NONE, ORPHANS, PRODUCERS_OFFSET, Fault, Group, OK, RingMap, Slot,
                                   layout_fault, mark_position)
from shmring._core.record cimport SKIP, record_expect, record_look, record_look_stamped, record_payload, record_span
from shmring._core.reserve cimport reserve_nothing_comes

# What a member knows; private to its process, changed only with the GIL held.
cdef struct Reader:
    RingMap ring
    Group* group
    Slot* slot
    uint64_t cursor             # the head as last seen; while we are the only member, the head
    uint64_t word               # the same as a marked word
    uint64_t cached_tail        # one producer: everything before it is published
    uint64_t hold               # slot.hold as last stored
    uint64_t low                # the gate may rise from here when we have claimed; NONE
    uint64_t start              # the range that was won last and is neither released nor kept: first record,
    uint64_t end                # and end
    uint64_t kept_end[CLAIMS]   # ranges kept: end, NONE if free; entry 0 is the one above
    uint64_t pending[CLAIMS]    # adopted ranges: the next record to hand out, else NONE
    uint32_t n_kept
    uint32_t n_pending
    uint32_t group_number
    uint32_t mark               # slot number + 1
    uint64_t messages           # statistics, copied to the slot at each release
    uint64_t bytes
    uint64_t redelivered
    uint32_t deferred           # orphans wait, but we cannot adopt: claims until we try again
    bint has_sleepers           # other threads of ours are parked
    bint must_fence             # membarrier was refused to this process: see doorbell.pxd
    Fault fault


# Begin where group `number` stands; `ring`, `slot` and `mark` are set. `lately` is any position within 2^51 of it. [refresh]
cdef inline void reader_start(Reader* reader, uint32_t number, uint64_t lately) noexcept nogil:
    cdef int index
    reader.group = &reader.ring.groups[number]
    reader.group_number = number
    # sync: claimed (acquire). What stands before the head is settled; pairs with (release) in claim_move_head and sole_move_head.
    reader.word = load_acquire_u64(&reader.group.head)
    reader.cursor = reader.cached_tail = mark_position(reader.word, lately)
    reader.hold = reader.start = reader.end = reader.low = NONE
    for index in range(CLAIMS):
        reader.kept_end[index] = reader.pending[index] = NONE


# Is there a record at `position`, committed or not to be? For waiting threads too: changes nothing. Relaxed: whoever acts on it
# looks again. [W4]
cdef inline bint reader_sees_record(const Reader* reader, uint64_t position) noexcept nogil:
    cdef uint64_t length = 0
    cdef Fault fault
    cdef bint is_there
    if reader.ring.is_multi:
        is_there = record_look_stamped(&reader.ring, position, &length, &fault) != EMPTY
    else:
        is_there = load_relaxed_u64(&reader.ring.producers.tail) != position
    if is_there:
        record_expect(&reader.ring, position)
    return is_there


# Did a dead member leave claims that we could adopt? Relaxed: whoever adopts takes the lock. [W4]
cdef inline bint reader_may_adopt(const Reader* reader) noexcept nogil:
    return reader.deferred == 0 and load_relaxed_u32(&reader.group.attention) & ORPHANS


# Was a range won and neither released nor kept? Only if its caller failed.
cdef inline bint reader_is_unfinished(const Reader* reader) noexcept nogil:
    return reader.start != NONE and reader.cursor == reader.end


# Has this member's group everything, now that no more is sent? [drained]
cdef inline bint reader_is_drained(const Reader* reader) noexcept nogil:
    cdef uint64_t head
    # Relaxed: whoever adopts takes the lock.
    if reader_has_data(reader) or load_relaxed_u32(&reader.group.attention) & ORPHANS:
        return False
    # Relaxed: if it is old, there is data, or the caller looks again.
    head = mark_position(load_relaxed_u64(&reader.group.head), reader.cursor)
    if reader.ring.is_multi:
        return reserve_nothing_comes(&reader.ring, head)
    return gate_tail(&reader.ring, head) == head


# Is there something to do for this member? For waiting threads: changes nothing. Relaxed: as reader_sees_record. [W4]
cdef inline bint reader_has_data(const Reader* reader) noexcept nogil:
    if reader.n_pending or reader_is_unfinished(reader) or reader_may_adopt(reader):
        return True
    return reader_sees_record(reader, mark_position(load_relaxed_u64(&reader.group.head), reader.cursor))


# The record at `position`, into `length`: OK, SKIP, EMPTY or CORRUPT.
cdef inline int reader_look(Reader* reader, uint64_t position, uint64_t* length) noexcept nogil:
    cdef RingMap* ring = &reader.ring
    cdef uint64_t tail
    if ring.is_multi:
        return record_look_stamped(ring, position, length, &reader.fault)
    if <int64_t> (reader.cached_tail - position) <= 0:
        tail = gate_tail(ring, position)
        if tail == position:
            return EMPTY
        if tail - position > ring.capacity or (tail + HEADER_BYTES) & (ring.align - 1):
            return layout_fault(&reader.fault, PRODUCERS_OFFSET, tail, position)
        reader.cached_tail = tail
        record_expect(ring, position)
    return record_look(ring, position, reader.cached_tail - position, length, &reader.fault)


# The same, past records that are not to be: `position` moves over them.
cdef inline int reader_find(Reader* reader, uint64_t* position, uint64_t* length) noexcept nogil:
    cdef uint64_t first = position[0]
    cdef int code = reader_look(reader, first, length)
    while code == SKIP:
        if position[0] - first > reader.ring.capacity:
            # Somebody stamps them as we go; they cannot be all in the ring.
            return layout_fault(&reader.fault, reader.ring.data_offset + (position[0] & reader.ring.mask), position[0], first)
        position[0] += record_span(length[0], reader.ring.align)
        code = reader_look(reader, position[0], length)
    return code


# Are there others in the group? Relaxed: a snapshot is good enough.
cdef inline bint reader_has_peers(const Reader* reader) noexcept nogil:
    return load_relaxed_u32(&reader.group.members) > 1


# ---- notes of a batch --------------------------------------------------------------------------------------------


cdef enum:
    MOST_SPOTS = 128                # messages of one claim that are noted

# Messages of a range, as they were when it was won. They were looked at while the head stood at the range's begin: nobody had
# claimed them, so nobody had let go of them, so no producer wrote there; and what holds them now was in place before the head
# moved. So they need no second look. (Without a claim that succeeded the notes count for nothing.)
cdef struct Spot:
    const char* payload
    uint64_t length

cdef struct Found:
    uint64_t count
    uint64_t bytes                  # of payload
    Spot spots[MOST_SPOTS]


cdef inline void found_clear(Found* found) noexcept nogil:
    found.count = found.bytes = 0


cdef inline void found_add(Found* found, const RingMap* ring, uint64_t position, uint64_t length) noexcept nogil:
    found.spots[found.count].payload = record_payload(ring, position)
    found.spots[found.count].length = length
    found.count += 1
    found.bytes += length
