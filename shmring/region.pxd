# cython: language_level=3
"""The fields of a mapping, for modules that read shared memory without going through Python.

Whoever keeps `address`, or a pointer derived from it, adds one to `exports` first and takes it away last:
close() and resize() refuse while it is not 0. All fields are written by Region's own methods, under the
interpreter's lock, except where a line says otherwise.
"""

from shmring.sigbus cimport Guard


cdef class Region:
    cdef char* address              # first byte of copy one; NULL when closed
    cdef size_t length              # bytes of one copy as mapped, whole pages; copy two begins there
    cdef Py_ssize_t extent          # bytes that the buffer shows: size, or 2 * size when mirrored
    cdef readonly Py_ssize_t size   # bytes asked for, of one copy
    cdef readonly Py_ssize_t page_size  # bytes per page: the kernel's, or the huge page of hugetlbfs
    cdef readonly Py_ssize_t exports    # live buffers and borrowed addresses (others change it too)
    cdef readonly bint readonly     # mapped without PROT_WRITE: a store is a SIGSEGV
    cdef readonly bint mirrored     # mapped twice in a row
    cdef readonly bint closed
    cdef bint is_cut                # another process cut the file; never goes back to False
    cdef Guard* guard               # entry in the SIGBUS table (handler writes its hits) or NULL
    cdef int fd                     # our own descriptor; -1 when closed
    cdef int prot                   # PROT_* of the pages
    cdef int map_flags              # MAP_* of the pages, without MAP_FIXED
    cdef bint populate              # take all page faults when mapping
    cdef Py_ssize_t align           # bytes that the address is a multiple of
    cdef Py_ssize_t known_end       # end of the file when last looked at, at most offset + size
    cdef readonly object options    # options.Options
    cdef readonly str kind          # "file", "shm", "memfd", "anonymous" or "fd"
    cdef readonly object name       # path, or name without the slash, or None

    cdef int check(self) except -1          # raises when closed or when a page was missing; what others call
    cdef int explain(self) except -1
    cdef int measure(self, Py_ssize_t size) except -1
    cdef int extend(self, bint reserve) except -1
    cdef int place(self) except -1
    cdef void arm(self) noexcept
    cdef int opened(self) except -1
    cdef int prepare(self, char* address) except -1
    cdef int copies(self) noexcept
    cdef int grow(self, Py_ssize_t asked, bint reserve) except -1
    cdef int release(self) except -1
    cdef bint move_to(self, Region larger) except -1
    cdef int swap(self, Region other) except -1
    cdef int check_unused(self, str action) except -1
    cdef object cut(self, Py_ssize_t end, Py_ssize_t needed)
    cdef object reason(self)
    cdef int note_end(self) except -1
    cdef Py_ssize_t file_end(self) except -1


cdef Py_ssize_t base_page       # bytes per ordinary page of this machine

cdef inline Py_ssize_t round_up(Py_ssize_t value, Py_ssize_t unit) noexcept nogil:
    return (value + unit - 1) // unit * unit
