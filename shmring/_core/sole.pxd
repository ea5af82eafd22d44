# The only member of a group: it moves the head by plain stores, as nobody else writes it.
#
#            cursor = head                                     tail
#   ---------|== read here, protected by the head ==|... not yet ...|----
#
#   read and let go at once (recv)               keep (peek)
#   1. read the records at the head              1. claims[0] and hold: claim_intend in claim.pxd     [note] [hold]
#   2. moving = 1                     [note]
#   3. SHARED? then forget it all     [look]     2. SHARED? then forget it                            [look]
#   4. head = (end, me)               [claim]    3. head = (end, me)                                  [claim]
#   5. moving = 0                     [release]  4. later: hold = NONE                                [release]
#
# Until 4 the left column has claimed nothing, and a death leaves the records to the next member; after it they are let go.
#
# A second member sets SHARED, calls membarrier(2), and waits until nobody may be between [note] and [claim] that has not seen it
# (group_is_being_claimed in membership.pxd; or until who is there is dead). That membarrier makes every running thread pass a full
# fence. If mine falls before [note], then [look] sees SHARED, and I go on by exchange. If it falls after [note], the second
# member sees `moving`, or claims[0] and hold, and waits; if it falls after [claim], it sees the head moved.
# So whoever claims by exchange begins at a head that no plain store will change. What was read in 1 was nobody else's if [look]
# saw no SHARED: the first exchange comes after the wait. If it saw SHARED, another member may have claimed those records, and
# bytes of a later lap may have been read: none of it is used, and what looked like damage is looked at again by claim_range.
# SETTLED says that somebody has waited it out.
#
# Progress: wait-free. Source: asymmetric fences, as for the doorbell.
# Steps in brackets are those of group_share.pml in models/.
from libc.stdint cimport uint64_t

from shmring._core.atomic cimport fence_compiler, load_relaxed_u32, store_relaxed_u64, store_release_u64
from shmring._core.claim cimport claim_forget, claim_intend, claim_tell
from shmring._core.layout cimport ATTENTION, CORRUPT, NONE, OK, SHARED, TOO_LARGE, mark_owner, mark_pack
from shmring._core.reader cimport Reader, reader_look
from shmring._core.record cimport SKIP, record_span


# Are we the only member, and nothing else comes first? Relaxed: looked at again in sole_may_store. SHARED is never taken back
# while we are a member. [look]
cdef inline bint sole_is_all(const Reader* reader) noexcept nogil:
    return not (load_relaxed_u32(&reader.group.attention) or reader.n_pending or reader.has_sleepers or reader.start != NONE
                or mark_owner(reader.word) != reader.mark)


# After [note]: may the head be moved by a plain store? [look]
cdef inline bint sole_may_store(const Reader* reader) noexcept nogil:
    fence_compiler()                    # a membarrier makes it a full fence, if SHARED is being set: see the top [membarrier]
    # Relaxed: as above.
    return not load_relaxed_u32(&reader.group.attention) & SHARED


cdef inline void sole_move_head(Reader* reader, uint64_t end) noexcept nogil:
    reader.word = mark_pack(end, reader.mark)
    reader.cursor = end
    # sync: claimed (release). As in claim_move_head, but nobody else writes the head; pairs with (acquire) in gate_look_at_group,
    # claim_refresh, reader_start and repair_judge. [claim]
    store_release_u64(&reader.group.head, reader.word)


# The record at `position`, at the head or behind records that we looked at: OK, EMPTY, or ATTENTION: see claim_range.
cdef inline int sole_look(Reader* reader, uint64_t position, uint64_t* length) noexcept nogil:
    cdef int code = reader_look(reader, position, length)
    return ATTENTION if code == SKIP or code == CORRUPT else code


# `messages` of together `bytes` were read, from the head to `end`, and are let go. False: we are not the only member any more,
# and what was read counts for nothing. Else `woken` is the number of wake calls.
cdef inline bint sole_pass(Reader* reader, uint64_t end, uint64_t messages, uint64_t bytes, int* woken) noexcept nogil:
    cdef uint64_t start = reader.cursor
    # Relaxed: seen by who set SHARED before we look: see the top. [note]
    store_relaxed_u64(&reader.slot.moving, 1)
    if not sole_may_store(reader):
        store_relaxed_u64(&reader.slot.moving, 0)
        return False
    sole_move_head(reader, end)
    # sync: moving (release). The head is moved for who sees that we are done; pairs with (acquire) in group_is_being_claimed.
    # [release]
    store_release_u64(&reader.slot.moving, 0)
    reader.messages += messages
    reader.bytes += bytes
    # Statistics: only we write these words.
    store_relaxed_u64(&reader.slot.messages, reader.messages)
    store_relaxed_u64(&reader.slot.bytes, reader.bytes)
    woken[0] = claim_tell(reader, start)
    return True


# Win the next record, to be kept: reader.start to reader.end. What is out of the ordinary: ATTENTION: claim_range.
cdef inline int sole_claim(Reader* reader, uint64_t longest, uint64_t* length) noexcept nogil:
    cdef int code
    if not sole_is_all(reader) or reader.n_kept:
        return ATTENTION
    code = sole_look(reader, reader.cursor, length)
    if code != OK:
        return code
    if length[0] > longest:
        return TOO_LARGE
    claim_intend(reader, reader.cursor, reader.cursor + record_span(length[0], reader.ring.align))
    if not sole_may_store(reader):
        claim_forget(reader)
        return ATTENTION
    sole_move_head(reader, reader.end)
    return OK
