# What others see of a ring, for statistics and error texts: every number is a snapshot, and nothing is decided by it.
from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport load_acquire_u64, load_relaxed_u32, load_relaxed_u64
from shmring._core.layout cimport GROUP_ACTIVE, Group, RingMap, Slot
from shmring._core.repair cimport group_state


cdef struct GroupSnapshot:
    uint64_t head           # position
    uint64_t tail           # position; read after head, so never before it
    uint32_t member         # slot number + 1, or 0
    uint64_t repaired       # members found dead

cdef struct Counters:
    uint64_t messages
    uint64_t bytes
    uint64_t waits
    uint64_t parks
    uint64_t wakes


cdef inline uint64_t snapshot_tail(const RingMap* ring) noexcept nogil:
    # sync: record-ready (acquire). Records before it are visible, for who counts them; pairs with (release) in produce_publish.
    return load_acquire_u64(&ring.producers.tail)


# False: entry `number` is no settled group.
cdef inline bint snapshot_group(const RingMap* ring, uint32_t number, GroupSnapshot* facts) noexcept nogil:
    cdef const Group* group = &ring.groups[number]
    if group_state(ring, number) != GROUP_ACTIVE:
        return False
    # sync: room-ready (acquire). The tail that is read next is not before this head; pairs with (release) in consume_release.
    facts.head = load_acquire_u64(&group.head)
    facts.tail = snapshot_tail(ring)
    # Relaxed: these say nothing about other words.
    facts.member = load_relaxed_u32(&group.member)
    facts.repaired = load_relaxed_u64(&group.repaired)
    return True


# Relaxed: each counter has one writer and says nothing about other words.
cdef inline void snapshot_counters(const Slot* slot, Counters* facts) noexcept nogil:
    facts.messages = load_relaxed_u64(&slot.messages)
    facts.bytes = load_relaxed_u64(&slot.bytes)
    facts.waits = load_relaxed_u64(&slot.waits)
    facts.parks = load_relaxed_u64(&slot.parks)
    facts.wakes = load_relaxed_u64(&slot.wakes)
