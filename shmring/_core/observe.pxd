# An observer: reads what the producers write without ever holding them back, and notices when they overtook it.
#
#        oldest that is whole        position                       tail        reserve
#   ----|===========================|=== not looked at yet ========|~~ being written ~~|
#       '------------------------- capacity -------------------------------------------'
#
#   observer: stamp or tail (acquire), copy, fence, how far may the producers be writing?
#   producer: says how far it writes (reserve, or the tail of many), fence, bytes
#
# Invariant: bytes are handed out only if no producer may have begun to write over them by the time they were copied.
# Progress: wait-free, but that a producer that laps it again and again makes it jump again and again. It looks at the tail of many
# LOOKS times, over one capacity of records that are not to be, and then lets its caller look at signals and the clock.
# Source: sequence locks (Linux, Documentation/locking/seqlock.rst); Aeron's broadcast buffer.
# Steps in brackets are those of observer.pml, shared_room.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport fence_acquire, load_relaxed_u64, store_relaxed_u64
from shmring._core.boundary cimport boundary_find
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport (BOUNDARIES, CORRUPT, EMPTY, HEADER_BYTES, LAPPED, NONE, Fault, OK, RingMap, Slot,
                                   layout_fault)
from shmring._core.record cimport (SKIP, record_look, record_look_stamped, record_missing, record_payload, record_span)
from shmring._core.reserve cimport Tail, reserve_look, reserve_lately, reserve_nothing_comes

cdef enum:
    ATTEMPTS = 100              # to find the newest record before the producers have lapped us again
    LOOKS = 1000                # at the tail and the boundaries

# What an observer knows; private to its process, changed only with the GIL held.
cdef struct Watcher:
    RingMap ring
    Slot* slot                  # NULL: the ring is mapped for reading only
    uint64_t position           # the next record to look at
    uint64_t number             # messages before it in the ring's order
    uint64_t lost               # messages it was lapped out of
    uint64_t messages           # statistics
    uint64_t bytes
    Fault fault


# How far the producers may be writing. Relaxed: the caller's fences order it. [fence]
cdef inline uint64_t observe_reserve(const RingMap* ring, uint64_t near) noexcept nogil:
    if ring.is_multi:
        return gate_tail(ring, near)
    return load_relaxed_u64(&ring.producers.reserve)


# Was everything from `position` on still whole when it was read? For who has read it since. [fence]
cdef inline bint observe_is_whole(const RingMap* ring, uint64_t position) noexcept nogil:
    # sync: lapping (fence, observer). What was read was read before we look how far the producers are; pairs with (fence, producer)
    # in produce_extend and reserve_exchange. Without it we could have read a later lap's bytes and an earlier reserve.
    fence_acquire()
    return observe_reserve(ring, position) - position <= ring.capacity


# Where reading ends.
cdef struct Newest:
    uint64_t begin          # the boundary that was found
    uint64_t end            # of what can be read,
    uint64_t end_number     # and the messages before it
    uint64_t last           # the newest record after the boundary and before the end; NONE if there is none
    uint64_t last_number


# Find the end of what can be read: from the newest boundary at or before `from_tail` on, over the records after it. EMPTY: no
# boundary in the last lap. LAPPED: the producers were faster.
cdef inline int observe_walk(const RingMap* ring, uint64_t from_tail, Newest* newest, Fault* fault) noexcept nogil:
    cdef uint64_t tail = gate_tail(ring, from_tail)
    cdef uint64_t length = 0
    cdef int code
    newest.end = newest.end_number = 0
    if not boundary_find(ring, tail - ring.capacity, from_tail, True, &newest.end, &newest.end_number):
        return EMPTY
    newest.begin = newest.end
    newest.last = NONE
    while newest.end != tail:
        if ring.is_multi:
            code = record_look_stamped(ring, newest.end, &length, fault)
        else:
            code = record_look(ring, newest.end, tail - newest.end, &length, fault)
        if not observe_is_whole(ring, newest.end):
            return LAPPED
        if code == EMPTY:
            return OK                   # not committed yet
        if code == CORRUPT or record_span(length, ring.align) > tail - newest.end:
            return layout_fault(fault, ring.data_offset + (newest.end & ring.mask), length, tail - newest.end)
        if code == OK:
            newest.last = newest.end
            newest.last_number = newest.end_number
        newest.end_number += 1 if code == OK else record_missing(ring, newest.end)
        newest.end += record_span(length, ring.align)
    return OK


# The same, but so that the newest record is in it: from an older boundary, if there is none after the newest.
cdef inline int observe_newest(const RingMap* ring, uint64_t near, Newest* newest, Fault* fault) noexcept nogil:
    cdef int code = observe_walk(ring, gate_tail(ring, near), newest, fault)
    cdef Newest older = newest[0]
    cdef uint32_t boundary
    for boundary in range(BOUNDARIES):
        if code != OK or older.last != NONE:
            break
        if observe_walk(ring, older.begin - HEADER_BYTES, &older, fault) != OK:
            return OK                   # nothing older can be read
        newest[0] = older
    return code


# Begin at the oldest record that can be read, or behind the newest; `ring` and `slot` are set.
cdef inline int observe_start(Watcher* watcher, bint latest) noexcept nogil:
    cdef RingMap* ring = &watcher.ring
    cdef uint64_t near = reserve_lately(ring)
    cdef Newest newest
    cdef int code = EMPTY, attempt
    if not latest and boundary_find(ring, observe_reserve(ring, near) - ring.capacity, gate_tail(ring, near), False,
                                    &watcher.position, &watcher.number):
        return OK
    for attempt in range(ATTEMPTS):
        code = observe_walk(ring, gate_tail(ring, near), &newest, &watcher.fault)
        if code != LAPPED:
            break
        near = newest.end
    if code == OK:
        watcher.position = newest.end
        watcher.number = newest.end_number
        return OK
    if code == CORRUPT:
        return CORRUPT
    # One reservation took the whole last lap, or we are far too slow: begin as if lapped.
    watcher.position = gate_tail(ring, near) - 2 * ring.capacity
    watcher.number = NONE
    return OK


# Where to go on after being overtaken: a boundary that is a while ahead of the producers, or the newest. Many producers: not the
# tail, as what can be read lies before it. There is a place in the last lap (reserve.pxd) unless the tail moves on and on, or
# an entry changed just when it was read: look again. None in so many looks is damage: the tail and its number, as they are
# together. False: one producer is in the middle of messages that took all of the last lap, and will tell when they are shown; or
# the tail of many never stands still.
cdef inline bint observe_find_place(const RingMap* ring, uint64_t near, uint64_t* position, uint64_t* number) noexcept nogil:
    cdef uint64_t reserve, last
    cdef Tail first, second
    cdef int attempt
    second.position = near
    reserve_look(ring, &second)
    for attempt in range(LOOKS):
        reserve = observe_reserve(ring, near)
        last = gate_tail(ring, near) - (HEADER_BYTES if ring.is_multi else 0)
        if (boundary_find(ring, reserve - ring.capacity + (ring.capacity >> 2), last, False, position, number)
                or boundary_find(ring, reserve - ring.capacity, last, True, position, number)):
            return True
        if not ring.is_multi:
            return False
        first = second
        reserve_look(ring, &second)
    if first.word != second.word:
        return False                    # later
    # The number of the first look was read between two looks at the same word.
    position[0] = first.position
    number[0] = first.number
    return True


# Overtaken: go on further ahead, and count what was lost. False: there is no place to go yet. [jump]
cdef inline bint observe_jump(Watcher* watcher) noexcept nogil:
    cdef uint64_t before = watcher.number
    cdef uint64_t number = 0
    if not observe_find_place(&watcher.ring, watcher.position, &watcher.position, &number):
        return False
    watcher.number = number
    if before != NONE and <int64_t> (number - before) > 0:
        watcher.lost += number - before
    if watcher.slot != NULL:
        # Statistics: only we write it.
        store_relaxed_u64(&watcher.slot.lost, watcher.lost)
    return True


cdef inline bint observe_is_lapped(const Watcher* watcher) noexcept nogil:
    return observe_reserve(&watcher.ring, watcher.position) - watcher.position > watcher.ring.capacity


# Is there a record at the position, or was it overtaken? For waiting threads: changes nothing.
cdef inline bint observe_has_data(const Watcher* watcher) noexcept nogil:
    cdef uint64_t length = 0, position = 0
    cdef Fault fault
    if observe_is_lapped(watcher):
        return observe_find_place(&watcher.ring, watcher.position, &position, &length)
    if watcher.ring.is_multi:
        return record_look_stamped(&watcher.ring, watcher.position, &length, &fault) != EMPTY
    return gate_tail(&watcher.ring, watcher.position) != watcher.position


# The record at the position: OK, EMPTY, LAPPED (then observe_jump), or CORRUPT. What is copied from `payload` counts only if
# observe_is_whole says so afterwards.
cdef inline int observe_peek(Watcher* watcher, char** payload, uint64_t* length) noexcept nogil:
    cdef RingMap* ring = &watcher.ring
    cdef uint64_t tail, missing, first = watcher.position
    cdef int code
    while watcher.position - first <= ring.capacity:        # so much that is not to be, and no end: others may want the thread
        if ring.is_multi:
            code = record_look_stamped(ring, watcher.position, length, &watcher.fault)
        else:
            tail = gate_tail(ring, watcher.position)
            if tail == watcher.position:
                return EMPTY
            if tail - watcher.position > ring.capacity:
                if not observe_is_whole(ring, watcher.position):
                    return LAPPED
                # It announced less than it has shown.
                return layout_fault(&watcher.fault, <uint64_t> (<char*> &ring.producers.reserve - ring.control),
                                    observe_reserve(ring, tail), tail)
            code = record_look(ring, watcher.position, tail - watcher.position, length, &watcher.fault)
        missing = record_missing(ring, watcher.position) if code == SKIP else 0
        if not observe_is_whole(ring, watcher.position):
            return LAPPED
        if code != SKIP:
            payload[0] = record_payload(ring, watcher.position)
            return code
        watcher.position += record_span(length[0], ring.align)
        watcher.number += missing
    return EMPTY


# Behind the record at the position, which was handed out.
cdef inline void observe_advance(Watcher* watcher, uint64_t length) noexcept nogil:
    watcher.position += record_span(length, watcher.ring.align)
    watcher.number += 1
    watcher.messages += 1
    watcher.bytes += length
    if watcher.slot != NULL:
        # Statistics: only we write these words.
        store_relaxed_u64(&watcher.slot.messages, watcher.messages)
        store_relaxed_u64(&watcher.slot.bytes, watcher.bytes)


# Go to the newest record that can be read. EMPTY: there is none at or after the position.
cdef inline int observe_latest(Watcher* watcher) noexcept nogil:
    cdef Newest newest
    cdef int code = EMPTY, attempt
    for attempt in range(ATTEMPTS):
        code = observe_newest(&watcher.ring, watcher.position, &newest, &watcher.fault)
        if code != LAPPED:
            break
    if code != OK:
        return code
    if newest.last == NONE or <int64_t> (newest.last - watcher.position) < 0:
        return EMPTY
    watcher.position = newest.last
    watcher.number = newest.last_number
    return OK


# Has it seen everything, now that no more is sent?
cdef inline bint observe_is_drained(const Watcher* watcher) noexcept nogil:
    if observe_has_data(watcher):
        return False
    return not watcher.ring.is_multi or reserve_nothing_comes(&watcher.ring, watcher.position)


# Where a parked observer is. Relaxed: the fence in bell_park makes it visible with the bit. [aim]
cdef inline void observe_announce(Watcher* watcher) noexcept nogil:
    cdef uint64_t awaited = watcher.position
    if observe_is_lapped(watcher):
        awaited = gate_tail(&watcher.ring, awaited)
    store_relaxed_u64(&watcher.slot.awaited, awaited)
