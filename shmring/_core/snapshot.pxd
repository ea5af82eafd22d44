# What others see of a ring, for statistics and error texts: every number is a snapshot, and nothing is decided by it.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport load_relaxed_u64
from shmring._core.boundary cimport boundary_find
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport CORRUPT, GROUP_ACTIVE, NONE, OK, Fault, Group, RingMap, Slot, mark_position
from shmring._core.membership cimport group_head_word, group_state
from shmring._core.record cimport record_look, record_look_stamped, record_span
from shmring._core.reserve cimport reserve_lately


cdef struct GroupSnapshot:
    uint64_t head           # position
    uint64_t tail           # position; read after head, so never before it
    uint64_t repaired       # members found dead
    uint64_t redelivered    # records handed to another member
    uint64_t dropped        # records of dead members that were not

cdef struct Counters:
    uint64_t messages
    uint64_t bytes
    uint64_t waits
    uint64_t parks
    uint64_t wakes
    uint64_t repairs
    uint64_t redelivered
    uint64_t lost
    uint64_t stalls
    uint64_t stalled_ns


# The end of what is published (one producer) or reserved (many).
cdef inline uint64_t snapshot_tail(const RingMap* ring) noexcept nogil:
    return gate_tail(ring, reserve_lately(ring))


# Participants found dead, and messages that were reserved and never came. Relaxed: statistics, the count in the lower half.
cdef inline uint64_t snapshot_repairs(const RingMap* ring) noexcept nogil:
    return <uint32_t> load_relaxed_u64(&ring.producers.repairs)


cdef inline uint64_t snapshot_aborted(const RingMap* ring) noexcept nogil:
    # Relaxed: statistics.
    return load_relaxed_u64(&ring.producers.aborted)


# False: entry `number` is no settled group.
cdef inline bint snapshot_group(const RingMap* ring, uint32_t number, GroupSnapshot* facts) noexcept nogil:
    cdef const Group* group = &ring.groups[number]
    cdef uint64_t near = snapshot_tail(ring)
    if group_state(ring, number) != GROUP_ACTIVE:
        return False
    facts.head = mark_position(group_head_word(ring, number), near)
    facts.tail = gate_tail(ring, near)
    # Relaxed: these say nothing about other words.
    facts.repaired = <uint32_t> load_relaxed_u64(&group.repaired)
    facts.redelivered = load_relaxed_u64(&group.redelivered)
    facts.dropped = load_relaxed_u64(&group.dropped)
    return True


# The lowest position that a participant still needs, or NONE. Relaxed: a snapshot.
cdef inline uint64_t snapshot_hold(const Slot* slot) noexcept nogil:
    return load_relaxed_u64(&slot.hold)


# Relaxed: each counter has one writer and says nothing about other words.
cdef inline void snapshot_counters(const Slot* slot, Counters* facts) noexcept nogil:
    facts.messages = load_relaxed_u64(&slot.messages)
    facts.bytes = load_relaxed_u64(&slot.bytes)
    facts.waits = load_relaxed_u64(&slot.waits)
    facts.parks = load_relaxed_u64(&slot.parks)
    facts.wakes = load_relaxed_u64(&slot.wakes)
    facts.repairs = load_relaxed_u64(&slot.repairs)
    facts.redelivered = load_relaxed_u64(&slot.redelivered)
    facts.lost = load_relaxed_u64(&slot.lost)
    facts.stalls = load_relaxed_u64(&slot.stalls)
    facts.stalled_ns = load_relaxed_u64(&slot.stalled_ns)


# Does the participant sleep, or is about to, for data or for room? Relaxed: as the counters.
cdef inline bint snapshot_is_parked(const RingMap* ring, uint32_t number) noexcept nogil:
    cdef uint64_t asleep = load_relaxed_u64(&ring.data_bell.parked[number >> 6])
    asleep |= load_relaxed_u64(&ring.room_bell.parked[number >> 6])
    return (asleep >> (number & 63)) & 1


# One step of a walk over what lies before `tail`: the record at `position`, which moves past it; its payload into `length`. OK, SKIP,
# or negative: the chain ends early. Safe while somebody holds the records; else a snapshot, which a writer may break.
cdef inline int snapshot_step(const RingMap* ring, uint64_t* position, uint64_t tail, uint64_t* length) noexcept nogil:
    cdef Fault fault
    cdef int code
    if tail - position[0] > ring.capacity:
        return CORRUPT
    if ring.is_multi:
        code = record_look_stamped(ring, position[0], length, &fault)
    else:
        code = record_look(ring, position[0], tail - position[0], length, &fault)
    if code >= 0 and record_span(length[0], ring.align) > tail - position[0]:
        return CORRUPT
    if code >= 0:
        position[0] += record_span(length[0], ring.align)
    return code


# How many messages lie from `position` on, into `count`: one pass over at most `most` headers. What lies behind those is guessed
# from how dense the places for observers, or else the headers that were passed, stand. False: it was guessed.
cdef inline bint snapshot_lag(const RingMap* ring, uint64_t position, uint64_t most, uint64_t* count) noexcept nogil:
    cdef uint64_t begin = position, tail = gate_tail(ring, position)
    cdef uint64_t length = 0, old = 0, old_number = 0, new = 0, new_number = 0, looked = 0
    cdef double density
    cdef int code
    count[0] = 0
    while position != tail and looked != most:
        code = snapshot_step(ring, &position, tail, &length)
        if code < 0:
            return True
        count[0] += code == OK
        looked += 1
    if position == tail:
        return True
    density = <double> count[0] / <double> (position - begin)
    if (boundary_find(ring, position, tail, False, &old, &old_number) and boundary_find(ring, position, tail, True, &new, &new_number)
            and new != old and new_number - old_number <= (new - old) // 16):
        count[0] += new_number - old_number
        position += new - old
        density = (density + <double> (new_number - old_number) / <double> (new - old)) / 2
    count[0] += <uint64_t> (density * <double> (tail - position))
    return False
