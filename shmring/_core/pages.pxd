# cython: language_level=3
"""Address ranges: a descriptor's pages mapped once, or twice in a row, at an address of the wanted alignment.

    reserved (PROT_NONE):  | slack | copy one: length | copy two: length | slack |
                             given back                                    given back

Results are addresses, or NULL with errno set. No function keeps state; none touches an address it was not
given.

Source: mmap(2), statfs(2); the mirrored mapping is the one of the BPF ring buffer
(Documentation/bpf/ringbuf.rst).
"""

from libc.errno cimport errno
from libc.stdint cimport uintptr_t
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, mmap, munmap,
)


cdef extern from * nogil:
    """
    #include <linux/magic.h>
    #include <sys/vfs.h>
    """
    cdef struct shmring_statfs "statfs":
        long f_type
        long f_bsize
    unsigned int HUGETLBFS_MAGIC
    unsigned int TMPFS_MAGIC
    int shmring_fstatfs "fstatfs" (int fd, shmring_statfs* buffer) noexcept


cdef inline size_t pages_huge_bytes(int fd) noexcept nogil:
    """Page size of a file on hugetlbfs; 0 for every other file."""
    cdef shmring_statfs system
    if shmring_fstatfs(fd, &system) != 0 or <unsigned int>system.f_type != HUGETLBFS_MAGIC:
        return 0
    return <size_t>system.f_bsize


cdef inline bint pages_are_memory(int fd) noexcept nogil:
    """Whether the file lives in memory alone (tmpfs, a memfd), so that touching a page costs no device anything."""
    cdef shmring_statfs system
    return shmring_fstatfs(fd, &system) == 0 and <unsigned int>system.f_type == TMPFS_MAGIC


cdef inline bint pages_cover(char* address, size_t length, int copies, int prot, int flags, int fd,
                             Py_ssize_t offset, size_t skip) noexcept nogil:
    """Put the descriptor's pages, from `skip` bytes on, over a range that is ours; False with errno on
    failure.
    """
    cdef int copy
    for copy in range(copies):
        if mmap(address + copy * length + skip, length - skip, prot, flags | MAP_FIXED, fd,
                offset + skip) == MAP_FAILED:
            return False
    return True


cdef inline char* pages_map(size_t length, int copies, size_t align, size_t page, int prot, int flags, int fd,
                            Py_ssize_t offset) noexcept nogil:
    cdef size_t total = length * copies
    cdef size_t slack = align if align > page or copies > 1 else 0
    cdef uintptr_t start, aligned
    cdef void* mapped
    cdef int saved
    if slack == 0:
        mapped = mmap(NULL, length, prot, flags, fd, offset)
        return NULL if mapped == MAP_FAILED else <char*>mapped
    mapped = mmap(NULL, total + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if mapped == MAP_FAILED:
        return NULL
    start = <uintptr_t>mapped
    aligned = (start + align - 1) & ~(align - 1)
    if aligned > start:
        munmap(mapped, aligned - start)
    munmap(<void*>(aligned + total), start + slack - aligned)
    if pages_cover(<char*>aligned, length, copies, prot, flags, fd, offset, 0):
        return <char*>aligned
    saved = errno
    munmap(<void*>aligned, total)
    (&errno)[0] = saved
    return NULL
