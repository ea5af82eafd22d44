"""The tables of groups and participants: the lock under which they change, who lives, and burying the dead.

Owns: the registry lock, and the descriptors whose file locks must not survive in a forked child.

Invariant: only who holds the lock writes the tables (the functions of _core/repair.pxd). The kernel drops the lock with its
holder, and whatever that one left half done is done again or undone by the next.
"""

import os
from _thread import RLock, get_ident     # what threading gives, without the time that importing it takes
from contextlib import contextmanager

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EACCES, EAGAIN, EINTR
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.futex cimport byte_is_locked, is_confined_to, lock_byte, unlock_all
from shmring._core.layout cimport (GROUP_ACTIVE, GROUP_FREE, GROUP_JOINING, GROUP_NAME_BYTES, LOCK_PARTICIPANT,
                                   LOCK_REGISTRY, ROLE_PRODUCER, Slot)
from shmring._core.repair cimport (group_begin, group_end, group_member, group_state, participant_bury,
                                   participant_has_left, participant_is_active)

from shmring import evidence
from shmring.errors import MemberTaken, TooManyGroups

# Descriptors whose locks must not survive in a forked child: it would keep them alive for a parent that died.
lock_descriptors = set()

# Held while a descriptor is opened and entered there, or removed and closed, and across fork: a child gets all of them or none.
descriptors_change = RLock()

# Which thread of this process holds the registry lock of which ring (by uuid): a signal handler or finalizer that runs in that
# thread must not wait for itself.
holders = {}


def _after_fork_in_child():
    holders.clear()
    while lock_descriptors:
        os.close(lock_descriptors.pop())
    descriptors_change.release()


os.register_at_fork(before=descriptors_change.acquire, after_in_parent=descriptors_change.release,
                    after_in_child=_after_fork_in_child)


def close_lock_descriptor(int fd):
    """Give up the locks of `fd` at once (a child forked in C may have a copy of it), and close it."""
    with descriptors_change:
        if fd in lock_descriptors:          # not in a child forked meanwhile: it has closed its copy
            unlock_all(fd)
            lock_descriptors.discard(fd)
            os.close(fd)


cdef class Registry:
    """The tables of one mapped ring."""

    # ---- the lock ------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self):
        """Hold the registry lock.

        Raises RuntimeError in a signal handler or finalizer that interrupted its own thread while that held the lock.
        """
        if holders.get(self.uuid) == get_ident():
            raise RuntimeError(f"ring {self.name!r}: its tables are being changed by the very thread that this signal handler or "
                               f"finalizer interrupted")
        fd = self.open_lock_descriptor()
        try:
            self.wait_for_lock(fd, 1)
            with self.held():
                yield
        finally:
            close_lock_descriptor(fd)
            self.log_buried()

    @contextmanager
    def held(self):
        holders[self.uuid] = get_ident()
        try:
            self.end_half_made_groups()
            yield
        finally:
            holders.pop(self.uuid, None)

    def try_repair(self):
        """Bury the dead if nobody else is at the tables."""
        if self.uuid in holders:
            return
        fd = self.open_lock_descriptor()
        try:
            if self.wait_for_lock(fd, 0):
                with self.held():
                    self.repair()
        finally:
            close_lock_descriptor(fd)
            self.log_buried()

    def open_lock_descriptor(self):
        """An open file description of our own for the segment, as locks belong to descriptions."""
        with descriptors_change:
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
            lock_descriptors.add(fd)
            return fd

    cdef bint wait_for_lock(self, int fd, bint wait) except -1:
        cdef int result
        while True:
            with nogil:
                result = lock_byte(fd, LOCK_REGISTRY, wait)
            if result == 0:
                return True
            if not wait and result in (-EAGAIN, -EACCES):
                return False
            if result != -EINTR:
                raise OSError(-result, f"ring {self.name!r}: cannot lock its tables: {os.strerror(-result)}")
            PyErr_CheckSignals()

    def end_half_made_groups(self):
        """We hold the lock, so whoever began these is dead."""
        cdef uint32_t number
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_JOINING:
                group_end(&self.map.groups[number])
                doorbell_ring_all(self.map)         # it held producers back

    # ---- groups (with the lock held) -----------------------------------------------------------------------------

    cdef find_group(self, str name):
        """The number of the group of that name, or None."""
        cdef uint32_t number
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_ACTIVE and self.group_name(number) == name:
                return number
        return None

    cdef uint32_t make_group(self, str name, bint latest) except? 0xffffffff:
        cdef uint32_t number
        cdef char padded[64]
        cdef bytes encoded = name.encode()
        if not 0 < len(encoded) < <int> GROUP_NAME_BYTES or "\0" in name:
            raise ValueError(f"a group's name has 1 to {GROUP_NAME_BYTES - 1} bytes of UTF-8 and no NUL, {name!r} does not")
        memset(padded, 0, sizeof(padded))
        memcpy(padded, <const char*> encoded, len(encoded))
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_FREE:
                group_begin(self.map, number, padded, latest)
                doorbell_ring_all(self.map)         # while it was being made, it held producers back at a lower place
                return number
        names = ", ".join([self.group_name(number) for number in range(self.map.n_groups)])
        raise TooManyGroups(f"ring {self.name!r} has its {self.map.n_groups} groups already ({names}); remove one with "
                            f"remove_group or create the ring with a larger max_groups")

    cdef remove_group(self, str name):
        cdef uint32_t number, member
        found = self.find_group(name)
        if found is None:
            raise KeyError(f"ring {self.name!r} has no group {name!r}")
        number = found
        member = group_member(self.map, number)
        if member and self.is_alive(member - 1):
            raise MemberTaken(f"group {name!r} of ring {self.name!r} is read by {self.describe(member - 1)}")
        if member:
            self.bury(member - 1)
        group_end(&self.map.groups[number])
        doorbell_ring_all(self.map)

    cdef object group_name(self, uint32_t number):
        cdef char* name = self.map.groups[number].name
        return PyBytes_FromStringAndSize(name, GROUP_NAME_BYTES).partition(b"\0")[0].decode("utf-8", "replace")

    # ---- participants --------------------------------------------------------------------------------------------

    cdef int repair(self) except -1:
        """Bury the dead and free the slots of who left; with the lock held. Returns how many were dead."""
        cdef uint32_t number
        cdef int found = 0
        for number in range(self.map.n_participants):
            if participant_has_left(&self.map.participants[number]):
                participant_bury(self.map, number, False)
            elif participant_is_active(&self.map.participants[number]) and not self.is_alive(number):
                self.bury(number)
                found += 1
        return found

    cdef bury(self, uint32_t number):
        if number < self.map.n_participants:
            self.buried.append(self.describe(number))
            participant_bury(self.map, number, True)

    def log_buried(self):
        """Without the lock, as log handlers may do anything."""
        if self.buried:
            import logging
            buried, self.buried = self.buried, []
            for who in buried:
                logging.getLogger("shmring").info("ring %r: freed what a dead %s left", self.name, who)

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

    cdef object describe_holder(self, uint32_t holder):
        """Who has a role, for messages; `holder` is the word that says so: slot number + 1, or 0."""
        if holder and self.is_alive(holder - 1):
            return self.describe(holder - 1)
        return "nobody"

    cdef object describe(self, uint32_t number):
        """A participant for messages: its role and pid."""
        if number >= self.map.n_participants:
            return f"an impossible participant {number}"
        role = "producer" if self.map.participants[number].role == ROLE_PRODUCER else "consumer"
        return f"{role} with pid {self.map.participants[number].pid}"
