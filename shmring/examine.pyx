"""Is a ring sound? Every word that can have an impossible value is looked at, and what the dead left is named.

Reads only. Others may change the ring meanwhile, so what is found counts if it is found `LOOKS` times in a row.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from shmring._core.examine cimport (examine_bell, examine_boundary, examine_group, examine_owner, examine_producers, examine_records,
                                    examine_slot)
from shmring._core.futex cimport byte_is_locked
from shmring._core.gate cimport gate_scan
from shmring._core.layout cimport (BOUNDARIES, CONTENT_BYTES, EMPTY, FLAG_SINGLE_PRODUCER, GROUP_ACTIVE, GROUP_JOINING, LAYOUT_VERSION,
                                   LOCK_REGISTRY, MAGIC, MAX_CAPACITY, MAX_GROUPS, MAX_PARTICIPANTS, MIN_CAPACITY, OK, READY, SIGNATURE,
                                   Fault, Identity, RingMap, layout_data_offset, layout_participants_offset)
from shmring._core.membership cimport group_state, participant_group, participant_is_active, participant_is_orphan
from shmring._core.snapshot cimport snapshot_tail
from shmring.ring cimport Ring

from shmring.snapshot import Finding

cdef enum:
    LOOKS = 3
    SLICE = 1 << 16                 # records between two looks at signals
    CONTENT_OFFSET = 128            # of what the ring says of its messages

IDENTITY_BYTES = sizeof(Identity)


def examine_identity(bytes page, uint64_t segment_bytes):
    """What is wrong with an identity page: every field that does not fit.

    Parameters
    ----------
    page : bytes
        The first IDENTITY_BYTES bytes of the segment, or fewer if it has not as many.
    segment_bytes : int
        Size of the whole segment.

    Returns
    -------
    list of Finding
    """
    cdef Identity identity
    cdef uint64_t needed = 0
    cdef list found = []

    def wrong(uint64_t offset, str what):
        found.append(Finding("damaged", offset, what))

    if len(page) < <Py_ssize_t> sizeof(Identity):
        wrong(segment_bytes, f"it has {segment_bytes} bytes, and a ring's first page alone has {sizeof(Identity)}")
        return found
    memcpy(&identity, PyBytes_AS_STRING(page), sizeof(Identity))
    if identity.magic != MAGIC:
        wrong(0, f"it begins with {identity.magic:#018x}, a ring with {<uint64_t> MAGIC:#018x}")
    if (<uint64_t*> PyBytes_AS_STRING(page))[2] != READY:
        wrong(16, "it was never finished by whoever made it" if (<uint64_t*> PyBytes_AS_STRING(page))[2] == 0 else
                  f"its ready word is {(<uint64_t*> PyBytes_AS_STRING(page))[2]:#x}")
    if identity.layout_version != LAYOUT_VERSION:
        wrong(8, f"its layout has version {identity.layout_version}, this shmring reads version {<uint32_t> LAYOUT_VERSION}")
        return found                # nothing else is where we would look for it
    if identity.signature != SIGNATURE:
        wrong(12, f"its layout has signature {identity.signature:#x}, that of this shmring is {<uint32_t> SIGNATURE:#x}")
    if not MIN_CAPACITY <= identity.capacity <= MAX_CAPACITY or identity.capacity & (identity.capacity - 1):
        wrong(24, f"its capacity is {identity.capacity}, which is no power of two from {<uint64_t> MIN_CAPACITY} to "
                  f"{<uint64_t> MAX_CAPACITY}")
    if identity.cookie & 15:
        wrong(32, f"its cookie {identity.cookie:#x} is no multiple of 16")
    if identity.align not in (16, 64):
        wrong(40, f"its payloads are aligned to {identity.align} bytes, not to 16 or 64")
    if identity.flags & ~<uint32_t> FLAG_SINGLE_PRODUCER:
        wrong(44, f"it has flags {identity.flags:#x}, some of which are not known")
    if not 1 <= identity.max_participants <= MAX_PARTICIPANTS:
        wrong(48, f"it has room for {identity.max_participants} participants, not for 1 to {<uint32_t> MAX_PARTICIPANTS}")
    if not 1 <= identity.max_groups <= MAX_GROUPS:
        wrong(52, f"it has room for {identity.max_groups} groups, not for 1 to {<uint32_t> MAX_GROUPS}")
    elif identity.participants_offset != layout_participants_offset(identity.max_groups):
        wrong(56, f"its participants are at {identity.participants_offset}, not at {layout_participants_offset(identity.max_groups)}")
    if identity.page_bytes < 4096 or identity.page_bytes > 1 << 20 or identity.page_bytes & (identity.page_bytes - 1):
        wrong(124, f"it was made with pages of {identity.page_bytes} bytes")
    elif 1 <= identity.max_groups <= MAX_GROUPS and 1 <= identity.max_participants <= MAX_PARTICIPANTS:
        needed = layout_data_offset(identity.max_groups, identity.max_participants, identity.page_bytes)
        if identity.data_offset != needed:
            wrong(64, f"its messages begin at {identity.data_offset}, not at {needed}")
        if identity.segment_bytes != needed + identity.capacity:
            wrong(72, f"it says that it has {identity.segment_bytes} bytes, not {needed + identity.capacity}")
        if needed + identity.capacity > segment_bytes and not identity.capacity > MAX_CAPACITY:
            wrong(segment_bytes, f"it was cut: it has {segment_bytes} of {needed + identity.capacity} bytes")
    raw = page[CONTENT_OFFSET:CONTENT_OFFSET + CONTENT_BYTES].partition(b"\0")
    try:
        raw[0].decode()
    except UnicodeDecodeError:
        wrong(CONTENT_OFFSET, f"what it says of its messages is no UTF-8: {raw[0][:40]!r}")
    if not raw[1]:
        wrong(CONTENT_OFFSET, "what it says of its messages has no end")
    return found


def identity_of(Ring ring):
    """What stands in a ring's identity page beside what `Ring` tells: a dict for JSON."""
    cdef Identity* identity
    ring.pin()
    try:
        identity = <Identity*> ring.map.control
        return {
            "layout_version": identity.layout_version,
            "segment_bytes": identity.segment_bytes,
            "page_bytes": identity.page_bytes,
            "creator_pid": identity.creator_pid,
            "created_ns": identity.created_ns,
            "boot_id": bytes(identity.boot_id[:16]).hex(),
        }
    finally:
        ring.unpin()


def examine(Ring ring):
    """What is wrong with an attached ring.

    Returns
    -------
    list of Finding
        kind "damaged": an impossible value, at `offset` of the segment. "dead": what somebody left who died; repair() frees it.
        "orphaned": messages of a dead member that wait for the next member of its group.

    Concurrency: anybody may use the ring meanwhile. Cost: a pass over all its headers, more than once.
    """
    cdef list found = look(ring), again
    cdef int number
    for number in range(LOOKS - 1):
        if not found:
            break
        before = {(each.kind, each.offset) for each in found}
        again = look(ring)
        found = [each for each in again if (each.kind, each.offset) in before]
    return found


cdef list look(Ring ring):
    cdef RingMap map = ring.map
    cdef list found = []
    ring.pin()
    try:
        ring.control.check()
        map.data = ring.data_mapping(False).address
        look_at_tables(&map, found)
        look_at_the_dead(ring, &map, found)
        look_at_records(ring, &map, found)
        ring.control.check()
        return found
    finally:
        ring.unpin()


cdef enter(list found, const char* what, Fault* fault):
    text = what.decode()
    found.append(Finding("damaged", fault.offset, f"{text}: the word at {fault.offset:#x} is {fault.value:#x}, and should agree with "
                                                  f"{fault.limit:#x}"))


cdef look_at_tables(RingMap* map, list found):
    cdef Fault fault
    cdef uint64_t tail = snapshot_tail(map)
    cdef uint32_t number
    cdef dict names = {}
    if examine_producers(map, tail, &fault) != OK:
        enter(found, b"what the producers share", &fault)
    if examine_bell(map, map.data_bell, &fault) != OK:
        enter(found, b"who waits for messages", &fault)
    if examine_bell(map, map.room_bell, &fault) != OK:
        enter(found, b"who waits for room", &fault)
    for number in range(BOUNDARIES):
        if examine_boundary(map, number, tail, &fault) != OK:
            enter(found, b"the places for observers", &fault)
    for number in range(map.n_groups):
        if examine_group(map, number, tail, &fault) != OK:
            enter(found, f"group {number}".encode(), &fault)
        if group_state(map, number) == GROUP_ACTIVE:
            look_at_name(map, number, names, found)
    for number in range(map.n_participants):
        if examine_slot(map, number, tail, &fault) != OK:
            enter(found, f"participant {number}".encode(), &fault)


cdef look_at_name(RingMap* map, uint32_t number, dict names, list found):
    cdef char* name = map.groups[number].name
    cdef uint64_t offset = <uint64_t> (name - map.control)
    raw = (<bytes> name[:64]).partition(b"\0")[0]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        found.append(Finding("damaged", offset, f"group {number}: its name {raw!r} is no UTF-8"))
        return
    if not text:
        found.append(Finding("damaged", offset, f"group {number} has no name"))
    elif text in names:
        found.append(Finding("damaged", offset, f"groups {names[text]} and {number} are both called {text!r}"))
    names[text] = number


cdef look_at_the_dead(Ring ring, RingMap* map, list found):
    cdef uint32_t number
    for number in range(map.n_groups):
        if group_state(map, number) == GROUP_JOINING and byte_is_locked(ring.fd, LOCK_REGISTRY) == 0:
            found.append(Finding("dead", <uint64_t> (<char*> &map.groups[number] - map.control),
                                 f"group {number} is half made, by somebody who died; it holds the producers back"))
    for number in range(map.n_participants):
        offset = <uint64_t> (<char*> &map.participants[number] - map.control)
        group = participant_group(&map.participants[number])
        if participant_is_active(&map.participants[number]) and not ring.registry.is_alive(number):
            found.append(Finding("dead", offset, f"{ring.registry.describe_holding(number)} is dead, and still has slot {number}"))
        elif participant_is_orphan(&map.participants[number]):
            whose = ring.registry.group_name(group) if group < map.n_groups else f"number {group}"
            found.append(Finding("orphaned", offset, f"messages that a dead member of group {whose!r} had (slot {number}) wait for the "
                                                     f"next member"))


cdef look_at_records(Ring ring, RingMap* map, list found):
    """From the lowest position that anybody needs to the tail."""
    cdef Fault fault
    cdef uint64_t tail = snapshot_tail(map)
    cdef uint64_t position = 0, end = 0, gate = 0
    cdef int code, owner
    if gate_scan(map, tail, tail, &gate, &fault) != OK:
        return                          # a group's head is damaged, and was named
    position = gate
    while position != tail:
        with nogil:
            code = examine_records(map, &position, tail, SLICE, &fault)
        PyErr_CheckSignals()
        if code == OK:
            continue
        # Nobody may need it any more, and producers write over it.
        if gate_scan(map, tail, tail, &gate, &fault) == OK and <uint64_t> (position - gate) > map.capacity:
            position = gate
            continue
        if code == EMPTY:
            owner = examine_owner(map, position, &end)
            if owner >= 0 and participant_is_active(&map.participants[owner]) and tail - end <= tail - position:
                position = end          # it is being written; a dead one was named
                continue
            found.append(Finding("damaged", map.data_offset + (position & map.mask),
                                 f"the message at position {position} was reserved by nobody, and never comes"))
            return
        enter(found, f"the message at position {position}".encode(), &fault)
        return                          # without its length the next one cannot be found
