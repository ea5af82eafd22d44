"""Arrays of records into the ring: the producer of an `ArrayRing`.

One call is one message, a *block*: the records side by side, with nothing between or before them. So everything that is proved of
messages holds for blocks, and a publish costs the same for one record as for a thousand.
"""

from cython cimport final
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

from shmring._core.layout cimport FULL, OK
from shmring.producer cimport Claim, Producer
from shmring.ring cimport check_timeout, deadline_after
from shmring.sender cimport STALE

import numpy
from numpy cimport PyArray_BYTES, PyArray_IS_C_CONTIGUOUS, PyArray_NBYTES, PyArray_SIZE, import_array, ndarray

from shmring.errors import MessageTooLarge

import_array()
cdef object frombuffer = numpy.frombuffer


@final
cdef class ArrayProducer:
    """Writes arrays of records. Made by `ArrayRing.producer`.

    Concurrency: as `Producer`. The records of one call stay together, unless it is so large that it goes in parts (`max_block`);
    then those of other producers may come in between.
    """

    def __init__(self, ring, Producer producer):
        self.ring, self.tx, self.dtype = ring, producer, ring.dtype
        self.accepted = self.dtype
        self.itemsize = self.dtype.itemsize
        self.block_bytes = ring.max_block * self.itemsize
        self.most_bytes = ring.ring.max_message // self.itemsize * self.itemsize

    def write(self, records, timeout=None):
        """Write records; wait while the ring is full.

        Parameters
        ----------
        records : array_like
            An array of any shape and the ring's dtype, of any number of records; or what `numpy.array(records, ring.dtype)`
            takes: one record as a tuple, a list of them.
        timeout : float or None
            Seconds to wait for room, for all together; None: for ever; 0: not at all.

        Returns
        -------
        int
            Records written: all; or, of an array that goes in parts, those that had room when the time was up.

        Raises
        ------
        TimeoutError
            No room for the first part; the text names the group that holds it back. Nothing was written.
        TypeError
            An array of another dtype: nothing is converted.
        ShutDown, ClaimOpen, RingTruncated, CorruptRing
            As `Producer.send`. If parts were written before, the exception's attribute `sent` says how many records.

        Cost: one copy (two, if the array is not contiguous) and one publish; more than `ring.max_block` records go in parts.
        """
        cdef Py_buffer buffer
        if timeout is not None:
            check_timeout(timeout)
        if self.try_whole(records):
            return PyArray_SIZE(records)
        self.get_records(records, &buffer)
        try:
            if buffer.len > self.block_bytes or buffer.len == 0:
                return self.write_parts(<const char*> buffer.buf, buffer.len, timeout)
            if self.tx.try_write(<const char*> buffer.buf, buffer.len) != OK:
                self.tx.write(<const char*> buffer.buf, buffer.len, deadline_after(timeout))
            return buffer.len // self.itemsize
        finally:
            PyBuffer_Release(&buffer)

    def try_write(self, records):
        """Write what has room now: all records or none; of an array that goes in parts, the parts that have. Never waits.

        Returns the number of records written. Raises as write, but for TimeoutError.
        """
        cdef Py_buffer buffer
        self.get_records(records, &buffer)
        try:
            return self.try_parts(<const char*> buffer.buf, buffer.len)
        finally:
            PyBuffer_Release(&buffer)

    def reserve(self, Py_ssize_t count, timeout=None):
        """Room for a block of up to `count` records, to be filled in place: an `ArrayClaim`. Errors as write, and MessageTooLarge.

        Cost: none that grows with count.
        """
        cdef ArrayClaim claim
        if count < 1:
            raise ValueError(f"a block has at least one record, not {count}")
        if count > self.most_bytes // self.itemsize:
            raise MessageTooLarge(f"a block of {count} records of {self.itemsize} bytes cannot fit into ring {self.ring.label}: its "
                                  f"largest has {self.most_bytes // self.itemsize} (capacity {self.ring.capacity})")
        claim = ArrayClaim.__new__(ArrayClaim)
        claim.dtype = self.dtype
        claim.nrecords = count
        claim.claim = self.tx.reserve(count * self.itemsize, timeout)
        return claim

    # ---- the way in ----------------------------------------------------------------------------------------------

    cdef bint try_whole(self, object records):
        """The fast path: one block, written at once from where it lies. No Python code runs meanwhile."""
        cdef Py_ssize_t size
        if type(records) is not ndarray or (<ndarray> records).descr is not self.accepted or not PyArray_IS_C_CONTIGUOUS(records):
            return False
        size = PyArray_NBYTES(records)
        return 0 < size <= self.block_bytes and self.tx.try_write(PyArray_BYTES(records), size) == OK

    cdef get_records(self, object records, Py_buffer* buffer):
        """The bytes of an array of the ring's dtype, side by side; `buffer` keeps the array."""
        dtype = records.dtype if type(records) is ndarray else getattr(records, "dtype", None)
        if dtype is None:
            records = numpy.array(records, self.dtype, order="C")       # a tuple, a list
        elif dtype is not self.accepted:
            if dtype != self.dtype:
                raise self.another_dtype(dtype)
            self.accepted = dtype
        try:
            PyObject_GetBuffer(records, buffer, PyBUF_SIMPLE)
        except (ValueError, BufferError, TypeError):                    # not contiguous; or what only NumPy can read
            PyObject_GetBuffer(numpy.array(records, order="C"), buffer, PyBUF_SIMPLE)

    cdef another_dtype(self, dtype):
        return TypeError(f"records of ring {self.ring.label} have dtype {self.dtype}, the array has {dtype}; convert it with astype")

    cdef Py_ssize_t write_parts(self, const char* data, Py_ssize_t size, object timeout) except -1:
        """write, for what takes several messages, or none."""
        cdef int64_t deadline = deadline_after(timeout)
        cdef Py_ssize_t done = 0, part
        try:
            while done < size:
                part = min(size - done, self.block_bytes)
                self.tx.ran_full = False
                if self.tx.try_write(data + done, part) != OK:
                    self.tx.write(data + done, part, deadline)
                done += part
        except BaseException as error:
            if done and self.tx.ran_full and isinstance(error, TimeoutError):
                return done // self.itemsize
            error.sent = done // self.itemsize
            raise
        return done // self.itemsize

    cdef Py_ssize_t try_parts(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t done = 0, part
        cdef int code
        while done < size:
            part = min(size - done, self.block_bytes)
            code = self.tx.try_write(data + done, part)
            if code == STALE:
                self.tx.check_sending()
                code = self.tx.try_write(data + done, part)
            if code == FULL:
                self.tx.check_sending()
                self.tx.wanted = part
                self.tx.note_poll(1)
                break
            if code != OK:
                self.tx.raise_code(code, part)
            done += part
        return done // self.itemsize

    # ---- as every handle -----------------------------------------------------------------------------------------

    def close(self):
        """Leave the ring. As `Producer.close`."""
        self.tx.close()

    @property
    def closed(self):
        return self.tx.is_closed

    @property
    def policy(self):
        """The WaitPolicy."""
        return self.tx.policy

    @property
    def _under(self):
        """What shmring.wait waits for."""
        return self.tx

    def __enter__(self):
        self.tx.check()
        return self

    def __exit__(self, *_):
        self.tx.close()

    def __reduce__(self):
        raise TypeError("an ArrayProducer cannot be pickled; pass the ArrayRing, and let the other process ask it for its own")

    def __repr__(self):
        state = "closed" if self.tx.is_closed else f"slot {self.tx.number}"
        return f"<shmring.ArrayProducer of {self.ring.label}, {state}>"


@final
cdef class ArrayClaim:
    """Room in the ring for a block of records, between reserve and commit. A context manager: leaving it commits, an exception
    aborts.

    Attributes
    ----------
    array : numpy.ndarray
        The records, in the ring itself, one-dimensional, writable, of whatever bytes were there before. It must not be written
        after the end of the claim: it stays safe to touch, but would then change records that others read.
    nrecords : int
        How many were reserved.
    """

    def __init__(self):
        raise TypeError("claims are made by ArrayProducer.reserve")

    @property
    def array(self):
        view = self.claim.view                              # raises once the claim has ended
        if self.filled is None:
            self.filled = frombuffer(view, self.dtype)
        return self.filled

    def commit(self, count=None):
        """Send the first `count` records, or all that were reserved. None (0): as abort.

        Raises
        ------
        ValueError
            The claim has ended already, or count is not from 0 to nrecords.
        ShutDown
            The ring was shut down meanwhile; the claim is aborted.
        """
        if count is None:
            count = self.nrecords
        if not 0 <= count <= self.nrecords:
            raise ValueError(f"cannot commit {count} records of a claim for {self.nrecords}")
        self.filled = None
        if count == 0:
            self.claim.view                                 # raises if the claim has ended
            self.claim.abort()
        else:
            self.claim.commit(count * self.dtype.itemsize)

    def abort(self):
        """Give the room back; nobody sees a record. A claim that has ended stays as it is."""
        self.filled = None
        self.claim.abort()

    def __len__(self):
        return self.nrecords

    def __enter__(self):
        self.claim.__enter__()
        return self

    def __exit__(self, kind, value, traceback):
        self.filled = None
        return self.claim.__exit__(kind, value, traceback)
