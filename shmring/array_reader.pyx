"""Arrays of records out of the ring: what consumers and observers of an `ArrayRing` have in common.

A message is a block of records (array_writer.pyx). Whole blocks are copied and released at once, as `recv_many` does with bytes.
A block that a call takes only a part of is peeked: it stays pinned, with the number of bytes that were handed out, until the rest
has been read. So a member that dies in the middle of a block leaves all of it to another one: at least once, never lost.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from shmring._core.gate cimport gate_tail
from shmring._core.guard cimport guard_copy_is_whole
from shmring._core.layout cimport ATTENTION, EMPTY, OK, TOO_LARGE, RingMap
from shmring._core.snapshot cimport snapshot_step
from shmring.array_view cimport RecordsView, Block
from shmring.receiver cimport STALE, Receiver
from shmring.ring cimport check_timeout, deadline_after
from shmring.sigbus cimport process_epoch

from numpy cimport NPY_ARRAY_CARRAY, PyArray_BYTES, PyArray_CHKFLAGS, PyArray_NBYTES, dtype as Dtype, import_array, ndarray, npy_intp

from shmring.errors import CorruptRing, ShutDown

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArray_Descr:
        pass
    # numpy/__init__.pxd leaves it out, as it takes the reference to `dtype` with it.
    ndarray PyArray_Empty(int dimensions, npy_intp* shape, PyArray_Descr* dtype, int is_fortran)

import_array()


cdef inline ndarray new_records(npy_intp count, object dtype):
    """numpy.empty(count, dtype), which takes 0.2 us more to understand its arguments."""
    Py_INCREF(dtype)
    return PyArray_Empty(1, &count, <PyArray_Descr*> dtype, 0)



cdef class ArrayReceiver:
    """The common part of `ArrayConsumer` and `ArrayObserver`; not made directly."""

    def __init__(self, ring, Receiver receiver):
        self.ring, self.rx, self.dtype = ring, receiver, ring.dtype
        self.accepted = <Dtype?> self.dtype             # TypeError if it is none
        self.itemsize = self.dtype.itemsize
        self.blocks = []

    # ---- reading -------------------------------------------------------------------------------------------------

    def read(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` records that are there, at least one, in an array of its own memory; waits for the first.

        Parameters
        ----------
        limit : int
            Records, at least 1. Blocks are gathered and cut as needed.
        timeout : float or None
            Seconds to wait; None: for ever; 0: not at all.

        Returns
        -------
        numpy.ndarray
            One-dimensional, of the ring's dtype, writable.

        Raises
        ------
        TimeoutError
            Nothing came.
        ShutDown
            The ring was shut down and everything was read.
        CorruptRing
            A message is no block of such records (somebody sent bytes into this ring); it is skipped.
        RingTruncated, ValueError
            The memory is gone; limit < 1.

        Cost: one copy. No system call, unless a producer is parked (one futex wake) or there is nothing.
        """
        cdef int64_t deadline = -1
        cdef int code = OK
        if timeout is not None:
            check_timeout(timeout)
        while True:
            array = self.take(limit, &code)
            if array is not None:
                return array
            if code != EMPTY:
                self.rx.raise_for(code)
                continue
            if deadline == -1:
                deadline = deadline_after(timeout)
            self.rx.await_data(deadline)

    def try_read(self, Py_ssize_t limit):
        """As read, but never waits: None if there is nothing now."""
        cdef int code = OK
        while True:
            array = self.take(limit, &code)
            if array is not None:
                return array
            if code == EMPTY:
                self.rx.check_ended()
                self.rx.note_poll(1)
                return None
            self.rx.raise_for(code)

    def read_into(self, array, timeout=None):
        """Fill `array` from its beginning with the records that are there, at least one. Returns how many.

        Parameters
        ----------
        array : numpy.ndarray
            C-contiguous, writable, of the ring's dtype, any shape, at least one record.

        Raises as read; TypeError for another dtype, ValueError if it is not contiguous.
        """
        cdef Py_buffer buffer
        cdef Py_ssize_t filled = 0
        cdef int64_t deadline = -1
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        if self.fill_at_once(array, &filled):
            return filled // self.itemsize
        if not isinstance(array, ndarray):
            raise TypeError(f"read_into takes a numpy.ndarray of {self.dtype}, not {type(array).__name__}")
        if array.dtype is not self.accepted:
            if array.dtype != self.dtype:
                raise TypeError(f"records of ring {self.ring.label} have dtype {self.dtype}, the array has {array.dtype}")
            self.accepted = array.dtype
        if array.size == 0:
            raise ValueError("the array has no room for a record")
        PyObject_GetBuffer(array, &buffer, PyBUF_WRITABLE)
        try:
            while True:
                code = self.fill(<char*> buffer.buf, buffer.len, &filled)
                if filled:
                    return filled // self.itemsize
                if code != EMPTY:
                    self.rx.raise_for(code)
                    continue
                if deadline == -1:
                    deadline = deadline_after(timeout)
                self.rx.await_data(deadline)
        finally:
            PyBuffer_Release(&buffer)

    def borrow(self, Py_ssize_t limit, timeout=None):
        """Up to `limit` records where they lie, across the seam of the ring too: an `RecordsView`, of one block at most.

        Parameters and errors as read. A member holds the producers back behind the oldest view that is open; of an observer's
        view only what `valid` vouches for counts.

        Cost: none that grows with the records.
        """
        cdef int64_t deadline = -1
        cdef RecordsView view
        cdef Block block
        cdef int code
        if timeout is not None:
            check_timeout(timeout)
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        view = RecordsView.__new__(RecordsView)
        view.dtype = self.dtype
        while True:
            if self.rx.epoch != process_epoch:
                self.rx.check()
            if self.strange is not None:
                self.raise_strange()
            while self.blocks and not (<Block> self.blocks[0]).is_valid():
                self.drop_lost(self.blocks.pop(0))
            if self.blocks:
                break
            code = self.pin_next()
            if code == EMPTY:
                if deadline == -1:
                    deadline = deadline_after(timeout)
                self.rx.await_data(deadline)
            elif code != OK:
                self.rx.raise_for(code)
        block = self.blocks[0]
        view.block = block
        view.offset = block.offset
        view.at = block.seen.position if block.view is None else block.view.loan.position
        view.again = block.view is not None and block.view.redelivered
        view.count = min(limit, (block.size - block.offset) // self.itemsize)
        block.offset += view.count * self.itemsize
        block.parts += 1
        if block.offset == block.size:
            self.blocks.pop(0)
        return view

    def __iter__(self):
        return self

    def __next__(self):
        """What is there, at most `ring.max_block` records: an array of its own memory. Ends when the ring was shut down (or its
        producers left: end_with_producers) and everything was read.
        """
        try:
            return self.read(self.ring.max_block)
        except ShutDown:
            raise StopIteration from None

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef object take(self, Py_ssize_t limit, int* code):
        """An array of what is there, or None and a kernel's code or STALE."""
        cdef ndarray array
        cdef npy_intp wanted
        cdef Py_ssize_t filled = 0
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        if self.rx.epoch != process_epoch:                      # closed, for example: the memory may be gone
            code[0] = STALE
            return None
        wanted = self.bytes_left() + self.bytes_there()
        if wanted == 0 and self.strange is None:
            code[0] = EMPTY
            return None
        # Of all that seems to be there: it is memory that is touched only where it is filled.
        wanted = min(limit, max(1, wanted // self.itemsize))
        array = new_records(wanted, self.dtype)                 # may run other code of this handle's; we look only after it
        wanted = PyArray_NBYTES(array) // self.itemsize         # a dtype can be changed, if not by anybody in his right mind
        code[0] = self.fill(PyArray_BYTES(array), wanted * self.itemsize, &filled)
        if filled == 0:
            return None
        if filled != wanted * self.itemsize:
            array.resize(filled // self.itemsize, refcheck=False)
        return array

    cdef bint fill_at_once(self, object array, Py_ssize_t* filled) except -1:
        """The fast path of read_into: whole blocks that are there, into an array as it should be. True: it is full. Else there may be
        something in it. No Python code runs while its memory is in use.
        """
        cdef Py_ssize_t room
        if (self.blocks or self.strange is not None or type(array) is not ndarray or (<ndarray> array).descr is not self.accepted
                or not PyArray_CHKFLAGS(array, NPY_ARRAY_CARRAY)):
            return False
        room = PyArray_NBYTES(array)
        if room == 0:
            return False
        self.fill_sole(PyArray_BYTES(array), room, filled)
        return filled[0] == room

    cdef int fill(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        """Copy what is there behind what is filled, up to `room` bytes in all, and release what is finished. A code tells why it
        stopped: it counts only if nothing was filled.
        """
        cdef int code = OK
        while True:
            if self.rx.epoch != process_epoch:                  # closed meanwhile, for example
                return STALE
            if self.blocks:
                filled[0] += self.fill_from_blocks(target + filled[0], room - filled[0])
            if filled[0] == room:
                return OK
            if self.strange is not None:
                if filled[0]:
                    return OK                                   # the next call tells
                self.raise_strange()
            code = self.fill_whole(target, room, filled)
            if code == TOO_LARGE:
                code = self.pin_next()
            if code != OK:
                return code

    cdef Py_ssize_t fill_from_blocks(self, char* target, Py_ssize_t room) except -1:
        """From blocks that were begun. Returns the bytes copied."""
        cdef Block block
        cdef Py_ssize_t part, done = 0
        while self.blocks and done < room and self.rx.epoch == process_epoch:
            block = self.blocks[0]
            part = min(room - done, block.size - block.offset)
            memcpy(target + done, block.address + block.offset, part)
            if not guard_copy_is_whole(self.rx.epoch, &process_epoch):
                self.rx.check()                                 # raises: the file was cut
            if not block.is_valid():
                self.drop_lost(self.blocks.pop(0))
                continue
            block.offset += part
            done += part
            if block.offset == block.size:
                self.blocks.pop(0)
                block.end_if_done()
        return done

    cdef note_strange(self, uint64_t position, uint64_t length):
        self.strange = position, length

    cdef raise_strange(self):
        position, length = self.strange
        self.strange = None
        raise CorruptRing(f"ring {self.ring.label}: the message at position {position} has {length} bytes, which is no number of "
                          f"records of {self.itemsize}: somebody sent bytes into a ring of arrays. It was skipped")

    cdef Py_ssize_t bytes_left(self) except -1:
        """Of blocks that were begun."""
        cdef Py_ssize_t left = 0
        cdef Block block
        for block in self.blocks:
            left += block.size - block.offset
        return left

    cdef uint64_t lag_of(self, uint64_t position) except? 0:
        """Records from `position` on (a snapshot): one pass over the headers."""
        cdef const RingMap* ring = self.rx.own_map()
        cdef uint64_t tail = gate_tail(ring, position)
        cdef uint64_t length = 0, total = 0
        cdef int code
        while position != tail:
            code = snapshot_step(ring, &position, tail, &length)
            if code < 0:
                break
            if code == OK:
                total += length // self.itemsize
        return total

    # ---- filled in by ArrayConsumer and ArrayObserver ------------------------------------------------------------

    cdef int fill_sole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        """As fill_whole, if that takes no more than a look and a copy. ATTENTION: it takes more."""
        return ATTENTION

    cdef int fill_whole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100:
        """Copy whole blocks behind what is filled. OK: there may be more; TOO_LARGE: the next one has no room; else why it ended."""
        return EMPTY

    cdef int pin_next(self) except? -100:
        """Peek at the next block, to hand it out in parts: OK (if it was one), or a kernel's code."""
        return EMPTY

    cdef Py_ssize_t bytes_there(self) except -1:
        """At most so many bytes can be read now; 0: there is nothing. A snapshot."""
        return 0

    cdef drop_lost(self, Block block):
        """The producers were faster than the reader of this block."""

    # ---- as every handle -----------------------------------------------------------------------------------------

    def close(self):
        """Leave the ring. Blocks that a member has not read to their end go to the group's next member, whole."""
        self.rx.close()
        self.blocks.clear()

    @property
    def closed(self):
        return self.rx.is_closed

    @property
    def policy(self):
        """The WaitPolicy."""
        return self.rx.policy

    @property
    def _under(self):
        """What shmring.wait waits for."""
        return self.rx

    @property
    def _has_rest(self):
        """Is a block begun, so that nobody has to wait?"""
        return bool(self.blocks) or self.strange is not None

    def __enter__(self):
        self.rx.check()
        return self

    def __exit__(self, *_):
        self.close()

    def __reduce__(self):
        raise TypeError(f"an {type(self).__name__} cannot be pickled; pass the ArrayRing, and let the other process ask it for its "
                        f"own")

    def __repr__(self):
        state = "closed" if self.rx.is_closed else f"slot {self.rx.number}"
        return f"<shmring.{type(self).__name__} of {self.ring.label}, {state}>"
