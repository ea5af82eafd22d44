# What survivors do for the dead: close the gap that a producer left, settle what a member claimed, free the slot.
#
# Every function is called with the registry lock held, and for participants that are dead or have left: nothing that is read of
# their slots changes any more. Whoever repairs may die between any two stores; every step may be made again.
#
# The gap. A dead producer's intent says what it was about to reserve; whether it won it is known from who came after it: the
# tail, an intent that begins at its end, or the header there names the mark of the reservation before (reserve.pxd). What it won
# and did not stamp becomes one record that readers skip.
#
# The claims. What a dead member kept was won; of the range that it was winning, the head or `granted` tells (claim.pxd). The
# slot becomes an orphan, whose hold still gates, until a member of the group moves the claims to its own slot, or a newcomer
# takes the slot over as it is.
#
# Steps in brackets are those of many_producers.pml, shared_group.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (add_u32, add_u64, fence_acquire, fence_compiler, fence_full, load_acquire_u64, load_relaxed_u16, load_relaxed_u64,
                                   store_relaxed_u64, store_release_u32, store_release_u64, u64)
from shmring._core.claim cimport claim_store_hold
from shmring._core.gate cimport gate_tail
from shmring._core.keep cimport claim_hold_lowest
from shmring._core.layout cimport (ABORTED, CLAIMS, GROUP_ACTIVE, GROUP_DROP, HEADER_BYTES, NONE, ROLE_PRODUCER,
                                   SLOT_FREE, SLOT_ORPHAN, TENTATIVE, Fault, Header, OK, RingMap, Slot, mark_owner,
                                   mark_pack, mark_position)
from shmring._core.membership cimport (group_flags, group_set_orphans, group_state, participant_clear_bits, participant_group,
                                       participant_miss, participant_role, participant_set_sole, participant_sole)
from shmring._core.reader cimport Reader
from shmring._core.record cimport SKIP, record_at, record_look, record_look_stamped, record_span, record_stamp
from shmring._core.reserve cimport intent_read

cdef enum:
    FREED = 0                       # the slot is free
    ORPHANED = 1                    # its claims wait for a member of its group

# ---- producers ---------------------------------------------------------------------------------------------------


# Who made the reservation that ends at `position`: its mark. False: none ends there (or all of it is long past). [evidence]
cdef inline bint repair_previous_of(const RingMap* ring, uint64_t position, uint32_t* mark) noexcept nogil:
    cdef uint64_t start = 0, span = 0, word
    cdef uint32_t number, messages = 0
    cdef Header* header = record_at(ring, position)
    # sync: reserved (acquire). If the tail has passed it, the intent of whoever passed it is visible below, or its header is;
    # pairs with (release) in reserve_exchange.
    word = load_acquire_u64(&ring.producers.tail)
    if mark_position(word, position) == position:
        mark[0] = mark_owner(word)
        return True
    for number in range(ring.n_participants):
        if intent_read(&ring.participants[number], &start, &span, &messages, mark) and start == position:
            return True
    # After the intents: whoever reserved there stamps before its intent goes.
    # sync: record-stamped (acquire). The header is whole; pairs with (release) in record_stamp.
    word = load_acquire_u64(&header.stamp)
    # Relaxed: ordered by the stamp, and by the fence.
    mark[0] = load_relaxed_u16(&header.previous)
    # sync: lapping (fence, observer). The header was read before the stamp is looked at again; pairs with (fence, producer) in
    # produce_extend and reserve_exchange. Without it a later lap's bytes could pass for the mark.
    fence_acquire()
    # Relaxed: a comparison.
    return ((word ^ ring.cookie) & ~<uint64_t> 15 == position and (word ^ ring.cookie) & 15 != 0
            and load_relaxed_u64(&header.stamp) == word)


# Close the gap of dead producer `number`. `ring.data` is writable. Returns whether there was one; `missing` counts the messages
# that will not come. [close]
cdef inline bint repair_close(const RingMap* ring, uint32_t number, uint64_t* missing) noexcept nogil:
    cdef uint64_t start = 0, span = 0, length = 0, position, end, step
    cdef uint32_t messages = 0, previous = 0, mark = 0
    cdef Fault fault
    if not intent_read(&ring.participants[number], &start, &span, &messages, &previous):
        return False
    end = start + span
    if span < HEADER_BYTES or span > ring.capacity or (start | span) & 15:
        return False                    # damage
    if record_look_stamped(ring, start, &length, &fault) == SKIP:
        return False                    # given up already, all of it, by its owner or by who repaired before us
    # sync: lapping (fence, observer). The header was read before we look how far the producers are; pairs with (fence, producer) in
    # reserve_exchange. Without it a later lap's bytes could pass for a gap.
    fence_acquire()
    if gate_tail(ring, start) - start > ring.capacity:
        return False                    # given up, and written over since. (What is open gates, and goes on to.)
    if not repair_previous_of(ring, end, &mark) or mark != number + 1:
        return False                    # never won
    position = start
    missing[0] = messages
    while position != end:
        if record_look_stamped(ring, position, &length, &fault) < 0:
            break
        step = record_span(length, ring.align)
        if step > end - position:
            return False                # damage: readers will find it
        position += step
        missing[0] -= missing[0] != 0
    if position == end:
        return False
    # As in produce_finish: only what begins the reservation tells who made the one before.
    record_stamp(ring, position, <uint32_t> (end - position - HEADER_BYTES), <uint32_t> missing[0],
                 previous if position == start else number + 1, ABORTED)
    add_u64(&ring.producers.aborted, missing[0])
    return True


# Does the reservation that `position` lies in have an owner in the table? False for what nobody can ever complete: damage.
cdef inline bint repair_gap_has_owner(const RingMap* ring, uint64_t position) noexcept nogil:
    cdef uint64_t start = 0, span = 0
    cdef uint32_t number, messages = 0, previous = 0
    for number in range(ring.n_participants):
        if not intent_read(&ring.participants[number], &start, &span, &messages, &previous):
            continue
        if position - start < span:
            return True
    return False


# ---- members -----------------------------------------------------------------------------------------------------


# Settle what participant `number` claimed. Returns whether it holds anything. [judge]
cdef inline bint repair_judge(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    cdef uint32_t group = participant_group(slot)
    cdef uint64_t word, granted, start, end, tail, lowest = NONE
    cdef int index
    # Relaxed: here and below, its owner is gone, and we hold the lock.
    if group >= ring.n_groups or load_relaxed_u64(&slot.hold) == NONE:
        return False
    # sync: claimed (acquire). If somebody claimed after it, the grant is visible; pairs with (release) in claim_move_head and sole_move_head.
    word = load_acquire_u64(&ring.groups[group].head)
    # sync: granted (acquire). As old as the head at least; pairs with (release) in claim_grant.
    granted = load_acquire_u64(&slot.granted)
    end = load_relaxed_u64(&slot.claims[0].end)
    if end & TENTATIVE:
        end -= TENTATIVE
        if granted == mark_pack(end, group + 1) or word == mark_pack(end, number + 1):
            store_relaxed_u64(&slot.claims[0].end, end)
        else:
            store_relaxed_u64(&slot.claims[0].start, NONE)
    tail = gate_tail(ring, mark_position(word, end))
    for index in range(CLAIMS):
        start = load_relaxed_u64(&slot.claims[index].start)
        end = load_relaxed_u64(&slot.claims[index].end)
        if start == NONE:
            continue
        if (not adopt_is_sound(ring, start, end) or tail - start > ring.capacity
                or (index == 0 and repair_is_kept(slot, end))):
            store_relaxed_u64(&slot.claims[index].start, NONE)      # damage, or claims[0] was on its way to another entry
            continue
        if lowest == NONE or <int64_t> (start - lowest) < 0:
            lowest = start
    # sync: released (release). Nobody reads what lies before it; pairs with (acquire) in gate_scan.
    store_release_u64(&slot.hold, lowest)
    return lowest != NONE


# Does one of the entries for ranges that are kept end at `end`? Then it has all of claims[0]. [judge]
cdef inline bint repair_is_kept(const Slot* slot, uint64_t end) noexcept nogil:
    cdef int index
    for index in range(1, CLAIMS):
        # Relaxed: its owner is gone.
        if load_relaxed_u64(&slot.claims[index].start) != NONE and load_relaxed_u64(&slot.claims[index].end) == end:
            return True
    return False


# Records in what the slot holds; one pass over their headers.
cdef inline uint64_t repair_count(const RingMap* ring, const Slot* slot) noexcept nogil:
    cdef uint64_t start, end, length = 0, count = 0
    cdef Fault fault
    cdef int index
    cdef int code
    for index in range(CLAIMS):
        # Relaxed: its owner is gone.
        start = load_relaxed_u64(&slot.claims[index].start)
        end = load_relaxed_u64(&slot.claims[index].end)
        while start != NONE and start != end:
            code = record_look(ring, start, end - start, &length, &fault)
            if code < 0:
                break
            count += code == OK
            start += record_span(length, ring.align)
    return count


# A death is counted once, whoever dies over it: before the burial one store counts it and says whose it is, in the upper half of the
# word (the count is the lower half). Who comes after a repairer that died in between begins with that one, and finds it counted.
# (A repairer that takes that one for alive, in another pid namespace, may put another mark over it; then it is counted again.)
# In the order of the program is enough: a killed process leaves all its stores up to some point.
cdef inline uint64_t repair_whose(const RingMap* ring, uint32_t number) noexcept nogil:
    return ring.participants[number].generation << 48 | <uint64_t> (number + 1) << 32


# Whom a repairer that died may have counted and not buried; anybody if there is none. Relaxed: we hold the lock.
cdef inline uint32_t repair_begun(const RingMap* ring) noexcept nogil:
    return ((load_relaxed_u64(&ring.producers.repairs) >> 32 & 0xffff) + ring.n_participants - 1) % ring.n_participants


# Relaxed: we hold the lock.
cdef inline void repair_count_once(u64* counter, uint64_t whose) noexcept nogil:
    cdef uint64_t word = load_relaxed_u64(counter)
    if word >> 32 != whose >> 32:
        store_relaxed_u64(counter, <uint32_t> (word + 1) | whose)


# Participant `number` was found dead.
cdef inline void repair_begin(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    cdef uint32_t group = participant_group(slot)
    repair_count_once(&ring.producers.repairs, repair_whose(ring, number))
    fence_compiler()
    if participant_role(slot) != ROLE_PRODUCER and group < ring.n_groups and group_state(ring, group) == GROUP_ACTIVE:
        repair_count_once(&ring.groups[group].repaired, repair_whose(ring, number))
    fence_compiler()


# It is buried. `finder` may be NULL. Relaxed: we hold the lock; the other one is the finder's own.
cdef inline void repair_note(RingMap* ring, uint32_t number, Slot* finder) noexcept nogil:
    cdef uint32_t group
    fence_compiler()
    for group in range(ring.n_groups):
        store_relaxed_u64(&ring.groups[group].repaired, <uint32_t> load_relaxed_u64(&ring.groups[group].repaired))
    store_relaxed_u64(&ring.producers.repairs, <uint32_t> load_relaxed_u64(&ring.producers.repairs))
    if finder != NULL:
        store_relaxed_u64(&finder.repairs, load_relaxed_u64(&finder.repairs) + 1)


# Undo everything that participant `number` has left: bits, roles, gap, claims, then the slot. `died`: it did not leave by itself.
# FREED or ORPHANED. `ring.data` is mapped (writable, for a producer of many).
cdef inline int repair_bury(RingMap* ring, uint32_t number, bint died, uint64_t* missing) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    cdef uint32_t group = participant_group(slot)
    missing[0] = 0
    if died:
        repair_begin(ring, number)
    participant_clear_bits(ring, number)
    if participant_role(slot) == ROLE_PRODUCER:
        if ring.is_multi and not repair_close(ring, number, missing):
            missing[0] = 0
        if participant_sole(ring) == number + 1:
            participant_set_sole(ring, 0)
        if died:
            participant_miss(ring, slot.pid)
    elif group < ring.n_groups and group_state(ring, group) == GROUP_ACTIVE:
        if repair_judge(ring, number):
            if not group_flags(ring, group) & GROUP_DROP:
                # It may have died while it adopted: then the range stands in another slot, too, and a scan must not miss both.
                # sync: gate-count (release). The hold gates, and is counted, before it is an orphan's; pairs with (acquire) in gate_scan.
                add_u32(&ring.producers.moves, 1)  # [count]
                # sync: slot-orphan (release). Its claims are settled; pairs with (acquire) in participant_is_orphan.
                store_release_u32(&slot.state, SLOT_ORPHAN)  # [bury]
                group_set_orphans(ring, group, True)
                return ORPHANED
            add_u64(&ring.groups[group].dropped, repair_count(ring, slot))
    repair_free(ring, number)
    return FREED


# The slot belongs to nobody, and gates nothing. [free]
cdef inline void repair_free(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    # sync: intent (release). The record that closed its gap is visible; pairs with (acquire) in intent_read and
    # gate_look_at_intent.
    store_release_u64(&slot.intent_start, NONE)
    # sync: released (release). Nobody reads what it held; pairs with (acquire) in gate_scan.
    store_release_u64(&slot.hold, NONE)
    # sync: slot-free (release). Bits and roles are gone before the slot is; pairs with (acquire) in participant_is_active. Without
    # it the next owner of the slot could lose a bit that it has just set.
    store_release_u32(&slot.state, SLOT_FREE)


# ---- adoption ----------------------------------------------------------------------------------------------------


# Move the claims of orphan `number` to the reader's own slot, as far as there are entries; then free it. Returns whether all of
# them went. Killed on the way: a range may stand in both slots, and is delivered by both. [adopt]
cdef inline bint adopt_orphan(Reader* reader, uint32_t number) noexcept nogil:
    cdef RingMap* ring = &reader.ring
    cdef Slot* orphan = &ring.participants[number]
    cdef uint64_t start, lowest = NONE
    cdef int index
    for index in range(CLAIMS):
        # Relaxed: all of these, as we hold the lock.
        start = load_relaxed_u64(&orphan.claims[index].start)
        if start == NONE:
            continue
        # One entry stays for what it claims itself.
        if adopt_enter(reader, start, load_relaxed_u64(&orphan.claims[index].end), CLAIMS - 2):
            adopt_move(ring, &orphan.claims[index].start)
        elif lowest == NONE or <int64_t> (start - lowest) < 0:
            lowest = start
    if lowest == NONE:
        repair_free(ring, number)
        return True
    # sync: released (release). Nobody reads what lies before it; pairs with (acquire) in gate_scan.
    store_release_u64(&orphan.hold, lowest)
    return False


# The range is in its new slot, whose hold is up: count the move, so that no scan sees the one as it was and the other as it is.
cdef inline void adopt_move(RingMap* ring, u64* old_start) noexcept nogil:
    # sync: gate-count (release). The new hold gates before it is counted; pairs with (acquire) in gate_scan.
    add_u32(&ring.producers.moves, 1)  # [count]
    # sync: gate-move (fence, mover). It is counted before the old hold goes; pairs with (fence, scanner) in gate_scan. Without it a
    # scan could find neither.
    fence_full()  # [count]
    # Relaxed: we hold the lock; the hold goes later.
    store_relaxed_u64(old_start, NONE)  # [clear]


# Can it be a range of records?
cdef inline bint adopt_is_sound(const RingMap* ring, uint64_t start, uint64_t end) noexcept nogil:
    return end - start - 1 < ring.capacity and not (start | end) & 15


# A range for the reader to hand out. False: it has `most` entries in use. [enter]
cdef inline bint adopt_enter(Reader* reader, uint64_t start, uint64_t end, int most) noexcept nogil:
    cdef int index
    if <int> reader.n_kept >= most:
        return False
    if not adopt_is_sound(&reader.ring, start, end):
        return True                     # damage: it protects nothing
    for index in range(1, CLAIMS):
        if reader.kept_end[index] != NONE:
            continue
        # Relaxed: only repair reads them.
        store_relaxed_u64(&reader.slot.claims[index].end, end)
        store_relaxed_u64(&reader.slot.claims[index].start, start)
        reader.kept_end[index] = end
        reader.pending[index] = start
        reader.n_kept += 1
        reader.n_pending += 1
        if reader.start == NONE:
            # What we released last stands there still, and only the hold being NONE said so.
            store_relaxed_u64(&reader.slot.claims[0].start, NONE)
            fence_compiler()
        if reader.hold == NONE or <int64_t> (start - reader.hold) < 0:
            claim_store_hold(reader, start)
        return True
    return False


# Make what the slot's last owner claimed pending: the reader took the orphan's slot over as it was. [own]
cdef inline void adopt_own(Reader* reader) noexcept nogil:
    cdef Slot* slot = reader.slot
    cdef uint64_t start, end
    cdef int index
    # Relaxed: all of these, as only we and repair use them.
    reader.hold = load_relaxed_u64(&slot.hold)
    for index in range(1, CLAIMS):
        start = load_relaxed_u64(&slot.claims[index].start)
        end = load_relaxed_u64(&slot.claims[index].end)         # read once: what is sound is what is used
        if start != NONE and adopt_is_sound(&reader.ring, start, end):
            reader.kept_end[index] = end
            reader.pending[index] = start
            reader.n_kept += 1
            reader.n_pending += 1
    start = load_relaxed_u64(&slot.claims[0].start)
    if start != NONE and adopt_enter(reader, start, load_relaxed_u64(&slot.claims[0].end), CLAIMS - 1):
        store_relaxed_u64(&slot.claims[0].start, NONE)
    claim_hold_lowest(reader)           # the hold may be that of a range that went to another slot
