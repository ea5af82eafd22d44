# cython: language_level=3
"""The table of guarded mappings and the two events that make cached facts about this process stale."""

from libc.stdint cimport uintptr_t

from shmring._core.guard cimport Guard


# Counts faults served by the handler and forks that ended in this process; it starts at 1. Whoever caches something
# that either event makes wrong keeps a copy of this number and looks again when it differs. Written by the handler and
# by the pthread_atfork child handler, read by anybody with a plain load: it is only ever a hint to look closer.
cdef volatile unsigned int process_epoch

cdef Guard* guard_open() except? NULL
cdef void guard_set(Guard* guard, uintptr_t start, uintptr_t length, int copies, uintptr_t page, int prot) noexcept nogil
cdef void guard_close(Guard* guard) noexcept nogil
