# Ranges that a member keeps: for views that are open, and of dead members, to be handed out again.
#
#   claims[0]       the range that is being won, or was won last            claim.pxd
#   claims[1..]     kept: start .. end;  pending: the next record of it to hand out, if somebody else had it before
#
# A range that goes on where another ends becomes one with it, so that views in a row take one entry however many they are.
# Invariant: hold is the lowest start of them. Progress: wait-free; nobody else writes these words while we live.
# Steps in brackets are those of shared_group.pml in models/.
from libc.stdint cimport int64_t, uint64_t

from shmring._core.atomic cimport add_u64, fence_compiler, kernel_assert, load_relaxed_u64, store_relaxed_u64
from shmring._core.claim cimport claim_count, claim_store_hold, claim_tell
from shmring._core.layout cimport CLAIMS, CORRUPT, EMPTY, NONE, OK
from shmring._core.reader cimport Reader
from shmring._core.record cimport record_look, record_span


# Keep the range that was won last, to be released by claim_drop. Returns the entry that has it; there is one, as claim_range
# and sole_claim see to it. [keep]
cdef inline int claim_keep(Reader* reader) noexcept nogil:
    cdef int index, entry = 0
    for index in range(1, CLAIMS):
        if reader.kept_end[index] == reader.start and reader.pending[index] == NONE:
            entry = index               # it goes on where a range of ours ends: one range
            break
        if reader.kept_end[index] == NONE and entry == 0:
            entry = index
    kernel_assert(entry != 0)
    # Relaxed: only repair reads them; claims[0], which has the same, goes last. In program order is enough: a death leaves all
    # stores before it.
    store_relaxed_u64(&reader.slot.claims[entry].end, reader.end)
    fence_compiler()
    if reader.kept_end[entry] == NONE:
        store_relaxed_u64(&reader.slot.claims[entry].start, reader.start)
        reader.n_kept += 1
    reader.kept_end[entry] = reader.end
    fence_compiler()
    store_relaxed_u64(&reader.slot.claims[0].start, NONE)
    reader.start = reader.end = NONE
    return entry


# What was won last could not be handed out after all (no memory): it stays ours, and comes next.
cdef inline void claim_put_back(Reader* reader) noexcept nogil:
    cdef uint64_t start = reader.start
    cdef int entry = claim_keep(reader)
    if reader.pending[entry] == NONE:
        reader.pending[entry] = start
        reader.n_pending += 1


# Range `index` is needed from `start` on only, or (NONE) no more. Returns the number of wake calls. [drop]
cdef inline int claim_drop(Reader* reader, int index, uint64_t start) noexcept nogil:
    # Statistics: only we write these words.
    store_relaxed_u64(&reader.slot.messages, reader.messages)
    store_relaxed_u64(&reader.slot.bytes, reader.bytes)
    store_relaxed_u64(&reader.slot.redelivered, reader.redelivered)
    # Relaxed: only we write our ranges; the hold that follows publishes what it must.
    store_relaxed_u64(&reader.slot.claims[index].start, start)
    if start == NONE:
        reader.kept_end[index] = NONE
        reader.n_kept -= 1
        reader.deferred = 0
    return claim_hold_lowest(reader)


# Hold what is needed of our ranges, and no more. Returns the number of wake calls. [release]
cdef inline int claim_hold_lowest(Reader* reader) noexcept nogil:
    cdef uint64_t old = reader.hold
    cdef uint64_t lowest = reader.start             # won, and not finished; usually NONE
    cdef uint64_t each
    cdef int index
    for index in range(1, CLAIMS):
        # Relaxed: only we write our ranges.
        each = load_relaxed_u64(&reader.slot.claims[index].start) if reader.kept_end[index] != NONE else NONE
        if each != NONE and (lowest == NONE or <int64_t> (each - lowest) < 0):
            lowest = each
    if lowest == old:
        return 0
    claim_store_hold(reader, lowest)
    return claim_tell(reader, old)


# ---- what a dead member held -------------------------------------------------------------------------------------


# The entry whose pending record is the oldest, or 0.
cdef inline int claim_oldest_pending(const Reader* reader) noexcept nogil:
    cdef int index, oldest = 0
    for index in range(1, CLAIMS):
        if reader.pending[index] != NONE and (
                oldest == 0 or <int64_t> (reader.pending[index] - reader.pending[oldest]) < 0):
            oldest = index
    return oldest


# The next record of what was adopted, oldest first: its position, its length and the entry. EMPTY: there is none.
cdef inline int claim_pending(Reader* reader, uint64_t* position, uint64_t* length, int* entry) noexcept nogil:
    cdef int code, oldest = claim_oldest_pending(reader)
    while oldest != 0:
        position[0] = reader.pending[oldest]
        entry[0] = oldest
        code = record_look(&reader.ring, position[0], reader.kept_end[oldest] - position[0], length, &reader.fault)
        if code == CORRUPT or code == OK:
            return code
        claim_advance_pending(reader, oldest, length[0])
        oldest = claim_oldest_pending(reader)
    return EMPTY


# The pending place of `entry` moves behind a record of `length`; NONE at the end of the range.
cdef inline void claim_advance_pending(Reader* reader, int entry, uint64_t length) noexcept nogil:
    reader.pending[entry] += record_span(length, reader.ring.align)
    if reader.pending[entry] == reader.kept_end[entry]:
        reader.pending[entry] = NONE
        reader.n_pending -= 1


# Hand the pending record of `entry` out. Its range stays held until claim_drop.
cdef inline void claim_take_pending(Reader* reader, int entry, uint64_t length) noexcept nogil:
    claim_advance_pending(reader, entry, length)
    claim_count(reader, length)
    reader.redelivered += 1
    add_u64(&reader.group.redelivered, 1)
