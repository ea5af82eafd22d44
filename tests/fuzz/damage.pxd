# Every way to damage the bytes of a ring: where, with what, how wide. An input says which.
#
# Places are any byte, or (more often) a word that means something; values are any, or ones that could nearly be right: a bit
# changed, a copy of another word, a position near the tail, a marked word, the stamp of a record that is not there.
from libc.stdint cimport int16_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from shmring._core.atomic cimport load_relaxed_u64, u64
from shmring._core.layout cimport (ABORTED, BOUNDARIES, CLAIMS, COMMITTED, NONE, Bell, ClaimedRange, Group, Header, Identity,
                                   Producers, Slot, layout_data_offset, layout_participants_offset, mark_pack,
                                   mark_position)
from world cimport CAPACITY, GROUPS, PAGE, Input, World, pick, take


# Where positions are now, damaged or not.
cdef inline uint64_t damage_near(const World* world) noexcept nogil:
    cdef uint64_t tail = load_relaxed_u64(&world.map.producers.tail)
    return mark_position(tail, load_relaxed_u64(&world.map.producers.reserve)) if world.map.is_multi else tail


# A position that somebody may look at.
cdef inline uint64_t damage_position(const World* world, Input* input) noexcept nogil:
    cdef uint32_t which = pick(input, 4)
    if which == 0:
        return damage_near(world)
    if which == 1:
        return mark_position(load_relaxed_u64(&world.map.groups[pick(input, GROUPS)].head), damage_near(world))
    if which == 2:
        return world.readers[pick(input, 3)].cursor
    return damage_near(world) + 16 * <uint64_t> <int16_t> take(input, 2)


# The byte to change, and in `width` how many are a word there.
cdef inline char* damage_place(const World* world, Input* input, int* width) noexcept nogil:
    cdef Producers* producers = world.map.producers
    cdef Group* group = &world.map.groups[pick(input, GROUPS)]
    cdef Slot* slot = &world.map.participants[pick(input, 8) % world.map.n_participants]
    cdef ClaimedRange* claim
    cdef Header* header
    cdef uint32_t kind = pick(input, 12), field = pick(input, 16)
    cdef Bell* bell
    width[0] = 8
    if kind == 0:
        width[0] = 1 << pick(input, 4)
        return world.control + take(input, 2) % (world.control_bytes - 8)
    if kind == 1:
        width[0] = 1 << pick(input, 4)
        return world.data + take(input, 2) % (CAPACITY - 8)
    if kind == 2:
        if field < 9:
            return <char*> &producers.tail if field < 4 else <char*> &producers.number if field < 5 else <char*> &producers.reserve
        width[0] = 4
        return (<char*> &producers.shutdown if field == 9 else <char*> &producers.sole if field == 10 else
                <char*> &producers.moves if field == 11 else <char*> &producers.slots_used if field < 14 else
                <char*> &producers.missed_pid)
    if kind == 3:
        return <char*> &producers.boundaries[pick(input, BOUNDARIES)] + (8 if field == 0 else 0)
    if kind == 4:
        if field < 6:
            return <char*> &group.head
        if field == 6:
            return group.name + pick(input, 56)
        width[0] = 4
        return (<char*> &group.state if field < 9 else <char*> &group.flags if field < 11 else
                <char*> &group.attention if field < 14 else <char*> &group.members)
    if kind < 7:
        if field < 7:
            return (<char*> &slot.granted if field == 0 else <char*> &slot.intent_start if field < 3 else
                    <char*> &slot.intent if field < 4 else <char*> &slot.hold if field < 6 else <char*> &slot.awaited)
        if field < 12:
            claim = &slot.claims[pick(input, CLAIMS) if field > 8 else 0]
            return <char*> &claim.start if field & 1 else <char*> &claim.end
        if field == 12:
            return <char*> &slot.pondering
        width[0] = 4
        return <char*> &slot.state if field == 13 else <char*> &slot.role if field == 14 else <char*> &slot.group
    if kind == 7:
        bell = world.map.data_bell if field & 1 else world.map.room_bell
        return <char*> bell + 8 * (pick(input, 4) % 2 + (16 if field & 2 else 0))
    if kind == 8:
        width[0] = 4 if field & 1 else 8
        return world.control + (take(input, 1) & 0x7c if field & 1 else take(input, 1) & 0x78)
    header = <Header*> (world.data + (damage_position(world, input) & (CAPACITY - 1) & ~<uint64_t> 15))
    if field < 8:
        return <char*> &header.stamp
    width[0] = 4 if field < 13 else 2
    return <char*> &header.length if field < 13 else <char*> &header.participant if field < 15 else <char*> &header.previous


# What to put there instead of `old`.
cdef inline uint64_t damage_value(const World* world, Input* input, uint64_t old) noexcept nogil:
    cdef uint32_t kind = pick(input, 16)
    cdef uint64_t position = damage_position(world, input)
    if kind == 0:
        return take(input, 8)
    if kind == 1:
        return 0
    if kind == 2:
        return NONE
    if kind == 3:
        return old ^ (<uint64_t> 1 << pick(input, 64))
    if kind == 4:
        return old + <uint64_t> <int16_t> take(input, 2)
    if kind == 5:
        memcpy(&old, world.control + take(input, 2) % (world.control_bytes - 8), 8)
        return old
    if kind == 6:
        return position
    if kind == 7:
        return mark_pack(position, pick(input, 8))
    if kind == 8:
        return position + <uint64_t> CAPACITY * <uint64_t> (<int16_t> pick(input, 8) - 4)
    if kind == 9:
        return (position | (COMMITTED if pick(input, 2) else ABORTED)) ^ world.map.cookie
    if kind == 10:
        return old ^ 1
    if kind == 11:
        return <uint64_t> 1 << pick(input, 64)
    if kind == 12:                                                          # an intent
        return take(input, 2) << 32 | <uint64_t> pick(input, 8) << 16 | pick(input, 8)
    if kind == 13:
        return pick(input, 8)
    if kind == 14:
        return ~<uint64_t> 0 << pick(input, 64)
    return take(input, 2) * 16


# Another geometry, whose numbers agree with each other, and perhaps with the segment; then perhaps one of them is changed.
cdef inline void damage_identity(World* world, Input* input) noexcept nogil:
    cdef Identity* identity = <Identity*> world.control
    identity.max_groups = 1 + pick(input, 3) if pick(input, 4) else <uint32_t> take(input, 4)
    identity.max_participants = 1 + pick(input, 80) if pick(input, 4) else <uint32_t> take(input, 4)
    identity.page_bytes = <uint32_t> 1 << 10 + pick(input, 6)
    identity.capacity = <uint64_t> 1 << 10 + pick(input, 4) if pick(input, 4) else <uint64_t> 1 << pick(input, 64)
    identity.participants_offset = layout_participants_offset(identity.max_groups)
    identity.data_offset = layout_data_offset(identity.max_groups, identity.max_participants, identity.page_bytes)
    identity.segment_bytes = identity.data_offset + identity.capacity


# Change something: a word, a run of bytes, or a record that is forged well.
cdef inline void damage_once(World* world, Input* input) noexcept nogil:
    cdef uint32_t how = pick(input, 16)
    cdef uint64_t position, value = 0, at
    cdef Header header
    cdef char* place
    cdef int width = 8
    if how == 0:                                                            # a run of one byte, or of others
        place = world.control if pick(input, 2) else world.data
        at = take(input, 2) % (CAPACITY - 256)
        if pick(input, 2):
            memset(place + at, <int> take(input, 1), take(input, 1))
        else:
            memmove(place + at, world.control + PAGE + take(input, 2) % CAPACITY, take(input, 1))
        return
    if how == 2:
        damage_identity(world, input)
        return
    if how == 1:                                                            # a forged record
        position = damage_position(world, input)
        memset(&header, 0, sizeof(header))
        value = (position | (ABORTED if pick(input, 2) else COMMITTED)) ^ world.map.cookie
        memcpy(&header.stamp, &value, 8)
        value = take(input, 2) % 4200 if pick(input, 4) else take(input, 4)
        memcpy(&header.length, &value, 4)
        value = take(input, 1)
        memcpy(&header.participant, &value, 2)
        value = pick(input, 8)
        memcpy(&header.previous, &value, 2)
        memcpy(world.data + (position & (CAPACITY - 1)), &header, sizeof(header))   # it may lie across the seam
        return
    place = damage_place(world, input, &width)
    memcpy(&value, place, width)
    value = damage_value(world, input, value)
    memcpy(place, &value, width)
