# How many messages are in flight, for rings that are bounded in messages as well as in bytes.
#
#      claimed: `passed` says so            in flight: number - passed           tail, with the number of all messages before it
#   ----|=============================|====== at most `most` ==============|.... room ....|
#
# The tail of many producers carries the number of messages reserved so far, and one exchange changes both. So each message knows
# its number, and takes it along (behind its payload: shmring/counted.pyx). Who claims a message notes its number in the group.
#
# Invariant: passed <= messages claimed <= number, for whoever reads `passed` first. So a producer that found number + n - passed
# within the bound, and whose exchange of exactly that number succeeds, keeps the bound: others can only have claimed more.
# A member that dies between claim and note leaves `passed` too low. So whoever finds the bound reached asks the message at the
# group's head, which is the first that nobody has claimed; if there is none, everything was. The same holds for messages that
# were reserved and never came.
# Progress: count_note: lock-free, MOST_LOST exchanges lost in a row are damage and end it; the others are wait-free.
# Source: the difference of two counters, as in a semaphore; ours is that it can be told anew from the messages.
# Steps in brackets are those of count.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from shmring._core.atomic cimport (cas_u64, fence_acquire, fence_compiler, fence_full, load_acquire_u64, load_relaxed_u64,
                                   seldom)
from shmring._core.doorbell cimport WAKE_ALL, bell_is_armed, bell_ring
from shmring._core.layout cimport (HEADER_BYTES, MOST_LOST, OK, PRODUCERS_OFFSET, Fault, Group, RingMap, layout_fault,
                                   mark_position)
from shmring._core.record cimport SKIP, record_look_stamped, record_payload, record_span
from shmring._core.reserve cimport Tail, reserve_lately, reserve_look

cdef enum:
    NUMBER_BYTES = 8                # of a message's number, the last ones of its payload


# Messages that the members of group 0 have claimed, or fewer, where `tail` was just read. [passed]
cdef inline uint64_t count_passed(const RingMap* ring, const Tail* tail) noexcept nogil:
    cdef Group* group = &ring.groups[0]
    # sync: claimed (acquire). What stands before the head is settled; pairs with (release) in claim_move_head and sole_move_head.
    cdef uint64_t head = load_acquire_u64(&group.head)
    # Relaxed: the same word again, behind an acquire, means that the number stood beside it.
    if mark_position(head, tail.position) == tail.position and load_relaxed_u64(&ring.producers.tail) == tail.word:
        return tail.number
    # Relaxed: an old value is lower, and harmless; after a bell was rung for a new one, the bell orders it.
    return count_told(ring, tail, head, load_relaxed_u64(&group.passed))


# `passed`, or more if the first message that nobody has claimed says so: the one at `head`, or behind records that are not to be. [told]
cdef inline uint64_t count_told(const RingMap* ring, const Tail* tail, uint64_t head, uint64_t passed) noexcept nogil:
    cdef uint64_t position = mark_position(head, tail.position), length = 0
    cdef uint64_t number = tail.number + 1      # the next one's
    cdef int code = SKIP
    cdef Fault fault
    if ring.data == NULL:
        return passed                           # a Ring itself maps no records
    if tail.position - position + ring.capacity > 2 * ring.capacity:
        return passed                           # damage: they are never so far apart, whichever was read first
    while code == SKIP and <int64_t> (tail.position - position) > 0:
        code = record_look_stamped(ring, position, &length, &fault)
        if code == SKIP:
            position += record_span(length, ring.align)
    if code == OK and length >= NUMBER_BYTES:
        memcpy(&number, record_payload(ring, position) + length - NUMBER_BYTES, NUMBER_BYTES)
    elif code != SKIP:
        return passed                           # not there yet; or no message of ours
    # sync: lapping (fence, observer). What we looked at was read before we look whether it is still nobody's; pairs with (fence,
    # producer) in reserve_exchange. Without it we could take a later lap's bytes for a number.
    fence_acquire()
    # Relaxed: the fence orders it. If it was claimed meanwhile, its number is noted.
    if load_relaxed_u64(&ring.groups[0].head) != head:
        return passed
    if <int64_t> (number - 1 - passed) > 0 and <int64_t> (tail.number + 1 - number) >= 0:
        return number - 1
    return passed


# May `messages` more be reserved at `tail`, as it was last seen, without having more than `most` in flight? The difference is
# signed, as the number may be older than what was passed; then the exchange fails.
cdef inline bint count_allows(uint64_t passed, const Tail* tail, uint64_t messages, int64_t most) noexcept nogil:
    return <int64_t> (tail.number + messages - passed) <= most


# Message number `number` was claimed by a member of `group`, and all before it. Producers that sleep for it are woken. Returns
# the number of wake calls; or CORRUPT if there are not so many messages: noted, it would lift the bound for good. [note]
cdef inline int count_note(const RingMap* ring, Group* group, uint64_t number, bint must_fence, Fault* fault) noexcept nogil:
    cdef uint64_t passed = load_relaxed_u64(&group.passed)
    # More than fit the ring were passed at once: after deaths, or never. Relaxed: who stamped the message had counted it, and
    # its stamp was acquired. The line is the producers', so it is left alone as long as the number is plausible.
    if (seldom(number - passed > ring.capacity // HEADER_BYTES) and <int64_t> (number - passed) > 0
            and <int64_t> (load_relaxed_u64(&ring.producers.number) - number) < 0):
        return layout_fault(fault, PRODUCERS_OFFSET + 8, number, load_relaxed_u64(&ring.producers.number))
    cdef int attempt
    for attempt in range(MOST_LOST):
        # Relaxed: only compared, and exchanged if it is still the same.
        passed = load_relaxed_u64(&group.passed)
        if <int64_t> (number - passed) <= 0 or cas_u64(&group.passed, passed, number):
            break
    fence_compiler()                    # N1 before N2: doorbell.pxd
    if seldom(bell_is_armed(ring.room_bell, ring.n_bell_words) or must_fence):
        return count_ring(ring)
    return 0


# N3-N5: every producer that is parked looks again.
cdef inline int count_ring(const RingMap* ring) noexcept nogil:
    cdef uint32_t word
    # sync: doorbell (fence, notifier). What was passed is visible before the parked bits are read; pairs with (fence, waiter) in
    # bell_park.
    fence_full()
    for word in range(ring.n_bell_words):
        # Relaxed: the fence orders it.
        if load_relaxed_u64(&ring.room_bell.parked[word]):
            bell_ring(&ring.room_bell.sequence, WAKE_ALL)
            return 1
    return 0


# Messages in flight: a snapshot; never more than there are allowed to be.
cdef inline uint64_t count_in_flight(const RingMap* ring) noexcept nogil:
    cdef Tail tail
    cdef int64_t count
    tail.position = reserve_lately(ring)
    reserve_look(ring, &tail)
    count = <int64_t> (tail.number - count_passed(ring, &tail))
    return count if count > 0 else 0
