"""What a ring looks like right now: `Ring.stats()`."""

import dataclasses

from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmring._core.futex cimport now_ns
from shmring._core.gate cimport gate_look_at_intent, gate_tail
from shmring._core.layout cimport NONE, OK, ROLE_CONSUMER, ROLE_OBSERVER, ROLE_PRODUCER, Fault, RingMap, Slot
from shmring._core.membership cimport participant_group, participant_is_active, participant_role
from shmring._core.record cimport record_look_stamped, record_span
from shmring._core.snapshot cimport (Counters, GroupSnapshot, snapshot_aborted, snapshot_counters, snapshot_group,
                                     snapshot_hold, snapshot_is_parked, snapshot_lag, snapshot_repairs, snapshot_tail)
from shmring.member cimport Member
from shmring.ring cimport Ring
from shmring.view cimport Loan

from shmring.snapshot import ConsumerStats, GroupStats, ParticipantStats, Pin, Stats

cdef enum:
    FEW = 4096                      # headers that a count which is to be cheap looks at: some 100 us when all are cache misses


def collect(Ring ring, bint exact=True):
    """A `Stats` of the ring. Each number is read once and may be old when it is returned; nothing is locked or waited for.

    Cost: a pass over the headers of what each group has not claimed; over few of them if it need not be exact.
    """
    ring.pin()
    try:
        ring.control.check()
        return read(ring, <uint64_t> -1 if exact else FEW)
    finally:
        ring.unpin()


def waiting(Ring ring, uint64_t most):
    """Messages that the first group of a ring of many producers has not claimed, counted up to `most` (a snapshot).

    Cost: a pass over their headers, some ns each.
    """
    cdef RingMap map
    cdef GroupSnapshot group
    cdef uint64_t position, length = 0, count = 0
    cdef Fault fault
    cdef int code
    ring.pin()
    try:
        ring.control.check()
        map = ring.map
        map.data = ring.data_mapping(False).address
        if not snapshot_group(&map, 0, &group) or group.tail - group.head > map.capacity:
            return 0
        position = group.head
        while position != group.tail and count < most:
            code = record_look_stamped(&map, position, &length, &fault)
            if code < 0 or record_span(length, map.align) > group.tail - position:
                break
            position += record_span(length, map.align)
            count += code == OK
        return count
    finally:
        ring.unpin()


cdef object read(Ring ring, uint64_t most_headers):
    cdef RingMap map = ring.map
    cdef uint64_t most = 0, hold, tail
    cdef uint32_t number
    map.data = ring.data_mapping(False).address
    groups = [read_group(ring, &map, number, most_headers) for number in range(map.n_groups)]
    groups = [group for group in groups if group is not None]
    for group in groups:
        most = max(most, group.lag_bytes)
    tail = snapshot_tail(&map)
    for number in range(map.n_participants):
        hold = snapshot_hold(&map.participants[number])
        if hold != NONE and tail - hold <= map.capacity:
            most = max(most, tail - hold)
    most = min(most, map.capacity)
    return Stats(
        name=ring.name,
        capacity=map.capacity,
        control_bytes=map.data_offset,
        used=most,
        fill=<double> most / <double> map.capacity,
        tail=tail,
        shutdown=ring.is_shutdown,
        repairs=snapshot_repairs(&map),
        aborted=snapshot_aborted(&map),
        groups=groups,
        participants=[read_participant(ring, &map, number, tail) for number in range(map.n_participants)
                      if participant_is_active(&map.participants[number])],
    )


def collect_consumer(Member consumer):
    """A `ConsumerStats`."""
    cdef Counters counters
    cdef uint64_t held = 0, tail
    cdef int64_t now
    cdef Loan loan
    consumer.check()
    now = now_ns()
    snapshot_counters(consumer.slot, &counters)
    pins = []
    loan = consumer.oldest_loan
    while loan is not None:
        if not loan.is_over():
            pins.append(Pin(position=loan.position, bytes=loan.size, seconds=(now - loan.since_ns) / 1e9,
                            is_open=not loan.has_ended, holder=loan.told()))
            tail = gate_tail(&consumer.reader.ring, loan.position)
            held = max(held, tail - loan.position)
        loan = loan.newer
    return ConsumerStats(
        group=consumer.group,
        messages=counters.messages,
        bytes=counters.bytes,
        waits=counters.waits,
        parks=counters.parks,
        wakes=counters.wakes,
        repairs=counters.repairs,
        redelivered=counters.redelivered,
        held_back=held,
        borrow_limit=consumer.borrow_limit,
        pins=pins,
    )


cdef object read_group(Ring ring, RingMap* map, uint32_t number, uint64_t most_headers):
    cdef GroupSnapshot group
    cdef uint64_t count = 0
    cdef bint is_exact
    if not snapshot_group(map, number, &group):
        return None
    is_exact = snapshot_lag(map, group.head, most_headers, &count)
    return GroupStats(
        name=ring.registry.group_name(number),
        lag=count,
        lag_is_exact=is_exact,
        lag_bytes=group.tail - group.head,
        head=group.head,
        members=[map.participants[slot].pid for slot in ring.registry.live_members(number)],
        repaired=group.repaired,
        redelivered=group.redelivered,
        dropped=group.dropped,
    )


cdef object read_participant(Ring ring, RingMap* map, uint32_t number, uint64_t tail):
    cdef Slot* slot = &ring.map.participants[number]
    cdef uint32_t group = participant_group(slot)
    cdef uint64_t hold = snapshot_hold(slot)
    cdef Counters counters
    snapshot_counters(slot, &counters)
    role = {ROLE_PRODUCER: "producer", ROLE_CONSUMER: "consumer", ROLE_OBSERVER: "observer"}.get(participant_role(slot), f"role {participant_role(slot)}")
    return ParticipantStats(
        slot=number,
        role=role,
        pid=slot.pid,
        group=ring.registry.group_name(group) if role == "consumer" and group < ring.map.n_groups else None,
        alive=ring.registry.is_alive(number),
        parked=snapshot_is_parked(map, number),
        held_bytes=tail - hold if hold != NONE and tail - hold <= map.capacity else 0,
        open_bytes=gate_look_at_intent(map, number, tail) if map.is_multi and role == "producer" else 0,
        messages=counters.messages,
        bytes=counters.bytes,
        waits=counters.waits,
        parks=counters.parks,
        wakes=counters.wakes,
        repairs=counters.repairs,
        redelivered=counters.redelivered,
        lost=counters.lost,
        stalls=counters.stalls,
        stalled_ns=counters.stalled_ns,
    )
