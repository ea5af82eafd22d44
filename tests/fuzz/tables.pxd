# What is done to the tables, as registry.pyx and stats.pyx do it: joining, leaving, repair, groups, statistics, opening.
#
# Who is dead is decided by the input: the evidence is the kernel's, and tests/faults/test_deaths.py is about it.
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.string cimport memset

from shmring._core.doorbell cimport bell_park, bell_ring, bell_unpark, doorbell_ring_all
from shmring._core.gate cimport gate_scan, gate_tail
from shmring._core.layout cimport (Fault, GROUP_ACTIVE, GROUP_EPHEMERAL, GROUP_FREE, OK, ROLE_CONSUMER, ROLE_OBSERVER, ROLE_PRODUCER,
                                   RingMap, Slot, layout_attach, mark_position)
from shmring._core.membership cimport (group_begin, group_check, group_count, group_end, group_flags, group_head_word,
                                       group_is_being_claimed, group_is_settled, group_members, group_set_members, group_set_orphans,
                                       group_set_settled, group_share, group_state, group_unshare, participant_any_producer,
                                       participant_count_producer, participant_depart, participant_enter, participant_group,
                                       participant_has_left, participant_is_active, participant_is_free, participant_is_orphan,
                                       participant_join, participant_set_role, participant_set_sole)
from shmring._core.repair cimport adopt_own, repair_bury, repair_free, repair_gap_has_owner, repair_note
from shmring._core.reserve cimport reserve_lately, reserve_nothing_comes
from shmring._core.shutdown cimport shutdown_begin, shutdown_has_begun
from shmring._core.snapshot cimport (Counters, GroupSnapshot, snapshot_counters, snapshot_group, snapshot_hold, snapshot_lag,
                                     snapshot_tail)
from acts cimport act_join_reader, act_join_watcher, act_join_writer, check
from world cimport CAPACITY, GROUPS, Input, World, pick, take, world_view


# Registry.repair: bury who left, and whoever of the others the input says is dead.
cdef inline void table_repair(World* world, uint64_t dead) noexcept nogil:
    cdef RingMap* map = &world.map
    cdef uint64_t missing = 0
    cdef uint32_t number, group
    for number in range(map.n_participants):
        group = participant_group(&map.participants[number])
        if participant_has_left(&map.participants[number]):
            repair_bury(map, number, False, &missing)
        elif participant_is_active(&map.participants[number]):
            if dead >> (number & 63) & 1:
                repair_bury(map, number, True, &missing)
                repair_note(map, number, &map.participants[number])
        elif participant_is_orphan(&map.participants[number]):
            if group < map.n_groups and group_state(map, group) == GROUP_ACTIVE:
                group_set_orphans(map, group, True)
            else:
                repair_free(map, number)
    for number in range(map.n_groups):
        if group_state(map, number) == GROUP_ACTIVE:
            group_set_members(map, number, group_count(map, number, 0xffffffff))
            if group_flags(map, number) & GROUP_EPHEMERAL and not group_members(map, number):
                table_end_group(world, number)
    doorbell_ring_all(map)


cdef inline void table_end_group(World* world, uint32_t group) noexcept nogil:
    cdef RingMap* map = &world.map
    cdef uint32_t slot
    group_end(&map.groups[group])
    for slot in range(map.n_participants):
        if participant_is_orphan(&map.participants[slot]) and participant_group(&map.participants[slot]) == group:
            repair_free(map, slot)


# Participant `number` takes its slot and its role anew; `joined` is an orphan's slot taken over with what it claimed.
cdef inline void table_join(World* world, uint32_t number, bint latest) noexcept nogil:
    cdef RingMap* map = &world.map
    cdef RingMap view
    cdef Slot fields
    cdef Fault fault
    cdef uint32_t group = 0xffffffff, others
    cdef uint32_t role = ROLE_PRODUCER if number < 2 else ROLE_CONSUMER if number < 5 else ROLE_OBSERVER
    cdef uint64_t head = 0
    cdef char name[64]
    cdef bint inherits = participant_is_orphan(&map.participants[number])
    memset(name, 0, sizeof(name))
    memset(name, c'f', 4)
    memset(&fields, 0, sizeof(Slot))
    participant_set_role(&fields, role)
    fields.pid = 1000 + number
    if role == ROLE_CONSUMER:
        group = (number - 2) // 2
        if group_state(map, group) == GROUP_FREE:
            group_begin(map, group, name, 0, latest, reserve_lately(map))
        if group_check(map, group, reserve_lately(map), &fault) != OK:
            return
        head = mark_position(group_head_word(map, group), reserve_lately(map))
    participant_join(&fields, group, head)
    participant_enter(map, number, &fields, head)
    if number < 2:
        world_view(world, &view, True, True)
        act_join_writer(world, number, view)
        if not map.is_multi:
            participant_set_sole(map, number + 1)
        participant_count_producer(map)
    elif number < 5:
        others = group_count(map, group, number)
        if others and not group_is_settled(map, group):
            group_share(map, group)
            group_set_settled(map, group)
        elif not others:
            group_unshare(map, group)
        group_set_members(map, group, others + 1)
        world_view(world, &view, False, True)
        act_join_reader(world, number - 2, view, reserve_lately(map))
        if inherits:
            adopt_own(&world.readers[number - 2])
    else:
        world_view(world, &view, False, True)
        act_join_watcher(world, 0, view, latest)


# Ring._attach: whatever the identity page says, what comes of it lies inside of the segment.
cdef inline void table_open(World* world) noexcept nogil:
    cdef RingMap map
    cdef Fault fault
    cdef uint64_t bytes = world.control_bytes + CAPACITY
    memset(&map, 0, sizeof(RingMap))
    if layout_attach(&map, world.control_seen, bytes, &fault) != OK:
        return
    # What _attach does next: it maps so much, and points into it.
    check(map.data_offset <= bytes and map.capacity <= bytes - map.data_offset)
    check(<char*> &map.participants[map.n_participants] <= world.control_seen + map.data_offset)
    check(<char*> &map.groups[map.n_groups] <= <char*> map.participants)
    check(map.mask == map.capacity - 16 and map.n_bell_words <= 16 and (map.align == 16 or map.align == 64))


# Ring.stats, and the texts that tell who is in the way.
cdef inline void table_stats(World* world) noexcept nogil:
    cdef GroupSnapshot group
    cdef Counters counters
    cdef uint64_t count = 0
    cdef uint32_t number
    for number in range(world.map.n_groups):
        if snapshot_group(&world.map, number, &group):
            snapshot_lag(&world.map, group.head, UINT64_MAX, &count)
            check(count <= CAPACITY // 16)
    snapshot_tail(&world.map)
    for number in range(world.map.n_participants):
        snapshot_hold(&world.map.participants[number])
        snapshot_counters(&world.map.participants[number], &counters)


cdef inline void act_tables(World* world, Input* input) noexcept nogil:
    cdef RingMap* map = &world.map
    cdef uint32_t what = pick(input, 16), number = pick(input, 6)
    cdef uint64_t gate = 0, tail
    cdef Fault fault
    if what < 3:
        table_repair(world, 1 << number if what else 0)
    elif what == 3:
        table_repair(world, take(input, 1))
    elif what < 6:
        table_join(world, number, what == 5)
    elif what == 6:
        participant_depart(map, number)
    elif what == 7:
        table_end_group(world, number % GROUPS)
    elif what == 8:
        shutdown_begin(map)
    elif what == 9:
        table_open(world)
    elif what == 10:
        table_stats(world)
    elif what == 11:
        tail = gate_tail(map, reserve_lately(map))
        if gate_scan(map, tail, tail, &gate, &fault) == OK:
            check(tail - gate <= map.capacity)
    elif what == 12:
        group_check(map, number % GROUPS, reserve_lately(map), &fault)
        group_is_being_claimed(map, number % GROUPS, number)
    elif what == 13:
        shutdown_has_begun(map)
        participant_any_producer(map)
        reserve_nothing_comes(map, gate_tail(map, reserve_lately(map)) - 16 * take(input, 1))
        repair_gap_has_owner(map, gate_tail(map, reserve_lately(map)) - 16 * take(input, 1))
    elif what == 14:
        bell_park(map.data_bell if number > 1 else map.room_bell, number)
    else:
        bell_unpark(map.data_bell if number > 1 else map.room_bell, number)
        bell_ring(&map.groups[number % GROUPS].sequence, 1)
