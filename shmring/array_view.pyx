"""Blocks that are handed out in parts, and the parts that are lent out where they lie: what `borrow` of an ArrayRing returns."""

from cython cimport final

from shmring._core.observe cimport observe_is_whole
from shmring.view cimport Lease, ObservedView, View

import numpy

from shmring.errors import Lapped

cdef object frombuffer = numpy.frombuffer


@final
cdef class Block:
    cdef bint is_valid(self) noexcept:
        return self.seen is None or (self.seen.owner is not None and not self.seen.owner.is_closed
                                     and observe_is_whole(self.seen.map, self.seen.position))

    cdef end_if_done(self):
        if self.offset != self.size or self.parts:
            return
        if self.view is not None:
            if self.view.owner is not None:
                self.view.end()
        elif self.seen.owner is not None:
            self.seen.end()

    cdef Lease lease(self):
        return self.seen.lease if self.view is None else self.view.loan


@final
cdef class RecordsView:
    """Records where they lie, of one block, until they are released. A context manager: leaving it releases.

    Attributes
    ----------
    array : numpy.ndarray
        One-dimensional, read-only, in the ring itself. A member's may be kept after the release: while it, or anything made of
        its memory, lives, the block stays where it is. An observer's will read whatever the producers put there next.
    sequence : int
        The block's position in the ring: grows from block to block.
    redelivered : bool
        A member of the group had this block before, and died (or closed) before it had read all of it.
    valid : bool
        Whether what was read of `array` up to now was the records: of a member's view until it is released; of an observer's until
        the producers overtook it.
    """

    def __init__(self):
        raise TypeError("views are made by ArrayConsumer.borrow")

    @property
    def array(self):
        """The records. Raises Lapped if the producers have overtaken an observer's already."""
        cdef Lease lease
        if self.block is None:
            raise ValueError("this view was released already")
        lease = self.block.lease()
        if lease.owner.is_closed:
            raise ValueError("this view's consumer is closed")
        if not self.block.is_valid():
            raise Lapped(f"ring {lease.owner.ring.label}: the producers have written over these records")
        if self.lent is None:
            self.memory = lease.lend()
            self.lent = frombuffer(self.memory, self.dtype, self.count, self.offset)
        return self.lent

    @property
    def sequence(self):
        return self.at

    @property
    def redelivered(self):
        return self.again

    @property
    def valid(self):
        return self.block is not None and not self.block.lease().owner.is_closed and self.block.is_valid()

    def release(self):
        """Let the records go. A view that was released stays as it is. Dropping the last reference releases, too."""
        if self.block is not None:
            self.end()

    def __len__(self):
        return self.count

    def __enter__(self):
        if self.block is None:
            raise ValueError("this view was released already")
        return self

    def __exit__(self, kind, value, traceback):
        if self.block is not None:
            self.end()

    def __del__(self):
        if self.block is not None:
            try:
                self.end()
            except Exception:
                pass                                    # the consumer's next call tells what is wrong

    cdef end(self):
        cdef Block block = self.block
        self.block = self.lent = None
        if self.memory is not None:
            try:
                self.memory.release()
            except BufferError:
                pass                                    # the array lives on, and keeps the block
            self.memory = None
        block.parts -= 1
        block.end_if_done()
