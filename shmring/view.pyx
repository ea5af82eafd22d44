"""Messages where they lie: the memory that claims and views lend to Python, and the views that `peek` hands out."""

from cython cimport final, freelist, no_gc_clear
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.memoryview cimport PyMemoryView_FromObject

from shmring._core.observe cimport observe_is_whole
from shmring.participant cimport Participant
from shmring.sigbus cimport process_epoch

from shmring.errors import Lapped


@final
@freelist(8)
@no_gc_clear                            # it may go after the collector has cleared a cycle
cdef class Memory:
    """What memoryviews of a lease are made from. While it lives its bytes are in use, also by who keeps it and no buffer of it, as
    numpy.ndarray(buffer=...) does.
    """

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef Lease lease = self.lease
        if lease.has_ended or lease.owner.is_closed:
            raise ValueError("the claim or view that lent this memory has ended")
        PyBuffer_FillInfo(buffer, self, lease.address, lease.size, lease.is_readonly, flags)

    def __dealloc__(self):
        if self.lease is not None:
            self.ring.exports -= 1
            self.lease.give_back()


@freelist(8)                            # one per claim
@no_gc_clear
cdef class Lease:
    cdef object lend(self):
        """A memoryview of it."""
        cdef Memory memory = Memory.__new__(Memory)
        memory.ring = self.owner.ring
        memory.lease = self
        memory.ring.exports += 1
        self.owner.pinned += 1
        self.uses += 1
        return PyMemoryView_FromObject(memory)

    cdef give_back(self):
        """Nobody uses a memory that was lent any more."""
        self.uses -= 1
        if not self.has_ended:
            self.owner.pinned -= 1

    cdef end(self, object memory):
        """The claim or view ends; `memory` is the memoryview that it handed out, or None."""
        end_memory(memory)
        self.has_ended = True
        self.owner.pinned -= self.uses


cdef end_memory(object memory):
    if memory is not None:
        try:
            memory.release()
        except BufferError:
            pass                        # something made from it lives on; it keeps the ring mapped


@final
@no_gc_clear
cdef class Loan(Lease):
    """A record that is lent out for as long as its view is open, or memory of it is in use."""

    cdef give_back(self):
        cdef Participant owner = self.owner
        self.uses -= 1
        owner.pinned -= 1
        if not self.is_over() or owner.is_closed:
            return
        try:
            if owner.epoch != process_epoch:
                owner.check()
            owner.settle(self.entry)
        except Exception:
            pass                        # the consumer's next call tells what is wrong

    cdef end(self, object memory):
        end_memory(memory)
        self.has_ended = True

    cdef bint is_over(self) noexcept:
        return self.has_ended and self.uses == 0

    cdef str told(self):
        """What keeps the record, for messages."""
        if self.holder is not None:
            from shmring.objects import told_of
            return told_of(self.holder)
        return "memory of a View" if self.uses else "a View"


@final
cdef class View:
    """A message where it lies, between peek and release. A context manager: leaving it releases.

    Attributes
    ----------
    data : memoryview
        Read-only, in the ring itself. It ends with the view. Arrays made from it may live longer; until the last of them is
        gone, the record stays where it is, and nothing behind it can be overwritten: `Consumer.stats` tells of them.
    sequence : int
        The record's position in the ring: grows from record to record, by more than one.
    redelivered : bool
        A member of the group had it before, and died (or closed) before it released it; or a call of this one had, and put it back.
    valid : bool
        Whether the bytes are still the message's: True until the view ends, as a member holds the producers back.
    """

    def __init__(self):
        raise TypeError("views are made by Consumer.peek")

    @property
    def data(self):
        """Read-only memoryview of the message."""
        self.check_open()
        if self.memory is None:
            self.memory = self.loan.lend()
        return self.memory

    @property
    def sequence(self):
        return self.loan.position

    @property
    def valid(self):
        return self.owner is not None and not self.owner.is_closed

    def release(self):
        """Let the record go. A view that was released stays as it is. Dropping the last reference releases, too."""
        if self.owner is not None:
            self.end()

    def __len__(self):
        return self.loan.size

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, kind, value, traceback):
        if self.owner is not None:
            self.end()

    def __del__(self):
        if self.owner is not None:
            try:
                self.end()
            except Exception:
                pass                                    # the consumer's next call tells what is wrong

    cdef check_open(self):
        if self.owner is None:
            raise ValueError("this view was released already")
        if self.owner.is_closed:
            raise ValueError("this view's consumer is closed")

    cdef end(self):
        cdef Participant owner = self.owner
        self.owner = None
        self.loan.end(self.memory)
        self.memory = None                          # gives it back, unless something made from it lives on
        if owner.is_closed or not self.loan.is_over():
            return                                  # Loan.__releasebuffer__ settles it
        if owner.epoch != process_epoch:
            owner.check()
        owner.settle(self.loan.entry)               # views may end in any order


@final
cdef class ObservedView:
    """A message where it lies, as an observer sees it. A context manager: leaving it releases.

    Attributes
    ----------
    data : memoryview
        Read-only, in the ring itself. The producers may write over it at any moment.
    valid : bool
        Whether everything that was read of `data` up to now was the message. Once False, it stays so.
    sequence : int
        The record's position in the ring: grows from record to record, by more than one.
    redelivered : bool
        False: observers see each message once.
    """

    def __init__(self):
        raise TypeError("views are made by Observer.peek")

    @property
    def redelivered(self):
        return False

    @property
    def data(self):
        """Read-only memoryview of the message. Raises Lapped if the producers have overtaken it already."""
        self.check_open()
        if not self.valid:
            raise Lapped(f"ring {self.owner.ring.label}: the producers have written over the record at {self.position}")
        if self.memory is None:
            self.memory = self.lease.lend()
        return self.memory

    @property
    def valid(self):
        return (self.owner is not None and not self.owner.is_closed
                and observe_is_whole(self.map, self.position))

    @property
    def sequence(self):
        return self.position

    def release(self):
        """A view that was released stays as it is."""
        if self.owner is not None:
            self.end()

    def __len__(self):
        return self.lease.size

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, kind, value, traceback):
        if self.owner is not None:
            self.end()

    def __del__(self):
        if self.owner is not None:
            self.end()

    cdef check_open(self):
        if self.owner is None:
            raise ValueError("this view was released already")
        if self.owner.is_closed:
            raise ValueError("this view's consumer is closed")

    cdef end(self):
        self.owner = None
        self.lease.end(self.memory)
        self.memory = None
