# Does each word of a ring hold a value that it can have? For who looks for damage, not for anybody's way through the ring.
#
# Everything is read once, relaxed, and while others change it: a word that looks impossible beside another one may only be newer.
# Who asks looks several times, and believes what stays. Nothing is written, and nothing is decided by it.
# Progress: wait-free; records are looked at in slices, so that the caller can look at signals in between.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport load_relaxed_u32, load_relaxed_u64
from shmring._core.boundary cimport boundary_read
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport (BOUNDARIES, CORRUPT, GROUP_ACTIVE, GROUP_FREE, HEADER_BYTES, NONE, OK, ROLE_CONSUMER, ROLE_OBSERVER,
                                   ROLE_PRODUCER, SLOT_FREE, SLOT_ORPHAN, Bell, Fault, Group, RingMap, Slot, layout_fault)
from shmring._core.membership cimport group_check, group_state, participant_group, participant_role, participant_sole
from shmring._core.record cimport record_look, record_look_stamped, record_span
from shmring._core.reserve cimport intent_read

cdef enum:
    MOST_FLAGS = 7                  # of a group, and of its attention: all that are defined


cdef inline int examine_fault(const RingMap* ring, const void* word, uint64_t value, uint64_t limit, Fault* fault) noexcept nogil:
    return layout_fault(fault, <uint64_t> (<char*> word - ring.control), value, limit)


# Can a record begin there?
cdef inline bint examine_is_begin(const RingMap* ring, uint64_t position) noexcept nogil:
    return not (position + HEADER_BYTES) & (ring.align - 1)


# What producers share. Relaxed: see above; so in all that follows.
cdef inline int examine_producers(const RingMap* ring, uint64_t tail, Fault* fault) noexcept nogil:
    cdef uint64_t ahead = load_relaxed_u64(&ring.producers.reserve)
    cdef uint32_t word = load_relaxed_u32(&ring.producers.shutdown)
    if word > 1:
        return examine_fault(ring, &ring.producers.shutdown, word, 1, fault)
    if participant_sole(ring) > ring.n_participants:
        return examine_fault(ring, &ring.producers.sole, participant_sole(ring), ring.n_participants, fault)
    word = load_relaxed_u32(&ring.producers.slots_used)
    if word > ring.n_participants:
        return examine_fault(ring, &ring.producers.slots_used, word, ring.n_participants, fault)
    if not examine_is_begin(ring, tail):
        return examine_fault(ring, &ring.producers.tail, tail, ring.align, fault)
    if not ring.is_multi and <int64_t> (ahead - tail) > <int64_t> (2 * ring.capacity):
        return examine_fault(ring, &ring.producers.reserve, ahead, tail + ring.capacity, fault)
    return OK


# Bits of participants that there are not. Relaxed: see above.
cdef inline int examine_bell(const RingMap* ring, const Bell* bell, Fault* fault) noexcept nogil:
    cdef uint32_t word
    cdef uint64_t beyond
    for word in range(ring.n_bell_words):
        beyond = 0
        if ring.n_participants < 64 * (word + 1):
            beyond = ~<uint64_t> 0 << (ring.n_participants & 63)
        if load_relaxed_u64(&bell.parked[word]) & beyond:
            return examine_fault(ring, &bell.parked[word], load_relaxed_u64(&bell.parked[word]), ~beyond, fault)
        if load_relaxed_u64(&bell.armed[word]) & beyond:
            return examine_fault(ring, &bell.armed[word], load_relaxed_u64(&bell.armed[word]), ~beyond, fault)
    return OK


# Relaxed: see above.
cdef inline int examine_group(RingMap* ring, uint32_t number, uint64_t tail, Fault* fault) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    cdef uint32_t state = group_state(ring, number)
    if state > GROUP_ACTIVE:
        return examine_fault(ring, &group.state, state, GROUP_ACTIVE, fault)
    if state == GROUP_FREE:
        return OK
    if group.flags > MOST_FLAGS:
        return examine_fault(ring, &group.flags, group.flags, MOST_FLAGS, fault)
    if load_relaxed_u32(&group.attention) > MOST_FLAGS:
        return examine_fault(ring, &group.attention, load_relaxed_u32(&group.attention), MOST_FLAGS, fault)
    if state == GROUP_ACTIVE:
        return group_check(ring, number, tail, fault)
    return OK


# Relaxed: see above.
cdef inline int examine_slot(const RingMap* ring, uint32_t number, uint64_t tail, Fault* fault) noexcept nogil:
    cdef const Slot* slot = &ring.participants[number]
    cdef uint32_t state = load_relaxed_u32(&slot.state)
    cdef uint32_t role = participant_role(slot)
    cdef uint64_t position, now
    if state > SLOT_ORPHAN:
        return examine_fault(ring, &slot.state, state, SLOT_ORPHAN, fault)
    if state == SLOT_FREE:
        return OK
    if role != ROLE_PRODUCER and role != ROLE_CONSUMER and role != ROLE_OBSERVER:
        return examine_fault(ring, &slot.role, role, ROLE_OBSERVER, fault)
    if role == ROLE_CONSUMER and participant_group(slot) >= ring.n_groups:
        return examine_fault(ring, &slot.group, participant_group(slot), ring.n_groups - 1, fault)
    position = load_relaxed_u64(&slot.hold)
    now = gate_tail(ring, tail)         # read later: not before what is held
    if position != NONE and (now - position > ring.capacity or not examine_is_begin(ring, position)) and load_relaxed_u64(&slot.hold) == position:
        return examine_fault(ring, &slot.hold, position, now, fault)
    # One that never won may be as old as can be.
    position = load_relaxed_u64(&slot.intent_start)
    if ring.is_multi and role == ROLE_PRODUCER and position != NONE and not examine_is_begin(ring, position):
        return examine_fault(ring, &slot.intent_start, position, ring.align, fault)
    return OK


# The places for observers: none where no record can begin, and none of many producers beyond the tail. Relaxed: see above.
cdef inline int examine_boundary(const RingMap* ring, uint32_t index, uint64_t tail, Fault* fault) noexcept nogil:
    cdef uint64_t position = load_relaxed_u64(&ring.producers.boundaries[index].position)
    cdef uint64_t number = 0
    if position == NONE:
        return OK
    if not examine_is_begin(ring, position):
        return examine_fault(ring, &ring.producers.boundaries[index].position, position, ring.align, fault)
    # boundary_read: the tail, read after it, is not before it.
    if ring.is_multi and boundary_read(ring, index, &position, &number) and <int64_t> (gate_tail(ring, tail) - position) < 0:
        return examine_fault(ring, &ring.producers.boundaries[index].position, position, tail, fault)
    return OK


# Records from `position` on, at most `most` of them: OK with the position behind them, at the tail or on the way; EMPTY where
# many producers have one that is not stamped; or CORRUPT.
cdef inline int examine_records(const RingMap* ring, uint64_t* position, uint64_t tail, uint64_t most, Fault* fault) noexcept nogil:
    cdef uint64_t length = 0
    cdef int code
    while position[0] != tail and most:
        most -= 1
        if ring.is_multi:
            code = record_look_stamped(ring, position[0], &length, fault)
        else:
            code = record_look(ring, position[0], tail - position[0], &length, fault)
        if code < 0:
            return code
        if record_span(length, ring.align) > tail - position[0]:
            return layout_fault(fault, ring.data_offset + (position[0] & ring.mask) + 8, length, tail - position[0] - HEADER_BYTES)
        position[0] += record_span(length, ring.align)
    return OK


# Whose reservation `position` lies in, and where that ends: the number of its slot, or -1.
cdef inline int examine_owner(const RingMap* ring, uint64_t position, uint64_t* end) noexcept nogil:
    cdef uint64_t start = 0, span = 0
    cdef uint32_t number, messages = 0, previous = 0
    for number in range(ring.n_participants):
        if intent_read(&ring.participants[number], &start, &span, &messages, &previous) and span and position - start < span:
            end[0] = start + span
            return number
    return -1
