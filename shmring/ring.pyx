"""A mapped ring: its identity, its tables, and the way in for producers and consumers.

Owns: the segment's descriptor, the mapping of the control pages, and (made when first asked for) one mirrored mapping of the
data area per kind of access.
"""

import os
import weakref

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from shmring._core.futex cimport now_ns
from shmring._core.layout cimport (CONTENT_BYTES, CORRUPT, FLAG_SINGLE_PRODUCER, HEADER_BYTES, MAX_CAPACITY, MAX_GROUPS,
                                   MAX_PARTICIPANTS, MIN_CAPACITY, NOT_A_RING, NOT_READY, OTHER_LAYOUT, Fault, Identity,
                                   layout_attach, layout_data_offset, layout_point)
from shmring._core.membership cimport layout_create
from shmring._core.pages cimport pages_are_memory
from shmring._core.reserve cimport MOST_SPAN
from shmring._core.shutdown cimport shutdown_begin, shutdown_has_begun
from shmring.mapping cimport Mapping
from shmring.registry cimport Registry, corrupt

from shmring import evidence
from shmring.errors import Error, LayoutMismatch, Loading
from shmring.naming import label_of

cdef enum:
    POPULATED_BYTES = 64 << 20      # a larger data area is mapped page by page, as it is touched

FOR_EVER = INT64_MAX

# What the layout allows, for who checks arguments in Python.
LIMITS = {
    "min_capacity": MIN_CAPACITY,
    "max_capacity": MAX_CAPACITY,
    "max_participants": MAX_PARTICIPANTS,
    "max_groups": MAX_GROUPS,
    "content_bytes": CONTENT_BYTES - 1,
}

cdef check_timeout(object timeout):
    """For fast paths that may not need the deadline."""
    if not <double> timeout >= 0:
        raise ValueError(f"timeout must be None or a number of seconds >= 0, not {timeout!r}")


cdef int64_t deadline_after(object timeout) except -1:
    cdef double seconds
    if timeout is None:
        return FOR_EVER
    seconds = timeout
    check_timeout(timeout)
    if seconds == 0:
        return NO_WAIT
    if seconds > 1e9:
        return FOR_EVER
    return now_ns() + <int64_t> (seconds * 1e9)


def format_segment(int fd, uint64_t capacity, uint32_t align, bint single, uint32_t max_participants, uint32_t max_groups,
                   uint64_t origin, bytes content):
    """Write the control pages of a new ring into the zeroed file behind `fd`, which has segment_size(...) bytes."""
    cdef Identity identity
    cdef Mapping control
    cdef object me = evidence.own_identity()
    cdef object secret = os.urandom(24)
    memset(&identity, 0, sizeof(Identity))
    identity.capacity = capacity
    identity.align = align
    identity.flags = FLAG_SINGLE_PRODUCER if single else 0
    identity.max_participants = max_participants
    identity.max_groups = max_groups
    identity.page_bytes = os.sysconf("SC_PAGE_SIZE")
    identity.cookie = int.from_bytes(secret[:8], "little") & ~<uint64_t> 15
    memcpy(identity.uuid, <const uint8_t*> secret + 8, 16)
    memcpy(identity.boot_id, <const uint8_t*> me.boot_id, 16)
    identity.creator_pid = me.pid
    memcpy(identity.content, <const char*> content, min(<uint64_t> len(content), CONTENT_BYTES - 1))
    import time
    identity.created_ns = time.time_ns()
    control = Mapping.from_fd(fd, layout_data_offset(max_groups, max_participants, identity.page_bytes))
    with control:
        layout_create(control.address, &identity, origin)


def segment_size(uint64_t capacity, uint64_t max_participants, uint64_t max_groups):
    """Bytes of the whole segment of such a ring."""
    return layout_data_offset(max_groups, max_participants, os.sysconf("SC_PAGE_SIZE")) + capacity


cdef class Ring:
    """A ring this process has mapped. Made by `shmring.create`, `shmring.open` and `shmring.anonymous`.

    Concurrency: any thread may use it. It survives fork: the child asks it for producers and consumers of its own. It pickles
    to children of multiprocessing (the descriptor travels) and, if it has a name, anywhere else by that name.
    """

    def __cinit__(self):
        self.fd = -1
        self.is_closed = True

    def __init__(self):
        raise TypeError("rings are made by shmring.create, shmring.open and shmring.anonymous")

    @staticmethod
    def _attach(int fd, object name, bint readonly=False):
        """The ring in the segment behind `fd`, which it takes over (and closes on failure)."""
        cdef Ring self = Ring.__new__(Ring)
        cdef Fault fault
        cdef Mapping first
        self.fd = fd
        self.name = name
        self.label = label_of(name, fd)
        self.readonly = readonly
        self.participants = weakref.WeakSet()
        try:
            size = os.fstat(fd).st_size
            if size < <int64_t> sizeof(Identity):
                raise LayoutMismatch(f"{self.label} is no ring: it has {size} bytes, a ring has at least "
                                     f"{segment_size(MIN_CAPACITY, 1, 1)}")
            with Mapping.from_fd(fd, sizeof(Identity), access="read") as first:
                self.raise_attach(layout_attach(&self.map, first.address, size, &fault), &fault)
            self.control = Mapping.from_fd(fd, self.map.data_offset, access="read" if readonly else "write")
            layout_point(&self.map, self.control.address)
            self.registry = Registry.__new__(Registry)
            self.registry.map = &self.map
            self.registry.fd = fd
            self.registry.name = name
            self.registry.label = self.label
            self.registry.uuid = PyBytes_FromStringAndSize(<char*> (<Identity*> self.map.control).uuid, 16)
            self.registry.found = []
            self.content = bytes((<Identity*> self.map.control).content[:CONTENT_BYTES]).split(b"\0")[0].decode("utf-8", "replace")
        except BaseException:
            self.fd = -1
            os.close(fd)
            raise
        self.is_closed = False
        return self

    cdef raise_attach(self, int code, Fault* fault):
        if code == NOT_A_RING:
            raise LayoutMismatch(f"{self.label} is no ring: it begins with {fault.value:#x}, a ring with {fault.limit:#x}")
        if code == NOT_READY:
            raise LayoutMismatch(f"{self.label} was never finished by whoever made it; remove it with shmring.unlink")
        if code == OTHER_LAYOUT:
            what = "layout version" if fault.offset == 8 else "layout signature"
            raise LayoutMismatch(f"{self.label} has {what} {fault.value:#x}, this shmring reads and writes {fault.limit:#x}; "
                                 f"use the same version on both sides")
        if code == CORRUPT:
            raise corrupt(fault, self.label)

    # ---- handles -------------------------------------------------------------------------------------------------

    def producer(self, *, wait="adaptive"):
        """A producer of this ring.

        Parameters
        ----------
        wait : WaitPolicy or "spin" | "adaptive" | "park"
            How it waits for room.

        Raises
        ------
        ProducerTaken
            The ring was made for a single producer and has a live one (in this or another process).
        TooManyParticipants
            Every slot of the table belongs to somebody alive.
        ShutDown
            The ring was shut down.
        ValueError
            The ring is closed, or open for reading only.
        """
        with Loading("shmring.producer"):
            from shmring.producer import Producer
        return Producer(self, wait)

    def consumer(self, group="default", *, start="earliest", lossy=False, ephemeral=None, redeliver=None,
                 exclusive=False, end_with_producers=False, wait="adaptive"):
        """A consumer: a member of `group`, which is made if there is none of that name; or an observer.

        Each message goes to one member of every group. Members may come and go at any time.

        Parameters
        ----------
        group : str
            1 to 63 bytes of UTF-8. Of no meaning to observers.
        start : "earliest" | "latest"
            Where a new group (or an observer) starts: at the oldest record that any group has not claimed (for an observer: that
            is still in the ring), or behind the newest. An existing group goes on where it is.
        lossy : bool
            An `Observer`: it sees every message, never holds producers back, and may be lapped.
        ephemeral : bool or None
            A new group goes with its last member, dead or alive. None: False for a new group, whatever it is for an existing one.
        redeliver : bool or None
            Messages that a member had not released when it died go to another member (at least once: the default), or are
            dropped (False: at most once). None: as for ephemeral.
        exclusive : bool
            Be the group's only member, for streams whose order matters: refused while it has another one, and while this one lives,
            others are refused.
        end_with_producers : bool
            Iteration ends when the last producer left and everything was received; ProducerDied if a producer died and no other
            one came after it.
        wait : WaitPolicy or "spin" | "adaptive" | "park"
            How it waits for data.

        Raises
        ------
        MemberTaken
            The group has an exclusive member, or has a member and this one was to be exclusive; the text names its pid.
        TooManyParticipants, TooManyGroups
            The tables are full.
        ValueError
            A bad argument; the group exists and is made differently; the ring is closed, or open for reading only and the
            consumer is no observer.
        """
        if lossy:
            if ephemeral or redeliver is not None or exclusive:
                raise ValueError("ephemeral, redeliver and exclusive are for groups; an observer (lossy=True) belongs to none")
            with Loading("shmring.observer"):
                from shmring.observer import Observer
            return Observer(self, start, end_with_producers, wait)
        with Loading("shmring.consumer"):
            from shmring.consumer import Consumer
        return Consumer(self, group, start, ephemeral, redeliver, exclusive, end_with_producers, wait)

    def remove_group(self, str name):
        """Remove a group: it no longer holds producers back, and what it had not read is gone for it.

        Raises
        ------
        KeyError
            There is no such group.
        MemberTaken
            Live consumers read it; the text names their pids.
        """
        self.check_writable()
        self.pin()
        try:
            with self.registry.lock():
                self.registry.remove_group(name)
            self.control.check()            # a cut file reads as zeros
        except KeyError:
            self.control.check()
            raise
        finally:
            self.unpin()

    def shutdown(self):
        """No more messages: producers get ShutDown at once, consumers after they have drained their group. For good."""
        self.check_writable()
        shutdown_begin(&self.map)
        self.control.check()                # was the file cut? Then nobody else hears of it

    def repair(self):
        """Free what dead participants left: slots, roles, wait bits. Returns the number of participants found dead.

        Nobody has to call it: whoever attaches repairs first, and whoever waits for longer than some milliseconds. What dead
        members had not released goes to other members of their group.
        """
        cdef int found = 0
        self.check_writable()
        self.pin()
        try:
            with self.registry.lock():
                found = self.registry.repair()
            self.control.check()            # a cut file reads as zeros
            return found
        finally:
            self.unpin()

    def stats(self, *, exact=True):
        """A snapshot of the ring: fill, groups with lag and members, participants with their counters. See shmring.Stats.

        Parameters
        ----------
        exact : bool
            Count every message that a group lags behind, which takes a pass over their headers. False: look at some thousand of
            them at most and guess the rest (`lag_is_exact` tells), for who looks often or at large rings.
        """
        with Loading("shmring.stats"):
            from shmring.stats import collect
        return collect(self, exact)

    def close(self):
        """Close this ring's producers and consumers of this process, and unmap it. The ring itself stays. May be repeated.

        Raises
        ------
        BufferError
            A claim's or a view's memory is still in use, if only by an array made from it; nothing was closed.
        """
        if self.is_closed:
            return
        if self.exports:
            raise BufferError(f"ring {self.label}: {self.exports} buffers of claims or views are still in use (arrays made from "
                              f"them count); closing would unmap them")
        self.is_closed = True
        for participant in list(self.participants):
            participant.close()
        if self.pins == 0:
            self.unmap()            # else the last thread that is still inside a call does it

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *_):
        self.close()

    def __dealloc__(self):
        if self.fd >= 0:
            try:
                os.close(self.fd)
            except Exception:
                pass

    def __repr__(self):
        if self.is_closed:
            return f"<shmring.Ring {self.label}, closed>"
        return f"<shmring.Ring {self.label}, {self.capacity} bytes>"

    def __reduce__(self):
        # Not imported with the module: it takes longer than all of shmring, and whoever spawns children has it already.
        from multiprocessing import context, reduction
        self.check_open()
        if context.get_spawning_popen() is not None:
            return _from_duplicate, (reduction.DupFd(self.fd), self.name, self.readonly)
        if self.name is None:
            raise TypeError("an anonymous ring can only be passed to a child process that multiprocessing starts")
        return _from_name, (self.name, self.uuid, self.readonly, os.fstat(self.fd).st_uid)

    # ---- facts ---------------------------------------------------------------------------------------------------

    @property
    def capacity(self):
        """Bytes of the data area, a power of two."""
        return self.map.capacity

    @property
    def align(self):
        """Alignment of every payload, in bytes."""
        return self.map.align

    @property
    def max_message(self):
        """Bytes of the largest message that fits: all of the capacity but a header, below 4 GiB (2 GiB with many producers)."""
        return min(self.map.capacity, <uint64_t> MOST_SPAN & ~63 if self.map.is_multi else 0xfffffff0) - HEADER_BYTES

    @property
    def max_participants(self):
        return self.map.n_participants

    @property
    def max_groups(self):
        return self.map.n_groups

    @property
    def producers(self):
        """"single" or "multi"."""
        return "single" if self.map.flags & FLAG_SINGLE_PRODUCER else "multi"

    @property
    def uuid(self):
        """16 random bytes that tell this ring from every other."""
        self.check_open()
        return self.registry.uuid

    @property
    def is_shutdown(self):
        self.check_open()
        has_begun = shutdown_has_begun(&self.map)
        self.control.check()
        return has_begun

    @property
    def closed(self):
        return self.is_closed

    # ---- for the other ports -------------------------------------------------------------------------------------

    cdef check_open(self):
        if self.is_closed:
            raise ValueError(f"ring {self.label} is closed")

    cdef pin(self):
        self.check_open()
        self.pins += 1

    cdef unpin(self):
        self.pins -= 1
        if self.pins == 0 and self.is_closed:
            self.unmap()

    cdef unmap(self):
        for mapping in (self.data_writable, self.data_readable, self.registry.data, self.control):
            if mapping is not None:
                mapping.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = self.registry.fd = -1

    cdef check_writable(self):
        self.check_open()
        if self.readonly:
            raise ValueError(f"ring {self.label} is open for reading only")

    cdef bint is_allocated(self) except -1:
        """May the data area be mapped in one go? A first lap that takes a page fault for every 4 KiB of both copies is several
        times slower than all later ones. But that must not allocate what reserve=False left out, nor dirty a file on a disk.
        """
        cdef int64_t allocated
        if self.map.capacity > POPULATED_BYTES or not pages_are_memory(self.fd):
            return False
        allocated = os.fstat(self.fd).st_blocks * 512
        return allocated >= <int64_t> (self.map.data_offset + self.map.capacity)

    cdef Mapping data_mapping(self, bint writable):
        cdef Mapping made
        if (self.data_writable if writable else self.data_readable) is None:
            made = Mapping.from_fd(self.fd, self.map.capacity, offset=self.map.data_offset, mirrored=True,
                                   access="write" if writable else "read", populate=self.is_allocated())
            # It let go of the GIL: another thread may have made one meanwhile, and use its address by now.
            if writable and self.data_writable is None:
                self.data_writable = made
            elif not writable and self.data_readable is None:
                self.data_readable = made
        return self.data_writable if writable else self.data_readable


def _from_duplicate(duplicate, name, readonly):
    return Ring._attach(duplicate.detach(), name, readonly)


def _from_name(name, uuid, readonly, owner):
    from shmring.creation import open_plain
    ring = open_plain(name, readonly=readonly, trust=owner)     # whoever opened it trusted that user
    if ring.uuid != uuid:
        ring.close()
        raise Error(f"{name!r} is another ring than the one that was pickled: it was removed and made anew")
    return ring
