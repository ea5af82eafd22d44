# What tells this process that memory it maps went away under it: the entries of the SIGBUS table, and the epoch.
#
#   owner (any thread)                          SIGBUS handler (any thread, at any instruction)
#   guard_take   version becomes odd            guard_read   version even? copy, fence, version the same? then it is whole
#   guard_fill   fields, version even again     guard_hit    lower `low`, add to `hits`
#
# Invariant: an entry whose version is even describes a live mapping of ours or has start 0. Only the thread that took an entry
# (made its version odd) changes start, length, copies, page and prot; the handler only reads them.
# Progress: the handler never waits: an entry that changes while it looks cannot be the one that faulted, because a mapping is
# closed only when nobody can touch it any more. Takers are lock-free: a lost exchange means that another one got the entry.
# Nothing here is shared between processes; the words are atomic for the threads and the handler of one.
# Source: the sequence lock of Linux (Documentation/locking/seqlock.rst).
from libc.stdint cimport uint32_t, uint64_t, uintptr_t

from shmring._core.atomic cimport (add_u32, cas_u64, count, fence_compiler, fence_full, load_acquire_u64,
                                   load_relaxed_u32, load_relaxed_u64, store_relaxed_u32, store_relaxed_u64,
                                   store_release_u64, u32, u64)


cdef struct Guard:
    u64 version                 # even: the entry is stable; odd: it is being changed (writer: its taker)
    u64 low                     # lowest byte of copy one that was replaced, as an offset (handler lowers, guard_fill resets)
    u32 hits                    # faults served since guard_fill (handler adds)
    uintptr_t start             # first byte of copy one, as an address; 0 in an unused entry (guard_fill)
    uintptr_t length            # bytes of one copy, a multiple of page (guard_fill)
    uintptr_t copies            # 2 for a mirrored mapping, else 1 (guard_fill)
    uintptr_t page              # bytes per page of this mapping: 4096, or the huge page (guard_fill)
    int prot                    # PROT_* that replacement pages get (guard_fill)


# Make an unused entry odd, and so the caller's. False: it is in use, or another thread took it first.
cdef inline bint guard_take(Guard* guard) noexcept nogil:
    # sync: guard-taken (acquire). An entry that guard_fill emptied is seen empty; pairs with (release) in guard_fill.
    cdef uint64_t version = load_acquire_u64(&guard.version)
    # The exchange fails when another thread took this entry: it made progress, the caller looks at the next one.
    if version & 1 or guard.start != 0 or not cas_u64(&guard.version, version, version + 1):
        return False
    if guard.start == 0:
        return True
    # Taken and filled since we looked: give it back.
    # sync: guard-ready (release). Passes on the fields that we acquired with the version; pairs with (acquire) in guard_read.
    store_release_u64(&guard.version, version)
    return False


# Fill a taken entry, or move a live one; the handler sees either the old values or the new ones.
cdef inline void guard_fill(Guard* guard, uintptr_t start, uintptr_t length, int copies, uintptr_t page,
                            int prot) noexcept nogil:
    # Relaxed: only we write the version of an entry that we hold.
    cdef uint64_t odd = load_relaxed_u64(&guard.version) | 1
    store_relaxed_u64(&guard.version, odd)
    # sync: guard-changing (fence, writer). The odd version becomes visible before any new field; pairs with (fence, reader) in
    # guard_read. Without it the handler could copy new fields between two reads of the old version.
    fence_full()
    guard.start, guard.length, guard.copies, guard.page, guard.prot = start, length, copies, page, prot
    # Relaxed: the store below publishes them with the fields.
    store_relaxed_u32(&guard.hits, 0)
    store_relaxed_u64(&guard.low, ~<uint64_t> 0)
    # sync: guard-ready (release). Publishes the fields; pairs with (acquire) in guard_read. Without it the handler may take a
    # foreign address for ours and map zeros over somebody's memory.
    # sync: guard-taken (release). An emptied entry can be taken; pairs with (acquire) in guard_take.
    store_release_u64(&guard.version, odd + 1)


# The fields of an entry as they were together, into `copy`. False: it is being changed, so it is not the one that faulted.
cdef inline bint guard_read(Guard* guard, Guard* copy) noexcept nogil:
    # sync: guard-ready (acquire). The fields belong to this version or a later one; pairs with (release) in guard_fill.
    cdef uint64_t version = load_acquire_u64(&guard.version)
    if version & 1:
        return False
    copy[0] = guard[0]
    # sync: guard-changing (fence, reader). The copy is made before the version is looked at again; pairs with (fence, writer)
    # in guard_fill.
    fence_full()
    # Relaxed: the fence above orders it.
    return load_relaxed_u64(&guard.version) == version


# Note a served fault: zeros were put under everything from `offset` on.
cdef inline void guard_hit(Guard* guard, uint64_t offset) noexcept nogil:
    cdef uint64_t low = load_relaxed_u64(&guard.low)
    # A failed exchange means another thread lowered it; whoever is lowest stays. Relaxed: the count below comes after it.
    while offset < low and not cas_u64(&guard.low, low, offset):
        low = load_relaxed_u64(&guard.low)
    add_u32(&guard.hits, 1)


# Faults served. Relaxed: the thread that faulted sees its own; for the others it is a hint.
cdef inline uint32_t guard_hits(const Guard* guard) noexcept nogil:
    return load_relaxed_u32(&guard.hits)


# The lowest offset that was replaced. Relaxed: as guard_hits; the owner asks with the interpreter's lock held.
cdef inline uint64_t guard_low(const Guard* guard) noexcept nogil:
    return load_relaxed_u64(&guard.low)


# The chunk that follows, as an address, or 0.
cdef inline uintptr_t guard_following(const u64* following) noexcept nogil:
    # sync: guard-chunk (acquire). The chunk is zeroed before it is looked at; pairs with (release) in guard_append.
    return <uintptr_t> load_acquire_u64(following)


# Append a zeroed chunk. False: another thread appended first.
cdef inline bint guard_append(u64* following, uintptr_t chunk) noexcept nogil:
    # sync: guard-chunk (release). Publishes the zeroed chunk; pairs with (acquire) in guard_following.
    return cas_u64(following, 0, chunk)


# ---- the epoch -----------------------------------------------------------------------------------------------------


# Something happened that makes facts about this process stale: a fault was served, or this is a forked child.
cdef inline void guard_count_epoch(volatile unsigned int* epoch) noexcept nogil:
    count(epoch)


# After a copy into or out of a mapping: was it made of the real pages? `seen` is the epoch from before it. The handler counts in
# the thread that faulted, so the compiler's order is enough.
cdef inline bint guard_copy_is_whole(unsigned int seen, const volatile unsigned int* epoch) noexcept nogil:
    fence_compiler()
    return epoch[0] == seen
