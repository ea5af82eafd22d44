# The tables of participants and groups: making, joining, leaving.
#
# Every function that changes a table is called with the registry lock held (a file lock on one byte of the segment, which the
# kernel drops when its holder dies), so there is one writer at a time. It may die between any two stores; therefore each
# function may be run again from its start by the next holder, and readers outside the lock (producers scanning the gate,
# notifiers) see each entry through one state word that is written last when it appears and first when it goes. Leaving needs no
# lock: it only says that somebody left.
#
# What survivors do for the dead is in repair.pxd; who is dead is decided by registry.pyx from evidence.
# Steps in brackets are those of group_join.pml, group_share.pml, shared_group.pml, many_producers.pml, doorbell.pml in models/.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from shmring._core.atomic cimport (add_u32, and_u64, fence_full, load_acquire_u32, load_acquire_u64, load_relaxed_u32,
                                   load_relaxed_u64, store_relaxed_u32, store_relaxed_u64, store_release_u32,
                                   store_release_u64)
from shmring._core.boundary cimport boundary_note
from shmring._core.futex cimport membarrier
from shmring._core.gate cimport gate_tail
from shmring._core.layout cimport (BOUNDARIES, CHUNKS, CLAIMS, FLAG_SINGLE_PRODUCER, GROUP_ACTIVE, GROUP_EXCLUSIVE, GROUP_FREE,
                                   GROUP_JOINING, GROUP_NAME_BYTES, HEADER_BYTES, LAYOUT_VERSION, MAGIC, MOST_LOST, NONE, ORPHANS,
                                   READY, ROLE_CONSUMER, ROLE_PRODUCER, SETTLED, SHARED, SIGNATURE, SLOT_ACTIVE, SLOT_FREE, SLOT_LEFT, SLOT_ORPHAN, TENTATIVE,
                                   Fault, Group, Identity, OK, RingMap, Slot, layout_data_offset, layout_fault,
                                   layout_participants_offset, layout_point, mark_pack, mark_position)


# Write the control pages of a new ring into zeroed memory at `control`, from the fields that the caller has set in
# `identity` (capacity, cookie, align, flags, maxima, uuid, boot_id, created_ns, creator_pid, page_bytes). The first record
# goes to `origin`. Group 0 is "default".
cdef inline void layout_create(char* control, Identity* identity, uint64_t origin) noexcept nogil:
    cdef Identity* target = <Identity*> control
    cdef RingMap ring
    cdef uint32_t number
    identity.magic = MAGIC
    identity.layout_version = LAYOUT_VERSION
    identity.signature = SIGNATURE
    identity.participants_offset = layout_participants_offset(identity.max_groups)
    identity.data_offset = layout_data_offset(identity.max_groups, identity.max_participants, identity.page_bytes)
    identity.segment_bytes = identity.data_offset + identity.capacity
    memcpy(target, identity, sizeof(Identity))
    ring.n_groups = identity.max_groups
    ring.chunk = identity.capacity // CHUNKS
    ring.is_multi = not identity.flags & FLAG_SINGLE_PRODUCER
    layout_point(&ring, control)
    # Relaxed: nobody looks before the ready word.
    store_relaxed_u64(&ring.producers.tail, mark_pack(origin, 0) if ring.is_multi else origin)
    store_relaxed_u64(&ring.producers.reserve, origin)
    for number in range(BOUNDARIES):
        store_relaxed_u64(&ring.producers.boundaries[number].position, NONE)
    boundary_note(&ring, origin, origin, 0)
    for number in range(identity.max_participants):
        store_relaxed_u64(&ring.participants[number].intent_start, NONE)
        store_relaxed_u64(&ring.participants[number].hold, NONE)
    memcpy(ring.groups[0].name, b"default", 7)
    group_settle(&ring.groups[0], origin)
    # sync: ring-ready (release). Everything above is visible to who sees the ready word; pairs with (acquire) in layout_attach.
    store_release_u64(&target.ready, READY)


# ---- participants ------------------------------------------------------------------------------------------------


# Fill a free slot, or take over an orphan's with all that it claimed. The caller holds the slot's lock byte, which proves its
# life from now on, and gave `fields` the group, if any, and a head of lately. [join]
cdef inline void participant_enter(RingMap* ring, uint32_t number, const Slot* fields, uint64_t head) noexcept nogil:
    cdef Slot* slot = &ring.participants[number]
    cdef bint inherits = participant_is_orphan(slot)
    cdef int index
    # Relaxed: all of these, as they are published with the state.
    participant_set_role(slot, participant_role(fields))
    slot.pid = fields.pid
    slot.start_time = fields.start_time
    slot.pid_namespace = fields.pid_namespace
    memcpy(slot.boot_id, fields.boot_id, 16)
    slot.generation += 1
    participant_join(slot, load_relaxed_u32(&fields.group), head)
    store_relaxed_u64(&slot.messages, 0)
    store_relaxed_u64(&slot.bytes, 0)
    store_relaxed_u64(&slot.waits, 0)
    store_relaxed_u64(&slot.parks, 0)
    store_relaxed_u64(&slot.wakes, 0)
    store_relaxed_u64(&slot.repairs, 0)
    store_relaxed_u64(&slot.redelivered, 0)
    store_relaxed_u64(&slot.lost, 0)
    store_relaxed_u64(&slot.pondering, 0)
    store_relaxed_u64(&slot.moving, 0)
    store_relaxed_u64(&slot.stalls, 0)
    store_relaxed_u64(&slot.stalled_ns, 0)
    if not inherits:
        store_relaxed_u64(&slot.intent_start, NONE)
        store_relaxed_u64(&slot.hold, NONE)
        for index in range(CLAIMS):
            store_relaxed_u64(&slot.claims[index].start, NONE)
    if load_relaxed_u32(&ring.producers.slots_used) <= number:
        # sync: slots-used (release). A scan that sees a head of ours sees our hold; pairs with (acquire) in gate_scan.
        store_release_u32(&ring.producers.slots_used, number + 1)
    # sync: participant-ready (release). The fields are visible to who sees ACTIVE; pairs with (acquire) in participant_is_active.
    store_release_u32(&slot.state, SLOT_ACTIVE)


# [join]
cdef inline bint participant_is_active(const Slot* slot) noexcept nogil:
    # sync: participant-ready (acquire). The fields of an active slot are visible; pairs with (release) in participant_enter.
    # sync: slot-free (acquire). All of its last owner is gone; pairs with (release) in repair_free.
    return load_acquire_u32(&slot.state) == SLOT_ACTIVE


# Nobody has it, and nothing is left in it. [join]
cdef inline bint participant_is_free(const Slot* slot) noexcept nogil:
    # sync: slot-free (acquire). All of its last owner is gone; pairs with (release) in repair_free.
    return load_acquire_u32(&slot.state) == SLOT_FREE


# Its owner is gone, but what it claimed still gates. [orphans]
cdef inline bint participant_is_orphan(const Slot* slot) noexcept nogil:
    # sync: slot-orphan (acquire). Its claims are settled; pairs with (release) in repair_bury.
    return load_acquire_u32(&slot.state) == SLOT_ORPHAN


# A consumer's group, for notifiers, and the head from which on others grant. Relaxed: written before any bit of it is set, and
# before it claims. [join]
cdef inline void participant_join(Slot* slot, uint32_t group, uint64_t head) noexcept nogil:
    store_relaxed_u32(&slot.group, group)
    store_relaxed_u64(&slot.granted, mark_pack(head, group + 1))


# What it is. Relaxed: it changes under the registry lock only; without it, a snapshot (the slot may be another one's by now).
cdef inline uint32_t participant_role(const Slot* slot) noexcept nogil:
    return load_relaxed_u32(&slot.role)


# Relaxed: as participant_role.
cdef inline void participant_set_role(Slot* slot, uint32_t role) noexcept nogil:
    store_relaxed_u32(&slot.role, role)


# Relaxed: as participant_join.
cdef inline uint32_t participant_group(const Slot* slot) noexcept nogil:
    return load_relaxed_u32(&slot.group)


# The single producer's slot + 1, or 0. Relaxed: it changes under the registry lock only; without it, a snapshot.
cdef inline uint32_t participant_sole(const RingMap* ring) noexcept nogil:
    return load_relaxed_u32(&ring.producers.sole)


# Slot + 1 of the new one, or 0. Relaxed: as participant_sole.
cdef inline void participant_set_sole(RingMap* ring, uint32_t sole) noexcept nogil:
    store_relaxed_u32(&ring.producers.sole, sole)


# Statistics, without the lock: only the participant itself writes these words, and nobody concludes anything from them.
cdef inline void participant_note_waits(Slot* slot, uint64_t waits) noexcept nogil:
    store_relaxed_u64(&slot.waits, waits)


# Statistics: as participant_note_waits.
cdef inline void participant_note_parks(Slot* slot, uint64_t parks) noexcept nogil:
    store_relaxed_u64(&slot.parks, parks)


# Statistics: as participant_note_waits.
cdef inline void participant_note_wakes(Slot* slot, uint64_t wakes) noexcept nogil:
    store_relaxed_u64(&slot.wakes, wakes)


# Statistics: as participant_note_waits.
cdef inline void participant_note_stalls(Slot* slot, uint64_t stalls, uint64_t stalled_ns) noexcept nogil:
    store_relaxed_u64(&slot.stalls, stalls)
    store_relaxed_u64(&slot.stalled_ns, stalled_ns)


# Leave, without the lock and without a wait: my bits go, and the slot says that its owner left. Its roles mean nothing from
# here on, as participant_is_active is false; whoever next holds the lock frees it. Killed in between: dead, like any other. [leave]
cdef inline void participant_depart(RingMap* ring, uint32_t number) noexcept nogil:
    participant_clear_bits(ring, number)
    # sync: participant-left (release). Our last stores are visible to who takes the slot or the role; pairs with (acquire) in
    # participant_has_left.
    store_release_u32(&ring.participants[number].state, SLOT_LEFT)


# [leave]
cdef inline bint participant_has_left(const Slot* slot) noexcept nogil:
    # sync: participant-left (acquire). Its last stores are visible; pairs with (release) in participant_depart.
    return load_acquire_u32(&slot.state) == SLOT_LEFT


# [clear bits]
cdef inline void participant_clear_bits(RingMap* ring, uint32_t number) noexcept nogil:
    cdef uint64_t others = ~(<uint64_t> 1 << (number & 63))
    and_u64(&ring.data_bell.armed[number >> 6], others)
    and_u64(&ring.data_bell.parked[number >> 6], others)
    and_u64(&ring.room_bell.armed[number >> 6], others)
    and_u64(&ring.room_bell.parked[number >> 6], others)


# A producer attached: whoever died before it has a successor. With the lock held.
cdef inline void participant_count_producer(RingMap* ring) noexcept nogil:
    # Relaxed: both change under the registry lock only; without it, a snapshot.
    store_relaxed_u32(&ring.producers.producers_joined, load_relaxed_u32(&ring.producers.producers_joined) + 1)
    store_relaxed_u32(&ring.producers.missed_pid, 0)


# Is anybody attached as a producer? A dead one counts until it is found. For waiting threads too.
cdef inline bint participant_any_producer(const RingMap* ring) noexcept nogil:
    cdef uint32_t number
    for number in range(ring.n_participants):
        if participant_is_active(&ring.participants[number]) and participant_role(&ring.participants[number]) == ROLE_PRODUCER:
            return True
    return False


# Producers that ever attached. Relaxed: as participant_count_producer.
cdef inline uint32_t participant_producers_joined(const RingMap* ring) noexcept nogil:
    return load_relaxed_u32(&ring.producers.producers_joined)


# The pid of a producer that died without a successor, or 0. Relaxed: as participant_count_producer.
cdef inline uint32_t participant_missed(const RingMap* ring) noexcept nogil:
    return load_relaxed_u32(&ring.producers.missed_pid)


# Relaxed: as participant_count_producer.
cdef inline void participant_miss(RingMap* ring, uint32_t pid) noexcept nogil:
    store_relaxed_u32(&ring.producers.missed_pid, pid)


# ---- groups ------------------------------------------------------------------------------------------------------


# [lowest]
cdef inline uint32_t group_state(const RingMap* ring, uint32_t number) noexcept nogil:
    # sync: group-ready (acquire). Name and head are visible; pairs with (release) in group_begin and group_settle.
    # sync: group-gone (acquire). A free entry is free of its last user; pairs with (release) in group_end.
    return load_acquire_u32(&ring.groups[number].state)


# Members that belong to it. Relaxed: it changes under the registry lock only; without it, a snapshot.
cdef inline uint32_t group_members(const RingMap* ring, uint32_t number) noexcept nogil:
    return load_relaxed_u32(&ring.groups[number].members)


# Relaxed: as group_members.
cdef inline void group_set_members(RingMap* ring, uint32_t number, uint32_t members) noexcept nogil:
    store_relaxed_u32(&ring.groups[number].members, members)


# Participants that are members of group `number`, beside `except_for`; with the lock held.
cdef inline uint32_t group_count(const RingMap* ring, uint32_t number, uint32_t except_for) noexcept nogil:
    cdef uint32_t slot, count = 0
    for slot in range(ring.n_participants):
        count += slot != except_for and group_has_member(ring, number, slot)
    return count


# Is participant `slot` a member of the group? Without the lock, a snapshot.
cdef inline bint group_has_member(const RingMap* ring, uint32_t number, uint32_t slot) noexcept nogil:
    cdef const Slot* each = &ring.participants[slot]
    return participant_is_active(each) and participant_role(each) == ROLE_CONSUMER and participant_group(each) == number


cdef inline uint32_t group_flags(const RingMap* ring, uint32_t number) noexcept nogil:
    return ring.groups[number].flags


# The member that begins wants to be the only one, or not. With the lock held.
cdef inline void group_set_exclusive(RingMap* ring, uint32_t number, bint exclusive) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    group.flags = group.flags | GROUP_EXCLUSIVE if exclusive else group.flags & ~GROUP_EXCLUSIVE


# Relaxed: one member, or whoever holds the lock, writes it; the others take a snapshot. [join]
cdef inline uint64_t group_head_word(const RingMap* ring, uint32_t number) noexcept nogil:
    return load_relaxed_u64(&ring.groups[number].head)


# From now on members claim by exchange. Called by a member that is about to be one of several, after it entered. 0, or the
# negative errno with which the kernel refused the membarrier: then a member that does not exchange may not notice. [share]
cdef inline int group_share(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    # Relaxed: the membarrier makes it visible, to every running thread of who registered, before it returns; see sole.pxd.
    store_relaxed_u32(&group.attention, load_relaxed_u32(&group.attention) | SHARED)
    return membarrier()


# Every claim that began without an exchange has ended. With the lock held. [settled]
cdef inline void group_set_settled(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    # Relaxed: changes under the registry lock only.
    store_relaxed_u32(&group.attention, load_relaxed_u32(&group.attention) | SHARED | SETTLED)


# [settled]
cdef inline bint group_is_settled(const RingMap* ring, uint32_t number) noexcept nogil:
    # Relaxed: as group_members.
    return load_relaxed_u32(&ring.groups[number].attention) & SETTLED


# Nobody but the caller, who is about to begin, is a member: it may claim without exchanges.
cdef inline void group_unshare(RingMap* ring, uint32_t number) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    # Relaxed: nobody else looks.
    store_relaxed_u32(&group.attention, load_relaxed_u32(&group.attention) & ~(SHARED | SETTLED))


# A member of this group that is gone left claims for the others (or, if not waiting, somebody adopted the last of them). [orphans]
cdef inline void group_set_orphans(RingMap* ring, uint32_t number, bint waiting) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    cdef uint32_t attention = load_relaxed_u32(&group.attention)
    # Relaxed: changes under the registry lock only; members that see it late adopt late.
    store_relaxed_u32(&group.attention, attention | ORPHANS if waiting else attention & ~ORPHANS)


# May the participant be about to move the head by a plain store? Asked after group_share; see sole.pxd. [wait]
cdef inline bint group_is_being_claimed(const RingMap* ring, uint32_t number, uint32_t participant) noexcept nogil:
    cdef const Slot* slot = &ring.participants[participant]
    cdef uint64_t start, end, head
    # sync: moving (acquire). If it is done, the head is moved; pairs with (release) in sole_pass.
    if load_acquire_u64(&slot.moving):
        return True
    # sync: released (acquire). Nothing here rests on it but the order of the looks; pairs with (release) in claim_store_hold.
    if load_acquire_u64(&slot.hold) == NONE:
        return False
    # Relaxed: if it began before our membarrier, its stores are visible; if not, it sees SHARED.
    start = load_relaxed_u64(&slot.claims[0].start)
    end = load_relaxed_u64(&slot.claims[0].end)
    head = load_relaxed_u64(&ring.groups[number].head)
    if start == NONE or not end & TENTATIVE:
        return False
    end -= TENTATIVE
    if end - start - 1 >= ring.capacity or end - mark_position(head, end) > 2 * ring.capacity:
        return False                    # no claim that can succeed: damage, and not to be waited for
    return <int64_t> (mark_position(head, end) - end) < 0


# The lowest head of the settled groups other than `except_for`; tail if there are none. [lowest]
cdef inline uint64_t group_lowest_head(RingMap* ring, uint32_t except_for, uint64_t near) noexcept nogil:
    cdef uint64_t lowest = 0, head
    cdef bint found = False
    cdef uint32_t number
    for number in range(ring.n_groups):
        if number != except_for and group_state(ring, number) == GROUP_ACTIVE:
            # sync: claimed (acquire). A tail that is read later is not before this head, and what is read from there is what was
            # shown there; pairs with (release) in claim_move_head and sole_move_head.
            head = mark_position(load_acquire_u64(&ring.groups[number].head), near)
            if not found or <int64_t> (head - lowest) < 0:
                lowest = head
                found = True
    if found:
        return lowest
    return gate_tail(ring, near)


# Make a free entry a group that starts at the oldest record that any group has not claimed (or at tail if latest).
#
# A producer may be working with a gate G that it concluded before it saw this entry, and writes up to G + capacity. The place M
# where the group begins must not lie before G. gate_scan ends only when `moves` did not move, so all its looks came before our
# count, and ours at the heads (or at tail) come after it: heads only move on, so G <= M. [begin]
cdef inline void group_begin(RingMap* ring, uint32_t number, const char* name, uint32_t flags, bint latest,
                             uint64_t near) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    memset(group.name, 0, GROUP_NAME_BYTES)
    memcpy(group.name, name, GROUP_NAME_BYTES)
    group.generation += 1
    group.flags = flags
    # Relaxed: published with the state.
    store_relaxed_u32(&group.members, 0)
    store_relaxed_u32(&group.attention, 0)
    store_relaxed_u64(&group.head, mark_pack(group_lowest_head(ring, number, near), 0))
    # sync: group-ready (release). Name and head are visible to who sees that the entry gates; pairs with (acquire) in
    # gate_look_at_group.
    store_release_u32(&group.state, GROUP_JOINING)
    # sync: gate-count (release). The entry gates before it is counted; pairs with (acquire) in gate_scan.
    add_u32(&ring.producers.moves, 1)  # [count]
    # sync: gate-move (fence, mover). The entry gates and is counted before we look where the others are; pairs with (fence,
    # scanner) in gate_scan. Without it a producer that missed the entry could be ahead of the place we choose.
    fence_full()  # [count]
    group_settle(group, gate_tail(ring, near) if latest else group_lowest_head(ring, number, near))


# [settle]
cdef inline void group_settle(Group* group, uint64_t position) noexcept nogil:
    # Relaxed: published with the head.
    store_relaxed_u64(&group.repaired, 0)
    store_relaxed_u64(&group.redelivered, 0)
    store_relaxed_u64(&group.dropped, 0)
    store_relaxed_u64(&group.passed, 0)
    store_relaxed_u64(&group.head, mark_pack(position, 0))
    # sync: group-ready (release). The settled head comes with ACTIVE; pairs with (acquire) in gate_look_at_group and group_state.
    store_release_u32(&group.state, GROUP_ACTIVE)


# The entry stops gating. [end]
cdef inline void group_end(Group* group) noexcept nogil:
    # sync: group-gone (release). Whatever the last members read, and we looked up, was read before; pairs with (acquire) in
    # gate_look_at_group and group_state. Without it new bytes could be written under those reads.
    store_release_u32(&group.state, GROUP_FREE)


# Check what a group says of itself before anybody relies on it: head <= tail, within one capacity.
cdef inline int group_check(RingMap* ring, uint32_t number, uint64_t near, Fault* fault) noexcept nogil:
    cdef Group* group = &ring.groups[number]
    cdef uint64_t word, head = 0, tail = 0
    cdef int attempt
    for attempt in range(MOST_LOST):
        # sync: claimed (acquire). The tail, read next, is not before this head; pairs with (release) in claim_move_head and sole_move_head.
        word = load_acquire_u64(&group.head)
        head = mark_position(word, near)
        tail = gate_tail(ring, near)
        if tail - head <= ring.capacity and not (head + HEADER_BYTES) & (ring.align - 1):
            return OK
        # Relaxed: a comparison. If the head has moved meanwhile, it and that tail do not belong together.
        if load_relaxed_u64(&group.head) == word:
            break
    return layout_fault(fault, <uint64_t> (<char*> &group.head - ring.control), head, tail)
