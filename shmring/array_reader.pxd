# What consumers and observers of an ArrayRing have in common.
from libc.stdint cimport uint64_t

from shmring.array_view cimport Block
from shmring.receiver cimport Receiver


cdef class ArrayReceiver:
    cdef Receiver rx
    cdef readonly object ring       # the ArrayRing
    cdef readonly object dtype
    cdef object accepted            # a dtype that was found equal to it
    cdef Py_ssize_t itemsize        # bytes of a record
    cdef list blocks                # of Block: those that were handed out in part, in order
    cdef object strange             # position and length of a message that is no block, not yet told

    cdef object take(self, Py_ssize_t limit, int* code)
    cdef bint fill_at_once(self, object array, Py_ssize_t* filled) except -1
    cdef int fill(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100
    cdef Py_ssize_t fill_from_blocks(self, char* target, Py_ssize_t room) except -1
    cdef note_strange(self, uint64_t position, uint64_t length)
    cdef raise_strange(self)
    cdef Py_ssize_t bytes_left(self) except -1
    cdef uint64_t lag_of(self, uint64_t position) except? 0

    # to be filled in by ArrayConsumer and ArrayObserver
    cdef int fill_sole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100
    cdef int fill_whole(self, char* target, Py_ssize_t room, Py_ssize_t* filled) except? -100
    cdef int pin_next(self) except? -100
    cdef Py_ssize_t bytes_there(self) except -1
    cdef drop_lost(self, Block block)
