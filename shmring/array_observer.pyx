"""Arrays of records out of the ring, without ever holding the producers back: the observer of an `ArrayRing`.

array_reader.pyx gathers and cuts blocks; this file finds them, and counts what was lost in records.
"""

from cython cimport final
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.gate cimport gate_tail
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport EMPTY, HEADER_BYTES, LAPPED, OK, TOO_LARGE
from shmring._core.observe cimport observe_advance, observe_is_whole
from shmring._core.record cimport record_span
from shmring.array_reader cimport ArrayReceiver
from shmring.array_view cimport Block
from shmring.observer cimport Observer
from shmring.receiver cimport STALE
from shmring.ring cimport check_timeout, deadline_after
from shmring.sigbus cimport process_epoch

from math import gcd


@final
cdef class ArrayObserver(ArrayReceiver):
    """Sees the records that go by, and holds nobody back. Made by `ArrayRing.consumer(lossy=True)`; also of a ring that is open for
    reading only.

    Concurrency: as `Observer`.
    """

    def latest(self, Py_ssize_t limit=1, timeout=None):
        """The newest records: up to `limit` of the block that was written last, an array of its own memory; those before them are
        skipped, and not counted as lost. Waits if they were read already.

        Parameters and errors as read. Cost: a pass over the headers of up to an eighth of the capacity.
        """
        cdef Observer rx = <Observer> self.rx
        cdef int64_t deadline = -1
        cdef int code = OK
        cdef Block block
        if timeout is not None:
            check_timeout(timeout)
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        while True:
            if rx.epoch != process_epoch:
                rx.check()
            code = rx.go_to_latest()
            if code == OK or code == EMPTY:             # then step over records that are not to be, as long as nothing came
                code = self.pin_next()
            if self.blocks:
                block = self.blocks[len(self.blocks) - 1]
                self.blocks = [block]
                block.offset = max(block.offset, block.size - min(limit, block.size // self.itemsize) * self.itemsize)
                array = self.take(limit, &code)
                if array is not None:
                    return array
            if code != EMPTY and code != LAPPED:
                rx.raise_for(code)
                continue
            if deadline == -1:
                deadline = deadline_after(timeout)
            rx.await_data(deadline)

    @property
    def lag(self):
        """Records in the ring that were not read yet (a snapshot). Cost: a pass over the blocks' headers."""
        self.rx.check()
        return self.bytes_left() // self.itemsize + self.lag_of((<Observer> self.rx).watcher.position)

    @property
    def lost(self):
        """Records it was lapped out of, since it began.

        Exact if the records' size is a multiple of the ring's `align`, or the blocks have all as many records as the one seen before
        or after them; else an estimate from the bytes that were passed, off by less than `align` bytes for each block.
        `lost_blocks` is exact.
        """
        return self.records_lost + (self.estimate() if self.unclear_blocks else 0)

    @property
    def lost_blocks(self):
        """Blocks of which it was lapped out before it had read anything of them."""
        return (<Observer> self.rx).watcher.lost

    cdef Py_ssize_t bytes_there(self) except -1:
        cdef Observer rx = <Observer> self.rx
        return min(gate_tail(&rx.watcher.ring, rx.watcher.position) - rx.watcher.position, rx.watcher.ring.capacity)

    cdef int fill_whole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        cdef Observer rx = <Observer> self.rx
        cdef uint64_t position = rx.watcher.position, lost = rx.watcher.lost, length = 0
        cdef char* payload = NULL
        cdef int code = rx.try_peek(&payload, &length)
        self.note_lost(position, lost)
        if code != OK:
            return OK if code == LAPPED and filled[0] == 0 else code
        position = rx.watcher.position
        if length % <uint64_t> self.itemsize:
            if not observe_is_whole(&rx.watcher.ring, position):
                return OK
            self.note_strange(position, length)
        elif length > <uint64_t> (room - filled[0]):
            return TOO_LARGE
        else:
            memcpy(target + filled[0], payload, length)
            if not guard_copy_is_whole(rx.epoch, &process_epoch):
                return STALE
            if not observe_is_whole(&rx.watcher.ring, position):
                return OK                               # the next look finds where to go on
            filled[0] += length
            self.see(length)
        observe_advance(&rx.watcher, length)
        return OK

    cdef int pin_next(self) except? -100:
        cdef Observer rx = <Observer> self.rx
        cdef uint64_t position = rx.watcher.position, lost = rx.watcher.lost
        cdef Block block = Block.__new__(Block)
        cdef int code = OK
        block.seen = rx.take_view(&code)
        if block.seen is None:
            self.note_lost(position, lost)
            return code
        block.address = block.seen.lease.address
        block.size = block.seen.lease.size
        if block.size and block.size % self.itemsize == 0:
            self.see(block.size)
            self.blocks.append(block)
        else:
            if block.size:
                self.note_strange(block.seen.position, block.size)
            block.seen.end()
        return OK

    cdef see(self, Py_ssize_t size):
        if size != self.last_size or self.unclear_blocks:
            self.last_size = size
            self.settle_lost(size)

    cdef drop_lost(self, Block block):
        self.records_lost += (block.size - block.offset) // self.itemsize

    cdef note_lost(self, uint64_t position, uint64_t lost):
        """It was lapped if `lost` messages are not what the watcher counts now; then its `position` tells of how many bytes."""
        cdef Observer rx = <Observer> self.rx
        if rx.watcher.lost == lost:
            return
        self.settle_lost(self.last_size)
        self.unclear_blocks += rx.watcher.lost - lost
        self.unclear_bytes += rx.watcher.position - position
        self.settle_lost(self.last_size)

    cdef settle_lost(self, Py_ssize_t size):
        """A block of `size` bytes was seen beside those that were lost: were they alike?"""
        if size and self.unclear_blocks and record_span(size, self.ring.align) * self.unclear_blocks == self.unclear_bytes:
            self.records_lost += self.unclear_blocks * (size // self.itemsize)
            self.unclear_blocks = self.unclear_bytes = 0

    cdef uint64_t estimate(self):
        """Records in the blocks that were lost and of unclear size. In each, header and padding take so many bytes on average; exactly
        so many, if the records' size is a multiple of the alignment.
        """
        cdef uint64_t align = self.ring.align
        cdef uint64_t step = gcd(self.itemsize, align)
        cdef uint64_t beside = HEADER_BYTES + (align - step) // 2 + (step - HEADER_BYTES % step) % step
        cdef uint64_t taken = min(self.unclear_bytes, self.unclear_blocks * beside)
        return max(self.unclear_blocks, (self.unclear_bytes - taken + self.itemsize // 2) // self.itemsize)
