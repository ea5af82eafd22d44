"""The tables of groups and participants: the lock under which they change, who lives, and burying the dead.

Owns: the registry lock, and the descriptors whose file locks must not survive in a forked child.

Invariant: only who holds the lock writes the tables (the functions of _core/repair.pxd). The kernel drops the lock with its
holder, and whatever that one left half done is done again or undone by the next.
"""

import os
from contextlib import contextmanager
from threading import get_ident

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from shmring._core.doorbell cimport doorbell_ring_all
from shmring._core.futex cimport byte_is_locked, lock_byte
from shmring._core.layout cimport (GROUP_ACTIVE, GROUP_FREE, GROUP_JOINING, GROUP_NAME_BYTES, LOCK_PARTICIPANT,
                                   LOCK_REGISTRY, ROLE_PRODUCER, Slot)
from shmring._core.repair cimport (group_begin, group_end, group_member, group_state, participant_is_active,
                                   participant_leave)

from shmring import evidence
from shmring.errors import MemberTaken, TooManyGroups

# Descriptors whose locks must not survive in a forked child: it would keep them alive for a parent that died.
lock_descriptors = set()

# Which thread of this process holds the registry lock of which ring (by uuid). A finalizer or signal handler that runs while
# its thread holds the lock may close another participant: it must not wait for itself.
holders = {}


def _after_fork_in_child():
    holders.clear()
    while lock_descriptors:
        os.close(lock_descriptors.pop())


os.register_at_fork(after_in_child=_after_fork_in_child)


cdef class Registry:
    """The tables of one mapped ring."""

    # ---- the lock ------------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self):
        """Hold the registry lock; may be nested within a thread."""
        if holders.get(self.uuid) == get_ident():
            yield
            return
        fd = self.open_anew()
        lock_descriptors.add(fd)
        try:
            self.wait_for_lock(fd)
            holders[self.uuid] = get_ident()
            self.end_half_made_groups()
            yield
        finally:
            if fd in lock_descriptors:      # not in a child forked meanwhile
                if holders.get(self.uuid) == get_ident():
                    del holders[self.uuid]
                lock_descriptors.discard(fd)
                os.close(fd)

    def open_anew(self):
        """An open file description of our own for the segment; locks belong to descriptions."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)

    cdef wait_for_lock(self, int fd):
        cdef int result
        while True:
            with nogil:
                result = lock_byte(fd, LOCK_REGISTRY, 1)
            if result == 0:
                return
            if result != -EINTR:
                raise OSError(-result, f"ring {self.name!r}: cannot lock its tables: {os.strerror(-result)}")
            PyErr_CheckSignals()

    def end_half_made_groups(self):
        """We hold the lock, so whoever began these is dead."""
        cdef uint32_t number
        for number in range(self.map.n_groups):
            if group_state(self.map, number) == GROUP_JOINING:
                group_end(&self.map.groups[number])

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
        """Bury the dead; with the lock held. Returns how many there were."""
        cdef uint32_t number
        cdef int found = 0
        for number in range(self.map.n_participants):
            if participant_is_active(&self.map.participants[number]) and not self.is_alive(number):
                self.bury(number)
                found += 1
        return found

    cdef bury(self, uint32_t number):
        import logging
        logging.getLogger("shmring").info("ring %r: freed what %s left", self.name, self.describe(number))
        participant_leave(self.map, number, True)

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

    cdef object describe(self, uint32_t number):
        """A participant for messages: its role and pid."""
        if number >= self.map.n_participants:
            return f"an impossible participant {number}"
        role = "producer" if self.map.participants[number].role == ROLE_PRODUCER else "consumer"
        return f"{role} with pid {self.map.participants[number].pid}"
