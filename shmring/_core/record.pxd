# One record: a 16-byte header, then the payload.
#
# The stamp is position | state, xor the ring's random cookie: neither a record of an earlier lap nor payload that somebody
# chose can pass for the header of this position. Its low four bits are free for the state, as positions are multiples of 16.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport load_relaxed_u32, load_relaxed_u64, store_relaxed_u32, store_relaxed_u64
from shmring._core.layout cimport COMMITTED, CORRUPT, HEADER_BYTES, Fault, Header, OK, RingMap, layout_fault


# Bytes from a record's position to the next record's.
cdef inline uint64_t record_span(uint64_t length, uint64_t align) noexcept nogil:
    return (length + HEADER_BYTES + align - 1) & ~(align - 1)


cdef inline Header* record_at(const RingMap* ring, uint64_t position) noexcept nogil:
    return <Header*> (ring.data + (position & ring.mask))


cdef inline char* record_payload(const RingMap* ring, uint64_t position) noexcept nogil:
    return ring.data + (position & ring.mask) + HEADER_BYTES


# Relaxed stores: the release store of tail in produce_publish makes them visible.
cdef inline void record_write_header(const RingMap* ring, uint64_t position, uint32_t length,
                                     uint32_t participant) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    store_relaxed_u32(&header.length, length)
    header.participant = <unsigned short> participant
    header.previous = 0
    store_relaxed_u64(&header.stamp, (position | COMMITTED) ^ ring.cookie)


# Check the header at `position`, of which `available` published bytes follow; its length goes to `length`. The length is read
# once, so that what was checked is what is used. Relaxed: whoever calls acquired a tail beyond this record.
cdef inline int record_read_header(const RingMap* ring, uint64_t position, uint64_t available, uint64_t* length,
                                   Fault* fault) noexcept nogil:
    cdef Header* header = record_at(ring, position)
    cdef uint64_t stamp = load_relaxed_u64(&header.stamp)
    cdef uint64_t found = load_relaxed_u32(&header.length)
    if stamp != (position | COMMITTED) ^ ring.cookie:
        return layout_fault(fault, ring.data_offset + (position & ring.mask), stamp ^ ring.cookie, position | COMMITTED)
    if record_span(found, ring.align) > available:
        return layout_fault(fault, ring.data_offset + (position & ring.mask) + 8, found, available - HEADER_BYTES)
    length[0] = found
    return OK
