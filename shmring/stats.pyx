"""What a ring looks like right now: `Ring.stats()`."""

import dataclasses

from libc.stdint cimport uint32_t, uint64_t

from shmring._core.atomic cimport load_acquire_u32, load_acquire_u64, load_relaxed_u32, load_relaxed_u64
from shmring._core.consume cimport consume_count
from shmring._core.layout cimport GROUP_ACTIVE, ROLE_CONSUMER, ROLE_PRODUCER, Group, RingMap, Slot
from shmring._core.repair cimport participant_is_active
from shmring.ring cimport Ring

from shmring.snapshot import GroupStats, ParticipantStats, Stats


def collect(Ring ring):
    """A `Stats` of the ring. Each number is read once and may be old when it is returned; nothing is locked or waited for."""
    cdef RingMap map = ring.map
    cdef uint64_t head, tail, count, most = 0
    cdef uint32_t number, member
    cdef Group* group
    cdef Slot* slot
    ring.check_open()
    ring.control.check()
    map.data = ring.data_mapping(False).address
    groups = []
    for number in range(map.n_groups):
        group = &map.groups[number]
        if load_acquire_u32(&group.state) != GROUP_ACTIVE:
            continue
        head = load_acquire_u64(&group.head)
        tail = load_acquire_u64(&map.producers.tail)        # after head, so never before it
        consume_count(&map, head, &count)
        most = max(most, min(tail - head, map.capacity))
        member = load_relaxed_u32(&group.member)
        alive = member and ring.is_alive(member - 1)
        groups.append(GroupStats(
            name=ring.group_name(number),
            lag=count,
            lag_bytes=tail - head,
            head=head,
            member=map.participants[member - 1].pid if alive else None,
            repaired=load_relaxed_u64(&group.repaired),
        ))
    participants = []
    for number in range(map.n_participants):
        slot = &map.participants[number]
        if not participant_is_active(slot):
            continue
        role = {ROLE_PRODUCER: "producer", ROLE_CONSUMER: "consumer"}.get(slot.role, f"role {slot.role}")
        group_number = load_relaxed_u32(&slot.group)
        participants.append(ParticipantStats(
            slot=number,
            role=role,
            pid=slot.pid,
            group=ring.group_name(group_number) if role == "consumer" and group_number < map.n_groups else None,
            alive=ring.is_alive(number),
            messages=load_relaxed_u64(&slot.messages),
            bytes=load_relaxed_u64(&slot.bytes),
            waits=load_relaxed_u64(&slot.waits),
            parks=load_relaxed_u64(&slot.parks),
            wakes=load_relaxed_u64(&slot.wakes),
        ))
    return Stats(
        name=ring.name,
        capacity=map.capacity,
        control_bytes=map.data_offset,
        used=most,
        fill=<double> most / <double> map.capacity,
        tail=load_acquire_u64(&map.producers.tail),
        shutdown=ring.is_shutdown,
        groups=groups,
        participants=participants,
    )
