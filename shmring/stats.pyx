"""What a ring looks like right now: `Ring.stats()`."""

import dataclasses

from libc.stdint cimport uint32_t, uint64_t

from shmring._core.consume cimport consume_count
from shmring._core.layout cimport ROLE_CONSUMER, ROLE_PRODUCER, RingMap, Slot
from shmring._core.repair cimport participant_group, participant_is_active
from shmring._core.snapshot cimport Counters, GroupSnapshot, snapshot_counters, snapshot_group, snapshot_tail
from shmring.ring cimport Ring

from shmring.snapshot import GroupStats, ParticipantStats, Stats


def collect(Ring ring):
    """A `Stats` of the ring. Each number is read once and may be old when it is returned; nothing is locked or waited for."""
    cdef RingMap map = ring.map
    cdef uint64_t count, most = 0
    cdef uint32_t number
    cdef GroupSnapshot group
    cdef Counters counters
    cdef Slot* slot
    ring.pin()
    try:
        return read(ring)
    finally:
        ring.unpin()


cdef object read(Ring ring):
    cdef RingMap map = ring.map
    cdef uint64_t count, most = 0
    cdef uint32_t number
    cdef GroupSnapshot group
    cdef Counters counters
    cdef Slot* slot
    ring.control.check()
    map.data = ring.data_mapping(False).address
    groups = []
    for number in range(map.n_groups):
        if not snapshot_group(&map, number, &group):
            continue
        consume_count(&map, group.head, &count)
        most = max(most, min(group.tail - group.head, map.capacity))
        alive = group.member and ring.registry.is_alive(group.member - 1)
        groups.append(GroupStats(
            name=ring.registry.group_name(number),
            lag=count,
            lag_bytes=group.tail - group.head,
            head=group.head,
            member=map.participants[group.member - 1].pid if alive else None,
            repaired=group.repaired,
        ))
    participants = []
    for number in range(map.n_participants):
        slot = &map.participants[number]
        if not participant_is_active(slot):
            continue
        role = {ROLE_PRODUCER: "producer", ROLE_CONSUMER: "consumer"}.get(slot.role, f"role {slot.role}")
        snapshot_counters(slot, &counters)
        group_number = participant_group(slot)
        participants.append(ParticipantStats(
            slot=number,
            role=role,
            pid=slot.pid,
            group=ring.registry.group_name(group_number) if role == "consumer" and group_number < map.n_groups else None,
            alive=ring.registry.is_alive(number),
            messages=counters.messages,
            bytes=counters.bytes,
            waits=counters.waits,
            parks=counters.parks,
            wakes=counters.wakes,
        ))
    return Stats(
        name=ring.name,
        capacity=map.capacity,
        control_bytes=map.data_offset,
        used=most,
        fill=<double> most / <double> map.capacity,
        tail=snapshot_tail(&map),
        shutdown=ring.is_shutdown,
        groups=groups,
        participants=participants,
    )
