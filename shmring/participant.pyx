"""What producers and consumers have in common: a slot in the table, and the proof of life. (Waiting: waiter.pyx.)

Owns: the participant's own descriptor, whose file lock proves that it lives, and the life of its slot.

Threads: every field is changed only with the GIL held, and the fast paths of the ports never let go of it, so each call of a
handle is atomic for other threads. A wait does let go; it reads shared words only, and what it found is looked at again
afterwards. These modules do not declare themselves safe without a GIL, so a free-threaded interpreter turns it on for them.
"""

import atexit
import errno
import os
import sys
import weakref
from _thread import get_ident

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from shmring._core.doorbell cimport WAKE_ALL, bell_ring
from shmring._core.futex cimport lock_byte, membarrier_register, now_ns, sleep_until
from shmring._core.layout cimport LOCK_PARTICIPANT, ROLE_PRODUCER, Slot
from shmring._core.membership cimport (participant_depart, participant_enter, participant_group, participant_has_left,
                                       participant_is_free, participant_is_orphan, participant_join, participant_set_role)
from shmring.ring cimport Ring
from shmring.sigbus cimport process_epoch
from shmring.waiter cimport Waiter

from shmring import evidence, policy as policies
from shmring.errors import Loading, TooManyParticipants, WrongProcess
from shmring.table_lock import close_lock_descriptor

cdef enum:
    LAST_LOOK_NS = 100000           # between two looks for threads that are still in a wait at the end
    LAST_LOOKS = 20000              # then they are left to the kernel

# Leaving with the interpreter is not dying: nobody should have to repair after it.
attached = weakref.WeakSet()

# The thread that ends the interpreter, once it does. All others are daemon threads then, which end without a word.
ending_thread = None


@atexit.register
def leave_all():
    global ending_thread
    cdef int look
    ending_thread = get_ident()
    participants = list(attached)
    for participant in participants:
        try:
            participant.close()
        except BufferError:
            pass                            # its memory is in use to the end; the kernel drops the lock
    # The last thread that waits in a handle is the one that detaches it, for which it needs the GIL.
    for look in range(LAST_LOOKS):
        if not any([is_being_left(participant) for participant in participants]):
            break
        with nogil:
            sleep_until(now_ns() + LAST_LOOK_NS)


cdef object what_ends_this_thread():
    """Nobody would retrieve SystemExit from a task of asyncio, which then says so: there, the task is cancelled."""
    asyncio = sys.modules.get("asyncio")
    return SystemExit if asyncio is None or asyncio._get_running_loop() is None else asyncio.CancelledError


# The child of multiprocessing that has `leave_with_multiprocessing` among its finalizers.
leaving_pid = 0


cdef leave_with_child():
    """Such a child ends with os._exit, and before Python 3.14 without atexit: it has finalizers of its own."""
    global leaving_pid
    process = sys.modules.get("multiprocessing.process")
    if process is not None and leaving_pid != os.getpid() and process.parent_process() is not None:
        from multiprocessing.util import Finalize       # it is loaded
        leaving_pid = os.getpid()
        Finalize(None, leave_with_multiprocessing, exitpriority=-1000)      # after all others


def leave_with_multiprocessing():
    import threading                                    # it is loaded
    # Threads that it waits for afterwards may still need their handles.
    if not any([not each.daemon for each in threading.enumerate() if each is not threading.current_thread()]):
        leave_all()


cdef bint is_being_left(Participant participant):
    return participant.is_closed and participant.waiting and participant.slot != NULL and participant.pid == os.getpid()


cdef object aio_module = None


cdef object aio():
    """shmring.aio, loaded when first needed."""
    global aio_module
    if aio_module is None:
        with Loading("shmring.aio"):
            import shmring.aio
        aio_module = shmring.aio
    return aio_module


cdef class Participant(Waiter):
    """The common part of `Producer` and `Consumer`; not made directly."""

    def __cinit__(self):
        self.life_fd = -1
        self.is_closed = True

    # ---- joining and leaving -------------------------------------------------------------------------------------

    cdef attach(self, Ring ring, object wait, uint32_t role):
        """Take a slot and a role: a producer's, a member's of a group, or an observer's."""
        policy = policies.resolve(wait)
        ring.check_open()
        if ring.readonly:
            raise ValueError(f"ring {ring.label} is open for reading only: it has stats() and observers (lossy=True), but no "
                             f"producers and no groups")
        self.adopt_policy(policy)
        self.short_slices = membarrier_register() != 0
        self.ring = ring
        self.pid = os.getpid()
        ring.pin()
        try:
            self.data = ring.data_mapping(role == ROLE_PRODUCER)
            self.life_fd = ring.registry.open_lock_descriptor()
            with ring.registry.lock():
                ring.registry.repair()
                self.take_role()
            self.settle_in()
        except BaseException:
            if self.slot != NULL:
                participant_depart(&ring.map, self.number)
            if self.life_fd >= 0:
                close_lock_descriptor(self.life_fd)
                self.life_fd = -1
            ring.unpin()
            raise
        self.is_closed = False
        self.epoch = process_epoch
        ring.participants.add(self)
        attached.add(self)
        leave_with_child()

    cdef take_slot(self, uint32_t role, uint32_t group, uint64_t head):
        """The first slot that is free and whose life lock nobody holds (an orphaned child may hold a free one's); if there is
        none, one whose dead owner left claims in the same group. Returns whether it has such claims.
        """
        cdef uint32_t number
        for number in range(self.ring.map.n_participants):
            if participant_has_left(&self.ring.map.participants[number]):
                self.ring.registry.bury(number, False)          # just now: repair has not seen it
            if participant_is_free(&self.ring.map.participants[number]) and self.enter(number, role, group, head):
                return False
        for number in range(self.ring.map.n_participants):
            if (group < self.ring.map.n_groups and participant_is_orphan(&self.ring.map.participants[number])
                    and participant_group(&self.ring.map.participants[number]) == group and self.enter(number, role, group, head)):
                return True
        holders = [self.ring.registry.describe(number) for number in range(min(4, self.ring.map.n_participants))]
        if self.ring.map.n_participants > 4:
            holders.append("...")
        raise TooManyParticipants(errno.EAGAIN, f"ring {self.ring.label} has room for {self.ring.map.n_participants} "
                                                f"participants, and all is taken ({', '.join(holders)}); create it with a "
                                                f"larger max_participants")

    cdef bint enter(self, uint32_t number, uint32_t role, uint32_t group, uint64_t head) except -1:
        cdef Slot fields
        me = evidence.own_identity()
        if lock_byte(self.life_fd, LOCK_PARTICIPANT + number, 0) != 0:
            return False
        memset(&fields, 0, sizeof(Slot))
        participant_set_role(&fields, role)
        fields.pid = me.pid
        fields.start_time = me.start_time
        fields.pid_namespace = me.pid_namespace
        for i in range(16):
            fields.boot_id[i] = me.boot_id[i]
        participant_join(&fields, group, head)
        self.number = number
        self.slot = &self.ring.map.participants[number]
        participant_enter(&self.ring.map, number, &fields, head)
        return True

    def close(self):
        """Leave the ring. Threads that wait in this handle get ValueError. May be repeated.

        Raises
        ------
        BufferError
            The memory of an open claim or view is in use (a memoryview, or an array made from one).
        """
        if self.is_closed:
            return
        if self.pid != os.getpid():         # a forked child: all of it belongs to the parent
            self.is_closed = True
            self.epoch = 0
            self.ring.unpin()
            return
        if self.pinned:
            raise BufferError(f"{self.role_name()} of ring {self.ring.label}: the memory of {self.pinned} open claims or "
                              f"views is in use; end them first")
        self.is_closed = True
        self.epoch = 0
        if self.watch is not None:
            self.watch.close()
        if self.waiting:
            if self.slot != NULL:                       # else it polls, and the word is not ours to write
                bell_ring(self.own_word(), WAKE_ALL)    # the last of them detaches: it may be the caller of this very handler
        else:
            self.detach()

    cdef detach(self):
        """Give up slot, lock and mappings. Takes no lock of the ring and waits for nobody."""
        if self.slot != NULL:
            self.departing()
            participant_depart(&self.ring.map, self.number)
            close_lock_descriptor(self.life_fd)
            self.life_fd = -1
            self.departed()
        self.ring.participants.discard(self)
        self.ring.unpin()

    def fileno(self):
        """A descriptor for select, poll, epoll and event loops: readable when a call that does not wait may succeed.

        That is `try_recv`, or sending the message for which there was no room last (an empty one, if there always was); or when
        the call would raise, as after shutdown. It stays the same until `close`.

        It is armed by this call, and again by each call that finds nothing: `try_recv` that returns None, `try_send` that returns
        False, any other one with `timeout=0` that raises TimeoutError. Until then it stays readable: so make such calls until
        one finds nothing, or one each time that it is readable. It may be readable although there is nothing: another one
        was faster, or its time slice ended (WaitPolicy.slice_ms, and up to ten of them while nothing comes). A handle that was
        asked for its descriptor looks for dead ones as a wait does, but only in those calls.

        Cost: one system call each time it is armed; none for who finds messages, nor for notifiers more than for a thread
        that sleeps. No thread where io_uring can wait for futexes (Linux 6.7), else one for 127 handles: `shmring.aio.backend`.
        An observer of a ring that is open for reading only cannot be woken: its descriptor becomes readable every 1 to 10 ms.
        """
        with Loading("shmring.watch"):
            from shmring.watch import watch_of
        return watch_of(self).publish()

    cdef departing(self):
        """What has to be in order before others take the slot over."""

    cdef departed(self):
        """For what others should learn at once."""

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except BufferError:
            if kind is None:
                raise                       # else the error that is on its way matters more; its frames may be what uses the memory

    def __del__(self):
        self.pinned = 0                     # whoever used that memory is garbage, too
        if os is not None:                  # else the interpreter has emptied this module: the kernel drops the lock
            self.close()

    def __reduce__(self):
        raise TypeError(f"a {self.role_name()} cannot be pickled; pass the Ring, and let the other process ask it for its own")

    def __repr__(self):
        state = "closed" if self.is_closed else f"slot {self.number}"
        return f"<shmring.{type(self).__name__} of {self.ring.label}, {state}>"

    @property
    def closed(self):
        return self.is_closed

    @property
    def codec(self):
        """What turns objects into messages and back: what the ring's content names ("codec NAME"), "pickle" if that is empty.

        May be set, to a name or a codec of your own: where the ring names none, or, for a codec that may run the sender's code,
        to say that everybody who may write to the ring is trusted.

        Raises
        ------
        CodecError
            The ring's messages are of another codec, or others than this user may write to it: see shmring.objects.codec_of.
        UnknownCodec
            Nobody registered it in this process.
        """
        if self.own_codec is None:
            self.use_codec(None)
        return self.own_codec

    @codec.setter
    def codec(self, codec):
        self.use_codec(codec)

    cdef use_codec(self, object wanted):
        from shmring.objects import codec_of
        self.check()
        codec = codec_of(self.ring, os.fstat(self.ring.fd), self.role_name() != "producer", wanted)
        self.pack, self.unpack = codec.pack, codec.unpack
        self.own_codec = codec

    cdef object arrays(self):
        """The codec of send_array and its like."""
        if self.array_codec is None:
            from shmring.objects import codec_of
            self.check()
            self.array_codec = codec_of(self.ring, None, False, "ndarray")
        return self.array_codec

    cdef check(self):
        """Why is the cached epoch not the process's? Raises what the user must know, else brings it up to date."""
        if self.is_closed:
            if ending_thread is not None and get_ident() != ending_thread:
                raise what_ends_this_thread()
            raise ValueError(f"this {self.role_name()} of ring {self.ring.label} is closed")
        if self.pid != os.getpid():
            raise WrongProcess(f"this {self.role_name()} of ring {self.ring.label} belongs to process {self.pid}; a forked "
                               f"child asks the ring for its own")
        self.ring.control.check()
        self.data.check()
        if not self.is_busy:
            self.epoch = process_epoch

    # ---- filled in by the ports ----------------------------------------------------------------------------------

    cdef take_role(self):
        """Take a slot, with the registry lock held."""

    cdef settle_in(self):
        """What has to be waited for, without the lock, before the role can be used."""

    cdef settle(self, int entry):
        """A view of a record in that claim has ended."""

    cdef str role_name(self):
        return "participant"
