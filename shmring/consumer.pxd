# The consumer port. Its kernel state, for Cython users: see __init__.pxd.
from libc.stdint cimport uint64_t

from cython cimport final

from shmring.member cimport Member
from shmring.view cimport View

cdef enum:
    LARGE = 16384                   # bytes from which a message is better unpacked where it lies than copied first


@final
cdef class Consumer(Member):
    cdef View peek_made(self, object timeout, object codec, list made, bint borrow=*)
    cdef View take_view(self, int* code)
    cdef int read_some(self, list messages, Py_ssize_t limit, uint64_t longest) except? -100
    cdef int read_sole(self, list messages, Py_ssize_t limit, uint64_t most_bytes, uint64_t longest) except? -100
    cdef int read_shared(self, list messages, Py_ssize_t limit, uint64_t most_bytes, uint64_t longest) except? -100
    cdef bint copy_range(self, list messages) except -1
