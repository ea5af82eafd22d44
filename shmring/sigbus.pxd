# cython: language_level=3
"""The table of guarded mappings and the two events that make cached facts about this process stale."""

from libc.stdint cimport uintptr_t


cdef struct Guard:
    uintptr_t version           # even: the entry is stable; odd: it is being changed (writer: guard_set, guard_close)
    uintptr_t start             # first byte of copy one, as an address; 0 in an unused entry (guard_set)
    uintptr_t length            # bytes of one copy, a multiple of page (guard_set)
    uintptr_t copies            # 2 for a mirrored mapping, else 1 (guard_set)
    uintptr_t page              # bytes per page of this mapping: 4096, or the huge page (guard_set)
    int prot                    # PROT_* that replacement pages get (guard_set)
    unsigned int hits           # faults served since the owner last looked (handler adds, owner clears)
    uintptr_t low               # lowest byte of copy one that was replaced, as an offset (handler lowers, owner resets)


# Counts faults served by the handler and forks that ended in this process; it starts at 1. Whoever caches something
# that either event makes wrong keeps a copy of this number and looks again when it differs. Written by the handler and
# by the pthread_atfork child handler, read by anybody with a plain load: it is only ever a hint to look closer.
cdef volatile unsigned int process_epoch

cdef Guard* guard_open() except? NULL
cdef void guard_set(Guard* guard, uintptr_t start, uintptr_t length, int copies, uintptr_t page, int prot) noexcept nogil
cdef void guard_close(Guard* guard) noexcept nogil
