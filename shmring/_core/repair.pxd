# The tables of participants and groups: joining, leaving, and what survivors do for the dead.
#
# Every function here is called with the registry lock held (a file lock on one byte of the segment, which the kernel drops
# when its holder dies), so there is one writer at a time. It may die between any two stores; therefore each function may be
# run again from its start by the next holder, and readers outside the lock (producers scanning the gate, notifiers) see each
# entry through one state word that is written last when it appears and first when it goes.
#
# Who is dead is decided by ring.pyx from evidence; nothing here judges.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from shmring._core.atomic cimport (add_u32, and_u64, fence_full, load_acquire_u32, load_acquire_u64, load_relaxed_u32,
                                   load_relaxed_u64, store_relaxed_u32, store_relaxed_u64, store_release_u32,
                                   store_release_u64)
from shmring._core.layout cimport (COMMITTED, GROUP_ACTIVE, GROUP_FREE, GROUP_JOINING, GROUP_NAME_BYTES, HEADER_BYTES,
                                   LAYOUT_VERSION, MAGIC, READY, ROLE_CONSUMER, ROLE_PRODUCER, SIGNATURE, SLOT_ACTIVE,
                                   SLOT_FREE, SLOT_LEFT, Fault, Group, Identity, OK, RingMap, Slot, layout_data_offset,
                                   layout_fault, layout_participants_offset, layout_point)


# Write the control pages of a new ring into zeroed memory at `control`, from the fields that the caller has set in
# `identity` (capacity, cookie, align, flags, maxima, uuid, boot_id, created_ns, creator_pid, page_bytes). The first record
# goes to `origin`. Group 0 is "default".
cdef inline void layout_create(char* control, Identity* identity, uint64_t origin) noexcept nogil:
    cdef Identity* target = <Identity*> control
    cdef RingMap ring
    identity.magic = MAGIC
    identity.layout_version = LAYOUT_VERSION
    identity.signature = SIGNATURE
    identity.participants_offset = layout_participants_offset(identity.max_groups)
    identity.data_offset = layout_data_offset(identity.max_groups, identity.max_participants, identity.page_bytes)
    identity.segment_bytes = identity.data_offset + identity.capacity
    memcpy(target, identity, sizeof(Identity))
    ring.n_groups = identity.max_groups
    layout_point(&ring, control)
    # Relaxed: nobody looks before the ready word.
    store_relaxed_u64(&ring.producers.tail, origin)
    store_relaxed_u64(&ring.producers.reserve, origin)
    memcpy(ring.groups[0].name, b"default", 7)
    group_settle(&ring.groups[0], origin)
    # sync: ring-ready (release). Everything above is visible to who sees the ready word; pairs with (acquire) in layout_attach.
    store_release_u64(&target.ready, READY)


# ---- participants ------------------------------------------------------------------------------------------------


# Fill a free slot. The caller holds the slot's lock byte, which proves its life from now on.
cdef inline void participant_enter(Slot* slot, const Slot* fields) noexcept nogil:
    cdef uint64_t generation = slot.generation
    memset(slot, 0, sizeof(Slot))
    slot.role = fields.role
    slot.pid = fields.pid
    slot.start_time = fields.start_time
    slot.pid_namespace = fields.pid_namespace
    memcpy(slot.boot_id, fields.boot_id, 16)
    slot.generation = generation + 1
    # sync: participant-ready (release). The fields are visible to who sees ACTIVE; pairs with (acquire) in participant_is_active.
    store_release_u32(&slot.state, SLOT_ACTIVE)


cdef inline bint participant_is_active(const Slot* slot) noexcept nogil:
    # sync: participant-ready (acquire). The fields of an active slot are visible; pairs with (release) in participant_enter.
    # sync: slot-free (acquire). All of its last owner is gone; pairs with (release) in participant_bury.
    return load_acquire_u32(&slot.state) == SLOT_ACTIVE


# A consumer's group, for notifiers. Relaxed: written before any bit of it is set.
cdef inline void participant_join(Slot* slot, uint32_t group) noexcept nogil:
    store_relaxed_u32(&slot.group, group)


# Relaxed: as participant_join.
cdef inline uint32_t participant_group(const Slot* slot) noexcept nogil:
    return load_relaxed_u32(&slot.group)


# The single producer's slot + 1, or 0. Relaxed: it changes under the registry lock only; without it, a snapshot.
cdef inline uint32_t participant_sole(const RingMap* ring) noexcept nogil:
    return load_relaxed_u32(&ring.producers.sole)


# Relaxed: as participant_sole.
cdef inline void participant_become_sole(RingMap* ring, uint32_t number) noexcept nogil:
    store_relaxed_u32(&ring.producers.sole, number + 1)


# Statistics, without the lock: only the participant itself writes these words, and nobody concludes anything from them.
cdef inline void participant_note_waits(Slot* slot, uint64_t waits) noexcept nogil:
    store_relaxed_u64(&slot.waits, waits)


# Statistics: as participant_note_waits.
cdef inline void participant_note_parks(Slot* slot, uint64_t parks) noexcept nogil:
    store_relaxed_u64(&slot.parks, parks)


# Statistics: as participant_note_waits.
cdef inline void participant_note_wakes(Slot* slot, uint64_t wakes) noexcept nogil:
    store_relaxed_u64(&slot.wakes, wakes)


# Leave, without the lock and without a wait: my bits go, and the slot says that its owner left. Its roles mean nothing from
# here on, as participant_is_active is false; whoever next holds the lock frees it. Killed in between: dead, like any other.
cdef inline void participant_depart(RingMap* ring, uint32_t number) noexcept nogil:
    participant_clear_bits(ring, number)
    # sync: participant-left (release). Our last stores are visible to who takes the slot or the role; pairs with (acquire) in
    # participant_has_left.
    store_release_u32(&ring.participants[number].state, SLOT_LEFT)


cdef inline bint participant_has_left(const Slot* slot) noexcept nogil:
    # sync: participant-left (acquire). Its last stores are visible; pairs with (release) in participant_depart.
    return load_acquire_u32(&slot.state) == SLOT_LEFT


cdef inline void participant_clear_bits(RingMap* ring, uint32_t number) noexcept nogil:
    cdef uint64_t others = ~(<uint64_t> 1 << (number & 63))
    and_u64(&ring.data_bell.armed[number >> 6], others)
    and_u64(&ring.data_bell.parked[number >> 6], others)
    and_u64(&ring.room_bell.armed[number >> 6], others)
    and_u64(&ring.room_bell.parked[number >> 6], others)


# Undo everything that participant `number` has left: bits, roles, then the slot itself. A dead member's head has not moved
# past what it did not release, so its group needs nothing more; a dead single producer's unpublished bytes were never visible.
# Returns the role it had.
cdef inline uint32_t participant_bury(RingMap* ring, uint32_t number, bint died) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    cdef uint32_t role = slot.role
    cdef uint32_t group
    participant_clear_bits(ring, number)
    # Relaxed: roles change under the registry lock only, which we hold.
    if load_relaxed_u32(&ring.producers.sole) == number + 1:
        store_relaxed_u32(&ring.producers.sole, 0)
    for group in range(ring.n_groups):
        if load_relaxed_u32(&ring.groups[group].member) == number + 1:
            if died:
                store_relaxed_u64(&ring.groups[group].repaired, load_relaxed_u64(&ring.groups[group].repaired) + 1)
            store_relaxed_u32(&ring.groups[group].member, 0)
    # sync: slot-free (release). Bits and roles are gone before the slot is; pairs with (acquire) in participant_is_active. Without
    # it the next owner of the slot could lose a bit that it has just set.
    store_release_u32(&slot.state, SLOT_FREE)
    return role


# ---- groups ------------------------------------------------------------------------------------------------------


cdef inline uint32_t group_state(const RingMap* ring, uint32_t number) noexcept nogil:
    # sync: group-ready (acquire). Name and head are visible; pairs with (release) in group_begin and group_settle.
    # sync: group-gone (acquire). A free entry is free of its last user; pairs with (release) in group_end.
    return load_acquire_u32(&ring.groups[number].state)


# Its member's slot + 1, or 0. Relaxed: it changes under the registry lock only; without it, a snapshot.
cdef inline uint32_t group_member(const RingMap* ring, uint32_t number) noexcept nogil:
    return load_relaxed_u32(&ring.groups[number].member)


# Relaxed: as group_member.
cdef inline void group_take(RingMap* ring, uint32_t number, uint32_t participant) noexcept nogil:
    store_relaxed_u32(&ring.groups[number].member, participant + 1)


# The lowest head of the settled groups other than `except_for`; tail if there are none.
cdef inline uint64_t group_lowest_head(RingMap* ring, uint32_t except_for) noexcept nogil:
    cdef uint64_t lowest = 0, head
    cdef bint found = False
    cdef uint32_t number
    for number in range(ring.n_groups):
        if number != except_for and group_state(ring, number) == GROUP_ACTIVE:
            # sync: room-ready (acquire). A tail that is read later is not before this head, and what is read from there is what was
            # published there; pairs with (release) in consume_release.
            head = load_acquire_u64(&ring.groups[number].head)
            if not found or <int64_t> (head - lowest) < 0:
                lowest = head
                found = True
    if found:
        return lowest
    # sync: record-ready (acquire). Records before it are visible to the group's member; pairs with (release) in produce_publish.
    return load_acquire_u64(&ring.producers.tail)


# Make a free entry a group that starts at the oldest record any group still needs (or at tail if latest).
#
# A producer may be working with a gate G that it concluded before it saw this entry, and writes up to G + capacity. The place M
# where the group begins must not lie before G. produce_scan_gate ends only when `joins` did not move, so all its looks came
# before our count, and ours at the heads (or at tail) come after it: heads only move on, so G <= M.
cdef inline void group_begin(RingMap* ring, uint32_t number, const char* name, bint latest) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    memset(group.name, 0, GROUP_NAME_BYTES)
    memcpy(group.name, name, GROUP_NAME_BYTES)
    group.generation += 1
    # Relaxed: published with the state.
    store_relaxed_u32(&group.member, 0)
    store_relaxed_u64(&group.head, group_lowest_head(ring, number))
    # sync: group-ready (release). Name and head are visible to who sees that the entry gates; pairs with (acquire) in
    # produce_scan_gate.
    store_release_u32(&group.state, GROUP_JOINING)
    # sync: group-count (release). The entry gates before it is counted; pairs with (acquire) in produce_scan_gate.
    add_u32(&ring.producers.joins, 1)
    # sync: group-join (fence, joiner). The entry gates and is counted before we look where the others are; pairs with (fence,
    # producer) in produce_scan_gate. Without it a producer that missed the entry could be ahead of the place we choose.
    fence_full()
    if latest:
        # sync: record-ready (acquire). As in group_lowest_head; pairs with (release) in produce_publish.
        group_settle(group, load_acquire_u64(&ring.producers.tail))
    else:
        group_settle(group, group_lowest_head(ring, number))


cdef inline void group_settle(Group* group, uint64_t position) noexcept nogil:
    # Relaxed: published with the head.
    store_relaxed_u64(&group.repaired, 0)
    store_relaxed_u64(&group.redelivered, 0)
    store_relaxed_u64(&group.cursor, position)
    store_relaxed_u64(&group.watermark, position)
    # sync: room-ready (release). The cursor is not older than the head that is found; pairs with (acquire) in consume_start and
    # group_check.
    store_release_u64(&group.head, position)
    # sync: group-ready (release). The settled head comes with ACTIVE; pairs with (acquire) in produce_scan_gate.
    store_release_u32(&group.state, GROUP_ACTIVE)


# The entry stops gating.
cdef inline void group_end(Group* group) noexcept nogil:
    # sync: group-gone (release). Whatever the last member read, and we looked up, was read before; pairs with (acquire) in
    # produce_scan_gate and group_state. Without it new bytes could be written under those reads.
    store_release_u32(&group.state, GROUP_FREE)


# Check what a group says of itself before anybody relies on it: head <= cursor <= tail, all within one capacity.
cdef inline int group_check(RingMap* ring, uint32_t number, Fault* fault) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    # sync: room-ready (acquire). Cursor and tail, read next, are not before this head; pairs with (release) in consume_release and
    # group_settle.
    cdef uint64_t head = load_acquire_u64(&group.head)
    # Relaxed: the registry lock is held, so its writer has left or is dead.
    cdef uint64_t cursor = load_relaxed_u64(&group.cursor)
    # sync: record-ready (acquire). Records before it are visible to the group's next member; pairs with (release) in
    # produce_publish.
    cdef uint64_t tail = load_acquire_u64(&ring.producers.tail)
    if tail - head > ring.capacity or (head + HEADER_BYTES) & (ring.align - 1):
        return layout_fault(fault, <uint64_t> (<char*> &group.head - ring.control), head, tail)
    if cursor - head > tail - head:
        return layout_fault(fault, <uint64_t> (<char*> &group.cursor - ring.control), cursor, head)
    return OK
