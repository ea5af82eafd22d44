# A member of a group: win records, read them, let them go. What it knows and sees of them: reader.pxd.
#
#   the group's head:   (position, mark of who claimed last)
#   my slot:            claims[0] = the range I am winning;  hold = lowest position I need;  claims[1..] = ranges I keep
#
#            hold of A        hold of B         head                 tail
#   ---------|=== A reads ===|==== B reads ====|=== nobody's yet ===|----
#
#   1. claims[0] = [start, end), tentative     what it would be, for who has to judge it after my death      [note]
#   2. hold = start (if I hold nothing)        protects it from the moment that the head passes it           [hold]
#   3. tell the claimer before me that its     so that its claim can be judged when the head no longer       [grant]
#      claim was won                           names it
#   4. head: (start, them) -> (end, me)        this decides                                                  [claim]
#   5. read; hold = NONE                       this lets go                                                  [release]
#
# Step 4 is an exchange once a group has, or had, a second member (SHARED); how a member claims before that: sole.pxd.
#
# Judging a dead member's claims[0] (repair.pxd): it was won if and only if the head is (end, it), or `granted` says end: whoever
# claims next says so first. Ranges in claims[1..] were won.
# Invariant: hold is not above any range that I have; a scan of the gate that saw the head move sees the hold (gate.pxd).
# Progress: lock-free: a failed exchange means that another member claimed; MOST_LOST of them in a row are damage. One member:
# wait-free. The bounds are private counts in branches that have lost already: they move no access to a shared word.
# Source: hazard pointers.
# Steps in brackets are those of shared_group.pml, grant.pml, group_share.pml, shared_bell.pml, shared_room.pml, doorbell.pml,
# shutdown.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.atomic cimport (cas_u64, fence_acquire, fence_full, load_acquire_u64, load_relaxed_u32, load_relaxed_u64,
                                   seldom, store_relaxed_u64, store_release_u64)
from shmring._core.doorbell cimport bell_is_armed, bell_ring, doorbell_is_parked
from shmring._core.gate cimport gate_opened, gate_tail
from shmring._core.layout cimport (ATTENTION, CLAIMS, EMPTY, MOST_LOST, NONE, NO_CLAIM_LEFT, ORPHANS, SHARED, TENTATIVE, TOO_LARGE, OK,
                                   RingMap, Slot, layout_fault, mark_owner, mark_pack, mark_position)
from shmring._core.reader cimport (MOST_SPOTS, Found, Reader, found_add, found_clear, reader_find, reader_is_unfinished,
                                   reader_sees_record)
from shmring._core.record cimport SKIP, record_look, record_span


# ---- winning -----------------------------------------------------------------------------------------------------


# Steps 1 and 2. A stale hold of ours is no harm: it is lower. [note]
cdef inline void claim_intend(Reader* reader, uint64_t start, uint64_t end) noexcept nogil:
    # Relaxed: the move of the head publishes them.
    store_relaxed_u64(&reader.slot.claims[0].end, end | TENTATIVE)
    store_relaxed_u64(&reader.slot.claims[0].start, start)
    reader.start = start
    reader.end = end
    if reader.n_kept == 0:
        if reader.hold != NONE:
            claim_lower(reader, reader.hold)        # of an attempt that failed: others may have scanned it
        claim_store_hold(reader, start)


# The gate may rise from `position` on when our hold or the head moves: whoever waits for room is to be told then.
cdef inline void claim_lower(Reader* reader, uint64_t position) noexcept nogil:
    if reader.low == NONE or <int64_t> (position - reader.low) < 0:
        reader.low = position


# [hold] [release]
cdef inline void claim_store_hold(Reader* reader, uint64_t position) noexcept nogil:
    reader.hold = position
    # sync: released (release). Our loads from what we let go are done; pairs with (acquire) in gate_scan.
    store_release_u64(&reader.slot.hold, position)


# Take back steps 1 and 2. [forget]
cdef inline void claim_forget(Reader* reader) noexcept nogil:
    if reader.start != NONE:
        # Relaxed: nothing was won.
        store_relaxed_u64(&reader.slot.claims[0].start, NONE)
        if reader.n_kept == 0:
            claim_store_hold(reader, NONE)
            claim_tell(reader, reader.start)
        reader.start = reader.end = NONE


# We need nothing from `position` on any more that we needed before: tell who waits for room. Returns the number of wake calls.
cdef inline int claim_tell(Reader* reader, uint64_t position) noexcept nogil:
    if reader.low != NONE:
        claim_lower(reader, position)
        position = reader.low
        reader.low = NONE
    return gate_opened(&reader.ring, position, reader.cursor, reader.must_fence)


# Step 3: the claimer before us in `group`, `mark`, won everything it intended up to `position`. [grant]
cdef inline void claim_grant(const RingMap* ring, uint32_t group, uint32_t mark, uint64_t position) noexcept nogil:
    cdef uint64_t word = mark_pack(position, group + 1)
    cdef uint64_t granted
    cdef uint32_t left = ring.n_participants
    cdef Slot* slot
    if mark == 0 or mark > ring.n_participants:
        return                          # nobody claimed here yet; or damage, and harmless
    slot = &ring.participants[mark - 1]
    # Relaxed: only to see whether it is there already.
    granted = load_relaxed_u64(&slot.granted)
    # With another tag the slot belongs to somebody of another group by now: what its last owner claimed was settled, and what
    # its new one was granted must stay.
    while left and mark_owner(granted) == group + 1 and <int64_t> (position - mark_position(granted, position)) > 0:
        # sync: granted (release). Visible before our own move of the head, to who sees that one; pairs with (acquire) in
        # repair_judge. A failed exchange: another member granted, as each may once; more than there are members is damage.
        left -= 1
        if cas_u64(&slot.granted, granted, word):
            return
        granted = load_relaxed_u64(&slot.granted)


# Steps 3 and 4: False if somebody else moved the head meanwhile. [claim]
cdef inline bint claim_move_head(Reader* reader, uint64_t end) noexcept nogil:
    cdef uint64_t word = mark_pack(end, reader.mark)
    if mark_owner(reader.word) != reader.mark:
        claim_grant(&reader.ring, reader.group_number, mark_owner(reader.word), reader.cursor)
    # sync: claimed (release). Hold, range and grant are visible to who sees the new head; pairs with (acquire) in
    # gate_look_at_group, claim_refresh, reader_start and repair_judge. Without it a scan of the gate could miss the hold.
    if not cas_u64(&reader.group.head, reader.word, word):
        return False
    reader.word = word
    reader.cursor = end
    return True


# Learn where the head is. False: it is where it was. [refresh]
cdef inline bint claim_refresh(Reader* reader) noexcept nogil:
    # sync: claimed (acquire). What stands before the head is settled; pairs with (release) in claim_move_head and sole_move_head.
    cdef uint64_t word = load_acquire_u64(&reader.group.head)
    if word == reader.word:
        return False
    reader.cursor = mark_position(word, reader.cursor)
    reader.word = word
    return True


# Up to `limit` records of together at most `most_bytes` (but at least one record), none longer than `longest`: the range that was
# won is reader.start to reader.end; claim_walk goes through it. TOO_LARGE: the next record is longer; it stays the next.
# ATTENTION: put back what was not finished, or adopt what a dead member left, first.
cdef inline int claim_range(Reader* reader, uint64_t limit, uint64_t most_bytes, uint64_t longest) noexcept nogil:
    return claim_and_note(reader, limit, most_bytes, longest, NULL)


# The same, and what they are goes into `found`, unless it is NULL: MOST_SPOTS of them at most.
cdef inline int claim_and_note(Reader* reader, uint64_t limit, uint64_t most_bytes, uint64_t longest,
                               Found* found) noexcept nogil:
    cdef RingMap* ring = &reader.ring
    cdef uint64_t start, end, position, next, length = 0, n
    cdef int code, attempt
    # Relaxed: whoever adopts takes the lock.
    if load_relaxed_u32(&reader.group.attention) & ORPHANS:  # [orphans]
        if reader.deferred == 0:
            return ATTENTION
        reader.deferred -= 1
    if reader.n_kept == <uint32_t> CLAIMS - 1:
        return NO_CLAIM_LEFT
    if reader_is_unfinished(reader):
        return ATTENTION
    if found != NULL and limit > MOST_SPOTS:
        limit = MOST_SPOTS
    for attempt in range(MOST_LOST):
        if found != NULL:
            found_clear(found)
        claim_refresh(reader)
        start = reader.cursor
        code = reader_find(reader, &start, &length)
        if code == OK and length > longest:
            code = TOO_LARGE
        if code != OK:
            # sync: lapping (fence, observer). What we looked at was read before we look whether it is still nobody's; pairs with
            # (fence, producer) in produce_extend and reserve_exchange. Without it we could take a later lap's bytes for damage.
            fence_acquire()
            if claim_refresh(reader):
                continue                # somebody else claimed it meanwhile: it may be gone
            claim_forget(reader)
            if start != reader.cursor and not claim_skip(reader, start):
                continue
            return code
        end = start + record_span(length, ring.align)
        if found != NULL:
            found_add(found, ring, start, length)
        if limit > 1:
            most_bytes = claim_share(reader, end, most_bytes)
        n = 1
        while n < limit:
            position = end
            if reader_find(reader, &position, &length) != OK or length > longest:
                break
            next = position + record_span(length, ring.align)
            if next - start > most_bytes:
                break
            if found != NULL:
                found_add(found, ring, position, length)
            end = next
            n += 1
        claim_intend(reader, start, end)
        if start != reader.cursor:
            claim_lower(reader, reader.cursor)
        if claim_move_head(reader, end):
            if seldom(reader.low != NONE):
                claim_tell(reader, reader.low)      # what we claimed may be kept for long
            claim_pass_on(reader)
            return OK
    if found != NULL:
        found_clear(found)
    claim_forget(reader)
    return layout_fault(&reader.fault, <uint64_t> (<char*> &reader.group.head - reader.ring.control), reader.word, reader.cursor)


# A batch leaves the others their share of what is there. Relaxed: a snapshot is good enough.
cdef inline uint64_t claim_share(Reader* reader, uint64_t end, uint64_t most_bytes) noexcept nogil:
    cdef uint64_t members = load_relaxed_u32(&reader.group.members)
    if members <= 1:
        return most_bytes
    return min(most_bytes, (gate_tail(&reader.ring, end) - reader.cursor) // members)


# Move the head over records that are not to be, up to `start`: nothing of them is held. False: somebody else moved it. [skip]
cdef inline bint claim_skip(Reader* reader, uint64_t start) noexcept nogil:
    cdef uint64_t before = reader.cursor
    if not claim_move_head(reader, start):
        return False
    gate_opened(&reader.ring, before, start, reader.must_fence)
    claim_pass_on(reader)
    return True


# After a claim: if there is more, and somebody of our group sleeps, wake one. Its notifier woke only us. [pass on]
cdef inline void claim_pass_on(Reader* reader) noexcept nogil:
    # Relaxed: see claim 2 in doorbell.pxd; N1 is the move of the head, which is no full fence on aarch64. Who is to be woken has set
    # SHARED before its bit, or is of our process.
    if not load_relaxed_u32(&reader.group.attention) & SHARED and not reader.has_sleepers:
        return
    if not (reader.must_fence or bell_is_armed(reader.ring.data_bell, reader.ring.n_bell_words)):
        return
    # sync: doorbell (fence, waiter). The moved head is visible before we look for more; pairs with (fence, notifier) in
    # doorbell_ring_data: either its notifier sees the new head and wakes, or we see its record and do.
    fence_full()
    if doorbell_is_parked(&reader.ring, reader.group_number) and reader_sees_record(reader, reader.cursor):
        bell_ring(&reader.group.sequence, 1)


# The record at `position` of the range that was won, past those that are not to be: OK, EMPTY at its end, or CORRUPT.
cdef inline int claim_walk(Reader* reader, uint64_t* position, uint64_t* length) noexcept nogil:
    cdef int code
    while position[0] != reader.end:
        code = record_look(&reader.ring, position[0], reader.end - position[0], length, &reader.fault)
        if code != SKIP:
            return code
        position[0] += record_span(length[0], reader.ring.align)
    return EMPTY


# ---- letting go --------------------------------------------------------------------------------------------------


cdef inline void claim_count(Reader* reader, uint64_t length) noexcept nogil:
    reader.messages += 1
    reader.bytes += length


cdef inline void claim_count_all(Reader* reader, const Found* found) noexcept nogil:
    reader.messages += found.count
    reader.bytes += found.bytes


# Let go of the range that was won last. Returns the number of wake calls. [release]
cdef inline int claim_release(Reader* reader) noexcept nogil:
    cdef uint64_t start = reader.start
    reader.start = reader.end = NONE
    # Statistics: only we write these words.
    store_relaxed_u64(&reader.slot.messages, reader.messages)
    store_relaxed_u64(&reader.slot.bytes, reader.bytes)
    if reader.n_kept:
        # Relaxed: the range was read, and the hold stays where it is.
        store_relaxed_u64(&reader.slot.claims[0].start, NONE)
        return 0
    claim_store_hold(reader, NONE)
    return claim_tell(reader, start)
