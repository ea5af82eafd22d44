"""Messages where they lie: the memory that claims and views lend to Python, and the views that `peek` hands out."""

from cython cimport final, freelist, no_gc_clear
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.memoryview cimport PyMemoryView_FromObject

from shmring._core.observe cimport observe_is_whole
from shmring.participant cimport Participant
from shmring.sigbus cimport process_epoch

from shmring.errors import Lapped


@freelist(8)                            # one per claim
@no_gc_clear                            # a buffer of it may be released after the collector has cleared a cycle
cdef class Lease:
    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.has_ended or self.owner.is_closed:
            raise ValueError("the claim or view that lent this memory has ended")
        PyBuffer_FillInfo(buffer, self, self.address, self.size, self.is_readonly, flags)
        self.exports += 1
        self.owner.pinned += 1
        self.owner.ring.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1
        self.owner.ring.exports -= 1
        if not self.has_ended:
            self.owner.pinned -= 1

    cdef end(self, object memory):
        """The claim or view ends; `memory` is the memoryview that it handed out, or None."""
        if memory is not None:
            try:
                memory.release()
            except BufferError:
                pass                        # something made from it lives on; it keeps the ring mapped
        self.has_ended = True
        self.owner.pinned -= self.exports


@final
cdef class View:
    """A message where it lies, between peek and release. A context manager: leaving it releases.

    Attributes
    ----------
    data : memoryview
        Read-only, in the ring itself. It ends with the view; arrays made from it stay safe to touch, but will read whatever
        the producers put there next. Copy what is needed longer.
    sequence : int
        The record's position in the ring: grows from record to record, by more than one.
    redelivered : bool
        A member of the group had it before, and died (or closed) before it released it.
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
            self.memory = PyMemoryView_FromObject(self.loan)
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
        self.memory = None
        if owner.is_closed:
            return
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
            raise Lapped(f"ring {self.owner.ring.name!r}: the producers have written over the record at {self.position}")
        if self.memory is None:
            self.memory = PyMemoryView_FromObject(self.lease)
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
