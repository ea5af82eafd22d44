"""The tables of groups and participants: who is there, who lives, and burying the dead.

Invariant: only who holds the lock (table_lock.pyx) writes the tables (the functions of _core/membership.pxd and repair.pxd). Whatever a
holder that died left half done is done again or undone by the next.
"""

import errno
import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.futex cimport byte_is_locked, is_confined_to
from shmring._core.gate cimport gate_look_at_intent
from shmring._core.layout cimport (GROUP_ACTIVE, GROUP_DROP, GROUP_EPHEMERAL, GROUP_EXCLUSIVE, GROUP_FREE, GROUP_JOINING, GROUP_NAME_BYTES,
                                   LOCK_PARTICIPANT, NONE, ROLE_CONSUMER, ROLE_OBSERVER, ROLE_PRODUCER, Fault, OK, RingMap, Slot)
from shmring._core.membership cimport (
    group_begin, group_check, group_count, group_end, group_flags, group_has_member, group_is_being_claimed, group_is_settled,
    group_members, group_set_exclusive, group_set_members, group_set_orphans, group_set_settled, group_share, group_state,
    group_unshare, participant_group, participant_has_left, participant_is_active, participant_is_orphan, participant_role)
from shmring._core.reader cimport Reader
from shmring._core.repair cimport ORPHANED, adopt_orphan, repair_begun, repair_bury, repair_free, repair_note
from shmring._core.reserve cimport reserve_lately
from shmring._core.snapshot cimport GroupSnapshot, snapshot_group, snapshot_hold, snapshot_tail
from shmring.mapping cimport Mapping
from shmring.table_lock cimport Tables

from shmring import evidence
from shmring.errors import CorruptRing, MemberTaken, TooManyGroups

ROLES = {ROLE_PRODUCER: "producer", ROLE_CONSUMER: "consumer", ROLE_OBSERVER: "observer"}


cdef object corrupt(Fault* fault, str label):
    return CorruptRing(f"ring {label}: impossible value {fault.value:#x} at offset {fault.offset:#x} of the segment, where "
                       f"{fault.limit:#x} was to be agreed with; the memory was damaged by somebody else")


cdef class Registry(Tables):
    """The tables of one mapped ring."""

    # ---- the lock ------------------------------------------------------------------------------------------------

    cdef take_over(self):
        """Groups that are being made: whoever began them is dead."""
        cdef uint32_t number
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_JOINING:
                group_end(&self.map.groups[number])
                doorbell_ring_all(self.map)         # it held producers back

    cdef give_away(self):
        """Log what was done for the dead; without the lock, as log handlers may do anything."""
        if self.found:
            found, self.found = self.found, []
            try:
                from shmring import news
            except (ImportError, OSError):
                return              # its files cannot be read, say: whoever waits for a message has nothing to do with that
            news.log_deaths(self.name, self.label, found)

    # ---- groups (with the lock held) -----------------------------------------------------------------------------

    cdef find_group(self, str name):
        """The number of the group of that name, or None."""
        cdef uint32_t number
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_ACTIVE and self.group_name(number) == name:
                return number
        return None

    cdef find_alike(self, str name, object ephemeral, object redeliver, bint exclusive):
        """find_group, for who wants to join: raises if it is not made as asked (None: as it may be), taken, or damaged."""
        cdef Fault fault
        found = self.find_group(name)
        if found is None:
            return None
        flags = group_flags(self.map, found)
        for label, asked, made in (("ephemeral", ephemeral, bool(flags & GROUP_EPHEMERAL)),
                                   ("redeliver", redeliver, not flags & GROUP_DROP)):
            if asked is not None and bool(asked) != made:
                raise ValueError(f"group {name!r} of ring {self.label} exists with {label}={made}, asked was {asked}")
        if (exclusive or flags & GROUP_EXCLUSIVE) and group_count(self.map, found, 0xffffffff):
            raise MemberTaken(errno.EAGAIN, f"group {name!r} of ring {self.label} is read by {self.describe_members(found)}; "
                                            f"exclusive=True, there or here, allows only one")
        if group_check(self.map, found, self.lately(), &fault) != OK:
            raise corrupt(&fault, self.label)
        return found

    cdef uint32_t make_group(self, str name, uint32_t flags, bint latest) except? 0xffffffff:
        cdef uint32_t number
        cdef char padded[64]
        cdef bytes encoded = name.encode()
        if not 0 < len(encoded) < <int> GROUP_NAME_BYTES or "\0" in name:
            raise ValueError(f"a group's name has 1 to {GROUP_NAME_BYTES - 1} bytes of UTF-8 and no NUL, {name!r} does not")
        memset(padded, 0, sizeof(padded))
        memcpy(padded, <const char*> encoded, len(encoded))
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_FREE:
                group_begin(self.map, number, padded, flags, latest, self.lately())
                doorbell_ring_all(self.map)         # while it was being made, it held producers back at a lower place
                return number
        names = ", ".join([self.group_name(number) for number in range(self.map.n_groups)])
        raise TooManyGroups(f"ring {self.label} has its {self.map.n_groups} groups already ({names}); remove one with "
                            f"remove_group or create the ring with a larger max_groups")

    cdef remove_group(self, str name):
        found = self.find_group(name)
        if found is None:
            raise KeyError(f"ring {self.label} has no group {name!r}")
        self.repair()
        if self.find_group(name) is None:
            return                                  # it was ephemeral, and went with the last of its members
        if group_count(self.map, found, 0xffffffff):
            raise MemberTaken(f"group {name!r} of ring {self.label} is read by {self.describe_members(found)}")
        self.end_group(found)

    cdef end_group(self, uint32_t number):
        """It stops gating, and so does what its former members still hold."""
        cdef uint32_t slot
        for slot in range(self.map.n_participants):
            if participant_has_left(&self.map.participants[slot]) and participant_group(&self.map.participants[slot]) == number:
                self.bury(slot, False)
        group_end(&self.map.groups[number])
        for slot in range(self.map.n_participants):
            if participant_is_orphan(&self.map.participants[slot]) and participant_group(&self.map.participants[slot]) == number:
                repair_free(self.map, slot)
        doorbell_ring_all(self.map)

    cdef object group_name(self, uint32_t number):
        cdef char* name = self.map.groups[number].name
        return PyBytes_FromStringAndSize(name, GROUP_NAME_BYTES).partition(b"\0")[0].decode("utf-8", "replace")

    cdef enter_group(self, uint32_t number, uint32_t me, bint exclusive, bint must_exchange):
        """Participant `me` has become a member; `must_exchange`: no membarrier would reach it. It must not claim before is_settled."""
        cdef uint32_t others = group_count(self.map, number, me)
        cdef int refused
        if others and not group_is_settled(self.map, number):
            refused = group_share(self.map, number)
            if refused:
                raise MemberTaken(f"group {self.group_name(number)!r} of ring {self.label} is read by {self.describe_members(number)}, "
                                  f"and cannot be shared: the kernel refuses membarrier(2): {os.strerror(-refused)}")
        elif not others:
            group_unshare(self.map, number)
            group_set_exclusive(self.map, number, exclusive)
            if must_exchange:
                group_set_settled(self.map, number)
        group_set_members(self.map, number, others + 1)

    cdef bint is_settled(self, uint32_t number, uint32_t me):
        """Has every member but `me` ended what it may have begun before it saw that the group is shared? A claim takes some ns; only
        who is stopped or killed in the middle of one is waited for.
        """
        cdef uint32_t slot
        for slot in range(self.map.n_participants):
            if slot != me and group_has_member(self.map, number, slot) and group_is_being_claimed(self.map, number, slot):
                return False
        return True

    # ---- participants --------------------------------------------------------------------------------------------

    cdef int repair(self, Slot* finder=NULL) except -1:
        """Bury the dead and free the slots of who left; with the lock held. Returns how many were dead."""
        cdef int dead = 0
        cdef uint32_t number
        try:
            dead = self.look_after(repair_begun(self.map), finder)
            for number in range(self.map.n_participants):
                dead += self.look_after(number, finder)
            for number in range(self.map.n_groups):
                if group_state(self.map, number) == GROUP_ACTIVE:
                    group_set_members(self.map, number, group_count(self.map, number, 0xffffffff))
                    if group_flags(self.map, number) & GROUP_EPHEMERAL and not group_members(self.map, number):
                        self.end_group(number)
        finally:
            if self.has_news:                       # gaps closed, room, or claims to adopt
                self.has_news = False
                doorbell_ring_all(self.map)
        return dead

    cdef bint look_after(self, uint32_t number, Slot* finder) except -1:
        """Bury who is dead or has left. Returns whether it was dead."""
        cdef Slot* slot = &self.map.participants[number]
        cdef uint32_t group = participant_group(slot)
        # Who leaves says so before it drops its lock: looked at after the lock.
        if participant_is_active(slot) and not self.is_alive(number) and not participant_has_left(slot):
            self.bury(number, True)
            repair_note(self.map, number, finder)
            return True
        if participant_has_left(slot):
            self.bury(number, False)
        elif participant_is_orphan(slot):
            if group < self.map.n_groups and group_state(self.map, group) == GROUP_ACTIVE:
                group_set_orphans(self.map, group, True)            # its burier may have died before it said so
            else:
                repair_free(self.map, number)                       # who removed its group died before it freed this
                self.has_news = True
        return False

    cdef bury(self, uint32_t number, bint died):
        cdef RingMap map = self.map[0]
        cdef Slot* slot = &self.map.participants[number]
        cdef uint32_t group = participant_group(slot)
        cdef uint64_t missing = 0
        cdef int result
        facts = {"slot": number, "pid": slot.pid, "role": ROLES.get(participant_role(slot), "participant"),
                 "group": self.group_name(group) if group < map.n_groups else None}
        # Always, as what the slot says of its role may be damaged, or change under us: the kernel looks again.
        if self.data is None:
            self.data = Mapping.from_fd(self.fd, map.capacity, offset=map.data_offset, mirrored=True)
        map.data = self.data.address
        self.has_news = True
        result = repair_bury(&map, number, died, &missing)
        if died:
            self.found.append({**facts, "missing": missing, "orphaned": result == ORPHANED})

    cdef bint adopt(self, Reader* reader) except -1:
        """Give the reader what dead members of its group held. False: somebody else is at the tables."""
        cdef uint32_t number
        cdef bint left = False
        with self.try_lock() as held:
            if not held:
                return False
            for number in range(self.map.n_participants):
                if (participant_is_orphan(&self.map.participants[number])
                        and participant_group(&self.map.participants[number]) == reader.group_number):
                    left |= not adopt_orphan(reader, number)
            if not left:
                group_set_orphans(self.map, reader.group_number, False)
        return True

    cdef uint64_t lately(self) noexcept:
        return reserve_lately(self.map)

    cdef bint is_alive(self, uint32_t number) except -1:
        """Does the participant in slot `number` live? Its lock tells; where it cannot tell more, its pid does."""
        cdef Slot* slot
        if number >= self.map.n_participants:
            return False
        slot = &self.map.participants[number]
        if not participant_is_active(slot):
            return False
        if byte_is_locked(self.fd, LOCK_PARTICIPANT + number) == 0:
            return False
        # Held, but perhaps only by a child that inherited the descriptor: a dead pid overrules.
        return not evidence.is_gone(evidence.Identity(slot.pid, slot.start_time, slot.pid_namespace,
                                                      PyBytes_FromStringAndSize(<char*> slot.boot_id, 16)))

    cdef bint has_neighbour(self, uint32_t number, int cpu) noexcept:
        """Is some other participant than `number` confined to that CPU, as far as we can see? Not those in other pid namespaces."""
        cdef Slot* mine = &self.map.participants[number]
        cdef Slot* slot
        cdef uint32_t other
        for other in range(self.map.n_participants):
            slot = &self.map.participants[other]
            if (other != number and participant_is_active(slot) and slot.pid_namespace == mine.pid_namespace
                    and is_confined_to(slot.pid, cpu) > 0):
                return True
        return False

    cdef list live_members(self, uint32_t number):
        """Slot numbers of the group's members that are alive."""
        cdef uint32_t slot
        return [slot for slot in range(self.map.n_participants)
                if group_has_member(self.map, number, slot) and self.is_alive(slot)]

    cdef object describe(self, uint32_t number):
        """A participant for messages: its role and pid."""
        if number >= self.map.n_participants:
            return f"an impossible participant {number}"
        role = ROLES.get(participant_role(&self.map.participants[number]), "participant")
        return f"{role} with pid {self.map.participants[number].pid}"

    cdef object describe_members(self, uint32_t number):
        """Who reads a group, for messages."""
        members = [self.describe(slot) for slot in self.live_members(number)]
        if not members:
            return "nobody"
        return ", ".join(members[:8]) + (f" and {len(members) - 8} more" if len(members) > 8 else "")

    cdef object describe_producers(self):
        """Who writes the ring, for messages."""
        cdef uint32_t slot
        writers = [self.describe(slot) for slot in range(self.map.n_participants)
                   if participant_role(&self.map.participants[slot]) == ROLE_PRODUCER and self.is_alive(slot)]
        if not writers:
            return "nobody"
        return ", ".join(writers[:8]) + (f" and {len(writers) - 8} more" if len(writers) > 8 else "")

    cdef list describe_obstacles(self, uint64_t span):
        """Who is in the way of a record that takes `span` bytes: groups that have not claimed enough, and who holds records."""
        cdef uint64_t position = snapshot_tail(self.map)
        cdef uint64_t needed = position + span - self.map.capacity
        cdef uint64_t hold
        cdef GroupSnapshot group
        cdef uint32_t number
        cdef list found = []
        for number in range(self.map.n_groups):
            if snapshot_group(self.map, number, &group) and <int64_t> (needed - group.head) > 0:
                found.append(f"group {self.group_name(number)!r} is {position - group.head} bytes behind, read by "
                             f"{self.describe_members(number)}")
        for number in range(self.map.n_participants):
            hold = snapshot_hold(&self.map.participants[number])
            if hold != NONE and <int64_t> (needed - hold) > 0 and position - hold <= self.map.capacity:
                found.append(f"{self.describe_holding(number)} has not released what it received {position - hold} bytes ago")
        return found

    cdef str describe_claims(self, const RingMap* ring, uint64_t least):
        """Which producers reserved room more than `least` bytes ago and have not sent, or are not done with it, for messages: nobody
        gets what lies behind. `ring` maps the records.
        """
        cdef uint32_t number
        cdef uint64_t tail = snapshot_tail(ring)
        cdef list found = []
        if ring.is_multi:                   # a single producer's claim is behind everything
            for number in range(ring.n_participants):
                if (participant_role(&ring.participants[number]) == ROLE_PRODUCER
                        and gate_look_at_intent(ring, number, tail) > least):
                    found.append(self.describe(number))
        return f"; what came since is behind an open claim of {', '.join(found[:8])}" if found else ""

    cdef object describe_holding(self, uint32_t number):
        """A participant that holds records, for messages: with its group."""
        cdef uint32_t group = participant_group(&self.map.participants[number])
        if group >= self.map.n_groups:
            return self.describe(number)
        return f"consumer of group {self.group_name(group)!r} with pid {self.map.participants[number].pid}"

    cdef bint any_producer_alive(self) except -1:
        """By the evidence, for who cannot repair."""
        cdef uint32_t slot
        for slot in range(self.map.n_participants):
            if participant_role(&self.map.participants[slot]) == ROLE_PRODUCER and self.is_alive(slot):
                return True
        return False

    cdef uint32_t dead_producer(self):
        """The pid of a producer that is dead and was not found yet, or 0."""
        cdef const Slot* each
        cdef uint32_t slot
        for slot in range(self.map.n_participants):
            each = &self.map.participants[slot]
            if (participant_role(each) == ROLE_PRODUCER and participant_is_active(each) and not self.is_alive(slot)
                    and participant_is_active(each)):           # it has not just left
                return each.pid
        return 0
