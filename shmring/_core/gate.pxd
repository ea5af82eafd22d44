# How far back anybody still needs the ring's bytes.
#
#      gate = the lowest of:       head of each group,      hold of each member,      open reservation of many producers
#   ----|== held =======|== held ===|======= waiting ==========|tail ...... room ......|
#
# Invariant: a producer that concluded the gate G writes below G + capacity, and nobody needs anything before G from then on.
#
# The head of a group says what is claimed, the holds say what of that is not released. A member stores its hold before it moves
# the head, and a scan reads every head before it reads any hold: whoever moved the head that we read had its hold up by then.
# A hold that lies outside of the last capacity protects nothing: it belongs to an attempt to claim that cannot succeed.
#
# With many producers an open reservation gates as well: its owner may be about to write into it, or survivors to close it.
# Whoever acquired a tail beyond it sees its intent, or its stamps. An intent protects nothing, however long its owner is stopped, if
# another producer's record stands in its place, as it was not won; nor if what stands there was given up, as whoever won that
# room gave up all of it and does not write there any more (what its survivors make of that: repair_close).
#
# A scan may overlap the making of a group, or the adoption of a dead member's claims, which moves a hold from one slot to
# another. Both are counted in `moves` after the new place gates and before the old one stops (or, for a group, before it looks
# where the others are), and a scan that saw the count move is made again:
#   - If we saw some head later than a joiner did, its count came before: we see it and look again.
#   - If there was no other group, the joiner begins at the tail as it sees it. The first fence puts our store (or our load) of
#     the tail before our look at its entry: either we see the entry, or it sees a tail that is not before ours.
# Progress: lock-free; another round means that a group was made, or a claim adopted, meanwhile. Both take longer than a scan:
# a count that has moved in MOST_SCANS of them in a row is damage.
# Source: hazard pointers (M. Michael, 2004); the count is that of Linux's sequence locks.
# Steps in brackets are those of group_join.pml, shared_group.pml, many_producers.pml; for gate_opened of doorbell.pml, room.pml,
# shared_room.pml and reserved_room.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (fence_compiler, fence_full, load_acquire_u32, load_acquire_u64, load_relaxed_u16, load_relaxed_u32,
                                   load_relaxed_u64, seldom)
from shmring._core.doorbell cimport WAKE_ALL, bell_is_armed, bell_ring, lowest_bit
from shmring._core.layout cimport (ABORTED, COMMITTED, GROUP_ACTIVE, GROUP_FREE, HEADER_BYTES, NONE, Fault, Group, Header, OK,
                                   RingMap, Slot, layout_fault, mark_position)
from shmring._core.record cimport record_at


cdef enum:
    MOST_SCANS = 10000


# The end of what is published (one producer) or reserved (many), as a position near `near`. [tail]
cdef inline uint64_t gate_tail(const RingMap* ring, uint64_t near) noexcept nogil:
    # sync: record-ready (acquire). One producer: the records before it are visible; pairs with (release) in produce_publish.
    # sync: reserved (acquire). Many: whoever reserved had its intent up; pairs with (release) in reserve_exchange.
    cdef uint64_t tail = load_acquire_u64(&ring.producers.tail)
    return mark_position(tail, near) if ring.is_multi else tail


# Head and state of group `number` as seen from `position`: its distance before it into `used`, or CORRUPT. [scan]
cdef inline int gate_look_at_group(const RingMap* ring, uint32_t number, uint64_t position, uint64_t* used,
                                   Fault* fault) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    cdef uint64_t word, head
    # sync: group-ready (acquire). The head that the joiner wrote is visible; pairs with (release) in group_begin and
    # group_settle.
    # sync: group-gone (acquire). The reads of a removed group's members are done; pairs with (release) in group_end.
    cdef uint32_t state = load_acquire_u32(&group.state)
    used[0] = 0
    if state == GROUP_FREE:
        return OK
    # sync: claimed (acquire). The hold of whoever moved the head here is visible; pairs with (release) in claim_move_head. Without
    # it the scan could miss a hold and let new bytes be written under a read.
    word = load_acquire_u64(&group.head)
    head = mark_position(word, position)
    used[0] = position - head
    if used[0] <= ring.capacity and not (head + HEADER_BYTES) & (ring.align - 1):
        return OK
    if ring.is_multi and not (head + HEADER_BYTES) & (ring.align - 1) and gate_tail(ring, position) - head <= ring.capacity:
        used[0] = 0                     # others reserved and claimed beyond the position that we were given
        return OK
    # Twice the same values of a settled group: damage. Otherwise it is being made right now. Relaxed: a comparison.
    if state == GROUP_ACTIVE and load_relaxed_u64(&group.head) == word and load_relaxed_u32(&group.state) == state:
        return layout_fault(fault, <uint64_t> (<char*> &group.head - ring.control), head, position)
    used[0] = ring.capacity
    return OK


# How far before `position` the open reservation of many producers' participant `number` begins; 0 if it has none. [scan]
cdef inline uint64_t gate_look_at_intent(const RingMap* ring, uint32_t number, uint64_t position) noexcept nogil:
    cdef const Slot* slot = &ring.participants[number]
    cdef Header* header
    cdef uint64_t state
    # sync: intent (acquire). If it is NONE, the stamps of what was won are visible; pairs with (release) in reserve_withdraw.
    cdef uint64_t start = load_acquire_u64(&slot.intent_start)
    if start == NONE or position - start > ring.capacity or start & 15:
        return 0
    header = record_at(ring, start)
    # sync: record-stamped (acquire). The header is whole; pairs with (release) in record_stamp.
    state = load_acquire_u64(&header.stamp) ^ ring.cookie ^ start
    # Relaxed: ordered by the stamp.
    if state == ABORTED or (state == COMMITTED and load_relaxed_u16(&header.participant) != number + 1):
        return 0                        # given up; or another one won it
    return position - start


# The lowest position that anybody still needs, into `gate`: `published` if there is none before it. `position` is where the
# caller writes, or would: nothing is needed from there on.
cdef inline int gate_scan(const RingMap* ring, uint64_t position, uint64_t published, uint64_t* gate,
                          Fault* fault) noexcept nogil:
    cdef uint64_t hold, used = 0, most
    cdef uint32_t number, moves = 0, slots
    cdef int code, scan
    # sync: gate-move (fence, scanner). Our tail becomes visible, or was read, before we look for groups; pairs with (fence, mover)
    # in group_begin. Without it a group could begin at an older tail than the gate we conclude.
    fence_full()  # [scan fence]
    for scan in range(MOST_SCANS):
        most = position - published
        # sync: gate-count (acquire). What was counted is seen below; pairs with (release) in group_begin and adopt_move.
        moves = load_acquire_u32(&ring.producers.moves)  # [counted]
        for number in range(ring.n_groups):
            code = gate_look_at_group(ring, number, position, &used, fault)
            if code != OK:
                return code
            if used > most:
                most = used
        # sync: slots-used (acquire). Read after the heads, so that whoever moved one of them is among them; pairs with (release) in
        # participant_enter.
        slots = load_acquire_u32(&ring.producers.slots_used)
        if slots > ring.n_participants:
            slots = ring.n_participants
        for number in range(slots):
            # sync: released (acquire). The reader's loads from the bytes before it are done; pairs with (release) in
            # claim_store_hold, repair_judge, repair_free and adopt_orphan. Without it new bytes could be written under a read that is not finished.
            hold = load_acquire_u64(&ring.participants[number].hold)  # [scan]
            if hold != NONE and position - hold <= ring.capacity and position - hold > most:
                most = position - hold
            if ring.is_multi:
                used = gate_look_at_intent(ring, number, position)
                if used > most:
                    most = used
        # sync: gate-move (fence, scanner). Heads and holds were read before the count is read again; pairs with (fence, mover) in
        # group_begin and adopt_move. Without it, on a machine that is not multi-copy atomic, the count could be older than a head
        # that its joiner had not seen.
        fence_full()
        # Relaxed: the fence orders it.
        if load_relaxed_u32(&ring.producers.moves) == moves:  # [counted]
            gate[0] = position - most
            return OK
    return layout_fault(fault, <uint64_t> (<char*> &ring.producers.moves - ring.control), moves, moves)


# Somebody let go of everything from `old_hold` on; `near` is a position of lately. Wakes the parked producers if that is what
# one of them waited for: its target lies behind old_hold, and the gate has passed it now. When several must let go, the last to
# do so sees it pass. Returns the number of wake calls. [N4]
cdef inline int gate_opened(const RingMap* ring, uint64_t old_hold, uint64_t near, bint must_fence) noexcept nogil:
    fence_compiler()                    # N1 before N2: doorbell.pxd [N2]
    if seldom(bell_is_armed(ring.room_bell, ring.n_bell_words) or must_fence):
        return gate_ring_room(ring, old_hold, near)
    return 0


# The same, N3-N5. [N4]
cdef inline int gate_ring_room(const RingMap* ring, uint64_t old_hold, uint64_t near) noexcept nogil:
    cdef uint64_t bits, target, tail, gate = 0
    cdef uint32_t word, number
    cdef bint is_known = False
    cdef Fault fault
    # sync: doorbell (fence, notifier). Our release becomes visible before the parked bits are read; pairs with (fence, waiter) in
    # bell_park.
    fence_full()  # [N3]
    for word in range(ring.n_bell_words):
        # Relaxed: the fence orders it.
        bits = load_relaxed_u64(&ring.room_bell.parked[word])
        while bits:
            number = word * 64 + lowest_bit(bits)
            bits &= bits - 1
            if number >= ring.n_participants:
                break                           # nobody's bit: damage, and harmless
            # Relaxed: the producer stored its target before its bit.
            target = load_relaxed_u64(&ring.participants[number].awaited)
            if <int64_t> (target - old_hold) <= 0:                  # not behind what we held
                continue                                            # (or far behind: others may have gone on for laps since)
            if not is_known:
                is_known = True
                tail = gate_tail(ring, near)
                if gate_scan(ring, tail, tail, &gate, &fault) != OK:
                    gate = tail                 # damage: whoever wakes finds it
            if <int64_t> (gate - target) >= 0:
                bell_ring(&ring.room_bell.sequence, WAKE_ALL)
                return 1
    return 0
