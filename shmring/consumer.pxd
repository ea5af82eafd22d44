# The consumer port. Its kernel state, for Cython users: see __init__.pxd.
from cython cimport final

from shmring.member cimport Member


@final
cdef class Consumer(Member):
    cdef bint copy_range(self, list messages) except -1
