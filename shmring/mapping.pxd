# cython: language_level=3
"""What the ring and outside extensions cimport: the Mapping, with the fields of Region, and the one cheap
test.

`process_epoch` counts served faults and forks: a hot path compares it with its own copy and calls
`mapping_is_truncated` only when it differs.
"""

cimport cython

from shmring._core.guard cimport guard_hits
from shmring.region cimport Region
from shmring.sigbus cimport process_epoch


@cython.final
cdef class Mapping(Region):
    cdef Py_ssize_t index_of(self, key) except -1
    cdef int check_writable(self) except -1
    cdef int store(self, Py_ssize_t start, Py_ssize_t count, value) except -1
    cdef tuple range_of(self, offset, size)


cdef inline bint mapping_is_truncated(Mapping mapping) noexcept nogil:
    """Whether a page was missing when somebody touched it; `mapping.check()` then raises with the reason."""
    return mapping.is_cut or (mapping.guard != NULL and guard_hits(mapping.guard) != 0)
