# One record: a 16-byte header, then the payload.
#
# The stamp is position | state, xor the ring's random cookie: neither a record of an earlier lap nor payload that somebody
# chose can pass for the header of this position. Its low four bits are free for the state, as positions are multiples of 16.
#
#   one producer      the stamp is written like the rest, and the tail says that it counts; readers stay below the tail
#   many producers    the stamp itself says that its record is complete; readers go from stamp to stamp
#
# A record is COMMITTED, or ABORTED: room that was reserved and given up, by its producer or for a dead one. Readers skip it;
# its `participant` counts the messages that were to be there, for who counts what it missed.
#
# Observers, and members that have not won it yet, look at headers that a producer may be writing over. What they read counts only
# if a look at the stamp, the tail or the head afterwards says so; but the reads themselves must not tear, so every field of a
# header is a shared word.
# Steps in brackets are those of many_producers.pml, observer.pml in models/.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from shmring._core.atomic cimport (load_acquire_u64, load_relaxed_u16, load_relaxed_u32, load_relaxed_u64, prefetch, store_relaxed_u16,
                                   store_relaxed_u32, store_relaxed_u64, store_release_u64)
from shmring._core.layout cimport (ABORTED, COMMITTED, EMPTY, HEADER_BYTES, Fault, Header, OK, RingMap, layout_fault)

cdef enum:
    SKIP = 1                        # beside the kernel's codes: an ABORTED record
    LINE_BYTES = 64                 # of a cache line; a guess that is wrong costs some ns


# Bytes from a record's position to the next record's.
cdef inline uint64_t record_span(uint64_t length, uint64_t align) noexcept nogil:
    return (length + HEADER_BYTES + align - 1) & ~(align - 1)


cdef inline Header* record_at(const RingMap* ring, uint64_t position) noexcept nogil:
    return <Header*> (ring.data + (position & ring.mask))


cdef inline char* record_payload(const RingMap* ring, uint64_t position) noexcept nogil:
    return ring.data + (position & ring.mask) + HEADER_BYTES


# The record at `position` is there, and is read soon: fetch its header, and the line that a small payload ends in, at once. One
# after the other they cost a round trip between the cores each.
cdef inline void record_expect(const RingMap* ring, uint64_t position) noexcept nogil:
    cdef char* header = <char*> record_at(ring, position)
    prefetch(header)
    prefetch(header + LINE_BYTES)


# One producer. Relaxed stores: the release store of tail in produce_publish makes them visible. [bytes]
cdef inline void record_write(const RingMap* ring, uint64_t position, uint32_t length, uint32_t mark) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    store_relaxed_u32(&header.length, length)
    store_relaxed_u16(&header.participant, <uint16_t> mark)
    store_relaxed_u16(&header.previous, 0)
    store_relaxed_u64(&header.stamp, (position | COMMITTED) ^ ring.cookie)


# Many producers: complete the record at `position` of a reservation that follows one of `previous`. [stamp]
cdef inline void record_stamp(const RingMap* ring, uint64_t position, uint32_t length, uint32_t participant,
                              uint32_t previous, uint64_t state) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    # Relaxed: published with the stamp.
    store_relaxed_u32(&header.length, length)
    store_relaxed_u16(&header.participant, <uint16_t> participant)
    store_relaxed_u16(&header.previous, <uint16_t> previous)
    # sync: record-stamped (release). Publishes header and payload; pairs with (acquire) in record_look_stamped and
    # repair_previous_of. Without it a consumer may read the previous lap's bytes.
    store_release_u64(&header.stamp, (position | state) ^ ring.cookie)


# Check the header at `position`, of which `available` published bytes follow: OK or SKIP and the record's `length`, or CORRUPT.
# The length is read once, so that what was checked is what is used. Relaxed: whoever calls acquired a tail or a stamp beyond.
# [look]
cdef inline int record_look(const RingMap* ring, uint64_t position, uint64_t available, uint64_t* length,
                            Fault* fault) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    cdef uint64_t state = load_relaxed_u64(&header.stamp) ^ ring.cookie ^ position
    cdef uint64_t found = load_relaxed_u32(&header.length)
    if state != COMMITTED and state != ABORTED:
        return layout_fault(fault, ring.data_offset + (position & ring.mask), state ^ position, position | COMMITTED)
    if record_span(found, ring.align) > available or record_span(found, ring.align) > ring.capacity:
        return layout_fault(fault, ring.data_offset + (position & ring.mask) + 8, found, available - HEADER_BYTES)
    length[0] = found
    return OK if state == COMMITTED else SKIP


# The same for a ring of many producers, where nothing but the stamp says whether the record is there: EMPTY if it is not. [look]
cdef inline int record_look_stamped(const RingMap* ring, uint64_t position, uint64_t* length, Fault* fault) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    # sync: record-stamped (acquire). The header and the payload of a complete record are visible; pairs with (release) in
    # record_stamp.
    cdef uint64_t state = load_acquire_u64(&header.stamp) ^ ring.cookie ^ position
    # Relaxed: ordered by the stamp.
    cdef uint64_t found = load_relaxed_u32(&header.length)
    if state != COMMITTED and state != ABORTED:
        return EMPTY
    if record_span(found, ring.align) > ring.capacity:
        return layout_fault(fault, ring.data_offset + (position & ring.mask) + 8, found, ring.capacity - HEADER_BYTES)
    length[0] = found
    return OK if state == COMMITTED else SKIP


# Messages that an ABORTED record takes the place of. Relaxed: its stamp was acquired. [copy]
cdef inline uint64_t record_missing(const RingMap* ring, uint64_t position) noexcept nogil:
    return load_relaxed_u16(&record_at(ring, position).participant)
