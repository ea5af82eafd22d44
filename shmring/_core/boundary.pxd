# Record positions that observers can land on, each with the number of messages before it.
#
#   producers: whoever is about to pass into another sixteenth of the capacity notes where its record begins
#   observers: begin there; after being lapped, the difference of the numbers is what they lost
#
# An entry is a pair of words that changes in one exchange, and only ever to a later position, so that a producer that was
# stopped half-way cannot put an old place over a new one. NONE: never used. Which places there are always: reserve.pxd.
# Progress: lock-free; a failed exchange means that somebody noted a later place than was there. MOST_LOST in a row are damage.
# Steps in brackets are those of observer.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport cas_pair, load_acquire_u64, load_relaxed_u64, store_relaxed_u64
from shmring._core.layout cimport BOUNDARIES, HEADER_BYTES, MOST_LOST, NONE, Boundary, RingMap


# A record that ends at or before `end` will begin at `position`, after `number` messages. The place stands for the chunk that
# `end` lies in. Returns the place that stands there now: ours, or a later one. [note]
cdef inline uint64_t boundary_note(const RingMap* ring, uint64_t position, uint64_t end, uint64_t number) noexcept nogil:
    cdef Boundary* entry = &ring.producers.boundaries[(end // ring.chunk) % BOUNDARIES]
    cdef uint64_t before
    cdef int attempt
    for attempt in range(MOST_LOST):
        # Relaxed: the exchange checks both.
        before = load_relaxed_u64(&entry.position)
        if before != NONE and <int64_t> (position - before) <= 0:
            return before
        # sync: boundary (release). Nothing is published but the pair itself; pairs with (acquire) in boundary_read. A failed
        # exchange: another producer noted a place, maybe an older one than ours.
        if cas_pair(&entry.position, before, load_relaxed_u64(&entry.number), position, number):
            break
    return position


# The place that stands for the chunk that `end` lies in. Relaxed: a true one at any time, and the next is a later one. [note]
cdef inline uint64_t boundary_place(const RingMap* ring, uint64_t end) noexcept nogil:
    return load_relaxed_u64(&ring.producers.boundaries[(end // ring.chunk) % BOUNDARIES].position)


# A new single producer begins at `tail`: what one that died has noted beyond it is not going to be a record's place.
cdef inline void boundary_forget(const RingMap* ring, uint64_t tail) noexcept nogil:
    cdef uint64_t place
    cdef uint32_t index
    for index in range(BOUNDARIES):
        # Relaxed: nobody else writes them now, and observers use nothing beyond the tail.
        place = load_relaxed_u64(&ring.producers.boundaries[index].position)
        if place != NONE and <int64_t> (place - tail) > 0:
            store_relaxed_u64(&ring.producers.boundaries[index].position, NONE)


# Entry `index`, if it is in use; damaged ones, at which no record begins, are not. [place]
cdef inline bint boundary_read(const RingMap* ring, uint32_t index, uint64_t* position, uint64_t* number) noexcept nogil:
    cdef const Boundary* entry = &ring.producers.boundaries[index]
    # sync: boundary (acquire). The number is not older than the position; pairs with (release) in boundary_note.
    position[0] = load_acquire_u64(&entry.position)
    # sync: boundary (acquire). The position that is read again is not older than the number; pairs with (release) in boundary_note.
    number[0] = load_acquire_u64(&entry.number)
    # Relaxed: positions only grow, so the same one again means that the number stood beside it all the time.
    return (position[0] != NONE and not (position[0] + HEADER_BYTES) & (ring.align - 1)
            and load_relaxed_u64(&entry.position) == position[0])


# The newest place at or before `tail`, if newest, else the oldest at or after `limit`: False if there is none in between.
cdef inline bint boundary_find(const RingMap* ring, uint64_t limit, uint64_t tail, bint newest, uint64_t* position,
                               uint64_t* number) noexcept nogil:
    cdef uint64_t place = 0, count = 0
    cdef bint found = False
    cdef uint32_t index
    if <int64_t> (tail - limit) < 0:
        return False                    # one record takes more than what may be left
    for index in range(BOUNDARIES):
        if not boundary_read(ring, index, &place, &count):
            continue
        if place - limit > tail - limit:
            continue
        if found and (<int64_t> (place - position[0]) > 0) != newest:
            continue
        position[0] = place
        number[0] = count
        found = True
    return found
