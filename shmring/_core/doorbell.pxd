# Waiting without missing a message, and notifying without paying for it.
#
#   waiter                                      notifier
#   W1  set my armed bit, make everybody        N1  publish (tail, head or shutdown)
#       registered pass a full fence            N2  nobody armed? done: no fence, no line of the waiters touched
#   W3  read the sequence                       N3  full fence
#   W2  set my parked bit, full fence           N4  nobody parked? done
#   W4  look again: ready? leave                N5  bump the sequence, futex wake
#   W5  futex wait while the sequence is W3's
#   W6  clear my parked bit
#
# Claim: a waiter that sleeps in W5 while something is published for it is woken by N5, unless the notifier dies before it.
#   1. Between W2 and N4 stands the store-buffering pattern with a full fence on both sides: either N4 sees the parked bit, or
#      W4 sees what N1 published. If N4 sees the bit, N5's bump comes before W3 (then W4, which comes after it, sees what was
#      published), or between W3 and W5 (then the wait refuses), or its wake comes after W5.
#   2. N2 without a fence may read `armed` before N1 is visible. W1's membarrier(2) makes every running thread of every
#      registered process pass a full fence between the store of the armed bit and the end of W1. If that fence falls before
#      N1 in the notifier's order, N2 comes after it and sees the armed bit. If it falls after N2, N1 came before it and W4
#      sees what N1 published. A thread that is not running passes one in the context switch.
#   A notifier whose process cannot register (must_fence) goes straight to N3. A waiter whose membarrier is refused keeps
#   its slices short (Participant.wait_for); time slices also bound the harm of a notifier killed between N1 and N5.
#
# The armed bit stays set over many parks, so a busy sleeper pays for W1 once; it is cleared when waits end while spinning.
# Bits, not a counter, so that repair can clear exactly the dead one's. Nobody but its owner or repair clears a bit: one flag
# that notifiers clear would lose wake-ups.
#
# Progress: N1-N5 wait-free but for the wake call. Bits of dead waiters cost a vain wake each until repair.
# Source: Dekker's pattern; membarrier(2); futex(2).
# Steps in brackets are those of doorbell.pml, room.pml, shared_bell.pml, shared_room.pml in models/.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport (add_u32, and_u64, fence_full, load_acquire_u32, load_relaxed_u32, load_relaxed_u64, or_u64,
                                   seldom, u32)
from shmring._core.futex cimport futex_wake, membarrier
from shmring._core.layout cimport Bell, RingMap, mark_position

cdef extern from * nogil:
    """
    #define shmring_lowest_bit(word) ((uint32_t)__builtin_ctzll(word))
    """
    uint32_t lowest_bit "shmring_lowest_bit" (uint64_t word) noexcept

cdef enum:
    WAKE_ALL = 0x7fffffff


# N2. Relaxed: see claim 2 above for what makes an old value harmless. [N2]
cdef inline bint bell_is_armed(Bell* bell, uint32_t n_words) noexcept nogil:
    cdef uint32_t word
    if load_relaxed_u64(&bell.armed[0]):
        return True
    if seldom(n_words > 1):
        for word in range(1, n_words):
            if load_relaxed_u64(&bell.armed[word]):
                return True
    return False


# W1. 0, or the negative errno with which the kernel refused the membarrier. [W1]
cdef inline int bell_arm(Bell* bell, uint32_t participant) noexcept nogil:
    or_u64(&bell.armed[participant >> 6], <uint64_t> 1 << (participant & 63))
    return membarrier()


# [calm]
cdef inline void bell_disarm(Bell* bell, uint32_t participant) noexcept nogil:
    and_u64(&bell.armed[participant >> 6], ~(<uint64_t> 1 << (participant & 63)))


# W2. [W2]
cdef inline void bell_park(Bell* bell, uint32_t participant) noexcept nogil:
    or_u64(&bell.parked[participant >> 6], <uint64_t> 1 << (participant & 63))
    # sync: doorbell (fence, waiter). The parked bit becomes visible before the look that follows; pairs with (fence, notifier)
    # in doorbell_ring_data, doorbell_ring_all and gate_ring_room. Without it both sides could miss each other and the waiter would sleep on
    # a message.
    fence_full()


# W6. [W6]
cdef inline void bell_unpark(Bell* bell, uint32_t participant) noexcept nogil:
    and_u64(&bell.parked[participant >> 6], ~(<uint64_t> 1 << (participant & 63)))


# W3. [W3]
cdef inline uint32_t bell_sequence(const u32* word) noexcept nogil:
    # sync: doorbell-sequence (acquire). The look of W4 comes after it: if we read a bumped sequence, we see what was published
    # before the bump; pairs with (release) in bell_ring. Without it W4 could be satisfied first, and W5 would sleep on the new
    # sequence with the news unseen.
    return load_acquire_u32(word)


# N5 for sleepers of this process, or for all. Returns the number that woke. [N5]
cdef inline int bell_ring(u32* word, int count) noexcept nogil:
    # sync: doorbell-sequence (release). What was published is visible to who sees the bump; pairs with (acquire) in
    # bell_sequence.
    add_u32(word, 1)
    return futex_wake(word, count)


# N3-N5 for data: records from `begin` to `end` were shown. A parked member is woken by whoever shows the record at its group's
# head, and by nobody after: a burst costs one wake, and members that claim pass the wake on (claim_pass_on). (If the head lies
# before `begin`, an earlier notifier saw the bit, or will, or the waiter's look saw its record.) An observer has a place of its
# own. Returns the number of wake calls. [N4]
cdef inline int doorbell_ring_data(const RingMap* ring, uint64_t begin, uint64_t end) noexcept nogil:
    cdef uint64_t bits, place, groups = 0
    cdef uint32_t word, number, group
    cdef bint observers = False
    cdef int wakes = 0
    # sync: doorbell (fence, notifier). What was shown becomes visible before the parked bits are read; pairs with (fence, waiter) in
    # bell_park, and, as claim_pass_on looks at the records after it moved the head, with (fence, waiter) there.
    fence_full()  # [N3]
    for word in range(ring.n_bell_words):
        # Relaxed: the fence orders it.
        bits = load_relaxed_u64(&ring.data_bell.parked[word])
        while bits:
            number = word * 64 + lowest_bit(bits)
            bits &= bits - 1
            if number >= ring.n_participants:
                break                           # nobody's bit: damage, and harmless
            # Relaxed: the waiter stored its group, or its place, before its bit, and the fences order the rest.
            group = load_relaxed_u32(&ring.participants[number].group)
            if group < ring.n_groups:
                if mark_position(load_relaxed_u64(&ring.groups[group].head), begin) - begin < end - begin:
                    groups |= <uint64_t> 1 << group
            elif load_relaxed_u64(&ring.participants[number].awaited) - begin < end - begin:
                observers = True
    if observers:
        bell_ring(&ring.data_bell.sequence, WAKE_ALL)
        wakes += 1
    while groups:
        group = lowest_bit(groups)
        groups &= groups - 1
        bell_ring(&ring.groups[group].sequence, 1)
        wakes += 1
    return wakes


# Is a member of `group` parked? For who has just claimed, after a full fence. Relaxed: the fence orders it. [pass on]
cdef inline bint doorbell_is_parked(const RingMap* ring, uint32_t group) noexcept nogil:
    cdef uint64_t bits
    cdef uint32_t word, number
    for word in range(ring.n_bell_words):
        bits = load_relaxed_u64(&ring.data_bell.parked[word])
        while bits:
            number = word * 64 + lowest_bit(bits)
            bits &= bits - 1
            if number < ring.n_participants and load_relaxed_u32(&ring.participants[number].group) == group:
                return True
    return False


# Wake everybody: shutdown, removal of a group, the end of the last producer, repair. [N3]
cdef inline void doorbell_ring_all(const RingMap* ring) noexcept nogil:
    cdef uint32_t group
    # sync: doorbell (fence, notifier). The reason to wake is visible before the sequences move; pairs with (fence, waiter) in
    # bell_park.
    fence_full()
    for group in range(ring.n_groups):
        bell_ring(&ring.groups[group].sequence, WAKE_ALL)
    bell_ring(&ring.data_bell.sequence, WAKE_ALL)
    bell_ring(&ring.room_bell.sequence, WAKE_ALL)
